"""What a step minimises: the loss of its streams, and what a strategy keeps from step to step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

from transfer_parity.shared.contract.methods import CLOSEST, EPSILON, ObjectiveName, Stream
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.wing import Array
from transfer_parity.torch_impl.network import Network
from transfer_parity.torch_impl.optimizers import build_loss
from transfer_parity.torch_impl.weights import Parameter


class Objective:
    """The recipe's loss of labelled inputs, which is all that most strategies have.

    Args:
        network: whose loss it is.
        recipe: its loss.
        parameters: what trains.
        forward: inputs of what trains (b, ...), as in a stream, to logits (b, classes), as a step computes them.
    """

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        parameters: Sequence[Parameter],
        forward: Callable[[Tensor], Tensor],
    ) -> None:
        self.network, self.recipe, self.parameters, self.forward = network, recipe, parameters, forward
        self.supervised = build_loss(recipe)

    def begin(self) -> None:
        """Forget all steps: the first one follows, from the weights that the network holds."""

    def loss(self, streams: Mapping[str, Tensor]) -> Tensor:
        """Loss of a step's streams (``shared.contract.batches.Batch``), as a scalar tensor."""
        labels = streams["labels"].to(self.network.device)
        targets = F.one_hot(labels, self.network.spec.classes).to(torch.get_default_dtype())
        return self.supervised(targets, self.forward(streams["inputs"]))

    def after_step(self) -> None:
        """What is to be done once a step has changed the weights."""

    def state(self) -> dict[str, Array]:
        """What is kept from step to step, by neutral name, in torch's layout; nothing where a loss needs no more."""
        return {}


class PseudoLabel(Objective):
    """The classes that the network is sure of count as labels.

    CE(x) + l 1[max p(u) >= t] CE(h(u), y(u)), averaged over all unlabelled images (Lee, 2013; Sohn et al., 2020). y is
    the surest class, or with a temperature T the probabilities p^(1/T), normalised (Xie et al., 2020). No gradient may
    flow through y: through the surest class none does, through probabilities one would.
    """

    #: The stream that learns what the weak views say.
    learns: Stream = "weak"

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        parameters: Sequence[Parameter],
        forward: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__(network, recipe, parameters, forward)
        self.closest = torch.ones((), device=network.device)

    def begin(self) -> None:
        """Forget how near a probability came to the threshold."""
        self.closest = torch.ones((), device=self.network.device)

    def loss(self, streams: Mapping[str, Tensor]) -> Tensor:
        """Loss of a step's streams, as a scalar tensor."""
        weak = self.forward(streams["weak"])
        labels = weak.detach()
        probabilities = labels.softmax(dim=-1)
        surest = probabilities.amax(dim=-1)
        self.closest = torch.minimum(self.closest, (surest - self.recipe.threshold).abs().min())
        if self.recipe.label_temperature:
            targets = (labels / self.recipe.label_temperature).softmax(dim=-1)
        else:
            targets = F.one_hot(probabilities.argmax(dim=-1), probabilities.shape[-1]).to(weak.dtype)
        logits = weak if self.learns == "weak" else self.forward(streams[self.learns])
        each = -(targets * logits.log_softmax(dim=-1)).sum(dim=-1)
        sure = (surest >= self.recipe.threshold).to(weak.dtype)
        return super().loss(streams) + self.recipe.unlabeled_weight * (sure * each).mean()

    def state(self) -> dict[str, Array]:
        """How near the largest probability of a view came to the threshold, (1,)."""
        return {CLOSEST: self.closest.cpu().numpy().reshape(1)}


class FixMatch(PseudoLabel):
    """The same with labels from weak views for strong ones."""

    learns: Stream = "strong"


class MeanTeacher(Objective):
    """A teacher, the average of the weights after each step, says what the strong views are to be taken for.

    CE(x) + l mean (p_teacher(u_weak) - p(u_strong))^2 over images and classes (Tarvainen and Valpola, 2017). After step
    s the teacher is d teacher + (1 - d) weights, with the recipe's d, or s/(s + 1) where that is less: first the mean.
    """

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        parameters: Sequence[Parameter],
        forward: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__(network, recipe, parameters, forward)
        self.teacher = [each.variable.detach().clone() for each in parameters]
        self.steps = 0

    def begin(self) -> None:
        """The teacher has the weights that the network holds."""
        self.teacher = [each.variable.detach().clone() for each in self.parameters]
        self.steps = 0

    def loss(self, streams: Mapping[str, Tensor]) -> Tensor:
        """Loss of a step's streams, as a scalar tensor."""
        with torch.no_grad(), self._teaching():
            said = self.forward(streams["weak"]).softmax(dim=-1)
        away = (said - self.forward(streams["strong"]).softmax(dim=-1)).square().mean()
        return super().loss(streams) + self.recipe.unlabeled_weight * away

    @contextmanager
    def _teaching(self) -> Iterator[None]:
        """The teacher's values in place of the weights; both only change places, and nothing is copied."""
        self._change_places()
        try:
            yield
        finally:
            self._change_places()

    def _change_places(self) -> None:
        for place, each in enumerate(self.parameters):
            self.teacher[place], each.variable.data = each.variable.data, self.teacher[place]

    def after_step(self) -> None:
        """The teacher follows."""
        self.steps += 1
        kept = min(self.recipe.teacher_decay, self.steps / (self.steps + 1))
        for own, each in zip(self.teacher, self.parameters, strict=True):
            own.mul_(kept).add_((1 - kept) * each.variable.detach())

    def state(self) -> dict[str, Array]:
        """The teacher's weights."""
        return {
            each.name: each.to_neutral(value.cpu().numpy().copy())
            for each, value in zip(self.parameters, self.teacher, strict=True)
        }


class Siamese(Objective):
    """Images of one class are near to each other in the head's outputs, and those of two are apart."""

    def loss(self, streams: Mapping[str, Tensor]) -> Tensor:
        """Loss of a step's streams, as a scalar tensor."""
        one, other = self.forward(streams["inputs"]), self.forward(streams["partners"])
        alike = (streams["labels"] == streams["partner_labels"]).to(one)
        return contrastive(one, other, alike, self.recipe.pair_margin)


def contrastive(one: Tensor, other: Tensor, alike: Tensor, margin: float) -> Tensor:
    """y d^2 + (1 - y) max(0, m - d)^2, averaged over pairs (Hadsell, Chopra and LeCun, CVPR 2006), as a scalar tensor.

    d^2 = |e - e'|^2 + ``EPSILON``, inside the root: everything else is a matter of taste in which libraries part.

    Args:
        one: an embedding of each pair, (b, units).
        other: its partner's.
        alike: y, 1 of a pair of one class and else 0, (b,).
        margin: m, from which distance on images of different classes are far enough apart.
    """
    squared = (one - other).square().sum(dim=-1) + EPSILON
    short = (margin - squared.sqrt()).relu()
    return (alike * squared + (1 - alike) * short.square()).mean()


class MultiTask(Objective):
    """Several tasks, whose logits stand side by side; an image counts in those whose label of it is known.

    The sum over tasks of sum_i k_i CE(z_i, y_i) / max(1, sum_i k_i), with k_i = 1 where image i's label is known and 0
    where it is not: a task adds the mean over the images of the batch that have its label, and 0 if none has.
    """

    def loss(self, streams: Mapping[str, Tensor]) -> Tensor:
        """Loss of a step's streams, as a scalar tensor."""
        labels, known = (streams[name].to(self.network.device) for name in ("labels", "known"))
        logits, smoothing = self.forward(streams["inputs"]), self.recipe.label_smoothing
        total, first = logits.new_zeros(()), 0
        for task, own in enumerate(logits.split(self.network.spec.tasks, dim=-1)):
            # torch leaves out what is ignore_index, -100. Its mean over what is left is 0/0 where nothing is.
            places = (labels[:, task] - first).masked_fill(~known[:, task], -100)
            summed = F.cross_entropy(own, places, reduction="sum", label_smoothing=smoothing)
            total = total + summed / known[:, task].sum().clamp(min=1)
            first += own.shape[-1]
        return total


#: By the name that a strategy gives its objective.
OBJECTIVES: dict[ObjectiveName, type[Objective]] = {
    "supervised": Objective,
    "pseudo_label": PseudoLabel,
    "fixmatch": FixMatch,
    "mean_teacher": MeanTeacher,
    "siamese": Siamese,
    "multi_task": MultiTask,
}


def build_objective(
    network: Network,
    recipe: Recipe,
    parameters: Sequence[Parameter],
    forward: Callable[[Tensor], Tensor],
) -> Objective:
    """The objective of the recipe's strategy. Arguments as those of ``Objective``."""
    return OBJECTIVES[recipe.method.objective](network, recipe, parameters, forward)

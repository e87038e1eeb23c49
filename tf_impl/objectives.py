"""What a step minimises: the loss of its streams, and what a strategy keeps from step to step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import keras
import tensorflow as tf

from transfer_parity.shared.contract.methods import CLOSEST, EPSILON, ObjectiveName, Stream
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.wing import Array
from transfer_parity.tf_impl.network import Network
from transfer_parity.tf_impl.optimizers import build_loss
from transfer_parity.tf_impl.weights import Parameter


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
        forward: Callable[[tf.Tensor], tf.Tensor],
    ) -> None:
        self.network, self.recipe, self.parameters, self.forward = network, recipe, parameters, forward
        self.supervised = build_loss(recipe)

    def begin(self) -> None:
        """Forget all steps: the first one follows, from the weights that the network holds."""

    def loss(self, streams: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Loss of a step's streams (``shared.contract.batches.Batch``), as a scalar tensor."""
        targets = tf.one_hot(streams["labels"], self.network.spec.classes, dtype=keras.config.floatx())
        return self.supervised(targets, self.forward(streams["inputs"]))

    def after_step(self) -> None:
        """What is to be done once a step has changed the weights."""
        # AutoGraph warns of a body that is a docstring alone.
        pass

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
        forward: Callable[[tf.Tensor], tf.Tensor],
    ) -> None:
        super().__init__(network, recipe, parameters, forward)
        self.closest = tf.Variable(1.0, dtype=keras.config.floatx())

    def begin(self) -> None:
        """Forget how near a probability came to the threshold."""
        self.closest.assign(1.0)

    def loss(self, streams: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Loss of a step's streams, as a scalar tensor."""
        weak = self.forward(streams["weak"])
        labels = tf.stop_gradient(weak)
        probabilities = tf.nn.softmax(labels)
        surest = tf.reduce_max(probabilities, axis=-1)
        self.closest.assign(tf.minimum(self.closest, tf.reduce_min(tf.abs(surest - self.recipe.threshold))))
        if self.recipe.label_temperature:
            targets = tf.nn.softmax(labels / self.recipe.label_temperature)
        else:
            targets = tf.one_hot(tf.argmax(probabilities, axis=-1), probabilities.shape[-1], dtype=weak.dtype)
        logits = weak if self.learns == "weak" else self.forward(streams[self.learns])
        each = -tf.reduce_sum(targets * tf.nn.log_softmax(logits), axis=-1)
        sure = tf.cast(surest >= self.recipe.threshold, weak.dtype)
        return super().loss(streams) + self.recipe.unlabeled_weight * tf.reduce_mean(sure * each)

    def state(self) -> dict[str, Array]:
        """How near the largest probability of a view came to the threshold, (1,)."""
        return {CLOSEST: self.closest.numpy().reshape(1)}


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
        forward: Callable[[tf.Tensor], tf.Tensor],
    ) -> None:
        super().__init__(network, recipe, parameters, forward)
        self.teacher = [tf.Variable(each.variable.value, trainable=False) for each in parameters]
        self.steps = tf.Variable(0.0, dtype=keras.config.floatx(), trainable=False)

    def begin(self) -> None:
        """The teacher has the weights that the network holds."""
        for own, each in zip(self.teacher, self.parameters, strict=True):
            own.assign(each.variable.value)
        self.steps.assign(0.0)

    def loss(self, streams: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Loss of a step's streams, as a scalar tensor."""
        pairs = [(each.variable, own.value()) for each, own in zip(self.parameters, self.teacher, strict=True)]
        # The same layers with the teacher's values in place of their variables.
        with keras.StatelessScope(state_mapping=pairs):
            said = tf.stop_gradient(tf.nn.softmax(self.forward(streams["weak"])))
        away = tf.reduce_mean(tf.square(said - tf.nn.softmax(self.forward(streams["strong"]))))
        return super().loss(streams) + self.recipe.unlabeled_weight * away

    def after_step(self) -> None:
        """The teacher follows."""
        self.steps.assign_add(1.0)
        kept = tf.minimum(tf.constant(self.recipe.teacher_decay, self.steps.dtype), self.steps / (self.steps + 1))
        for own, each in zip(self.teacher, self.parameters, strict=True):
            own.assign(kept * own + (1 - kept) * each.variable.value)

    def state(self) -> dict[str, Array]:
        """The teacher's weights."""
        return {
            each.name: each.to_neutral(value.numpy()) for each, value in zip(self.parameters, self.teacher, strict=True)
        }


class Siamese(Objective):
    """Images of one class are near to each other in the head's outputs, and those of two are apart."""

    def loss(self, streams: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Loss of a step's streams, as a scalar tensor."""
        one, other = self.forward(streams["inputs"]), self.forward(streams["partners"])
        alike = tf.cast(streams["labels"] == streams["partner_labels"], one.dtype)
        return contrastive(one, other, alike, self.recipe.pair_margin)


def contrastive(one: tf.Tensor, other: tf.Tensor, alike: tf.Tensor, margin: float) -> tf.Tensor:
    """y d^2 + (1 - y) max(0, m - d)^2, averaged over pairs (Hadsell, Chopra and LeCun, CVPR 2006), as a scalar tensor.

    d^2 = |e - e'|^2 + ``EPSILON``, inside the root: everything else is a matter of taste in which libraries part.

    Args:
        one: an embedding of each pair, (b, units).
        other: its partner's.
        alike: y, 1 of a pair of one class and else 0, (b,).
        margin: m, from which distance on images of different classes are far enough apart.
    """
    squared = tf.reduce_sum(tf.square(one - other), axis=-1) + EPSILON
    short = tf.nn.relu(margin - tf.sqrt(squared))
    return tf.reduce_mean(alike * squared + (1 - alike) * tf.square(short))


class MultiTask(Objective):
    """Several tasks, whose logits stand side by side; an image counts in those whose label of it is known.

    The sum over tasks of sum_i k_i CE(z_i, y_i) / max(1, sum_i k_i), with k_i = 1 where image i's label is known and 0
    where it is not: a task adds the mean over the images of the batch that have its label, and 0 if none has.
    """

    def loss(self, streams: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Loss of a step's streams, as a scalar tensor."""
        labels, known = streams["labels"], streams["known"]
        logits, smoothing = self.forward(streams["inputs"]), self.recipe.label_smoothing
        # With weights of 0 and 1 Keras's usual mean is one over all images of the batch; this one divides by the sum of
        # the weights, and is 0 where that is 0.
        mean = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=smoothing, reduction="mean_with_sample_weight"
        )
        total, first = tf.zeros((), logits.dtype), 0
        for task, own in enumerate(tf.split(logits, self.network.spec.tasks, axis=-1)):
            targets = tf.one_hot(labels[:, task] - first, own.shape[-1], dtype=own.dtype)
            total += mean(targets, own, sample_weight=tf.cast(known[:, task], own.dtype))
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
    forward: Callable[[tf.Tensor], tf.Tensor],
) -> Objective:
    """The objective of the recipe's strategy. Arguments as those of ``Objective``."""
    return OBJECTIVES[recipe.method.objective](network, recipe, parameters, forward)

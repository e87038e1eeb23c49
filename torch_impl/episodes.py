"""Methods that learn from base classes how to learn novel ones, on features that are frozen.

What is adapted to a task is explicit tensors and no module: a second derivative passes through them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from transfer_parity.shared.contract.learners import (
    EMBEDDING_BIAS,
    EMBEDDING_WEIGHT,
    HEAD_BIAS,
    HEAD_WEIGHT,
    LearnerName,
    LearnerSettings,
    Pairs,
    Tasks,
)
from transfer_parity.shared.contract.methods import EPSILON
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.wing import Array
from transfer_parity.torch_impl import device
from transfer_parity.torch_impl.objectives import contrastive
from transfer_parity.torch_impl.optimizers import build_optimizer


class Learner(ABC):
    """What is learned, and the optimizer that learns it."""

    def __init__(self, start: Mapping[str, Array], settings: LearnerSettings, recipe: Recipe) -> None:
        self.settings = settings
        self.variables = {name: nn.Parameter(tensor(array)) for name, array in start.items()}
        self.optimizer = build_optimizer(recipe, list(self.variables.values()))

    def arrays(self) -> dict[str, Array]:
        """What has been learned, by neutral name."""
        return {name: variable.detach().cpu().numpy() for name, variable in self.variables.items()}

    def step(self, batch: Tasks | Pairs) -> float:
        """One step of the optimizer. Returns the loss before it."""
        loss = self._differentiated(batch)
        self.optimizer.step()
        return float(loss)

    def _differentiated(self, batch: Tasks | Pairs) -> Tensor:
        """The loss; gradients stand at the variables."""
        loss = self.loss(*tensors(batch))
        self.optimizer.zero_grad()
        loss.backward()
        return loss.detach()

    def gradients(self, batch: Tasks | Pairs) -> tuple[float, dict[str, Array]]:
        """Loss of a batch and its gradients by neutral name, as a step has them."""
        loss = self._differentiated(batch)
        found = {name: variable.grad for name, variable in self.variables.items() if variable.grad is not None}
        return float(loss), {name: each.cpu().numpy() for name, each in found.items()}

    def update(self, gradients: Mapping[str, Array], learning_rate: float) -> None:
        """One step of the optimizer along given gradients, by neutral name."""
        for name, variable in self.variables.items():
            variable.grad = tensor(gradients[name])
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()

    def logits(self, tasks: Tasks) -> Array:
        """Logits of the queries of some tasks, (T, m, ways)."""
        found: Array = self.outputs(*tensors(tasks)).detach().cpu().numpy()
        return found

    def projected(self, inputs: Tensor) -> Tensor:
        """Inputs (..., d) to (..., units), before anything that is not linear."""
        return F.linear(inputs, self.variables[EMBEDDING_WEIGHT], self.variables[EMBEDDING_BIAS])

    @abstractmethod
    def loss(self, *given: Tensor) -> Tensor:
        """Of a batch, a scalar: of the tensors of its fields, in order."""

    @abstractmethod
    def outputs(self, *given: Tensor) -> Tensor:
        """Logits of the queries, (T, m, ways): of the tensors of the tasks' fields, in order."""


class Anil(Learner):
    """MAML whose inner steps move the head alone (Raghu et al., ICLR 2020; Finn et al., ICML 2017, algorithm 1).

    Within a task W' = W - a dL/dW, several times, L the cross-entropy of the support; what is learned are the embedding
    and the head from which every task sets out, from the cross-entropy of the queries behind the inner steps. Its
    gradient passes through dL/dW, which depends on both.
    """

    def loss(self, *given: Tensor) -> Tensor:
        """Mean over the queries of all tasks."""
        return cross_entropy(given[3], self.outputs(*given)).mean()

    def outputs(self, *given: Tensor) -> Tensor:
        """Logits behind the inner steps."""
        support, support_targets, queries, _ = given
        weight, bias = self.adapted(support, support_targets)
        return batched(self.embedded(queries), weight, bias)

    def embedded(self, inputs: Tensor) -> Tensor:
        """Inputs (T, n, d) to (T, n, units)."""
        return torch.relu(self.projected(inputs))

    def adapted(self, support: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The head of every task behind the inner steps: weights (T, ways, units) and biases (T, 1, ways)."""
        embedded = self.embedded(support)
        weight = self.variables[HEAD_WEIGHT].expand(len(support), -1, -1)
        bias = self.variables[HEAD_BIAS].expand(len(support), 1, -1)
        for _ in range(self.settings.inner_steps):
            # Of all tasks together, which share nothing from here on: each gets the gradient of its own mean.
            loss = cross_entropy(targets, batched(embedded, weight, bias)).mean(dim=1).sum()
            # Without create_graph these were constants, and the gradient of the queries' loss of first order.
            by_weight, by_bias = torch.autograd.grad(loss, (weight, bias), create_graph=True)
            weight = weight - self.settings.inner_rate * by_weight
            bias = bias - self.settings.inner_rate * by_bias
        return weight, bias


class Siamese(Learner):
    """An embedding of length 1 in which images of one class are near each other: by the loss of the strategy's name.

    A query is of the class whose support images' mean is nearest to it.
    """

    def loss(self, *given: Tensor) -> Tensor:
        """Mean over the pairs."""
        first, second, same = given
        return contrastive(self.embedded(first), self.embedded(second), same, self.settings.margin)

    def outputs(self, *given: Tensor) -> Tensor:
        """Negative distances to the classes' means."""
        support, targets, queries, _ = given
        sums = targets.transpose(1, 2) @ self.embedded(support)
        means = sums / targets.sum(dim=1)[..., None]
        differences = self.embedded(queries)[:, :, None] - means[:, None]
        return -torch.sqrt((differences**2).sum(dim=-1) + EPSILON)

    def embedded(self, inputs: Tensor) -> Tensor:
        """Inputs (..., d) to (..., units), of length 1."""
        projected = self.projected(inputs)
        return projected / torch.sqrt((projected**2).sum(dim=-1, keepdim=True) + EPSILON)


def learner(name: LearnerName, start: Mapping[str, Array], settings: LearnerSettings, recipe: Recipe) -> Learner:
    """A method that has learned nothing yet.

    Args:
        name: which.
        start: first arrays by neutral name.
        settings: how it trains.
        recipe: its optimizer and learning rate.
    """
    return (Anil if name == "anil" else Siamese)(start, settings, recipe)


def tensor(array: Array) -> Tensor:
    """An array in the process's type."""
    return torch.tensor(array, dtype=torch.get_default_dtype(), device=device.settings().device)


def tensors(batch: Tasks | Pairs) -> list[Tensor]:
    """The fields of a batch, in order."""
    return [tensor(getattr(batch, field.name)) for field in fields(batch)]


def batched(embedded: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Logits (T, n, ways) of embedded images (T, n, units), with a head for each task."""
    return embedded @ weight.transpose(1, 2) + bias


def cross_entropy(targets: Tensor, logits: Tensor) -> Tensor:
    """Of every image, (T, n)."""
    return -(targets * F.log_softmax(logits, dim=-1)).sum(dim=-1)

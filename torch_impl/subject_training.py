"""Loss, gradients and optimizer of a user's own model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.rungs import StateKind
from transfer_parity.shared.contract.subject_wing import Watch
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.contract.wing_values import State
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.torch_impl import layouts, subject_layers, subject_watch
from transfer_parity.torch_impl.internals import canonical_outputs
from transfer_parity.torch_impl.optimizers import build_loss, build_optimizer

#: torch's name of an optimizer's state to the contract's.
_STATES: dict[str, StateKind] = {
    "momentum_buffer": "momentum",
    "exp_avg": "first_moment",
    "exp_avg_sq": "second_moment",
}


class SubjectTraining:
    """A trainer of everything in a model that trains, from a fresh optimizer state."""

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        loss: Callable[[Any, Any], Any] | None,
        optimizer: Callable[[Any], Any] | None,
        training_mode: bool,
    ) -> None:
        self.model, self.recipe, self.training_mode = model, recipe, training_mode
        self._held = layouts.held(model)
        for each in self._held:
            if each.second is not None:
                # What is only ever added to the first one.
                each.second.requires_grad_(False)
        self.loss, self._own_loss = loss or _recipes_loss(recipe), loss is not None
        self._of_user = optimizer is not None
        variables = [each for each in model.parameters() if each.requires_grad]
        self.optimizer = optimizer(model) if optimizer is not None else build_optimizer(recipe, variables)
        if not isinstance(self.optimizer, torch.optim.Optimizer):
            raise BadInput(
                f"the pair's optimizer returns {type(self.optimizer).__name__}; it has to return one of torch.optim."
            )

    def differentiate(self, inputs: Sequence[Array], targets: Array, watch: Watch | None = None) -> float:
        """Loss of a batch; its gradients are kept. Statistics learn in training mode."""
        self.model.zero_grad()
        tensors = [torch.from_numpy(np.ascontiguousarray(each)) for each in inputs]
        if watch is not None:
            outputs, _ = subject_watch.watched(self.model, tensors, self.training_mode, watch, grad=True)
        else:
            outputs = subject_layers.tensors(subject_watch.called(self.model, tensors, self.training_mode))
        wanted = torch.from_numpy(np.ascontiguousarray(targets))
        if wanted.is_floating_point():
            wanted = wanted.to(torch.get_default_dtype())
        if not self._own_loss:
            outputs = canonical_outputs(self.model, outputs)
        loss = self.loss(wanted, outputs[0] if len(outputs) == 1 else outputs)
        loss.backward()
        return float(loss.detach())

    def gradients(self) -> Iterator[tuple[str, Array]]:
        """Of the last batch, by parameter name; those of what does not train are left out."""
        for each in self._held:
            if each.trains and each.variable.grad is not None:
                yield each.name, each.to_canonical(each.variable.grad)

    def update(self, rate: float, gradients: Mapping[str, Array] | None = None) -> None:
        """One step of the optimizer along its own gradients, or along given ones."""
        if gradients is not None:
            for each in self._held:
                if each.name in gradients:
                    before = torch.zeros_like(each.variable) if each.variable.grad is None else each.variable.grad
                    each.variable.grad = each.from_canonical(gradients[each.name], before)
        if not self._of_user:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
        self.optimizer.step()

    def states(self) -> Iterator[State]:
        """What the optimizer holds for every parameter, then every parameter and running statistic, canonical."""
        for key, what in _STATES.items():
            for each in self._held:
                value = self.optimizer.state[each.variable].get(key) if each.variable in self.optimizer.state else None
                if isinstance(value, Tensor):
                    yield State(what, each.name, each.to_canonical(value))
        for each in self._held:
            yield State("statistic" if each.statistic else "parameter", each.name, each.read())


def _recipes_loss(recipe: Recipe) -> Callable[[Any, Any], Any]:
    loss = build_loss(recipe)

    def of(targets: Tensor, outputs: Any) -> Tensor:
        output = outputs[0] if isinstance(outputs, list) else outputs
        if recipe.loss == "mse":
            return loss(targets, output)
        if targets.shape != output.shape[:-1]:
            raise BadInput(
                f"cross entropy wants a class for all logits of one place, and there are targets of shape "
                f"{tuple(targets.shape)} for outputs of shape {tuple(output.shape)}; give targets in the examples, "
                "or a loss of your own."
            )
        logits = output.flatten(end_dim=-2)
        return loss(F.one_hot(targets.long().flatten(), logits.shape[-1]).to(logits.dtype), logits)

    return of

"""Loss, gradients and optimizer of a user's own model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.subject_wing import Watch
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.contract.wing_values import State
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.tf_impl import internals, layouts, subject_layers, subject_watch
from transfer_parity.tf_impl.optimizers import build_loss, build_optimizer


class SubjectTraining:
    """A trainer of everything in a model that trains, from a fresh optimizer state."""

    def __init__(
        self,
        model: keras.Model,
        recipe: Recipe,
        loss: Callable[[Any, Any], Any] | None,
        optimizer: Callable[[Any], Any] | None,
        training_mode: bool,
    ) -> None:
        self.model, self.recipe, self.training_mode = model, recipe, training_mode
        self._held = layouts.held(model)
        self.loss = loss or _recipes_loss(recipe)
        self._of_user = optimizer is not None
        self._variables: list[keras.Variable] = list(model.trainable_variables)
        self._gradients: dict[int, Any] = {}
        self.optimizer = optimizer(model) if optimizer is not None else build_optimizer(recipe, self._variables)
        if not isinstance(self.optimizer, keras.optimizers.Optimizer):
            raise BadInput(
                f"the pair's optimizer returns {type(self.optimizer).__name__}; give one of keras.optimizers."
            )
        if not self.optimizer.built:
            self.optimizer.build(self._variables)

    def differentiate(self, inputs: Sequence[Array], targets: Array, watch: Watch | None = None) -> float:
        """Loss of a batch; its gradients are kept. Statistics learn in training mode."""
        tensors = [ops.convert_to_tensor(each) for each in inputs]
        dtype = keras.config.floatx() if targets.dtype.kind == "f" else None
        wanted = ops.convert_to_tensor(targets, dtype)

        def compute() -> Any:
            if watch is not None:
                outputs, _ = subject_watch.watched(self.model, tensors, self.training_mode, watch, grad=True)
            else:
                outputs = subject_layers.tensors(subject_watch.called(self.model, tensors, self.training_mode))
            return self.loss(wanted, outputs[0] if len(outputs) == 1 else outputs)

        loss, gradients = _differentiated(compute, self._variables)
        pairs = zip(self._variables, gradients, strict=True)
        self._gradients = {id(variable): gradient for variable, gradient in pairs if gradient is not None}
        return float(ops.convert_to_numpy(loss))

    def gradients(self) -> Iterator[tuple[str, Array]]:
        """Of the last batch, by parameter name; those of what does not train are left out."""
        for each in self._held:
            if each.trains and id(each.variable) in self._gradients:
                yield each.name, each.to_canonical(self._gradients[id(each.variable)])

    def update(self, rate: float, gradients: Mapping[str, Array] | None = None) -> None:
        """One step of the optimizer along its own gradients, or along given ones."""
        if gradients is not None:
            for each in self._held:
                if each.name in gradients:
                    before = self._gradients.get(id(each.variable))
                    before = ops.zeros_like(each.variable) if before is None else before
                    found = each.from_canonical(gradients[each.name], before)
                    self._gradients[id(each.variable)] = ops.convert_to_tensor(found)
        pairs = [(self._gradients[id(each)], each) for each in self._variables if id(each) in self._gradients]
        if self._of_user:
            self.optimizer.apply([gradient for gradient, _ in pairs], [variable for _, variable in pairs])
            return
        decay = self.recipe.weight_decay
        if decay and self.recipe.optimizer == "adamw":
            for _, variable in pairs:
                variable.assign_sub(variable * (rate * decay))
        elif decay:
            pairs = [(gradient + decay * variable, variable) for gradient, variable in pairs]
        self.optimizer.learning_rate.assign(rate)
        self.optimizer.apply([gradient for gradient, _ in pairs], [variable for _, variable in pairs])

    def states(self) -> Iterator[State]:
        """What the optimizer holds for every parameter, then every parameter and running statistic, canonical."""
        for what, values in internals.states(self.optimizer).items():
            by_variable = {id(variable): each for variable, each in zip(self._variables, values, strict=False)}
            for each in self._held:
                if id(each.variable) in by_variable:
                    yield State(what, each.name, each.to_canonical(by_variable[id(each.variable)]))
        for each in self._held:
            yield State("statistic" if each.statistic else "parameter", each.name, each.read())


def _differentiated(compute: Callable[[], Any], variables: Sequence[keras.Variable]) -> tuple[Any, list[Any]]:
    """What is computed, and its gradients, by whichever backend computes."""
    if keras.backend.backend() == "torch":
        for variable in variables:
            variable.value.grad = None
        loss = compute()
        loss.backward()
        return loss.detach(), [variable.value.grad for variable in variables]
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([variable.value for variable in variables])
        loss = compute()
    found = tape.gradient(loss, [variable.value for variable in variables])
    # An embedding's holds only the rows that were looked up.
    return loss, [None if each is None else tf.convert_to_tensor(each) for each in found]


def _recipes_loss(recipe: Recipe) -> Callable[[Any, Any], Any]:
    loss = build_loss(recipe)

    def of(targets: Any, outputs: Any) -> Any:
        output = outputs[0] if isinstance(outputs, list) else outputs
        if recipe.loss == "cross_entropy":
            targets = ops.one_hot(targets, output.shape[-1], dtype=np.dtype(keras.config.floatx()).name)
        return loss(targets, output)

    return of

"""Methods that learn from base classes how to learn novel ones, on features that are frozen.

What is adapted to a task is explicit tensors and no layer: a second derivative passes through them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields

import keras
import tensorflow as tf

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
from transfer_parity.tf_impl.objectives import contrastive
from transfer_parity.tf_impl.optimizers import build_optimizer


class Learner(ABC):
    """What is learned, and the optimizer that learns it."""

    def __init__(self, start: Mapping[str, Array], settings: LearnerSettings, recipe: Recipe) -> None:
        self.settings = settings
        self.variables = {
            name: keras.Variable(array, dtype=keras.config.floatx(), name=name.replace(".", "_"))
            for name, array in start.items()
        }
        self.optimizer = build_optimizer(recipe, list(self.variables.values()))
        self.optimizer.learning_rate.assign(recipe.learning_rate)
        # Traced for each shape; an inner loop of many small operations would cost more than it computes.
        self._step = tf.function(self._traced_step)
        self._outputs = tf.function(self.outputs, reduce_retracing=True)

    def arrays(self) -> dict[str, Array]:
        """What has been learned, by neutral name."""
        return {name: variable.numpy() for name, variable in self.variables.items()}

    def step(self, batch: Tasks | Pairs) -> float:
        """One step of the optimizer. Returns the loss before it."""
        return float(self._step(*tensors(batch)))

    def _traced_step(self, *given: tf.Tensor) -> tf.Tensor:
        loss, gradients = self._differentiated(*given)
        self.optimizer.apply(gradients, list(self.variables.values()))
        return loss

    def _differentiated(self, *given: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        variables = [variable.value for variable in self.variables.values()]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            loss = self.loss(*given)
        return loss, tape.gradient(loss, variables)

    def gradients(self, batch: Tasks | Pairs) -> tuple[float, dict[str, Array]]:
        """Loss of a batch and its gradients by neutral name, as a step has them."""
        loss, found = self._differentiated(*tensors(batch))
        return float(loss), {name: each.numpy() for name, each in zip(self.variables, found, strict=True)}

    def update(self, gradients: Mapping[str, Array], learning_rate: float) -> None:
        """One step of the optimizer along given gradients, by neutral name."""
        self.optimizer.learning_rate.assign(learning_rate)
        self.optimizer.apply([tensor(gradients[name]) for name in self.variables], list(self.variables.values()))

    def logits(self, tasks: Tasks) -> Array:
        """Logits of the queries of some tasks, (T, m, ways)."""
        found: Array = self._outputs(*tensors(tasks)).numpy()
        return found

    def projected(self, inputs: tf.Tensor) -> tf.Tensor:
        """Inputs (..., d) to (..., units), before anything that is not linear."""
        weight, bias = self.variables[EMBEDDING_WEIGHT].value, self.variables[EMBEDDING_BIAS].value
        return tf.tensordot(inputs, weight, axes=[[-1], [1]]) + bias

    @abstractmethod
    def loss(self, *given: tf.Tensor) -> tf.Tensor:
        """Of a batch, a scalar: of the tensors of its fields, in order."""

    @abstractmethod
    def outputs(self, *given: tf.Tensor) -> tf.Tensor:
        """Logits of the queries, (T, m, ways): of the tensors of the tasks' fields, in order."""


class Anil(Learner):
    """MAML whose inner steps move the head alone (Raghu et al., ICLR 2020; Finn et al., ICML 2017, algorithm 1).

    Within a task W' = W - a dL/dW, several times, L the cross-entropy of the support; what is learned are the embedding
    and the head from which every task sets out, from the cross-entropy of the queries behind the inner steps. Its
    gradient passes through dL/dW, which depends on both.
    """

    def loss(self, *given: tf.Tensor) -> tf.Tensor:
        """Mean over the queries of all tasks."""
        return tf.reduce_mean(cross_entropy(given[3], self.outputs(*given)))

    def outputs(self, *given: tf.Tensor) -> tf.Tensor:
        """Logits behind the inner steps."""
        support, support_targets, queries, _ = given
        weight, bias = self.adapted(support, support_targets)
        return batched(self.embedded(queries), weight, bias)

    def embedded(self, inputs: tf.Tensor) -> tf.Tensor:
        """Inputs (T, n, d) to (T, n, units)."""
        return tf.nn.relu(self.projected(inputs))

    def adapted(self, support: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The head of every task behind the inner steps: weights (T, ways, units) and biases (T, 1, ways)."""
        embedded, count = self.embedded(support), tf.shape(support)[0]
        weight = tf.repeat(self.variables[HEAD_WEIGHT].value[None], count, axis=0)
        bias = tf.repeat(self.variables[HEAD_BIAS].value[None, None], count, axis=0)
        for _ in range(self.settings.inner_steps):
            # Within the outer tape, which records how these gradients come about: otherwise they were constants, and
            # the gradient of the queries' loss of first order.
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([weight, bias])
                # Of all tasks together, which share nothing from here on: each gets the gradient of its own mean.
                loss = tf.reduce_sum(tf.reduce_mean(cross_entropy(targets, batched(embedded, weight, bias)), axis=1))
            by_weight, by_bias = tape.gradient(loss, [weight, bias])
            weight = weight - self.settings.inner_rate * by_weight
            bias = bias - self.settings.inner_rate * by_bias
        return weight, bias


class Siamese(Learner):
    """An embedding of length 1 in which images of one class are near each other: by the loss of the strategy's name.

    A query is of the class whose support images' mean is nearest to it.
    """

    def loss(self, *given: tf.Tensor) -> tf.Tensor:
        """Mean over the pairs."""
        first, second, same = given
        return contrastive(self.embedded(first), self.embedded(second), same, self.settings.margin)

    def outputs(self, *given: tf.Tensor) -> tf.Tensor:
        """Negative distances to the classes' means."""
        support, targets, queries, _ = given
        sums = tf.transpose(targets, (0, 2, 1)) @ self.embedded(support)
        means = sums / tf.reduce_sum(targets, axis=1)[..., None]
        differences = self.embedded(queries)[:, :, None] - means[:, None]
        return -tf.sqrt(tf.reduce_sum(differences**2, axis=-1) + EPSILON)

    def embedded(self, inputs: tf.Tensor) -> tf.Tensor:
        """Inputs (..., d) to (..., units), of length 1."""
        projected = self.projected(inputs)
        return projected / tf.sqrt(tf.reduce_sum(projected**2, axis=-1, keepdims=True) + EPSILON)


def learner(name: LearnerName, start: Mapping[str, Array], settings: LearnerSettings, recipe: Recipe) -> Learner:
    """A method that has learned nothing yet.

    Args:
        name: which.
        start: first arrays by neutral name.
        settings: how it trains.
        recipe: its optimizer and learning rate.
    """
    return (Anil if name == "anil" else Siamese)(start, settings, recipe)


def tensor(array: Array) -> tf.Tensor:
    """An array in the process's type."""
    return tf.convert_to_tensor(array, dtype=keras.config.floatx())


def tensors(batch: Tasks | Pairs) -> list[tf.Tensor]:
    """The fields of a batch, in order."""
    return [tensor(getattr(batch, field.name)) for field in fields(batch)]


def batched(embedded: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Logits (T, n, ways) of embedded images (T, n, units), with a head for each task."""
    return tf.matmul(embedded, weight, transpose_b=True) + bias


def cross_entropy(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Of every image, (T, n)."""
    return -tf.reduce_sum(targets * tf.nn.log_softmax(logits, axis=-1), axis=-1)

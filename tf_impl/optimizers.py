"""Losses and optimizers.

Where the two libraries use one word for two things, torch's meaning is the reference, and it is this wing that
implements it: Keras's SGD and Adam are subclassed. Keras's own operations, so that any of its backends computes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import ops

from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.tf_impl.internals import moments, momentum, place

if TYPE_CHECKING:
    # Another backend may compute for a user's own model.
    import tensorflow as tf


def build_optimizer(
    recipe: Recipe,
    variables: list[keras.Variable],
    switches: frozenset[str] = frozenset(),
    factors: Sequence[float] | None = None,
) -> keras.optimizers.Optimizer:
    """The recipe's optimizer of some variables. Its learning rate is set anew in every step.

    ``factors``: of the rate, by variable. Keras has no groups of parameters, so each step is scaled by itself.
    """
    optimizer = _unbuilt(recipe, switches)
    optimizer.build(variables)
    optimizer.factors = [1.0] * len(variables) if factors is None else list(factors)
    return optimizer


def build_loss(recipe: Recipe) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """The recipe's loss of one-hot targets (b, classes) and logits (b, classes), averaged over the batch."""
    if recipe.loss == "mse":
        return keras.losses.MeanSquaredError()
    return keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing)


def _unbuilt(recipe: Recipe, switches: frozenset[str]) -> keras.optimizers.Optimizer:
    # Without weight decay, which Trainer.update does: Keras decouples it in every optimizer, and casts it by way of
    # float32, which makes 0.01 into 0.0099999998 even where everything else is float64.
    if recipe.optimizer == "sgd":
        kind = _KerasSGD if "sgd_momentum" in switches else _SGD
        return kind(recipe.learning_rate, momentum=recipe.momentum, name="sgd")
    beta1, beta2 = recipe.beta1, recipe.beta2
    if "adam_betas" in switches:
        beta1, beta2 = float(np.float32(beta1)), float(np.float32(beta2))
    optimizer = _Adam(recipe.learning_rate, beta1, beta2, recipe.epsilon, name="adam")
    optimizer.epsilon_first = "adam_epsilon" in switches
    return optimizer


class _KerasSGD(keras.optimizers.SGD):
    """Keras's own, with a factor of the rate for each variable."""

    factors: list[float]

    def update_step(self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor) -> None:
        """Update one variable and its velocity."""
        super().update_step(gradient, variable, learning_rate * self.factors[place(self, variable)])


class _SGD(keras.optimizers.SGD):
    """SGD whose momentum does not hold the learning rate: v = m v + g, w = w - lr v.

    Keras's own is v = m v - lr g, w = w + v. The two are the same at a constant rate; after a change of rate Keras's
    velocity still carries the old one.
    """

    factors: list[float]

    def update_step(self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor) -> None:
        """Update one variable and its velocity."""
        learning_rate = ops.cast(learning_rate, variable.dtype) * self.factors[place(self, variable)]
        velocity = gradient
        if self.momentum:
            held = momentum(self, variable)
            velocity = held * self.momentum + gradient  # differs: sgd_momentum
            self.assign(held, velocity)
        self.assign_sub(variable, velocity * learning_rate)


class _Adam(keras.optimizers.Adam):
    """Adam as Kingma and Ba (2015) wrote it in algorithm 1: epsilon is added after the bias correction.

    Keras uses the paper's shorter form, which adds epsilon before it. The two agree only if Keras's epsilon is
    epsilon * sqrt(1 - beta2^t), which changes with every step t.
    """

    #: Whether epsilon is added before the correction, as Keras itself does.
    epsilon_first = False
    factors: list[float]

    def update_step(self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor) -> None:
        """Update one variable and its two moments."""
        learning_rate = ops.cast(learning_rate, variable.dtype) * self.factors[place(self, variable)]
        # Python floats take the variable's type. Keras's own step casts them with ops.cast, by way of float32, which
        # makes 0.9 into 0.89999998 even where everything else is float64.
        beta1, beta2 = self.beta_1, self.beta_2  # differs: adam_betas
        m, v = moments(self, variable)
        self.assign(m, beta1 * m + (1 - beta1) * gradient)
        self.assign(v, beta2 * v + (1 - beta2) * ops.square(gradient))
        # In float64, as torch has it: 1 - beta^t is a difference of nearly equal numbers, of which float32, in which
        # Keras computes it, keeps four digits in the first steps.
        step = ops.cast(self.iterations + 1, "float64")
        correction = ops.cast(ops.sqrt(1 - ops.power(beta2, step)), variable.dtype)
        rate = learning_rate / ops.cast(1 - ops.power(beta1, step), variable.dtype)
        if self.epsilon_first:
            self.assign_sub(variable, rate * correction * m / (ops.sqrt(v) + self.epsilon))  # differs: adam_epsilon
        else:
            self.assign_sub(variable, rate * m / (ops.sqrt(v) / correction + self.epsilon))  # differs: adam_epsilon

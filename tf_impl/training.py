"""Losses, optimizers and the training loop.

Where the two libraries use one word for two things, torch's meaning is the reference, and it is this wing that
implements it: Keras's SGD and Adam are subclassed, and the running variance is corrected after each step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import keras
import tensorflow as tf
from keras import layers, ops

from shared.contract import Part
from shared.plan import Batch
from shared.recipe import Recipe
from tf_impl.network import Network
from tf_impl.weights import parameters


class SGD(keras.optimizers.SGD):
    """SGD whose momentum does not hold the learning rate: v = m v + g, w = w - lr v.

    Keras's own is v = m v - lr g, w = w + v. The two are the same at a constant rate; after a change of rate Keras's
    velocity still carries the old one.
    """

    def update_step(self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor) -> None:
        """Update one variable and its velocity."""
        learning_rate = ops.cast(learning_rate, variable.dtype)
        velocity = gradient
        if self.momentum:
            momentum = self.momentums[self._get_variable_index(variable)]
            velocity = momentum * self.momentum + gradient
            self.assign(momentum, velocity)
        self.assign_sub(variable, velocity * learning_rate)


class Adam(keras.optimizers.Adam):
    """Adam as Kingma and Ba (2015) wrote it in algorithm 1: epsilon is added after the bias correction.

    Keras uses the paper's shorter form, which adds epsilon before it. The two agree only if Keras's epsilon is
    epsilon * sqrt(1 - beta2^t), which changes with every step t.
    """

    def update_step(self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor) -> None:
        """Update one variable and its two moments."""
        learning_rate = ops.cast(learning_rate, variable.dtype)
        step = ops.cast(self.iterations + 1, variable.dtype)
        # Python floats take the variable's type. Keras's own step casts them with ops.cast, by way of float32, which
        # makes 0.9 into 0.89999998 even where everything else is float64.
        beta1, beta2 = self.beta_1, self.beta_2
        m = self._momentums[self._get_variable_index(variable)]
        v = self._velocities[self._get_variable_index(variable)]
        self.assign(m, beta1 * m + (1 - beta1) * gradient)
        self.assign(v, beta2 * v + (1 - beta2) * ops.square(gradient))
        corrected_v = ops.sqrt(v) / ops.sqrt(1 - ops.power(beta2, step))
        rate = learning_rate / (1 - ops.power(beta1, step))
        self.assign_sub(variable, rate * m / (corrected_v + self.epsilon))


def build_optimizer(recipe: Recipe) -> keras.optimizers.Optimizer:
    """The recipe's optimizer. Its learning rate is set anew in every step."""
    if recipe.optimizer == "sgd":
        return SGD(recipe.learning_rate, momentum=recipe.momentum)
    # Keras decouples every weight decay; for sgd and adam the training step adds it to the gradient instead.
    decay = recipe.weight_decay if recipe.optimizer == "adamw" else None
    return Adam(recipe.learning_rate, recipe.beta1, recipe.beta2, recipe.epsilon, weight_decay=decay)


def build_loss(recipe: Recipe) -> keras.losses.Loss:
    """The recipe's loss of one-hot targets (b, classes) and logits (b, classes), averaged over the batch."""
    if recipe.loss == "mse":
        return keras.losses.MeanSquaredError()
    return keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing)


class Trainer:
    """A compiled training step with its optimizer; reused for every seed, since tracing costs more than a short run."""

    def __init__(
        self, network: Network, part: Part, trainable: frozenset[str], batch_norm_trains: bool, recipe: Recipe
    ) -> None:
        self.network, self.part, self.recipe = network, part, recipe
        self.model = network.models[part]
        self.loss = build_loss(recipe)
        self.optimizer = build_optimizer(recipe)
        chosen = [
            (layer, kind, variable)
            for name, kind, layer, variable in parameters(self.model, network.spec.pair)
            if name in trainable
        ]
        self.variables = [variable for _, kind, variable in chosen if not kind.startswith("moving_")]
        self.optimizer.build(self.variables)
        # In Keras a normalisation layer learns its statistics if it is called for training and is itself trainable.
        self.normalisations = list(
            dict.fromkeys(layer for layer, _, _ in chosen if isinstance(layer, layers.BatchNormalization))
            if batch_norm_trains
            else ()
        )
        for layer in self.model._flatten_layers(include_self=False, recursive=True):
            if isinstance(layer, layers.BatchNormalization):
                layer.trainable = layer in self.normalisations
        self.batch_norm_trains = batch_norm_trains
        self._compiled: Callable[..., tf.Tensor] | None = None

    def reset(self) -> None:
        """Forget all steps: the optimizer starts afresh."""
        for variable in self.optimizer.variables:
            variable.assign(tf.zeros_like(variable))

    def step(self, batch: Batch) -> tf.Tensor:
        """One optimizer step. Returns the loss before it, as a scalar tensor."""
        if self._compiled is None:
            dtype = keras.config.floatx()
            signature = [
                tf.TensorSpec((None, *batch.inputs.shape[1:]), batch.inputs.dtype),
                tf.TensorSpec((None,), tf.int64),
                tf.TensorSpec((), dtype),
            ]
            self._compiled = tf.function(self._step, input_signature=signature)
        rate = tf.constant(batch.learning_rate, keras.config.floatx())
        return self._compiled(tf.convert_to_tensor(batch.inputs), tf.convert_to_tensor(batch.labels), rate)

    def _step(self, inputs: tf.Tensor, labels: tf.Tensor, learning_rate: tf.Tensor) -> tf.Tensor:
        targets = tf.one_hot(labels, self.network.spec.classes, dtype=keras.config.floatx())
        old_variances = [tf.identity(layer.moving_variance) for layer in self.normalisations]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in self.variables])
            logits = self.model(self.network.prepare(self.part, inputs), training=self.batch_norm_trains)
            loss = self.loss(targets, logits)
        gradients = tape.gradient(loss, [variable.value for variable in self.variables])
        if self.recipe.optimizer != "adamw" and self.recipe.weight_decay:
            pairs = zip(gradients, self.variables, strict=True)
            gradients = [gradient + self.recipe.weight_decay * variable for gradient, variable in pairs]
        self.optimizer.learning_rate.assign(learning_rate)
        self.optimizer.apply(gradients, self.variables)
        for layer, old in zip(self.normalisations, old_variances, strict=True):
            _count_sample_variance(layer, old, tf.shape(inputs)[0])
        return loss


def _count_sample_variance(layer: layers.BatchNormalization, old: tf.Tensor, batch: tf.Tensor) -> None:
    """Correct a running variance that Keras just updated: torch counts the sample variance, n/(n - 1) of Keras's.

    Args:
        layer: whose ``moving_variance`` is ``momentum * old + (1 - momentum) * biased``.
        old: running variance before the step, (C,).
        batch: images in this step.
    """
    _, height, width, _ = layer.input.shape
    n = tf.cast(batch * height * width, old.dtype)
    kept = layer.momentum * old
    layer.moving_variance.assign(kept + (layer.moving_variance - kept) * n / (n - 1))


def train(
    network: Network,
    part: Part,
    trainable: frozenset[str],
    batch_norm_trains: bool,
    recipe: Recipe,
    batches: Iterable[Batch],
    on_step: Callable[[], None],
) -> list[float]:
    """Train the named parameters on the batches, from a fresh optimizer state.

    Args:
        network: whose weights are loaded.
        part: "head" if the batches hold features, "all" if they hold images.
        trainable: neutral names; everything else stays as it is.
        batch_norm_trains: whether normalisation layers among them use and learn the statistics of the batch.
        recipe: its loss and optimizer.
        batches: in order; each brings its learning rate.
        on_step: called after every step.

    Returns:
        The loss of every step, before its update.
    """
    trainer = network.trainers.get(part) or Trainer(network, part, trainable, batch_norm_trains, recipe)
    network.trainers[part] = trainer
    trainer.reset()
    losses = []
    for batch in batches:
        losses.append(trainer.step(batch))
        on_step()
    return [float(loss) for loss in losses]

"""The training loop.

Where the two libraries use one word for two things, torch's meaning is the reference, and it is this wing that
implements it: the running variance is corrected after each pass.

The step is written with GradientTape rather than left to ``Model.fit``. Three things are wanted that fit hides: what
lies between the parts of a step (the running variance is corrected behind the forward pass, and the parity ladder sees
the gradients before the optimizer does), a learning rate for every single step, and the loss of every single step, of
which fit tells a mean over the epoch. A ``train_step`` of one's own within fit would be the same code, with a loop that
is out of sight around it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import keras
import tensorflow as tf
from keras import layers

from transfer_parity.shared.contract.batches import Batch
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.wing import Part
from transfer_parity.tf_impl.internals import layers_of
from transfer_parity.tf_impl.network import Network
from transfer_parity.tf_impl.optimizers import build_loss, build_optimizer
from transfer_parity.tf_impl.weights import parameters


class Trainer:
    """A compiled training step with its optimizer; reused for every seed, since tracing costs more than a short run."""

    def __init__(
        self, network: Network, part: Part, trainable: frozenset[str], batch_norm_trains: bool, recipe: Recipe
    ) -> None:
        self.network, self.part, self.recipe = network, part, recipe
        self.switches = network.spec.switches
        # torch's pitfall: a normalisation whose parameters are frozen still follows the mode of the whole model.
        self.batch_norm_trains = batch_norm_trains or "frozen_batch_norm" in self.switches
        self.model = network.models[part]
        self.loss = build_loss(recipe)
        everything = list(parameters(network))
        chosen = [each for each in everything if each.name in trainable]
        self.parameters = [each for each in chosen if not each.kind.startswith("moving_")]
        self.variables = [each.variable for each in self.parameters]
        self.optimizer = build_optimizer(recipe, self.variables, self.switches)
        # In Keras a normalisation layer learns its statistics if it is called for training and is itself trainable.
        learning = everything if "frozen_batch_norm" in self.switches else chosen if self.batch_norm_trains else ()
        self.normalisations = list(
            dict.fromkeys(each.layer for each in learning if isinstance(each.layer, layers.BatchNormalization))
        )
        for layer in layers_of(network.models["all"]):
            if isinstance(layer, layers.BatchNormalization):
                layer.trainable = layer in self.normalisations
        self._compiled: Callable[..., tf.Tensor] | None = None

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
        loss, gradients = self.differentiate(inputs, labels)
        self.update(gradients, learning_rate)
        return loss

    def differentiate(self, inputs: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Loss of a batch, and its gradients by each of ``variables``; running statistics learn on the way."""
        targets = tf.one_hot(labels, self.network.spec.classes, dtype=keras.config.floatx())
        old_variances = [tf.identity(layer.moving_variance) for layer in self.normalisations]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in self.variables])
            logits = self.model(self.network.prepare(self.part, inputs), training=self.batch_norm_trains)
            loss = self.loss(targets, logits)
        if "bn_running_variance" not in self.switches:
            for layer, old in zip(self.normalisations, old_variances, strict=True):
                _count_sample_variance(layer, old, tf.shape(inputs)[0])
        return loss, tape.gradient(loss, [variable.value for variable in self.variables])

    def update(self, gradients: list[tf.Tensor], learning_rate: tf.Tensor | float) -> None:
        """One step of the optimizer along the gradients."""
        decay = self.recipe.weight_decay
        if decay and (self.recipe.optimizer == "adamw" or "weight_decay" in self.switches):
            for variable in self.variables:
                variable.assign_sub(variable * (learning_rate * decay))
        elif decay:
            pairs = zip(gradients, self.variables, strict=True)
            gradients = [gradient + decay * variable for gradient, variable in pairs]
        self.optimizer.learning_rate.assign(learning_rate)
        self.optimizer.apply(gradients, self.variables)


def _count_sample_variance(layer: layers.BatchNormalization, old: tf.Tensor, batch: tf.Tensor) -> None:
    """Correct a running variance that Keras just updated: torch counts the sample variance, n/(n - 1) of Keras's.

    Args:
        layer: whose ``moving_variance`` is ``momentum * old + (1 - momentum) * biased``.
        old: running variance before the step, (C,).
        batch: images in this step.
    """
    _, height, width, _ = layer.input.shape
    n = tf.cast(tf.maximum(batch * height * width, 2), old.dtype)
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
    key = (part, trainable, batch_norm_trains, recipe)
    trainer = network.trainers.get(key) or Trainer(network, part, trainable, batch_norm_trains, recipe)
    network.trainers[key] = trainer
    _forget(trainer.optimizer)
    losses = []
    for batch in batches:
        losses.append(trainer.step(batch))
        on_step()
    return [float(loss) for loss in losses]


def _forget(optimizer: keras.optimizers.Optimizer) -> None:
    """Forget all steps."""
    for variable in optimizer.variables:
        variable.assign(tf.zeros_like(variable))

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

from collections.abc import Callable, Iterable, Mapping

import keras
import tensorflow as tf
from keras import layers

from transfer_parity.shared.contract.batches import Batch
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.wing import Array, Part
from transfer_parity.tf_impl.internals import layers_of
from transfer_parity.tf_impl.network import Network
from transfer_parity.tf_impl.objectives import build_objective
from transfer_parity.tf_impl.optimizers import build_optimizer
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
        everything = list(parameters(network))
        chosen = [each for each in everything if each.name in trainable]
        # In Keras a normalisation layer learns its statistics if it is called for training and is itself trainable.
        learning = everything if "frozen_batch_norm" in self.switches else chosen if self.batch_norm_trains else ()
        self.normalisations = list(
            dict.fromkeys(each.layer for each in learning if isinstance(each.layer, layers.BatchNormalization))
        )
        # What trains of the others is trainable without learning: called for inference it keeps its statistics. If it
        # were not, which is how Keras's guides freeze it, scale and shift would be no trainable variables (norm_only).
        scaled = () if "norm_only_frozen" in self.switches else {each.layer for each in chosen}
        for layer in layers_of(network.models["all"]):
            if isinstance(layer, layers.BatchNormalization | layers.LayerNormalization):
                # differs: frozen_batch_norm, norm_only_frozen
                layer.trainable = layer in self.normalisations or layer in scaled
        self.parameters = [each for each in chosen if each.variable.trainable]
        self.variables = [each.variable for each in self.parameters]
        self.factors = [recipe.rate_factor(each.name) for each in self.parameters]
        self.optimizer = build_optimizer(recipe, self.variables, self.switches, self.factors)
        self.objective = build_objective(network, recipe, self.parameters, self._forward)
        self._compiled: Callable[..., tf.Tensor] | None = None

    def step(self, batch: Batch) -> tf.Tensor:
        """One optimizer step. Returns the loss before it, as a scalar tensor."""
        if self._compiled is None:
            dtype = keras.config.floatx()
            streams = {name: tf.TensorSpec((None, *a.shape[1:]), a.dtype) for name, a in batch.streams.items()}
            self._compiled = tf.function(self._step, input_signature=[streams, tf.TensorSpec((), dtype)])
        rate = tf.constant(batch.learning_rate, keras.config.floatx())
        return self._compiled(self.streams(batch), rate)

    def streams(self, batch: Batch) -> dict[str, tf.Tensor]:
        """All that a step is given, as tensors."""
        return {name: tf.convert_to_tensor(array) for name, array in batch.streams.items()}

    def _step(self, streams: Mapping[str, tf.Tensor], learning_rate: tf.Tensor) -> tf.Tensor:
        loss, gradients = self.differentiate(streams)
        self.update(gradients, learning_rate)
        self.objective.after_step()
        return loss

    def _forward(self, inputs: tf.Tensor) -> tf.Tensor:
        return self.model(self.network.prepare(self.part, inputs), training=self.batch_norm_trains)

    def differentiate(self, streams: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Loss of a batch, and its gradients by each of ``variables``; running statistics learn on the way."""
        old_variances = [tf.identity(layer.moving_variance) for layer in self.normalisations]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in self.variables])
            loss = self.objective.loss(streams)
        if "bn_running_variance" not in self.switches:
            for layer, old in zip(self.normalisations, old_variances, strict=True):
                _count_sample_variance(layer, old, tf.shape(streams["inputs"])[0])
        return loss, tape.gradient(loss, [variable.value for variable in self.variables])

    def update(self, gradients: list[tf.Tensor], learning_rate: tf.Tensor | float) -> None:
        """One step of the optimizer along the gradients."""
        decay = self.recipe.weight_decay
        if decay and (self.recipe.optimizer == "adamw" or "weight_decay" in self.switches):
            for variable, factor in zip(self.variables, self.factors, strict=True):
                variable.assign_sub(variable * (learning_rate * factor * decay))
        elif decay:
            pairs = zip(gradients, self.variables, strict=True)
            gradients = [gradient + decay * variable for gradient, variable in pairs]  # differs: weight_decay
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
    layer.moving_variance.assign(kept + (layer.moving_variance - kept) * n / (n - 1))  # differs: bn_running_variance


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
    network.objective = trainer.objective
    trainer.objective.begin()
    losses = []
    for batch in batches:
        losses.append(trainer.step(batch))
        on_step()
    return [float(loss) for loss in losses]


def state(network: Network) -> dict[str, Array]:
    """What the objective of the latest training keeps from step to step, by neutral name, in torch's layout."""
    return network.objective.state() if network.objective is not None else {}


def _forget(optimizer: keras.optimizers.Optimizer) -> None:
    """Forget all steps."""
    for variable in optimizer.variables:
        variable.assign(tf.zeros_like(variable))

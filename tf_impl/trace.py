"""Activations, gradients and optimizer state for the parity ladder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import keras
import tensorflow as tf

from transfer_parity.shared.checkpoints.layout import LAYER_SCALE
from transfer_parity.shared.contract.batches import Batch
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.wing import Array, Differentiated, Part, State
from transfer_parity.shared.zoo.pair import HEAD
from transfer_parity.tf_impl import internals
from transfer_parity.tf_impl.network import Network
from transfer_parity.tf_impl.training import Trainer
from transfer_parity.tf_impl.weights import parameters


def names(network: Network) -> dict[str, str]:
    """The framework's own name of every layer and parameter, by neutral name."""
    found: dict[str, str] = {}
    for each in parameters(network):
        found[each.name] = each.variable.path
        if each.kind != LAYER_SCALE:
            found[each.name.rpartition(".")[0]] = each.layer.name
    return found


def preprocess(network: Network, images: Array) -> Array:
    """uint8 images (b, S, S, 3) as the network gets them, (b, S, S, 3)."""
    return network.prepare("all", tf.convert_to_tensor(images)).numpy()


def _watched(network: Network, inputs: tf.Tensor, training: bool) -> dict[str, Array]:
    """What every layer that holds parameters puts out, by neutral name."""
    seen: dict[str, Array] = {}
    parts: tuple[Part, ...] = ("all",) if network.spec.head == "imagenet" else ("features", "head")
    for part in parts:
        model = network.models[part]
        watched = {
            each.name.rpartition(".")[0]: each.layer
            for each in parameters(network)
            if each.kind != LAYER_SCALE and each.name.startswith(HEAD) == (part == "head")
        }
        probe = keras.Model(model.inputs, [[layer.output for layer in watched.values()], model.output])
        outputs, inputs = probe(inputs, training=training)
        for name, output in zip(watched, outputs, strict=True):
            array = output.numpy()
            # What stands behind the pooling is (b, C), also where Keras has 1x1 convolutions.
            seen[name] = array.reshape(len(array), -1) if network.spec.in_classifier(f"{name}.weight") else array
    return seen


def activations(network: Network, images: Array) -> dict[str, Array]:
    """Outputs of every layer that holds parameters, in inference mode."""
    return _watched(network, network.prepare("all", tf.convert_to_tensor(images)), training=False)


def differentiate(network: Network, recipe: Recipe, batch: Batch, batch_norm_trains: bool) -> Differentiated:
    """One forward and backward pass with all parameters trainable. Not compiled: it would take longer than the pass."""
    everything = frozenset(each.name for each in parameters(network))
    trainer = Trainer(network, "all", everything, batch_norm_trains, recipe)
    inputs = tf.convert_to_tensor(batch.inputs)
    loss, gradients = trainer.differentiate(inputs, tf.convert_to_tensor(batch.labels))
    named = {
        each.name: each.to_neutral(gradient.numpy())
        for each, gradient in zip(trainer.parameters, gradients, strict=True)
    }
    before = [tf.identity(variable) for variable in network.models["all"].weights]
    seen = _watched(network, network.prepare("all", inputs), trainer.batch_norm_trains)
    # The second forward pass has taught the running statistics once more.
    for variable, value in zip(network.models["all"].weights, before, strict=True):
        variable.assign(value)
    return Differentiated(seen, float(loss), named)


def optimize(
    network: Network,
    recipe: Recipe,
    gradients: Iterable[Mapping[str, Array]],
    rates: Sequence[float],
    sample: Callable[[Array], Array],
) -> Iterator[list[State]]:
    """Steps of the recipe's optimizer from a fresh state along given gradients."""
    everything = frozenset(each.name for each in parameters(network))
    trainer = Trainer(network, "all", everything, False, recipe)
    states = {**internals.states(trainer.optimizer), "parameter": trainer.variables}
    for given, rate in zip(gradients, rates, strict=True):
        trainer.update([tf.constant(each.from_neutral(given[each.name])) for each in trainer.parameters], rate)
        yield [
            State(what, each.name, sample(each.to_neutral(variable.numpy())))
            for what, variables in states.items()
            for each, variable in zip(trainer.parameters, variables, strict=True)
        ]

"""Activations, gradients and optimizer state for the parity ladder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import keras
import tensorflow as tf
from keras import layers

from transfer_parity.shared.checkpoints.layout import LAYER_SCALE
from transfer_parity.shared.contract.batches import Batch
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.wing import Array, Part
from transfer_parity.shared.contract.wing_values import Differentiated, State
from transfer_parity.shared.runtime.entries import BEHIND, INPUT, Entries, Value, flattened
from transfer_parity.tf_impl import internals
from transfer_parity.tf_impl.episodes import Learner
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


#: What moves values without changing them, or (dropout) is none of the function's.
_MOVES = (layers.ZeroPadding2D, layers.Reshape, layers.Flatten, layers.Dropout)
_POOLS = (
    *(layers.MaxPooling2D, layers.AveragePooling2D),
    *(layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D),
)


def structure(network: Network) -> list[str]:
    """Names of all that ``activations`` finds, in the order of the forward pass."""
    return [name for part in _parts(network) for name in _entries(network, part)]


def _parts(network: Network) -> tuple[Part, ...]:
    return ("all",) if network.spec.head == "imagenet" else ("features", "head")


def _layers(network: Network) -> dict[keras.Layer, str]:
    """Neutral names of what holds parameters."""
    return {
        each.layer: each.name if each.kind == LAYER_SCALE else each.name.rpartition(".")[0]
        for each in parameters(network)
    }


def _entries(network: Network, part: Part) -> dict[str, keras.KerasTensor]:
    """Every layer and entry of a part by name, in the order of the forward pass; see ``shared/runtime/entries.py``."""
    model, named, entries = network.models[part], _layers(network), Entries()
    values: dict[int, Value] = {id(tensor): INPUT for tensor in model.inputs}
    found: dict[str, keras.KerasTensor] = {}
    for node in internals.nodes_of(model):
        inputs = [values[id(tensor)] for tensor in node.input_tensors]
        operation = node.operation
        if not inputs:
            continue
        if operation in named:
            value = entries.layer(named[operation], inputs)
        elif isinstance(operation, _POOLS):
            value = entries.pooling(*inputs)
        elif isinstance(operation, layers.Concatenate):
            value = entries.concatenation(inputs)
        elif isinstance(operation, _MOVES) or getattr(operation, "activation", None) is keras.activations.linear:
            values |= {id(tensor): inputs[0] for tensor in node.outputs}
            continue
        else:
            value = entries.function(inputs, multiplies=isinstance(operation, layers.Multiply))
        (output,) = node.outputs
        values[id(output)] = value
        found[value.entry] = output
    return found


def _watched(network: Network, inputs: tf.Tensor, training: bool) -> dict[str, Array]:
    """What every layer and entry puts out, by name."""
    seen: dict[str, Array] = {}
    for part in _parts(network):
        model = network.models[part]
        watched = _entries(network, part)
        probe = keras.Model(model.inputs, [list(watched.values()), model.output])
        outputs, inputs = probe(inputs, training=training)
        for name, output in zip(watched, outputs, strict=True):
            array = output.numpy()
            # What stands behind the pooling is (b, C), also where Keras has 1x1 convolutions.
            behind = network.spec.in_classifier(f"{name}.") or BEHIND in name
            seen[name] = flattened(array) if behind else array
    return seen


def activations(network: Network, images: Array) -> dict[str, Array]:
    """Outputs of every layer and entry, in inference mode, in the order of the forward pass."""
    return _watched(network, network.prepare("all", tf.convert_to_tensor(images)), training=False)


def differentiate(network: Network, recipe: Recipe, batch: Batch, batch_norm_trains: bool) -> Differentiated:
    """One forward and backward pass with all parameters trainable. Not compiled: it would take longer than the pass."""
    everything = frozenset(each.name for each in parameters(network))
    trainer = Trainer(network, "all", everything, batch_norm_trains, recipe)
    streams = trainer.streams(batch)
    loss, gradients = trainer.differentiate(streams)
    named = {
        each.name: each.to_neutral(gradient.numpy())
        for each, gradient in zip(trainer.parameters, gradients, strict=True)
    }
    before = [tf.identity(variable) for variable in network.models["all"].weights]
    seen = _watched(network, network.prepare("all", streams["inputs"]), trainer.batch_norm_trains)
    # The second forward pass has taught the running statistics once more.
    for variable, value in zip(network.models["all"].weights, before, strict=True):
        variable.assign(value)
    return Differentiated(seen, float(loss), named)


def gradients(
    network: Network,
    part: Part,
    trainable: frozenset[str],
    batch_norm_trains: bool,
    recipe: Recipe,
    batch: Batch,
) -> tuple[float, dict[str, Array]]:
    """Loss of a batch and its gradients by the named parameters, as a step of training has them."""
    trainer = Trainer(network, part, trainable, batch_norm_trains, recipe)
    loss, found = trainer.differentiate(trainer.streams(batch))
    named = {
        each.name: each.to_neutral(gradient.numpy()) for each, gradient in zip(trainer.parameters, found, strict=True)
    }
    return float(loss), named


def optimize_learner(
    learner: Learner,
    gradients: Iterable[Mapping[str, Array]],
    rates: Sequence[float],
    sample: Callable[[Array], Array],
) -> Iterator[list[State]]:
    """Steps of a learner's optimizer from a fresh state along given gradients."""
    states = {**internals.states(learner.optimizer), "parameter": list(learner.variables.values())}
    for given, rate in zip(gradients, rates, strict=True):
        learner.update(given, rate)
        yield [
            State(what, name, sample(variable.numpy()))
            for what, variables in states.items()
            for name, variable in zip(learner.variables, variables, strict=True)
        ]


def optimize(
    network: Network,
    recipe: Recipe,
    gradients: Iterable[Mapping[str, Array]],
    rates: Sequence[float],
    sample: Callable[[Array], Array],
    trainable: frozenset[str] | None = None,
) -> Iterator[list[State]]:
    """Steps of the recipe's optimizer from a fresh state along given gradients."""
    everything = frozenset(each.name for each in parameters(network))
    trainer = Trainer(network, "all", everything if trainable is None else trainable, False, recipe)
    states = {**internals.states(trainer.optimizer), "parameter": trainer.variables}
    for given, rate in zip(gradients, rates, strict=True):
        trainer.update([tf.constant(each.from_neutral(given[each.name])) for each in trainer.parameters], rate)
        yield [
            State(what, each.name, sample(each.to_neutral(variable.numpy())))
            for what, variables in states.items()
            for each, variable in zip(trainer.parameters, variables, strict=True)
        ]

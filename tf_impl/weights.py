"""Neutral checkpoint to Keras variables, and back."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Literal

import keras
from keras import layers

from transfer_parity.shared.checkpoints.layout import from_keras_layout, kind_of, neutral_name, to_keras_layout
from transfer_parity.shared.contract.spec import described
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.data.download import impatient
from transfer_parity.shared.zoo.pair import HEAD, Pair
from transfer_parity.tf_impl import backbone
from transfer_parity.tf_impl.network import Network


def parameters(model: keras.Model, pair: Pair) -> Iterator[tuple[str, str, keras.Layer, keras.Variable]]:
    """Every variable of a model: its neutral name, Keras's word for its kind, its layer and itself.

    Raises:
        KeyError: a layer holds variables but has no neutral name.
    """
    for layer in model._flatten_layers(include_self=False, recursive=True):
        # A Normalization holds constants of the preprocessing, in the stock models that preprocess themselves.
        if isinstance(layer, keras.Model | layers.Normalization):
            continue
        # Not ``variables``, which also has the state of a dropout's random generator.
        for variable in layer.weights:
            module = layer.name if layer.name.startswith(HEAD) else pair.neutral_module(layer.name)
            kind = kind_of(module or "", variable.name)
            name = neutral_name(module or "", kind)
            if not module or not name:
                raise KeyError(f"variable {variable.path} has no neutral name")
            yield name, kind, layer, variable


def shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """Neutral name and shape (torch's layout) of every parameter and running statistic."""
    return {name: tuple(array.shape) for name, array in dump(network).items()}


def dump(network: Network, names: Collection[str] | None = None) -> dict[str, Array]:
    """Parameters and running statistics by neutral name, in torch's layout: all, or the named ones."""
    return _dump(network.models["all"], network.spec.pair, network.spec.switches, names)


def _dump(
    model: keras.Model,
    pair: Pair,
    switches: frozenset[str] = frozenset(),
    names: Collection[str] | None = None,
) -> dict[str, Array]:
    return {
        name: to_neutral(name, kind, layer, variable.numpy(), pair, switches)
        for name, kind, layer, variable in parameters(model, pair)
        if names is None or name in names
    }


def load(network: Network, arrays: Mapping[str, Array]) -> None:
    """Set the named parameters; all others stay as they are."""
    spec = network.spec
    for name, kind, _, variable in parameters(network.models["all"], spec.pair):
        if name in arrays:
            array = from_neutral(name, kind, arrays[name], variable, spec.pair, spec.switches)
            variable.assign(array.astype(variable.dtype))


def to_neutral(
    name: str, kind: str, layer: keras.Layer, array: Array, pair: Pair, switches: frozenset[str] = frozenset()
) -> Array:
    """An array of a variable's shape (its value, gradient or optimizer state) in torch's layout."""
    array = from_keras_layout(kind, array, isinstance(layer, layers.DepthwiseConv2D))
    if name == pair.flattened and "flatten_order" in switches:
        return array
    return with_torchvision_classifier(name, array, pair)


def from_neutral(
    name: str,
    kind: str,
    array: Array,
    variable: keras.Variable,
    pair: Pair,
    switches: frozenset[str] = frozenset(),
) -> Array:
    """The inverse of ``to_neutral``, in the variable's shape."""
    if name == pair.flattened and "flatten_order" not in switches:
        array = _exchange(array, pair, "CHW")
    return to_keras_layout(kind, array, variable.shape)


def save(network: Network, path: Path, metadata: Mapping[str, str]) -> Path:
    """Keep the network as a ``.keras`` file of stock layers; what it is stands beside it in a ``.json`` file."""
    target = path.with_suffix(".keras")
    network.models["all"].save(target)
    path.with_suffix(".json").write_text(json.dumps(dict(metadata), indent=1), encoding="utf-8")
    return target


def download(pair: Pair) -> dict[str, Array]:
    """Keras's own ImageNet weights with their classifier, by neutral name.

    Raises:
        OSError: they cannot be fetched.
    """
    try:
        with impatient():
            model = backbone.stock(pair, pair.image_size, classifier=True, imagenet=True)
    except Exception as error:
        # keras.utils.get_file raises a plain Exception for whatever goes wrong on the way.
        raise OSError(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    return stock_arrays(model, pair)


def stock_arrays(model: keras.Model, pair: Pair) -> dict[str, Array]:
    """The arrays of a stock model, by neutral name, with its classifier as torchvision builds it."""
    return _dump(model, pair)


def with_torchvision_classifier(name: str, array: Array, pair: Pair) -> Array:
    """Keras flattens (H, W, C), torch (C, H, W): the inputs of VGG's first dense layer change places.

    MobileNetV3's classifier is made of 1x1 convolutions in Keras, of dense layers in torchvision.
    """
    if name == pair.flattened and array.ndim == 2 and array.shape[1] == pair.channels * _side(array, pair) ** 2:
        return _exchange(array, pair, "HWC")
    # A flattened map that is no square is somebody's own layer of the same name.
    return array[:, :, 0, 0] if pair.in_classifier(name) and array.ndim == 4 else array


def _side(array: Array, pair: Pair) -> int:
    """Of the feature map in front of a dense weight (out, in), if it is a square."""
    return round((array.shape[1] / pair.channels) ** 0.5)


def _exchange(array: Array, pair: Pair, given: Literal["HWC", "CHW"]) -> Array:
    """A dense weight (out, in) whose inputs are a feature map flattened in the given order, in the other order."""
    outputs, inputs = array.shape
    side = _side(array, pair)
    shape = (side, side, pair.channels) if given == "HWC" else (pair.channels, side, side)
    axes = (0, 3, 1, 2) if given == "HWC" else (0, 2, 3, 1)
    return array.reshape(outputs, *shape).transpose(axes).reshape(outputs, inputs)


def restore(path: Path) -> tuple[Network, list[str]]:
    """A network as ``save`` kept it, and the names of its classes."""
    spec, classes = described(json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
    network = Network(spec)
    network.models["all"].load_weights(path)
    return network, classes

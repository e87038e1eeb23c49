"""Neutral checkpoint to Keras variables, and back."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import layers

from transfer_parity.shared.checkpoints import flattening, kept_model
from transfer_parity.shared.checkpoints.layout import (
    classifier_from_keras,
    from_keras_layout,
    kind_of,
    neutral_name,
    to_keras_layout,
)
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.data.offered import downloading
from transfer_parity.shared.zoo.pair import HEAD, Pair
from transfer_parity.tf_impl import backbone, formats
from transfer_parity.tf_impl.internals import layers_of
from transfer_parity.tf_impl.network import Network


@dataclass(frozen=True)
class Parameter:
    """A parameter or running statistic of a network.

    Attributes:
        name: its neutral name.
        variable: itself.
        pair: the architecture.
        switches: of the network.
        kind: Keras's word for what it is.
        layer: whose it is.
    """

    name: str
    variable: keras.Variable
    pair: Pair
    switches: frozenset[str]
    kind: str
    layer: keras.Layer

    def to_neutral(self, array: Array) -> Array:
        """An array of the variable's shape (its value, gradient or optimizer state) in torch's layout."""
        array = from_keras_layout(self.kind, array, isinstance(self.layer, layers.DepthwiseConv2D))
        if self.name == self.pair.flattened and "flatten_order" in self.switches:
            return array
        return classifier_from_keras(self.name, array, self.pair)

    def from_neutral(self, array: Array) -> Array:
        """The inverse of ``to_neutral``, in the variable's shape and type."""
        if self.name == self.pair.flattened and "flatten_order" not in self.switches:
            array = flattening.to_keras_order(array, self.pair)
        return to_keras_layout(self.kind, array, self.variable.shape).astype(self.variable.dtype)


def parameters(network: Network) -> Iterator[Parameter]:
    """Every parameter and running statistic of a network."""
    return _parameters(network.models["all"], network.spec.pair, network.spec.switches)


def stock_parameters(model: keras.Model, pair: Pair) -> Iterator[Parameter]:
    """Every parameter and running statistic of a stock model."""
    return _parameters(model, pair, frozenset())


def stock_arrays(model: keras.Model, pair: Pair) -> dict[str, Array]:
    """The arrays of a stock model by neutral name, in torch's layout."""
    return {each.name: each.to_neutral(each.variable.numpy()) for each in stock_parameters(model, pair)}


def shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """Neutral name and shape (torch's layout) of every parameter and running statistic."""
    return {name: tuple(array.shape) for name, array in dump(network).items()}


def dump(network: Network, names: Collection[str] | None = None) -> dict[str, Array]:
    """Parameters and running statistics by neutral name, in torch's layout: all, or the named ones."""
    return {
        each.name: each.to_neutral(each.variable.numpy())
        for each in parameters(network)
        if names is None or each.name in names
    }


def load(network: Network, arrays: Mapping[str, Array]) -> None:
    """Set the named parameters; all others stay as they are."""
    for each in parameters(network):
        if each.name in arrays:
            each.variable.assign(each.from_neutral(arrays[each.name]))


def download(pair: Pair) -> dict[str, Array]:
    """Keras's own ImageNet weights with their classifier, by neutral name.

    Raises:
        OSError: they cannot be fetched.
    """
    with downloading():
        model = backbone.stock(pair, pair.image_size, classifier=True, imagenet=True)
    # As they were trained, whatever the recipe's type.
    return {name: array.astype(np.float32) for name, array in stock_arrays(model, pair).items()}


def save(network: Network, path: Path, metadata: Mapping[str, str]) -> Path:
    """Keep the network as a ``.keras`` file of stock layers, in which also stands what it is."""
    target = path.with_suffix(".keras")
    formats.write(target, network.models["all"], metadata)
    return target


def restore(path: Path) -> tuple[Network, list[str]]:
    """A network as ``save`` kept it, and the names of its classes.

    Raises:
        BadInput: the file is damaged, or not that of a kept model.
    """
    found = kept_model.required(path)
    network = Network(found.spec)
    try:
        network.models["all"].load_weights(path)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise BadInput(f"{path} does not hold the model that it describes ({reason}); use another copy.") from None
    return network, list(found.classes)


def _parameters(model: keras.Model, pair: Pair, switches: frozenset[str]) -> Iterator[Parameter]:
    """Every variable of a model but those that are no parameters.

    Raises:
        KeyError: a layer holds variables but has no neutral name.
    """
    for layer in layers_of(model):
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
            yield Parameter(name, variable, pair, switches, kind, layer)

"""Neutral checkpoint to torch parameters, and back."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from transfer_parity.shared.checkpoints import flattening, kept_model, neutral
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.data.offered import downloading
from transfer_parity.shared.zoo.pair import HEAD, Pair
from transfer_parity.torch_impl import backbone, formats
from transfer_parity.torch_impl.network import Network


@dataclass(frozen=True)
class Parameter:
    """A parameter or running statistic of a network.

    Attributes:
        name: its neutral name.
        variable: itself.
        pair: the architecture.
        switches: of the network.
    """

    name: str
    variable: Tensor
    pair: Pair
    switches: frozenset[str]

    def to_neutral(self, array: Array) -> Array:
        """An array of the variable's shape (its value, gradient or optimizer state) in torch's layout."""
        return array

    def from_neutral(self, array: Array) -> Array:
        """An array in torch's layout, as it is to be loaded.

        Switched on, the inputs of VGG's first dense layer change places, and ``to_neutral`` does not bring them back.
        """
        if self.name == self.pair.flattened and "flatten_order" in self.switches:
            return np.ascontiguousarray(flattening.to_keras_order(array, self.pair))
        return array


def parameters(network: Network) -> Iterator[Parameter]:
    """Every parameter and running statistic of a network."""
    for prefix, module in (("", network.features), (HEAD, network.head)):
        for name, variable in _variables(module):
            neutral = prefix + name.removeprefix("0.model.")
            yield Parameter(neutral, variable, network.spec.pair, network.spec.switches)


def stock_parameters(model: nn.Module, pair: Pair) -> Iterator[Parameter]:
    """Every parameter and running statistic of a stock model."""
    for name, variable in _variables(model):
        yield Parameter(name, variable, pair, frozenset())


def stock_arrays(model: nn.Module, pair: Pair) -> dict[str, Array]:
    """The arrays of a stock model by neutral name, in torch's layout."""
    return {each.name: each.to_neutral(_numpy(each.variable)) for each in stock_parameters(model, pair)}


def shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """Neutral name and shape (torch's layout) of every parameter and running statistic."""
    return {each.name: tuple(each.variable.shape) for each in parameters(network)}


def dump(network: Network, names: Collection[str] | None = None) -> dict[str, Array]:
    """Parameters and running statistics by neutral name, in torch's layout: all, or the named ones."""
    return {
        each.name: each.to_neutral(_numpy(each.variable))
        for each in parameters(network)
        if names is None or each.name in names
    }


def load(network: Network, arrays: Mapping[str, Array]) -> None:
    """Set the named parameters; all others stay as they are."""
    with torch.no_grad():
        for each in parameters(network):
            if each.name in arrays:
                each.variable.copy_(torch.from_numpy(each.from_neutral(arrays[each.name])))


def download(pair: Pair) -> dict[str, Array]:
    """torchvision's own ImageNet weights with their classifier, by neutral name.

    Raises:
        OSError: they cannot be fetched.
    """
    with downloading():
        model = backbone.stock(pair, pair.image_size, classifier=True, imagenet=True)
    # As they were trained, whatever the recipe's type.
    return {name: array.astype(np.float32) for name, array in stock_arrays(model, pair).items()}


def save(network: Network, path: Path, metadata: Mapping[str, str]) -> Path:
    """Keep the network as a ``.safetensors`` file of its parameters, in which also stands what it is."""
    target = path.with_suffix(".safetensors")
    formats.write(target, {each.name: each.variable for each in parameters(network)}, metadata)
    return target


def restore(path: Path) -> tuple[Network, list[str]]:
    """A network as ``save`` kept it, and the names of its classes.

    Raises:
        BadInput: the file is damaged, or not that of a kept model.
    """
    found = kept_model.required(path)
    network = Network(found.spec)
    with formats.opened(path) as file:
        arrays = {name: tensor.numpy() for name, tensor in file.state.items()}
    neutral.account_for(shapes(network), arrays, str(path))
    load(network, arrays)
    return network, list(found.classes)


def _variables(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What a module holds, under torch's names."""
    for name, variable in module.state_dict(keep_vars=True).items():
        # Keras does not count the batches that a normalisation has seen, and nothing here depends on it.
        if not name.endswith("num_batches_tracked"):
            yield name, variable


def _numpy(variable: Tensor) -> Array:
    return variable.detach().cpu().numpy()

"""Neutral checkpoint to torch parameters, and back."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torchvision
from torch import Tensor

from transfer_parity.shared.contract.spec import ModelSpec, described
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.data.download import impatient
from transfer_parity.shared.zoo.pair import HEAD, Pair
from transfer_parity.torch_impl import files
from transfer_parity.torch_impl.network import Network


def parameters(network: Network) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and running statistic with its neutral name."""
    for prefix, module in (("", network.features), (HEAD, network.head)):
        for name, tensor in module.state_dict(keep_vars=True).items():
            # Keras does not count the batches that a normalisation has seen, and nothing here depends on it.
            if not name.endswith("num_batches_tracked"):
                yield prefix + name.removeprefix("0.model."), tensor


def shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """Neutral name and shape (torch's layout) of every parameter and running statistic."""
    return {name: tuple(tensor.shape) for name, tensor in parameters(network)}


def dump(network: Network, names: Collection[str] | None = None) -> dict[str, Array]:
    """Parameters and running statistics by neutral name, in torch's layout: all, or the named ones."""
    return {
        name: tensor.detach().cpu().numpy() for name, tensor in parameters(network) if names is None or name in names
    }


def load(network: Network, arrays: Mapping[str, Array]) -> None:
    """Set the named parameters; all others stay as they are."""
    with torch.no_grad():
        for name, tensor in parameters(network):
            if name in arrays:
                tensor.copy_(torch.from_numpy(_flattened(name, arrays[name], network.spec)))


def _flattened(name: str, array: Array, spec: ModelSpec) -> Array:
    """Inputs of VGG's first dense layer in the order of Keras's Flatten, (H, W, C), if that is switched on."""
    if "flatten_order" not in spec.switches or name != spec.pair.flattened:
        return array
    side = spec.image_size // 32
    kernel = array.reshape(len(array), spec.pair.channels, side, side)
    return np.ascontiguousarray(kernel.transpose(0, 2, 3, 1).reshape(array.shape))


def save(network: Network, path: Path, metadata: Mapping[str, str]) -> Path:
    """Keep the network as a state_dict in safetensors; what it is stands in the file's header."""
    target = path.with_suffix(".safetensors")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in parameters(network)}
    safetensors.torch.save_file(tensors, target, metadata=dict(metadata))
    return target


def download(pair: Pair) -> dict[str, Array]:
    """torchvision's own ImageNet weights (the first version it published) with their classifier, by neutral name.

    Raises:
        OSError: they cannot be fetched.
    """
    chosen = torchvision.models.get_model_weights(pair.torchvision_name)["IMAGENET1K_V1"]
    try:
        with impatient():
            return _arrays(chosen.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except Exception as error:
        # A server may be out of reach, hang up half-way, or send something else; torch.hub tells each in its own way.
        raise OSError(str(error).splitlines()[0] if str(error) else type(error).__name__) from error


def _arrays(state: Mapping[str, Tensor]) -> dict[str, Array]:
    """Plain arrays without the counters and without the auxiliary head that only torchvision's InceptionV3 has."""
    return {
        files.neutral_name(name): tensor.detach().float().numpy()
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked") and not name.startswith("AuxLogits.")
    }


def restore(path: Path) -> tuple[Network, list[str]]:
    """A network as ``save`` kept it, and the names of its classes."""
    with safetensors.safe_open(path, framework="pt") as file:
        spec, classes = described(file.metadata())
    network = Network(spec, torch.device("cpu"))
    load(network, {name: tensor.numpy() for name, tensor in safetensors.torch.load_file(path).items()})
    return network, classes

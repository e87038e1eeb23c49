"""Neutral checkpoint to torch parameters, and back."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import torchvision
from torch import Tensor

from shared import zoo
from shared.contract import Array, ModelSpec, described
from shared.errors import BadInput
from shared.fetch import impatient
from torch_impl.network import Network


def parameters(network: Network) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and running statistic with its neutral name."""
    for prefix, module in (("", network.features), (zoo.HEAD, network.head)):
        for name, tensor in module.state_dict(keep_vars=True).items():
            # Keras does not count the batches that a normalisation has seen, and nothing here depends on it.
            if not name.endswith("num_batches_tracked"):
                yield prefix + name.removeprefix("0.model."), tensor


def shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """Neutral name and shape (torch's layout) of every parameter and running statistic."""
    return {name: tuple(tensor.shape) for name, tensor in parameters(network)}


def dump(network: Network) -> dict[str, Array]:
    """All parameters and running statistics by neutral name, in torch's layout."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in parameters(network)}


def load(network: Network, arrays: Mapping[str, Array]) -> None:
    """Set the named parameters; all others stay as they are."""
    spec = network.spec
    with torch.no_grad():
        for name, tensor in parameters(network):
            if name in arrays and not ("initialisation" in spec.switches and spec.in_classifier(name)):
                tensor.copy_(torch.from_numpy(_flattened(name, arrays[name], spec)))


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


def download(pair: zoo.Pair) -> dict[str, Array]:
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


#: torchvision's DenseNet files are older than its names: ``denselayer1.norm.1`` is ``denselayer1.norm1`` today.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")


def _arrays(state: Mapping[str, Tensor]) -> dict[str, Array]:
    """Plain arrays without the counters and without the auxiliary head that only torchvision's InceptionV3 has."""
    arrays = {}
    for name, tensor in state.items():
        # nn.DataParallel puts "module." in front of every name.
        name = _OLD_DENSENET.sub(r"\1\2.", name.removeprefix("module."))
        if not name.endswith("num_batches_tracked") and not name.startswith("AuxLogits."):
            tensor = tensor.detach()
            # NumPy has no bfloat16.
            arrays[name] = (tensor if tensor.dtype == torch.float64 else tensor.float()).numpy()
    return arrays


def read_checkpoint(path: Path, pair: zoo.Pair) -> tuple[dict[str, Array], float | None]:
    """The arrays of a torchvision state_dict, by neutral name. Safetensors, or .pth read without running code from it.

    Returns:
        The arrays, and None: a state_dict does not say which epsilon its normalisation had.

    Raises:
        BadInput: the file is damaged, or holds anything but a state_dict.
    """
    try:
        if path.suffix.lower() == ".safetensors":
            state: Any = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, safetensors.SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(f"{path} is not a state_dict that can be read safely ({reason}); use another file.") from None
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise BadInput(f"{path} holds something else than a state_dict of tensors; use another file.")
    return _arrays(state), None


def restore(path: Path) -> tuple[Network, list[str]]:
    """A network as ``save`` kept it, and the names of its classes."""
    with safetensors.safe_open(path, framework="pt") as file:
        spec, classes = described(file.metadata())
    network = Network(spec, torch.device("cpu"))
    load(network, {name: tensor.numpy() for name, tensor in safetensors.torch.load_file(path).items()})
    return network, classes

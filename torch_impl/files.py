"""Files in torch's own formats: state_dicts as torchvision's models have them. Reading never runs code from a file."""

from __future__ import annotations

import collections
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from pydantic import ValidationError
from torch import Tensor

from transfer_parity.shared.checkpoints import bias_folding, neutral
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.spec import ModelSpec
from transfer_parity.shared.contract.wing import Array, ForeignCheckpoint
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.zoo.pair import Pair
from transfer_parity.torch_impl import backbone

#: torchvision's DenseNet files are older than its names: ``denselayer1.norm.1`` is ``denselayer1.norm1`` today.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
#: Keys under which training scripts keep the state_dict beside an optimizer's.
_WRAPPERS = ("state_dict", "model_state_dict", "model")


def read_checkpoint(path: Path, pair: Pair) -> ForeignCheckpoint:
    """The arrays of a state_dict by neutral name: neutral or plain safetensors, ``.pth`` or ``.pt``.

    Raises:
        BadInput: the file is damaged, or holds anything but a state_dict.
    """
    record: dict[str, str] = {}
    try:
        if path.suffix.lower() == ".safetensors":
            with safetensors.safe_open(path, framework="pt") as file:
                record = file.metadata() or {}
            state: Any = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Whatever the bytes of a broken pickle happen to mean. weights_only refuses all code, with an UnpicklingError.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(f"{path} is not a state_dict that can be read safely ({reason}); use another file.") from None
    for key in _WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise BadInput(f"{path} holds something else than a state_dict of tensors; use another file.")
    metadata = _metadata(record, getattr(state, neutral.RECORD, None), path)
    for key, tensor in state.items():
        # Strides of zero make a few bytes into any size.
        if tensor.layout == torch.strided and tensor.nbytes > tensor.untyped_storage().nbytes():
            raise BadInput(f"{path}: {key} claims {tensor.nbytes} bytes and holds fewer; use another file.")
    arrays, left_over = _sorted(state, pair)
    return ForeignCheckpoint(arrays, metadata, left_over)


def write_checkpoint(path: Path, arrays: Mapping[str, Array], metadata: Metadata, spec: ModelSpec) -> None:
    """Write the state_dict of the plain torchvision class; what it was made from stands in an attribute of it.

    Args:
        path: ends in ``.pth`` or ``.pt``.
        arrays: by neutral name; biases and scales that the plain class lacks or wants are folded or added.
        metadata: of the arrays.
        spec: of the model that they fit.
    """
    plain, _ = bias_folding.conform(arrays, spec.pair, "torchvision", str(path))
    state: collections.OrderedDict[str, Tensor] = collections.OrderedDict()
    model = backbone.stock(spec.pair, classifier=spec.head == "imagenet", classes=spec.classes)
    for name, tensor in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros_like(tensor)
        else:
            state[name] = torch.from_numpy(np.ascontiguousarray(plain.pop(name)))
    if plain:
        raise KeyError(f"the plain class has no {', '.join(plain)}")
    # An OrderedDict may have attributes: torch itself keeps the versions of modules there. load_state_dict ignores it.
    setattr(state, neutral.RECORD, metadata.model_dump_json())
    torch.save(state, path)


def _metadata(record: Mapping[str, str], attribute: Any, path: Path) -> Metadata | None:
    """What the file says about itself, if this project wrote it: converted, neutral, or kept by a comparison."""
    try:
        if isinstance(attribute, str):
            return Metadata.model_validate_json(attribute)
        if record.get("format") == neutral.FORMAT:
            return Metadata.model_validate_json(record["metadata"])
        return neutral.kept(record)
    except (ValidationError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise BadInput(
            f"{path} says about itself what cannot be read ({type(error).__name__}); convert it again."
        ) from None


def _sorted(state: Mapping[str, Tensor], pair: Pair) -> tuple[dict[str, Array], dict[str, tuple[int, ...]]]:
    """Arrays by neutral name, and what has no place among them: integers, what stands outside a nested backbone.

    Counters of batches are neither: nothing depends on them.
    """
    prefix = _prefix(state, pair)
    arrays: dict[str, Array] = {}
    left_over: dict[str, tuple[int, ...]] = {}
    for key, tensor in state.items():
        if key.endswith("num_batches_tracked"):
            continue
        if not key.startswith(prefix) or not tensor.is_floating_point() or tensor.layout != torch.strided:
            left_over[key] = tuple(tensor.shape)
            continue
        tensor = tensor.detach()
        # NumPy has no bfloat16.
        tensor = tensor if tensor.dtype == torch.float64 else tensor.float()
        arrays[neutral_name(key.removeprefix(prefix))] = tensor.numpy()
    return arrays, left_over


def neutral_name(key: str) -> str:
    """torchvision's present name of a parameter."""
    return _OLD_DENSENET.sub(r"\1\2.", key)


def _prefix(state: Mapping[str, Tensor], pair: Pair) -> str:
    """What stands in front of all names of the backbone: "module." from nn.DataParallel, or a bigger model's name."""
    firsts = tuple(stage[0] for stage in pair.stages)
    counts: collections.Counter[str] = collections.Counter()
    for key in state:
        for first in firsts:
            before, found, _ = key.partition(f"{first}.")
            if found and (not before or before.endswith(".")):
                counts[before] += 1
    return "" if "" in counts or not counts else counts.most_common(1)[0][0]

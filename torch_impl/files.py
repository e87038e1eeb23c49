"""Checkpoints in torch's own formats: state_dicts as torchvision's models have them."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from transfer_parity.shared.checkpoints import bias_folding, neutral
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.spec import ModelSpec
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.contract.wing_values import ForeignCheckpoint
from transfer_parity.shared.zoo.pair import Pair
from transfer_parity.torch_impl import backbone, formats
from transfer_parity.torch_impl.internals import present_name


def read_checkpoint(path: Path, pair: Pair) -> ForeignCheckpoint:
    """The arrays of a state_dict by neutral name: neutral or plain safetensors, ``.pth`` or ``.pt``.

    Raises:
        BadInput: the file is damaged, or holds anything but a state_dict.
    """
    with formats.opened(path) as file:
        arrays, left_over = _translated(file.state, pair)
        return ForeignCheckpoint(arrays, neutral.recorded(file.record, path), left_over)


def write_checkpoint(path: Path, arrays: Mapping[str, Array], metadata: Metadata, spec: ModelSpec) -> None:
    """Write the state_dict of the plain torchvision class, and a record of what it was made from.

    Args:
        path: ends in ``.pth`` or ``.pt``.
        arrays: by neutral name; biases and scales that the plain class lacks or wants are folded or added.
        metadata: of the arrays.
        spec: of the model that they fit.
    """
    plain, _ = bias_folding.conform(arrays, spec.pair, "torchvision", str(path))
    state: dict[str, Tensor] = {}
    model = backbone.stock(spec.pair, spec.image_size, classifier=spec.head == "imagenet", classes=spec.classes)
    for name, tensor in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros_like(tensor)
        else:
            state[name] = torch.from_numpy(np.ascontiguousarray(plain.pop(name)))
    if plain:
        raise KeyError(f"the plain class has no {', '.join(plain)}")
    formats.write(path, state, metadata.model_dump())


def _translated(state: Mapping[str, Tensor], pair: Pair) -> tuple[dict[str, Array], dict[str, tuple[int, ...]]]:
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
        arrays[present_name(key.removeprefix(prefix))] = tensor.numpy()
    return arrays, left_over


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

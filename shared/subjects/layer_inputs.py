"""What the reference's layers got, made ready for single steps of the candidate's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from transfer_parity.shared.contract.inventory import Inventory, LayerRecord
from transfer_parity.shared.contract.rungs import Array
from transfer_parity.shared.runtime import subject_dump

#: By axis of a feature map, how much is padded before and after.
Padding = list[list[int]]


def hand_over(folder: Path, pairs: Mapping[str, str], inventories: tuple[Inventory, Inventory]) -> None:
    """Call inputs as the candidate calls its layers, and pad them as far as its own convolutions do not.

    One side may pad within a convolution, and the other in a layer of its own in front of it: both are right, and get
    different inputs.

    Args:
        folder: of the reference's inputs; what has no counterpart is left out.
        pairs: the candidate's layer by the reference's.
        inventories: of both, the reference's first.
    """
    known = [{layer.name: layer for layer in inventory.layers} for inventory in inventories]
    for name in subject_dump.layers_with_inputs(folder):
        if name in pairs and name in known[0] and pairs[name] in known[1]:
            missing = _missing(known[0][name], known[1][pairs[name]])
            if missing is not None:
                arrays = subject_dump.read_layer_inputs(folder, name)
                subject_dump.replace_layer_inputs(folder, name, [_padded(arrays[0], missing), *arrays[1:]])
    subject_dump.rename_layer_inputs(folder, pairs)


def _missing(reference: LayerRecord, candidate: LayerRecord) -> Padding | None:
    """What the candidate's convolution leaves out of the reference's padding; negative where only it pads.

    None where both pad the same, where both do and not alike, or where outputs have other sizes: then one of them is
    wrong, and a single step has to show it.
    """
    mine, its = (layer.config.get("padding") for layer in (reference, candidate))
    if reference.kind != "conv" or candidate.kind != "conv" or not mine or not its or mine == its:
        return None
    if (any(map(any, mine)) and any(map(any, its))) or reference.output_shape != candidate.output_shape:
        return None
    return [[one[side] - other[side] for side in range(2)] for one, other in zip(mine, its, strict=True)]


def _padded(array: Array, missing: Padding) -> Array:
    """A feature map (N, places, C) with zeros around it, or without those that are around it already.

    Where it has other values at its border nothing is taken away: then the paddings do differ.
    """
    for axis, (before, after) in enumerate(missing, start=1):
        size = array.shape[axis]
        bare = array.take([*range(-min(before, 0)), *range(size + min(after, 0), size)], axis)
        if not bare.any():
            array = array.take(range(-min(before, 0), size + min(after, 0)), axis)
            widths = [(0, 0)] * array.ndim
            widths[axis] = max(before, 0), max(after, 0)
            array = np.pad(array, widths)
    return array

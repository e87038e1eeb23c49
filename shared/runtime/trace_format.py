"""The arrays of a rung as a file, and how far they are apart relative to their scale."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from transfer_parity.shared.contract.rungs import UNIT, Array, Entry
from transfer_parity.shared.core.arrays import largest_difference
from transfer_parity.shared.core.random import generator


def write(path: Path, entries: Iterable[Entry]) -> None:
    """Write a rung, in order."""
    arrays = {entry.key: np.ascontiguousarray(entry.array) for entry in entries}
    order = json.dumps(list(arrays))
    safetensors.numpy.save_file(arrays, path, metadata={"order": order})


def read(path: Path) -> dict[str, Entry]:
    """A rung as ``write`` wrote it, by key and in order."""
    arrays = safetensors.numpy.load_file(path)
    with safetensors.safe_open(path, framework="numpy") as file:
        order = json.loads(file.metadata()["order"])
    return {key: Entry(key.partition("|")[0], key.partition("|")[2], arrays[key]) for key in order}


def scales(entries: Iterable[Entry]) -> dict[str, float]:
    """Largest absolute value by module, which differences are relative to; 1 where all values are zero."""
    found: dict[str, float] = {}
    for entry in entries:
        most = float(np.abs(entry.array).max(initial=0)) if np.isfinite(entry.array).all() else 0.0
        found[entry.module] = max(found.get(entry.module, 0.0), most)
    return {module: most or 1.0 for module, most in found.items()}


def relative_changes(entries: Mapping[str, Entry], others: Iterable[Entry]) -> dict[str, float]:
    """Largest difference between arrays of the same key, relative to their scales, over all that are the same thing."""
    scale = scales(entries.values())
    changes: dict[str, float] = {}
    for other in others:
        change = largest_difference(entries[other.key].array, other.array) / scale[other.module]
        changes[other.what] = max(changes.get(other.what, 0.0), change)
    return changes


def perturbed(arrays: Mapping[str, Array], seed: int, precision: str) -> dict[str, Array]:
    """Weights moved by sqrt(n) units of rounding, n being the number of terms that each is one of, up or down.

    Args:
        arrays: by neutral name, in torch's layout.
        seed: of the directions.
        precision: whose unit of rounding.
    """
    moved = {}
    for name, array in arrays.items():
        step = math.sqrt(math.prod(array.shape[1:])) * UNIT[precision] if array.ndim in (2, 4) else UNIT[precision]
        up = generator(seed, "rounding", name).random(array.shape) < 0.5
        moved[name] = array.astype(np.float64) * np.where(up, 1 + step, 1 - step)
    return moved

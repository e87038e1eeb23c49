"""How far rounding moves what a network computes: weights moved by their rounding, and what became of it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from transfer_parity.shared.contract.rungs import UNIT, Array, Label
from transfer_parity.shared.core.arrays import largest_difference
from transfer_parity.shared.core.random import generator


def perturbed(arrays: Mapping[str, Array], seed: int, precision: str, units: float = 1.0) -> dict[str, Array]:
    """Weights moved by sqrt(n) units of rounding, n being the number of terms that each is one of, up or down.

    Args:
        arrays: by neutral name, in torch's layout.
        seed: of the directions.
        precision: whose unit of rounding.
        units: how many of them.
    """
    moved, unit = {}, units * UNIT[precision]
    for name, array in arrays.items():
        step = math.sqrt(math.prod(array.shape[1:])) * unit if array.ndim in (2, 4) else unit
        up = generator(seed, "rounding", name).random(array.shape) < 0.5
        moved[name] = array.astype(np.float64) * np.where(up, 1 + step, 1 - step)
    return moved


def scales(arrays: Mapping[Label, Array]) -> dict[Label, float]:
    """Largest absolute value by module, which differences are relative to; 1 where all values are zero."""
    found: dict[Label, float] = {}
    for label, array in arrays.items():
        most = float(np.abs(array).max(initial=0)) if np.isfinite(array).all() else 0.0
        found[label.module] = max(found.get(label.module, 0.0), most)
    return {module: most or 1.0 for module, most in found.items()}


def relative_changes(arrays: Mapping[Label, Array], others: Mapping[Label, Array]) -> dict[Label, float]:
    """Largest difference of arrays of the same label, relative to their scales, by group of labels.

    That of each layer's output, and of each entry between layers, stands beside its group's under its own label.

    Args:
        arrays: of a rung.
        others: the same arrays, or some of them, with moved weights.
    """
    scale = scales(arrays)
    changes: dict[Label, float] = {}
    for label, other in others.items():
        change = largest_difference(arrays[label], other) / scale[label.module]
        changes[label.group] = max(changes.get(label.group, 0.0), change)
        if label.kind == "activation":
            changes[label] = change
    return changes

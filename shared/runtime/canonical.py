"""Zeros around canonical feature maps (b, *places, C), which may belong to a layer or to one in front of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from transfer_parity.shared.contract.wing import Array


def covered(array: Array, around: Sequence[tuple[int, int]]) -> Array:
    """A feature map with zeros before and after it, by axis of its places; as it is where there are none."""
    if not any(before or after for before, after in around) or array.ndim != len(around) + 2:
        return array
    return np.pad(array, ((0, 0), *around, (0, 0)))


def uncovered(array: Array, around: Sequence[tuple[int, int]]) -> Array:
    """A feature map without what ``covered`` puts around it."""
    if not any(before or after for before, after in around) or array.ndim != len(around) + 2:
        return array
    inner = (slice(before, size - after) for (before, after), size in zip(around, array.shape[1:-1], strict=True))
    return array[(slice(None), *inner)]


def together(around: Sequence[Sequence[int]], more: Sequence[Sequence[int]]) -> list[list[int]]:
    """Zeros that two layers, one behind the other, put around what both are given: [before, after] by axis."""
    if not around:
        return [list(each) for each in more]
    return [[a + c, b + d] for (a, b), (c, d) in zip(around, more, strict=False)]

"""Less than everything of large arrays, as the ladder writes them down."""

from __future__ import annotations

import numpy as np

from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.core.random import generator

#: Entries of a parameter that are written down.
SAMPLE = 4096


def sample(array: Array, most: int = SAMPLE) -> Array:
    """A copy of at most so many entries, evenly spread."""
    flat = array.reshape(-1)
    return flat[:: max(1, -(-flat.size // most))].copy()


def fingerprints(images: Array) -> Array:
    """A whole number for each image (b, S, S, 3) that changes when pixels move or change, int64 (b,)."""
    if not len(images):
        return np.zeros(0, np.int64)
    weights = np.arange(1, images[0].size + 1, dtype=np.int64)
    return images.reshape(len(images), -1).astype(np.int64) @ weights


def drawn_gradient(seed: int, name: str, step: int, shape: tuple[int, ...]) -> Array:
    """A gradient whose entries have all sizes from 1e-9 to 1, as those of real ones have."""
    random = generator(seed, "gradient", step, name)
    pattern = random.choice((-1.0, 1.0), SAMPLE) * 10.0 ** random.uniform(-9, 0, SAMPLE)
    return np.resize(pattern, shape)

"""Random streams: one for each seed and purpose.

No draw takes numbers from another one's stream, so that changing one thing (more epochs, another head) leaves all
others as they were.
"""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """An independent random stream for one seed and one purpose (PCG64, keyed by SHA-256)."""
    key = hashlib.sha256("/".join(str(part) for part in (seed, *purpose)).encode()).digest()
    return np.random.Generator(np.random.PCG64(np.frombuffer(key, dtype=np.uint32).tolist()))

"""How far two arrays are apart. Workers need this, but not the libraries that metrics are made with."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def largest_difference(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Largest absolute difference of two arrays; infinite where only one of them is finite."""
    both_alike = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        difference = np.where(both_alike, 0.0, np.abs(a.astype(np.float64) - b.astype(np.float64)))
    most = float(difference.max(initial=0.0))
    return most if math.isfinite(most) else math.inf

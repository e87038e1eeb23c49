"""The rungs of the parity ladder, and the arrays that each consists of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

Array = NDArray[Any]
Rung = Literal[
    "bytes", "preprocessing", "activations", "loss", "gradients", "optimizer", "trajectory", "predictions", "metrics"
]
RUNGS: tuple[Rung, ...] = (
    "bytes",
    "preprocessing",
    "activations",
    "loss",
    "gradients",
    "optimizer",
    "trajectory",
    "predictions",
    "metrics",
)
#: Those that a worker writes; the last is made of the one before it.
DUMPED = RUNGS[:-1]
#: Learning rates of the steps of each optimizer along given gradients: they change from step to step.
RATES = (1e-2, 3e-3, 1e-2)
#: What one unit of rounding is, relative to a value.
UNIT = {"float64": 2.0**-53, "float32": 2.0**-24}


@dataclass(frozen=True)
class Entry:
    """One array of a rung.

    Attributes:
        what: in words, e.g. "gradient, normalisation training".
        name: neutral name of the layer or parameter, or an empty string if it belongs to none.
        array: its values.
    """

    what: str
    name: str
    array: Array

    @property
    def key(self) -> str:
        """Name in the file."""
        return f"{self.what}|{self.name}"

    @property
    def module(self) -> str:
        """What shares a scale: the parameters of one module are sums over the same output gradients.

        Rounding in such a sum does not shrink when its terms cancel. A bias in front of a normalisation has a gradient
        of zero, of which nothing but rounding is left; measured against itself it would always be wrong.
        """
        return f"{self.what}|{self.name.rpartition('.')[0]}" if self.name else self.key

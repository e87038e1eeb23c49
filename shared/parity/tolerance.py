"""How far may two correct implementations differ?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.rungs import RATES, UNIT, Entry, Rung
from transfer_parity.shared.core.arrays import largest_difference
from transfer_parity.shared.runtime.trace_format import scales

#: Two wings err independently, and the largest of many errors is compared with the largest of one sample of them.
SAFETY = 8.0
#: Units of rounding in a rung that depends on nothing before it: a few operations on each value.
FEW = 16.0
#: The most that a rung may differ, relative to the largest value of the tensor; the project's promise.
LARGEST: dict[str, dict[Rung, float]] = {
    "float64": {
        "activations": 1e-10,
        "loss": 1e-10,
        "gradients": 1e-8,
        "trajectory": 1e-8,
        "predictions": 1e-8,
    },
    # Gradients of float32 have no bound worth promising: where a rectifier changes its mind, a whole term comes or
    # goes, and in a late layer that sees a few images a sum has few terms. What training makes of it grows further.
    "float32": {"activations": 1e-4, "loss": 1e-3},
}


def tolerance(
    rung: Rung, precision: str, change: float | None, entry: Entry | None = None, recipe: Recipe | None = None
) -> float:
    """How far an array of a rung may differ, relative to its scale.

    Args:
        rung: which one.
        precision: of the arithmetic.
        change: what moving every weight by its rounding changed, or None for a rung that does not depend on weights.
        entry: the array. Whole numbers (pixels, labels) have no rounding.
        recipe: whose optimizer it is, for parameters behind a step of Adam.
    """
    if entry is not None and entry.array.dtype.kind != "f":
        return 0.0
    few = FEW * UNIT[precision]
    if recipe is not None and entry is not None and rung == "optimizer" and "parameter" in entry.what:
        few = max(few, _of_adam(recipe, precision, entry.what.partition(",")[0]))
    if change is None:
        return few
    return min(max(SAFETY * change, few), LARGEST[precision].get(rung, math.inf))


def _of_adam(recipe: Recipe, precision: str, optimizer: str) -> float:
    """What Adam's step makes of rounding, relative to the parameter.

    Its bias correction 1 - beta2^t is a difference of nearly equal numbers: rounding in it grows by 1/(1 - beta2). Both
    wings compute it in float64, whatever the type of the parameters. Weight decay that is coupled adds decay times the
    parameter to the gradient. Where the two cancel nothing is left but the rounding of that product, and Adam divides
    by little more than epsilon.
    """
    if not optimizer.startswith("adam"):
        return 0.0
    correction = FEW * UNIT["float64"] / (1 - recipe.beta2)
    if optimizer == "adamw":
        return correction
    return max(correction, UNIT[precision] * max(RATES) * recipe.weight_decay / recipe.epsilon)


@dataclass(frozen=True)
class Difference:
    """One array in which the wings differ, against what it may differ by.

    Attributes:
        entry: the reference wing's.
        absolute: largest absolute difference; infinite if only one wing has the array, or its shape differs.
        relative: to the scale of the array's module.
        tolerance: absolute.
    """

    entry: Entry
    absolute: float
    relative: float
    tolerance: float

    @property
    def excess(self) -> float:
        """Above 1 if the difference is more than rounding."""
        if self.absolute == 0:
            return 0.0
        return self.absolute / self.tolerance if self.tolerance else math.inf


def differences(
    ours: Mapping[str, Entry], theirs: Mapping[str, Entry], relative: Callable[[Entry], float]
) -> Iterator[Difference]:
    """All arrays of both wings in the reference's order, then those that only the other wing has.

    Args:
        ours: of the reference wing.
        theirs: of the other wing.
        relative: tolerance of an array relative to the scale of its module.
    """
    scale = scales(ours.values())
    for key, entry in ours.items():
        size = scale[entry.module]
        absolute = math.inf
        if key in theirs and theirs[key].array.shape == entry.array.shape:
            absolute = largest_difference(entry.array, theirs[key].array)
        yield Difference(entry, absolute, absolute / size, relative(entry) * size)
    for key, entry in theirs.items():
        if key not in ours:
            yield Difference(entry, math.inf, math.inf, 0.0)

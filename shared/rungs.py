"""The rungs of the parity ladder: what each compares, how far rounding alone may move it, and its files.

A rung is an ordered list of named arrays. Each wing writes its own; the parent compares them in the order of the
computation, so that the first that differs is the nearest to the cause.

How far may two correct implementations differ? In one operation by a unit of rounding u, and a dot product of n terms
by about sqrt(n) u (Higham and Mary, A new approach to probabilistic rounding error analysis, 2019). What becomes of
such errors further on depends on the function: a rectifier whose input is next to zero changes its mind, a
normalisation over few values amplifies. So it is measured: one wing repeats the rung with every weight moved by
sqrt(n) u, up or down as the plan says. What that changes, times ``SAFETY``, is what rounding may change; in float64
never more than ``LARGEST``, so that a chaotic function does not excuse everything.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from shared.differences import largest_difference
from shared.plan import generator
from shared.recipe import Recipe

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

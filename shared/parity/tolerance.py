"""How far may two correct implementations differ?

In one operation by a unit of rounding u, and a dot product of n terms by about sqrt(n) u (Higham and Mary, A new
approach to probabilistic rounding error analysis, 2019). What becomes of such errors further on depends on the
function: a rectifier whose input is next to zero changes its mind, a normalisation over few values amplifies. So it is
measured: one wing repeats the rung with every weight moved by sqrt(n) u, up or down as the plan says. What that
changes, times ``SAFETY``, is what rounding may change; in float64 never more than ``LARGEST``, so that a chaotic
function does not excuse everything.

That bound is one for all layers, and must suit the last: what is right to allow there hides a mistake in an early one,
which in float32 is seen only where later layers have made it large. So the cause is looked for with a measure for each
layer's output by itself, and for each activation, gate, pooling and sum between them: d/c, how far the wings differ
there, against how far moved weights changed the very same array. Both are made of the same kind of error and grow alike
on the way through the network (c says how much any error does), so their quotient stays about what it was. A mistake
adds to d and not to c. **Out of line** is the first array whose quotient is ``SAFETY`` times the usual one, the median
of those before it, or 1 where that is less: kernels that round more than the model says (Winograd's, approximations of
the exponential function) raise it everywhere alike. Units of rounding below ``FEW`` say nothing.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.rungs import RATES, UNIT, WHOLE, Array, Label, Optimizer, Rung
from transfer_parity.shared.core.arrays import largest_difference
from transfer_parity.shared.runtime.rounding import scales

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


def tolerance(rung: Rung, label: Label, change: float | None, recipe: Recipe) -> float:
    """How far an array of a rung may differ, relative to its scale.

    Args:
        rung: which one.
        label: of the array. Whole numbers (pixels, labels) have no rounding.
        change: what moving every weight by its rounding changed, or None for what does not depend on weights.
        recipe: its precision, and the constants of its optimizers.
    """
    if label.kind in WHOLE:
        return 0.0
    few = FEW * UNIT[recipe.precision]
    if label.kind == "parameter" and label.optimizer is not None:
        few = max(few, _of_adam(recipe, label.optimizer))
    if rung in ("trajectory", "predictions") and recipe.optimizer != "sgd":
        # The same correction decides how long every step is; moving weights does not move it.
        few = max(few, _of_correction(recipe))
    if label.optimizer is not None and label.step is not None:
        # A few operations in a few steps; what more steps err adds up.
        few *= max(1.0, label.step / len(RATES))
    if change is None:
        return few
    return min(max(SAFETY * change, few), LARGEST[recipe.precision].get(rung, math.inf))


def _of_adam(recipe: Recipe, optimizer: Optimizer) -> float:
    """What Adam's step makes of rounding, relative to the parameter.

    Its bias correction 1 - beta2^t is a difference of nearly equal numbers: rounding in it grows by 1/(1 - beta2). All
    wings compute it in float64, whatever the type of the parameters. Weight decay that is coupled adds decay times the
    parameter to the gradient. Where the two cancel nothing is left but the rounding of that product, and Adam divides
    by little more than epsilon.
    """
    if optimizer == "sgd":
        return 0.0
    if optimizer == "adamw":
        return _of_correction(recipe)
    rate = max(*RATES, recipe.learning_rate)
    return max(_of_correction(recipe), UNIT[recipe.precision] * rate * recipe.weight_decay / recipe.epsilon)


def _of_correction(recipe: Recipe) -> float:
    """What Adam's bias correction makes of rounding, relative to a step."""
    return FEW * UNIT["float64"] / (1 - recipe.beta2)


@dataclass(frozen=True)
class Difference:
    """One array in which two wings differ, against what it may differ by.

    Attributes:
        label: of the array.
        absolute: largest absolute difference; infinite if only one wing has the array, or its shape differs.
        relative: to the scale of the array's module.
        tolerance: absolute.
        scale: the largest value of the array's module, or what a value of that kind is when it says nothing.
    """

    label: Label
    absolute: float
    relative: float
    tolerance: float
    scale: float = math.inf

    @property
    def tells(self) -> bool:
        """Whether it can tell a right result from any other: not if zeros in its place would be let pass."""
        return self.tolerance < self.scale

    @property
    def excess(self) -> float:
        """Above 1 if the difference is more than rounding."""
        if self.absolute == 0:
            return 0.0
        return self.absolute / self.tolerance if self.tolerance else math.inf


def differences(
    ours: Mapping[Label, Array], theirs: Mapping[Label, Array], relative: Callable[[Label], float]
) -> Iterator[Difference]:
    """All arrays of two wings in the reference's order, then those that only the other wing has.

    Args:
        ours: of the reference wing.
        theirs: of the other wing.
        relative: tolerance of an array relative to the scale of its module.
    """
    scale = scales(ours)
    for label, array in ours.items():
        size = scale[label.module]
        absolute = math.inf
        if label in theirs and theirs[label].shape == array.shape:
            absolute = largest_difference(array, theirs[label])
        yield Difference(label, absolute, absolute / size, relative(label) * size, size)
    for label in theirs:
        if label not in ours:
            yield Difference(label, math.inf, math.inf, 0.0)


def out_of_line(found: Iterable[Difference], changes: Mapping[Label, float], unit: float) -> Difference | None:
    """The first difference that grows beyond what rounding made of those before it; None if none does.

    Its tolerance is what would have been in line.

    Args:
        found: in the order of the forward pass.
        changes: what moving the weights changed, by label, relative to the scale of its module. What is not among them
            is left out.
        unit: of rounding.
    """
    quotients: list[float] = []
    for each in found:
        change = changes.get(each.label)
        if change is None or each.label.kind != "activation":
            continue
        change = max(change, unit)
        usual = max(1.0, statistics.median(quotients)) if quotients else 1.0
        allowed = max(SAFETY * usual * change, FEW * unit)
        if each.relative > allowed:
            return replace(each, tolerance=allowed * each.scale)
        quotients.append(each.relative / change)
    return None

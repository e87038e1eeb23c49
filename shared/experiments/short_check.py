"""What the short check of a comparison says: its rungs, and how far rounding may part the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.rungs import UNIT, Label, Rung
from transfer_parity.shared.contract.wings import Framework, WingInfo
from transfer_parity.shared.core.arrays import finite
from transfer_parity.shared.core.document import Document
from transfer_parity.shared.evaluation.computation import FirstDifference, Rounding, What
from transfer_parity.shared.parity import tolerance
from transfer_parity.shared.parity.tolerance import Difference
from transfer_parity.shared.runtime import short_climb, trace_format

#: How far two measurements of the same rounding may be apart, as a ratio.
APART = tolerance.SAFETY**2
#: What the check calls its rungs, in the order in which they are computed.
_WHAT: dict[Rung, What] = {
    "activations": "forward",
    "loss": "loss",
    "gradients": "gradients",
    "trajectory": "parameters",
}


class CheckedRung(Document):
    """One rung of the check."""

    name: What
    arrays: int
    max_abs_difference: float | None = Field(description="of the array nearest to its tolerance, or furthest beyond it")
    tolerance: float = Field(description="absolute, of the same array")
    passed: bool


class Check(Document):
    """The short ladder of one run, in both frameworks."""

    run: str = Field(description="whose weights and batches it took")
    rungs: list[CheckedRung]
    steps: int = Field(description="of training whose parameters were compared")
    first_difference: FirstDifference | None
    rounding_of_losses: list[float] = Field(
        description="by step, relative to the first loss: the most that moving all weights by their rounding has "
        "changed so far"
    )
    rounding_of_logits: float = Field(description="the same of the first weights' logits, relative to the largest")
    rounding_of_trained_logits: float | None = Field(
        description="the same of the trained weights' logits; null where that training was not repeated to its end"
    )
    seconds: float = Field(description="that it took, both frameworks together")

    @property
    def passed(self) -> bool:
        """Whether nothing differs by more than rounding."""
        return self.first_difference is None

    @property
    def sentence(self) -> str:
        """One line for people."""
        words = {"parameters": f"{self.steps} step{'s' if self.steps > 1 else ''}"}
        names = ", ".join(words.get(rung.name, rung.name) for rung in self.rungs)
        if self.first_difference is None:
            return f"checked: {names}: within rounding"
        return f"checked: {names}: {self.first_difference.sentence}"


def can_be_checked(recipe: Recipe) -> bool:
    """Whether rounding of its arithmetic can be measured: that of smaller types is not the weights' alone."""
    return recipe.check and recipe.precision in UNIT


def judged(
    run: str, recipe: Recipe, two: tuple[WingInfo, WingInfo], folders: Mapping[Framework, Path], seconds: float
) -> Check:
    """Compare what both wings wrote.

    Args:
        run: that was checked.
        recipe: of the comparison.
        two: the wings.
        folders: of what each wrote.
        seconds: that both took.
    """
    places = [folders[wing.identifier] for wing in two]
    measured = [trace_format.read_rounding(place) for place in places]
    shadows = [short_climb.read_shadow(place) for place in places]
    few = tolerance.FEW * UNIT[recipe.precision] / tolerance.SAFETY
    rungs: list[CheckedRung] = []
    first: FirstDifference | None = None
    steps = 0
    for rung in [each for each in _WHAT if all(each in changes for changes in measured)]:
        ours, theirs = (trace_format.read(place, rung) for place in places)
        steps = max([steps, *(label.step or 0 for label in ours)])

        def allowed(label: Label, rung: Rung = rung) -> float:
            change = _of_both([changes[rung].get(label.group, 0.0) for changes in measured], few)
            return tolerance.tolerance(rung, label, change, recipe)

        found = list(tolerance.differences(ours, theirs, allowed))
        worst = max(found, key=lambda each: (each.excess, each.relative))
        beyond = next((each for each in found if each.excess > 1), None)
        rungs.append(
            CheckedRung(
                name=_WHAT[rung],
                arrays=len(found),
                max_abs_difference=finite(worst.absolute),
                tolerance=worst.tolerance,
                passed=beyond is None,
            )
        )
        if beyond is not None and first is None:
            first = _named(_WHAT[rung], beyond)
    # Largest so far: by chance alone a change is small.
    losses = [np.maximum.accumulate(shadow.losses).tolist() if shadow.losses else [] for shadow in shadows]
    ends = [shadow.trained_logits for shadow in shadows if shadow.trained_logits is not None]
    return Check(
        run=run,
        rungs=rungs,
        steps=steps,
        first_difference=first,
        rounding_of_losses=[_of_both(each, few) for each in zip(*losses, strict=False)],
        rounding_of_logits=_of_both([shadow.logits for shadow in shadows], few),
        rounding_of_trained_logits=_of_both(ends, few) if ends else None,
        seconds=seconds,
    )


def _of_both(changes: Sequence[float], few: float) -> float:
    """What rounding changes, of what two frameworks measured.

    Either rounds in its own way, and an event that one of them happened to miss belongs to it too: the larger counts.
    But both measure the same function. Where they are further apart than each may be from the truth, one of them
    measures something else, such as its own mistake: then the smaller counts.

    Args:
        changes: relative.
        few: relative rounding of a few operations, which neither measures.
    """
    small, large = max(min(changes), few), max(changes)
    return large if large <= APART * small else small


def _named(what: What, difference: Difference) -> FirstDifference:
    return FirstDifference(
        what=what,
        name=difference.label.name or None,
        difference=finite(difference.absolute),
        tolerance=difference.tolerance,
    )


def rounding(recipe: Recipe, pretrained: bool, check: Check | None) -> Rounding | None:
    """How far rounding may part the runs of a matched recipe; None if its arithmetic says nothing.

    ``pretrained``: whether all runs begin on one backbone. Without a check nothing is measured. What is left are first
    weights, numbers of steps and copies.
    """
    if recipe.precision not in UNIT:
        return None
    few = tolerance.FEW * UNIT[recipe.precision]
    if check is None:
        return Rounding(safety=tolerance.SAFETY, few=few)
    return Rounding(
        losses=check.rounding_of_losses,
        trained_logits=check.rounding_of_trained_logits,
        safety=tolerance.SAFETY,
        few=few,
        failed=check.first_difference,
        measured=(recipe.shots[0], recipe.first_seed),
        # Every seed has an untrained backbone of its own, and each rounds in its own way.
        seeds=None if pretrained else frozenset({recipe.first_seed}),
    )

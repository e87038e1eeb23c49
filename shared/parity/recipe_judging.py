"""Compares what the reference wing and another wing wrote for one climb of a recipe, rung by rung."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from transfer_parity.shared.contract import switches
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.rungs import FITTED_RUNGS, RECIPE_RUNGS, RIDGE_RUNGS, UNIT, Array, Label, Rung
from transfer_parity.shared.contract.wings import REFERENCE, Framework
from transfer_parity.shared.core.arrays import finite, largest_difference
from transfer_parity.shared.parity import tolerance
from transfer_parity.shared.parity.document import RungResult
from transfer_parity.shared.parity.judging import Judging
from transfer_parity.shared.parity.recipe_climb import RecipeSubject
from transfer_parity.shared.parity.tolerance import Difference
from transfer_parity.shared.runtime import trace_format


def rungs_of(recipe: Recipe) -> tuple[Rung, ...]:
    """The rungs of what a recipe runs, from the lowest to the highest."""
    if recipe.closed_form is not None:
        return RIDGE_RUNGS
    return FITTED_RUNGS if recipe.method.fits_head else RECIPE_RUNGS


class RecipeComparison(Judging):
    """The rungs of one climb of a recipe, as the reference and another wing wrote them.

    Args:
        subject: what was climbed.
        recipe: in the precision of the climb.
        folders: what each wing wrote.
        single: what each wing's engines put out in float32, where the climb itself is in float64; else nothing.
        other: which wing is compared with the reference.
    """

    def __init__(
        self,
        subject: RecipeSubject,
        recipe: Recipe,
        folders: Mapping[Framework, Path],
        single: Mapping[Framework, Path],
        other: Framework,
    ) -> None:
        super().__init__(recipe, folders, other, subject.unswitched, rungs_of(recipe), subject.inputs.data.task_sizes)
        self.subject, self.single = subject, single
        self._by_chance = False

    def largest_loss_difference(self) -> float | None:
        """Over all steps of both runs; None if there are none, or it is not finite."""
        if "trajectory" not in self.names_of_rungs:
            return None
        ours, theirs = self._read("trajectory")
        chosen = [label for label in ours if label.kind == "losses"]
        if any(label not in theirs or theirs[label].shape != ours[label].shape for label in chosen):
            return None
        return finite(max(largest_difference(ours[label], theirs[label]) for label in chosen))

    def _rung(self, rung: Rung) -> RungResult:
        if rung == "engines":
            found = [each for wing in (REFERENCE.identifier, self.other) for each in self._engines(wing)]
            return self._result(rung, found)
        if rung == "activations":
            ours, theirs = (
                {label: a for label, a in each.items() if self._in_both(label)} for each in self._read(rung)
            )
            return self._result(
                rung, list(tolerance.differences(ours, theirs, lambda label: self._relative(rung, label)))
            )
        if rung in ("fit", "trajectory"):
            return self._chosen(rung)
        if rung == "predictions":
            ours, theirs = self._read(rung)
            logits = list(tolerance.differences(ours, theirs, lambda label: self._relative(rung, label)))
            judged = [self._predicted(*each) for each in self._logits().values()]
            return self._result(rung, [*logits, *(found for found, _ in judged)], all(tells for _, tells in judged))
        if rung == "metrics":
            found = []
            for run, each in self._logits().items():
                labels = self.subject.tested(run)
                if len(labels) == len(each[0]):
                    found += self._measured(*each, labels, len(np.unique(labels[labels >= 0])))
            return self._result(rung, found or [Difference(Label("accuracy"), math.inf, math.inf, 0.0)])
        return super()._rung(rung)

    def rungs(self) -> Iterator[RungResult]:
        """From the lowest to the highest. Where rounding may have chosen, what differs from then on tells nothing."""
        for result in super().rungs():
            by_chance = self._by_chance and result.first_divergence is not None
            nothing = {"informative": False, "first_divergence": None}
            yield result.model_copy(update=nothing) if by_chance else result

    def _chosen(self, rung: Rung) -> RungResult:
        """A rung in which something may be chosen: what counts as a label, or for which class an image counts."""
        ours, theirs = self._read(rung)
        near = min(self._nearest(ours), self._nearest(theirs))
        mine, others = ({k: a for k, a in each.items() if k.kind != "closest"} for each in (ours, theirs))
        found = list(tolerance.differences(mine, others, lambda label: self._relative(rung, label)))
        told = near > 2 * tolerance.LARGEST[self.recipe.precision].get("predictions", 1e-3)
        if told or all(each.excess <= 1 for each in found):
            return self._result(rung, found)
        # Where rounding chooses, another seed has to tell.
        self._by_chance = True
        return self._result(rung, found, False)

    @staticmethod
    def _nearest(arrays: Mapping[Label, Array]) -> float:
        """How near a choice came to the other one; infinite where there is none."""
        found = [array.min(initial=math.inf) for label, array in arrays.items() if label.kind == "closest"]
        return float(min(found, default=math.inf))

    def _logits(self) -> dict[int, tuple[Array, Array, float]]:
        """By run, if both wings have them alike; and how far rounding may move them."""
        reference, other = self._read("predictions")
        found = {}
        for label, ours in reference.items():
            if label in other and other[label].shape == ours.shape and label.run is not None:
                size = float(np.abs(ours).max(initial=0)) if np.isfinite(ours).all() else 1.0
                found[label.run] = (ours, other[label], self._relative("predictions", label) * size)
        return found

    def _in_both(self, label: Label) -> bool:
        """Whether both wings have an array: one whose normalisations follow the batch freezes no stages."""
        cut = label.kind == "frozen_output" or label.way == "trainable"
        return not (cut and any(switches.find(each)[1].name == "frozen_batch_norm" for each in self.subject.switches))

    def _engines(self, wing: Framework) -> Iterator[Difference]:
        """What one wing's engines put out, against the network as it is: in float64 if the climb is in float64."""
        found = trace_format.read(self.folders[wing], "engines")
        judges = {label.kind: array for label, array in reversed(found.items())}
        if wing in self.single:
            found |= trace_format.read(self.single[wing], "engines")
        for label, array in found.items():
            judge, precision = judges[label.kind], str(label.precision)
            size = float(np.abs(judge).max(initial=0)) or 1.0
            change = self.rounding["engines"][Label(label.kind, precision=precision)]
            allowed = max(tolerance.SAFETY * change, tolerance.FEW * UNIT[precision])
            allowed = min(allowed, tolerance.LARGEST[precision]["activations"]) * size
            alike = judge.shape == array.shape
            absolute = largest_difference(judge, array) if alike else math.inf
            named = Label(label.kind, engine=label.engine, precision=precision, wing=wing)
            yield Difference(named, absolute, absolute / size, allowed, size)

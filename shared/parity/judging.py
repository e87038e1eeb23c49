"""Compares what the reference wing and another wing wrote for one climb, rung by rung."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np

from transfer_parity.shared.contract.climbs import ClimbSpec
from transfer_parity.shared.contract.plan import Plan
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.rungs import RUNGS, UNIT, Array, Label, Metric, Rung, describe
from transfer_parity.shared.contract.wings import REFERENCE, TENSORFLOW, TORCH, Framework
from transfer_parity.shared.core.arrays import finite, largest_difference
from transfer_parity.shared.evaluation import metrics
from transfer_parity.shared.parity import tolerance
from transfer_parity.shared.parity.climb import LABELS, WingClimbs
from transfer_parity.shared.parity.document import Divergence, RungResult
from transfer_parity.shared.parity.tolerance import Difference
from transfer_parity.shared.runtime import trace_format
from transfer_parity.shared.runtime.entries import BEHIND

_LOGITS = Label("logits")


class Judging:
    """What wings wrote of a climb, against each other.

    Args:
        recipe: of the climb.
        folders: what each wing wrote.
        other: which wing is compared with the reference.
        measuring: the wing that measured rounding.
        rungs: in order.
        tasks: number of classes of each task, if there are several.
    """

    def __init__(
        self,
        recipe: Recipe,
        folders: Mapping[Framework, Path],
        other: Framework,
        measuring: Framework,
        rungs: Sequence[Rung],
        tasks: Sequence[int] = (),
    ) -> None:
        self.recipe, self.folders, self.other, self.names_of_rungs = recipe, folders, other, rungs
        self.tasks = tuple(tasks)
        self.names = {framework: trace_format.read_names(folder) for framework, folder in folders.items()}
        self.rounding = trace_format.read_rounding(folders[measuring])

    def rungs(self) -> Iterator[RungResult]:
        """From the lowest to the highest."""
        for rung in self.names_of_rungs:
            yield self._rung(rung)

    def _rung(self, rung: Rung) -> RungResult:
        ours, theirs = self._read(rung)
        return self._result(rung, list(tolerance.differences(ours, theirs, partial(self._relative, rung))))

    def _read(self, rung: Rung) -> tuple[dict[Label, Array], dict[Label, Array]]:
        """The reference's arrays and the other wing's."""
        reference = trace_format.read(self.folders[REFERENCE.identifier], rung)
        return reference, trace_format.read(self.folders[self.other], rung)

    def _relative(self, rung: Rung, label: Label) -> float:
        # What is not measured (inputs, frozen statistics, optimizer states) does not depend on the weights' rounding.
        change = self.rounding.get(rung, {}).get(label.group)
        return tolerance.tolerance(rung, label, change, self.recipe)

    def _result(self, rung: Rung, found: list[Difference], tells: bool = True) -> RungResult:
        """What came of the arrays of a rung. ``tells``: whether anything could be told from them at all."""
        informative = tells and all(each.tells for each in found)
        worst = max(found, key=lambda each: (each.excess, each.relative))
        diverged = next((each for each in found if each.excess > 1), None)
        if diverged is not None and self.recipe.precision == "float32":
            # In float64 the bound is so near to rounding that the first beyond it is the cause.
            before = found[: found.index(diverged)]
            changes = self.rounding.get(rung, {})
            diverged = tolerance.out_of_line(before, changes, UNIT["float32"]) or diverged
        return RungResult(
            name=rung,
            arrays=len(found),
            max_abs_difference=finite(worst.absolute),
            tolerance=worst.tolerance,
            max_rel_difference=finite(max(each.relative for each in found)),
            passed=diverged is None and informative,
            informative=informative,
            first_divergence=self._named(diverged) if diverged else None,
        )

    def _named(self, difference: Difference) -> Divergence:
        label = difference.label
        return Divergence(
            label=label,
            what=describe(label),
            neutral=label.name or None,
            tensorflow=self._own_name(TENSORFLOW, label.name),
            torch=self._own_name(TORCH, label.name),
            max_abs_difference=finite(difference.absolute),
            tolerance=difference.tolerance,
        )

    def _own_name(self, framework: Framework, name: str) -> str | None:
        """A framework's own name of a layer or parameter; an entry between layers is called after the layer before."""
        layer, behind, does = name.partition(BEHIND)
        own = self.names[framework].get(layer)
        return own and own + behind + does

    def _predicted(self, ours: Array, theirs: Array, allowed: float) -> tuple[Difference, bool]:
        """Classes that differ, but for ties: where the two best logits are nearer than rounding may move each.

        Returns whether anything could be told, too: where every image is a tie, any classes would do.
        """
        best = [np.sort(part, axis=1)[:, -2:] for part in metrics.parts(ours, self.tasks)]
        clear = np.stack([each[:, 1] - each[:, 0] > 2 * allowed for each in best], axis=1)
        differ = self._differ(ours, theirs) & clear
        return Difference(Label("predictions"), float(differ.sum()), float(differ.mean()), 0.0), bool(clear.any())

    def _differ(self, ours: Array, theirs: Array) -> Array:
        """Which classes differ, (N, tasks)."""
        differ: Array = metrics.predictions(ours, self.tasks) != metrics.predictions(theirs, self.tasks)
        return differ.reshape(len(ours), -1)

    def _measured(self, ours: Array, theirs: Array, allowed: float, labels: Array, classes: int) -> list[Difference]:
        """Metrics of the same logits. The log loss moves by at most twice what the logits move by.

        ``classes``: of the test images.
        """
        differ = self._differ(ours, theirs)
        # Each prediction that flips at a tie moves an average over images or classes by at most its share.
        alike = self._predicted(ours, theirs, allowed)[0].excess <= 1
        ties = float(differ.sum()) / min((labels >= 0).sum(), classes) if alike else 0.0
        # Log loss of a classifier that knows nothing: to move by so much is to know all or nothing.
        nothing = math.log(min(self.tasks, default=ours.shape[1]))
        evaluated = [metrics.evaluate(logits, labels, self.tasks) for logits in (ours, theirs)]
        found = []
        kinds: tuple[Metric, ...] = get_args(Metric)
        for kind in kinds:
            values = [getattr(each, kind) for each in evaluated]
            absolute = math.inf if None in values else abs(values[0] - values[1])
            allows, scale = (2 * allowed, nothing) if kind == "log_loss" else (ties, 1.0)
            found.append(Difference(Label(kind), absolute, absolute, allows, scale))
        return found


class Comparison(Judging):
    """The rungs of one climb, as the reference and another wing wrote them.

    Args:
        spec: of the climb.
        climbs: every wing's part of it.
        other: which wing is compared with the reference.
        work: folder of the job; below it every wing has its own.
    """

    def __init__(self, spec: ClimbSpec, climbs: WingClimbs, other: Framework, work: Path) -> None:
        # What all wings were given alike.
        self.given = climbs[REFERENCE.identifier]
        folders = {framework: work / framework / climb.id for framework, climb in climbs.items()}
        rungs = [rung for rung in RUNGS[: RUNGS.index(spec.until) + 1] if rung not in spec.skip]
        measured = next(framework for framework, climb in climbs.items() if climb.measures_rounding)
        super().__init__(self.given.recipe, folders, other, measured, rungs)

    def _rung(self, rung: Rung) -> RungResult:
        if rung == "predictions":
            return self._predictions()
        if rung == "metrics":
            return self._metrics()
        return super()._rung(rung)

    def largest_loss_difference(self) -> float | None:
        """Over all steps of the trajectory; None if it was not climbed or is not finite."""
        if "trajectory" not in self.names_of_rungs:
            return None
        ours, theirs = self._read("trajectory")
        return finite(largest_difference(ours[Label("losses")], theirs[Label("losses")]))

    def _predictions(self) -> RungResult:
        found, tells = self._predicted(*self._logits())
        return self._result("predictions", [found], tells)

    def _metrics(self) -> RungResult:
        labels = np.load(self.given.labels, allow_pickle=False)[Plan.load(self.given.plan).test]
        return self._result("metrics", self._measured(*self._logits(), labels, LABELS))

    def _logits(self) -> tuple[Array, Array, float]:
        """Logits of the images that were not trained on, and how far rounding may move them."""
        reference, other = self._read("predictions")
        ours, theirs = reference[_LOGITS], other[_LOGITS]
        size = float(np.abs(ours).max()) if np.isfinite(ours).all() else 1.0
        return ours, theirs, self._relative("predictions", _LOGITS) * size

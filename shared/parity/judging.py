"""The rungs of one climb, as both wings wrote them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from transfer_parity.shared.contract import plan
from transfer_parity.shared.contract.recipe import Framework
from transfer_parity.shared.contract.rungs import RUNGS, Entry, Rung
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.core import arrays
from transfer_parity.shared.core.arrays import finite
from transfer_parity.shared.evaluation import metrics
from transfer_parity.shared.parity import tolerance
from transfer_parity.shared.parity.climb import LABELS, OTHER, REFERENCE, Parts, measuring
from transfer_parity.shared.parity.document import Divergence, RungResult
from transfer_parity.shared.parity.tolerance import Difference
from transfer_parity.shared.runtime import trace_format


class Comparison:
    """The rungs of one climb, as both wings wrote them."""

    def __init__(self, work: Path, parts: Parts) -> None:
        self.case = parts[REFERENCE]
        self.folders = {framework: work / framework / case.id for framework, case in parts.items()}
        self.names: dict[Framework, dict[str, str]] = {
            framework: json.loads((folder / "names.json").read_text(encoding="utf-8"))
            for framework, folder in self.folders.items()
        }
        measured = self.folders[measuring(parts)] / "rounding.json"
        self.rounding: dict[Rung, dict[str, float]] = json.loads(measured.read_text(encoding="utf-8"))

    def rungs(self) -> Iterator[RungResult]:
        """From the lowest to the highest."""
        for rung in RUNGS[: RUNGS.index(self.case.until) + 1]:
            if rung in self.case.skip:
                continue
            if rung == "predictions":
                yield self._predictions()
            elif rung == "metrics":
                yield self._metrics()
            else:
                ours, theirs = self._read(REFERENCE, rung), self._read(OTHER, rung)
                found = tolerance.differences(ours, theirs, partial(self._relative, rung))
                yield self._result(rung, list(found))

    def _read(self, framework: Framework, rung: Rung) -> dict[str, Entry]:
        return trace_format.read(self.folders[framework] / f"{rung}.safetensors")

    def largest_loss_difference(self) -> float | None:
        """Over all steps of the trajectory; None if it was not climbed or is not finite."""
        if RUNGS.index(self.case.until) < RUNGS.index("trajectory") or "trajectory" in self.case.skip:
            return None
        ours, theirs = (self._read(framework, "trajectory")["losses|"].array for framework in (REFERENCE, OTHER))
        return finite(arrays.largest_difference(ours, theirs))

    def _relative(self, rung: Rung, entry: Entry | None = None) -> float:
        recipe = self.case.recipe
        changes = self.rounding.get(rung, {})
        # What is not measured (inputs, frozen statistics, optimizer states) does not depend on the weights' rounding.
        change = changes.get(entry.what if entry else "logits")
        return tolerance.tolerance(rung, recipe.precision, change, entry, recipe)

    def _result(self, rung: Rung, found: list[Difference]) -> RungResult:
        worst = max(found, key=lambda each: (each.excess, each.relative))
        diverged = next((each for each in found if each.excess > 1), None)
        return RungResult(
            name=rung,
            arrays=len(found),
            max_abs_difference=finite(worst.absolute),
            tolerance=worst.tolerance,
            max_rel_difference=finite(max(each.relative for each in found)),
            passed=diverged is None,
            first_divergence=self._named(diverged) if diverged else None,
        )

    def _named(self, difference: Difference) -> Divergence:
        name = difference.entry.name
        return Divergence(
            what=difference.entry.what,
            neutral=name or None,
            tensorflow=self.names["tensorflow"].get(name),
            torch=self.names["torch"].get(name),
            max_abs_difference=finite(difference.absolute),
            tolerance=difference.tolerance,
        )

    def _logits(self) -> tuple[Array, Array, float]:
        """Logits of the images that were not trained on, and how far rounding may move them."""
        ours, theirs = (self._read(framework, "predictions")["logits|"].array for framework in (REFERENCE, OTHER))
        size = float(np.abs(ours).max()) if np.isfinite(ours).all() else 1.0
        return ours, theirs, self._relative("predictions") * size

    def _predictions(self) -> RungResult:
        """Classes that differ, but for ties: where the two best logits are nearer than rounding may move each."""
        ours, theirs, tolerance = self._logits()
        best = np.sort(ours, axis=1)[:, -2:]
        clear = best[:, 1] - best[:, 0] > 2 * tolerance
        differ = (metrics.predictions(ours) != metrics.predictions(theirs)) & clear
        entry = Entry("predicted classes", "", np.zeros(0))
        return self._result("predictions", [Difference(entry, float(differ.sum()), float(differ.mean()), 0.0)])

    def _metrics(self) -> RungResult:
        """Metrics of the same logits. The log loss moves by at most twice what the logits move by."""
        ours, theirs, tolerance = self._logits()
        labels = np.load(self.case.labels, allow_pickle=False)[plan.Plan.load(self.case.plan).test]
        differ = metrics.predictions(ours) != metrics.predictions(theirs)
        # Each prediction that flips at a tie moves an average over images or classes by at most its share.
        ties = float(differ.sum()) / min(len(labels), LABELS) if self._predictions().passed else 0.0
        found = []
        mine, other = metrics.evaluate(ours, labels), metrics.evaluate(theirs, labels)
        for name, most in (
            ("accuracy", ties),
            ("macro_f1", ties),
            ("macro_recall", ties),
            ("log_loss", 2 * tolerance),
        ):
            values = [getattr(metrics, name) for metrics in (mine, other)]
            absolute = math.inf if None in values else abs(values[0] - values[1])
            found.append(Difference(Entry(name.replace("_", " "), "", np.zeros(0)), absolute, absolute, most))
        return self._result("metrics", found)

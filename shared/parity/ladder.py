"""The parity ladder: every wing carries out every rung in a process of its own, and what they wrote is compared."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transfer_parity.shared.checkpoints import neutral
from transfer_parity.shared.contract import artifacts
from transfer_parity.shared.contract.climbs import ClimbSpec, WingClimb
from transfer_parity.shared.contract.jobs import Execution, TraceJob
from transfer_parity.shared.contract.results import WorkerResult
from transfer_parity.shared.contract.rungs import Rung
from transfer_parity.shared.contract.wings import IDENTIFIERS, REFERENCE, Framework
from transfer_parity.shared.core import machine, run_folder
from transfer_parity.shared.core.progress import Part, Progress, forecast_of
from transfer_parity.shared.parity.climb import WingClimbs, merged, prepare, recipe_for
from transfer_parity.shared.parity.document import PairResult, Parity
from transfer_parity.shared.parity.judging import Comparison
from transfer_parity.shared.runtime import expected, installed, launch
from transfer_parity.shared.runtime.pool import Task, WorkerPool
from transfer_parity.shared.zoo.pair import Pair

#: Parameters above which a process in float64 takes more than 10 GB: gradients, moments and copies of them all.
LARGE = 80_000_000
#: Of what a worker says when it begins, the part of a climb that it takes; and seconds of a climb with two million
#: parameters, and of judging it, before anything was measured.
COSTS: dict[Rung, float] = {
    "bytes": 0.01,
    "preprocessing": 0.01,
    "activations": 0.2,
    "loss": 0.3,
    "optimizer": 0.2,
    "trajectory": 0.28,
}
RUNG_SECONDS, JUDGING, JUDGING_SECONDS = 8.0, "judging", 1.0


class Ladder:
    """Climbs, pair by pair; results are kept as they come.

    Attributes:
        results: of every climb so far.
        trusted: the wing that measures rounding; None for the one that does as a rule.
    """

    trusted: Framework | None = None

    def __init__(self, folder: Path, threads: int | None, device: str, progress: Progress) -> None:
        self.folder, self.progress, self.device = folder, progress, device
        # The processes run at the same time and share the cores: nothing is timed here.
        self.threads = threads or max(1, machine.available_cores() // len(IDENTIFIERS))
        self.results: list[PairResult] = []
        self.versions: dict[str, str] = {}

    def foresee(self, pairs: Sequence[Pair], climbs: int, precision: str, size: int | None) -> None:
        """Tell the forecast what there is to do.

        Args:
            pairs: to climb with, in order.
            climbs: of each.
            precision: of all of them.
            size: side of the images in pixels, where it is chosen.
        """
        at_once = 1 if any(pair.parameters > LARGE for pair in pairs) else len(IDENTIFIERS)
        lanes = {}
        for pair in pairs:
            per_climb = RUNG_SECONDS * (pair.parameters / 2e6) ** 0.5 * (2 if precision == "float64" else 1)
            per_climb *= 1 if size is None else max(1.0, (size / 64) ** 2)
            for framework in IDENTIFIERS:
                parts = [Part(rung, per_climb * cost, framework) for rung, cost in COSTS.items()]
                lanes[f"{pair.name} {framework}"] = [*expected.start(framework)[:1], *parts * climbs]
            lanes[pair.name] = [Part(JUDGING, JUDGING_SECONDS * climbs)]
        forecast_of(self.progress).plan(lanes, at_once)

    def climb(self, specs: Sequence[ClimbSpec]) -> list[PairResult]:
        """Carry out climbs in one process for each framework, compare, and write ``parity.json``.

        Returns:
            A result for each climb and each wing that is compared with the reference.

        Raises:
            BadInput: a wing found something wrong with what it was given.
            WorkerFailed: a process ended early; earlier results have been written.
        """
        installed.make_sure_of(IDENTIFIERS)
        with run_folder.work_folder(self.folder) as work:
            recipes = [recipe_for(spec, self.device, self.threads) for spec in specs]
            climbs = [prepare(*each, work, self.trusted) for each in zip(specs, recipes, strict=True)]
            of_wings = {wing: merged([climb[wing] for climb in climbs]) for wing in IDENTIFIERS}
            for result in self._run(of_wings, work):
                self.versions |= result.versions
            forecast = forecast_of(self.progress)
            forecast.begin(specs[0].pair.name)
            found = [
                self._judge(spec, climb, other, work)
                for spec, climb in zip(specs, climbs, strict=True)
                for other in IDENTIFIERS
                if other != REFERENCE.identifier
            ]
            forecast.end(specs[0].pair.name)
        self.results += found
        self.document().save(self.folder / artifacts.PARITY)
        return found

    def document(self) -> Parity:
        """Everything so far."""
        return Parity(
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            versions=self.versions | {"numpy": np.__version__},
            pairs=self.results,
            passed=all(result.passed for result in self.results),
        )

    def _run(self, climbs: dict[Framework, list[WingClimb]], work: Path) -> list[WorkerResult]:
        """All processes at the same time, but for the largest models, which take most of the memory each."""
        tasks = []
        for framework, mine in climbs.items():
            job = TraceJob(execution=Execution.of(mine[0].recipe, self.threads), climbs=tuple(mine))
            tasks.append(self._task(framework, job, work / framework, self._listener(framework, mine)))
        largest = max(climb.recipe.pair.parameters for mine in climbs.values() for climb in mine)
        return WorkerPool(1 if largest > LARGE else len(tasks)).run(tasks)

    def _task(self, framework: Framework, job: TraceJob, folder: Path, listen: launch.Listener) -> Task:
        """What one process is to do."""
        return Task(framework, job, folder, listen)

    def _listener(self, framework: Framework, climbs: Sequence[WingClimb]) -> launch.Listener:
        """Turns a worker's events into progress."""
        done, name = 0, climbs[0].recipe.backbone
        forecast, lane = forecast_of(self.progress), f"{name} {framework}"
        follow = expected.following(forecast, lane)

        def listen(event: str, details: dict[str, Any]) -> None:
            nonlocal done
            follow(event, details)
            if event == "rung":
                forecast.advance(lane, details["name"], 0)
                self.progress(f"{name}: {framework} {details['name']}", done, len(climbs))
            done += event == "climb"
            if done == len(climbs):
                forecast.end(lane)

        return listen

    def _judge(self, spec: ClimbSpec, climbs: WingClimbs, other: Framework, work: Path) -> PairResult:
        """Compare what the reference and another wing wrote for one climb."""
        comparison = Comparison(spec, climbs, other, work)
        found = list(comparison.rungs())
        weights = "random"
        if spec.checkpoint is not None:
            weights = neutral.read_metadata(spec.checkpoint).source or spec.checkpoint.name
        return PairResult(
            backbone=spec.pair.name,
            semantics=spec.semantics,
            precision=spec.precision,
            weights=weights,
            switches=list(spec.switches),
            seed=spec.seed,
            image_size=spec.size,
            rungs=found,
            max_loss_difference=comparison.largest_loss_difference(),
            passed=all(rung.passed for rung in found),
        )

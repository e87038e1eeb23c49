"""The parity ladder: every wing carries out every rung in a process of its own, and what they wrote is compared."""

from __future__ import annotations

import datetime
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transfer_parity.shared.checkpoints import neutral
from transfer_parity.shared.contract import artifacts
from transfer_parity.shared.contract.climbs import ClimbSpec, WingClimb
from transfer_parity.shared.contract.jobs import Execution, TraceJob
from transfer_parity.shared.contract.results import WorkerResult
from transfer_parity.shared.contract.wings import IDENTIFIERS, REFERENCE, Framework
from transfer_parity.shared.core import machine
from transfer_parity.shared.core.progress import Progress
from transfer_parity.shared.parity.climb import WingClimbs, merged, prepare, recipe_for
from transfer_parity.shared.parity.document import PairResult, Parity
from transfer_parity.shared.parity.judging import Comparison
from transfer_parity.shared.runtime import installed, launch
from transfer_parity.shared.runtime.pool import Task, WorkerPool

#: Parameters above which a process in float64 takes more than 10 GB: gradients, moments and copies of them all.
LARGE = 80_000_000


class Ladder:
    """Climbs, pair by pair; results are kept as they come.

    Attributes:
        results: of every climb so far.
    """

    def __init__(self, folder: Path, threads: int | None, device: str, progress: Progress) -> None:
        self.folder, self.progress, self.device = folder, progress, device
        # The processes run at the same time and share the cores: nothing is timed here.
        self.threads = threads or max(1, machine.available_cores() // len(IDENTIFIERS))
        self.results: list[PairResult] = []
        self.versions: dict[str, str] = {}

    def climb(self, specs: Sequence[ClimbSpec]) -> list[PairResult]:
        """Carry out climbs in one process for each framework, compare, and write ``parity.json``.

        Returns:
            A result for each climb and each wing that is compared with the reference.

        Raises:
            BadInput: a wing found something wrong with what it was given.
            WorkerFailed: a process ended early; earlier results have been written.
        """
        installed.make_sure_of(IDENTIFIERS)
        work = Path(tempfile.mkdtemp(prefix=artifacts.PARITY_WORK, dir=self.folder.absolute()))
        try:
            climbs = [prepare(spec, recipe_for(spec, self.device, self.threads), work) for spec in specs]
            of_wings = {wing: merged([climb[wing] for climb in climbs]) for wing in IDENTIFIERS}
            for result in self._run(of_wings, work):
                self.versions |= result.versions
            found = [
                self._judge(spec, climb, other, work)
                for spec, climb in zip(specs, climbs, strict=True)
                for other in IDENTIFIERS
                if other != REFERENCE.identifier
            ]
        finally:
            shutil.rmtree(work, ignore_errors=True)
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
            tasks.append(Task(framework, job, work / framework, self._listener(framework, mine)))
        largest = max(climb.recipe.pair.parameters for mine in climbs.values() for climb in mine)
        return WorkerPool(1 if largest > LARGE else len(tasks)).run(tasks)

    def _listener(self, framework: Framework, climbs: Sequence[WingClimb]) -> launch.Listener:
        """Turns a worker's events into progress."""
        done = 0

        def listen(event: str, details: dict[str, Any]) -> None:
            nonlocal done
            if event == "rung":
                name = climbs[min(done, len(climbs) - 1)].recipe.backbone
                self.progress(f"{name}: {framework} {details['name']}", done, len(climbs))
            done += event == "climb"

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

"""The parity ladder: both wings carry out every rung, each in its own process, and what they wrote is compared."""

from __future__ import annotations

import datetime
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transfer_parity.shared.checkpoints import neutral
from transfer_parity.shared.contract import plan, switches
from transfer_parity.shared.contract.jobs import Case, Job
from transfer_parity.shared.contract.recipe import Framework
from transfer_parity.shared.contract.results import WorkerResult
from transfer_parity.shared.contract.rungs import RUNGS
from transfer_parity.shared.core import machine
from transfer_parity.shared.core.progress import Progress
from transfer_parity.shared.data import images
from transfer_parity.shared.parity.climb import (
    LABELS,
    PER_LABEL,
    SHOTS,
    Climb,
    Parts,
    classifier,
    draw_pictures,
    measuring,
    recipe_for,
)
from transfer_parity.shared.parity.document import PairResult, Parity
from transfer_parity.shared.parity.judging import Comparison
from transfer_parity.shared.runtime import launch
from transfer_parity.shared.runtime.pool import Crew, Task

#: Parameters above which a process in float64 takes more than 10 GB: gradients, moments and copies of them all.
LARGE = 80_000_000


class Ladder:
    """Climbs, pair by pair; results are kept as they come.

    Attributes:
        results: of every climb so far.
    """

    def __init__(self, folder: Path, threads: int | None, device: str, progress: Progress) -> None:
        self.folder, self.progress, self.device = folder, progress, device
        # The two processes run at the same time and share the cores: nothing is timed here.
        self.threads = threads or max(1, machine.available_cores() // 2)
        self.results: list[PairResult] = []
        self.versions: dict[str, str] = {}

    def climb(self, climbs: Sequence[Climb]) -> list[PairResult]:
        """Carry out climbs in one process for each framework, compare, and write ``parity.json``.

        Raises:
            BadInput: a wing found something wrong with what it was given.
            WorkerFailed: a process ended early; earlier results have been written.
        """
        work = Path(tempfile.mkdtemp(prefix=".parity-", dir=self.folder.absolute()))
        try:
            parts = [self._prepare(climb, work) for climb in climbs]
            for result in self._run(_shared(parts), work).values():
                self.versions |= result.versions
            found = [self._judge(climb, part, work) for climb, part in zip(climbs, parts, strict=True)]
        finally:
            shutil.rmtree(work, ignore_errors=True)
        self.results += found
        self.document().save(self.folder / "parity.json")
        return found

    def document(self) -> Parity:
        """Everything so far."""
        return Parity(
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            versions=self.versions | {"numpy": np.__version__},
            pairs=self.results,
            passed=all(result.passed for result in self.results),
        )

    def _prepare(self, climb: Climb, work: Path) -> Parts:
        """Draw pictures, labels and plan, and write them down for both wings."""
        recipe = recipe_for(climb, self.device, self.threads)
        folder = work / f"data-{climb.seed}-{climb.size}"
        labels = np.arange(LABELS * PER_LABEL) % LABELS
        if not folder.is_dir():
            folder.mkdir()
            paths = list(draw_pictures(folder, len(labels), climb.seed))
            np.save(folder / "images.npy", np.stack([images.read(p, recipe.resize_to, recipe.size) for p in paths]))
            np.save(folder / "labels.npy", labels)
            drawn = plan.draw(recipe, labels, None, [str(n) for n in range(LABELS)], climb.seed, SHOTS)
            drawn.save(folder / "plan.npz")
        own_classifier, classes = True, 10
        if climb.checkpoint is not None:
            own_classifier, classes = classifier(climb.checkpoint, climb.pair)
        parts: Parts = {}
        for framework in switches.FRAMEWORKS:
            switched = tuple(sorted(switches.of(framework, climb.switches)))
            what = (climb.pair.name, climb.semantics, climb.precision, str(climb.size), str(climb.seed), *switched)
            parts[framework] = Case(
                id="-".join(what),
                recipe=recipe,
                semantics=climb.semantics,
                own_classifier=own_classifier,
                classes=classes,
                seed=climb.seed,
                switches=switched,
                checkpoint=climb.checkpoint,
                images=folder / "images.npy",
                labels=folder / "labels.npy",
                plan=folder / "plan.npz",
                pictures=tuple(sorted(folder.glob("*.jpg"))),
                until=climb.until,
                skip=climb.skip,
            )
        whose = measuring(parts)
        parts[whose] = parts[whose].model_copy(update={"measures_rounding": True})
        return parts

    def _run(self, cases: dict[Framework, list[Case]], work: Path) -> dict[Framework, WorkerResult]:
        """Both processes at the same time, but for the largest models, which take most of the memory each."""

        tasks = []
        for framework, mine in cases.items():
            job = Job(kind="trace", recipe=mine[0].recipe, threads=self.threads, cases=tuple(mine))
            tasks.append(Task(framework, job, work / framework, self._listener(framework, mine)))
        largest = max(case.recipe.pair.parameters for mine in cases.values() for case in mine)
        results = Crew(1 if largest > LARGE else len(tasks)).run(tasks)
        return dict(zip(cases, results, strict=True))

    def _listener(self, framework: Framework, cases: list[Case]) -> launch.Listener:
        """Turns a worker's events into progress."""
        done = 0

        def listen(event: str, details: dict[str, Any]) -> None:
            nonlocal done
            if event == "rung":
                name = cases[min(done, len(cases) - 1)].recipe.backbone
                self.progress(f"{name}: {framework} {details['name']}", done, len(cases))
            done += event == "case"

        return listen

    def _judge(self, climb: Climb, parts: Parts, work: Path) -> PairResult:
        """Compare what both wings wrote for one climb."""
        comparison = Comparison(work, parts)
        found = list(comparison.rungs())
        weights = "random"
        if climb.checkpoint is not None:
            weights = neutral.read_metadata(climb.checkpoint).source or climb.checkpoint.name
        return PairResult(
            backbone=climb.pair.name,
            semantics=climb.semantics,
            precision=climb.precision,
            weights=weights,
            switches=list(climb.switches),
            seed=climb.seed,
            image_size=climb.size,
            rungs=found,
            max_loss_difference=comparison.largest_loss_difference(),
            passed=all(rung.passed for rung in found),
        )


def _shared(parts: Sequence[Parts]) -> dict[Framework, list[Case]]:
    """What each wing has to do. Climbs that differ in the other wing only share a case."""
    shared: dict[Framework, dict[str, Case]] = {framework: {} for framework in switches.FRAMEWORKS}
    for part in parts:
        for framework, case in part.items():
            known = shared[framework].setdefault(case.id, case)
            shared[framework][case.id] = known.model_copy(
                update={
                    "until": max(known.until, case.until, key=RUNGS.index),
                    "skip": known.skip & case.skip,
                    "measures_rounding": known.measures_rounding or case.measures_rounding,
                }
            )
    return {framework: list(cases.values()) for framework, cases in shared.items()}

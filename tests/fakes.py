"""Stand-ins for the frameworks' processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from transfer_parity.shared.contract import artifacts
from transfer_parity.shared.contract.jobs import Job, TrainJob
from transfer_parity.shared.contract.plan import Plan
from transfer_parity.shared.contract.results import RunResult, WorkerResult
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.core.errors import WorkerFailed
from transfer_parity.shared.core.random import generator
from transfer_parity.shared.runtime import launch


def run_result(run: str, weights: str = "") -> RunResult:
    phases = {"start": 1.0, "build": 1.0, "weights": 0.5, "features": 0.25, "training": 0.5, "inference": 0.25}
    return RunResult(id=run, phases=phases, peak_memory_bytes=2**30, weights_digest=weights)


def worker_result() -> WorkerResult:
    return WorkerResult(
        **{"versions": {}, "device": "CPU", "phases": {"training": 1.0}, "cpu_seconds": 1, "wall_seconds": 1},
        **{"involuntary_context_switches": 0, "others_share": 0, "peak_memory_bytes": 1},
    )


def logits_for(job: TrainJob, framework: str, run: str, labels: Array) -> Array:
    """Logits that depend on the run alone, nearly the same in both frameworks."""
    noise = generator(0, job.recipe.strategy, job.recipe.solver, run)
    skill = 0.0 if job.recipe.strategy == "scratch" else 2.0
    logits = noise.normal(size=(len(labels), len(job.data.classes))) + skill * np.eye(len(job.data.classes))[labels]
    if framework == "torch":
        logits[0] = -logits[0]
    return logits


class Quiet:
    """Events that nobody hears."""

    def tell(self, event: str, **details: Any) -> None:
        pass

    def progress(self, *given: Any) -> Callable[[int], None]:
        return self.advance

    def advance(self, steps: int = 1) -> None:
        pass


class FakeWorkers:
    """Stands in for the frameworks' processes; may die after some runs."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.lives: int | None = None
        self.ending: BaseException | None = None
        self.logits: Callable[[TrainJob, str, str, Array], Array] = logits_for

    def run(self, framework: str, job: Job, folder: Path, listen: launch.Listener) -> WorkerResult:
        assert isinstance(job, TrainJob)
        labels = np.load(job.data.labels)
        for run in job.runs:
            if self.lives is not None and len(self.runs) >= self.lives:
                raise self.ending or WorkerFailed(f"the {framework} worker was killed.", framework)
            self.runs.append(f"{framework} {job.recipe.strategy} {job.recipe.solver} {run.id}")
            (folder / run.id).mkdir()
            test = Plan.load(folder / run.plan).test
            np.save(folder / run.id / artifacts.LOGITS, self.logits(job, framework, run.id, labels[test]))
            np.save(folder / run.id / artifacts.LOSSES, np.zeros(3))
            if run.explain:
                np.save(folder / run.id / artifacts.MAPS, np.eye(4)[None].repeat(len(run.explain), 0))
            (folder / run.id / artifacts.RUN_RESULT).write_text(run_result(run.id).model_dump_json())
            listen("run", {"id": run.id})
        return worker_result()

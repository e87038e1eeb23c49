"""Stand-ins for the frameworks' processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from transfer_parity.shared.contract.jobs import Job
from transfer_parity.shared.contract.plan import Plan
from transfer_parity.shared.contract.results import CellResult, WorkerResult
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.core.errors import WorkerFailed
from transfer_parity.shared.core.random import generator
from transfer_parity.shared.runtime import launch


def said(cell: str, weights: str = "") -> CellResult:
    phases = {"start": 1.0, "build": 1.0, "weights": 0.5, "features": 0.25, "training": 0.5, "inference": 0.25}
    return CellResult(id=cell, phases=phases, peak_memory_bytes=2**30, weights_digest=weights)


def logits_for(job: Job, framework: str, cell: str, labels: Array) -> Array:
    """Logits that depend on the cell alone, nearly the same in both frameworks."""
    noise = generator(0, job.recipe.strategy, job.recipe.solver, cell)
    skill = 0.0 if job.recipe.strategy == "scratch" else 2.0
    logits = noise.normal(size=(len(labels), len(job.classes))) + skill * np.eye(len(job.classes))[labels]
    if framework == "torch":
        logits[0] = -logits[0]
    return logits


class FakeWorkers:
    """Stands in for the frameworks' processes; may die after some cells."""

    def __init__(self) -> None:
        self.cells: list[str] = []
        self.lives: int | None = None
        self.ending: BaseException | None = None
        self.logits: Callable[[Job, str, str, Array], Array] = logits_for

    def run(self, framework: str, job: Job, folder: Path, listen: launch.Listener) -> WorkerResult:
        assert job.labels is not None
        labels = np.load(job.labels)
        for cell in job.cells:
            if self.lives is not None and len(self.cells) >= self.lives:
                raise self.ending or WorkerFailed(f"the {framework} worker was killed.", framework)
            self.cells.append(f"{framework} {job.recipe.strategy} {job.recipe.solver} {cell.id}")
            (folder / cell.id).mkdir()
            test = Plan.load(folder / cell.plan).test
            np.save(folder / cell.id / "logits.npy", self.logits(job, framework, cell.id, labels[test]))
            np.save(folder / cell.id / "losses.npy", np.zeros(3))
            if cell.explain:
                np.save(folder / cell.id / "explained.npy", np.eye(4)[None].repeat(len(cell.explain), 0))
            (folder / cell.id / "cell.json").write_text(said(cell.id).model_dump_json())
            listen("cell", {"id": cell.id})
        return WorkerResult(
            **{"versions": {}, "device": "CPU", "phases": {}, "cpu_seconds": 1, "wall_seconds": 1},
            **{"involuntary_context_switches": 0, "others_share": 0, "peak_memory_bytes": 1},
        )

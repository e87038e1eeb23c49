"""What one process of a comparison has finished: kept as it comes, and taken up after an interruption."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from transfer_parity.shared.contract import artifacts
from transfer_parity.shared.contract.jobs import RunSpec
from transfer_parity.shared.contract.results import WorkerResult
from transfer_parity.shared.core import kept

#: Folder with what a process says about itself, once it has ended.
_WORKER = "worker"


class Ended(BaseModel):
    """A process that has ended well.

    Attributes:
        worker: what it says about itself.
        taken_up: how many runs an interrupted process had finished before it, which it did not do again.
    """

    model_config = ConfigDict(extra="forbid")

    worker: WorkerResult
    taken_up: int = 0


class FinishedRuns:
    """A folder for the finished runs of one process, each sealed and in a folder of its own.

    Attributes:
        folder: has a digest of everything that the numbers depend on in its name.
        runs: of the process, in order.
    """

    def __init__(self, folder: Path, runs: Sequence[RunSpec]) -> None:
        self.folder, self.runs = folder, runs

    def take(self, work: Path, run: str) -> None:
        """Move a finished run from the folder of its process here, unless that has been done."""
        source = work / run
        if not (source / artifacts.RUN_RESULT).is_file():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        kept.seal(source)
        kept.discard(self.folder / run)
        # One step: a folder with this name is complete, whenever the power fails.
        source.replace(self.folder / run)

    def take_check(self, work: Path) -> None:
        """Move what the short check of a process has written here, if it is there."""
        source, place = work / artifacts.CHECK, self.folder / artifacts.CHECK
        if (source / artifacts.SHADOW).is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            kept.seal(source)
            kept.discard(place)
            source.replace(place)

    def check(self) -> Path | None:
        """Folder of what the short check has written; None if it is not there or damaged."""
        place = self.folder / artifacts.CHECK
        return place if kept.condition(place) == "intact" else None

    def end(self, ended: Ended) -> None:
        """Keep what a process says about itself."""
        place = self.folder / _WORKER
        kept.discard(place)
        place.mkdir(parents=True)
        (place / artifacts.WORKER_RESULT).write_text(ended.model_dump_json(), encoding="utf-8")
        kept.seal(place)

    def ended(self) -> Ended | None:
        """What was kept of a process that has ended, or None."""
        place = self.folder / _WORKER
        if not kept.intact(place, "made again"):
            return None
        return Ended.model_validate_json((place / artifacts.WORKER_RESULT).read_text(encoding="utf-8"))

    def missing(self) -> list[RunSpec]:
        """Runs that are not finished, or damaged, which is told."""
        return [run for run in self.runs if not kept.intact(self.folder / run.id, "computed again")]

    def finished(self) -> list[tuple[RunSpec, Path]]:
        """Finished runs and their folders, in order."""
        places = [(run, self.folder / run.id) for run in self.runs]
        return [(run, place) for run, place in places if kept.condition(place) == "intact"]

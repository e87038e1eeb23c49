"""Learning curves: strategies x shots x seeds x frameworks. Every finished cell is kept at once; a rerun goes on."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared import catalogue, dataset, jobs, launch, machine, plan, results, sources
from shared.cache import Cache
from shared.contract import Cell, Job
from shared.crew import Crew, Task
from shared.fetch import Progress
from shared.plan import Plan
from shared.recipe import Framework, Recipe, Shots
from shared.strategies import BASELINE

#: Of the finished cells. Raise it when the code that computes them changes its meaning.
CELLS_VERSION = 1
#: Test images of a strategy for which class-activation maps are made.
EXPLAINED = 20
#: Packages whose versions finished cells depend on.
PACKAGES = ("tensorflow", "keras", "torch", "torchvision", "numpy", "scikit-learn")
#: Recipe keys that say which cells there are, or how they are judged, and not what comes out of one.
_NOT_OF_A_CELL = {"name", "seeds", "first_seed", "frameworks", "margin", "data", "skip_unreadable"}


@dataclass(frozen=True)
class Branch:
    """One strategy of a study, with what it needs.

    Attributes:
        pixels: its images in the cache, (N, S, S, 3).
        weights: neutral checkpoint, or None where all weights are drawn.
        plans: by number of shots and seed.
        digest: of everything that the numbers of its cells depend on.
    """

    recipe: Recipe
    pixels: Path
    weights: Path | None
    plans: dict[tuple[Shots, int], Plan]
    digest: str


@dataclass(frozen=True)
class Done:
    """A finished cell and the folder that holds it."""

    framework: Framework
    strategy: str
    cell: Cell
    folder: Path


class Grid:
    """All cells of a study, in a folder that remembers those that are finished.

    The same cell gives the same bits whatever else runs, in whatever order, and however often the study was
    interrupted: it starts from its own weights, plan and optimizer state, with a fixed number of threads and a fixed
    way of running the network.

    Attributes:
        data: the images and their classes.
        branches: by strategy.
        load: processes that wanted a core before the start, or None where the system does not count them.
    """

    def __init__(
        self,
        recipes: Mapping[str, Recipe],
        cache: Cache,
        folder: Path,
        progress: Progress,
        processes: int | None = None,
    ) -> None:
        self.recipes, self.cache, self.folder, self.progress = dict(recipes), cache, folder, progress
        self.common = next(iter(self.recipes.values()))
        self.threads = self.common.threads or 1
        self.processes = processes or max(1, machine.available_cores() // self.threads)
        self.load = machine.load_average()
        self.versions = {name: importlib.metadata.version(name) for name in PACKAGES}
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Decode, divide and find the weights, and forget what an interruption left half done.

        Raises:
            BadInput: a recipe cannot be carried out with what was given.
        """
        results.make(self.folder)
        for left in self.folder.glob(".work-*"):
            shutil.rmtree(left, ignore_errors=True)
        self.branches: dict[str, Branch] = {}
        loaded = catalogue.load(self.common.data, self.cache, self.progress)
        for strategy, recipe in self.recipes.items():
            skipping = (recipe.skip_unreadable, self.progress)
            sizes = (recipe.resize_to, recipe.stored_size)
            self.data, pixels = dataset.pixels(loaded, *sizes, self.cache, *skipping)
            weights = sources.resolve(recipe, self.cache, machine.available_cores(), self.progress)
            plans = plan.draw_all(recipe, self.data.labels, self.data.is_test, list(self.data.classes))
            self.branches[strategy] = Branch(recipe, pixels, weights, plans, self._digest(recipe, pixels, weights))

    @property
    def size(self) -> int:
        """Number of cells."""
        return sum(len(branch.plans) * len(branch.recipe.frameworks) for branch in self.branches.values())

    def run(self) -> None:
        """Work through what is not finished.

        Raises:
            WorkerFailed: a framework's process ended early; finished cells are kept, here and whatever else happens.
        """
        pending = [
            (strategy, framework, cells)
            for strategy, branch in self.branches.items()
            for framework in branch.recipe.frameworks
            if (cells := self._unfinished(framework, strategy))
        ]
        finished = self.size - sum(len(cells) for *_, cells in pending)
        self.progress("cells of the study", finished, self.size)

        def count() -> None:
            nonlocal finished
            finished += 1
            self.progress("cells of the study", finished, self.size)

        work = Path(tempfile.mkdtemp(prefix=".work-", dir=self.folder.absolute()))
        try:
            tasks = []
            for strategy, framework, cells in pending:
                folder = work / f"{framework}-{strategy}"
                folder.mkdir()
                job = self._job(folder, strategy, cells)
                tasks.append(Task(framework, job, folder, self._collector(framework, strategy, cells, folder, count)))
            Crew(self.processes).run(tasks)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def done(self) -> list[Done]:
        """Finished cells, in the order of the grid."""
        return [
            Done(framework, strategy, cell, place)
            for strategy, branch in self.branches.items()
            for cell in self._cells(strategy)
            for framework in branch.recipe.frameworks
            if (place := self._place(framework, strategy, cell)).is_dir()
        ]

    def _cells(self, strategy: str) -> list[Cell]:
        branch = self.branches[strategy]
        # It takes a while, so one cell of each strategy does it, and the baseline has seen too little.
        looking = None if strategy == BASELINE else (branch.recipe.shots[-1], branch.recipe.first_seed)
        return [
            Cell(
                id=jobs.cell_id(branch.weights is not None, shots, seed),
                pretrained=branch.weights is not None,
                shots=shots,
                seed=seed,
                plan=jobs.plan_file(shots, seed),
                explain=spread(drawn.test, EXPLAINED) if (shots, seed) == looking else (),
            )
            for (shots, seed), drawn in branch.plans.items()
        ]

    def _unfinished(self, framework: Framework, strategy: str) -> list[Cell]:
        return [cell for cell in self._cells(strategy) if not self._place(framework, strategy, cell).is_dir()]

    def _job(self, folder: Path, strategy: str, cells: list[Cell]) -> Job:
        branch = self.branches[strategy]
        store = self.cache.folder("features")
        where = (self.data, branch.pixels, branch.weights)
        return jobs.prepare(folder, branch.recipe, self.threads, *where, cells, branch.plans, store)

    def _collector(
        self, framework: Framework, strategy: str, cells: list[Cell], folder: Path, count: Callable[[], None]
    ) -> launch.Listener:
        """Takes every cell out of its process's folder as soon as it is finished."""
        by_id = {cell.id: cell for cell in cells}

        def listen(event: str, details: dict[str, Any]) -> None:
            if event == "cell":
                place = self._place(framework, strategy, by_id[details["id"]])
                place.parent.mkdir(exist_ok=True)
                # One step: a folder with this name is complete, whenever the power fails.
                (folder / details["id"]).replace(place)
                with self._lock:
                    count()

        return listen

    def _place(self, framework: Framework, strategy: str, cell: Cell) -> Path:
        """Where a finished cell lies."""
        name = f"{framework}-{strategy}-shots{cell.shots}-seed{cell.seed}-{self.branches[strategy].digest}"
        return self.folder / "cells" / name

    def _digest(self, recipe: Recipe, pixels: Path, weights: Path | None) -> str:
        """Of everything that the numbers of a strategy's cells depend on."""
        key = {
            "version": CELLS_VERSION,
            "packages": self.versions,
            "recipe": recipe.model_dump(mode="json", exclude=_NOT_OF_A_CELL),
            "threads": self.threads,
            "pixels": pixels.parent.name,
            "weights": _sha256(weights) if weights else None,
        }
        return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def spread(indices: NDArray[np.int64], most: int) -> tuple[int, ...]:
    """At most so many of the indices, evenly spread."""
    places = np.unique(np.linspace(0, len(indices) - 1, most).astype(np.int64))
    return tuple(int(index) for index in indices[places])


@functools.cache
def _sha256(path: Path) -> str:
    """Of a file that most strategies share."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Many cells: arms x shots x seeds. Every finished cell is kept at once; a rerun goes on."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transfer_parity.shared.contract import framework_defaults, plan
from transfer_parity.shared.contract.framework_defaults import Default, Mode, Way
from transfer_parity.shared.contract.jobs import Cell, Job
from transfer_parity.shared.contract.plan import Plan
from transfer_parity.shared.contract.recipe import Framework, Recipe, Shots
from transfer_parity.shared.contract.spec import frozen_stages
from transfer_parity.shared.contract.study_recipe import BASELINE
from transfer_parity.shared.core import machine, run_folder
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.progress import Progress
from transfer_parity.shared.data import pixel_cache
from transfer_parity.shared.data.folders import Dataset
from transfer_parity.shared.runtime import launch, prepare, resolve_dataset, resolve_weights
from transfer_parity.shared.runtime.pool import Crew, Task

#: Of the finished cells. Raise it when the code that computes them changes its meaning.
CELLS_VERSION = 2
#: Test images of a strategy for which class-activation maps are made.
EXPLAINED = 20
#: Packages whose versions finished cells depend on.
PACKAGES = ("tensorflow", "keras", "torch", "torchvision", "numpy", "scikit-learn")
#: Recipe keys that say which cells there are, or how they are judged, and not what comes out of one.
_NOT_OF_A_CELL = {"name", "seeds", "first_seed", "frameworks", "margin", "data", "skip_unreadable"}


@dataclass(frozen=True)
class Arm:
    """One strategy in one framework, in one way.

    Attributes:
        name: part of its cells' folders; unique for a framework. What follows a "+" is no part of a strategy's name.
        strategy: its name in the study.
        mode: "matched", "as shipped", or "one default" if the framework has its way in one thing.
    """

    name: str
    strategy: str
    framework: Framework
    way: Way
    mode: Mode = "matched"


@dataclass(frozen=True)
class Ground:
    """What all arms of a strategy share.

    Attributes:
        recipe: matched.
        pixels: its images in the cache, (N, S, S, 3).
        plans: by number of shots and seed.
    """

    recipe: Recipe
    pixels: Path
    plans: dict[tuple[Shots, int], Plan]


@dataclass(frozen=True)
class Branch:
    """An arm with what it needs.

    Attributes:
        weights: neutral checkpoint, or None where all weights are drawn.
        digest: of everything that the numbers of its cells depend on.
    """

    arm: Arm
    weights: Path | None
    digest: str


@dataclass(frozen=True)
class Done:
    """A finished cell and the folder that holds it."""

    arm: Arm
    cell: Cell
    folder: Path


#: The arms of all strategies, once the images are known.
Arms = Callable[[Mapping[str, Recipe], Dataset], Sequence[Arm]]


def matched(recipes: Mapping[str, Recipe], data: Dataset) -> list[Arm]:
    """Every strategy in both frameworks, alike."""
    return [
        Arm(strategy, strategy, framework, Way(recipe))
        for strategy, recipe in recipes.items()
        for framework in recipe.frameworks
    ]


def shipped(recipes: Mapping[str, Recipe], data: Dataset) -> list[Arm]:
    """Every strategy in both frameworks, each in its own way."""
    return [
        shipped_arm(strategy, recipe, framework, framework_defaults.defaults(recipe, data))
        for strategy, recipe in recipes.items()
        for framework in recipe.frameworks
    ]


def shipped_arm(strategy: str, recipe: Recipe, framework: Framework, defaults: list[Default]) -> Arm:
    """A strategy in one framework, which has its way in those of the defaults that are its own."""
    way = framework_defaults.as_shipped(recipe, framework, defaults)
    return Arm(f"{strategy}+as-shipped", strategy, framework, way, "as shipped")


class Grid:
    """All cells of some arms, in a folder that remembers those that are finished.

    On a CPU the same cell gives the same bits whatever else runs, in whatever order, and however often the study was
    interrupted: it starts from its own weights, plan and optimizer state, with a fixed number of threads and a fixed
    way of running the network.

    Attributes:
        data: the images and their classes.
        grounds: by strategy.
        branches: one for each arm, in order.
        load: processes that wanted a core before the start, or None where the system does not count them.
    """

    def __init__(
        self,
        recipes: Mapping[str, Recipe],
        cache: Cache,
        folder: Path,
        progress: Progress,
        processes: int | None = None,
        arms: Arms = matched,
        explains: bool = True,
    ) -> None:
        self._arms, self._explains = arms, explains
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
        run_folder.make(self.folder)
        for left in self.folder.glob(".work-*"):
            shutil.rmtree(left, ignore_errors=True)
        self.grounds: dict[str, Ground] = {}
        loaded = resolve_dataset.load(self.common.data, self.cache, self.progress)
        for strategy, recipe in self.recipes.items():
            skipping = (recipe.skip_unreadable, self.progress)
            sizes = (recipe.resize_to, recipe.stored_size)
            self.data, pixels = pixel_cache.pixels(loaded, *sizes, self.cache, *skipping)
            plans = plan.draw_all(recipe, self.data.labels, self.data.is_test, list(self.data.classes))
            self.grounds[strategy] = Ground(recipe, pixels, plans)
        self.branches = [self._branch(arm) for arm in self._arms(self.recipes, self.data)]

    def _branch(self, arm: Arm) -> Branch:
        weights = resolve_weights.resolve(arm.way.recipe, self.cache, machine.available_cores(), self.progress)
        return Branch(arm, weights, self._digest(arm, weights))

    @property
    def size(self) -> int:
        """Number of cells."""
        return sum(len(self.grounds[branch.arm.strategy].plans) for branch in self.branches)

    def run(self) -> None:
        """Work through what is not finished.

        Raises:
            WorkerFailed: a framework's process ended early; finished cells are kept, here and whatever else happens.
        """
        pending = [(branch, cells) for branch in self.branches if (cells := self._unfinished(branch))]
        # What runs most of a network in every step takes longest, and is not left to the end, when it would run alone.
        pending.sort(key=lambda each: frozen_stages(each[0].arm.way.recipe, each[0].arm.way.switches))
        finished = self.size - sum(len(cells) for _, cells in pending)
        self.progress("cells of the grid", finished, self.size)

        def count() -> None:
            nonlocal finished
            finished += 1
            self.progress("cells of the grid", finished, self.size)

        work = Path(tempfile.mkdtemp(prefix=".work-", dir=self.folder.absolute()))
        try:
            tasks = []
            for branch, cells in pending:
                folder = work / f"{branch.arm.framework}-{branch.arm.name}"
                folder.mkdir()
                listen = self._collector(branch, cells, folder, count)
                tasks.append(Task(branch.arm.framework, self._job(folder, branch, cells), folder, listen))
            Crew(self.processes).run(tasks)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def done(self) -> list[Done]:
        """Finished cells, arm by arm."""
        return [
            Done(branch.arm, cell, place)
            for branch in self.branches
            for cell in self._cells(branch)
            if _is_finished(place := self._place(branch, cell), cell)
        ]

    def _cells(self, branch: Branch) -> list[Cell]:
        arm, ground = branch.arm, self.grounds[branch.arm.strategy]
        # It takes a while, so one cell of each strategy does it, and the baseline has seen too little.
        looks = self._explains and arm.mode == "matched" and arm.strategy != BASELINE
        looking = (ground.recipe.shots[-1], ground.recipe.first_seed) if looks else None
        return [
            Cell(
                id=prepare.cell_id(branch.weights is not None, shots, seed),
                pretrained=branch.weights is not None,
                shots=shots,
                seed=seed,
                plan=prepare.plan_file(shots, seed),
                explain=spread(drawn.test, EXPLAINED) if (shots, seed) == looking else (),
            )
            for (shots, seed), drawn in ground.plans.items()
        ]

    def _unfinished(self, branch: Branch) -> list[Cell]:
        return [cell for cell in self._cells(branch) if not _is_finished(self._place(branch, cell), cell)]

    def _job(self, folder: Path, branch: Branch, cells: list[Cell]) -> Job:
        ground, way = self.grounds[branch.arm.strategy], branch.arm.way
        return prepare.prepare(
            folder,
            way.recipe,
            self.threads,
            self.data,
            ground.pixels,
            branch.weights,
            cells,
            ground.plans,
            self.cache.folder("features"),
            switches=way.switches,
        )

    def _collector(self, branch: Branch, cells: list[Cell], folder: Path, count: Callable[[], None]) -> launch.Listener:
        """Takes every cell out of its process's folder as soon as it is finished."""
        by_id = {cell.id: cell for cell in cells}

        def listen(event: str, details: dict[str, Any]) -> None:
            if event == "cell":
                place = self._place(branch, by_id[details["id"]])
                place.parent.mkdir(exist_ok=True)
                # There is one already if it was finished without the maps that are wanted now.
                shutil.rmtree(place, ignore_errors=True)
                # One step: a folder with this name is complete, whenever the power fails.
                (folder / details["id"]).replace(place)
                with self._lock:
                    count()

        return listen

    def _place(self, branch: Branch, cell: Cell) -> Path:
        """Where a finished cell lies."""
        name = f"{branch.arm.framework}-{branch.arm.name}-shots{cell.shots}-seed{cell.seed}-{branch.digest}"
        return self.folder / "cells" / name

    def _digest(self, arm: Arm, weights: Path | None) -> str:
        """Of everything that the numbers of an arm's cells depend on."""
        key: dict[str, Any] = {
            "version": CELLS_VERSION,
            "packages": self.versions,
            "recipe": arm.way.recipe.model_dump(mode="json", exclude=_NOT_OF_A_CELL),
            "threads": self.threads,
            "pixels": prepare.data_digest(self.grounds[arm.strategy].pixels, arm.way.switches),
            "weights": _sha256(weights) if weights else None,
        }
        if arm.way.switches:
            key["switches"] = sorted(arm.way.switches)
        return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def _is_finished(place: Path, cell: Cell) -> bool:
    """Whether a folder holds all that is asked of a cell."""
    return place.is_dir() and (not cell.explain or (place / "explained.npy").is_file())


def spread(indices: NDArray[np.int64], most: int) -> tuple[int, ...]:
    """At most so many of the indices, evenly spread."""
    places = np.unique(np.linspace(0, len(indices) - 1, most).astype(np.int64))
    return tuple(int(index) for index in indices[places])


@functools.cache
def _sha256(path: Path) -> str:
    """Of a file that most strategies share."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Many cells: arms x shots x seeds. Every finished cell is kept at once; a rerun goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from transfer_parity.shared.contract import artifacts, plan
from transfer_parity.shared.contract.jobs import Execution, RunSpec, TrainJob
from transfer_parity.shared.contract.recipe import Recipe, Shots
from transfer_parity.shared.contract.spec import frozen_stages
from transfer_parity.shared.contract.study_recipe import BASELINE
from transfer_parity.shared.core import kept, machine, notices, run_folder
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.core.progress import Part, Progress, forecast_of
from transfer_parity.shared.data.folders import Dataset
from transfer_parity.shared.experiments import digests
from transfer_parity.shared.experiments.arms import Arm, MakeArms, matched
from transfer_parity.shared.experiments.sweep_inputs import ArmInputs, FinishedCell, StrategyInputs, SweepInputs
from transfer_parity.shared.runtime import expected, installed, launch, prepare, resolve_dataset, resolve_weights
from transfer_parity.shared.runtime.pool import Task, WorkerPool
from transfer_parity.shared.runtime.prepare import Plans, RunInputs

Precision = Literal["float32", "float64"]
#: What a sweep does, for people.
CELLS = "cells of the grid"
#: Test images of a strategy for which class-activation maps are made.
EXPLAINED = 20


def prepared(
    recipes: Mapping[str, Recipe],
    cache: Cache,
    folder: Path,
    progress: Progress,
    *,
    processes: int | None = None,
    make_arms: MakeArms = matched,
    explains: bool = True,
) -> Sweep:
    """Decode, divide and find the weights.

    Args:
        recipes: by strategy; alike in what a study's strategies have in common.
        cache: of images, weights and features.
        folder: receives the cells.
        progress: hears how far it is.
        processes: how many run at a time; by default as many as the cores have room for.
        make_arms: what there is to do.
        explains: whether class-activation maps are made.

    Raises:
        BadInput: a recipe cannot be carried out with what was given.
    """
    common = next(iter(recipes.values()))
    load, versions = machine.load_average(), installed.versions(digests.DISTRIBUTIONS)
    threads = common.threads or 1
    installed.make_sure_of(common.frameworks, optional=True)
    run_folder.make(folder)
    if len({recipe.method.takes_tasks for recipe in recipes.values()}) > 1:
        raise BadInput(
            "strategies with several tasks and with one cannot be compared; leave multi_task, or the others, out."
        )
    loaded = resolve_dataset.of_recipe(common, cache, progress)
    strategies = {}
    forecast_of(progress).plan(expected.to_decode(recipes.values(), len(loaded)))
    for strategy, recipe in recipes.items():
        data, pixels = prepare.decoded(recipe, prepare.with_unlabelled(recipe, loaded), cache, progress)
        strategies[strategy] = StrategyInputs(recipe, data, pixels, prepare.drawn(recipe, data, pixels))
    inputs, arms = SweepInputs(strategies, (), threads, versions, load), []
    for arm in make_arms(recipes, inputs.data):
        checkpoint = resolve_weights.resolve(arm.configuration.recipe, cache, machine.available_cores(), progress)
        arms.append(ArmInputs(arm, checkpoint, inputs.digest(arm, checkpoint)))
    inputs = replace(inputs, arms=tuple(arms))
    return Sweep(inputs, cache, folder, progress, processes or max(1, machine.available_cores() // threads), explains)


class Sweep:
    """All cells of some arms, in a folder that remembers those that are finished.

    On a CPU the same cell gives the same bits whatever else runs, in whatever order, and however often the study was
    interrupted: it starts from its own weights, plan and optimizer state, with a fixed number of threads and a fixed
    way of running the network.

    Attributes:
        inputs: what it starts from.
        folder: holds the cells.
    """

    def __init__(
        self,
        inputs: SweepInputs,
        cache: Cache,
        folder: Path,
        progress: Progress,
        processes: int,
        explains: bool,
        what: str = CELLS,
    ) -> None:
        self.inputs, self.cache, self.folder, self.progress = inputs, cache, folder, progress
        self._processes, self._explains, self._what = processes, explains, what
        self._lock = threading.Lock()

    @property
    def data(self) -> Dataset:
        """The labelled images and their classes."""
        return self.inputs.data

    @property
    def arms(self) -> list[Arm]:
        """All of them, in order."""
        return [each.arm for each in self.inputs.arms]

    @property
    def recipes(self) -> dict[str, Recipe]:
        """By strategy, matched."""
        return {strategy: each.recipe for strategy, each in self.inputs.strategies.items()}

    @property
    def common(self) -> Recipe:
        """What all strategies have in common: data, backbone, weights, shots, seeds, margin, frameworks."""
        return next(iter(self.recipes.values()))

    @property
    def size(self) -> int:
        """Number of cells."""
        return sum(len(self.inputs.strategies[each.arm.key.strategy].plans) for each in self.inputs.arms)

    def run(self) -> None:
        """Work through what is not finished.

        Raises:
            WorkerFailed: a framework's process ended early; finished cells are kept, here and whatever else happens.
        """
        self._tell_of_damage()
        pending = [(each, runs) for each in self.inputs.arms if (runs := self._unfinished(each))]
        # What runs most of a network in every step takes longest, and is not left to the end, when it would run alone.
        pending.sort(
            key=lambda each: frozen_stages(each[0].arm.configuration.recipe, each[0].arm.configuration.switches)
        )
        finished = self.size - sum(len(runs) for _, runs in pending)
        self.progress(self._what, finished, self.size)

        def count() -> None:
            nonlocal finished
            finished += 1
            self.progress(self._what, finished, self.size)

        with run_folder.work_folder(self.folder) as work:
            tasks, lanes = [], {}
            for each, runs in pending:
                framework = each.arm.key.framework
                folder = work / f"{framework}-{each.arm.key.label}"
                folder.mkdir()
                lanes[folder.name] = self._parts(each, runs)
                listen = self._collector(each, runs, folder, count)
                tasks.append(Task(framework, self._job(folder, each, runs), folder, listen))
            forecast_of(self.progress).plan(lanes, at_once=self._processes)
            WorkerPool(self._processes).run(tasks)

    def one_cell(self, strategy: str, shots: Shots, seed: int, precision: Precision) -> Sweep:
        """One matched cell of every framework in another precision: the same images, plan and first weights.

        Returns:
            A sweep in the same folder.
        """
        inputs = self.inputs
        recipe = self.recipes[strategy].model_copy(update={"precision": precision})
        plans = {(shots, seed): inputs.strategies[strategy].plans[shots, seed]}
        arms = []
        for each in inputs.arms:
            if (each.arm.key.strategy, each.arm.key.mode) == (strategy, "matched"):
                arm = replace(each.arm, configuration=replace(each.arm.configuration, recipe=recipe))
                arms.append(ArmInputs(arm, each.checkpoint, inputs.digest(arm, each.checkpoint)))
        alone = replace(inputs.strategies[strategy], recipe=recipe, plans=plans)
        changed = replace(inputs, strategies={strategy: alone}, arms=tuple(arms))
        return Sweep(changed, self.cache, self.folder, self.progress, self._processes, explains=False)

    def at_rates(self, rates: Mapping[str, Mapping[tuple[Shots, int], float]]) -> Sweep:
        """The same cells, some of them at a learning rate of their own: by strategy, number of shots and seed."""
        strategies = dict(self.inputs.strategies)
        for name, chosen in rates.items():
            each = strategies[name]
            own = {key: rate for key, rate in chosen.items() if rate != each.recipe.learning_rate}
            moved = {key: plan.at_rate(each.recipe, each.plans[key], rate) for key, rate in own.items()}
            strategies[name] = replace(each, plans={**each.plans, **moved}, rates=own)
        inputs = replace(self.inputs, strategies=strategies)
        return Sweep(inputs, self.cache, self.folder, self.progress, self._processes, self._explains)

    def further(
        self, arms: Sequence[Arm], plans: Mapping[str, Plans] | None = None, what: str = CELLS, part: str = "held out"
    ) -> Sweep:
        """Other arms on the same images.

        Args:
            arms: of the sweep's strategies.
            plans: by strategy, where other images of the training set train and others judge: such cells have a place
                of their own. Strategies without plans have no arms.
            what: the cells, for people.
            part: of the plans, which tells them from others of the same runs.

        Returns:
            A sweep in the same folder.

        Raises:
            BadInput: an arm's weights cannot be had.
        """
        inputs, made = self.inputs, []
        more = {"plans": part} if plans is not None else None
        known = {id(each.arm): each.checkpoint for each in inputs.arms}
        for arm in arms:
            checkpoint = known.get(id(arm))
            if id(arm) not in known:
                recipe = arm.configuration.recipe
                checkpoint = resolve_weights.resolve(recipe, self.cache, machine.available_cores(), self.progress)
            made.append(ArmInputs(arm, checkpoint, inputs.digest(arm, checkpoint, more)))
        strategies = dict(inputs.strategies)
        for name, found in (plans or {}).items():
            strategies[name] = replace(strategies[name], plans=found)
        changed = replace(inputs, strategies=strategies, arms=tuple(made))
        return Sweep(changed, self.cache, self.folder, self.progress, self._processes, explains=False, what=what)

    def finished(self) -> list[FinishedCell]:
        """Finished cells, arm by arm."""
        return [
            FinishedCell(each.arm, run, place)
            for each in self.inputs.arms
            for run in self._runs(each)
            if _is_finished(place := self._place(each, run), run)
        ]

    def _runs(self, inputs: ArmInputs) -> list[RunSpec]:
        key, strategy = inputs.arm.key, self.inputs.strategies[inputs.arm.key.strategy]
        given = strategy.recipe.image_features is not None
        # It takes a while, so one cell of each strategy does it, the baseline has seen too little, and
        # of given features no image can be asked. A map is of one class of an image.
        explains = self._explains and key.mode == "matched" and key.strategy != BASELINE and not given
        explains = explains and not strategy.recipe.method.takes_tasks
        explained = (strategy.recipe.shots[-1], strategy.recipe.first_seed) if explains else None
        pretrained = inputs.checkpoint is not None or given
        return [
            RunSpec(
                id=artifacts.run_id(pretrained, shots, seed),
                pretrained=pretrained,
                shots=shots,
                seed=seed,
                plan=artifacts.plan_file(shots, seed),
                explain=spread(drawn.test, EXPLAINED) if (shots, seed) == explained else (),
            )
            for (shots, seed), drawn in strategy.plans.items()
        ]

    def _unfinished(self, inputs: ArmInputs) -> list[RunSpec]:
        return [run for run in self._runs(inputs) if not _is_finished(self._place(inputs, run), run)]

    def _parts(self, inputs: ArmInputs, runs: list[RunSpec]) -> list[Part]:
        """What an arm's process has to do."""
        plans, configuration = self.inputs.strategies[inputs.arm.key.strategy].plans, inputs.arm.configuration
        where = (inputs.arm.key.framework, self.inputs.threads)
        return expected.parts(configuration.recipe, runs, plans, *where, configuration.switches)

    def _tell_of_damage(self) -> None:
        """Say which cells are not as they were written: they count as unfinished."""
        places = [self._place(each, run) for each in self.inputs.arms for run in self._runs(each)]
        damaged = [place.name for place in places if kept.condition(place) == "damaged"]
        if damaged:
            one, others = damaged[0], f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
            verb = "are" if others else "is"
            notices.say(f"{self.folder / artifacts.CELLS / one}{others} {verb} damaged and computed again.")

    def _job(self, folder: Path, inputs: ArmInputs, runs: list[RunSpec]) -> TrainJob:
        strategy, configuration = self.inputs.strategies[inputs.arm.key.strategy], inputs.arm.configuration
        recipe, plans = configuration.recipe, strategy.plans
        if recipe.learning_rate != strategy.recipe.learning_rate:
            # The rate of every step stands in the plan.
            plans = {
                key: plan.at_rate(strategy.recipe, each, recipe.learning_rate) for key, each in strategy.plans.items()
            }
        return prepare.train_job(
            folder,
            RunInputs(recipe, strategy.data, strategy.pixels, inputs.checkpoint, plans),
            runs,
            Execution.of(recipe, self.inputs.threads),
            self.cache.folder(artifacts.FEATURES),
            configuration.switches,
        )

    def _collector(
        self, inputs: ArmInputs, runs: list[RunSpec], folder: Path, count: Callable[[], None]
    ) -> launch.Listener:
        """Takes every cell out of its process's folder as soon as it is finished."""
        by_id = {run.id: run for run in runs}
        follow = expected.following(forecast_of(self.progress), folder.name)

        def listen(event: str, details: dict[str, Any]) -> None:
            follow(event, details)
            if event == "run":
                place = self._place(inputs, by_id[details["id"]])
                place.parent.mkdir(exist_ok=True)
                kept.seal(folder / details["id"])
                # There is one already if it was finished without the maps that are wanted now, or is damaged.
                kept.discard(place)
                # One step: a folder with this name is complete, whenever the power fails.
                (folder / details["id"]).replace(place)
                with self._lock:
                    count()

        return listen

    def _place(self, inputs: ArmInputs, run: RunSpec) -> Path:
        """Where a finished cell lies. A rate of its own is told in full: it is no part of the arm's digest."""
        rate = self.inputs.strategies[inputs.arm.key.strategy].rates.get((run.shots, run.seed))
        own = "" if rate is None else f"-rate{rate!r}"
        return self.folder / artifacts.CELLS / f"{cell_name(inputs.arm, run)}-{inputs.digest}{own}"


def cell_name(arm: Arm, run: RunSpec) -> str:
    """Of a cell, for people; its folder's name has a digest behind it."""
    return artifacts.cell_name(arm.key.framework, arm.key.label, run.shots, run.seed)


def _is_finished(place: Path, run: RunSpec) -> bool:
    """Whether a folder holds all that is asked of a cell, as it was written."""
    return kept.condition(place) == "intact" and (not run.explain or (place / artifacts.MAPS).is_file())


def spread(indices: NDArray[np.int64], most: int) -> tuple[int, ...]:
    """At most so many of the indices, evenly spread."""
    places = np.unique(np.linspace(0, len(indices) - 1, most).astype(np.int64))
    return tuple(int(index) for index in indices[places])

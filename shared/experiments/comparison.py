"""One recipe carried out by its frameworks, one after the other, over the same files."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from transfer_parity.shared.contract import artifacts
from transfer_parity.shared.contract.jobs import Execution, RunSpec
from transfer_parity.shared.contract.recipe import Framework, Recipe
from transfer_parity.shared.contract.results import WorkerResult
from transfer_parity.shared.contract.wings import compared
from transfer_parity.shared.core import machine
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput, WorkerFailed
from transfer_parity.shared.core.progress import Forecast, Progress, forecast_of
from transfer_parity.shared.core.run_folder import RunFolder
from transfer_parity.shared.data.folders import Dataset
from transfer_parity.shared.experiments import digests, short_check
from transfer_parity.shared.experiments.comparison_document import Comparison
from transfer_parity.shared.experiments.comparison_results import ComparisonResults, Setting, executions
from transfer_parity.shared.experiments.finished_runs import Ended, FinishedRuns
from transfer_parity.shared.experiments.trainings import Training
from transfer_parity.shared.runtime import expected, installed, launch, prepare, resolve_weights
from transfer_parity.shared.runtime.prepare import RunInputs


def writes(recipe: Recipe) -> list[str]:
    """Names of all files that a comparison may leave in its folder, as ``run_folder.claimed`` takes them."""
    ids = [run.id for run in run_specs(recipe, recipe.pretrained)]
    logits = [f"{artifacts.LOGITS_FOLDER}/{each}*-{run}.npy" for each in recipe.frameworks for run in ids]
    logits += [f"{artifacts.LOGITS_FOLDER}/{each}-{run}.npy" for each in recipe.frameworks for run in ids]
    models = [f"{artifacts.MODELS}/{each}.*" for each in recipe.frameworks]
    logs = [artifacts.kept_log(each) for each in recipe.frameworks]
    return [artifacts.RECIPE, artifacts.COMPARISON, *logs, *logits, *models]


def prepared(recipe: Recipe, cache: Cache, folder: RunFolder, progress: Progress) -> ComparisonRunner:
    """Decode, divide and find the weights.

    Args:
        recipe: to carry out.
        cache: of images, weights and features.
        folder: receives the results; the caller commits them.
        progress: hears how far it is.

    Raises:
        BadInput: the recipe cannot be carried out with what was given.
    """
    installed.make_sure_of(recipe.frameworks, optional=True)
    threads, load = recipe.threads or machine.available_cores(), machine.load_average()
    loaded = prepare.loaded(recipe, cache, progress)
    foresee(recipe, loaded, threads, forecast_of(progress))
    data, pixels = prepare.decoded(recipe, loaded, cache, progress)
    plans = prepare.drawn(recipe, data, pixels)
    checkpoint = resolve_weights.resolve(recipe, cache, threads, progress)
    inputs = RunInputs(recipe, data, pixels, checkpoint, plans)
    return ComparisonRunner(inputs, folder, Setting(folder.stage, threads, load), cache, progress)


def foresee(recipe: Recipe, data: Dataset, threads: int, forecast: Forecast) -> None:
    """Tell a forecast what a comparison has to do. Nothing is told about what cannot be carried out."""
    with contextlib.suppress(BadInput):
        plans, runs = prepare.drawn(recipe, data), run_specs(recipe, recipe.pretrained)
        lanes = {
            _lane(recipe, framework, execution, number): expected.parts(recipe, runs, plans, framework, threads)
            for number in range(recipe.repeats)
            for execution in executions(recipe, threads)
            for framework in recipe.frameworks
        }
        forecast.plan(expected.to_decode([recipe], len(data)) | lanes)


def _lane(recipe: Recipe, framework: Framework, execution: Execution, number: int) -> str:
    """Name of one process in a forecast."""
    return f"{recipe.backbone} {framework} {execution.runtime} {execution.precision} {number}"


def run_specs(recipe: Recipe, pretrained: bool) -> list[RunSpec]:
    """Pretrained runs, then the control; the first seed with the most images keeps its model."""
    kinds = [pretrained]
    if recipe.control and pretrained:
        kinds.append(False)
    # A head on given features is no model of images.
    kept = (recipe.shots[-1], recipe.first_seed) if recipe.image_features is None else None
    return [
        RunSpec(
            id=artifacts.run_id(kind, shots, seed),
            pretrained=kind,
            shots=shots,
            seed=seed,
            plan=artifacts.plan_file(shots, seed),
            save_model=kind == pretrained and (shots, seed) == kept,
        )
        for kind in kinds
        for shots in recipe.shots
        for seed in recipe.seed_list
    ]


class ComparisonRunner:
    """Starts the processes of a comparison in turns, and keeps what they finish."""

    def __init__(
        self, inputs: RunInputs, folder: RunFolder, setting: Setting, cache: Cache, progress: Progress
    ) -> None:
        self.inputs, self.cache, self.progress = inputs, cache, progress
        self.recipe, self.folder = inputs.recipe, folder
        self._versions = installed.versions(digests.DISTRIBUTIONS)
        self._checks: dict[Framework, Path] = {}
        self.results = ComparisonResults(inputs, setting)

    def compare(self) -> Comparison:
        """Run everything and write the results, for the caller to commit.

        Raises:
            BadInput: a framework cannot use what was given.
            WorkerFailed: a framework's process ended early; what was finished by then has been written, and takes the
                place of earlier results unless those are complete.
        """
        stage = self.folder.stage
        (stage / artifacts.RECIPE).write_text(self.recipe.as_toml(), encoding="utf-8")
        try:
            self._take_turns()
        except (BadInput, WorkerFailed, KeyboardInterrupt):
            self.results.document().save(stage / artifacts.COMPARISON)
            if self.results.finished or not self.folder.has_results:
                self.folder.commit(complete=False)
            raise
        comparison = self.results.document()
        comparison.save(stage / artifacts.COMPARISON)
        return comparison

    def trainings(self, comparison: Comparison) -> Iterator[Training]:
        """The training runs of a comparison, for TensorBoard."""
        for run in comparison.runs:
            name = f"{run.framework}-{artifacts.run_id(run.pretrained, run.shots, run.seed)}"
            rates = self.inputs.plans[run.shots, run.seed].learning_rates
            yield Training(name, run.losses, rates.tolist(), run.accuracy)

    def _take_turns(self) -> None:
        """A B A B: every repeat of every execution, the frameworks one after the other. Disturbed pairs come again.

        The first repeat gives the results; all others are there for their clocks.
        """
        tries, number, counted = 2 * self.recipe.repeats, 0, 0
        while counted < self.recipe.repeats and number < tries:
            for execution in self.results.executions:
                for framework in self.recipe.frameworks:
                    self._run(framework, execution, number)
            latest = [repeat for repeat in self.results.repeats if repeat.number == number]
            # With one repeat there is nothing to compare, and a disturbance is only told.
            counted += self.recipe.repeats == 1 or not any(repeat.disturbed for repeat in latest)
            number += 1

    def _run(self, framework: Framework, execution: Execution, number: int) -> None:
        """One framework's process, as far as none has ended before. Its finished runs are collected even if it fails.

        A first process goes on where one before it was interrupted, unless clocks are compared.
        """
        runs = run_specs(self.recipe, self.results.pretrained)
        kept = FinishedRuns(self.folder.finished / self._name(framework, execution, number, runs), runs)
        lane = _lane(self.recipe, framework, execution, number)
        try:
            missing = kept.missing() if number == 0 else []
            ended = kept.ended()
            checked = self._checked(runs) if number == 0 and execution == self.results.main else None
            unchecked = checked is not None and kept.check() is None
            if ended is None or missing or unchecked:
                # A process that has finished all runs, and was killed before it said so, does the last one again.
                todo = (missing or runs[-1:]) if self._goes_on else runs
                if checked is not None and unchecked and checked not in todo:
                    todo = [checked, *missing]
                check = checked.id if checked is not None and unchecked else ""
                worker = self._work(framework, execution, todo, kept if number == 0 else None, lane, check)
                ended = Ended(worker=worker, taken_up=len(runs) - len(todo) if number == 0 else 0)
                kept.end(ended)
            forecast_of(self.progress).end(lane)
            self.results.add_repeat(framework, execution, number, ended.worker, ended.taken_up)
            place = kept.check()
            if checked is not None and place is not None:
                self._checks[framework] = place
                self._judge_check(checked)
        finally:
            if number == 0:
                for run, place in kept.finished():
                    self.results.add_run(framework, execution, run, place)

    def _checked(self, runs: Sequence[RunSpec]) -> RunSpec | None:
        """The run that the short check takes: the first of the recipe's own. None if there is nothing to check."""
        if compared(self.recipe.frameworks) is None or not short_check.can_be_checked(self.recipe):
            return None
        return next(run for run in runs if run.pretrained == self.results.pretrained)

    def _judge_check(self, run: RunSpec) -> None:
        """Judge the short check, once both frameworks have done it."""
        two = compared(self.recipe.frameworks)
        if two is not None and all(wing.identifier in self._checks for wing in two):
            seconds = sum(repeat.worker.check_seconds for repeat in self.results.repeats)
            self.results.check = short_check.judged(run.id, self.recipe, two, self._checks, seconds)

    def _work(
        self,
        framework: Framework,
        execution: Execution,
        runs: list[RunSpec],
        kept: FinishedRuns | None,
        lane: str,
        check: str = "",
    ) -> WorkerResult:
        """Let a process do some runs, and keep them as they come, if they are to be kept."""
        recipe = self.recipe.model_copy(update={"precision": execution.precision})
        with self.folder.work(f"{framework}-") as work:
            job = prepare.train_job(
                work, replace(self.inputs, recipe=recipe), runs, execution, self._store(), check=check
            )
            take = partial(kept.take, work) if kept is not None else None
            # Keeping them takes time that is not the framework's: where clocks count it waits for the end.
            listen = self._listener(framework, len(runs), lane, take if self._goes_on else None)
            try:
                return launch.run(framework, job, work, listen)
            except WorkerFailed:
                log = work / artifacts.LOG
                if log.is_file():
                    # Beside earlier results that stay it would look like theirs.
                    place = self.folder.finished if self.folder.keeps_earlier else self.folder.stage
                    place.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(log, place / artifacts.kept_log(framework))
                raise
            finally:
                if kept is not None:
                    for run in runs:
                        kept.take(work, run.id)
                    kept.take_check(work)

    @property
    def _goes_on(self) -> bool:
        """Whether a process may go on where another one was interrupted: its clocks would tell of the rest alone."""
        return self.recipe.repeats == 1

    def _name(self, framework: Framework, execution: Execution, number: int, runs: list[RunSpec]) -> str:
        """Of the folder that keeps what a process finishes."""
        inputs = self.inputs
        more = {
            "execution": execution.model_dump(mode="json"),
            "models": [run.id for run in runs if run.save_model],
        }
        found = digests.of_runs(
            *(framework, self.recipe, frozenset[str](), inputs.checkpoint, inputs.pixels),
            *(inputs.data.division, execution.threads, self._versions, more),
        )
        return f"{framework}-{execution.runtime}-{execution.precision}-{number}-{found}"

    def _store(self) -> Path | None:
        """Where outputs of frozen layers are kept between runs. Whoever compares clocks wants the work to be done."""
        if not self.recipe.cache or self.recipe.repeats > 1 or len(self.results.executions) > 1:
            return None
        return self.cache.folder(artifacts.FEATURES)

    def _listener(
        self, framework: Framework, total: int, lane: str, take: Callable[[str], None] | None
    ) -> launch.Listener:
        """Turns a worker's events into progress, and keeps finished runs."""
        finished, follow = 0, expected.following(forecast_of(self.progress), lane)

        def listen(event: str, details: dict[str, Any]) -> None:
            nonlocal finished
            follow(event, details)
            if event == "started":
                self.progress(f"{framework}: starting", 0, 0)
            elif event == "run":
                finished += 1
                if take is not None:
                    take(details["id"])
            elif event == "progress":
                self.progress(
                    f"{framework} {finished + 1}/{total}: {details['phase']}", details["done"], details["total"]
                )

        return listen

"""One recipe carried out by its frameworks, one after the other, over the same files."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from transfer_parity.shared.contract import artifacts
from transfer_parity.shared.contract.jobs import Execution, RunSpec
from transfer_parity.shared.contract.recipe import Framework, Recipe
from transfer_parity.shared.core import machine, run_folder
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput, WorkerFailed
from transfer_parity.shared.core.progress import Progress
from transfer_parity.shared.experiments.comparison_document import Comparison
from transfer_parity.shared.experiments.comparison_results import ComparisonResults, Setting
from transfer_parity.shared.experiments.trainings import Training
from transfer_parity.shared.runtime import installed, launch, prepare, resolve_dataset, resolve_weights
from transfer_parity.shared.runtime.prepare import RunInputs


def prepared(recipe: Recipe, cache: Cache, folder: Path, progress: Progress) -> ComparisonRunner:
    """Decode, divide and find the weights.

    Args:
        recipe: to carry out.
        cache: of images, weights and features.
        folder: receives the results.
        progress: hears how far it is.

    Raises:
        BadInput: the recipe cannot be carried out with what was given.
    """
    installed.make_sure_of(recipe.frameworks, optional=True)
    run_folder.make(folder)
    threads, load = recipe.threads or machine.available_cores(), machine.load_average()
    loaded = resolve_dataset.load(recipe.data, cache, progress)
    data, pixels = prepare.decoded(recipe, loaded, cache, progress)
    plans = prepare.drawn(recipe, data)
    checkpoint = resolve_weights.resolve(recipe, cache, threads, progress)
    inputs = RunInputs(recipe, data, pixels, checkpoint, plans)
    return ComparisonRunner(inputs, Setting(folder, threads, load), cache, progress)


class ComparisonRunner:
    """Starts the processes of a comparison in turns, and keeps what they finish."""

    def __init__(self, inputs: RunInputs, setting: Setting, cache: Cache, progress: Progress) -> None:
        self.inputs, self.cache, self.progress = inputs, cache, progress
        self.recipe, self.folder = inputs.recipe, setting.folder
        self.results = ComparisonResults(inputs, setting)

    def compare(self) -> Comparison:
        """Run everything and write the results.

        Raises:
            BadInput: a framework cannot use what was given.
            WorkerFailed: a framework's process ended early; what was finished by then has been written.
        """
        self._clear()
        (self.folder / artifacts.RECIPE).write_text(self.recipe.as_toml(), encoding="utf-8")
        try:
            self._take_turns()
        except (BadInput, WorkerFailed, KeyboardInterrupt):
            self.results.document().save(self.folder / artifacts.COMPARISON)
            raise
        comparison = self.results.document()
        comparison.save(self.folder / artifacts.COMPARISON)
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

    def _clear(self) -> None:
        """Remove what an earlier run left in the same folder, so that nothing of it passes for this one's."""
        for name in (artifacts.LOGITS_FOLDER, artifacts.MODELS, artifacts.TENSORBOARD):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for path in (self.folder / artifacts.COMPARISON, *self.folder.glob(artifacts.kept_log("*"))):
            path.unlink(missing_ok=True)

    def _runs(self) -> list[RunSpec]:
        """Pretrained runs, then the control; the first seed with the most images keeps its model."""
        recipe, pretrained = self.recipe, self.results.pretrained
        kinds = [pretrained]
        if recipe.control and pretrained:
            kinds.append(False)
        return [
            RunSpec(
                id=artifacts.run_id(kind, shots, seed),
                pretrained=kind,
                shots=shots,
                seed=seed,
                plan=artifacts.plan_file(shots, seed),
                save_model=kind == pretrained and seed == recipe.first_seed and shots == recipe.shots[-1],
            )
            for kind in kinds
            for shots in recipe.shots
            for seed in recipe.seed_list
        ]

    def _run(self, framework: Framework, execution: Execution, number: int) -> None:
        """One framework's process. Its finished runs are collected even if it fails."""
        work = Path(tempfile.mkdtemp(prefix=artifacts.comparison_work(framework), dir=self.folder.absolute()))
        runs = self._runs()
        recipe = self.recipe.model_copy(update={"precision": execution.precision})
        job = prepare.train_job(work, replace(self.inputs, recipe=recipe), runs, execution, self._store())
        try:
            worker = launch.run(framework, job, work, self._listener(framework, len(runs)))
            self.results.add_repeat(framework, execution, number, worker)
        except WorkerFailed:
            shutil.copyfile(work / artifacts.LOG, self.folder / artifacts.kept_log(framework))
            raise
        finally:
            for run in runs:
                if number == 0 and (work / run.id / artifacts.RUN_RESULT).is_file():
                    self.results.add_run(framework, execution, run, work / run.id)
            shutil.rmtree(work, ignore_errors=True)

    def _store(self) -> Path | None:
        """Where outputs of frozen layers are kept between runs. Whoever compares clocks wants the work to be done."""
        if not self.recipe.cache or self.recipe.repeats > 1 or len(self.results.executions) > 1:
            return None
        return self.cache.folder(artifacts.FEATURES)

    def _listener(self, framework: Framework, total: int) -> launch.Listener:
        """Turns a worker's events into progress."""
        finished = 0

        def listen(event: str, details: dict[str, Any]) -> None:
            nonlocal finished
            if event == "started":
                self.progress(f"{framework}: starting", 0, 0)
            elif event == "run":
                finished += 1
            elif event == "progress":
                self.progress(
                    f"{framework} {finished + 1}/{total}: {details['phase']}", details["done"], details["total"]
                )

        return listen

"""What to run: strategies x shots x seeds x frameworks; and what came of it, put together as one comparison."""

from __future__ import annotations

import datetime
import math
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transfer_parity.shared.checkpoints import neutral
from transfer_parity.shared.contract import plan, results, switches
from transfer_parity.shared.contract.jobs import Cell, Runtime
from transfer_parity.shared.contract.recipe import Framework, Recipe, Shots
from transfer_parity.shared.contract.results import WorkerResult
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.core import machine, run_folder
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput, WorkerFailed
from transfer_parity.shared.core.progress import Progress
from transfer_parity.shared.data import pixel_cache
from transfer_parity.shared.evaluation import agreement, metrics, speed
from transfer_parity.shared.evaluation.agreement import Agreement
from transfer_parity.shared.experiments.comparison_document import Alternative, Comparison, Environment, Run
from transfer_parity.shared.experiments.trainings import Training
from transfer_parity.shared.runtime import launch, prepare, resolve_dataset, resolve_weights


@dataclass(frozen=True)
class Variant:
    """One way of executing the recipe: the recipe's own, or one beside it for comparison."""

    runtime: Runtime
    precision: str

    @property
    def label(self) -> str:
        """Part of a file's name."""
        return f"{self.runtime}-{self.precision}"


def _variants(recipe: Recipe) -> list[Variant]:
    """The recipe's own way of execution, then those that it is compared with."""
    main = Variant("stock" if recipe.runtime == "stock" else "tuned", recipe.precision)
    found = [main]
    if recipe.runtime == "both":
        found.append(Variant("stock", recipe.precision))
    if recipe.precision == "bfloat16":
        found.append(Variant(main.runtime, "float32"))
    return found


class Study:
    """One recipe carried out by its frameworks, one after the other, over the same files.

    Attributes:
        folder: receives ``comparison.json``, ``recipe.toml``, ``logits/`` and ``models/``.
    """

    def __init__(self, recipe: Recipe, cache: Cache, folder: Path, progress: Progress) -> None:
        self.recipe, self.cache, self.folder, self.progress = recipe, cache, folder, progress
        self.threads = recipe.threads or machine.available_cores()
        self.variants = _variants(recipe)
        self.main = self.variants[0]
        self.runs: dict[Variant, list[Run]] = {variant: [] for variant in self.variants}
        self.repeats: list[speed.Repeat] = []
        self.test_labels: dict[tuple[Shots, int], Array] = {}

    def compare(self) -> Comparison:
        """Run everything and write the results.

        Raises:
            BadInput: the recipe cannot be carried out with what was given.
            WorkerFailed: a framework's process ended early; what was finished by then has been written.
        """
        run_folder.make(self.folder)
        recipe, load = self.recipe, machine.load_average()
        data = resolve_dataset.load(recipe.data, self.cache, self.progress)
        data, pixels = pixel_cache.pixels(
            data, recipe.resize_to, recipe.stored_size, self.cache, recipe.skip_unreadable, self.progress
        )
        plans = plan.draw_all(recipe, data.labels, data.is_test, list(data.classes))
        weights = resolve_weights.resolve(recipe, self.cache, self.threads, self.progress)
        self.data, self.load, self.weights = data, load, weights
        self.pixels, self.plans = pixels, plans
        self._clear()
        (self.folder / "recipe.toml").write_text(recipe.as_toml(), encoding="utf-8")
        try:
            self._take_turns()
        except (BadInput, WorkerFailed, KeyboardInterrupt):
            self._assemble().save(self.folder / "comparison.json")
            raise
        comparison = self._assemble()
        comparison.save(self.folder / "comparison.json")
        return comparison

    def trainings(self, comparison: Comparison) -> Iterator[Training]:
        """The training runs of a comparison, for TensorBoard."""
        for run in comparison.runs:
            name = f"{run.framework}-{prepare.cell_id(run.pretrained, run.shots, run.seed)}"
            yield Training(name, run.losses, self.plans[run.shots, run.seed].learning_rates.tolist(), run.accuracy)

    def _take_turns(self) -> None:
        """A B A B: every repeat of every variant, the frameworks one after the other. Disturbed pairs come again.

        The first repeat gives the results; all others are there for their clocks.
        """
        tries, number, counted = 2 * self.recipe.repeats, 0, 0
        while counted < self.recipe.repeats and number < tries:
            for variant in self.variants:
                for framework in self.recipe.frameworks:
                    self._run(framework, variant, number)
            latest = [repeat for repeat in self.repeats if repeat.number == number]
            # With one repeat there is nothing to compare, and a disturbance is only told.
            counted += self.recipe.repeats == 1 or not any(repeat.disturbed for repeat in latest)
            number += 1

    def _clear(self) -> None:
        """Remove what an earlier run left in the same folder, so that nothing of it passes for this one's."""
        for name in ("logits", "models", "tensorboard"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for path in (self.folder / "comparison.json", *self.folder.glob("*-worker.log")):
            path.unlink(missing_ok=True)

    def _cells(self) -> list[Cell]:
        """Pretrained cells, then the control; the first seed with the most images keeps its model."""
        recipe = self.recipe
        kinds = [self._pretrained]
        if self._has_control:
            kinds.append(False)
        return [
            Cell(
                id=prepare.cell_id(pretrained, shots, seed),
                pretrained=pretrained,
                shots=shots,
                seed=seed,
                plan=prepare.plan_file(shots, seed),
                save_model=pretrained == self._pretrained and seed == recipe.first_seed and shots == recipe.shots[-1],
            )
            for pretrained in kinds
            for shots in recipe.shots
            for seed in recipe.seed_list
        ]

    @property
    def _pretrained(self) -> bool:
        """Whether the recipe itself (not its control) starts from pretrained weights."""
        return self.weights is not None

    @property
    def _has_control(self) -> bool:
        return self.recipe.control and self._pretrained

    def _run(self, framework: Framework, variant: Variant, number: int) -> None:
        """One framework's process. Its finished cells are collected even if it fails."""
        work = Path(tempfile.mkdtemp(prefix=f".{framework}-", dir=self.folder.absolute()))
        cells = self._cells()
        recipe = self.recipe.model_copy(update={"precision": variant.precision})
        where = (self.data, self.pixels, self.weights)
        job = prepare.prepare(work, recipe, self.threads, *where, cells, self.plans, self._store(), variant.runtime)
        try:
            worker = launch.run(framework, job, work, self._listener(framework, len(cells)))
            self.repeats.append(speed.Repeat.of(framework, variant.runtime, variant.precision, number, worker))
        except WorkerFailed:
            shutil.copyfile(work / "worker.log", self.folder / f"{framework}-worker.log")
            raise
        finally:
            for cell in cells:
                if number == 0 and (work / cell.id / "cell.json").is_file():
                    self._collect(framework, variant, cell, work / cell.id)
            shutil.rmtree(work, ignore_errors=True)

    def _store(self) -> Path | None:
        """Where outputs of frozen layers are kept between runs. Whoever compares clocks wants the work to be done."""
        if not self.recipe.cache or self.recipe.repeats > 1 or len(self.variants) > 1:
            return None
        return self.cache.folder("features")

    def _listener(self, framework: Framework, total: int) -> launch.Listener:
        """Turns a worker's events into progress."""
        finished = 0

        def listen(event: str, details: dict[str, Any]) -> None:
            nonlocal finished
            if event == "started":
                self.progress(f"{framework}: starting", 0, 0)
            elif event == "cell":
                finished += 1
            elif event == "progress":
                self.progress(
                    f"{framework} {finished + 1}/{total}: {details['phase']}", details["done"], details["total"]
                )

        return listen

    def _collect(self, framework: Framework, variant: Variant, cell: Cell, folder: Path) -> None:
        """Judge one finished cell and keep its logits and model."""
        is_main = variant == self.main
        logits_folder, models = self.folder / "logits", self.folder / "models"
        logits_folder.mkdir(exist_ok=True)
        drawn = self.plans[cell.shots, cell.seed]
        labels = self.data.labels[drawn.test]
        found = results.finished(folder)
        name = f"{framework}-{cell.id}" if is_main else f"{framework}-{variant.label}-{cell.id}"
        kept = logits_folder / f"{name}.npy"
        shutil.move(folder / "logits.npy", kept)
        if found.said.model is not None and is_main:
            models.mkdir(exist_ok=True)
            for file in folder.glob("model.*"):
                shutil.move(file, models / f"{framework}{file.suffix}")
        self.runs[variant].append(
            Run(
                **agreement.measured(framework, self.recipe.strategy, cell, drawn, labels, found),
                pretrained=cell.pretrained,
                phases=found.said.phases,
                losses=[float(loss) if math.isfinite(loss) else None for loss in found.losses],
                logits=str(kept.relative_to(self.folder)),
            )
        )
        self.test_labels[cell.shots, cell.seed] = labels

    def _assemble(self) -> Comparison:
        """Everything that is finished, as one document."""
        metadata = neutral.read_metadata(self.weights).model_dump() if self.weights else None
        runs = self.runs[self.main]
        main = [run for run in runs if run.pretrained == self._pretrained]
        control = [run for run in runs if run.pretrained != self._pretrained]
        agreed, differences = self._agreement(main)
        verdict, sentence = agreement.judge(agreed, differences, self.recipe.margin)
        return Comparison(
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            recipe=self.recipe,
            environment=self._environment(),
            classes=list(self.data.classes),
            images=len(self.data),
            skipped_files=list(self.data.skipped),
            checkpoint=metadata,
            workers=self._workers(self.main),
            runs=runs,
            repeats=self.repeats,
            speed=speed.compare(self._repeats_of(self.main)),
            alternatives=[self._alternative(variant) for variant in self.variants[1:] if self.runs[variant]],
            agreement=agreed,
            control_agreement=self._agreement(control)[0] if control else None,
            transfer_gain=_gain(main, control),
            verdict=verdict,
            verdict_sentence=sentence,
        )

    def _repeats_of(self, variant: Variant) -> list[speed.Repeat]:
        """The processes of one variant, in order."""
        chosen = (variant.runtime, variant.precision)
        return [repeat for repeat in self.repeats if (repeat.runtime, repeat.precision) == chosen]

    def _workers(self, variant: Variant) -> dict[Framework, WorkerResult]:
        """Each framework's first process of one variant, whose results count."""
        return {repeat.framework: repeat.worker for repeat in self._repeats_of(variant) if repeat.number == 0}

    def _alternative(self, variant: Variant) -> Alternative:
        """A variant beside the recipe's own: its clocks, and what it does to the predictions."""
        main = {(run.framework, run.pretrained, run.shots, run.seed): run for run in self.runs[self.main]}
        identical, compared = 0, 0
        changes: dict[Framework, list[float]] = {}
        for other in self.runs[variant]:
            run = main.get((other.framework, other.pretrained, other.shots, other.seed))
            if run is None or other.pretrained != self._pretrained:
                continue
            ours, theirs = (
                metrics.predictions(np.load(self.folder / each.logits, allow_pickle=False)) for each in (run, other)
            )
            compared += len(ours)
            identical += int((ours == theirs).sum())
            changes.setdefault(other.framework, []).append(run.accuracy - other.accuracy)
        return Alternative(
            runtime=variant.runtime,
            precision=variant.precision,
            workers=self._workers(variant),
            speed=speed.compare(self._repeats_of(variant)),
            against=self._against(variant),
            predictions_compared=compared,
            predictions_identical=identical,
            accuracy_change={framework: float(np.mean(values)) for framework, values in changes.items()},
        )

    def _against(self, variant: Variant) -> dict[Framework, speed.Ratio]:
        """How long a variant takes, by the recipe's own way."""

        def own(chosen: Variant, framework: Framework) -> list[speed.Repeat]:
            return [repeat for repeat in self._repeats_of(chosen) if repeat.framework == framework]

        ratios = {each: speed.against(own(variant, each), own(self.main, each)) for each in self.recipe.frameworks}
        return {framework: ratio for framework, ratio in ratios.items() if ratio is not None}

    def _environment(self) -> Environment:
        workers = self._workers(self.main)
        versions = {name: version for worker in workers.values() for name, version in worker.versions.items()}
        devices = {framework: worker.device for framework, worker in workers.items()}
        versions |= {"numpy": np.__version__}
        return Environment.here(versions, self.threads, devices, self.load, tuned=self.main.runtime == "tuned")

    def _agreement(self, runs: list[Run]) -> tuple[Agreement, Array]:
        """How far the frameworks agree over some runs, and the paired accuracy differences behind it."""
        return agreement.agree(self._paired(runs), self.recipe.margin)

    def _paired(self, runs: list[Run]) -> Iterator[agreement.Paired]:
        """The runs that both frameworks have done."""
        by_key: dict[tuple[Shots, int], dict[Framework, Run]] = {}
        for run in runs:
            by_key.setdefault((run.shots, run.seed), {})[run.framework] = run
        for (shots, seed), pair in by_key.items():
            if len(pair) == 2:
                tensorflow, torch = (self._side(pair[name]) for name in switches.FRAMEWORKS)
                yield agreement.Paired(seed, self.test_labels[shots, seed], tensorflow, torch)

    def _side(self, run: Run) -> agreement.Side:
        logits = np.load(self.folder / run.logits, allow_pickle=False)
        return agreement.Side(logits, np.array(run.losses, dtype=np.float64), run.weights_digest)


def _gain(main: list[Run], control: list[Run]) -> dict[Framework, dict[str, float]]:
    """Mean accuracy of the recipe minus its control's, by framework and number of shots, where both are there."""

    def means(runs: list[Run]) -> dict[tuple[Framework, str], float]:
        keys = {(run.framework, str(run.shots)) for run in runs}
        return {
            key: float(np.mean([run.accuracy for run in runs if (run.framework, str(run.shots)) == key]))
            for key in keys
        }

    with_transfer, without = means(main), means(control)
    gains: dict[Framework, dict[str, float]] = {}
    for framework, shots in sorted(with_transfer.keys() & without.keys()):
        gains.setdefault(framework, {})[shots] = with_transfer[framework, shots] - without[framework, shots]
    return gains

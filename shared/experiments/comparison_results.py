"""What came of a comparison: finished runs and repeats, put together as one document."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transfer_parity.shared.checkpoints import neutral
from transfer_parity.shared.contract import artifacts, results
from transfer_parity.shared.contract.jobs import Execution, RunSpec
from transfer_parity.shared.contract.recipe import Framework, Recipe, Shots
from transfer_parity.shared.contract.results import WorkerResult
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.contract.wings import compared
from transfer_parity.shared.core import run_folder
from transfer_parity.shared.evaluation import agreement, metrics, speed
from transfer_parity.shared.evaluation.agreement import Agreement
from transfer_parity.shared.evaluation.computation import Rounding
from transfer_parity.shared.experiments import short_check
from transfer_parity.shared.experiments.comparison_document import (
    Alternative,
    AtChance,
    Comparison,
    Environment,
    Outcome,
    Run,
    TaskVerdict,
    at_chance,
    measured,
)
from transfer_parity.shared.experiments.short_check import Check
from transfer_parity.shared.runtime.prepare import RunInputs


def executions(recipe: Recipe, threads: int) -> list[Execution]:
    """How the recipe is executed, then the executions that it is compared with."""
    main = Execution.of(recipe, threads, "stock" if recipe.runtime == "stock" else "tuned")
    found = [main]
    if recipe.runtime == "both":
        found.append(main.model_copy(update={"runtime": "stock"}))
    if recipe.precision == "bfloat16":
        found.append(main.model_copy(update={"precision": "float32"}))
    return found


@dataclass(frozen=True)
class Setting:
    """Where and on what a comparison runs.

    Attributes:
        folder: receives the results.
        threads: of each framework.
        load: processes that wanted a core before the start, or None where the system does not count them.
    """

    folder: Path
    threads: int
    load: float | None


class ComparisonResults:
    """Collects what processes have finished; what is there can be made a document at any time.

    Attributes:
        executions: the recipe's first, then those that it is compared with.
        repeats: every process that ended well, in order.
        check: the short ladder, once both frameworks have climbed it.
    """

    def __init__(self, inputs: RunInputs, setting: Setting) -> None:
        self.inputs, self.setting = inputs, setting
        self.recipe, self.folder = inputs.recipe, setting.folder
        self.executions = executions(inputs.recipe, setting.threads)
        self.main = self.executions[0]
        self.repeats: list[speed.Repeat] = []
        self._runs: dict[Execution, list[Run]] = {execution: [] for execution in self.executions}
        self._test_labels: dict[tuple[Shots, int], Array] = {}
        self._nearest: dict[str, Array | None] = {}
        self.check: Check | None = None

    @property
    def pretrained(self) -> bool:
        """Whether the recipe itself (not its control) starts from pretrained weights."""
        return self.inputs.pretrained

    @property
    def finished(self) -> bool:
        """Whether any run is finished."""
        return any(self._runs.values())

    def add_repeat(
        self, framework: Framework, execution: Execution, number: int, worker: WorkerResult, taken_up: int = 0
    ) -> None:
        """Keep what a process says about itself, and how many runs another one had finished before."""
        repeat = speed.Repeat.of(framework, execution.runtime, execution.precision, number, worker)
        self.repeats.append(repeat.model_copy(update={"taken_up": taken_up}))

    def add_run(self, framework: Framework, execution: Execution, run: RunSpec, folder: Path) -> None:
        """Judge the finished run in a folder, and add its logits and its model to the results."""
        is_main = execution == self.main
        logits_folder, models = self.folder / artifacts.LOGITS_FOLDER, self.folder / artifacts.MODELS
        drawn = self.inputs.plans[run.shots, run.seed]
        labels = self.inputs.data.labels[drawn.test]
        found = results.finished(folder)
        how = "" if is_main else f"{execution.runtime}-{execution.precision}-"
        kept = logits_folder / f"{framework}-{how}{run.id}.npy"
        run_folder.place(folder / artifacts.LOGITS, kept)
        if found.result.model is not None and is_main:
            for file in folder.glob(f"{artifacts.MODEL}.*"):
                run_folder.place(file, models / f"{framework}{file.suffix}")
        self._runs[execution].append(
            Run(
                **measured(framework, self.recipe.strategy, run, drawn, self.inputs.data, found),
                pretrained=run.pretrained,
                phases=found.result.phases,
                losses=[float(loss) if math.isfinite(loss) else None for loss in found.losses],
                logits=str(kept.relative_to(self.folder)),
            )
        )
        self._test_labels[run.shots, run.seed] = labels
        self._nearest[str(kept.relative_to(self.folder))] = found.nearest

    def document(self) -> Comparison:
        """Everything that is finished, as one document."""
        checkpoint, data = self.inputs.checkpoint, self.inputs.data
        runs = self._runs[self.main]
        main = [run for run in runs if run.pretrained == self.pretrained]
        control = [run for run in runs if run.pretrained != self.pretrained]
        agreed, differences = self._agreement(main, short_check.rounding(self.recipe, self.pretrained, self.check))
        two = compared(self.recipe.frameworks)
        # The results' folder is the user's to name; its recipe is what has run.
        ladder = f"RESULTS/{artifacts.RECIPE}"
        verdict, sentence = agreement.judge(agreed, differences, self.recipe.margin, two, ladder)
        return Comparison(
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            recipe=self.recipe,
            transductive=self.recipe.method.transductive,
            environment=self._environment(),
            classes=list(data.classes),
            # Those without a label are of no class.
            images=int(data.labelled.sum()),
            skipped_files=list(data.skipped),
            checkpoint=neutral.read_metadata(checkpoint).model_dump() if checkpoint else None,
            workers=self._workers(self.main),
            runs=runs,
            repeats=self.repeats,
            speed=speed.compare(self._repeats_of(self.main)),
            alternatives=[self._alternative(each) for each in self.executions[1:] if self._runs[each]],
            agreement=agreed,
            control_agreement=self._agreement(control)[0] if control else None,
            transfer_gain=_gain(main, control),
            at_chance=list(self._at_chance(main)),
            check=self.check,
            verdict=verdict,
            verdict_sentence=sentence,
            tasks=[self._task(main, number) for number in range(len(data.tasks))],
        )

    def _task(self, runs: list[Run], number: int) -> TaskVerdict:
        """How far the frameworks agree in one task, which shares weights and losses with all others."""
        task = self.inputs.data.tasks[number]
        pairs = (pair.of_task(number) for pair in self._paired(runs))
        agreed, differences = agreement.agree(pairs, self.recipe.margin, [run.diverged for run in runs])
        verdict, sentence = agreement.judge(agreed, differences, self.recipe.margin, compared(self.recipe.frameworks))
        return TaskVerdict(
            task=task.name,
            classes=list(task.classes),
            agreement=agreed,
            verdict=verdict,
            verdict_sentence=sentence,
        )

    def _at_chance(self, runs: list[Run]) -> Iterator[AtChance]:
        """Frameworks and numbers of shots that are no better than a guess."""
        groups: dict[tuple[Framework, Shots], list[Outcome]] = {}
        for run in runs:
            losses = np.array(run.losses, dtype=np.float64)
            outcome = Outcome(run, losses, self._test_labels[run.shots, run.seed])
            groups.setdefault((run.framework, run.shots), []).append(outcome)
        for (framework, shots), outcomes in groups.items():
            if found := at_chance(framework, self.recipe.strategy, shots, outcomes):
                yield found

    def _repeats_of(self, execution: Execution) -> list[speed.Repeat]:
        """The processes of one execution, in order."""
        chosen = (execution.runtime, execution.precision)
        return [repeat for repeat in self.repeats if (repeat.runtime, repeat.precision) == chosen]

    def _workers(self, execution: Execution) -> dict[Framework, WorkerResult]:
        """Each framework's first process of one execution, whose results count."""
        return {repeat.framework: repeat.worker for repeat in self._repeats_of(execution) if repeat.number == 0}

    def _alternative(self, execution: Execution) -> Alternative:
        """An execution beside the recipe's: its clocks, and what it does to the predictions."""
        main = {(run.framework, run.pretrained, run.shots, run.seed): run for run in self._runs[self.main]}
        identical, counted = 0, 0
        changes: dict[Framework, list[float]] = {}
        for other in self._runs[execution]:
            run = main.get((other.framework, other.pretrained, other.shots, other.seed))
            if run is None or other.pretrained != self.pretrained:
                continue
            ours, theirs = (
                metrics.predictions(np.load(self.folder / each.logits, allow_pickle=False), self.inputs.data.task_sizes)
                for each in (run, other)
            )
            counted += ours.size
            identical += int((ours == theirs).sum())
            changes.setdefault(other.framework, []).append(run.accuracy - other.accuracy)
        return Alternative(
            runtime=execution.runtime,
            precision=execution.precision,
            workers=self._workers(execution),
            speed=speed.compare(self._repeats_of(execution)),
            against=self._against(execution),
            predictions_compared=counted,
            predictions_identical=identical,
            accuracy_change={framework: float(np.mean(values)) for framework, values in changes.items()},
        )

    def _against(self, execution: Execution) -> dict[Framework, speed.Ratio]:
        """How long an execution takes, by the recipe's."""

        def of(framework: Framework, chosen: Execution) -> list[speed.Repeat]:
            return [repeat for repeat in self._repeats_of(chosen) if repeat.framework == framework]

        ratios = {each: speed.against(of(each, execution), of(each, self.main)) for each in self.recipe.frameworks}
        return {framework: ratio for framework, ratio in ratios.items() if ratio is not None}

    def _environment(self) -> Environment:
        workers = self._workers(self.main)
        versions = {name: version for worker in workers.values() for name, version in worker.versions.items()}
        devices = {framework: worker.device for framework, worker in workers.items()}
        versions |= {"numpy": np.__version__}
        tuned = self.main.runtime == "tuned"
        return Environment.here(versions, self.setting.threads, devices, self.setting.load, tuned=tuned)

    def _agreement(self, runs: list[Run], rounding: Rounding | None = None) -> tuple[Agreement, Array]:
        """How far the frameworks agree over some runs, and the paired accuracy differences behind it."""
        return agreement.agree(self._paired(runs), self.recipe.margin, [run.diverged for run in runs], rounding)

    def _paired(self, runs: list[Run]) -> Iterator[agreement.Paired]:
        """The runs that both of two frameworks have done."""
        two = compared(self.recipe.frameworks)
        by_key: dict[tuple[Shots, int], dict[Framework, Run]] = {}
        for run in runs:
            by_key.setdefault((run.shots, run.seed), {})[run.framework] = run
        for (shots, seed), pair in by_key.items():
            if two and all(wing.identifier in pair for wing in two):
                first, second = (self._side(pair[wing.identifier]) for wing in two)
                sizes = self.inputs.data.task_sizes
                yield agreement.Paired(seed, self._test_labels[shots, seed], first, second, shots, sizes)

    def _side(self, run: Run) -> agreement.Side:
        logits = np.load(self.folder / run.logits, allow_pickle=False)
        losses = np.array(run.losses, dtype=np.float64)
        return agreement.Side(logits, losses, run.weights_digest, self._nearest[run.logits])


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

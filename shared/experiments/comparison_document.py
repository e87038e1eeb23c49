"""The result of a comparison as a documented, versioned document: ``comparison.json``."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from pydantic import Field

from transfer_parity.shared.contract.jobs import RunSpec
from transfer_parity.shared.contract.plan import Plan
from transfer_parity.shared.contract.recipe import Recipe, Shots
from transfer_parity.shared.contract.results import FinishedRun, WorkerResult
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.contract.wings import Framework
from transfer_parity.shared.core import machine
from transfer_parity.shared.core.document import Document
from transfer_parity.shared.data.folders import Dataset
from transfer_parity.shared.evaluation import chance, divergence, metrics
from transfer_parity.shared.evaluation.agreement import Agreement, Verdict
from transfer_parity.shared.evaluation.chance import Cause
from transfer_parity.shared.evaluation.divergence import Divergence
from transfer_parity.shared.evaluation.speed import Ratio, Repeat, Speed
from transfer_parity.shared.experiments.short_check import Check
from transfer_parity.shared.runtime import launch

SCHEMA_VERSION = 3


class TaskMeasured(Document):
    """How well one of several tasks is answered by a run, over the test images whose label of it is known."""

    task: str
    test_images: int = Field(description="those whose label is known")
    accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    recalls: list[float | None] = Field(description="by class of the task; null for one without a test image")
    log_loss: float | None
    calibration_error: float | None
    confusion_matrix: list[list[int]]


class Measured(Document):
    """One framework, one seed, one number of shots: how well it recognises its test images (``shared.evaluation``)."""

    framework: Framework
    strategy: str
    shots: Shots = Field(description="training images a class, or all")
    seed: int
    training_images: int
    test_images: int
    peak_memory_bytes: int = Field(description="largest resident memory of the process by the end of this run")
    weights_digest: str = Field(description="SHA-256 of all initial weights; equal in both frameworks")
    accuracy: float = Field(
        description="part of the test images that are recognised, 0 to 1; of several tasks, part of all known labels, "
        "and so all of the following"
    )
    macro_precision: float
    macro_recall: float
    macro_f1: float
    recalls: list[float | None] = Field(description="by class; null for one without a test image")
    log_loss: float | None = Field(description="nats; null if logits are not finite")
    calibration_error: float | None = Field(
        description="expected calibration error over 15 bins of confidence, 0 to 1; null if logits are not finite"
    )
    confusion_matrix: list[list[int]] = Field(description="rows are true classes, columns are predictions")
    diverged: Divergence | None = Field(
        None, description="what shows that its training diverged (shared/evaluation/divergence.py); null if nothing"
    )
    tasks: list[TaskMeasured] = Field([], description="the same task by task, where there are several")


class Run(Measured):
    """One run of a comparison, with or without pretrained weights."""

    pretrained: bool = Field(description="false: the control on an untrained backbone, or strategy scratch")
    phases: dict[str, float] = Field(
        description="seconds; what runs share (start, build, weights, features) is given in full to each of them"
    )
    losses: list[float | None] = Field(description="training loss of every step; null if not finite")
    logits: str = Field(description="file of the test logits, relative to this document")


class AtChance(Document):
    """Runs that recognise no more than a guess does, as far as can be told from all of their seeds' test images."""

    framework: Framework
    strategy: str
    shots: Shots
    accuracy: float = Field(description="mean over seeds, 0 to 1")
    chance: float = Field(description="part of the test images in their most frequent class, mean over seeds")
    cause: Cause = Field(description="what the training loss of most seeds says about it")

    @property
    def sentence(self) -> str:
        """All of it in words, but for the framework and the number of shots."""
        return chance.verdict([self.accuracy], [self.chance], self.cause)


class Alternative(Document):
    """The same recipe executed in another way: as installed, or in float32 beside bfloat16."""

    runtime: str
    precision: str
    workers: dict[Framework, WorkerResult]
    speed: Speed
    predictions_compared: int = Field(description="with the recipe's own way, framework by framework")
    predictions_identical: int
    against: dict[Framework, Ratio] = Field(
        {}, description="seconds of this way by those of the recipe's own, by framework, where there are repeats"
    )
    accuracy_change: dict[Framework, float] = Field(
        description="mean accuracy of the recipe's own way minus that of this one, by framework"
    )


class Environment(Document):
    """What the comparison ran on."""

    versions: dict[str, str]
    python: str
    platform: str
    cpu: str
    cores: int
    threads: int
    allocator: dict[str, str] = Field(
        description="environment variables of the C library's allocator, set for all workers"
    )
    devices: dict[Framework, str]
    load_average_before: float | None = Field(description="over the last minute, before the workers started")

    @classmethod
    def here(
        cls,
        versions: Mapping[str, str],
        threads: int,
        devices: Mapping[Framework, str],
        load: float | None,
        tuned: bool = True,
    ) -> Environment:
        """This machine.

        Args:
            versions: by package.
            threads: of each framework.
            devices: what the arithmetic ran on, where that is known.
            load: over the last minute, before the workers started.
            tuned: whether the workers' allocator was set.
        """
        return cls(
            versions=dict(versions),
            python=platform.python_version(),
            platform=platform.platform(),
            cpu=machine.cpu_name(),
            cores=machine.available_cores(),
            threads=threads,
            allocator=launch.allocator() if tuned else {},
            devices=dict(devices),
            load_average_before=load,
        )


class TaskVerdict(Document):
    """How far the frameworks agree in one of several tasks."""

    task: str
    classes: list[str]
    agreement: Agreement
    verdict: Verdict
    verdict_sentence: str


class Comparison(Document):
    """All of ``comparison.json``."""

    schema_version: int = SCHEMA_VERSION
    created: str = Field(description="ISO 8601, UTC")
    recipe: Recipe
    transductive: bool = Field(False, description="whether the strategy sees the test images without their labels")
    environment: Environment
    classes: list[str] = Field(description="of several tasks, one task's behind the other's, as 'task: class'")
    images: int = Field(description="with a label; those of a folder of unlabelled ones are not among them")
    skipped_files: list[str]
    checkpoint: dict[str, str | float | None] | None = Field(
        description="what the pretrained weights say about themselves"
    )
    workers: dict[Framework, WorkerResult] = Field(description="each process as a whole, every phase counted once")
    runs: list[Run]
    repeats: list[Repeat] = Field(description="every process that ran, in order; the first repeat gave the results")
    speed: Speed = Field(description="over all undisturbed repeats of the recipe's own way")
    alternatives: list[Alternative] = Field(description="with runtime both, or precision bfloat16")
    agreement: Agreement
    control_agreement: Agreement | None
    transfer_gain: dict[Framework, dict[str, float]] = Field(
        description="mean accuracy minus the control's, by framework and number of shots"
    )
    at_chance: list[AtChance] = Field([], description="the recipe's own runs that are no better than a guess")
    check: Check | None = Field(None, description="the short ladder of the first run; null if it was left out")
    verdict: Verdict
    verdict_sentence: str
    tasks: list[TaskVerdict] = Field([], description="where there are several; the verdict above is over all of them")


@dataclass(frozen=True)
class Outcome:
    """A run's achievement beside what a guess would achieve; ``losses`` of all steps, ``labels`` of test images."""

    measured: Measured
    losses: Array
    labels: Array


def at_chance(framework: Framework, strategy: str, shots: Shots, outcomes: Sequence[Outcome]) -> AtChance | None:
    """What there is to say if all seeds of a combination together are no better than a guess; else None."""
    accuracies = np.array([each.measured.accuracy for each in outcomes])
    by_chance = float(np.mean([chance.level(each.labels) for each in outcomes]))
    if not chance.is_at(accuracies, np.array([(each.labels >= 0).sum() for each in outcomes]), by_chance):
        return None
    causes = Counter(chance.likely_cause(each.losses, each.measured.diverged is not None) for each in outcomes)
    return AtChance(
        framework=framework,
        strategy=strategy,
        shots=shots,
        accuracy=float(accuracies.mean()),
        chance=by_chance,
        cause=causes.most_common(1)[0][0],
    )


def measured(
    framework: Framework, strategy: str, run: RunSpec, drawn: Plan, data: Dataset, found: FinishedRun
) -> dict[str, Any]:
    """What a finished run achieved, as the fields of ``Measured``.

    Args:
        framework: which did it.
        strategy: its name.
        run: which it is.
        drawn: its plan.
        data: whose images the plan divides.
        found: what the process left.
    """
    labels, sizes = data.labels[drawn.test], data.task_sizes
    known = (labels >= 0).reshape(len(labels), -1).sum(axis=0)
    by_task = metrics.by_task(found.logits, labels, sizes) if sizes else []
    return {
        "framework": framework,
        "strategy": strategy,
        "shots": run.shots,
        "seed": run.seed,
        "training_images": len(drawn.train),
        "test_images": len(drawn.test),
        "peak_memory_bytes": found.result.peak_memory_bytes,
        "weights_digest": found.result.weights_digest,
        **asdict(metrics.evaluate(found.logits, labels, sizes)),
        "diverged": divergence.found(found.logits, found.losses, sizes),
        "tasks": [
            TaskMeasured(task=task.name, test_images=int(count), **asdict(each))
            for task, count, each in zip(data.tasks, known, by_task, strict=False)
        ],
    }


def schema() -> str:
    """The JSON schema of the document, as kept in ``docs/comparison.schema.json``."""
    return json.dumps(Comparison.model_json_schema(mode="serialization"), indent=1, ensure_ascii=False) + "\n"

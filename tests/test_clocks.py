"""Every second is charged to the phase that took it: a wing whose parts take known times, by a clock that it turns."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from tests import fakes
from tests.conftest import SMALL, Command
from tests.fakes import FakeWorkers, Quiet
from transfer_parity.shared.checkpoints import neutral
from transfer_parity.shared.contract import artifacts, jobs, plan, results
from transfer_parity.shared.contract.batches import Batch
from transfer_parity.shared.contract.engines import Engine
from transfer_parity.shared.contract.jobs import DataFiles, Execution, FeaturesJob, JobOfRuns, RunSpec, TrainJob
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.results import PHASES, WorkerResult
from transfer_parity.shared.contract.wing import Array, Part, Wing
from transfer_parity.shared.contract.wings import WINGS
from transfer_parity.shared.core import clocks
from transfer_parity.shared.runtime import start, worker

#: Seconds that each part of the wing takes: no sum of a few of them is another one.
START, BUILD, BACKBONE, HEAD, FROZEN, STEP, TRAINABLE, PROBING = 7.0, 1.0, 2.0, 0.25, 4.0, 8.0, 16.0, 1024.0
#: Of the whole network: it is what the others put together are.
ALL = FROZEN + TRAINABLE
IMAGES, CLASSES, SHOTS, SEEDS, BATCH = 12, 3, 2, 2, 4


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class SleepingWing:
    """Everything that the loop asks of a wing, each part of which takes its time."""

    def __init__(self, clock: Clock) -> None:
        self.sleep = clock.sleep
        self.held: dict[str, Array] = {}
        self.info = WINGS[0]
        self.device = SimpleNamespace(
            configure=lambda *given: None, environment=lambda: ({}, "CPU"), synchronize=lambda: None
        )
        self.network = SimpleNamespace(build=self.build)
        self.weights = SimpleNamespace(shapes=self.shapes, load=self.load, dump=self.dump)
        self.training = SimpleNamespace(train=self.train)
        self.inference = SimpleNamespace(
            engines=lambda network, part: (Engine("plain"),),
            infer=self.infer,
            multiply_adds=self.probe,
            matrix_product_rate=self.probe,
        )

    def build(self, spec: Any) -> str:
        self.sleep(BUILD)
        return "network"

    def shapes(self, network: str) -> dict[str, tuple[int, ...]]:
        head = {"head.output.weight": (CLASSES, 3), "head.output.bias": (CLASSES,)}
        return {"features.0.0.weight": (2, 3, 1, 1), **head}

    def load(self, network: str, arrays: Mapping[str, Array]) -> None:
        self.sleep(BACKBONE if "features.0.0.weight" in arrays else HEAD)
        self.held.update(arrays)

    def dump(self, network: str, names: Iterable[str]) -> dict[str, Array]:
        return {name: self.held[name] for name in names}

    def train(self, network: str, part: Part, trainable: Any, norms: Any, recipe: Any, *given: Any) -> list[float]:
        batches: Iterable[Batch]
        batches, on_step = given
        losses = []
        for _ in batches:
            self.sleep(STEP)
            on_step()
            losses.append(1.0)
        return losses

    def infer(self, network: str, part: Part, batches: Iterable[Array], engine: str | None = None) -> Iterator[Array]:
        for batch in batches:
            self.sleep({"frozen": FROZEN, "trainable": TRAINABLE}.get(part, ALL))
            yield np.random.default_rng(0).normal(size=(len(batch), 3)).astype(np.float32)

    def probe(self, *given: Any) -> int:
        self.sleep(PROBING)
        return 10**9


def job(folder: Path, strategy: str, kind: type[TrainJob] | type[FeaturesJob]) -> JobOfRuns:
    """A job of two seeds, written with everything that it needs."""
    ridge = strategy == "ridge"
    chosen: dict[str, Any] = {"strategy": "linear_probe", "solver": "ridge"} if ridge else {"strategy": strategy}
    recipe = Recipe(
        **chosen,
        **{"control": False, "image_size": 32, "shots": SHOTS, "seeds": SEEDS, "epochs": 1, "batch_size": BATCH},
        inference_batch_size=BATCH,
        check=False,
    )
    labels = np.arange(IMAGES) % CLASSES
    np.save(folder / artifacts.LABELS, labels)
    np.save(folder / "images.npy", np.zeros((IMAGES, 32, 32, 3), dtype=np.uint8))
    weights = {"features.0.0.weight": np.ones((2, 3, 1, 1), dtype=np.float32)}
    neutral.save(folder / artifacts.WEIGHTS, weights, Metadata(backbone="MobileNetV2", semantics="torchvision"))
    classes = ["a", "b", "c"]
    pretrained = strategy != "scratch"
    runs = []
    for (shots, seed), drawn in plan.draw_all(recipe, labels, None, classes).items():
        drawn.save(folder / artifacts.plan_file(shots, seed))
        where = {"id": artifacts.run_id(pretrained, shots, seed), "plan": artifacts.plan_file(shots, seed)}
        runs.append(RunSpec(pretrained=pretrained, shots=shots, seed=seed, **where))
    return kind(
        execution=Execution(threads=1),
        recipe=recipe,
        data=DataFiles(images=folder / "images.npy", labels=folder / artifacts.LABELS, classes=classes, digest="d"),
        checkpoint=folder / artifacts.WEIGHTS if pretrained else None,
        store=None,
        runs=tuple(runs),
    )


# Of both runs: 12 images in batches of 4; 6 training images in 2 steps; 6 test images in 2 batches.
_ONCE = {"start": START, "build": BUILD}
PROBE = {"weights": BACKBONE, "features": 3 * FROZEN, "training": 2 * STEP, "inference": 2 * TRAINABLE}


@pytest.mark.parametrize(
    ("strategy", "kind", "of_run", "of_process"),
    [
        ("linear_probe", TrainJob, PROBE, PROBE | {"training": 4 * STEP, "inference": 4 * TRAINABLE}),
        # What puts the solution on the network is part of finding it.
        (
            "ridge",
            TrainJob,
            PROBE | {"training": HEAD},
            PROBE | {"training": 2 * HEAD, "inference": 4 * TRAINABLE},
        ),
        (
            "scratch",
            TrainJob,
            {"weights": BACKBONE, "features": 0.0, "training": 2 * STEP, "inference": 2 * ALL},
            {"weights": 2 * BACKBONE, "training": 4 * STEP, "inference": 4 * ALL},
        ),
        (
            "linear_probe",
            FeaturesJob,
            {"weights": BACKBONE, "features": 3 * FROZEN},
            {"weights": BACKBONE, "features": 3 * FROZEN},
        ),
    ],
)
def test_every_phase_has_its_own_seconds(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    strategy: str,
    kind: type[TrainJob] | type[FeaturesJob],
    of_run: dict[str, float],
    of_process: dict[str, float],
) -> None:
    clock = Clock()
    monkeypatch.setattr(clocks, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr(worker, "Events", Quiet)
    monkeypatch.setattr(start, "seconds_since", lambda: START)
    monkeypatch.setattr(start, "end_imports", lambda: None)
    monkeypatch.setattr(sys, "argv", ["worker", str(tmp_path)])
    given = job(tmp_path, strategy, kind)
    jobs.write(given, tmp_path)
    assert worker._work(cast(Wing, SleepingWing(clock))) == 0
    found = WorkerResult.model_validate_json((tmp_path / artifacts.WORKER_RESULT).read_text())
    assert found.phases == _ONCE | of_process
    for run in given.runs:
        assert results.run_result(tmp_path / run.id).phases == _ONCE | of_run
    # The steps within the phases, in which nothing but their work counts.
    medians = {phase: steps.median for phase, steps in found.steps.items()}
    took = {"features": FROZEN, "training": STEP, "inference": TRAINABLE if strategy != "scratch" else ALL}
    assert medians == {phase: took[phase] for phase in medians}
    assert set(medians) == {phase for phase in took if of_process.get(phase, 0.0) > HEAD * SEEDS}
    # Looking for an engine takes time, and belongs to no phase.
    assert clock.now >= sum(of_process.values()) + 2 * PROBING


def test_the_document_and_the_table_name_the_phases_as_they_were_charged(
    inside: Command, photos: Path, workers: FakeWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {phase: 3.0 * 2**place for place, phase in enumerate(PHASES)}
    real, made = workers.run, fakes.run_result

    def run(*given: Any) -> WorkerResult:
        return real(*given).model_copy(update={"phases": seconds})

    monkeypatch.setattr(fakes, "run_result", lambda *given: made(*given).model_copy(update={"phases": seconds}))
    monkeypatch.setattr("transfer_parity.shared.runtime.launch.run", run)
    outcome = inside("--data", photos, *SMALL, "--no-check")
    assert outcome.status in (0, 1), outcome.errors
    document = outcome.document
    assert [run["phases"] for run in document["runs"]] == [seconds] * len(WINGS)
    assert [each["phases"] for each in document["workers"].values()] == [seconds] * len(WINGS)
    shown = [line.split() for line in outcome.output.splitlines() if line.strip().startswith("Seconds, ")]
    assert [[words[1], *words[2:]] for words in shown] == [
        [phase, *[f"{each:.2f}"] * len(WINGS)] for phase, each in seconds.items()
    ]

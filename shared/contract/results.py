"""What a framework's process says about what it has done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from transfer_parity.shared.contract import artifacts
from transfer_parity.shared.core.clocks import StepTimes

#: Seconds; what a phase includes is told in docs/comparison.md.
PHASES = ("start", "build", "weights", "features", "training", "inference")


class Imported(BaseModel):
    """What a worker says about a file that it brought into the neutral format, in ``artifacts.IMPORTED``.

    Attributes:
        left_over: shape of every array that is not part of the architecture, by its name in the file.
        folded: neutral names of convolution biases that went into running means.
        classes: of the architecture's own classifier or of this project's trained head, or None without either.
        image_size: side in pixels of the images that the model is built for.
        trained_head: whether the classes are those of this project's trained head.
    """

    model_config = ConfigDict(extra="forbid")

    left_over: dict[str, tuple[int, ...]]
    folded: tuple[str, ...]
    classes: int | None
    image_size: int
    trained_head: bool = False


class RunResult(BaseModel):
    """What a worker says about one finished run, in ``artifacts.RUN_RESULT``.

    Beside it lie its logits and losses; of a ``FeaturesJob``, features of the training and of the test images.

    If it was asked to explain n images, maps of their true classes do, too, in the order of ``RunSpec.explain``:
    float32 (n, h, w), 0 to 1 (see ``shared.evaluation.gradcam.class_activation_maps``).

    Attributes:
        phases: seconds by phase; what several runs share (start, build, weights and features of a frozen backbone) is
            given in full to each of them.
        peak_memory_bytes: largest resident memory of the process so far.
        weights_digest: SHA-256 of all weights before the first training step (of the backbone's, if nothing trains);
            equal in both wings.
        model: file of the kept model, relative to the run's folder.
        features_alone: seconds of its frozen features, had no other run computed and kept them; None without any.
        nearest: of a transductive strategy, to which class each test image was given, and by how much that class's
            logit exceeded the next one's; None of others.
    """

    model_config = ConfigDict(extra="forbid")

    id: str
    phases: dict[str, float]
    peak_memory_bytes: int
    weights_digest: str
    model: str | None = None
    features_alone: float | None = None
    nearest: list[tuple[int, float]] | None = None


class WorkerResult(BaseModel):
    """What a worker says about itself when it is done, in ``result.json``.

    Attributes:
        versions: of the framework and what belongs to it.
        device: what the arithmetic ran on.
        phases: seconds by phase, over all runs, each counted once.
        steps: by phase, how long its batches took.
        engine: how the passes over many images ran, or did run where what they put out had been kept; None if there
            were none.
        engine_reason: why, in a few words.
        multiply_adds: of the layers that the pass led through, for one image.
        ceiling: multiply-adds a second of a large matrix product in this framework, the same number of threads and the
            same floating-point type; None if no pass was made.
        cpu_seconds: processor time of the process, all threads.
        wall_seconds: from the process's start to its last result.
        involuntary_context_switches: how often it lost a core to somebody else.
        others_share: part of the time of all cores that other processes took meanwhile, 0 to 1; the launcher's to say.
        check_seconds: that the short check took, which no phase and not ``wall_seconds`` counts.
    """

    model_config = ConfigDict(extra="forbid")

    versions: dict[str, str]
    device: str
    phases: dict[str, float]
    steps: dict[str, StepTimes] = {}
    engine: str | None = None
    engine_reason: str | None = None
    multiply_adds: int | None = None
    ceiling: float | None = None
    cpu_seconds: float
    wall_seconds: float
    involuntary_context_switches: int
    others_share: float = 0.0
    check_seconds: float = 0.0
    peak_memory_bytes: int

    @property
    def images_per_second(self) -> float | None:
        """Through the backbone (or its frozen stages) in inference mode, if many images went through it."""
        phase = "features" if "features" in self.steps else "inference"
        return self.steps[phase].images_per_second if self.multiply_adds and phase in self.steps else None

    def efficiency(self, ceiling: float) -> float | None:
        """Multiply-adds a second against a ceiling, 0 to 1 (fused or Winograd arithmetic may exceed it)."""
        if not (self.images_per_second and self.multiply_adds and ceiling):
            return None
        return self.images_per_second * self.multiply_adds / ceiling


@dataclass(frozen=True)
class FinishedRun:
    """A run that a process has finished: what it says, its test logits (N, classes), and the losses of all steps."""

    result: RunResult
    logits: NDArray[Any]
    losses: NDArray[Any]

    @property
    def nearest(self) -> NDArray[np.float64] | None:
        """Class and lead of each test image, (N, 2), if a transductive strategy gave them to any."""
        return None if self.result.nearest is None else np.array(self.result.nearest, np.float64).reshape(-1, 2)


def run_result(folder: Path) -> RunResult:
    """What a worker says about the finished run in a folder."""
    return RunResult.model_validate_json((folder / artifacts.RUN_RESULT).read_text(encoding="utf-8"))


def finished(folder: Path) -> FinishedRun:
    """Read a finished run."""
    logits, losses = (np.load(folder / name, allow_pickle=False) for name in (artifacts.LOGITS, artifacts.LOSSES))
    return FinishedRun(run_result(folder), logits, losses)


def imported(folder: Path) -> Imported:
    """What a worker says about the file that it read."""
    return Imported.model_validate_json((folder / artifacts.IMPORTED).read_text(encoding="utf-8"))

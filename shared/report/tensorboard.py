"""TensorBoard event files of training runs, written from what was recorded: no framework has a part in it."""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Iterable
from pathlib import Path

from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.experiments.trainings import Training

#: What TensorBoard expects at the head of an event file.
_FORMAT = "brain.Event:2"


def check() -> None:
    """Whether event files can be written.

    Raises:
        BadInput: the package is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise BadInput("--tensorboard needs the package tensorboard; pip install tensorboard, or leave the option out.")


def write(folder: Path, runs: Iterable[Training]) -> None:
    """A folder for each run with one event file; what an earlier call left of the same runs is replaced."""
    for run in runs:
        _write(folder / run.name, run)


def _write(folder: Path, run: Training) -> None:
    # Not tensorboard's own file writer, which loads TensorFlow to open a file.
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.summary.writer.record_writer import RecordWriter

    folder.mkdir(parents=True, exist_ok=True)
    for earlier in folder.glob("events.out.tfevents.*"):
        earlier.unlink()
    now = time.time()
    with (folder / f"events.out.tfevents.{int(now)}.transfer-parity").open("wb") as file:
        records = RecordWriter(file)
        records.write(event_pb2.Event(wall_time=now, file_version=_FORMAT).SerializeToString())

        def scalar(tag: str, step: int, value: float) -> None:
            summary = summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=tag, simple_value=value)])
            records.write(event_pb2.Event(wall_time=now, step=step, summary=summary).SerializeToString())

        # A run in closed form has rates in its plan, and no steps that would use them.
        for step, (loss, rate) in enumerate(zip(run.losses, run.learning_rates, strict=False)):
            scalar("training/loss", step, math.nan if loss is None else loss)
            scalar("training/learning_rate", step, rate)
        scalar("test/accuracy", max(0, len(run.losses) - 1), run.accuracy)

"""TensorBoard event files of training runs, written from what was recorded: no framework has a part in it."""

from __future__ import annotations

import importlib.util
import logging
import math
import time
from collections.abc import Iterable
from pathlib import Path

from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.experiments.trainings import Training

#: The package that writes them; TensorBoard itself is only needed to look at them.
PACKAGE = "tensorboardX"


def check() -> None:
    """Whether event files can be written.

    Raises:
        BadInput: the package is not installed.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        raise BadInput(f"--tensorboard needs the package {PACKAGE}; pip install {PACKAGE}, or leave the option out.")


def write(folder: Path, runs: Iterable[Training]) -> None:
    """A folder for each run with one event file; what an earlier call left of the same runs is replaced."""
    for run in runs:
        _write(folder / run.name, run)


def _write(folder: Path, run: Training) -> None:
    # Here, since importing it takes as long as the rest of the command.
    from tensorboardX import SummaryWriter

    # It warns of every loss that is not finite. That is how a run that diverged looks, and the tables say so already.
    logging.getLogger("tensorboardX.x2num").setLevel(logging.ERROR)
    for earlier in folder.glob("events.out.tfevents.*"):
        earlier.unlink()
    now = time.time()
    with SummaryWriter(str(folder)) as writer:
        # A run in closed form has rates in its plan, and no steps that would use them.
        for step, (loss, rate) in enumerate(zip(run.losses, run.learning_rates, strict=False)):
            writer.add_scalar("training/loss", math.nan if loss is None else loss, step, now)
            writer.add_scalar("training/learning_rate", rate, step, now)
        writer.add_scalar("test/accuracy", run.accuracy, max(0, len(run.losses) - 1), now)

"""Training runs for MLflow, written from what was recorded: no framework has a part in it."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable
from typing import Any

from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.experiments.run_table import Found
from transfer_parity.shared.experiments.trainings import Training

PACKAGE = "mlflow"
#: Name of the experiment that holds the runs, unless MLFLOW_EXPERIMENT_NAME says another.
EXPERIMENT = "transfer-parity"
#: Columns of a run that are numbers with a meaning of their own; all others are parameters.
METRICS = frozenset(
    {"accuracy", "macro_f1", "macro_recall", "macro_precision", "log_loss", "calibration_error", "seconds"}
)


def check() -> None:
    """Whether runs can be recorded.

    Raises:
        BadInput: the package is not installed.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        raise BadInput(f"--mlflow needs the package {PACKAGE}; pip install {PACKAGE}, or leave the option out.")


def write(found: Found, trainings: Iterable[Training]) -> None:
    """A run of MLflow for each training run, where MLFLOW_TRACKING_URI says, or in ``mlruns/``.

    Args:
        found: the results, a line for each training run.
        trainings: the same, in the same order, with losses and learning rates.
    """
    # Here, since importing it takes longer than the rest of the command.
    import mlflow

    mlflow.set_experiment(_experiment())
    for line, training in zip(found.lines(), trainings, strict=True):
        with mlflow.start_run(run_name=training.name):
            mlflow.log_params({key: value for key, value in line.items() if key not in METRICS})
            mlflow.log_metrics({f"test/{key}": float(line[key]) for key in METRICS if key in line})
            for step, (loss, rate) in enumerate(zip(training.losses, training.learning_rates, strict=False)):
                values: dict[str, Any] = {"training/learning_rate": rate}
                if loss is not None:
                    values["training/loss"] = loss
                mlflow.log_metrics(values, step=step)


def _experiment() -> str:

    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT

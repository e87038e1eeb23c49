"""Where training runs are recorded besides the output folder: event files, a table, MLflow."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from transfer_parity.shared.experiments.run_table import Found
from transfer_parity.shared.experiments.trainings import Training
from transfer_parity.shared.report import csv_file, mlflow, tensorboard


def check(options: argparse.Namespace) -> None:
    """Whether everything that was asked for can be written, before anything is computed.

    Raises:
        BadInput: a package is not installed, or the table cannot be written.
    """
    if options.tensorboard:
        tensorboard.check()
    if options.csv is not None:
        csv_file.check(options.csv)
    if options.mlflow:
        mlflow.check()


def write(options: argparse.Namespace, found: Found, trainings: Iterable[Training]) -> None:
    """Add the runs of a command to the table, and record them with MLflow, as far as that is asked for.

    Args:
        options: of the command.
        found: its results.
        trainings: its runs, in the order of the document.
    """
    if options.csv is not None:
        csv_file.append(options.csv, [found])
    if options.mlflow:
        mlflow.write(found, trainings)

"""What all commands show on the terminal: progress while they work, and a verdict at the end. It fits 80 columns."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

from transfer_parity.shared.contract.recipe import Shots
from transfer_parity.shared.core.progress import Progress as Tell
from transfer_parity.shared.evaluation.agreement import AGREEING, Verdict

#: Of tables, in columns.
WIDTH = 80


@contextmanager
def progress(console: Console) -> Iterator[Tell]:
    """A function that shows how far the work is: a bar on a terminal, else a line whenever something new begins."""
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("starting", total=None)
        current = ""

        def tell(what: str, done: int, total: int) -> None:
            nonlocal current
            if what != current:
                current = what
                bars.reset(task, description=what, total=total or None)
            bars.update(task, completed=done, total=total or None)

        yield tell


def _lines(console: Console) -> Tell:
    """One line for each new thing, at most one a second, since a log keeps them all."""
    current, told = "", 0.0

    def tell(what: str, done: int, total: int) -> None:
        nonlocal current, told
        if what != current and time.monotonic() - told > 1:
            current, told = what, time.monotonic()
            console.print(what, highlight=False)

    return tell


def show_verdict(verdict: Verdict, sentence: str, console: Console) -> None:
    """Print the verdict's sentence in the verdict's colour."""
    colour = "green" if verdict in AGREEING else "red" if verdict == "different" else "yellow"
    console.print(f"[bold {colour}]{sentence}[/]", highlight=False)


def amount(shots: Shots) -> str:
    """How many training images a class, in words."""
    return "all images" if shots == "all" else f"{shots} shot{'s' if shots != 1 else ''}"

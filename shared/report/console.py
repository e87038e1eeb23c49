"""What the terminal shows: progress while it works, then a table that fits 80 columns and the verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from shared.contract import PHASES
from shared.fetch import Progress as Tell
from shared.report.comparison import Comparison, Run

WIDTH = 80


@contextmanager
def progress(console: Console) -> Iterator[Tell]:
    """A function that shows how far the work is: a bar on a terminal, otherwise a line whenever something new begins."""
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


def show(comparison: Comparison, console: Console) -> None:
    """Print the table, the agreement and the verdict."""
    recipe = comparison.recipe
    shots = ", ".join(str(k) for k in recipe.shots)
    seeds = f"{recipe.seeds} seed{'s' if recipe.seeds > 1 else ''}"
    console.print(
        f"[bold]{recipe.backbone}[/], {recipe.weights} weights, {recipe.strategy}, {recipe.head} head, {recipe.size} px\n"
        f"{comparison.images} images of {len(comparison.classes)} classes ({recipe.data}), shots {shots}, {seeds}",
        highlight=False,
    )
    if comparison.skipped_files:
        console.print(f"[yellow]{len(comparison.skipped_files)} unreadable files were left out[/]", highlight=False)
    console.print(_table(comparison))
    for label, agreement in (("Test predictions", comparison.agreement), ("Control's", comparison.control_agreement)):
        if agreement is not None and agreement.predictions_compared:
            logits = agreement.max_abs_logit_difference
            console.print(
                f"{label}: {agreement.predictions_identical} of {agreement.predictions_compared} identical, "
                f"largest logit difference {'not finite' if logits is None else f'{logits:.1e}'}",
                highlight=False,
            )
    for note in _disturbances(comparison):
        console.print(f"[yellow]{note}[/]", highlight=False)
    colour = {"identical": "green", "equivalent": "green", "different": "red"}.get(comparison.verdict, "yellow")
    console.print(f"[bold {colour}]{comparison.verdict_sentence}[/]", highlight=False)


def _table(comparison: Comparison) -> Table:
    recipe = comparison.recipe
    frameworks = [name for name in recipe.frameworks if name in comparison.workers]
    table = Table(box=box.SIMPLE_HEAD, width=WIDTH, pad_edge=False)
    table.add_column("")
    for name in frameworks:
        table.add_column({"tensorflow": "Keras on TensorFlow", "torch": "torchvision on PyTorch"}[name], justify="right")

    main_is_pretrained = any(run.pretrained for run in comparison.runs)

    def chosen(name: str, shots: Any, control: bool) -> list[Run]:
        return [
            run
            for run in comparison.runs
            if run.framework == name and run.shots == shots and run.pretrained == (main_is_pretrained != control)
        ]

    def row(label: str, value: Callable[[str], str]) -> None:
        table.add_row(label, *(value(name) for name in frameworks))

    for shots in recipe.shots:
        amount = "all images" if shots == "all" else f"{shots} shot{'s' if shots != 1 else ''}"
        row(f"Accuracy, {amount}", lambda name, k=shots: _spread(chosen(name, k, False), "accuracy"))
        row("  macro F1", lambda name, k=shots: _spread(chosen(name, k, False), "macro_f1"))
        row("  macro recall", lambda name, k=shots: _spread(chosen(name, k, False), "macro_recall"))
        row("  log loss", lambda name, k=shots: _spread(chosen(name, k, False), "log_loss"))
        if comparison.control_agreement is not None:
            row("  without transfer", lambda name, k=shots: _spread(chosen(name, k, True), "accuracy"))
            row("  gain from transfer", lambda name, k=shots: _gain(chosen(name, k, False), chosen(name, k, True)))
    table.add_section()
    for phase in PHASES:
        row(f"Seconds, {phase}", lambda name, p=phase: f"{comparison.workers[name].phases.get(p, 0.0):.2f}")
    row("Images/s, inference", lambda name: _rate(comparison.runs, name))
    row("Peak memory", lambda name: f"{comparison.workers[name].peak_memory_bytes / 2**20:.0f} MiB")
    return table


def _spread(runs: list[Run], metric: str) -> str:
    values = [getattr(run, metric) for run in runs]
    if not values or any(value is None for value in values):
        return "-"
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def _gain(main: list[Run], control: list[Run]) -> str:
    if not main or not control:
        return "-"
    gain = np.mean([run.accuracy for run in main]) - np.mean([run.accuracy for run in control])
    return f"{100 * gain:+.1f} points"


def _rate(runs: list[Run], framework: str) -> str:
    rates = [run.images_per_second for run in runs if run.framework == framework]
    return f"{np.median(rates):.0f}" if rates else "-"


def _disturbances(comparison: Comparison) -> Iterator[str]:
    """Reasons not to trust the seconds."""
    environment = comparison.environment
    if environment.load_average_before is not None and environment.load_average_before > environment.cores / 2:
        yield (
            f"The machine was busy before the start (load {environment.load_average_before:.1f} on "
            f"{environment.cores} cores): take the seconds with care."
        )

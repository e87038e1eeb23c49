"""What the terminal and ``report.md`` say of a study."""

from __future__ import annotations

from collections.abc import Callable

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from transfer_parity.shared.contract.framework_defaults import Mode
from transfer_parity.shared.contract.wings import Framework, wing
from transfer_parity.shared.experiments.study_document import Estimate, Point, StudyDocument
from transfer_parity.shared.report.console import WIDTH, amount, show_verdict
from transfer_parity.shared.report.markdown import table

Shown = Callable[[Point], str]


def show(document: StudyDocument, console: Console) -> None:
    """Print the curves, what to use, and the verdict."""
    first = document.common
    console.print(
        f"[bold]{first.backbone}[/], {escape(first.weights)} weights; {document.images} images of "
        f"{len(document.classes)} classes ({escape(first.data)}), {first.seeds} seed{'s' if first.seeds > 1 else ''}",
        highlight=False,
    )
    for mode in document.modes:
        for framework in first.frameworks:
            console.print(_table(document, mode, framework))
    for line in notes(document):
        console.print(line, highlight=False)
    show_verdict(document.verdict, document.verdict_sentence, console)


def view(document: StudyDocument, mode: Mode, framework: Framework) -> str:
    """What a table is about: a framework, and its mode if there are several or it is not the usual one."""
    title = wing(framework).title
    return f"{title}, {mode}" if len(document.modes) > 1 or mode != "matched" else title


def where(strategy: str, mode: Mode) -> str:
    """A strategy, and its mode unless that is the usual one."""
    return strategy if mode == "matched" else f"{strategy}, {mode}"


def _table(document: StudyDocument, mode: Mode, framework: Framework) -> Table:
    """Accuracy in per cent: strategies by shots."""
    first = document.common
    title = f"{view(document, mode, framework)}: accuracy, %, by labelled images a class"
    grid = Table(box=box.SIMPLE_HEAD, width=WIDTH, pad_edge=False, title=title, title_justify="left")
    grid.add_column("", no_wrap=True)
    for shots in first.shots:
        grid.add_column(str(shots), justify="right", no_wrap=True)
    chosen = [point for point in document.points if (point.mode, point.framework) == (mode, framework)]
    by_key = {(point.strategy, point.shots): point for point in chosen}
    for strategy in document.recipes:
        row = [by_key.get((strategy, shots)) for shots in first.shots]
        grid.add_row(strategy, *(percent(point.accuracy) if point else "-" for point in row))
    return grid


def percent(estimate: Estimate, sign: bool = False, digits: int = 1) -> str:
    """A mean with half the width of its interval, in per cent: ``81.2 ±3.4``."""
    mean = f"{100 * estimate.mean:{'+' if sign else ''}.{digits}f}"
    if estimate.interval is None:
        return mean
    return f"{mean} ±{50 * (estimate.interval[1] - estimate.interval[0]):.{digits}f}"


def notes(document: StudyDocument) -> list[str]:
    """What the curves mean, in sentences."""
    lines = []
    if len(document.results) < document.cells:
        lines.append(f"{len(document.results)} of {document.cells} cells are finished; the same command goes on.")
    if any(point.accuracy.interval for point in document.points):
        lines.append("Mean over seeds ± half of the 95 % confidence interval.")
    for each in document.cheapest:
        tail = "" if each.best == each.cheapest else f"; {each.cheapest} comes within a point of it in the least time"
        lines.append(f"With {amount(each.shots)}, {each.best} is best{tail}.")
    if document.shipped_sentence:
        lines.append(document.shipped_sentence)
    return lines


def markdown(document: StudyDocument) -> str:
    """The report for a pull request."""
    first = document.common
    parts = [
        f"# Study: {first.name}\n",
        f"**{document.verdict_sentence}**\n",
        f"{first.backbone}, {first.weights} weights; {document.images} images of {len(document.classes)} classes "
        f"({first.data}), {first.seeds} seeds.\n",
    ]
    head = ["strategy", *(str(shots) for shots in first.shots)]
    for mode, framework in ((mode, framework) for mode in document.modes for framework in first.frameworks):
        points = [point for point in document.points if (point.mode, point.framework) == (mode, framework)]
        parts.append(f"## {view(document, mode, framework)}\n")
        parts.append("Accuracy, %, by training images a class:\n")
        parts.append(_rows(document, points, head, lambda point: percent(point.accuracy)))
        if any(point.gain for point in points):
            parts.append("Gain over scratch, points, paired by seed:\n")
            parts.append(
                _rows(document, points, head, lambda point: percent(point.gain, sign=True) if point.gain else "")
            )
    parts.append("## Do the frameworks agree?\n")
    parts.append(
        table(
            ["strategy", "shots", "verdict", "same predictions", "largest logit difference", "McNemar, Holm"],
            [
                [
                    where(each.strategy, each.mode),
                    str(each.shots),
                    each.verdict,
                    f"{each.agreement.predictions_identical} of {each.agreement.predictions_compared}",
                    _number(each.agreement.max_abs_logit_difference),
                    "" if each.p_value is None else f"{each.p_value:.2g}",
                ]
                for each in document.judgements
            ],
        )
    )
    parts.append("\n".join(f"- {line}" for line in notes(document)) + "\n")
    for strategy, by_framework in document.own_ways.items():
        listed = "; ".join(f"{wing(key).title}: {', '.join(names) or 'nothing'}" for key, names in by_framework.items())
        parts.append(f"In its own way when as shipped, {strategy}: {listed}.\n")
    versions = ", ".join(f"{name} {version}" for name, version in document.environment.versions.items())
    parts.append(f"{document.created}; {versions}; {document.environment.cpu}.\n")
    return "\n".join(parts)


def _rows(document: StudyDocument, points: list[Point], head: list[str], shown: Shown) -> str:
    by_key = {(point.strategy, str(point.shots)): point for point in points}
    rows = []
    for strategy in document.recipes:
        found = [by_key.get((strategy, shots)) for shots in head[1:]]
        if any(found):
            rows.append([strategy, *(shown(point) if point else "" for point in found)])
    return table(head, rows)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1e}"

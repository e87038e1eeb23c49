"""``episodes.json`` as tables for the terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table

from transfer_parity.shared.contract import wings
from transfer_parity.shared.experiments.episodes_document import EpisodesDocument, FrameworkAgreement, MethodDifference
from transfer_parity.shared.report.console import WIDTH, Console, amount, show_verdict


def show(document: EpisodesDocument, console: Console) -> None:
    """Print accuracies, differences between methods, published errors and how far the frameworks agree."""
    for line in _heading(document):
        console.print(line, highlight=False)
    console.print(_accuracies(document))
    if any(each.sees_queries for each in document.methods):
        console.print("* classifies the queries of an episode together, without their labels", highlight=False)
    if document.differences:
        console.print(_differences(document))
    if document.published:
        console.print(_published(document))
    for each in document.agreement:
        if each.verdict != "identical" or each.max_abs_logit_difference is None:
            console.print(_in_words(each), highlight=False)
    show_verdict(document.verdict, sentence(document), console)


def _heading(document: EpisodesDocument) -> list[str]:
    images = f"{document.backbone}, {document.weights} weights, {document.image_size} px, {document.precision}"
    if document.runs:
        tasks = (
            f"{document.episodes} published runs ({document.data}): {document.ways} ways, 1 shot, "
            f"{document.queries} queries"
        )
    else:
        tasks = (
            f"{document.episodes} episodes ({document.data}): {document.ways} of {len(document.novel_classes)} novel "
            f"classes, {document.queries} queries"
        )
    return [images, tasks, f"guessing: {document.chance:.3f}; in brackets, 95% intervals over these episodes"]


def _accuracies(document: EpisodesDocument) -> Table:
    """Accuracies; errors beside them where others have published errors."""
    table = Table(box=box.SIMPLE_HEAD, width=WIDTH, padding=0, pad_edge=False)
    table.add_column("Accuracy", no_wrap=True)
    for framework in document.sides:
        table.add_column(wings.wing(framework).title, justify="right", no_wrap=True)
    marks = {each.name: f"{each.name} *" if each.sees_queries else each.name for each in document.methods}
    for shots in document.shots:
        for method in marks:
            row = [each for each in document.accuracies if (each.shots, each.method) == (shots, method)]
            numbers = [f"{each.accuracy:.3f} ({each.interval[0]:.3f}-{each.interval[1]:.3f})" for each in row]
            table.add_row(f"{amount(shots)}, {marks[method]}", *numbers)
    return table


def _differences(document: EpisodesDocument) -> Table:
    """Methods against each other, in points, in the first framework: the other one's are in the document."""
    framework = next(iter(document.sides))
    table = Table(box=box.SIMPLE_HEAD, width=WIDTH, padding=0, pad_edge=False)
    table.add_column("Points of accuracy, on the same episodes", no_wrap=True)
    table.add_column(wings.wing(framework).title, justify="right", no_wrap=True)
    for each in document.differences:
        if each.framework == framework:
            table.add_row(f"{amount(each.shots)}, {each.method} - {each.minus}", _points(each))
    return table


def _points(each: MethodDifference) -> str:
    shown = f"{100 * each.difference:+.1f}"
    if each.interval is None:
        return shown
    return f"{shown} ({100 * each.interval[0]:+.1f} to {100 * each.interval[1]:+.1f})"


def _published(document: EpisodesDocument) -> Table:
    """Errors of these methods among those that others have published, the best first."""
    framework = next(iter(document.sides))
    names = {each.name: each for each in document.methods}
    rows = [(each.error, each.who, each.trained_on) for each in document.published]
    for each in document.accuracies:
        if each.framework == framework:
            seen = f"{document.base_data}" if names[each.method].trains_on_base else f"photographs ({document.weights})"
            rows.append((1 - each.accuracy, f"{each.method} (here)", seen))
    table = Table(box=box.SIMPLE_HEAD, width=WIDTH, padding=0, pad_edge=False)
    table.add_column("Error", justify="right", no_wrap=True)
    table.add_column("  Who", no_wrap=True)
    table.add_column("Trained on", overflow="fold")
    for error, who, trained_on in sorted(rows):
        table.add_row(f"{100 * error:.1f} %", f"  {who}", trained_on)
    return table


def _in_words(each: FrameworkAgreement) -> str:
    logits = each.max_abs_logit_difference
    size = "logits are not all finite" if logits is None else f"largest logit difference {logits:.1e}"
    return (
        f"{each.method}, {amount(each.shots)}: {each.predictions_identical} of {each.predictions_compared} predictions "
        f"identical, {size}, accuracy differs by {100 * each.accuracy_difference:+.2f} points: {each.verdict}."
    )


def sentence(document: EpisodesDocument) -> str:
    """The verdict over all methods, as a sentence."""
    if not document.agreement:
        return "Not compared: one framework ran."
    same = sum(each.predictions_identical for each in document.agreement)
    compared = sum(each.predictions_compared for each in document.agreement)
    logits = [each.max_abs_logit_difference for each in document.agreement]
    finite = [each for each in logits if each is not None]
    largest = f"largest logit difference {max(finite):.1e}" if len(finite) == len(logits) else "not all logits finite"
    return f"{document.verdict.capitalize()}: {same} of {compared} predictions are the same ({largest})."

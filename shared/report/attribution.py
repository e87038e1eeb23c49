"""How the terminal, ``attribution.md`` and a plot show what each default costs."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from transfer_parity.shared.contract.recipe import Shots
from transfer_parity.shared.contract.wings import IDENTIFIERS, compared, wing
from transfer_parity.shared.experiments.attribution_document import Attributed, AttributionDocument
from transfer_parity.shared.report import looks
from transfer_parity.shared.report.console import WIDTH, Console, amount, marked
from transfer_parity.shared.report.markdown import table
from transfer_parity.shared.report.study import percent


def show(document: AttributionDocument, console: Console) -> None:
    """Print a table for each strategy, and what the defaults add up to."""
    for each in document.strategies:
        console.print(marked("[bold]{}[/]: {}", each.strategy, _setting(document, each)), highlight=False)
        console.print(_table(each))
        for line in summary(each):
            console.print(line, highlight=False)
        console.print()
    for line in notes(document):
        console.print(line, highlight=False)


def _setting(document: AttributionDocument, each: Attributed) -> str:
    recipe = each.recipe
    shots: list[Shots] = list(recipe.shots)
    weights = "" if recipe.strategy == "scratch" else f", {recipe.weights} weights"
    return (
        f"{recipe.backbone}{weights}, {recipe.optimizer if recipe.solver == 'optimizer' else recipe.solver}, "
        f"{recipe.data}, {' and '.join(map(amount, shots))}, {recipe.seeds} seed{'s' if recipe.seeds > 1 else ''}"
    )


def _table(each: Attributed) -> Table:
    grid = Table(box=box.SIMPLE_HEAD, width=WIDTH, pad_edge=False)
    for name in ("framework", "what it does in its own way"):
        grid.add_column(name, no_wrap=True)
    for name in ("accuracy, points", "changed"):
        grid.add_column(name, justify="right", no_wrap=True)
    for effect in each.effects:
        grid.add_row(
            wing(effect.framework).short,
            effect.name if effect.native else f"({effect.name})",
            percent(effect.accuracy, sign=True, digits=2),
            f"{effect.predictions_changed:.1%}",
        )
    return grid


def summary(each: Attributed) -> Iterator[str]:
    """What the defaults of a strategy add up to, in sentences."""
    for name, estimate in each.accuracy.items():
        shipped = each.accuracy_shipped.get(name)
        then = f", as shipped {percent(shipped)}" if shipped else ""
        yield f"{wing(name).short}: accuracy {percent(estimate)} % matched{then}."
    unclear = [effect for effect in each.effects if not effect.told_from_zero]
    if len(unclear) == len(each.effects) > 0:
        yield "No effect can be told from zero (paired tests over seeds and images, Holm); more seeds would tell more."
    elif unclear:
        names = ", ".join(f"{wing(effect.framework).short} {effect.name}" for effect in unclear)
        yield f"Cannot be told from zero (paired tests over seeds and images, Holm): {names}."
    gap, two = each.gap, compared(each.recipe.frameworks)
    if gap is not None and two is not None:
        yield (
            f"{two[0].short} minus {two[1].short}: {percent(gap.matched, sign=True, digits=2)} points matched, "
            f"{percent(gap.shipped, sign=True, digits=2)} as shipped. Single defaults add up to "
            f"{percent(gap.explained, sign=True, digits=2)}; {percent(gap.rest, sign=True, digits=2)} come of several "
            "together."
        )


def notes(document: AttributionDocument) -> Iterator[str]:
    """What a reader must know."""
    if any(effect.accuracy.interval for each in document.strategies for effect in each.effects):
        yield "Points of accuracy: mean over seeds ± half of the 95 % confidence interval, paired by seed."
    if any(not effect.native for each in document.strategies for effect in each.effects):
        yield "In brackets: no default of that framework, but easily done when a model is moved to it."
    for label, reason in document.left_out.items():
        yield f"Left out: {label} ({reason})"
    if document.finished < document.cells:
        yield f"{document.finished} of {document.cells} cells are finished; the same command goes on."


def markdown(document: AttributionDocument) -> str:
    """The tables for a pull request, or for a page of documentation."""
    parts = ["# What each default costs\n"]
    for each in document.strategies:
        parts.append(f"## {each.strategy}\n")
        parts.append(f"{_setting(document, each)}; {document.images} images of {len(document.classes)} classes.\n")
        parts.append(
            table(
                [
                    *("framework", "switch", "what it does", "by itself", "accuracy, points"),
                    *("told from zero", "predictions changed"),
                ],
                [
                    [
                        wing(effect.framework).short,
                        f"`{effect.name}`",
                        effect.summary,
                        "yes" if effect.native else "no",
                        percent(effect.accuracy, sign=True, digits=2),
                        "yes" if effect.told_from_zero else "no",
                        f"{effect.predictions_changed:.1%}",
                    ]
                    for effect in each.effects
                ],
            )
        )
        parts.append("\n".join(f"- {line}" for line in summary(each)) + "\n")
    parts.append("\n".join(f"- {line}" for line in notes(document)) + "\n")
    environment = document.environment
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    parts.append(f"{document.created}; {versions}; {environment.cpu}.\n")
    return "\n".join(parts)


def plot(document: AttributionDocument) -> Figure:
    """Effects with their 95 % intervals, a panel for each strategy; filled marks are the framework's own defaults."""
    shown = [each for each in document.strategies if each.effects]
    rows = [len(each.effects) for each in shown]
    figure = Figure(figsize=(7.5, 1.2 + sum(0.6 + 0.26 * count for count in rows)), layout="constrained")
    axes = figure.subplots(len(shown), 1, squeeze=False, sharex=True, gridspec_kw={"height_ratios": rows})[:, 0]
    for ax, each in zip(axes, shown, strict=True):
        ax.axvline(0, color=ax.xaxis.label.get_color(), linewidth=0.8)
        for row, effect in enumerate(each.effects):
            mean = effect.accuracy.mean
            low, high = effect.accuracy.interval or (mean, mean)
            look = looks.FRAMEWORKS[IDENTIFIERS.index(effect.framework) % len(looks.FRAMEWORKS)]
            ax.errorbar(
                [100 * mean],
                [row],
                xerr=[[100 * (mean - low)], [100 * (high - mean)]],
                color=look.colour,
                marker=look.marker,
                markerfacecolor=look.colour if effect.native else "none",
                capsize=2,
            )
        ax.set_yticks(range(len(each.effects)), [effect.label for effect in each.effects])
        ax.set_ylim(len(each.effects) - 0.4, -0.6)
        ax.set_title(each.strategy, fontsize="medium", loc="left")
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.grid(axis="x", linewidth=0.6)
    axes[-1].set_xlabel("change of accuracy, points (hollow: no default of that framework)")
    return figure

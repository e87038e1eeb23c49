"""How the terminal, ``attribution.md`` and a plot show what each default costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from transfer_parity.shared.contract.recipe import Shots
from transfer_parity.shared.contract.wings import IDENTIFIERS, compared, wing
from transfer_parity.shared.experiments.attribution_document import (
    Attributed,
    AttributionDocument,
    Effect,
    Gap,
    Interaction,
    Measured,
)
from transfer_parity.shared.report import looks
from transfer_parity.shared.report.console import WIDTH, Console, amount, marked
from transfer_parity.shared.report.markdown import table
from transfer_parity.shared.report.study import percent


def show(document: AttributionDocument, console: Console) -> None:
    """Print a table for each strategy, and what the defaults add up to."""
    for each in document.strategies:
        console.print(marked("[bold]{}[/]: {}", each.strategy, _setting(document, each)), highlight=False)
        for line in artefacts(each):
            console.print(line, highlight=False)
        console.print(_table(each))
        for line in summary(each):
            console.print(line, highlight=False)
        console.print()
    for line in notes(document):
        console.print(line, highlight=False)


def _setting(document: AttributionDocument, each: Attributed) -> str:
    recipe = each.recipe
    shots: list[Shots] = list(recipe.shots)
    weights = "" if not recipe.method.pretrained else f", {recipe.weights} weights"
    return (
        f"{recipe.backbone}{weights}, {recipe.closed_form or recipe.optimizer}, "
        f"{recipe.data}, {' and '.join(map(amount, shots))}, {recipe.seeds} seed{'s' if recipe.seeds > 1 else ''}"
    )


def artefacts(each: Attributed) -> Iterator[str]:
    """What is the doing of the rate and of nothing else, in sentences: the first thing to read."""
    two = compared(each.recipe.frameworks)
    if two is not None and each.gap is not None and each.gap_tuned is not None:
        own = {rate.framework: rate.rate for rate in each.rates if rate.arm == "as shipped"}
        rates = " and ".join(f"{own[side.identifier]:g} ({side.short})" for side in two)
        yield (
            f"As shipped, {two[0].short} minus {two[1].short}: {percent(each.gap.shipped, sign=True)} points at the "
            f"recipe's rate of {each.recipe.learning_rate:g}, {percent(each.gap_tuned.shipped, sign=True)} at a rate "
            f"chosen for each side, {rates}."
        )
    tuned = [effect for effect in each.effects if effect.tuned is not None]
    for here, there, what in (
        (True, False, "An artefact of the recipe's rate, as far as these runs tell (told from zero there alone)"),
        (False, True, "Hidden by the recipe's rate (told from zero at chosen rates alone)"),
    ):
        names = [
            _name(effect) for effect in tuned if (effect.told_from_zero, effect.best.told_from_zero) == (here, there)
        ]
        if names:
            yield f"{what}: {', '.join(names)}."
    if each.not_tuned:
        yield f"All at the recipe's rate: {each.not_tuned}. What only suits one side's rate is not told apart."


def _name(effect: Effect) -> str:
    return f"{wing(effect.framework).short} {effect.name}"


def _table(each: Attributed) -> Table:
    tuned = any(effect.tuned for effect in each.effects)
    grid = Table(box=box.SIMPLE_HEAD, width=WIDTH, pad_edge=False)
    for name in ("framework", "in its own way"):
        grid.add_column(name, no_wrap=True)
    for name in ("at chosen rates", "at the recipe's", "changed") if tuned else ("accuracy, points", "changed"):
        grid.add_column(name, justify="right", no_wrap=True)
    for effect in each.effects:
        grid.add_row(
            wing(effect.framework).short,
            effect.name if effect.native else f"({effect.name})",
            *([_points(effect.tuned)] if tuned else []),
            _points(effect),
            f"{effect.predictions_changed:.1%}",
        )
    return grid


def _points(found: Measured | None) -> str:
    return percent(found.accuracy, sign=True, digits=2) if found else ""


def summary(each: Attributed) -> Iterator[str]:
    """What the defaults of a strategy add up to, in sentences."""
    for name, estimate in each.accuracy.items():
        shipped = each.accuracy_shipped.get(name)
        then = f", as shipped {percent(shipped)}" if shipped else ""
        own = each.accuracy_tuned.get(name), each.accuracy_shipped_tuned.get(name)
        if own[0] and own[1]:
            then += f"; at chosen rates {percent(own[0])} and {percent(own[1])}"
        yield f"{wing(name).short}: accuracy {percent(estimate)} % matched{then}."
    where = ", at chosen rates" if any(effect.tuned for effect in each.effects) else ""
    unclear = [effect for effect in each.effects if not effect.best.told_from_zero]
    if len(unclear) == len(each.effects) > 0:
        yield (
            f"No effect can be told from zero (paired tests over seeds and images, Holm{where}); more seeds would tell "
            "more."
        )
    elif unclear:
        names = ", ".join(map(_name, unclear))
        yield f"Cannot be told from zero (paired tests over seeds and images, Holm{where}): {names}."
    for gap, at in ((each.gap_tuned, "at chosen rates"), (each.gap, "at the recipe's rate" if each.rates else "")):
        if gap is not None:
            yield _adding_up(each, gap, at)
    yield from _of_pairs(each)
    yield from _of_rates(each)


def _adding_up(each: Attributed, gap: Gap, at: str) -> str:
    """How far single defaults, and pairs of them, explain the whole."""
    two = compared(each.recipe.frameworks)
    assert two is not None
    names = f"{two[0].short} minus {two[1].short}"
    said = (
        f"{names}{f' {at}' if at else ''}: {percent(gap.matched, sign=True, digits=2)} points matched, "
        f"{percent(gap.shipped, sign=True, digits=2)} as shipped. Single defaults add up to "
        f"{percent(gap.explained, sign=True, digits=2)}; {percent(gap.rest, sign=True, digits=2)} come of several "
        "together"
    )
    if gap.pairs is not None and gap.rest_of_pairs is not None:
        pairs, rest = (percent(part, sign=True, digits=2) for part in (gap.pairs, gap.rest_of_pairs))
        return f"{said}, of which the pairs below are {pairs}, and {rest} is left."
    return f"{said}."


def _of_pairs(each: Attributed) -> Iterator[str]:
    """What pairs do beyond the sum of both."""
    unclear = []
    for pair in each.interactions:
        best, names = pair.tuned or pair, _pair(pair)
        if best.told_from_zero:
            yield (
                f"{names} together: {percent(best.accuracy, sign=True)} points, "
                f"{percent(best.interaction, sign=True)} beyond the sum of both."
            )
        else:
            unclear.append(f"{names} ({percent(best.interaction, sign=True)})")
    if unclear:
        yield f"Pairs that do nothing told from zero beyond the sum of both: {', '.join(unclear)}."
    for label, reason in each.pairs_left_out.items():
        yield f"Not run together: {label} ({reason})."


def _pair(pair: Interaction) -> str:
    return f"{wing(pair.framework).short} {pair.names[0]} and {pair.names[1]}"


def _of_rates(each: Attributed) -> Iterator[str]:
    """Which choices the grid cut short."""
    for edge in ("lowest", "highest"):
        names = [f"{wing(rate.framework).short} {rate.arm}" for rate in each.rates if rate.edge == edge]
        if names:
            yield f"At the {edge} rate of the grid, beyond which may be a better one: {', '.join(names)}."


def notes(document: AttributionDocument) -> Iterator[str]:
    """What a reader must know."""
    if any(effect.accuracy.interval for each in document.strategies for effect in each.effects):
        yield "Points of accuracy: mean over seeds ± half of the 95 % confidence interval, paired by seed."
    if any(each.rates for each in document.strategies):
        yield (
            "Chosen rates: for each side the least log loss on a fifth of its training images, held out; no test image "
            "has a say."
        )
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
        parts += [f"{line}\n" for line in artefacts(each)]
        parts.append(_markdown_table(each))
        parts.append("\n".join(f"- {line}" for line in summary(each)) + "\n")
        if each.rates:
            parts.append(_rates(each))
    parts.append("\n".join(f"- {line}" for line in notes(document)) + "\n")
    environment = document.environment
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    parts.append(f"{document.created}; {versions}; {environment.cpu}.\n")
    return "\n".join(parts)


def _markdown_table(each: Attributed) -> str:
    tuned = any(effect.tuned for effect in each.effects)
    own = ("points at chosen rates", "told from zero", "rate") if tuned else ()
    return table(
        [
            *("framework", "switch", "what it does", "by itself", *own),
            *(
                ("points at the recipe's rate" if tuned else "accuracy, points"),
                "told from zero",
                "predictions changed",
            ),
        ],
        [
            [
                wing(effect.framework).short,
                f"`{effect.name}`",
                effect.summary,
                "yes" if effect.native else "no",
                *(_at_chosen(effect) if tuned else []),
                _points(effect),
                "yes" if effect.told_from_zero else "no",
                f"{effect.predictions_changed:.1%}",
            ]
            for effect in each.effects
        ],
    )


def _at_chosen(effect: Effect) -> list[str]:
    found = effect.tuned
    return [_points(found), "yes" if found.told_from_zero else "no", f"{found.rate:g}"] if found else ["", "", ""]


def _rates(each: Attributed) -> str:
    """The grid and what was chosen from it."""
    rates = each.rates[0].rates
    return table(
        ["framework", "arm", *(f"log loss at {rate:g}" for rate in rates), "chosen", "edge"],
        [
            [
                *(wing(choice.framework).short, choice.arm),
                *("diverged" if loss is None else f"{loss:.3f}" for loss in choice.log_losses),
                *(f"{choice.rate:g}", choice.edge or ""),
            ]
            for choice in each.rates
        ],
    )


def plot(document: AttributionDocument) -> Figure:
    """Effects with their 95 % intervals, a panel for each strategy; filled marks are the framework's own defaults."""
    shown = [each for each in document.strategies if each.effects]
    rows = [len(each.effects) for each in shown]
    figure = Figure(figsize=(7.5, 1.2 + sum(0.6 + 0.26 * count for count in rows)), layout="constrained")
    axes = figure.subplots(len(shown), 1, squeeze=False, sharex=True, gridspec_kw={"height_ratios": rows})[:, 0]
    for ax, each in zip(axes, shown, strict=True):
        ax.axvline(0, color=ax.xaxis.label.get_color(), linewidth=0.8)
        for row, effect in enumerate(each.effects):
            look = looks.FRAMEWORKS[IDENTIFIERS.index(effect.framework) % len(looks.FRAMEWORKS)]
            if effect.tuned is not None:
                # Pale behind it: the same at the recipe's rate.
                _mark(ax, row, effect, color=look.colour, marker="|", alpha=0.45)
            face = look.colour if effect.native else "none"
            _mark(ax, row, effect.best, color=look.colour, marker=look.marker, markerfacecolor=face, capsize=2)
        ax.set_yticks(range(len(each.effects)), [effect.label for effect in each.effects])
        ax.set_ylim(len(each.effects) - 0.4, -0.6)
        ax.set_title(each.strategy, fontsize="medium", loc="left")
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.grid(axis="x", linewidth=0.6)
    pale = "; pale: at the recipe's rate" if any(effect.tuned for each in shown for effect in each.effects) else ""
    axes[-1].set_xlabel(f"change of accuracy, points (hollow: no default of that framework{pale})")
    return figure


def _mark(ax: Any, row: int, found: Measured, **look: Any) -> None:
    """A mean with its interval, in points."""
    mean = found.accuracy.mean
    low, high = found.accuracy.interval or (mean, mean)
    ax.errorbar([100 * mean], [row], xerr=[[100 * (mean - low)], [100 * (high - mean)]], **look)

"""Plots of a climb of one's own pair: differences against tolerances along the computation, and where they lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from transfer_parity.shared.core.text import printable
from transfer_parity.shared.report import looks, subject
from transfer_parity.shared.report.plots import NARROW, PANEL, Plot, rendered
from transfer_parity.shared.subjects.document import ArrayResult, Place, SubjectRung

#: Of a rung's plot, in inches.
WIDE = 8.0
#: Differences of zero have no logarithm: they are drawn this much below everything else.
BELOW = 10.0
#: Beyond these a logarithmic scale has no room around its marks.
LEAST, MOST = 1e-200, 1e200
#: Of powers of ten. Matplotlib's own are formulas, which plots here do not have: see ``plots.svg``.
POWERS = FuncFormatter(lambda value, place: f"{value:.0e}")


def along(rung: SubjectRung) -> Plot | None:
    """Difference and tolerance of every array of a rung in the order of the computation, on a logarithmic scale.

    Returns:
        None where fewer than two arrays could be compared: nothing would be seen.
    """
    arrays = [each for each in rung.arrays if each.max_abs_difference is not None]
    if len(arrays) < 2:
        return None
    first = rung.first_divergence
    failed = sum(not each.passed for each in arrays)
    worst = max(arrays, key=subject.share)
    alt = (
        f"Largest absolute difference of {len(arrays)} arrays at rung {rung.name}, in the order of the computation, "
        f"on a logarithmic scale: {failed} exceed their tolerance"
    )
    if first is not None:
        alt += f"; the first is {_name(first)}, which {subject.numbers(first)}"
    alt += f"; nearest to its tolerance, or farthest beyond, is {_name(worst)}."
    caption = "Each mark is an array; the line is its tolerance, as rounding explains it. Marks at the bottom are zero."
    if first is not None and first in arrays:
        caption += " The vertical line is the first divergence."
    return rendered(alt, caption, partial(_along, arrays, first))


def _along(arrays: Sequence[ArrayResult], first: ArrayResult | None) -> Figure:
    differences = [_clipped(each.max_abs_difference or 0.0) for each in arrays]
    tolerances = [_clipped(each.tolerance) for each in arrays]
    shown = [value for value in (*differences, *tolerances) if value > 0]
    floor = min(shown, default=1.0) / BELOW
    figure = Figure(figsize=(WIDE, PANEL[1]), layout="constrained")
    ax = figure.subplots()
    for passed, look, label in ((True, looks.AGREES, "within its tolerance"), (False, looks.AGREES_NOT, "exceeds it")):
        at = [number for number, each in enumerate(arrays) if each.passed is passed]
        values = [max(differences[number], floor) for number in at]
        face = "none" if look.hollow else look.colour
        if at:
            ax.plot(at, values, look.marker, color=look.colour, markerfacecolor=face, markersize=5, label=label)
    line: dict[str, Any] = {"color": looks.BAND, "linewidth": 1.2, "linestyle": "--", "drawstyle": "steps-mid"}
    ax.plot([value or math.nan for value in tolerances], label="tolerance", **line)
    if first is not None and first in arrays:
        place = arrays.index(first)
        ax.axvline(place, color=looks.AGREES_NOT.colour, linewidth=1)
        side = -4 if place > len(arrays) / 2 else 4
        ax.annotate(
            _short(_name(first)),
            (place, 1.0),
            (side, -4),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="right" if side < 0 else "left",
            va="top",
            fontsize="small",
        )
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(POWERS)
    ax.yaxis.set_minor_formatter(NullFormatter())
    top = max(shown, default=1.0)
    ax.set_ylim(floor / 2, top * 30)
    ax.set_xlim(-0.6, len(arrays) - 0.4)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("array, in the order of the computation")
    ax.set_ylabel("largest absolute difference")
    ax.grid(axis="y", linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def places(array: ArrayResult) -> Plot | None:
    """Where an array differs: a map over its places, and one over its channels. None where nothing is known."""
    place = array.place
    if place is None or not (place.channels or place.places):
        return None
    alt = f"Heat map of the differences of {_name(array)}"
    if place.channels:
        worst = max(range(len(place.channels)), key=lambda number: _known(place.channels[number]))
        alt += f"; of {len(place.channels)} channels number {worst} differs most"
    if place.places:
        rows, columns = len(place.places), max(map(len, place.places))
        row, column = max(
            ((row, column) for row in range(rows) for column in range(len(place.places[row]))),
            key=lambda at: _known(place.places[at[0]][at[1]]),
            default=(0, 0),
        )
        alt += f"; of {rows} by {columns} places row {row}, column {column} does"
    caption = (
        "Largest absolute difference by place (rows and columns, or examples and places) and by channel (last axis). "
        "What is left blank is equal, or not finite."
    )
    return rendered(alt + ".", caption, partial(_places, place))


def _places(place: Place) -> Figure:
    values = [known for row in (*place.places, place.channels) for value in row if (known := _known(value)) > 0]
    low, high = min(values, default=1.0), max(values, default=1.0)
    # Where all are alike, a scale needs some room nevertheless.
    norm = LogNorm(min(low, high / BELOW), high)
    tall = 2.8 if place.places else 0.0
    figure = Figure(figsize=(NARROW, tall + (1.1 if place.channels else 0.0) + 0.3), layout="constrained")
    ratios = [ratio for ratio, there in ((tall, place.places), (0.5, place.channels)) if there]
    axes = figure.subplots(len(ratios), 1, squeeze=False, height_ratios=ratios)[:, 0]
    image: Any = None
    for ax, grid, names in zip(
        axes,
        [each for each in (place.places, [place.channels]) if each and each[0]],
        [each for each, there in ((("column", "row"), place.places), (("channel", ""), place.channels)) if there],
        strict=True,
    ):
        image = ax.imshow(_masked(grid), norm=norm, cmap="cividis", aspect="auto", interpolation="nearest")
        ax.set_xlabel(names[0])
        ax.set_ylabel(names[1])
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if names[1]:
            ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        else:
            ax.set_yticks([])
    bar = figure.colorbar(image, ax=list(axes), label="largest difference", format=POWERS)
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    return figure


def spread(array: ArrayResult) -> Plot | None:
    """How many values of an array differ by how much. None where that is not known."""
    place = array.place
    if place is None or not any(place.counts) or len(place.counts) != len(place.edges) + 1:
        return None
    total = sum(place.counts)
    most = max(range(len(place.counts)), key=lambda number: place.counts[number])
    alt = (
        f"How the {total:,} values of {_name(array)} differ, by powers of ten: {place.counts[most]:,} of them "
        f"{_bar(place.edges, most)}, {place.counts[-1]:,} {_bar(place.edges, len(place.edges))}."
    )
    caption = "How many values differ by so much."
    return rendered(alt, caption, partial(_spread, place))


def _spread(place: Place) -> Figure:
    figure = Figure(figsize=(NARROW, 2.4), layout="constrained")
    ax = figure.subplots()
    at = range(len(place.counts))
    ax.bar(at, place.counts, color=looks.AGREES.colour, width=0.9)
    every = max(1, math.ceil(len(place.edges) / 6))
    edges = list(enumerate(place.edges))[::every]
    ax.set_xticks([number + 0.5 for number, _ in edges], [f"{edge:.0e}" for _, edge in edges])
    ax.set_yscale("symlog", linthresh=1)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
    ax.set_ylim(0, max(place.counts) * 3)
    ax.set_xlabel("absolute difference")
    ax.set_ylabel("values")
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def _bar(edges: Sequence[float], number: int) -> str:
    """What a bar of the histogram holds, in words."""
    if number == 0:
        return f"below {edges[0]:.0e}"
    if number == len(edges):
        return f"above {edges[-1]:.0e}"
    return f"from {edges[number - 1]:.0e} to {edges[number]:.0e}"


def _masked(rows: Sequence[Sequence[float | None]]) -> Any:
    """Rows as a rectangle; what is equal or not finite is masked."""
    columns = max(map(len, rows), default=0)
    grid = np.full((len(rows), columns), np.nan)
    for number, row in enumerate(rows):
        grid[number, : len(row)] = [_known(value) for value in row]
    return np.ma.masked_where(~(grid > 0), grid)


def _clipped(value: float) -> float:
    """A number that a logarithmic scale can show; zero stays zero."""
    return min(max(value, LEAST), MOST) if value else 0.0


def _known(value: float | None) -> float:
    return _clipped(value) if value is not None and math.isfinite(value) else 0.0


def _name(array: ArrayResult) -> str:
    name = array.reference or array.candidate
    return printable(f"{array.what} of {name}" if name else array.what)


def _short(name: str) -> str:
    return name if len(name) <= 50 else f"{name[:20]}...{name[-27:]}"

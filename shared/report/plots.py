"""Plots of a study, for light and for dark pages."""

from __future__ import annotations

import base64
import io
import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from transfer_parity.shared.contract.framework_defaults import Mode
from transfer_parity.shared.contract.recipe import Shots
from transfer_parity.shared.contract.wings import WINGS, Framework, compared
from transfer_parity.shared.evaluation.agreement import AGREEING
from transfer_parity.shared.experiments.study_document import Judgement, Point, StudyDocument
from transfer_parity.shared.report import looks, order, order_plot
from transfer_parity.shared.report.console import amount
from transfer_parity.shared.report.looks import Look
from transfer_parity.shared.report.study import conditions_of, percent, view, where

LIGHT = {"text": "#1a1a1a", "grid": "#d0d0d0"}
DARK = {"text": "#e6e6e6", "grid": "#4a4a4a"}
#: Of one panel, in inches. At the width of a phone its letters are still as large as those of a footnote.
PANEL = (4.6, 3.5)
#: With more strategies points stand beside one another at their tick, over so much of the way to the next one, each
#: adds to the height, in inches, and the scale does not begin at 0.
SIDE_BY_SIDE, SPREAD, TALLER = 5, 0.56, 0.16
#: Of the plot of differences, likewise.
NARROW = 5.0
#: Colours of a PNG: those of lines and letters, and what lies between them and white.
PALETTE = 128


@dataclass(frozen=True)
class Plot:
    """A figure in both schemes.

    Attributes:
        alt: what it shows, with numbers, for those who do not see it.
        caption: how to read it.
        light: SVG for light pages; dark: for dark ones.
    """

    alt: str
    caption: str
    light: str
    dark: str

    @property
    def uris(self) -> dict[str, str]:
        """Both as data URIs, by scheme."""
        return {
            scheme: data_uri("image/svg+xml", svg.encode())
            for scheme, svg in {"light": self.light, "dark": self.dark}.items()
        }


@dataclass(frozen=True)
class PagePlots:
    """What a page shows.

    Attributes:
        curves: a panel for each framework and mode, to be placed side by side or below one another.
        order: critical-difference diagram, or None where there is but one strategy.
        differences: between two frameworks, or None where nothing is compared.
    """

    curves: list[Plot]
    order: Plot | None
    differences: Plot | None


def data_uri(media_type: str, content: bytes) -> str:
    """A file as part of a page."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def of_page(document: StudyDocument) -> PagePlots:
    """The plots of ``report.html``."""
    curves, how = [], f"{bars(document)} {conditions_of(document)}".strip()
    for mode, framework in _views(document):
        caption = f"{view(document, mode, framework)}. {how}"
        draw = partial(panel, document, mode, framework)
        curves.append(rendered(describe_curve(document, mode, framework), caption, draw))
    found = document.order
    ordered = None
    if found:
        said = f"{order.caption(found)} {conditions_of(document)}".strip()
        ordered = rendered(order.alternative(found), said, partial(order_plot.diagram, found))
    if not _compared(document):
        return PagePlots(curves, ordered, None)
    caption = (
        "Bars are 95 % intervals of the mean over all seeds, on these same images. Inside of the band a difference "
        "does not matter. Filled circles: the frameworks agree; hollow squares: they differ, or it is open."
    )
    return PagePlots(curves, ordered, rendered(describe_differences(document), caption, partial(differences, document)))


def bars(document: StudyDocument) -> str:
    """Which questions the bars of the curves answer."""
    if not document.new_images_sentence:
        return ""
    return (
        "Thick bars: 95 % interval of the mean over all seeds, on these same images. Thin bars: 95 % interval "
        f"{document.new_images_sentence}"
    )


def _views(document: StudyDocument) -> list[tuple[Mode, Framework]]:
    return [(mode, framework) for mode in document.modes for framework in document.common.frameworks]


def learning_curves(document: StudyDocument) -> Figure:
    """Accuracy by number of shots, a panel for each framework and mode, with 95 % intervals."""
    columns, rows = len(document.common.frameworks), len(document.modes)
    figure = Figure(figsize=(PANEL[0] * columns, 0.7 + _height(document) * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for ax, (mode, framework) in zip(grid.ravel(), _views(document), strict=True):
        _draw_curves(ax, document, mode, framework)
    for ax in grid[:, 0]:
        ax.set_ylabel("test accuracy, %")
    _legend(figure, grid[0, 0], PANEL[0] * columns)
    below = "\n".join(filter(None, (conditions_of(document), bars(document))))
    lines = [textwrap.fill(line, int(16 * PANEL[0] * columns)) for line in below.splitlines()]
    figure.suptitle("\n".join(lines), fontsize="small", x=0.02, ha="left")
    return figure


def panel(document: StudyDocument, mode: Mode, framework: Framework) -> Figure:
    """The curves of one framework and mode."""
    figure = Figure(figsize=(PANEL[0], _height(document) + 0.6), layout="constrained")
    ax = figure.subplots()
    _draw_curves(ax, document, mode, framework)
    ax.set_ylabel("test accuracy, %")
    _legend(figure, ax, PANEL[0])
    return figure


def _height(document: StudyDocument) -> float:
    return PANEL[1] + TALLER * max(0, len(document.recipes) - SIDE_BY_SIDE)


def _legend(figure: Figure, ax: Any, width: float) -> None:
    """Below the figure, in as many columns as the longest name leaves room for."""
    handles, labels = ax.get_legend_handles_labels()
    longest = max(map(len, labels), default=0)
    columns = max(1, min(len(labels), int(72 * width / (6 * longest + 58))))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, handlelength=3.2)


def _draw_curves(ax: Any, document: StudyDocument, mode: Mode, framework: Framework) -> None:
    shots = document.common.shots
    several = len(document.recipes)
    for number, (strategy, look) in enumerate(looks.of_all(document.recipes).items()):
        aside = SPREAD * ((number + 0.5) / several - 0.5) if several > SIDE_BY_SIDE else 0.0
        points = [each for each in _points(document, mode, framework) if each.strategy == strategy]
        _curve(ax, points, shots, look, aside)
    ax.set_title(view(document, mode, framework), fontsize="medium")
    ax.set_xticks(range(len(shots)), [str(each) for each in shots])
    # Also around a single number of shots.
    ax.set_xlim(-0.4, len(shots) - 0.6)
    ax.set_ylim(_lowest(document), _highest(document))
    ax.set_xlabel("labelled images a class")
    ax.grid(axis="y", linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)


def _points(document: StudyDocument, mode: Mode, framework: Framework) -> list[Point]:
    return [point for point in document.points if (point.mode, point.framework) == (mode, framework)]


def _bounds(point: Point) -> tuple[float, float]:
    """The interval of an accuracy. None lies outside of 0 and 1, whatever the interval says."""
    found = point.accuracy.new_images or point.accuracy.interval
    low, high = found or (point.accuracy.mean, point.accuracy.mean)
    return max(0.0, low), min(1.0, high)


def _highest(document: StudyDocument) -> float:
    """Of the scale in per cent; the same in all panels, so that they can be compared."""
    return 105 * max((_bounds(point)[1] for point in document.points), default=1.0) or 105.0


def _lowest(document: StudyDocument) -> float:
    """Likewise: 0, or with many strategies, which need room, the ten below all of them."""
    least = min((_bounds(point)[0] for point in document.points), default=0.0)
    return 10.0 * math.floor(10 * least) if len(document.recipes) > SIDE_BY_SIDE else 0.0


def _curve(ax: Any, points: Sequence[Point], shots: Sequence[Shots], look: Look, aside: float) -> None:
    """A point stands at its tick, or so far aside. Curves that coincide are told apart by markers, some hollow."""
    if not points:
        return
    at = [list(shots).index(point.shots) + aside for point in points]
    means = [100 * point.accuracy.mean for point in points]
    reach = [[100 * abs(point.accuracy.mean - _bounds(point)[end]) for point in points] for end in (0, 1)]
    ax.errorbar(at, means, reach, linestyle=look.line, elinewidth=1, label=points[0].strategy, **_marks(look))
    for place, point in zip(at, points, strict=True):
        if point.accuracy.new_images and point.accuracy.interval:
            low, high = point.accuracy.interval
            ax.vlines(place, 100 * max(0.0, low), 100 * min(1.0, high), color=look.colour, linewidth=3.5, alpha=0.4)


def _marks(look: Look) -> dict[str, Any]:
    return {
        **{"color": look.colour, "marker": look.marker, "capsize": 3},
        **({"markerfacecolor": "none", "markersize": 8} if look.hollow else {"markersize": 5.5}),
    }


def _compared(document: StudyDocument) -> list[Judgement]:
    return [each for each in document.judgements if each.agreement.accuracy_difference is not None]


def differences(document: StudyDocument) -> Figure:
    """Paired differences of accuracy between two frameworks with their 95 % intervals, and the equivalence band."""
    shown = _compared(document)
    figure = Figure(figsize=(NARROW, 1.6 + 0.24 * max(1, len(shown))), layout="constrained")
    ax = figure.subplots()
    margin = 100 * document.common.margin
    label = f"equivalent: within {margin:g} point{'' if margin == 1 else 's'}"
    ax.axvspan(-margin, margin, color=looks.BAND, alpha=0.18, label=label)
    for edge in (-margin, margin):
        ax.axvline(edge, color=looks.BAND, linewidth=1, linestyle="--")
    ax.axvline(0, color=ax.xaxis.label.get_color(), linewidth=0.8)
    for row, each in enumerate(shown):
        mean = each.agreement.accuracy_difference or 0.0
        low, high = each.agreement.accuracy_difference_interval or (mean, mean)
        reach = [[100 * (mean - max(-1.0, low))], [100 * (min(1.0, high) - mean)]]
        look = looks.AGREES if each.verdict in AGREEING else looks.AGREES_NOT
        ax.errorbar([100 * mean], [row], xerr=reach, **_marks(look))
    ax.set_yticks(range(len(shown)), [f"{where(each.strategy, each.mode)}, {each.shots}" for each in shown])
    ax.set_ylim(len(shown) - 0.4, -0.6)
    first, second = compared(document.common.frameworks) or WINGS[:2]
    ax.set_xlabel(f"accuracy of {first.short} minus that of {second.short}, points")
    ax.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(loc="outside lower center", frameon=False)
    return figure


def describe_curve(document: StudyDocument, mode: Mode, framework: Framework) -> str:
    """In words: from where to where each curve goes, and which is highest in the end."""
    shots, points = document.common.shots, _points(document, mode, framework)
    ends, last = [], []
    for strategy in document.recipes:
        found = [point for point in points if point.strategy == strategy]
        if found:
            first, end = found[0], found[-1]
            there = f" with {amount(first.shots)}, {percent(end.accuracy)} with {amount(end.shots)}"
            ends.append(f"{strategy} {percent(first.accuracy)}{there if first.shots != end.shots else ''}")
            last += [end] if end.shots == shots[-1] else []
    span = amount(shots[0]) + (f" to {amount(shots[-1])}" if len(shots) > 1 else "")
    text = f"Test accuracy in per cent of {view(document, mode, framework)}, {span}: {'; '.join(ends)}."
    if len(last) > 1:
        best = max(last, key=lambda point: point.accuracy.mean)
        text += f" Highest with {amount(best.shots)}: {best.strategy}."
    return text if ends else f"{view(document, mode, framework)}: nothing is finished yet."


def describe_differences(document: StudyDocument) -> str:
    """In words: how many combinations agree, how large the largest difference is, and the verdict."""
    shown, margin = _compared(document), document.common.margin
    first, second = compared(document.common.frameworks) or WINGS[:2]
    largest = max(shown, key=lambda each: abs(each.agreement.accuracy_difference or 0.0))
    size = largest.agreement.accuracy_difference or 0.0
    inside = sum(abs(each.agreement.accuracy_difference or 0.0) <= margin for each in shown)
    agree = sum(each.verdict in AGREEING for each in shown)
    place = f"{where(largest.strategy, largest.mode)}, {amount(largest.shots)}"
    largest_words = f"the largest is {100 * size:+.2f} points ({place})" if size else "all are zero"
    return (
        f"Accuracy of {first.short} minus that of {second.short} for {len(shown)} combinations of strategy and shots: "
        f"{largest_words}; {inside} of {len(shown)} within the band of ±{100 * margin:g} points; the frameworks agree "
        f"on {agree}. {document.verdict_sentence}"
    )


def rendered(alt: str, caption: str, draw: Callable[[], Figure]) -> Plot:
    """A figure in both schemes. ``draw`` makes a figure anew each time, since colours are chosen as it is made."""
    return Plot(alt, caption, svg(draw, LIGHT), svg(draw, DARK))


def svg(draw: Callable[[], Figure], colours: dict[str, str] = LIGHT) -> str:
    """A figure with nothing behind it; by default for light pages."""
    text, grid = colours["text"], colours["grid"]
    style: dict[Any, Any] = {
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), text),
        **{"grid.color": grid, "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none"},
        # The same figure is the same file. Names are text, never formulas.
        **{"svg.hashsalt": "transfer-parity", "text.parse_math": False, "font.size": 10},
    }
    with rc_context(style):
        written = io.StringIO()
        draw().savefig(written, format="svg", metadata={"Date": None})
    return written.getvalue()


def png(draw: Callable[[], Figure]) -> bytes:
    """A figure on white, for pages that show no SVG, with a palette: a third of the bytes, and no colour is missed."""
    with rc_context({"text.parse_math": False, "font.size": 10}):
        drawn, written = io.BytesIO(), io.BytesIO()
        draw().savefig(drawn, format="png", dpi=150)
    image = Image.open(drawn).convert("RGB")
    image.quantize(PALETTE, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
    return written.getvalue()

"""Plots of a study, for light and for dark pages. Colours are told apart without seeing red and green."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from transfer_parity.shared.contract.recipe import Shots
from transfer_parity.shared.contract.wings import WINGS, compared
from transfer_parity.shared.evaluation.agreement import AGREEING
from transfer_parity.shared.experiments.study_document import Point, StudyDocument
from transfer_parity.shared.report.study import view, where

#: Okabe and Ito (2008), without black and yellow, which one of the two backgrounds would swallow.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
MARKERS = "osD^vP"
LIGHT = {"text": "#1a1a1a", "grid": "#d0d0d0"}
DARK = {"text": "#e6e6e6", "grid": "#4a4a4a"}


@dataclass(frozen=True)
class Plot:
    """A figure in both schemes.

    Attributes:
        alt: what it shows, for those who do not see it.
        light: SVG for light pages; dark: for dark ones.
    """

    alt: str
    light: str
    dark: str

    @property
    def uris(self) -> dict[str, str]:
        """Both as data URIs, by scheme."""
        return {
            scheme: data_uri("image/svg+xml", svg.encode())
            for scheme, svg in {"light": self.light, "dark": self.dark}.items()
        }


def data_uri(media_type: str, content: bytes) -> str:
    """A file as part of a page."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def learning_curves(document: StudyDocument) -> Figure:
    """Accuracy by number of shots, a panel for each framework and mode, with 95 % intervals."""
    first, modes = document.common, document.modes
    figure = Figure(figsize=(4.6 * len(first.frameworks), 0.7 + 3.5 * len(modes)), layout="constrained")
    grid = figure.subplots(len(modes), len(first.frameworks), sharey=True, squeeze=False)
    axes = grid.ravel()
    panels = [(mode, framework) for mode in modes for framework in first.frameworks]
    for ax, (mode, framework) in zip(axes, panels, strict=True):
        for number, strategy in enumerate(document.recipes):
            found = [point for point in document.points if (point.mode, point.framework) == (mode, framework)]
            _curve(ax, [point for point in found if point.strategy == strategy], first.shots, number, strategy)
        ax.set_title(view(document, mode, framework), fontsize="medium")
        ax.set_xticks(range(len(first.shots)), [str(shots) for shots in first.shots])
        ax.set_xlabel("labelled images a class")
        ax.grid(axis="y", linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in grid[:, 0]:
        ax.set_ylabel("test accuracy, %")
    axes[0].set_ylim(bottom=0)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(labels)), frameon=False)
    return figure


def _curve(ax: Any, points: Sequence[Point], shots: Sequence[Shots], number: int, label: str) -> None:
    at = [list(shots).index(point.shots) + 0.06 * (number - 2) for point in points]
    means = [100 * point.accuracy.mean for point in points]
    below, above = [], []
    for point in points:
        low, high = point.accuracy.interval or (point.accuracy.mean, point.accuracy.mean)
        # No accuracy lies outside of 0 and 100, whatever the interval says.
        below.append(100 * (point.accuracy.mean - max(0.0, low)))
        above.append(100 * (min(1.0, high) - point.accuracy.mean))
    colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
    ax.errorbar(at, means, (below, above), color=colour, marker=marker, markersize=5, capsize=2, label=label)


def differences(document: StudyDocument) -> Figure:
    """Paired differences of accuracy between two frameworks with their 95 % intervals, and the equivalence band."""
    shown = [each for each in document.judgements if each.agreement.accuracy_difference is not None]
    figure = Figure(figsize=(7.5, 1.4 + 0.24 * max(1, len(shown))), layout="constrained")
    ax = figure.subplots()
    margin = 100 * document.common.margin
    ax.axvspan(
        -margin,
        margin,
        color=COLOURS[2],
        alpha=0.18,
        label=f"equivalent: within {margin:g} point{'' if margin == 1 else 's'}",
    )
    ax.axvline(0, color=ax.xaxis.label.get_color(), linewidth=0.8)
    for row, each in enumerate(shown):
        mean = each.agreement.accuracy_difference or 0.0
        low, high = each.agreement.accuracy_difference_interval or (mean, mean)
        colour, marker = (COLOURS[0], "o") if each.verdict in AGREEING else (COLOURS[5], "s")
        reach = [[100 * (mean - low)], [100 * (high - mean)]]
        ax.errorbar([100 * mean], [row], xerr=reach, color=colour, marker=marker, capsize=2)
    ax.set_yticks(range(len(shown)), [f"{where(each.strategy, each.mode)}, {each.shots}" for each in shown])
    ax.set_ylim(len(shown) - 0.4, -0.6)
    first, second = compared(document.common.frameworks) or WINGS[:2]
    ax.set_xlabel(f"accuracy of {first.short} minus that of {second.short}, points")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.legend(loc="best", frameon=False, fontsize="small")
    return figure


def render(alt: str, draw: Callable[[], Figure]) -> Plot:
    """A figure in both schemes. ``draw`` makes a figure anew each time, since colours are chosen as it is made."""
    return Plot(alt, _svg(draw, LIGHT), _svg(draw, DARK))


def _svg(draw: Callable[[], Figure], colours: dict[str, str]) -> str:
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
    """A figure on white, for pages that show no SVG."""
    with rc_context({"text.parse_math": False, "font.size": 10}):
        written = io.BytesIO()
        draw().savefig(written, format="png", dpi=150)
    return written.getvalue()

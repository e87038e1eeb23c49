"""A critical-difference diagram: mean ranks, and bars over those that cannot be told apart (Demsar, 2006, figure 1)."""

from __future__ import annotations

import textwrap
from typing import Any

from matplotlib.figure import Figure

from transfer_parity.shared.experiments.study_document import Order
from transfer_parity.shared.report import looks
from transfer_parity.shared.report import order as order_text

#: In inches: the length of the axis, and what each line of names, each bar and each letter adds.
AXIS, LINE, BAR, LETTER = 3.0, 0.27, 0.16, 0.082


def diagram(order: Order, conditions: str = "") -> Figure:
    """Strategies on an axis of mean ranks, the best at the left; bars join those that are not told apart.

    Args:
        order: of the strategies.
        conditions: under which they are compared, in words.
    """
    names = list(order.mean_ranks)
    left, right = names[: (len(names) + 1) // 2], names[(len(names) + 1) // 2 :][::-1]
    bars, lines = len(order.groups), len(left)
    first = 0.45 + BAR * (bars + 1)
    height = first + LINE * (lines - 1) + 0.2
    # A name with its rank, on either side.
    side = LETTER * (max(map(len, names)) + 7)
    said = filter(None, (f"mean rank over {order.blocks} blocks ({order_text.blocks(order)})", conditions))
    below = "\n".join(textwrap.fill(line, int(15 * (AXIS + 2 * side))) for line in said)
    figure = Figure(figsize=(AXIS + 2 * side, height + 0.7 + 0.15 * below.count("\n")), layout="constrained")
    ax = figure.subplots()
    low, high = 1.0, float(len(names))
    margin = side / AXIS * (high - low)
    ax.set_xlim(low - margin, high + margin)
    ax.set_ylim(height, -0.35)
    ax.axis("off")
    ink = ax.xaxis.label.get_color()
    ax.plot([low, high], [0.35, 0.35], color=ink, linewidth=1)
    for tick in range(1, len(names) + 1):
        ax.plot([tick, tick], [0.27, 0.35], color=ink, linewidth=1)
        ax.text(tick, 0.22, str(tick), ha="center", va="bottom", fontsize="small")
    if order.critical_difference is not None:
        _scale(ax, low, min(order.critical_difference, high - low), order.critical_difference, ink)
    place = looks.of_all(names)
    for where, chosen in (("left", left), ("right", right)):
        edge = low - 0.04 * margin if where == "left" else high + 0.04 * margin
        for number, name in enumerate(chosen):
            rank, at = order.mean_ranks[name], first + LINE * number
            look = place[name]
            ax.plot([rank, rank, edge], [0.35, at, at], color=look.colour, linewidth=1)
            ax.plot([rank], [0.35], color=look.colour, marker=look.marker, markersize=5, clip_on=False)
            text = f"{name}  {rank:.1f}" if where == "left" else f"{rank:.1f}  {name}"
            ax.text(edge, at, f" {text} ", ha="right" if where == "left" else "left", va="center", color=look.colour)
    for number, group in enumerate(order.groups):
        at = 0.35 + BAR * (number + 1)
        held = [order.mean_ranks[name] for name in group]
        ax.plot([min(held), max(held)], [at, at], color=ink, linewidth=3, solid_capstyle="round")
        if order.test == "paired":
            ax.plot(held, [at] * len(held), color=ink, marker="|", markersize=8, linestyle="none")
    figure.supxlabel(below, fontsize="small")
    return figure


def _scale(ax: Any, start: float, shown: float, difference: float, ink: Any) -> None:
    """The length of the critical difference, above the axis."""
    at = -0.12
    ax.plot([start, start + shown], [at, at], color=ink, linewidth=1)
    for end in (start, start + shown):
        ax.plot([end, end], [at - 0.05, at + 0.05], color=ink, linewidth=1)
    ax.text(
        start + shown + 0.05, at, f" critical difference {difference:.2f}", va="center", ha="left", fontsize="small"
    )

"""Three figures, each as large as a slide: the ladder, the plan, and what the semantics of a checkpoint are.

Drawn as SVG with the system's fonts; ``python -m docs.site figures`` writes them into docs/figures, where a test checks
that they are what is drawn here. What the code knows (rungs, switches, aspects) is asked of it.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from transfer_parity.shared.contract.rungs import RUNGS
from transfer_parity.shared.contract.switches import SWITCHES
from transfer_parity.shared.contract.wings import WINGS
from transfer_parity.shared.zoo.pair import Aspect

WIDTH, HEIGHT = 1280, 720
INK, SOFT, PAPER = "#1d2433", "#4a5263", "#ffffff"
#: Of Keras's wing, torch's wing, and of what both share.
SIDES = ("#ffe3cf", "#dce8ff")
SHARED = "#e4f0e2"
_FONT = "font-family='system-ui, -apple-system, Segoe UI, Roboto, Noto Sans, sans-serif'"


def text(
    x: float, y: float, words: str, size: int = 22, anchor: str = "start", colour: str = INK, bold: bool = False
) -> str:
    """One line of text, its baseline at y."""
    weight = " font-weight='700'" if bold else ""
    said = html.escape(words)
    return f"<text x='{x:g}' y='{y:g}' font-size='{size}' text-anchor='{anchor}' fill='{colour}'{weight}>{said}</text>"


def box(
    x: float,
    y: float,
    width: float,
    height: float,
    colour: str,
    lines: Sequence[str] = (),
    size: int = 22,
    headed: bool = True,
) -> str:
    """A box with lines of text in its middle; the first of several is bold if it is a heading."""
    drawn = [
        f"<rect x='{x:g}' y='{y:g}' width='{width:g}' height='{height:g}' rx='10' fill='{colour}' stroke='{INK}'"
        " stroke-width='1.5'/>"
    ]
    top = y + height / 2 - (len(lines) - 1) * size * 0.65 + size * 0.35
    for number, words in enumerate(lines):
        bold = headed and number == 0 and len(lines) > 1
        drawn.append(
            text(x + width / 2, top + number * size * 1.3, words, size if bold else size - 2, "middle", bold=bold)
        )
    return "".join(drawn)


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    """An arrow from one point to another."""
    return (
        f"<line x1='{x1:g}' y1='{y1:g}' x2='{x2:g}' y2='{y2:g}' stroke='{INK}' stroke-width='2.5'"
        " marker-end='url(#head)'/>"
    )


def picture(title: str, description: str, parts: Sequence[str]) -> str:
    """A whole figure, with its title above and a description for those who do not see it."""
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' width='{WIDTH}' height='{HEIGHT}'"
        f" role='img' aria-labelledby='t d' {_FONT}>\n"
        f"<title id='t'>{html.escape(title)}</title>\n<desc id='d'>{html.escape(description)}</desc>\n"
        "<defs><marker id='head' viewBox='0 0 10 10' refX='9' refY='5' markerWidth='7' markerHeight='7' orient='auto'>"
        f"<path d='M0 0L10 5L0 10z' fill='{INK}'/></marker></defs>\n"
        f"<rect width='{WIDTH}' height='{HEIGHT}' fill='{PAPER}'/>\n{text(48, 66, title, 38, bold=True)}\n"
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def ladder() -> str:
    """The rungs, and the switches that each catches first."""
    parts = [
        text(
            48,
            104,
            "Both wings carry out every rung; the first that differs by more than rounding is named.",
            22,
            colour=SOFT,
        ),
        text(400, 146, "switches that it catches first", 20, colour=SOFT),
    ]
    step = 58
    for number, rung in enumerate(RUNGS):
        y = HEIGHT - 76 - number * step
        parts.append(box(48, y, 320, 44, SHARED if number % 2 else "#f1f4f8", [f"{number + 1}  {rung}"], 24))
        caught = [each.name for each in SWITCHES if rung in {where.rung for where in each.caught.values()}]
        lines = _wrapped(caught, 84)
        for row, words in enumerate(lines):
            parts.append(text(400, y + 28 + (row - (len(lines) - 1) / 2) * 22, words, 18))
    parts.append(arrow(26, HEIGHT - 40, 26, HEIGHT - 76 - (len(RUNGS) - 1) * step))
    return picture("The parity ladder", f"{len(RUNGS)} rungs from the bottom up: {', '.join(RUNGS)}.", parts)


def plan() -> str:
    """One plan, drawn before either framework starts, and what comes of it."""
    drawn = [
        "training and test images",
        "order of every epoch",
        "flips, crops, views",
        "rate of every step",
        "first weights",
    ]
    parts = [
        text(48, 104, "Everything that chance decides is drawn in NumPy, before a framework starts.", 22, colour=SOFT)
    ]
    parts.append(box(48, 140, 300, 100, SHARED, ["recipe + seed", "what a person chooses"]))
    parts.append(arrow(348, 190, 430, 190))
    parts.append(box(438, 140, 794, 100, SHARED, ["the plan", "arrays, in the parent process: NumPy alone"]))
    for number, words in enumerate(drawn):
        parts.append(box(438 + number * 161, 262, 150, 84, "#f1f4f8", _wrapped(words.split(), 15, " "), 18, False))
    parts.append(arrow(640, 346, 420, 420))
    parts.append(arrow(1000, 346, 900, 420))
    for side, (wing, colour) in enumerate(zip(WINGS, SIDES, strict=True)):
        x = 150 + side * 530
        lines = [wing.title, "a process of its own", "the same bytes, weights, batches, rates"]
        parts.append(box(x, 428, 450, 120, colour, lines))
        parts.append(arrow(x + 225, 548, 640 + (side * 2 - 1) * 120, 606))
    parts.append(box(390, 614, 500, 76, SHARED, ["one judge", "accuracy and verdict are made in one place"]))
    description = "A recipe and a seed make one plan of arrays; both frameworks carry it out; one judge compares."
    return picture("One plan", description, parts)


def semantics() -> str:
    """A checkpoint says under whose meaning it was trained, and each wing adapts its stock model to that."""
    aspects = [name.replace("_", " ").replace("bn", "batch norm's") for name in get_args(Aspect)]
    parts = [
        text(
            48,
            104,
            "The same arrays mean another function in the other library, unless its model is adapted.",
            22,
            colour=SOFT,
        )
    ]
    parts.append(
        box(
            390,
            136,
            500,
            112,
            SHARED,
            ["neutral checkpoint", "arrays in torchvision's names and layout", "semantics: keras or torchvision"],
        )
    )
    parts.append(box(48, 284, 1184, 116, "#f1f4f8", ["what semantics settle", *_wrapped(aspects, 100)], 20))
    parts.append(arrow(640, 248, 640, 282))
    for side, (wing, colour) in enumerate(zip(WINGS, SIDES, strict=True)):
        x = 48 + side * 612
        other = WINGS[1 - side].library
        parts.append(arrow(x + 286, 400, x + 286, 436))
        parts.append(box(x, 440, 572, 150, colour))
        parts.append(text(x + 286, 474, f"stock model of {wing.library}", 22, "middle", bold=True))
        parts.append(text(x + 286, 514, f"semantics {wing.library}: as built, nothing to adapt", 20, "middle"))
        parts.append(
            text(
                x + 286,
                552,
                f"semantics {other}: adapted in {wing.package.rpartition('.')[2]}/backbone.py",
                20,
                "middle",
            )
        )
        parts.append(arrow(x + 286, 590, 640 + (side * 2 - 1) * 130, 634))
    parts.append(box(340, 638, 600, 60, SHARED, ["the same function: equal logits but for rounding"], 22))
    description = (
        "A checkpoint with its semantics; each wing adapts its stock model to it where they differ: "
        + ", ".join(aspects)
    )
    return picture("A checkpoint has semantics", description, parts)


def _wrapped(words: Sequence[str], width: int, between: str = ", ") -> list[str]:
    """Words in lines of at most so many characters."""
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + len(between) + len(word) <= width:
            lines[-1] += between + word
        else:
            lines.append(word)
    return lines


FIGURES = {"ladder.svg": ladder, "plan.svg": plan, "semantics.svg": semantics}


def write(folder: Path) -> None:
    """Write all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        (folder / name).write_text(draw(), encoding="utf-8")

"""Colours, markers and lines of plots: whoever is plotted looks the same in every figure, whatever stands beside it.

All colours have a contrast of at least 3:1 with light and with dark pages (WCAG 2.2, criterion 1.4.11), so each of them
serves both. Where colours are hard to tell apart, markers and lines are not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

#: Pages' backgrounds, and that of what stands out on them: light, then dark.
BACKGROUNDS = ("#ffffff", "#f5f5f5", "#161616", "#212121")

# Blue, green and vermilion are Okabe and Ito's (2008). Their orange, sky blue and yellow are too pale for white paper.
GREY, BLUE, GREEN, VERMILION, VIOLET = "#717171", "#0072B2", "#009E73", "#D55E00", "#A834E8"
OCHRE, ROSE, TEAL, BROWN = "#A6761D", "#C2477F", "#2A8FB8", "#8C6A4F"

RED, MOSS, SLATE, PINK, OLIVE = "#D13B3B", "#5F8F2F", "#5B7FBF", "#E0408A", "#8A7A00"
# As far from all others, and from one another, in CIELAB as that contrast leaves room for.
AZURE, ORCHID, MAGENTA, SCARLET, LEAF, MAUVE = "#0068F0", "#B068D0", "#F810C8", "#F80000", "#00A000", "#A878A0"
SIENNA = "#B0603A"

SOLID, DASHED, DOTTED, MIXED, LONG = "-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)), (0, (9, 2))
TWO_DOTS, THREE_DOTS = (0, (6, 1.5, 1, 1.5, 1, 1.5)), (0, (6, 1.5, 1, 1.5, 1, 1.5, 1, 1.5))
SHORT, WIDE, LOOSE = (0, (2.5, 1.5)), (0, (13, 2)), (0, (5, 4))
STITCHED, SPARSE, PAIRED = (0, (3, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (2, 1, 2, 4))
STEPPED, EVEN, POINTED = (0, (8, 1.5, 2.5, 1.5)), (0, (3, 3)), (0, (12, 1.5, 1, 1.5))
BROKEN = (0, (2, 6))
Line = str | tuple[float, tuple[float, ...]]


#: A letter, or of a polygon the number of sides, 1 for a star, and the degrees that it is turned by.
Marker = str | tuple[int, int, int]


@dataclass(frozen=True)
class Look:
    """How a curve or a point is drawn, in matplotlib's terms.

    Attributes:
        colour: ``#rrggbb``.
        marker: its shape.
        line: a style, or an offset with the lengths of dashes and gaps.
        hollow: whether the marker's inside is left open, so that a marker beneath it shows.
    """

    colour: str
    marker: Marker
    line: Line = SOLID
    hollow: bool = False


#: By the name of a strategy that studies know. Neighbours in the table, which often coincide, differ most.
STRATEGIES: dict[str, Look] = {
    "scratch": Look(GREY, "o", DOTTED),
    "linear_probe": Look(BLUE, "s", SOLID, hollow=True),
    "ridge": Look(GREEN, "D", DASHED),
    "finetune": Look(VERMILION, "^", MIXED, hollow=True),
    "finetune_all": Look(VIOLET, "v", LONG),
    # Of strategies that a recipe may name so.
    "nearest_mean": Look(RED, "d", SHORT),
    "prototypes": Look(MOSS, "H", TWO_DOTS, hollow=True),
    "lp_ft": Look(SLATE, "x", WIDE),
    "lp_ft_all": Look(PINK, "+", LOOSE),
    "norm_only": Look(OLIVE, "1", THREE_DOTS),
    "zero_shot": Look(AZURE, (4, 1, 0), STITCHED),
    "tip_adapter": Look(ORCHID, (4, 1, 45), SPARSE, hollow=True),
    "pseudo_label": Look(MAGENTA, (3, 1, 0), PAIRED),
    "fixmatch": Look(LEAF, (3, 1, 180), STEPPED, hollow=True),
    "mean_teacher": Look(SCARLET, (6, 1, 0), EVEN, hollow=True),
    "siamese": Look(MAUVE, (8, 2, 0), POINTED),
    "multi_task": Look(SIENNA, (5, 1, 0), BROKEN),
}
#: What the looks of other names are made of; nobody in ``STRATEGIES`` has such a colour or marker.
OTHER_COLOURS = (OCHRE, ROSE, TEAL, BROWN)
OTHER_MARKERS = ("P", "X", "p", "h", "<", ">", "*", "8")
LINES: tuple[Line, ...] = (SOLID, DASHED, DOTTED, MIXED, LONG)

#: Of frameworks, in the order of the wings.
FRAMEWORKS = (Look(VERMILION, "s"), Look(BLUE, "o"), Look(GREEN, "D"), Look(VIOLET, "^"))
#: Of judgements that find agreement, and of all others.
AGREES, AGREES_NOT = Look(BLUE, "o"), Look(VERMILION, "s", hollow=True)
#: Edges of the band in which a difference does not matter.
BAND = GREEN


def of(strategy: str) -> Look:
    """The look of a strategy. That of a name which only one study knows follows from the name alone."""
    if strategy in STRATEGIES:
        return STRATEGIES[strategy]
    number = int.from_bytes(hashlib.sha256(strategy.encode()).digest()[:8], "big")
    number, colour = divmod(number, len(OTHER_COLOURS))
    number, marker = divmod(number, len(OTHER_MARKERS))
    return Look(OTHER_COLOURS[colour], OTHER_MARKERS[marker], LINES[number % len(LINES)])


def of_all(strategies: Iterable[str]) -> dict[str, Look]:
    """Their looks, no two alike.

    Of two names with the same look by chance, the later one gets another marker, and keeps its colour and line.
    """
    found: dict[str, Look] = {}
    for name in strategies:
        look = of(name)
        start = next((place for place, marker in enumerate(OTHER_MARKERS) if marker == look.marker), 0)
        turned = (*OTHER_MARKERS[start:], *OTHER_MARKERS[:start])
        free = (Look(look.colour, marker, look.line) for marker in turned)
        found[name] = look if look not in found.values() else next((x for x in free if x not in found.values()), look)
    return found

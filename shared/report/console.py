"""What all commands show on the terminal; it fits 80 columns.

The one place that escapes: nothing that is printed through it is taken for markup, and nothing reaches the terminal on
which it would act. The program's own styles are written with ``marked``, or given as ``style``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from transfer_parity.shared.contract.recipe import Recipe, Shots
from transfer_parity.shared.core.text import printable
from transfer_parity.shared.evaluation.agreement import AGREEING, DIFFERING, Verdict

#: Of tables, in columns.
WIDTH = 80


class Console(rich.console.Console):
    """A console whose strings are text and nothing else: no markup, no control characters, no lone surrogates.

    Args:
        settings: as for rich's own.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, **settings})

    def render_str(self, text: str, **settings: Any) -> Text:
        """A string as text. Here, since what is replaced changes the width."""
        return super().render_str(printable(text, lines=True), **settings)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Whatever is shown, piece by piece; rich's own commands to the terminal stay."""
        for segment in super().render(renderable, options):
            if segment.control is None and not segment.text.isprintable():
                segment = Segment(printable(segment.text, lines=True), segment.style)
            yield segment

    def on_broken_pipe(self) -> None:
        """Whoever read the output has gone. That is no reason to end, nor to end with 1, which means "different"."""


def marked(template: str, *values: object) -> Text:
    """The program's own text with rich's markup, and values that are text: ``marked("[bold]{}[/]: {}", name, 3)``."""
    # Values never pass through rich's parser, whose own escaping loses backslashes in front of brackets.
    parsed = Text.from_markup(template, emoji=False)
    places = [offset for found in re.finditer("{}", parsed.plain) for offset in found.span()]
    pieces = list(parsed.divide(places))
    for number, value in enumerate(values):
        held = Text(printable(str(value), lines=True))
        for span in pieces[2 * number + 1].spans:
            held.stylize(span.style)
        pieces[2 * number + 1] = held
    return Text("").join(pieces)


def encoder(recipe: Recipe, weights: str) -> tuple[str, str]:
    """What stands in front of the heads: the backbone and its weights, or a file of features, which is all there is."""
    if recipe.image_features is not None:
        return f"image features {recipe.image_features}", ""
    return recipe.backbone, f", {weights} weights"


def transductive(strategies: Sequence[str]) -> str:
    """What to say of strategies that see the test images."""
    one = len(strategies) == 1
    return (
        f"{' and '.join(strategies)} see{'s' if one else ''} the test images without their labels (transductive): "
        "accuracies are those of a set that is classified together, not image by image."
    )


def show_verdict(verdict: Verdict, sentence: str, console: rich.console.Console) -> None:
    """Print the verdict's sentence in the verdict's colour."""
    colour = "green" if verdict in AGREEING else "red" if verdict in DIFFERING else "yellow"
    console.print(Text(sentence), style=f"bold {colour}", highlight=False)


def amount(shots: Shots) -> str:
    """How many training images a class, in words."""
    return "all images" if shots == "all" else f"{shots} shot{'s' if shots != 1 else ''}"

"""Tables for documents that people read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from transfer_parity.shared.core.text import printable


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table. All rows have as many cells as the head."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows]) + "\n"


def escaped(text: str) -> str:
    """Text from elsewhere as itself: nothing in it is taken for Markdown or HTML, and it stays in its cell."""
    return re.sub(r"([\\`*_{}\[\]()#|<>~&$])", r"\\\1", printable(text))


def block(text: str) -> str:
    """Lines from elsewhere as a block of code, which nothing in them ends."""
    longest = max((len(found) for found in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{printable(text, lines=True)}\n{fence}\n"

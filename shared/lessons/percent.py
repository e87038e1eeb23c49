"""Lessons as they are kept: Python files in the percent format, in which ``# %%`` begins a cell.

Jupytext makes notebooks of them. What is read here is what the lessons have of that format: text in comments below
``# %% [markdown]``, and code, whose first line may be a magic in a comment, ``# %%torch -o logits``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from transfer_parity.shared.core.errors import BadInput

#: A name directly behind the two signs is a magic's: a cell's first line has a blank, or nothing, there.
_BEGIN = re.compile(r"# %%(?: (?P<about>.*))?$")
_MAGIC = re.compile(r"# %%(?P<name>\w+)(?P<line>.*)$")
_LINE_MAGIC = re.compile(r"# %\w")
_TEXT = "[markdown]"


@dataclass(frozen=True)
class Cell:
    """A cell of a lesson.

    Attributes:
        is_text: whether it is Markdown; else it is code.
        source: its lines, without what makes them comments if it is text.
    """

    is_text: bool
    source: str

    @property
    def magic(self) -> tuple[str, str, str] | None:
        """Name of the magic, what stands behind it, and the lines below; None for text and for the notebook's code."""
        first, _, below = self.source.partition("\n")
        found = None if self.is_text else _MAGIC.match(first)
        return (found["name"], found["line"], below) if found else None

    @property
    def plain(self) -> str:
        """Code without line magics, which nobody but IPython knows."""
        return "\n".join("" if _LINE_MAGIC.match(line) else line for line in self.source.split("\n"))

    @property
    def headings(self) -> list[int]:
        """Levels of the headings in a text."""
        return [len(marks) for marks in re.findall(r"^(#{1,6}) ", self.source, re.MULTILINE)] if self.is_text else []


def read(path: Path) -> list[Cell]:
    """The cells of a lesson.

    Raises:
        BadInput: there is no such file, it has no cells, or a line of a text is no comment.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read ({error}); give a lesson, such as docs/lessons/01-tensors.py.") from None
    blocks: list[tuple[bool, list[str]]] = []
    for number, line in enumerate(lines, 1):
        if found := _BEGIN.match(line):
            blocks.append(((found["about"] or "").strip() == _TEXT, []))
        elif blocks:
            is_text, block = blocks[-1]
            if is_text and line and not line.startswith("#"):
                raise BadInput(f"{path}, line {number} is no comment; begin every line of a text with '# '.")
            block.append(line.removeprefix("#").removeprefix(" ") if is_text else line)
    if not blocks:
        raise BadInput(f"{path} has no cell, which '# %%' begins; give a lesson, such as docs/lessons/01-tensors.py.")
    return [Cell(is_text, "\n".join(block).strip("\n")) for is_text, block in blocks]

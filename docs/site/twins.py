"""Both wings' functions and classes of one name, beside each other, from their source."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from docs.site.errors import SiteError
from docs.site.known import is_tag, without_tag
from transfer_parity.shared.contract.wings import WINGS

#: Folders of the wings, in their order.
FOLDERS = tuple(wing.package.rpartition(".")[2] for wing in WINGS)
#: What has no like in the other framework stands here, so nothing needs a twin.
ONE_SIDED = "internals.py"


@dataclass(frozen=True)
class Piece:
    """A part of a file: a function, what a class has in front of its methods, or statements outside of both.

    Attributes:
        name: of the function, ``Class`` or ``Class.method``; of statements the names that they assign, "" of imports,
            else their first line.
        docstring: its text, or "".
        numbers: lines in the file, from 1, without those of the docstring and without empty ones at both ends.
        defined: whether it is a function or a class.
    """

    name: str
    docstring: str
    numbers: tuple[int, ...]
    defined: bool

    @property
    def public(self) -> bool:
        """Whether the other wing must have it, too."""
        parts = self.name.split(".")
        return self.defined and not any(part.startswith("_") and part != "__init__" for part in parts)


@dataclass(frozen=True)
class Row:
    """Numbers of two lines that stand at one height, None for a gap, and whether they say the same."""

    left: int | None
    right: int | None
    alike: bool


@dataclass(frozen=True)
class Source:
    """One file of a wing, taken apart."""

    lines: tuple[str, ...]
    docstring: str
    pieces: tuple[Piece, ...]

    def line(self, number: int) -> str:
        """By its number, from 1."""
        return self.lines[number - 1]


def names(root: Path) -> list[str]:
    """Files that both wings have, but for those that only start something.

    Raises:
        SiteError: a wing has a file that the other one does not have.
    """
    left, right = ({path.name for path in (root / folder).glob("*.py")} for folder in FOLDERS)
    for name in sorted(left ^ right):
        here, there = FOLDERS if name in left else FOLDERS[::-1]
        raise SiteError(f"{here}/{name} has no twin: write {there}/{name}, or move what it holds into {ONE_SIDED}.")
    return sorted(name for name in left if not name.startswith("__"))


def read(path: Path) -> Source:
    """Take a file apart.

    Raises:
        SiteError: two parts of it have one name.
    """
    text = path.read_text(encoding="utf-8")
    tree, lines = ast.parse(text), tuple(text.splitlines())
    first = _behind_docstring(tree) + 1
    pieces = tuple(_pieces(tree.body, lines, first, len(lines), ""))
    named = [piece.name for piece in pieces]
    if twice := [name for name in named if named.count(name) > 1]:
        raise SiteError(
            f"{path.parent.name}/{path.name} has {twice[0] or 'imports'} twice: give each a name of its own."
        )
    return Source(lines, ast.get_docstring(tree) or "", pieces)


def both(root: Path, name: str) -> tuple[Source, Source]:
    """One file of each wing.

    Raises:
        SiteError: a public function, class or method stands in one of them only.
    """
    left, right = (read(root / folder / name) for folder in FOLDERS)
    if name != ONE_SIDED:
        has = [{piece.name for piece in source.pieces if piece.public} for source in (left, right)]
        for lacking in sorted(has[0] ^ has[1]):
            here, there = FOLDERS if lacking in has[0] else FOLDERS[::-1]
            raise SiteError(
                f"{here}/{name} has {lacking}, {there}/{name} has not: give it a twin of the same name, or, if the "
                f"other framework has nothing like it, make it private or move it into {ONE_SIDED}."
            )
    return left, right


def aligned(left: Sequence[Piece], right: Sequence[Piece]) -> list[tuple[Piece | None, Piece | None]]:
    """Twins by name, in the order of both files; what stands in one only comes where it stands there."""
    ours, theirs = {piece.name: piece for piece in left}, {piece.name: piece for piece in right}
    order: dict[str, None] = {}
    for _, a, b, c, d in difflib.SequenceMatcher(None, [*ours], [*theirs], autojunk=False).get_opcodes():
        order |= dict.fromkeys([*ours][a:b]) | dict.fromkeys([*theirs][c:d])
    return [(ours.get(name), theirs.get(name)) for name in order]


def rows(left: Source, right: Source, ours: Piece | None, theirs: Piece | None) -> Iterator[Row]:
    """Lines of two pieces, those that say the same at one height; a tag is no part of what a line says."""
    a, b = (
        [(number, without_tag(source.line(number)).strip()) for number in (piece.numbers if piece else ())]
        for source, piece in ((left, ours), (right, theirs))
    )
    for _, i, j, k, m in _matcher([text for _, text in a], [text for _, text in b]).get_opcodes():
        for (number, text), (other, said) in zip_longest(a[i:j], b[k:m], fillvalue=(None, None)):
            yield Row(number, other, text == said)


def _matcher(left: list[str], right: list[str]) -> difflib.SequenceMatcher[str]:
    """Lines of brackets alone hold nothing together."""
    return difflib.SequenceMatcher(lambda text: not re.search(r"\w{2}", text), left, right, autojunk=False)


def _pieces(body: Sequence[ast.stmt], lines: Sequence[str], begin: int, end: int, owner: str) -> Iterator[Piece]:
    """Of the body of a file or a class between two lines. Comments belong to what they stand above."""
    loose: list[ast.stmt] = []
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            loose.append(node)
            continue
        top = min([node.lineno, *(each.lineno for each in node.decorator_list)])
        while top - 1 >= begin and lines[top - 2].strip().startswith("#"):
            top -= 1
        yield from _loose(loose, lines, begin, top - 1, owner)
        yield from _definition(node, lines, top, owner)
        loose, begin = [], (node.end_lineno or node.lineno) + 1
    yield from _loose(loose, lines, begin, end, owner)


def _loose(nodes: list[ast.stmt], lines: Sequence[str], begin: int, end: int, owner: str) -> Iterator[Piece]:
    """Statements between definitions, as one piece; a class's own belong to its head."""
    while begin <= end and not lines[begin - 1].strip():
        begin += 1
    while begin <= end and not lines[end - 1].strip():
        end -= 1
    if begin > end or owner:
        return
    assigned = [ast.unparse(each) for node in nodes for each in _targets(node)]
    imports = any(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes)
    name = "" if imports else ", ".join(assigned) or lines[begin - 1].strip()
    yield Piece(name, "", tuple(n for n in range(begin, end + 1) if not is_tag(lines[n - 1])), False)


def _targets(node: ast.stmt) -> list[ast.expr]:
    if isinstance(node, ast.Assign):
        return node.targets
    return [node.target] if isinstance(node, ast.AnnAssign) else []


def _definition(node: ast.FunctionDef | ast.ClassDef, lines: Sequence[str], top: int, owner: str) -> Iterator[Piece]:
    name = f"{owner}{node.name}"
    said = node.body[0] if ast.get_docstring(node) else None
    hidden = range(said.lineno, (said.end_lineno or said.lineno) + 1) if said else range(0)
    end = node.end_lineno or node.lineno
    parts: list[Piece] = []
    elsewhere: set[int] = set()
    if isinstance(node, ast.ClassDef):
        parts = list(_pieces(node.body, lines, _behind_docstring(node) + 1, end, f"{name}."))
        ends = [each.end_lineno or 0 for each in node.body if isinstance(each, ast.FunctionDef | ast.ClassDef)]
        # A method may end in a docstring that stands elsewhere.
        spans = ((part.numbers[0], min(last for last in ends if last >= part.numbers[-1])) for part in parts)
        elsewhere = {number for first, last in spans for number in range(first, last + 1)}
    own = [n for n in range(top, end + 1) if n not in hidden and n not in elsewhere and not is_tag(lines[n - 1])]
    while len(own) > 1 and not lines[own[-1] - 1].strip():
        own.pop()
    # Where a docstring or methods stood, empty lines next to each other are one.
    kept = [n for n, before in zip(own, [0, *own], strict=False) if lines[n - 1].strip() or lines[before - 1].strip()]
    yield Piece(name, ast.get_docstring(node) or "", tuple(kept), True)
    yield from parts


def _behind_docstring(node: ast.Module | ast.ClassDef) -> int:
    """The docstring's last line, or the line above the body."""
    if ast.get_docstring(node):
        return node.body[0].end_lineno or 0
    return node.body[0].lineno - 1 if node.body and isinstance(node, ast.ClassDef) else 0

"""Known differences: what ``docs/differences.md`` says of each, and which lines of the wings hold one.

A line holds a known difference if it asks for its switch (``"weight_decay" in self.switches``), if it stands in a table
of adaptations by switch or defines a function that such a table names, or if a comment at its end, or on a line of its
own above it, says so: ``# differs: bn_epsilon``.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from docs.site.errors import SiteError
from transfer_parity.shared.contract.switches import BY_NAME

TAG = re.compile(r"#\s*differs:(?P<names>.*)$")
_SECTION = re.compile(r"^## (?P<title>[^\n]*`(?P<name>\w+)`)\n(?P<text>.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_SIZE = re.compile(r"\*\*Size\*\*:\s+(?P<size>.+?)\.(?=\s|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Known:
    """One difference: the heading of its section, the section's anchor, and its measured size in words."""

    title: str
    anchor: str
    size: str


def sections(document: str) -> dict[str, Known]:
    """What differences.md says, by switch.

    Raises:
        SiteError: a section has no size.
    """
    found = {}
    for match in _SECTION.finditer(document):
        size = _SIZE.search(match["text"])
        if size is None:
            raise SiteError(
                f"docs/differences.md: the section of {match['name']} has no **Size**; say what was measured."
            )
        title = match["title"].partition(":")[0]
        found[match["name"]] = Known(title, anchor(match["title"]), " ".join(size["size"].split()))
    return found


def anchor(heading: str) -> str:
    """Where a heading is found, as GitHub and the site make it."""
    kept = re.sub(r"[^\w\- ]", "", heading.lower())
    return kept.strip().replace(" ", "-")


def lines(text: str, file: str) -> dict[int, tuple[str, ...]]:
    """Names of the switches that lines of a wing's file hold, by number of the line.

    Raises:
        SiteError: a comment names a switch that there is not, or stands above nothing.
    """
    found: dict[int, list[str]] = {}
    tree = ast.parse(text)
    functions = {node.name: node.lineno for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare | ast.BinOp) and "switches" in ast.unparse(node):
            asked = [each for each in ast.walk(node) if isinstance(each, ast.Constant) and each.value in BY_NAME]
            for each in asked:
                found.setdefault(each.lineno, []).append(str(each.value))
        if isinstance(node, ast.Dict) and node.keys:
            keys = [key.value if isinstance(key, ast.Constant) else None for key in node.keys]
            for key, value in zip(keys, node.values, strict=True) if set(keys) <= set(BY_NAME) else ():
                used = [each.id for each in ast.walk(value) if isinstance(each, ast.Name) and each.id in functions]
                for number in [value.lineno, *(functions[name] for name in used)]:
                    found.setdefault(number, []).append(str(key))
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and (tag := TAG.search(token.string)):
            for name in (each.strip() for each in tag["names"].split(",")):
                if name not in BY_NAME:
                    raise SiteError(
                        f"{file}, line {token.start[0]}: 'differs: {name}' names no switch; see switches.py."
                    )
                place, rows = token.start[0], [*text.splitlines(), ""]
                while is_tag(rows[place - 1]):
                    place += 1
                if not rows[place - 1].strip():
                    raise SiteError(f"{file}, line {token.start[0]}: {token.string!r} has no line below it.")
                found.setdefault(place, []).append(name)
    return {number: tuple(dict.fromkeys(each)) for number, each in found.items()}


def is_tag(line: str) -> bool:
    """Whether a line is nothing but a tag, of the line below it."""
    return TAG.fullmatch(line.strip()) is not None


def without_tag(line: str) -> str:
    """A line without the comment that is shown as a link."""
    return TAG.sub("", line).rstrip()


def with_places(document: str, places: Mapping[str, Iterable[str]]) -> str:
    """differences.md with links to the lines that hold each difference.

    Args:
        document: its text.
        places: links in Markdown, by switch.
    """

    def extended(match: re.Match[str]) -> str:
        found = ", ".join(places.get(match["name"], ()))
        return match[0].rstrip() + f"\n\nIn the code, side by side: {found}.\n\n" if found else match[0]

    return _SECTION.sub(extended, document)

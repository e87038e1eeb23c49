"""Pages with a file of one wing beside its twin: Markdown around HTML, made from the code."""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from docs.site import known, twins
from docs.site.known import Known
from docs.site.twins import Piece, Source
from transfer_parity.shared.contract.wings import WINGS

FOLDER = "side-by-side"
#: Both columns need the whole window.
_FRONT = "---\nhide:\n  - navigation\n  - toc\n---\n\n"
_SECTION = re.compile(r"^(Args|Returns|Raises|Attributes|Yields):\n")


def pages(
    root: Path, differences: Mapping[str, Known], only: Collection[str] = ()
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """All pages, or only those of some files, by file name, and by switch the links (in Markdown) to what holds it.

    Raises:
        SiteError: the wings do not mirror each other, or a tag names no switch.
    """
    made: dict[str, str] = {}
    places: dict[str, list[str]] = {}
    names = twins.names(root)
    for name in only or names:
        sources = twins.both(root, name)
        held = [known.lines("\n".join(each.lines), f"{folder}/{name}") for each, folder in _with(sources)]
        page = Path(name).stem + ".md"
        made[page] = _page(name, names, sources, held, differences)
        for left, right in twins.aligned(*(source.pieces for source in sources)):
            piece = left or right
            numbers = [set(each.numbers) if each else set() for each in (left, right)]
            found = {s for side in (0, 1) for n, each in held[side].items() if n in numbers[side] for s in each}
            for switch in sorted(found):
                link = f"[{name}, {_label(piece)}]({FOLDER}/{page}#{_anchor(piece)})"
                places.setdefault(switch, []).append(link)
    made["index.md"] = _overview(root, names)
    return made, places


def _with(sources: tuple[Source, Source]) -> list[tuple[Source, str]]:
    return list(zip(sources, twins.FOLDERS, strict=True))


def _page(
    name: str,
    names: list[str],
    sources: tuple[Source, Source],
    held: list[dict[int, tuple[str, ...]]],
    differences: Mapping[str, Known],
) -> str:
    pairs = twins.aligned(*(source.pieces for source in sources))
    coloured = [_coloured(source) for source in sources]
    links = " ".join(f"[`{_label(a or b)}`](#{_anchor(a or b)})" for a, b in pairs)
    others = " ".join(f"[{Path(each).stem}]({Path(each).stem}.md)" for each in names if each != name)
    parts = [
        f"{_FRONT}# {name}\n",
        _said(sources[0].docstring, sources[1].docstring),
        f"In this file: {links}\n{{: .jump }}\n",
    ]
    for left, right in pairs:
        piece = left or right
        assert piece is not None
        level = "###" if "." in piece.name else "##"
        parts.append(f"{level} `{_label(piece)}` {{: #{_anchor(piece)} }}\n")
        parts.append(_said(left.docstring if left else "", right.docstring if right else ""))
        parts.append(_columns(sources, (left, right), coloured, held, differences))
    parts.append(f"Other files: [overview](index.md) {others}\n{{: .jump }}\n")
    return "\n".join(parts)


def _overview(root: Path, names: list[str]) -> str:
    lines = [
        "# Side by side\n",
        "The two wings have the same files, in them the same public names. Each page is one file, made from the code",
        "when the site is built: Keras on TensorFlow on the left, torchvision on PyTorch on the right (below it on",
        "a narrow screen). Lines that both say alike stand at one height, lines that differ are coloured, and one that",
        "holds a [known difference](../differences.md) has a link to what is known of it and its measured size.",
        "Private helpers that one framework needs alone have no twin.\n",
        "Begin with [walkthrough.py](walkthrough.md): the whole recipe from top to bottom.\n",
        "| file | in one sentence |\n|---|---|",
    ]
    for name in names:
        said = twins.read(root / twins.FOLDERS[0] / name).docstring.partition("\n\n")[0]
        lines.append(f"| [{name}]({Path(name).stem}.md) | {' '.join(said.split())} |")
    return "\n".join(lines) + "\n"


def _label(piece: Piece | None) -> str:
    return (piece.name if piece else "") or "imports"


def _anchor(piece: Piece | None) -> str:
    # Two underscores would be Markdown.
    return re.sub(r"[^\w.]+", "-", _label(piece)).strip("-").replace("__", "--")


def _said(left: str, right: str) -> str:
    """What both say, once; else each in its column."""
    if not (left or right):
        return ""
    if left == right:
        return f'<div class="said">{_prose(left)}</div>\n'
    return f'<div class="said apart"><div>{_prose(left)}</div><div>{_prose(right)}</div></div>\n'


def _prose(docstring: str) -> str:
    """A docstring as HTML: paragraphs, and lists of what goes in and comes out."""
    found = []
    for paragraph in docstring.split("\n\n"):
        section = _SECTION.match(paragraph)
        if section is None:
            found.append(f"<p>{_inline(paragraph)}</p>")
            continue
        entries = re.split(r"\n(?=    \S)", paragraph[section.end() - 1 :])
        listed = "".join(f"<li>{_inline(entry)}</li>" for entry in entries if entry.strip())
        found.append(f'<p class="label">{section[1]}</p><ul>{listed}</ul>')
    return "".join(found)


def _inline(text: str) -> str:
    return re.sub(r"``?([^`]+)``?", r"<code>\1</code>", " ".join(html.escape(text).split()))


def _coloured(source: Source) -> list[str]:
    """Every line of a file as HTML, without the tags that become links."""
    text = "\n".join(known.without_tag(line) for line in source.lines)
    marked: str = highlight(text, PythonLexer(stripnl=False, ensurenl=False), HtmlFormatter(nowrap=True))
    return marked.split("\n")


def _columns(
    sources: tuple[Source, Source],
    pair: tuple[Piece | None, Piece | None],
    coloured: list[list[str]],
    held: list[dict[int, tuple[str, ...]]],
    differences: Mapping[str, Known],
) -> str:
    rows = list(twins.rows(*sources, *pair))
    columns = []
    for side, (piece, wing) in enumerate(zip(pair, WINGS, strict=True)):
        title = f'<p class="whose">{html.escape(wing.title)}</p>'
        if piece is None:
            columns.append(f'<div class="twin none">{title}<p>Not here: the other framework alone needs it.</p></div>')
            continue
        shown = []
        for row in rows:
            number = (row.left, row.right)[side]
            if number is None:
                shown.append('<span class="row gap"></span>')
                continue
            line = sources[side].line(number)
            depth = (len(line) - len(line.lstrip())) // 4
            kind = "row" if row.alike else "row differs"
            links = "".join(_link(differences[name]) for name in held[side].get(number, ()))
            shown.append(f'<span class="{kind} d{depth}">{coloured[side][number - 1] or " "}{links}</span>')
        columns.append(f'<div class="twin">{title}<code>{"".join(shown)}</code></div>')
    count = len(rows) + 1
    return f'<div class="twins" style="--rows:{count}" data-search-exclude>{"".join(columns)}</div>\n'


def _link(difference: Known) -> str:
    text = html.escape(f"{difference.title}: {difference.size}")
    return f' <a class="known" href="../differences.html#{difference.anchor}">≠ {text}</a>'

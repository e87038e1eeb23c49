"""Documents of the repository as pages: which there are, their links, and the dialect of Markdown that MkDocs reads."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from docs.site.errors import SiteError

#: Documents outside of docs/, and their pages.
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "examples/README.md": "examples.md",
    "benchmarks/README.md": "benchmark-scripts.md",
}
#: Files that are no document and do not lie in docs/ are put here, as text that a browser shows.
FILES = "files"
_FIRST_COMMENT = re.compile(r"\A<!--.*?-->\s*", re.DOTALL)
_FENCE = re.compile(r"^ *(```+|~~~+)")
_ITEM = re.compile(r"(?P<marker>[-*+]|\d+\.) {1,4}(?=\S)")
#: Below the head of a table.
_RULE = re.compile(r" *\|? *:?-+:? *(\| *:?-+:? *)*\|? *")
_LINK = re.compile(r"(`+[^`]*`+)|\]\((?P<target>[^)\s]+)(?P<title>\s+\"[^\"]*\")?\)")


def pages(root: Path) -> dict[str, str]:
    """Page of each document, both as paths with slashes: of the repository, of the site."""
    found = {source: page for source, page in ELSEWHERE.items() if (root / source).is_file()}
    docs = root / "docs"
    for path in sorted(docs.rglob("*.md")):
        inside = path.relative_to(docs)
        if inside.parts[0] != "site":
            name = "index.md" if inside.name == "README.md" else inside.name
            found[f"docs/{inside.as_posix()}"] = inside.with_name(name).as_posix()
    return found


def page(root: Path, source: str, known: dict[str, str], out: Path, text: str | None = None) -> str:
    """A document as MkDocs reads it; files that it links to are copied.

    Args:
        root: the repository.
        source: where the document is, or would be, in the repository.
        known: page of each document.
        out: folder of the site's sources.
        text: what it says, if not what the file holds.

    Raises:
        SiteError: it links to something that is not there.
    """
    here = PurePosixPath(known[source]).parent

    def moved(target: str) -> str:
        path, mark, anchor = target.partition("#")
        if "://" in target or target.startswith("mailto:") or not path:
            return target
        linked = os.path.normpath(f"{PurePosixPath(source).parent}/{path}").replace(os.sep, "/")
        if linked not in known and not (root / linked).is_file():
            # A link that means the site, to a page that is made.
            if linked.startswith("docs/side-by-side/"):
                return target
            raise SiteError(f"{source}: the link to {target} leads nowhere; mend it, or take it out.")
        place = known.get(linked) or _copied(root, linked, out)
        return os.path.relpath(place, here).replace(os.sep, "/") + mark + anchor

    read = text if text is not None else (root / source).read_text(encoding="utf-8")
    # MkDocs takes a page's title from the heading that it begins with.
    return dialect(_FIRST_COMMENT.sub("", read), moved)


def _copied(root: Path, linked: str, out: Path) -> str:
    place = linked.removeprefix("docs/") if linked.startswith("docs/") else f"{FILES}/{linked}.txt"
    (out / place).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(root / linked, out / place)
    return place


def dialect(text: str, moved: Callable[[str], str]) -> str:
    """GitHub's Markdown as Python-Markdown reads it: lists and tables stand apart, items' contents move in by four.

    Args:
        text: of a document.
        moved: where a link's target is on the site.
    """
    done: list[str] = []
    fence, loose = "", False
    # Where the contents of each open item begin, the innermost last.
    begins: list[int] = []
    lines = text.splitlines()
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        depth = len(line) - len(line.lstrip(" "))
        item, alone = None, not done or not done[-1].strip()
        if line.strip() and not fence:
            in_list = bool(begins)
            begins = [begin for begin in begins if begin <= depth]
            # Four further in is code.
            item = _ITEM.match(line, depth) if depth - (begins or [0])[-1] < 4 else None
            is_head = "|" in line and "|" in below and _RULE.fullmatch(below)
            if not alone and ((item and (loose or not in_list)) or is_head):
                done.append("")
        loose = not item and (loose or (not alone and not line.strip() and bool(begins)))
        line = " " * 4 * len(begins) + line[min(depth, (begins or [0])[-1]) :] if line.strip() else line
        if item:
            begins.append(len(item[0]) + depth)
            line = " " * 4 * (len(begins) - 1) + item["marker"].ljust(3) + " " + line.lstrip(" ")[len(item[0]) :]
        if not fence:
            line = _LINK.sub(
                lambda found: found[0] if found[1] else f"]({moved(found['target'])}{found['title'] or ''})", line
            )
        if mark := _FENCE.match(line):
            closes = fence and mark[1].startswith(fence) and line.strip() == mark[1]
            fence = "" if closes else fence or mark[1]
        done.append(line)
    return "\n".join(done) + "\n"

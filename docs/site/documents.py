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
_ITEM = re.compile(r"^(?P<marker>[-*+]|\d+\.) ")
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
    """GitHub's Markdown as Python-Markdown reads it: lists stand apart, what belongs to an item is moved in by four.

    Args:
        text: of a document.
        moved: where a link's target is on the site.
    """
    done: list[str] = []
    fence, width = "", 0
    for line in text.splitlines():
        item = None if fence else _ITEM.match(line)
        if item:
            if not width and done and done[-1].strip():
                done.append("")
            width = len(item[0])
            line = item["marker"].ljust(3) + " " + line[width:]
        elif width and line.startswith(" " * width):
            line = " " * 4 + line[width:]
        elif width and line.strip() and not fence:
            width = 0
        if not fence:
            line = _LINK.sub(
                lambda found: found[0] if found[1] else f"]({moved(found['target'])}{found['title'] or ''})", line
            )
        if mark := _FENCE.match(line):
            closes = fence and mark[1].startswith(fence) and line.strip() == mark[1]
            fence = "" if closes else fence or mark[1]
        done.append(line)
    return "\n".join(done) + "\n"

"""Pages of the lessons: as ``make lessons`` executed them, else their sources without what cells put out."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

#: Where ``make lessons`` writes, by what stands in front of a language's pages.
EXECUTED = {"": "build/lessons", "zh/": "build/zh/lessons"}
_CELL = re.compile(r"^# %%(?P<kind>$| .*)$")
NOT_EXECUTED = (
    "*This lesson was built without executing it: `make lessons`, then `make docs`, shows what its cells put out.*"
)


def pages(root: Path, out: Path) -> dict[str, tuple[str, str]]:
    """Text of each lesson's page, and where it would lie in the repository.

    Args:
        root: the repository.
        out: folder of the site's sources; pictures that lessons made are copied there.

    Returns:
        Pairs of place and text by the page's path, ``lessons/NN-name.md`` or ``zh/lessons/NN-name.md``.
    """
    made = {}
    for prefix, folder in EXECUTED.items():
        for source in sorted((root / "docs" / prefix / "lessons").glob("[0-9]*.py")):
            executed = root / folder / f"{source.stem}.md"
            # What was executed before the lesson changed is not shown.
            is_new = executed.is_file() and executed.stat().st_mtime >= source.stat().st_mtime
            text = folded(executed.read_text(encoding="utf-8")) if is_new else _rendered(source)
            made[f"{prefix}lessons/{source.stem}.md"] = (f"docs/{prefix}lessons/{source.stem}.md", text)
            for picture in sorted(executed.parent.glob(f"{source.stem}*")):
                # What is in the Markdown has its output; notebooks are for download.
                if picture.suffix != ".md":
                    place = out / prefix / "lessons" / picture.name
                    place.parent.mkdir(parents=True, exist_ok=True)
                    if picture.is_dir():
                        shutil.copytree(picture, place)
                    else:
                        shutil.copyfile(picture, place)
    return made


def folded(text: str) -> str:
    """Markdown in which what is folded away is Markdown, too, which Python-Markdown has to be told (md_in_html)."""
    return text.replace("<details>", '<details markdown="1">')


def _rendered(source: Path) -> str:
    """A percent script as Markdown: text cells as they are, code cells in fences."""
    parts: list[str] = []
    kind, lines = "", list[str]()
    for line in [*source.read_text(encoding="utf-8").splitlines(), "# %%"]:
        if cell := _CELL.match(line):
            if kind:
                parts.append(_cell(kind, lines))
            kind, lines = cell["kind"].strip() or "code", []
        else:
            lines.append(line)
    title, _, rest = "\n\n".join(part for part in parts if part).partition("\n")
    return f"{title}\n\n{NOT_EXECUTED}\n{rest}\n"


def _cell(kind: str, lines: list[str]) -> str:
    text = "\n".join(lines).strip("\n")
    if "[markdown]" in kind:
        return folded(re.sub(r"^# ?", "", text, flags=re.MULTILINE))
    code = re.sub(r"^# (?=%)", "", text, flags=re.MULTILINE)
    return f"```python\n{code}\n```" if code else ""

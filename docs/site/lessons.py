"""Pages of the lessons: as ``make lessons`` executed them, else their sources without what cells put out."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from transfer_parity.shared.lessons import percent
from transfer_parity.shared.lessons.percent import Cell

#: What stands in front of a language's pages, in docs/ as in build/, where ``make lessons`` writes.
LANGUAGES = ("", "zh/")
#: What each language says of a lesson that was not executed.
NOT_EXECUTED = {
    "": "*This lesson was built without executing it: `make lessons`, then `make docs`, shows what its cells put out.*",
    "zh/": "*本课生成网页时没有执行：先运行 `make lessons`，再运行 `make docs`，就会显示各单元格的输出。*",
}
#: The same of what it can be downloaded as.
AS_NOTEBOOK = {"": "This lesson as a notebook", "zh/": "本课的 notebook 文件"}


def pages(root: Path, out: Path) -> dict[str, tuple[str, str]]:
    """Text of each lesson's page, and where it would lie in the repository.

    Args:
        root: the repository.
        out: folder of the site's sources; notebooks are copied there, for download.

    Returns:
        Pairs of place and text by the page's path, ``lessons/NN-name.md`` or ``zh/lessons/NN-name.md``.
    """
    made = {}
    for prefix in LANGUAGES:
        for source in sorted((root / "docs" / prefix / "lessons").glob("[0-9]*.py")):
            executed = root / "build" / prefix / "lessons" / f"{source.stem}.md"
            # What was executed before the lesson changed is not shown.
            is_new = executed.is_file() and executed.stat().st_mtime >= source.stat().st_mtime
            text = folded(executed.read_text(encoding="utf-8")) if is_new else _rendered(source, NOT_EXECUTED[prefix])
            notebook = executed.with_suffix(".ipynb")
            if is_new and notebook.is_file():
                place = out / prefix / "lessons" / notebook.name
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(notebook, place)
                # No link of a document, whose target would have to lie in the repository.
                text = f'{text.rstrip()}\n\n<a href="{notebook.name}" download>{AS_NOTEBOOK[prefix]}</a>\n'
            made[f"{prefix}lessons/{source.stem}.md"] = (f"docs/{prefix}lessons/{source.stem}.md", text)
    return made


def folded(text: str) -> str:
    """Markdown in which what is folded away is Markdown, too, which Python-Markdown has to be told (md_in_html)."""
    return text.replace("<details>", '<details markdown="1">')


def _rendered(source: Path, remark: str) -> str:
    """A lesson's source as Markdown: text cells as they are, code cells in fences; a remark below its title."""
    cells = percent.read(source)
    title, _, rest = "\n\n".join(_cell(cell) for cell in cells if cell.source).partition("\n")
    return f"{title}\n\n{remark}\n{rest}\n"


def _cell(cell: Cell) -> str:
    if cell.is_text:
        return folded(cell.source)
    # Magics are comments in the source.
    return f"```python\n{re.sub('^# (?=%)', '', cell.source, flags=re.MULTILINE)}\n```"

"""Executes lessons and writes them with their outputs: ``python docs/execute_lessons.py [NUMBER ...]`` (make lessons).

``docs/lessons/NN-name.py`` becomes ``build/lessons/NN-name.md`` for the site and ``.ipynb`` for readers, and so does
the same lesson in another language, which has the same code and therefore the same outputs. A cell that fails ends it.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupytext
import nbclient
import nbformat
from traitlets.config import Config

ROOT = Path(__file__).resolve().parent.parent
LESSONS = ROOT / "docs" / "lessons"
BUILD = ROOT / "build"
#: Folders of other languages below docs/.
LANGUAGES = ("zh",)
#: Seconds that a cell has; on two free cores the longest takes some twenty.
LIMIT = 900
#: What terminals colour with.
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def execute(source: Path) -> nbformat.NotebookNode:
    """The notebook of a lesson, executed.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
        ValueError: a cell warned: a reader would not know what of.
    """
    notebook = jupytext.read(source)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    place = {"metadata": {"path": str(ROOT)}}
    # Sockets that are files in a folder of this user alone: nobody else on the machine can listen.
    with tempfile.TemporaryDirectory() as folder:
        sockets = Config({"AsyncKernelManager": {"transport": "ipc", "ip": str(Path(folder) / "kernel")}})
        nbclient.NotebookClient(notebook, config=sockets, timeout=LIMIT, resources=place).execute()
    for cell in notebook.cells:
        warned = "".join(each.text for each in cell.get("outputs", []) if each.get("name") == "stderr")
        if warned:
            raise ValueError(f"a cell warned: {warned.strip()}\n{cell.source}")
    return notebook


def translated(executed: nbformat.NotebookNode, source: Path) -> nbformat.NotebookNode:
    """The same lesson in another language, with the outputs of its code, which is the same.

    Raises:
        ValueError: the code is another.
    """
    notebook = jupytext.read(source)
    ours, theirs = ([cell for cell in each.cells if cell.cell_type == "code"] for each in (executed, notebook))
    if [cell.source for cell in ours] != [cell.source for cell in theirs]:
        raise ValueError(f"{source} has other code than its original")
    for done, cell in zip(ours, theirs, strict=True):
        cell.outputs, cell.execution_count = done.outputs, done.execution_count
    notebook.metadata["kernelspec"] = executed.metadata["kernelspec"]
    return notebook


def markdown(notebook: nbformat.NotebookNode) -> str:
    """A notebook as Markdown: code in fences, and what it puts out in fences behind it."""
    parts = []
    for cell in notebook.cells:
        if cell.cell_type != "code":
            parts.append(cell.source)
            continue
        parts.append(_fenced(cell.source, "python"))
        parts += [_fenced(text, "text") for text in _outputs(cell.outputs)]
    return "\n\n".join(parts) + "\n"


def write(notebook: nbformat.NotebookNode, source: Path) -> Path:
    """Write a notebook below ``build/``, where its source lies below ``docs/``. Returns the Markdown's path."""
    target = BUILD / source.relative_to(ROOT / "docs").with_suffix(".md")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(markdown(notebook), encoding="utf-8")
    nbformat.write(notebook, target.with_suffix(".ipynb"))
    return target


def main(given: list[str]) -> int:
    """Execute the lessons whose numbers are given, or all. Returns an exit status."""
    # No debugger looks on, so none has to be warned.
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    sources = {source.name[:2]: source for source in sorted(LESSONS.glob("[0-9][0-9]-*.py"))}
    chosen = {number.zfill(2) for number in given} or set(sources)
    if unknown := sorted(chosen - set(sources)):
        print(f"there is no lesson {unknown[0]}; give any of {', '.join(sources)}, or none for all", file=sys.stderr)
        return 2
    for number, source in sources.items():
        if number not in chosen:
            continue
        started = time.monotonic()
        try:
            executed = execute(source)
            written = [write(executed, source)]
            for language in LANGUAGES:
                other = ROOT / "docs" / language / "lessons" / source.name
                if other.is_file():
                    written.append(write(translated(executed, other), other))
        except (nbclient.exceptions.CellExecutionError, ValueError) as error:
            print(f"{source.relative_to(ROOT)}: {_COLOURS.sub('', str(error))}", file=sys.stderr)
            return 1
        names = ", ".join(str(path.relative_to(ROOT)) for path in written)
        print(f"{names}: {time.monotonic() - started:.0f} s", flush=True)
    return 0


def _fenced(text: str, language: str) -> str:
    return f"```{language}\n{text}\n```"


def _outputs(outputs: list[Any]) -> Iterator[str]:
    """What a cell has put out, one text for what it printed, and one for its value."""
    printed = "".join(each.text for each in outputs if each.output_type == "stream").rstrip()
    if printed:
        yield _COLOURS.sub("", printed)
    for each in outputs:
        if each.output_type == "execute_result":
            yield each.data["text/plain"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A climb in GitHub Actions: annotations at the lines of the layers, and a summary of the step.

The commands are those of
https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.core.text import printable
from transfer_parity.shared.report import subject
from transfer_parity.shared.subjects.document import SubjectParity

#: Environment variables: the file that receives the summary, and the folder of the checkout.
SUMMARY, WORKSPACE = "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"


def commands(document: SubjectParity) -> Iterator[str]:
    """One line for each side that the first divergence has a source line in; one without a place if there is none."""
    if document.passed:
        return
    title = f"parity: {document.name}"
    told = "\n".join(subject.lines(document))
    failed = document.first_failure
    first = failed.first_divergence if failed is not None else None
    sources = list(subject.sources_of(document, first)) if first is not None else []
    if document.causes:
        # A cause may lie before the layer that shows it.
        mine = (document.causes[0].reference_source, document.causes[0].candidate_source)
        sources = [cause or source for cause, source in zip(mine, sources, strict=True)]
    places = list(dict.fromkeys(place for source in sources if (place := _place(source)) is not None))
    for file, line in places:
        yield f"::error file={_property(file)},line={line},title={_property(title)}::{_data(told)}"
    if not places:
        yield f"::error title={_property(title)}::{_data(told)}"


def summarise(document: SubjectParity) -> bool:
    """Add what was found to the step's summary. Returns whether there is one.

    Raises:
        BadInput: it cannot be written.
    """
    path = os.environ.get(SUMMARY)
    if not path:
        return False
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(subject.markdown(document) + "\n")
    except OSError as error:
        raise BadInput(f"{SUMMARY} {path} cannot be written ({error.strerror or error}); unset it.") from None
    return True


def _place(source: str | None) -> tuple[str, int] | None:
    """File, relative to the checkout where it lies in it, and line."""
    found = re.fullmatch(r"(.+):(\d+)", source or "", re.DOTALL)
    if found is None:
        return None
    path = Path(found[1])
    if path.is_absolute():
        for folder in (os.environ.get(WORKSPACE), Path.cwd()):
            if folder and path.is_relative_to(folder):
                path = path.relative_to(folder)
                break
    return path.as_posix(), int(found[2])


def _data(text: str) -> str:
    """A message: a line break would end the command, and begin another."""
    shown = printable(text, lines=True)
    return shown.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """A value between commas."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")

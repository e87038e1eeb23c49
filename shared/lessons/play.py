"""A lesson without a notebook: ``python -m transfer_parity.shared.lessons.play docs/lessons/01-tensors.py``.

Prints text, code and what the code puts out, cell by cell, and ends with the first cell that fails.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transfer_parity.shared.contract.wings import WINGS
from transfer_parity.shared.core import streams
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.core.text import joined
from transfer_parity.shared.lessons import cell_process, percent, session
from transfer_parity.shared.lessons.magics import CellError, Cells
from transfer_parity.shared.lessons.session import Session

#: What stands in front of each line of code.
MARGIN = "    "


def play(path: Path, sessions: Mapping[str, Callable[[], Session]]) -> dict[str, Any]:
    """Carry out a lesson. Returns the variables of its notebook.

    Args:
        path: of the lesson.
        sessions: what makes the session of each magic, by its name.

    Raises:
        BadInput: the file is no lesson, or has a cell of another kind.
        CellError: a cell in a framework's process failed.
        Exception: whatever one of the notebook's own cells raises.
    """
    namespace: dict[str, Any] = {"__name__": "__main__"}
    cells = Cells(namespace, sessions)
    try:
        for number, cell in enumerate(percent.read(path), 1):
            if cell.is_text:
                print(f"\n{cell.source}\n")
                continue
            print("\n".join(f"{MARGIN}{line}".rstrip() for line in cell.source.split("\n")), "\n", flush=True)
            if cell.magic is not None:
                if cell.magic[0] not in sessions:
                    known = joined([f"%%{name}" for name in sessions])
                    raise BadInput(f"{path} has a cell that begins with %%{cell.magic[0]}; a lesson has {known} alone.")
                value = cells.run(*cell.magic)
            else:
                value = cell_process.evaluate(cell.plain, f"{cell_process.CELL}{number}>", namespace)
            if value is not None:
                print(repr(value), flush=True)
    finally:
        cells.close()
    return namespace


def main(given: list[str]) -> int:
    """Carry out the lessons whose paths are given. Returns an exit status."""
    sessions = {wing.identifier: (lambda wing=wing: session.of_wing(wing)) for wing in WINGS}
    try:
        if not given:
            raise BadInput("no lesson is given; give one or more, such as docs/lessons/01-tensors.py.")
        for each in given:
            play(Path(each), sessions)
    except (BadInput, CellError) as error:
        print(error if isinstance(error, CellError) else f"error: {error}", file=sys.stderr)
        return error.exit_status if isinstance(error, BadInput) else 1
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    # Whoever reads may go before the end: play ... | head.
    with streams.guarded():
        status = main(sys.argv[1:])
    sys.exit(status)

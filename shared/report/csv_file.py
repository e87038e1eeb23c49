"""Tables of runs as CSV: a line for every training run, added to what earlier commands wrote."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.experiments.run_table import COLUMNS, Found

HEADER = ",".join(COLUMNS)


def check(path: Path) -> None:
    """Whether lines can be added to a file.

    Raises:
        BadInput: it cannot be written, or holds something else.
    """
    try:
        if not path.parent.is_dir():
            raise BadInput(f"--csv {path}: there is no folder {path.parent}; make it, or choose another file.")
        with path.open("a+", encoding="utf-8", newline="") as file:
            file.seek(0)
            first = file.readline().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise BadInput(f"--csv {path} cannot be written ({reason}); choose another file.") from None
    if first and first != HEADER:
        raise BadInput(f"--csv {path} has other columns than a table of runs; choose another file.")
    if not first and not path.stat().st_size:
        # Made by looking: what is not written in the end leaves no file.
        path.unlink()


def append(path: Path, found: Iterable[Found]) -> int:
    """Add the lines of some results; a new file begins with the columns' names. Returns how many lines."""
    text, count = io.StringIO(), 0
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    if not path.exists() or not path.stat().st_size:
        writer.writeheader()
    for each in found:
        for line in each.lines():
            writer.writerow(line)
            count += 1
    # At once, so that lines of commands that run at the same time do not mix.
    with path.open("a", encoding="utf-8", errors="backslashreplace", newline="") as file:
        file.write(text.getvalue())
    return count

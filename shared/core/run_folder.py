"""Where results go: a folder that nobody else has, and that can be written."""

from __future__ import annotations

import datetime
import itertools
from pathlib import Path

from transfer_parity.shared.core.errors import BadInput


def unused(name: str) -> Path:
    """``results/<time>-<name>``, or with a number behind it if a run that began in the same second has it."""
    moment = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = Path("results") / f"{moment}-{name}"
    return next(
        candidate
        for number in itertools.count(1)
        if not (candidate := folder if number == 1 else folder.with_name(f"{folder.name}-{number}")).exists()
    )


def make(folder: Path) -> None:
    """Make sure that results can be written before anything is computed.

    Raises:
        BadInput: the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadInput(
            f"the output folder {folder} cannot be written ({reason}); choose another --output-dir."
        ) from None

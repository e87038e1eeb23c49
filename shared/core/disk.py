"""What to say when nothing more can be written: which disk is full."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterable
from pathlib import Path

#: Of ``OSError.errno``: no space, no quota.
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
#: Bytes. A disk with less room may have refused a write; file systems keep a little for themselves.
_LITTLE = 4 * 2**20


def complaint(error: OSError, folders: Iterable[Path]) -> str | None:
    """One sentence that names the full disk, or None if the error has another cause.

    A write that fails names no file, and NumPy has an error of its own without a number, so the folders that were
    written to are looked at.

    Args:
        error: as it was raised.
        folders: where something was written; they need not exist.
    """
    full = [folder for folder in dict.fromkeys(folders) if _is_full(folder)]
    if error.errno not in _FULL and (error.errno is not None or not full):
        return None
    place = str(error.filename) if error.filename else " or ".join(map(str, full)) or "a disk"
    return f"{place}: no space is left on the disk; make room there and run again."


def _is_full(folder: Path) -> bool:
    try:
        existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        return shutil.disk_usage(existing).free < _LITTLE
    except (OSError, StopIteration):
        return False

"""Temporary folders that do not stay: what a killed process leaves of them, the next one removes."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

#: In every folder, held while its process lives. A lock goes with its process, whoever has that one's number later.
_LOCK = ".in-use"
#: Seconds after which an empty folder is not one that is just being made.
_FRESH = 60


@contextlib.contextmanager
def folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """A new folder that is removed in the end; so are those with the same beginning whose processes are dead.

    Args:
        prefix: beginning of its name, which nothing else has there.
        parent: where it lies; by default where the system has temporary files.
    """
    parent = parent or Path(tempfile.gettempdir())
    remove_left(prefix, parent)
    made, lock = _made(prefix, parent)
    try:
        yield made
    finally:
        lock.release()
        shutil.rmtree(made, ignore_errors=True)


def _made(prefix: str, parent: Path) -> tuple[Path, BaseFileLock]:
    while True:
        made = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        lock = FileLock(made / _LOCK)
        # Some network file systems have no locks; there nothing is ever removed for another process. And before the
        # lock is held, another process may take the folder for one that was left.
        with contextlib.suppress(NotImplementedError, FileNotFoundError):
            lock.acquire()
        if made.is_dir():
            return made, lock
        lock.release()


def remove_left(prefix: str, parent: Path) -> None:
    """Remove folders of dead processes. Those of other people, and those that are in use, stay."""
    for left in parent.glob(f"{prefix}*"):
        with contextlib.suppress(Timeout, OSError, NotImplementedError):
            if (left / _LOCK).is_file():
                with FileLock(left / _LOCK, timeout=0):
                    shutil.rmtree(left, ignore_errors=True)
            elif time.time() - left.stat().st_mtime > _FRESH:
                # Its process died at once; what has anything in it is not ours.
                left.rmdir()

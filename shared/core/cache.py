"""Where fetched and derived files are kept between runs."""

from __future__ import annotations

import atexit
import os
import time
from contextlib import suppress
from pathlib import Path

import platformdirs
from filelock import FileLock

from transfer_parity.shared.core import paths
from transfer_parity.shared.core.errors import BadInput

VARIABLE = "TRANSFER_PARITY_CACHE"
#: Folder of a cache in which every process that uses it names what it uses.
USERS = "users"


class Cache:
    """A folder of files that can be fetched or computed again.

    Attributes:
        root: the folder; by default the one that the operating system reserves for this.

    Raises:
        BadInput: no folder can have this name.
    """

    def __init__(self, root: str | Path | None = None) -> None:
        chosen = root or os.environ.get(VARIABLE) or platformdirs.user_cache_dir("transfer-parity", appauthor=False)
        self.root = paths.expanded(chosen).absolute()

    def folder(self, *parts: str) -> Path:
        """A folder of the cache, made if it is missing.

        Raises:
            BadInput: it cannot be made.
        """
        path = self.root.joinpath(*parts)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or error
            raise BadInput(
                f"the cache folder {path} cannot be written ({reason}); set --cache-dir or {VARIABLE}."
            ) from None
        return path

    def lock(self, name: str) -> FileLock:
        """Keeps two processes from making the same file at the same time."""
        return FileLock(self.folder("locks") / f"{name}.lock")


def used(path: Path) -> None:
    """A run uses an entry of a cache from now until this process ends: nobody prunes it, and its last use is now.

    Args:
        path: of the entry, two levels below the cache's root. What lies in no cache is left alone.
    """
    root = path.parent.parent
    if not (root / "locks").is_dir():
        return
    # Whoever may only read a cache can use it all the same.
    with suppress(OSError):
        now = time.time_ns()
        os.utime(path, ns=(now, now if path.is_dir() else path.stat().st_mtime_ns))
        users = root / USERS
        users.mkdir(exist_ok=True)
        mine = users / str(os.getpid())
        if not mine.exists():
            atexit.register(mine.unlink, missing_ok=True)
        with mine.open("ab") as file:
            file.write(os.fsencode(path.relative_to(root)) + b"\0")


def in_use(root: Path) -> set[Path]:
    """Entries of a cache that processes which are running now use."""
    # Here, since most commands have no need of it.
    import psutil

    found: set[Path] = set()
    with suppress(FileNotFoundError):
        for user in (root / USERS).iterdir():
            if not user.name.isdecimal() or not psutil.pid_exists(int(user.name)):
                user.unlink(missing_ok=True)
                continue
            with suppress(FileNotFoundError):
                found |= {root / os.fsdecode(name) for name in user.read_bytes().split(b"\0") if name}
    return found

"""Where fetched and derived files are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs
from filelock import FileLock

from transfer_parity.shared.core.errors import BadInput

VARIABLE = "TRANSFER_PARITY_CACHE"


class Cache:
    """A folder of files that can be fetched or computed again.

    Attributes:
        root: the folder; by default the one that the operating system reserves for this.
    """

    def __init__(self, root: str | Path | None = None) -> None:
        chosen = root or os.environ.get(VARIABLE) or platformdirs.user_cache_dir("transfer-parity", appauthor=False)
        self.root = Path(chosen).expanduser().absolute()

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

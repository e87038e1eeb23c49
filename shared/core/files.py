"""Files as a whole: written at once or not at all, and what tells one from all others; digests of keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO


def write_whole(path: Path, text: str) -> None:
    """Write a file of text. It appears whole or not at all, whenever this process ends.

    What it is written to until then is a file of this call alone: no other process writes to it, and where its name
    belongs to a file or a link of the user's it gets another.
    """
    unfinished, file = _new_beside(path)
    try:
        with file:
            file.write(text)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _new_beside(path: Path) -> tuple[Path, TextIO]:
    """A new file in the same folder, open for writing."""
    number, unfinished = 1, path.with_name(f"{path.name}.part")
    while True:
        try:
            return unfinished, unfinished.open("x", encoding="utf-8")
        except FileExistsError:
            number += 1
            unfinished = path.with_name(f"{path.name}.{number}.part")


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(key: Mapping[str, Any], digits: int) -> str:
    """So many hexadecimal digits of the SHA-256 of a key: JSON values by name, in any order."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:digits]

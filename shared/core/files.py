"""Files as a whole: written at once or not at all, and what tells one from all others; digests of keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_whole(path: Path, text: str) -> None:
    """Write a file of text. It appears whole or not at all, whenever this process ends."""
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(key: Mapping[str, Any], digits: int) -> str:
    """So many hexadecimal digits of the SHA-256 of a key: JSON values by name, in any order."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:digits]

"""Who has a folder: noted by a run that begins, and read by one that finds it taken."""

from __future__ import annotations

import contextlib
import datetime
import getpass
import json
import os
import platform
from pathlib import Path


def write(path: Path) -> None:
    """Note this process in a file. A disk that is full finds its own words later."""
    with contextlib.suppress(OSError):
        values = {
            "process": os.getpid(),
            "user": _user(),
            "machine": platform.node(),
            "since": datetime.datetime.now().isoformat(sep=" ", timespec="seconds"),
        }
        path.write_text(json.dumps(values), encoding="utf-8")


def read(path: Path) -> str:
    """Who it is, and since when, in words."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return f"process {found['process']} of {found['user']} on {found['machine']}, since {found['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it has just begun"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "a user without a name"

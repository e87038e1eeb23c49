"""What a run wrote in a folder: names, sizes and checksums, so that the next one can tell its files from the user's."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from transfer_parity.shared.core import files

#: Size in bytes and SHA-256 of a file.
Facts = tuple[int, str]


@dataclass
class Manifest:
    """What a run wrote.

    Attributes:
        complete: whether the run had done everything that was asked of it.
        files: by name relative to the output folder, with slashes.
    """

    complete: bool = False
    files: dict[str, Facts] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Manifest | None:
        """None where there is none, or a damaged one: then nothing counts as ours."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            listed = {str(name): (int(size), str(digest)) for name, (size, digest) in found["files"].items()}
            complete = bool(found["complete"])
        except PermissionError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return cls(complete, {name: facts for name, facts in listed.items() if _stays_inside(name)})

    def write(self, path: Path) -> None:
        """As a whole or not at all."""
        files.write_whole(path, json.dumps({"complete": self.complete, "files": self.files}, indent=1))


def facts_of(path: Path) -> Facts:
    """Of a file that is there."""
    return path.stat().st_size, files.sha256(path)


def facts_found(path: Path) -> Facts | None:
    """Of a file, if that is there; a link is none of ours."""
    try:
        return None if path.is_symlink() else facts_of(path)
    except OSError:
        return None


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts

"""Whether a kept file or folder is still what was written: checksums beside it, compared before anything is read.

A seal says of every file how long it is and the CRC-32 of each of its blocks: a single wrong byte is always found, and
any other damage but once in four thousand million times. It guards against disks, interruptions and slips, not against
somebody who wants to deceive.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import starmap
from pathlib import Path
from typing import Any, Literal

from transfer_parity.shared.core import files, machine, notices

#: Name of the seal in a folder; that of a single file lies beside it, with the file's name before it.
SEAL = "checksums.json"
#: Bytes that have a checksum of their own, and bytes that are read at once.
BLOCK, _PIECE = 16 * 2**20, 2**20

#: Of what is kept: not there (or without a seal, so that nothing is known about it), changed, or as it was written.
Condition = Literal["missing", "damaged", "intact"]

#: Seals that were found to hold, by path, and the state of each: once in a process is enough.
_held: dict[Path, tuple[int, int, int]] = {}


def seal(path: Path, names: Iterable[str] | None = None) -> None:
    """Note the checksums of a finished file, or of the files below a folder. The seal appears whole or not at all.

    A folder is sealed before it moves to where it is looked for; a file that lies there already counts once it is.

    Args:
        path: of the file or folder.
        names: of the files below a folder; by default all but those of folders in it that have a seal of their own.
    """
    target = seal_of(path)
    if names is None:
        names = sorted(_names(path)) if path.is_dir() else [path.name]
    # Names of files need not be UTF-8; JSON holds them with its escapes.
    sums = {name: _checksums(target.parent / name) for name in names}
    files.write_whole(target, json.dumps({"files": sums}, indent=0))


def condition(path: Path) -> Condition:
    """What has become of a file or folder that was sealed. It is read through once in a process.

    Raises:
        PermissionError: it must not be read.
    """
    target = seal_of(path)
    try:
        status = target.stat()
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    if not path.exists():
        # A seal alone: somebody has removed the file.
        return "missing"
    state = (status.st_ino, status.st_mtime_ns, status.st_size)
    if _held.get(target) != state:
        if not _holds(target):
            return "damaged"
        _held[target] = state
    return "intact"


def intact(path: Path, remedy: str) -> bool:
    """Whether what was kept can be used. What is damaged is told in a sentence, and counts as not there.

    Args:
        path: of a file or folder that was sealed; it stays, and ``discard`` removes it.
        remedy: what will be done about damage, as in "fetched again".

    Raises:
        PermissionError: it must not be read.
    """
    found = condition(path)
    if found == "damaged":
        notices.say(f"{path} is damaged; it is {remedy}.")
    return found == "intact"


def discard(path: Path) -> None:
    """Remove what was kept, and its seal first, so that nothing half removed passes for whole."""
    seal_of(path).unlink(missing_ok=True)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def forget() -> None:
    """Check everything again that has been checked in this process."""
    _held.clear()


def seal_of(path: Path) -> Path:
    """Where the seal of a folder or of a file lies."""
    return path / SEAL if path.is_dir() else path.with_name(f"{path.name}.{SEAL}")


def _names(folder: Path) -> Iterator[str]:
    """All files below a folder but seals, and but what lies in a folder with a seal of its own."""
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not os.path.lexists(os.path.join(root, name, SEAL))]  # noqa: PTH118
        place = os.path.relpath(root, folder)
        for name in names:
            if name != SEAL:
                yield name if place == os.curdir else f"{place}/{name}".replace(os.sep, "/")


def _holds(target: Path) -> bool:
    """Whether every file is as its seal says."""
    try:
        sums: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))["files"]
        # Sizes first, since that takes no reading.
        sizes = all((target.parent / name).stat().st_size == size for name, (size, _) in sums.items())
        return sizes and all(_checksums(target.parent / name) == found for name, found in sums.items())
    except PermissionError:
        raise
    except Exception:
        # Whatever a damaged seal says, or a disk that cannot read it any more.
        return False


def _checksums(path: Path) -> list[Any]:
    """Size of a file in bytes, and the CRC-32 of each of its blocks."""
    size = path.stat().st_size
    blocks = [(path, first) for first in range(0, size, BLOCK)]
    if len(blocks) < 2:
        return [size, list(starmap(_checksum, blocks))]
    # Python's lock is not held meanwhile.
    with ThreadPoolExecutor(machine.available_cores()) as pool:
        return [size, list(pool.map(_checksum, *zip(*blocks, strict=True)))]


def _checksum(path: Path, first: int) -> int:
    """CRC-32 of the block of a file that begins there."""
    found = 0
    with path.open("rb", buffering=0) as file:
        file.seek(first)
        for _ in range(BLOCK // _PIECE):
            piece = file.read(_PIECE)
            if not piece:
                break
            found = zlib.crc32(piece, found)
    return found

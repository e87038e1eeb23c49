"""What lies in the cache: by kind, size and last use; what of it can go, and what goes first when the disk is full."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from transfer_parity.shared.core import kept, notices
from transfer_parity.shared.core.cache import Cache, in_use

#: Folders of the cache, and what they hold.
KINDS = {
    "features": "outputs of frozen layers",
    "pixels": "decoded images",
    "weights": "checkpoints",
    "assets": "downloaded packages",
    "data": "downloaded data sets",
    "conversions": "conversions in progress",
}
#: Those that can be computed again without a network.
COMPUTED = frozenset({"features", "pixels"})
#: A disk is nearly full if less than this is free: bytes, or a part of the disk if that is less.
RESERVE_BYTES, RESERVE_PART = 2 * 2**30, 0.05


@dataclass(frozen=True)
class Entry:
    """Something that is kept, and goes as a whole.

    Attributes:
        kind: one of ``KINDS``.
        path: its folder or file.
        size: bytes on the disk.
        used: when a run last used it, seconds since 1970.
        in_use: whether a process that is running now uses it.
    """

    kind: str
    path: Path
    size: int
    used: float
    in_use: bool


def entries(cache: Cache) -> list[Entry]:
    """Everything that is kept, least recently used first."""
    busy, found = in_use(cache.root), []
    for kind in KINDS:
        with suppress(FileNotFoundError):
            for path in sorted((cache.root / kind).iterdir()):
                # The checksums of a file lie beside it, and go with it.
                if _owner(path) is not None:
                    continue
                with suppress(FileNotFoundError):
                    size = sum(map(_size, _with_companions(path)))
                    found.append(Entry(kind, path, size, _used(path), path in busy))
    return sorted(found, key=lambda entry: entry.used)


def to_prune(found: Sequence[Entry], older_than: float | None, max_size: int | None) -> list[Entry]:
    """What has to go, least recently used first. What a process uses stays.

    Args:
        found: least recently used first.
        older_than: seconds since the last use after which something goes.
        max_size: bytes that may stay.
    """
    now, chosen = time.time(), []
    left = sum(entry.size for entry in found)
    for entry in found:
        is_old = older_than is not None and now - entry.used > older_than
        if not entry.in_use and (is_old or (max_size is not None and left > max_size)):
            chosen.append(entry)
            left -= entry.size
    return chosen


def remove(entry: Entry) -> None:
    """Remove an entry. First it gets a name under which nobody looks for it, so that it goes as a whole.

    Raises:
        OSError: it may not be removed.
    """
    for path in _with_companions(entry.path):
        going = path.with_name(f".removed-{os.getpid()}-{path.name}")
        with suppress(FileNotFoundError):
            path.replace(going)
            if going.is_dir():
                shutil.rmtree(going)
            else:
                going.unlink()


def make_room(cache: Cache, needed: int = 0, keep: Collection[Path] = ()) -> None:
    """Where the disk would be nearly full, remove what can be computed again, least recently used first, and say so.

    Args:
        cache: on that disk.
        needed: bytes that are about to be written.
        keep: entries that stay.
    """
    disk = shutil.disk_usage(cache.folder())
    short = needed + min(RESERVE_BYTES, disk.total * RESERVE_PART) - disk.free
    if short <= 0:
        return
    removed: list[Entry] = []
    for entry in entries(cache):
        if short <= 0:
            break
        if entry.kind in COMPUTED and not entry.in_use and entry.path not in keep:
            with suppress(OSError):
                remove(entry)
                removed.append(entry)
                short -= entry.size
    if removed:
        notices.say(
            f"The disk of {cache.root} is nearly full: {len(removed)} kept results that can be computed again were "
            f"removed, least recently used first ({shown(sum(entry.size for entry in removed))})."
        )


def shown(size: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _owner(path: Path) -> Path | None:
    """The file whose checksums these are, if there is one."""
    name = path.name.removesuffix(".part")
    for suffix in (f".{kept.SEAL}", ".lock"):
        if name.endswith(suffix) and (owner := path.with_name(name.removesuffix(suffix))).exists():
            return owner
    return None


def _with_companions(path: Path) -> Iterator[Path]:
    yield path
    if not path.is_dir() and (seal := kept.seal_of(path)).exists():
        yield seal


def _size(path: Path) -> int:
    """Bytes on the disk; an array of which little has been computed yet takes little room."""
    total = 0
    walk = [(str(path.parent), [], [path.name])] if not path.is_dir() else os.walk(path)
    for folder, _, names in walk:
        for name in names:
            with suppress(FileNotFoundError):
                state = (Path(folder) / name).lstat()
                total += min(state.st_size, getattr(state, "st_blocks", state.st_size) * 512)
    return total


def _used(path: Path) -> float:
    state = path.stat()
    # Listing a folder changes the time of its last access, writing into it does not change that of a file in it.
    return state.st_mtime if path.is_dir() else max(state.st_atime, state.st_mtime)

"""Outputs of a frozen part of a network, computed once for each image and kept for all runs that ask for them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from transfer_parity.shared.core import files, notices
from transfer_parity.shared.core.arrays import Rows
from transfer_parity.shared.core.cache import used

#: In place of the checksum of an image without an output.
_ABSENT = -1
#: Bytes of outputs that are read at once when they are checked.
_PIECE = 2**24


class Store:
    """One output for each of N images, of those that were computed so far.

    Lies in a folder of its own, named after a digest of everything that the outputs depend on: weights, pixels,
    settings, versions, code. Nothing in it is ever changed, only added; a folder may be deleted at any time. Every
    output has a checksum, and counts as missing when it is not what was written.

    Attributes:
        facts: what was noted when the first outputs were computed, as JSON values.
    """

    def __init__(self, root: Path, key: dict[str, Any], images: int) -> None:
        self.folder = root / files.digest(key, 32)
        self.images = images
        self.facts: dict[str, Any] = {}
        self._index, self._outputs = self.folder / "index.json", self.folder / "outputs.npy"
        self.folder.mkdir(parents=True, exist_ok=True)
        # For people who wonder what a folder is for; nothing reads it.
        (self.folder / "key.json").write_text(json.dumps(key, sort_keys=True), encoding="utf-8")
        self._begin()

    @contextmanager
    def opened(self) -> Iterator[Store]:
        """Keep other processes from computing the same at the same time."""
        with FileLock(self.folder / "lock"):
            self._begin()
            if not self._read():
                # It can be computed again.
                self._begin()
                self._index.unlink(missing_ok=True)
                self._outputs.unlink(missing_ok=True)
            used(self.folder)
            yield self

    def note(self, facts: dict[str, Any]) -> None:
        """Remember facts about the outputs."""
        self.facts = {**self.facts, **facts}
        self._save()

    def missing(self, needed: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of the needed images that have no output yet, or a damaged one, which is told."""
        self._check(needed[(self._checksums[needed] != _ABSENT) & ~self._intact[needed]])
        return needed[~self._intact[needed]]

    def write(self, indices: NDArray[np.int64], outputs: NDArray[Any]) -> None:
        """Add the outputs (n, ...) of some images. They count as computed once ``commit`` was called."""
        if self._outputs.is_file():
            rows = Rows(self._outputs)
        else:
            rows = Rows.create(self._outputs, (self.images, *outputs.shape[1:]), outputs.dtype)
        values = np.ascontiguousarray(outputs, dtype=rows.dtype)
        rows[indices] = values
        self._written[indices] = _checksums(values)

    def commit(self, indices: NDArray[np.int64]) -> None:
        """What was written for these images is complete."""
        self._checksums[indices] = self._written[indices]
        self._intact[indices] = True
        self._save()

    def outputs(self) -> Rows:
        """All outputs by image; those of images that were never asked for are zero."""
        return Rows(self._outputs)

    def _begin(self) -> None:
        """Nothing is there."""
        self.facts = {}
        #: By image: checksums of what was computed and of what was written, and what was found to be whole.
        self._checksums = np.full(self.images, _ABSENT, dtype=np.int64)
        self._written = self._checksums.copy()
        self._intact = np.zeros(self.images, dtype=bool)

    def _read(self) -> bool:
        """Take up what was kept. Returns whether that can be done; damage is told."""
        try:
            record = json.loads(self._index.read_text(encoding="utf-8"))
            if record["checksum"] != _checksum_of(record["index"]):
                raise ValueError("something in it has changed")
            index = record["index"]
            checksums = np.array(index["checksums"], dtype=np.int64)
            if not (checksums != _ABSENT).any():
                return False
            rows = self.outputs()
            if [list(rows.shape), rows.dtype.str] != index["array"]:
                raise ValueError("the array has changed")
        except FileNotFoundError:
            # New, or somebody has removed it.
            return False
        except PermissionError:
            raise
        except Exception:
            # A damaged file can raise anything.
            notices.say(f"Outputs of frozen layers in {self.folder} are damaged; they are computed again.")
            return False
        self._checksums, self.facts = checksums, index["facts"]
        return True

    def _save(self) -> None:
        """The index appears whole or not at all."""
        rows = self.outputs() if self._outputs.is_file() else None
        array = None if rows is None else [list(rows.shape), rows.dtype.str]
        index = {"array": array, "facts": self.facts, "checksums": self._checksums.tolist()}
        files.write_whole(self._index, json.dumps({"checksum": _checksum_of(index), "index": index}))

    def _check(self, indices: NDArray[np.int64]) -> None:
        """Compare outputs with their checksums, a few at a time."""
        if not len(indices):
            return
        rows = self.outputs()
        few = max(1, _PIECE * len(rows) // max(rows.nbytes, 1))
        for start in range(0, len(indices), few):
            part = indices[start : start + few]
            try:
                self._intact[part] = _checksums(rows[part]) == self._checksums[part]
            except PermissionError:
                raise
            except OSError:
                # The disk cannot read them any more.
                self._intact[part] = False
        damaged = int((~self._intact[indices]).sum())
        if damaged:
            notices.say(
                f"{damaged} of {len(indices)} outputs of frozen layers in {self.folder} "
                f"{'is' if damaged == 1 else 'are'} damaged and computed again."
            )


def _checksums(values: NDArray[Any]) -> NDArray[np.int64]:
    """CRC-32 of each row (n, ...), int64 (n,)."""
    # A byte at a time, since not every numeric type can show its bytes otherwise.
    rows = np.ascontiguousarray(values).reshape(len(values), -1).view(np.uint8)
    return np.array([zlib.crc32(row.data) for row in rows], dtype=np.int64)


def _checksum_of(index: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(index, sort_keys=True).encode())

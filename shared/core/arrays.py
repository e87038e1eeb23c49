"""Large arrays on disk, a few rows at a time, so that memory stays flat; and how far two arrays are apart."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import DTypeLike, NDArray

#: Arrays up to this size are read into memory at once: too small to matter there, and quicker than mapping the file.
SMALL_BYTES = 32 * 2**20


def write_header(file: BinaryIO, shape: tuple[int, ...], dtype: DTypeLike) -> None:
    """The beginning of a ``.npy`` file; the values follow.

    NumPy leaves room for more digits, so that headers for any number of rows have the same length.
    """
    header = {"descr": npy.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(file, header)


class Rows:
    """The rows of an array in a ``.npy`` file.

    Read and written with plain file access. What is read through a memory map counts as resident memory of the process,
    which would grow with the data set, and a map of its own for every batch costs page faults.

    Attributes:
        shape: of the whole array, (N, ...).
        dtype: of its values.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        self.shape, self.dtype, self._offset = mapped.shape, mapped.dtype, mapped.offset

    @classmethod
    def create(cls, path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> Rows:
        """A new file of zeros, which takes no room on disk until rows are written."""
        with path.open("wb") as file:
            write_header(file, shape, dtype)
            file.truncate(file.tell() + int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize)
        return cls(path)

    def __len__(self) -> int:
        return int(self.shape[0])

    @property
    def nbytes(self) -> int:
        """Size of the whole array in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * int(self.dtype.itemsize)

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> NDArray[Any]:
        """A copy of the chosen rows, (n, ...)."""
        chosen = self._indices(rows)
        values = np.empty((len(chosen), *self.shape[1:]), self.dtype)
        with self.path.open("rb", buffering=0) as file:
            for first, part in self._stretches(chosen, values):
                file.seek(first)
                while len(part):
                    count = file.readinto(part)
                    if not count:
                        raise OSError(f"{self.path} ends before its last row")
                    part = part[count:]
        return values

    def __setitem__(self, rows: NDArray[np.int64] | slice, values: NDArray[Any]) -> None:
        """Write the chosen rows."""
        chosen = self._indices(rows)
        whole = np.empty((len(chosen), *self.shape[1:]), self.dtype)
        whole[:] = values
        with self.path.open("r+b") as file:
            for first, part in self._stretches(chosen, whole):
                file.seek(first)
                file.write(part)

    def _indices(self, rows: NDArray[np.int64] | slice) -> NDArray[np.int64]:
        chosen = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else np.asarray(rows, dtype=np.int64)
        if len(chosen) and not 0 <= chosen.min() <= chosen.max() < len(self):
            raise IndexError(f"{self.path} has {len(self)} rows, and not row {chosen.min()} or {chosen.max()}")
        return chosen

    def _stretches(self, chosen: NDArray[np.int64], values: NDArray[Any]) -> Iterator[tuple[int, memoryview]]:
        """Where each stretch of neighbouring rows begins in the file, and its part of the values as bytes."""
        row_bytes = values[:1].nbytes
        bounds = [0, *(np.flatnonzero(np.diff(chosen) != 1) + 1).tolist(), len(chosen)]
        for start, stop in itertools.pairwise(bounds):
            if stop > start and row_bytes:
                part = values[start:stop].reshape(-1).view(np.uint8)
                yield self._offset + int(chosen[start]) * row_bytes, part.data

    def in_memory_if_small(self) -> Rows | NDArray[Any]:
        """The whole array if it is small, otherwise these rows."""
        return self[:] if self.nbytes <= SMALL_BYTES else self


def largest_difference(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Largest absolute difference of two arrays; infinite where only one of them is finite."""
    both_alike = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        difference = np.where(both_alike, 0.0, np.abs(a.astype(np.float64) - b.astype(np.float64)))
    most = float(difference.max(initial=0.0))
    return most if math.isfinite(most) else math.inf


def finite(value: float) -> float | None:
    """The value, or None where JSON could not say it: infinite, or not a number."""
    return value if math.isfinite(value) else None

"""Large arrays on disk, read and written a few rows at a time, so that memory stays flat however many there are."""

from __future__ import annotations

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

    The file is mapped anew for every access. A map that stays open counts what was ever read through it as resident
    memory of the process, which would then grow with the data set.

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

    def _map(self, mode: Any) -> NDArray[Any]:
        return np.memmap(self.path, self.dtype, mode, self._offset, self.shape)

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> NDArray[Any]:
        """A copy of the chosen rows, (n, ...)."""
        return np.array(self._map("r")[rows])

    def __setitem__(self, rows: NDArray[np.int64] | slice, values: NDArray[Any]) -> None:
        """Write the chosen rows."""
        self._map("r+")[rows] = values

    def in_memory_if_small(self) -> Rows | NDArray[Any]:
        """The whole array if it is small, otherwise these rows."""
        return self[:] if self.nbytes <= SMALL_BYTES else self

"""Arrays of vectors that a user's encoder made: files that are data and stay so."""

from __future__ import annotations

import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from transfer_parity.shared.core import files, machine, paths
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.core.text import brief

Named = dict[str, NDArray[Any]]
#: How a zip archive begins.
_ZIP = b"PK"
#: What damaged, encrypted and strangely compressed files raise, and such as claim more than there is.
_DAMAGED = (
    *(ValueError, EOFError, KeyError, RuntimeError, NotImplementedError, MemoryError),
    *(zipfile.BadZipFile, zlib.error),
)


def read(source: str, what: str) -> NDArray[Any]:
    """One array of floating-point numbers, mapped from a .npy file.

    Args:
        source: the file.
        what: the vectors, for messages.

    Raises:
        BadInput: the file is missing or damaged, or holds something else.
    """
    found = _loaded(source, what, "give a .npy file")
    if isinstance(found, dict):
        raise BadInput(f"{source} holds several arrays; save one array of {what} with numpy.save.")
    return _numbers(source, found, "save one array of float32 with numpy.save")


def read_named(source: str, what: str, values: str, names: str) -> tuple[NDArray[Any], list[str] | None]:
    """The same, or from an .npz file an array of numbers with names for its rows beside it.

    Args:
        source: the file.
        what: the vectors, for messages.
        values: what the array of numbers is called in an .npz file.
        names: what that of the names is called.

    Returns:
        The numbers, and the names if there are any.

    Raises:
        BadInput: as ``read``, or there is no name for each row.
    """
    found = _loaded(source, what, "give a .npy or an .npz file")
    if not isinstance(found, dict):
        return _numbers(source, found, "save one array of float32 with numpy.save"), None
    wanted = f"write it with numpy.savez({source!r}, {values}=..., {names}=...)"
    if missing := [name for name in (values, names) if name not in found]:
        raise BadInput(f"{source} has no array {missing[0]}; {wanted}.")
    numbers = _numbers(source, found[values], wanted)
    if found[names].dtype.kind != "U" or found[names].shape != numbers.shape[:1]:
        raise BadInput(f"{source} does not have a text in {names} for each row of {values}; {wanted}.")
    return numbers, found[names].tolist()


def digest(source: str) -> str:
    """Of the file's bytes; of none if it cannot be read, which reading will say."""
    try:
        return files.sha256(paths.expanded(source))
    except OSError:
        return ""


def shape(array: NDArray[Any]) -> str:
    """Of an array, in words."""
    return " x ".join(map(str, array.shape)) or "a single number"


def _loaded(source: str, what: str, wanted: str) -> NDArray[Any] | Named:
    path = paths.expanded(source)
    try:
        with path.open("rb") as file:
            if file.read(len(_ZIP)) == _ZIP:
                # Opened here, since NumPy leaves open what it cannot read.
                file.seek(0)
                with np.load(file, allow_pickle=False) as members:
                    return _members(source, members)
        # Mapped first: a file that claims to be larger than it is fails, and takes no memory.
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadInput(f"{what} {source} cannot be read ({reason}); {wanted}.") from None
    except _DAMAGED as error:
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        # NumPy takes everything that it does not know for pickled objects, and says how to load them all the same.
        told = "" if "pickle" in reason or "objects" in reason else f" ({reason})"
        raise BadInput(
            f"{source} is not an array of numbers as numpy.save writes it{told}; pickled objects are not read."
        ) from None
    if not isinstance(found, np.ndarray):
        raise BadInput(f"{source} is not an array of numbers as numpy.save writes it; {wanted}.")
    return found


def _members(source: str, found: NpzFile) -> Named:
    """All arrays of an .npz file, whose members may be compressed.

    Raises:
        BadInput: they would fill the memory, or are no numbers and no text.
    """
    needed = sum(member.file_size for member in found.zip.infolist()) if found.zip is not None else 0
    if needed > 0.8 * (free := machine.available_memory()):
        raise BadInput(
            f"{source} unpacks to {needed / 2**30:.0f} GiB, and {free / 2**30:.0f} are free; save float32, or fewer "
            "rows."
        )
    held: Named = {}
    for name in found.files:
        try:
            held[name] = found[name]
        except ValueError as error:
            if "Object arrays" not in str(error):
                raise
            raise BadInput(
                f"{source}: the array {brief(name)} holds Python objects, and pickled ones are not read; make names "
                "text, with str(path)."
            ) from None
    return held


def _numbers(source: str, found: NDArray[Any], wanted: str) -> NDArray[Any]:
    if found.dtype.kind != "f":
        raise BadInput(f"{source} does not hold floating-point numbers; {wanted}.")
    return found

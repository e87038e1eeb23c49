"""A vector for each class, as any text encoder makes it: a user's file, which is data and stays so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transfer_parity.shared.core import files, paths
from transfer_parity.shared.core.errors import BadInput


def load(source: str, classes: Sequence[str], length: int) -> NDArray[np.float64]:
    """The vectors as float64 (classes, length), in the order of the classes.

    Args:
        source: a .npy file.
        classes: names in their order.
        length: of the image features that they are compared with.

    Raises:
        BadInput: the file is missing or damaged, or does not hold what it should.
    """
    # Mapped first: a file that claims to be larger than it is fails, and takes no memory.
    found = _read(source)
    if found.ndim != 2 or len(found) != len(classes):
        shape = " x ".join(map(str, found.shape)) or "a single number"
        raise BadInput(
            f"{source} is {shape}, and there are {len(classes)} classes; give one row for each, in the order of their "
            "names."
        )
    if found.shape[1] != length:
        raise BadInput(
            f"{source} has {found.shape[1]} numbers for a class, and image features have {length}; give vectors of an "
            "encoder that was trained together with these features."
        )
    vectors = np.array(found, np.float64)
    for name, row in zip(classes, vectors, strict=True):
        if not np.isfinite(row).all():
            raise BadInput(f"{source} has numbers that are not finite for class {name}; compute them again.")
        if not row.any():
            raise BadInput(f"{source} has nothing but zeros for class {name}; give a vector with a direction.")
    return vectors


def digest(source: str) -> str:
    """Of the file's bytes; of none if it cannot be read, which ``load`` will say."""
    try:
        return files.sha256(paths.expanded(source))
    except OSError:
        return ""


def _read(source: str) -> NDArray[Any]:
    path = paths.expanded(source)
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadInput(f"text features {source} cannot be read ({reason}); give a .npy file.") from None
    except (ValueError, EOFError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise BadInput(
            f"{source} is not an array of numbers as numpy.save writes it ({reason}); pickled objects are not read."
        ) from None
    if not isinstance(found, np.ndarray) or found.dtype.kind != "f":
        raise BadInput(f"{source} does not hold floating-point numbers; save one array of float32 with numpy.save.")
    return found

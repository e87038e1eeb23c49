"""A vector for each image of a data set, as any image encoder makes it: a user's file, which is data and stays so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.core.text import brief
from transfer_parity.shared.data import vectors
from transfer_parity.shared.data.folders import Dataset

#: What the arrays of an .npz file are called: the vectors, and the images' names.
FEATURES, FILES = "features", "files"
#: Rows that are looked at together.
_BLOCK = 4096


def load(source: str, data: Dataset, dtype: DTypeLike) -> NDArray[Any]:
    """The vectors (N, d) of all images of a data set, in its order.

    Args:
        source: an .npz file with the arrays ``features`` (M, d) and ``files`` (M,), names of images below the data
            set's folder in any order; or a .npy file (N, d), in the data set's order: the part that is tested on, if
            there is one, behind the other, and in each part class by class and file by file, both sorted by name.
        data: whose images.
        dtype: of the arithmetic, in which they come.

    Raises:
        BadInput: the file is missing or damaged, or does not hold what it should.
    """
    found, names = vectors.read_named(source, "image features", FEATURES, FILES)
    if found.ndim != 2 or not found.shape[1]:
        raise BadInput(f"{source} is {vectors.shape(found)}; give one row of numbers for each image.")
    if names is None:
        _check_order(source, len(found), data)
    rows = None if names is None else _by_name(source, names, data)
    # What is too large for the type is not finite in it.
    with np.errstate(over="ignore"):
        chosen = np.array(found if rows is None else found[rows], dtype, order="C")
    for start in range(0, len(chosen), _BLOCK):
        finite = np.isfinite(chosen[start : start + _BLOCK]).all(axis=1)
        if not finite.all():
            image = _names(data)[start + int(np.flatnonzero(~finite)[0])]
            raise BadInput(f"{source} has numbers that are not finite for {image}; compute them again.")
    return chosen


def _check_order(source: str, rows: int, data: Dataset) -> None:
    """Make sure that rows without names are those of the data set's images."""
    named = f"give an .npz with the images' names in {FILES}"
    if data.skipped:
        raise BadInput(
            f"{source} does not say which of its rows belong to the {len(data.skipped)} unreadable files that are left "
            f"out; {named}, or remove those files."
        )
    if rows != len(data):
        raise BadInput(
            f"{source} has {rows} rows, and {data.name} has {len(data)} images; give one row for each, or {named}."
        )


def _by_name(source: str, names: Sequence[str], data: Dataset) -> NDArray[np.int64]:
    """Which row is that of each image; rows of other images are left out."""
    given = [name.replace("\\", "/").removeprefix("./") for name in names]
    found = {name: row for row, name in enumerate(given)}
    if len(found) < len(given):
        twice = next(name for name, count in Counter(given).items() if count > 1)
        raise BadInput(f"{source} names {brief(twice)} more than once; give one row for each image.")
    wanted = _names(data)
    if missing := [name for name in wanted if name not in found]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise BadInput(
            f"{source} has no row for {missing[0]}{more}; give names as they are below {data.name}, such as this one."
        )
    return np.array([found[name] for name in wanted], np.int64)


def _names(data: Dataset) -> list[str]:
    return [name for name, _ in data.pictures.decoders()]

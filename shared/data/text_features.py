"""A vector for each class, as any text encoder makes it: a user's file, which is data and stays so."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.data import vectors


def load(source: str, classes: Sequence[str], length: int) -> NDArray[np.float64]:
    """The vectors as float64 (classes, length), in the order of the classes.

    Args:
        source: a .npy file.
        classes: names in their order.
        length: of the image features that they are compared with.

    Raises:
        BadInput: the file is missing or damaged, or does not hold what it should.
    """
    found = vectors.read(source, "text features")
    if found.ndim != 2 or len(found) != len(classes):
        raise BadInput(
            f"{source} is {vectors.shape(found)}, and there are {len(classes)} classes; give one row for each, in the "
            "order of their names."
        )
    if found.shape[1] != length:
        raise BadInput(
            f"{source} has {found.shape[1]} numbers for a class, and image features have {length}; give vectors of an "
            "encoder that was trained together with these features."
        )
    rows = np.array(found, np.float64)
    for name, row in zip(classes, rows, strict=True):
        if not np.isfinite(row).all():
            raise BadInput(f"{source} has numbers that are not finite for class {name}; compute them again.")
        if not row.any():
            raise BadInput(f"{source} has nothing but zeros for class {name}; give a vector with a direction.")
    return rows

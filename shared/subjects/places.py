"""Where in an array two sides differ, and how much: what a report draws of the first divergence."""

from __future__ import annotations

import numpy as np

from transfer_parity.shared.contract.rungs import Array
from transfer_parity.shared.core.arrays import finite
from transfer_parity.shared.subjects.document import Place

#: Most channels, and rows and columns of places, that are told; more are taken together.
CHANNELS, PLACES = 256, 64
#: Powers of ten between the bars of the histogram.
EDGES = tuple(10.0**power for power in range(-16, 3, 2))


def of(mine: Array, theirs: Array) -> Place:
    """Where two arrays of one shape differ most, and how their differences are spread.

    Args:
        mine: canonical, channels or features last.
        theirs: the other side's.
    """
    difference = absolute(mine, theirs)
    index = [int(each) for each in np.unravel_index(int(difference.argmax()), difference.shape)]
    at = tuple(index)
    return Place(
        index=index,
        reference=finite(float(mine[at])),
        candidate=finite(float(theirs[at])),
        edges=list(EDGES),
        counts=np.bincount(np.searchsorted(EDGES, difference.reshape(-1), "right"), minlength=len(EDGES) + 1).tolist(),
        channels=_told(_fewer(_channels(difference), CHANNELS, 0)),
        places=[_told(row) for row in _fewer(_fewer(_places(difference), PLACES, 0), PLACES, 1)],
    )


def absolute(mine: Array, theirs: Array) -> Array:
    """Absolute differences, at least one-dimensional; infinite where a value is not a number or only one is finite."""
    one, other = (np.atleast_1d(np.asarray(each)).astype(np.float64) for each in (mine, theirs))
    with np.errstate(invalid="ignore"):
        found = np.where(one == other, 0.0, np.abs(one - other))
    found[~np.isfinite(found)] = np.inf
    return np.asarray(found)


def turned(mine: Array, theirs: Array) -> Array:
    """The other side's inputs with one axis moved, where that makes them this side's; else as they are.

    A user's preprocessing may move channels. Of several axes of one size it is the one that leaves least difference.
    """
    axes = range(1, theirs.ndim)
    moved = [np.moveaxis(theirs, one, other) for one in axes for other in axes]
    fitting = [each for each in moved if each.shape == mine.shape]
    return min(fitting, key=lambda each: float(absolute(mine, each).max(initial=0.0)), default=theirs)


def _channels(difference: Array) -> Array:
    return np.asarray(difference.reshape(-1, difference.shape[-1]).max(axis=0))


def _places(difference: Array) -> Array:
    """Rows and columns of feature maps, examples and steps of sequences, examples and features of vectors."""
    if difference.ndim == 1:
        return difference[None]
    if difference.ndim < 4:
        return np.asarray(difference.max(axis=2)) if difference.ndim == 3 else difference
    return np.asarray(difference.max(axis=(*range(difference.ndim - 3), difference.ndim - 1)))


def _fewer(values: Array, most: int, axis: int) -> Array:
    """Neighbours along an axis taken together, by their largest."""
    size = values.shape[axis]
    if size <= most:
        return values
    starts = np.arange(most) * size // most
    return np.asarray(np.maximum.reduceat(values, starts, axis=axis))


def _told(values: Array) -> list[float | None]:
    return [finite(float(each)) for each in values]

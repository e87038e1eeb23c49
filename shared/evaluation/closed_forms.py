"""Classifiers of features in closed form: class means on the unit sphere, and their re-estimate from unlabelled images.

Nothing here is drawn and nothing is iterated. All arithmetic is float64, a block of rows at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: Lengths below it count as it, so that a zero vector stays one: as torch's ``normalize`` and Keras's
#: ``UnitNormalization`` have it. TensorFlow's ``l2_normalize`` compares the square with its epsilon.
EPSILON = 1e-12
#: Rows that are read at a time.
_ROWS = 1024


class Table(Protocol):
    """Rows of numbers, in memory or on disk."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Array: ...


def unit(vectors: Array) -> Array:
    """Vectors (n, d), float64, each divided by its length."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Array = vectors / np.maximum(lengths, EPSILON)
    return found


@dataclass(frozen=True)
class CosineHead:
    """Classifies by the cosine between features and one vector for each class.

    Attributes:
        mean: what is subtracted from features first, (d,).
        prototypes: vectors of the classes, of any length, (classes, d).
        scale: of the logits, which are cosines times this.
        nearest: of every query that counted for the class whose mean was nearest, that class and by how much its cosine
            exceeded the next one's, in units of the logits: float64 (m, 2). None where none counted. Where rounding is
            as large, another computation lets it count for the next class, and all logits are others.
    """

    mean: Array
    prototypes: Array
    scale: float = 1.0
    nearest: Array | None = None

    def logits(self, features: Array) -> Array:
        """Cosines times the scale, (m, classes), of features (m, d)."""
        found: Array = self.scale * unit(np.asarray(features, np.float64) - self.mean) @ unit(self.prototypes).T
        return found


@dataclass(frozen=True)
class CacheHead:
    """Tip-Adapter (Zhang et al., 2022): a text head, and a cache of labelled images that adds to its logits.

    Logits are ``scale f T' + alpha exp(-beta (1 - f F')) L``, with all vectors made as long as 1. Nothing is trained.

    Attributes:
        text: vectors of the classes, T, (classes, d).
        keys: features of the labelled images, F, (n, d).
        values: their classes as one-hot rows, L, (n, classes).
        scale: of the cosines with the text.
        alpha: how much the cache counts.
        beta: how fast it falls with the distance.
    """

    text: Array
    keys: Array
    values: Array
    scale: float
    alpha: float
    beta: float

    def logits(self, features: Array) -> Array:
        """Of features (m, d): (m, classes)."""
        x = unit(np.asarray(features, np.float64))
        near = np.exp(-self.beta * (1 - x @ unit(self.keys).T))
        found: Array = self.scale * x @ unit(self.text).T + self.alpha * near @ self.values
        return found


def nearest_mean(features: Table, labels: Array, classes: int, scale: float = 1.0) -> CosineHead:
    """SimpleShot (Wang et al., 2019, CL2N): features minus their mean, made as long as 1; then the mean of each class.

    Args:
        features: of the labelled images, (n, d).
        labels: their classes, (n,).
        classes: number of them. One without images gets a zero vector, whose cosine with everything is 0.
        scale: of the logits.
    """
    mean = np.sum([x.sum(axis=0) for _, x in _blocks(features)], axis=0) / len(features)
    sums = np.zeros((classes, len(mean)))
    for rows, x in _blocks(features):
        sums += np.eye(classes)[labels[rows]].T @ unit(x - mean)
    counts = np.bincount(labels, minlength=classes)[:, None]
    return CosineHead(mean, sums / np.maximum(counts, 1), scale)


def prototypes(features: Table, labels: Array, classes: int, queries: Table, scale: float = 1.0) -> CosineHead:
    """BD-CSPN (Liu et al., 2020): class means, re-estimated with images whose classes are not known.

    It begins with the head of ``nearest_mean``, and works on features as that one centres and normalises them. Queries
    are moved by the difference of the two means, and each counts for the class whose mean is nearest. A vector's
    weight in its class is exp(cosine with the class mean) over the sum of these, for labelled images and queries alike.
    As in easyfsl, those cosines have no factor, and what is classified in the end is not moved.

    Args:
        features: of the labelled images, (n, d).
        labels: their classes, (n,).
        classes: number of them.
        queries: features of the others, (m, d): as a rule those that are to be classified, which makes it transductive.
        scale: of the logits.
    """
    head = nearest_mean(features, labels, classes, scale)
    if not len(queries):
        return head
    means = unit(head.prototypes)
    centres = [
        np.sum([unit(x - head.mean).sum(axis=0) for _, x in _blocks(each)], axis=0) / len(each)
        for each in (features, queries)
    ]
    sums, weights, nearest = np.zeros_like(means), np.zeros((classes, 1)), np.zeros((len(queries), 2))
    for each, known, shift in ((features, True, 0.0), (queries, False, centres[0] - centres[1])):
        for rows, x in _blocks(each):
            x = unit(x - head.mean) + shift
            cosines = unit(x) @ means.T
            own = labels[rows] if known else cosines.argmax(axis=1)
            if not known:
                best = np.sort(cosines, axis=1)
                lead = best[:, -1] - best[:, -2] if classes > 1 else np.full(len(own), np.inf)
                nearest[rows] = np.stack([own, scale * lead], axis=1)
            counted = np.exp(cosines) * np.eye(classes)[own]
            sums += counted.T @ x
            weights += counted.sum(axis=0)[:, None]
    found = np.divide(sums, weights, out=np.zeros_like(sums), where=weights > 0)
    return CosineHead(head.mean, found, scale, nearest)


def zero_shot(text: Array, scale: float) -> CosineHead:
    """Cosines of image features and vectors of the classes that a text encoder made, (classes, d): no label is used."""
    return CosineHead(np.zeros(text.shape[1]), text, scale)


def tip_adapter(
    features: Array, labels: Array, text: Array, scale: float, alpha: float = 1.0, beta: float = 5.5
) -> CacheHead:
    """A text head with a cache of the labelled images, features (n, d) of the classes ``labels`` (n,)."""
    return CacheHead(text, np.asarray(features, np.float64), np.eye(len(text))[labels], scale, alpha, beta)


def _blocks(features: Table) -> Iterator[tuple[slice, Array]]:
    """Some rows at a time, as float64, and which."""
    for start in range(0, len(features), _ROWS):
        rows = slice(start, start + _ROWS)
        yield rows, np.asarray(features[rows], np.float64)

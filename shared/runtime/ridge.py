"""A linear head in closed form: ridge regression, which has no steps and no noise of an optimizer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transfer_parity.shared.core.arrays import Rows
from transfer_parity.shared.zoo.pair import HEAD

#: Rows that are read at a time.
_ROWS = 1024


def fit(
    features: Rows | NDArray[Any], chosen: NDArray[np.int64], labels: NDArray[np.int64], classes: int, penalty: float
) -> dict[str, NDArray[np.float64]]:
    """The weights of a linear head that predicts one-hot targets with least squares.

    Minimises ``|features @ weight.T + bias - targets|^2 + penalty |weight|^2`` (Hoerl and Kennard, 1970); the bias is
    not penalised. Solved in float64: by scikit-learn if there are fewer images than features, else by the normal
    equations, summed up over a few images at a time so that memory does not grow with their number.

    Args:
        features: of all images, (N, d).
        chosen: indices of the training images, (n,).
        labels: classes of all images, (N,).
        classes: number of them.
        penalty: weight of the squared norm, 0 or more.

    Returns:
        The head's parameters by neutral name: weight (classes, d), bias (classes,).
    """
    if len(chosen) <= features.shape[1]:
        # Takes a second, and only the workers that need it shall wait for it.
        from sklearn.linear_model import Ridge

        inputs = features[chosen].astype(np.float64)
        solved = Ridge(alpha=penalty, solver="cholesky").fit(inputs, np.eye(classes)[labels[chosen]])
        weight, bias = solved.coef_, solved.intercept_
    else:
        weight, bias = _summed(features, chosen, np.eye(classes)[labels[chosen]], penalty)
    return {f"{HEAD}output.weight": weight, f"{HEAD}output.bias": bias}


def _summed(
    features: Rows | NDArray[Any], chosen: NDArray[np.int64], targets: NDArray[np.float64], penalty: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weight and bias from sums over the centred features; targets are (n, classes)."""
    from scipy import linalg

    def batches() -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        for start in range(0, len(chosen), _ROWS):
            part = slice(start, start + _ROWS)
            yield features[chosen[part]].astype(np.float64), targets[part]

    centre, target = sum(x.sum(axis=0) for x, _ in batches()) / len(chosen), targets.mean(axis=0)
    squares, products = np.diag(np.full(features.shape[1], float(penalty))), 0.0
    for x, y in batches():
        x -= centre
        squares += x.T @ x
        products += x.T @ (y - target)
    try:
        weight = linalg.solve(squares, products, assume_a="pos").T
    except linalg.LinAlgError:
        # Without a penalty, features that depend on each other: the smallest of all solutions.
        weight = linalg.lstsq(squares, products)[0].T
    return weight, target - weight @ centre

"""A linear head in closed form: ridge regression, which has no steps and no noise of an optimizer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared import zoo


def fit(
    features: NDArray[Any], labels: NDArray[np.int64], classes: int, penalty: float
) -> dict[str, NDArray[np.float64]]:
    """The weights of a linear head that predicts one-hot targets with least squares.

    Minimises ``|features @ weight.T + bias - targets|^2 + penalty |weight|^2`` (Hoerl and Kennard, 1970); the bias is
    not penalised. Solved in float64 by scikit-learn.

    Args:
        features: of the training images, (n, d).
        labels: their classes, (n,).
        classes: number of them.
        penalty: weight of the squared norm, 0 or more.

    Returns:
        The head's parameters by neutral name: weight (classes, d), bias (classes,).
    """
    # Takes a second, and only the workers that need it shall wait for it.
    from sklearn.linear_model import Ridge

    solved = Ridge(alpha=penalty, solver="cholesky").fit(features.astype(np.float64), np.eye(classes)[labels])
    return {f"{zoo.HEAD}output.weight": solved.coef_, f"{zoo.HEAD}output.bias": solved.intercept_}

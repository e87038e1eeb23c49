"""How well frozen features fit the classes of a data set, told without training: LogME, and nearest class means."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, stats
from scipy.spatial.distance import cdist

from transfer_parity.shared.evaluation import metrics

#: Steps of the fixed-point iteration, and the relative change of alpha / beta below which it has ended. The evidence is
#: flat at its maximum, so that its own error is about the square of this.
STEPS, TOLERANCE = 1000, 1e-8
#: How far alpha / beta may go below the smallest and above the largest squared singular value. Beyond, the evidence is
#: that of no noise or of no signal, to about this relative precision; and of features that contain the labels, which
#: would have infinite evidence, it is that of noise this much weaker than the labels.
FAR = 1e10
#: Fewer values than this say nothing about a ranking.
ENOUGH = 3

Array = NDArray[Any]


def log_evidence(features: Array, targets: Array) -> NDArray[np.float64]:
    """The maximum over alpha and beta of the log evidence of Bayesian linear models, one for each column of targets.

    You et al., LogME (ICML 2021), section 4: weights w ~ N(0, I / alpha) and targets y ~ N(F w, I / beta). Their
    log evidence, with A = alpha I + beta F'F and m = beta A^-1 F'y, is

        log p(y | F) = n/2 log beta + D/2 log alpha - n/2 log 2 pi - beta/2 |F m - y|^2 - alpha/2 m'm - 1/2 log |A|

    and the fixed-point iteration repeats, with gamma = sum of beta s^2 / (alpha + beta s^2) over F's singular values s,

        alpha = gamma / m'm,   beta = (n - gamma) / |F m - y|^2.

    Both need only z = U'y of F = U S V', and the iteration only t = alpha / beta. At its end beta is the one that
    maximises the evidence for that t, n / (sum of z^2 t / (t + s^2) + what lies outside of F's columns), in a fixed
    point the iteration's own. Nothing then depends on the scale of the features.

    Args:
        features: (n, D), finite.
        targets: (n, K).

    Returns:
        Nats, (K,).
    """
    f, y = np.asarray(features, np.float64), np.asarray(targets, np.float64)
    n = len(f)
    u, s, _ = linalg.svd(f, full_matrices=False)
    kept = s > s.max(initial=0.0) * max(f.shape) * np.finfo(np.float64).eps
    u, squares = u[:, kept], s[kept, None] ** 2
    explained = (u.T @ y) ** 2
    total = (y**2).sum(axis=0)
    # What rounding leaves where n directions span everything is nothing.
    outside = np.maximum(total - explained.sum(axis=0), 0) * (len(squares) < n)
    t = _ratio(squares, explained, outside, n)
    beta = n / ((explained * t / (t + squares)).sum(axis=0) + outside)
    evidence = n * (np.log(beta) - 1 - math.log(2 * math.pi)) - np.log1p(squares / t).sum(axis=0)
    return np.asarray(evidence / 2)


def _ratio(squares: Array, explained: Array, outside: Array, n: int) -> Array:
    """alpha / beta at the fixed point, (K,).

    Args:
        squares: squared singular values, (r, 1).
        explained: squares of U'y, (r, K).
        outside: squared length of each y outside of F's columns, (K,).
        n: number of images.
    """
    t = np.ones_like(outside)
    if len(squares) == 0:
        return t
    lowest, highest = squares.min() / FAR, squares.max() * FAR
    t *= squares.mean()
    for _ in range(STEPS):
        shrunk = t + squares
        gamma = (squares / shrunk).sum(axis=0)
        length = (squares * explained / shrunk**2).sum(axis=0)
        # Both by t where all n directions are in F's columns, since both vanish with it.
        residual = t * (explained / shrunk**2).sum(axis=0) + outside / t
        freedom = (1 / shrunk).sum(axis=0) + (n - len(squares)) / t
        with np.errstate(divide="ignore", over="ignore"):
            updated = np.clip(gamma * residual / (length * freedom), lowest, highest)
        moved = np.abs(updated / t - 1).max()
        t = updated
        if moved < TOLERANCE:
            break
    return t


def logme(features: Array, labels: NDArray[np.int64], classes: int) -> float:
    """LogME: log evidence of each class's indicator, averaged over classes, per image. Higher is better.

    Args:
        features: of the training images, (n, D).
        labels: (n,).
        classes: number of them.
    """
    evidence = log_evidence(features, np.eye(classes)[labels])
    return float(evidence.mean() / len(labels))


def nearest_mean_accuracy(
    train: Array, train_labels: NDArray[np.int64], test: Array, test_labels: NDArray[np.int64], classes: int
) -> float:
    """Part of the test images that are nearer to the mean of their class's training images than to any other mean.

    Distances are Euclidean, between features as they are (Mensink et al., 2013, section 3, without a learnt metric).
    Of several means at the same distance, that of the first class counts.

    Args:
        train: features (n, D); test: features (m, D).
        train_labels: (n,), every class at least once; test_labels: (m,).
        classes: number of them, at least two.
    """
    # Here, since it takes longer to import than everything else that the command needs before it starts a worker.
    from sklearn.neighbors import NearestCentroid

    wide = train.astype(np.float64)
    if (wide == wide[0]).all():
        # scikit-learn refuses features that tell nothing. All images are at the same distance from all means.
        return metrics.evaluate(np.zeros((len(test), classes)), test_labels).accuracy
    with warnings.catch_warnings():
        # About deviations within classes, by which its other methods divide: a dead unit has none, and one image a
        # class has none either.
        warnings.simplefilter("ignore")
        means = NearestCentroid().fit(wide, train_labels).centroids_
    # Distances instead of its predictions, so that accuracy is made in one place; and instead of its decision function,
    # which scales features.
    return metrics.evaluate(-cdist(test.astype(np.float64), means), test_labels).accuracy


@dataclass(frozen=True)
class RankCorrelation:
    """How far two orders of the same things agree: 1 the same, 0 unrelated, -1 reversed.

    Attributes:
        tau: Kendall's tau-b.
        weighted_tau: Vigna's weighted tau, in which exchanges among the first count most.
    """

    tau: float
    weighted_tau: float


def rank_correlation(scores: Array, accuracies: Array) -> RankCorrelation | None:
    """How well scores order things by accuracy; None if there are too few, or all scores or accuracies are equal."""
    if len(scores) < ENOUGH or np.ptp(scores) == 0 or np.ptp(accuracies) == 0:
        return None
    return RankCorrelation(
        float(stats.kendalltau(scores, accuracies).statistic), float(stats.weightedtau(scores, accuracies).statistic)
    )

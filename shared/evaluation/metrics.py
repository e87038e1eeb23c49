"""Logits in, metrics out: the only place where accuracy is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The prediction for an image whose logits are not all finite; it is no class and always wrong.
NO_PREDICTION = -1
#: Of the confidence, for the calibration error.
BINS = 15


@dataclass(frozen=True)
class Metrics:
    """How well one run recognises its test images.

    Of several tasks an image has an answer in each, and those count whose true class is known; classes are those of all
    tasks, one task's behind the other's.

    Attributes:
        accuracy: part of the images whose largest logit is their class's; of several tasks, part of the answers.
        macro_precision: precision of each class, averaged with equal weight; 0 for a class that is never predicted.
        macro_recall: recall of each class, averaged with equal weight ("balanced accuracy").
        macro_f1: F1 of each class, averaged with equal weight.
        recalls: of each class; None for one without a test image.
        log_loss: mean negative log likelihood in nats, or None if logits are not finite.
        calibration_error: how far confidence and accuracy are apart, 0 to 1 (see ``calibration_error``), or None
            likewise.
        confusion_matrix: rows are true classes, columns predictions; images without a prediction are in no column.
    """

    accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    recalls: list[float | None]
    log_loss: float | None
    calibration_error: float | None
    confusion_matrix: list[list[int]]


def parts(logits: NDArray[Any], tasks: Sequence[int]) -> list[NDArray[Any]]:
    """Logits of each task, (N, its classes): views of those of all, (N, classes), which stand side by side.

    Args:
        logits: of all tasks.
        tasks: number of classes of each; none where there is but one task.
    """
    return np.split(logits, np.cumsum(tasks)[:-1], axis=1) if tasks else [logits]


def predictions(logits: NDArray[Any], tasks: Sequence[int] = ()) -> NDArray[np.int64]:
    """Class of the largest logit, int64 (N,); the first one if several are equal.

    Args:
        logits: (N, classes).
        tasks: as in ``parts``. With several the classes are (N, T): one for each, counted over all tasks.
    """
    if tasks:
        found = np.stack([predictions(part) for part in parts(logits, tasks)], axis=1)
        return np.where(found == NO_PREDICTION, NO_PREDICTION, found + np.cumsum([0, *tasks[:-1]]))
    finite = np.isfinite(logits).all(axis=1)
    return np.where(finite, np.where(finite[:, None], logits, 0).argmax(axis=1), NO_PREDICTION)


def probabilities(logits: NDArray[Any]) -> NDArray[np.float64]:
    """The softmax of logits (N, classes), in float64 whatever they are in."""
    wide = logits.astype(np.float64)
    return np.asarray(np.exp(wide - np.logaddexp.reduce(wide, axis=1, keepdims=True)))


def correct(logits: NDArray[Any], labels: NDArray[np.int64], tasks: Sequence[int] = ()) -> NDArray[np.bool_]:
    """Which answers are right, (A,): one for each image, or for each known label. Arguments as in ``evaluate``."""
    right: NDArray[np.bool_] = (predictions(logits, tasks) == labels)[labels >= 0]
    return right


def evaluate(logits: NDArray[Any], labels: NDArray[np.int64], tasks: Sequence[int] = ()) -> Metrics:
    """Metrics of one run.

    Args:
        logits: (N, classes).
        labels: true classes, (N,). Classes without a test image do not count in the macro averages. With several tasks,
            (N, T), counted over all tasks, and -1 where the class is not known.
        tasks: as in ``parts``.
    """
    columns = labels.reshape(len(labels), -1)
    known = columns >= 0
    predicted = predictions(logits, tasks).reshape(columns.shape)[known]
    images, labels = np.nonzero(known)[0], columns[known]
    present = np.unique(labels)
    log_loss = calibration = None
    if np.isfinite(logits).all():
        wide = parts(logits.astype(np.float64), tasks)
        # The log of the softmax, which is a task's own.
        each = [part - np.logaddexp.reduce(part, axis=1, keepdims=True) for part in wide]
        log_loss = float(-np.concatenate(each, axis=1)[images, labels].mean())
        surest = np.stack([part.max(axis=1) for part in each], axis=1)
        calibration = calibration_error(np.exp(surest[known]), predicted == labels)
    matrix = confusion_matrix(labels, predicted, logits.shape[1])
    hits = np.diag(matrix)[present]
    # Not the row's sum: images without a prediction are in no column.
    actual, claimed = np.bincount(labels)[present], matrix.sum(axis=0)[present]
    recalls = hits / actual
    recall_of = dict(zip(present.tolist(), recalls.tolist(), strict=True))
    return Metrics(
        accuracy=float((predicted == labels).mean()),
        # Of a class that is never predicted, 0 by convention.
        macro_precision=float((hits / np.maximum(claimed, 1)).mean()),
        macro_recall=float(recalls.mean()),
        macro_f1=float((2 * hits / (actual + claimed)).mean()),
        recalls=[recall_of.get(label) for label in range(logits.shape[1])],
        log_loss=log_loss,
        calibration_error=calibration,
        confusion_matrix=matrix.tolist(),
    )


def by_task(logits: NDArray[Any], labels: NDArray[np.int64], tasks: Sequence[int]) -> list[Metrics]:
    """Metrics of each task by itself, over the images whose label of it is known. Arguments as in ``evaluate``."""
    found = []
    for own, column, first in zip(parts(logits, tasks), labels.T, np.cumsum([0, *tasks]), strict=False):
        known = column >= 0
        found.append(evaluate(own[known], column[known] - first))
    return found


def confusion_matrix(labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Images by true class (rows) and prediction (columns), (classes, classes), but for those without a prediction.

    All metrics of classes come from it by the textbook's formulas. scikit-learn has them, too, and the tests compare;
    importing it would take longer than everything else that the parent does.
    """
    certain = predicted != NO_PREDICTION
    places = labels[certain] * classes + predicted[certain]
    return np.bincount(places, minlength=classes**2).reshape(classes, classes)


def calibration_error(confidences: NDArray[np.float64], correct: NDArray[np.bool_]) -> float:
    """Expected calibration error (Naeini et al., 2015; Guo et al., 2017, equation 5), 0 to 1.

    Images are put into 15 bins of equal width by their confidence. In each bin, what is the distance between the mean
    confidence and the accuracy? Averaged over images. With few images in a bin it is biased upwards.

    Args:
        confidences: probability of the predicted class, (N,), 0 to 1.
        correct: whether it is the true one, (N,).
    """
    bins = np.minimum((confidences * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(bins, weights=confidences - correct, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidences))

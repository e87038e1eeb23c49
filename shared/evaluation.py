"""Logits in, metrics out: the only place where accuracy is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.metrics import confusion_matrix, f1_score, recall_score

#: The prediction for an image whose logits are not all finite; it is no class and always wrong.
NO_PREDICTION = -1


@dataclass(frozen=True)
class Metrics:
    """How well one run recognises its test images.

    Attributes:
        accuracy: part of the images whose largest logit is their class's.
        macro_f1: F1 of each class, averaged with equal weight.
        macro_recall: recall of each class, averaged with equal weight ("balanced accuracy").
        log_loss: mean negative log likelihood in nats, or None if logits are not finite.
        confusion_matrix: rows are true classes, columns predictions; images without a prediction are in no column.
    """

    accuracy: float
    macro_f1: float
    macro_recall: float
    log_loss: float | None
    confusion_matrix: list[list[int]]


def predictions(logits: NDArray[Any]) -> NDArray[np.int64]:
    """Class of the largest logit, int64 (N,); the first one if several are equal.

    Args:
        logits: (N, classes).
    """
    finite = np.isfinite(logits).all(axis=1)
    return np.where(finite, np.where(finite[:, None], logits, 0).argmax(axis=1), NO_PREDICTION)


def evaluate(logits: NDArray[Any], labels: NDArray[np.int64]) -> Metrics:
    """Metrics of one run.

    Args:
        logits: (N, classes).
        labels: true classes, (N,). Classes without a test image do not count in the macro averages.
    """
    predicted = predictions(logits)
    every = list(range(logits.shape[1]))
    present = np.unique(labels)
    log_loss = None
    if np.isfinite(logits).all():
        log_likelihood = log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels]
        log_loss = float(-log_likelihood.mean())
    return Metrics(
        accuracy=float((predicted == labels).mean()),
        macro_f1=float(f1_score(labels, predicted, labels=present, average="macro", zero_division=0)),
        macro_recall=float(recall_score(labels, predicted, labels=present, average="macro", zero_division=0)),
        log_loss=log_loss,
        confusion_matrix=confusion_matrix(labels, predicted, labels=every).tolist(),
    )

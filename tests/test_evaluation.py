from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as theirs

from transfer_parity.shared.core import arrays
from transfer_parity.shared.evaluation import metrics


@pytest.mark.parametrize("seed", range(5))
def test_metrics_are_those_of_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, 60)
    logits = random.normal(size=(60, 4)) + 1.5 * np.eye(4)[labels]
    found = metrics.evaluate(logits, labels)
    predicted = logits.argmax(axis=1)
    assert found.accuracy == pytest.approx(theirs.accuracy_score(labels, predicted))
    assert found.macro_f1 == pytest.approx(theirs.f1_score(labels, predicted, average="macro"))
    assert found.macro_recall == pytest.approx(theirs.recall_score(labels, predicted, average="macro"))
    assert found.macro_precision == pytest.approx(theirs.precision_score(labels, predicted, average="macro"))
    assert found.recalls == pytest.approx(theirs.recall_score(labels, predicted, average=None).tolist())
    assert found.log_loss == pytest.approx(theirs.log_loss(labels, softmax(logits, axis=1)))
    assert found.confusion_matrix == theirs.confusion_matrix(labels, predicted).tolist()


def test_a_class_without_test_images_does_not_count() -> None:
    labels = np.array([0, 0, 1, 1])
    logits = np.eye(3)[[0, 2, 1, 1]]
    found = metrics.evaluate(logits, labels)
    assert found.macro_recall == pytest.approx(0.75)
    assert found.recalls == [0.5, 1.0, None]
    assert np.array(found.confusion_matrix).shape == (3, 3)


def test_logits_that_are_not_finite_are_wrong_and_have_no_log_loss() -> None:
    labels = np.array([0, 0])
    found = metrics.evaluate(np.array([[np.nan, 0.0], [1.0, 0.0]]), labels)
    assert (found.accuracy, found.log_loss, found.calibration_error) == (0.5, None, None)


def test_calibration_error_by_hand() -> None:
    confidences = np.array([0.61, 0.62, 0.95, 1.0])
    correct = np.array([True, False, True, True])
    # One bin holds the first two: |1.23 - 1| / 4; the last bin the others: |1.95 - 2| / 4.
    assert metrics.calibration_error(confidences, correct) == pytest.approx((0.23 + 0.05) / 4)
    assert metrics.calibration_error(np.ones(3), np.ones(3, dtype=bool)) == 0


def test_large_logits_do_not_overflow() -> None:
    found = metrics.evaluate(np.array([[1e4, -1e4]]), np.array([1]))
    assert found.log_loss == pytest.approx(2e4)


def test_the_largest_difference_is_not_the_mean() -> None:
    a = np.zeros((100, 10))
    b = a.copy()
    b[3, 4] = 0.5
    assert arrays.largest_difference(a, b) == 0.5
    b[0, 0] = np.nan
    assert arrays.largest_difference(a, b) == math.inf
    assert arrays.largest_difference(b, b) == 0

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics

from shared import differences, evaluation, statistics


@pytest.mark.parametrize("seed", range(5))
def test_metrics_are_those_of_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, 60)
    logits = random.normal(size=(60, 4)) + 1.5 * np.eye(4)[labels]
    found = evaluation.evaluate(logits, labels)
    predicted = logits.argmax(axis=1)
    assert found.accuracy == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert found.macro_f1 == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))
    assert found.macro_recall == pytest.approx(metrics.recall_score(labels, predicted, average="macro"))
    assert found.log_loss == pytest.approx(metrics.log_loss(labels, softmax(logits, axis=1)))
    assert found.confusion_matrix == metrics.confusion_matrix(labels, predicted).tolist()


def test_a_class_without_test_images_does_not_count() -> None:
    labels = np.array([0, 0, 1, 1])
    logits = np.eye(3)[[0, 2, 1, 1]]
    found = evaluation.evaluate(logits, labels)
    assert found.macro_recall == pytest.approx(0.75)
    assert np.array(found.confusion_matrix).shape == (3, 3)


def test_logits_that_are_not_finite_are_wrong_and_have_no_log_loss() -> None:
    labels = np.array([0, 0])
    found = evaluation.evaluate(np.array([[np.nan, 0.0], [1.0, 0.0]]), labels)
    assert (found.accuracy, found.log_loss) == (0.5, None)


def test_large_logits_do_not_overflow() -> None:
    found = evaluation.evaluate(np.array([[1e4, -1e4]]), np.array([1]))
    assert found.log_loss == pytest.approx(2e4)


def test_the_largest_difference_is_not_the_mean() -> None:
    a = np.zeros((100, 10))
    b = a.copy()
    b[3, 4] = 0.5
    assert differences.largest_difference(a, b) == 0.5
    b[0, 0] = np.nan
    assert differences.largest_difference(a, b) == math.inf
    assert differences.largest_difference(b, b) == 0


@pytest.mark.parametrize(
    ("differences", "outcome"),
    [
        ([0.0, 0.0, 0.0], "equivalent"),
        ([0.001, -0.001, 0.002, 0.0, 0.001], "equivalent"),
        ([0.05, 0.06, 0.05, 0.055, 0.052], "different"),
        ([0.05, -0.06, 0.02, -0.03, 0.04], "inconclusive"),
        ([0.05], "inconclusive"),
    ],
)
def test_paired_differences(differences: list[float], outcome: str) -> None:
    assert statistics.paired_difference(np.array(differences), 0.01).outcome == outcome


def test_two_one_sided_tests_keep_their_level_at_the_margin() -> None:
    random = np.random.default_rng(0)
    samples = random.normal(0.01, 0.005, (2000, 5))
    outcomes = [statistics.paired_difference(sample, 0.01).outcome for sample in samples]
    assert outcomes.count("equivalent") / len(outcomes) <= 0.065


def test_no_difference_is_called_different_at_most_at_the_level() -> None:
    random = np.random.default_rng(1)
    samples = random.normal(0, 0.05, (2000, 5))
    outcomes = [statistics.paired_difference(sample, 0.001).outcome for sample in samples]
    assert outcomes.count("different") / len(outcomes) <= 0.065

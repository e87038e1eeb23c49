"""The closed-form head is the minimum of what it says it minimises."""

from __future__ import annotations

import numpy as np
import pytest

from shared import ridge


@pytest.mark.parametrize(("images", "length"), [(40, 6), (6, 40)])
@pytest.mark.parametrize("penalty", [0.1, 10.0])
def test_it_is_the_minimum(images: int, length: int, penalty: float) -> None:
    """Against the normal equations with a column of ones whose weight is not penalised; few images, or many."""
    random = np.random.default_rng(images)
    features, labels = random.normal(size=(images, length)).astype(np.float32), random.integers(0, 3, images)
    found = ridge.fit(features, labels, 3, penalty)
    widened = np.hstack([features.astype(np.float64), np.ones((images, 1))])
    penalties = penalty * np.diag([1.0] * length + [0.0])
    expected = np.linalg.solve(widened.T @ widened + penalties, widened.T @ np.eye(3)[labels])
    assert found["head.output.weight"] == pytest.approx(expected[:-1].T, abs=1e-10)
    assert found["head.output.bias"] == pytest.approx(expected[-1], abs=1e-10)


def test_a_class_without_images_gets_a_row() -> None:
    found = ridge.fit(np.eye(4), np.array([0, 1, 0, 1]), 3, 1.0)
    assert found["head.output.weight"].shape == (3, 4)
    assert found["head.output.weight"][2] == pytest.approx(np.zeros(4))
    assert found["head.output.bias"][2] == pytest.approx(0)

"""The closed-form head is the minimum of what it says it minimises."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from transfer_parity.shared.core.arrays import Rows
from transfer_parity.shared.runtime import ridge


@pytest.mark.parametrize(("images", "length"), [(40, 6), (6, 40), (3000, 5)])
@pytest.mark.parametrize("penalty", [0.1, 10.0])
def test_it_is_the_minimum(images: int, length: int, penalty: float) -> None:
    """Against the normal equations with a column of ones whose weight is not penalised; few images, or many.

    Features have a mean far from zero, and what is not chosen does not count.
    """
    random = np.random.default_rng(images)
    features, labels = random.normal(size=(images, length)).astype(np.float32), random.integers(0, 3, images)
    features += 5
    others = np.full((2, length), 1e6, np.float32)
    chosen = np.arange(2, images + 2)
    found = ridge.fit(np.vstack([others, features]), chosen, np.append([0, 1], labels), 3, penalty)
    widened = np.hstack([features.astype(np.float64), np.ones((images, 1))])
    penalties = penalty * np.diag([1.0] * length + [0.0])
    expected = np.linalg.solve(widened.T @ widened + penalties, widened.T @ np.eye(3)[labels])
    assert found["head.output.weight"] == pytest.approx(expected[:-1].T, abs=1e-10)
    assert found["head.output.bias"] == pytest.approx(expected[-1], abs=1e-10)


def test_a_class_without_images_gets_a_row() -> None:
    found = ridge.fit(np.eye(4), np.arange(4), np.array([0, 1, 0, 1]), 3, 1.0)
    assert found["head.output.weight"].shape == (3, 4)
    assert found["head.output.weight"][2] == pytest.approx(np.zeros(4))
    assert found["head.output.bias"][2] == pytest.approx(0)


def test_features_that_depend_on_each_other() -> None:
    """Without a penalty any weight that fits will do; it takes the smallest, which gives both the same."""
    column = np.linspace(-1, 1, 50)
    found = ridge.fit(np.stack([column, column], axis=1), np.arange(50), (column > 0).astype(np.int64), 2, 0.0)
    weight = found["head.output.weight"]
    assert np.isfinite(weight).all()
    assert weight[:, 0] == pytest.approx(weight[:, 1])


def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    """20,000 images with 500 features are 40 MB in float32, and 80 in each copy in float64 that a solver makes."""
    rows = Rows.create(tmp_path / "features.npy", (20_000, 500), np.float32)
    labels = np.arange(20_000) % 3
    # Once before, so that what is imported and reserved does not count.
    ridge.fit(rows, np.arange(1000), labels, 3, 1.0)
    tracemalloc.start()
    ridge.fit(rows, np.arange(20_000), labels, 3, 1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Three matrices of 500 x 500, two batches of 1,024 images in two types, and the targets.
    assert peak < 30 * 2**20

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from transfer_parity.shared.contract import plan, splits
from transfer_parity.shared.contract.batches import augmented, training_batches
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.core import machine
from transfer_parity.shared.core.errors import BadInput

LABELS = np.repeat(np.arange(3), 8)
NAMES = ["a", "b", "c"]


def drawn(seed: int = 0, shots: Any = 3, own_test: Any = None, **fields: Any) -> plan.Plan:
    recipe = Recipe(
        **{
            "strategy": "finetune",
            "shots": shots,
            "epochs": 4,
            "batch_size": 4,
            "image_size": 32,
            "flip": True,
            "crop": True,
            **fields,
        }
    )
    return plan.draw(recipe, LABELS, own_test, NAMES, seed, recipe.shots[-1])


def test_the_same_seed_gives_the_same_arrays() -> None:
    for one, other in zip(dataclasses.astuple(drawn()), dataclasses.astuple(drawn()), strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_seed_gives_other_arrays() -> None:
    one, other = drawn(0), drawn(1)
    for name in ("train", "order", "flips", "crops"):
        assert not np.array_equal(getattr(one, name), getattr(other, name)), name


def test_a_plan_does_not_change_with_numpys_global_seed() -> None:
    np.random.seed(1)
    one = drawn()
    np.random.seed(2)
    np.testing.assert_array_equal(one.order, drawn().order)


def test_saving_and_loading_keeps_everything(tmp_path: Path) -> None:
    written = drawn()
    written.save(tmp_path / "plan.npz")
    read = plan.Plan.load(tmp_path / "plan.npz")
    for one, other in zip(dataclasses.astuple(written), dataclasses.astuple(read), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("seed", range(5))
def test_shots_are_nested_and_balanced_and_share_a_test_set(seed: int) -> None:
    recipe = Recipe(shots=(1, 2, 5), epochs=1)
    subsets = [splits.split(recipe, LABELS, None, NAMES, seed, k) for k in recipe.shots]
    for (small, _), (large, _) in itertools.pairwise(subsets):
        assert set(small) < set(large)
    for k, (train, test) in zip((1, 2, 5), subsets, strict=True):
        assert np.bincount(LABELS[train]).tolist() == [k, k, k]
        np.testing.assert_array_equal(test, subsets[-1][1])
        assert not set(train) & set(test)
    # What the largest number of shots does not draw is the test set.
    assert len(subsets[-1][0]) + len(subsets[-1][1]) == len(LABELS)


def test_the_same_images_are_drawn_whatever_the_other_shots_are() -> None:
    alone = splits.split(Recipe(shots=2), LABELS, None, NAMES, 0, 2)[0]
    among = splits.split(Recipe(shots=(2, 5)), LABELS, None, NAMES, 0, 2)[0]
    np.testing.assert_array_equal(alone, among)


def test_all_shots_hold_out_a_part_of_each_class() -> None:
    train, test = splits.split(Recipe(shots="all", test_fraction=0.25), LABELS, None, NAMES, 0, "all")
    assert np.bincount(LABELS[test]).tolist() == [2, 2, 2]
    assert sorted([*train, *test]) == list(range(len(LABELS)))


def test_a_folders_own_test_set_is_kept() -> None:
    own_test = np.arange(len(LABELS)) % 2 == 1
    train, test = splits.split(Recipe(shots="all"), LABELS, own_test, NAMES, 0, "all")
    np.testing.assert_array_equal(test, np.flatnonzero(own_test))
    np.testing.assert_array_equal(train, np.flatnonzero(~own_test))


@pytest.mark.parametrize("shots", [8, 9])
def test_a_class_with_too_few_images_is_named(shots: int) -> None:
    with pytest.raises(
        BadInput, match=rf"class 'a' has 8 images, but {shots} shots need {shots}, and 1 more to test on"
    ):
        splits.split(Recipe(shots=shots), LABELS, None, NAMES, 0, shots)


def test_every_epoch_sees_every_training_image_once() -> None:
    made = drawn()
    inputs = np.arange(len(LABELS), dtype=np.float32)[:, None]
    batches = list(training_batches(made, 4, inputs, LABELS, size=None))
    assert [len(batch.labels) for batch in batches] == [4, 4, 1] * 4
    for epoch in range(4):
        seen = np.concatenate([batch.inputs[:, 0] for batch in batches[3 * epoch : 3 * epoch + 3]])
        np.testing.assert_array_equal(np.sort(seen), made.train)
    for batch in batches:
        np.testing.assert_array_equal(batch.labels, LABELS[batch.inputs[:, 0].astype(int)])
    assert [batch.learning_rate for batch in batches] == made.learning_rates.tolist()


def test_every_epoch_has_an_order_of_its_own() -> None:
    orders = drawn(epochs=4).order
    assert len({tuple(order) for order in orders}) == 4


@pytest.mark.parametrize("batch_size", [2, 3, 4, 100])
def test_every_step_has_one_rate(batch_size: int) -> None:
    """Also where the last batch is full."""
    one = drawn(epochs=3, batch_size=batch_size, flip=False, crop=False)
    steps = 3 * -(-len(one.train) // batch_size)
    assert one.learning_rates.shape == (steps,)
    features, labels = np.zeros((100, 5), np.float32), np.zeros(100, np.int64)
    assert len(list(training_batches(one, batch_size, features, labels, None))) == steps


def test_crops_and_flips_are_those_of_the_plan() -> None:
    images = np.arange(2 * 5 * 5 * 3, dtype=np.uint8).reshape(2, 5, 5, 3)
    corners, mirrored = np.array([[0, 1], [2, 0]]), np.array([False, True])
    made = augmented(images, 3, corners, mirrored)
    np.testing.assert_array_equal(made[0], images[0, 0:3, 1:4])
    np.testing.assert_array_equal(made[1], images[1, 2:5, 0:3][:, ::-1])


def test_each_step_mirrors_the_images_that_the_plan_says() -> None:
    """A plan's flips and crops belong to places of an epoch, not to images."""
    one = drawn(epochs=2, crop=False)
    # Bright on the left; the number of the image is in every other place.
    images = np.tile(np.arange(len(LABELS), dtype=np.uint8)[:, None, None, None], (1, 4, 4, 3))
    images[:, :, 0] = 255
    batches = list(training_batches(one, 4, images, LABELS, 4))
    for epoch in range(2):
        seen = np.concatenate([batch.inputs for batch in batches[3 * epoch : 3 * epoch + 3]])
        np.testing.assert_array_equal(seen[:, 0, 3, 0] == 255, one.flips[epoch])
        np.testing.assert_array_equal(seen[:, 0, 1, 0], one.train[one.order[epoch]])


def test_crops_stay_inside_the_stored_image() -> None:
    made = drawn(epochs=50)
    # 32 px are cut from 37: the corner can be anywhere from 0 to 5, both included.
    assert (made.crops.min(), made.crops.max()) == (0, 5)
    assert 0.4 < made.flips.mean() < 0.6


def test_schedules() -> None:
    constant = plan.schedule(Recipe(epochs=3, learning_rate=0.5), 2)
    np.testing.assert_array_equal(constant, [0.5] * 6)
    cosine = plan.schedule(Recipe(epochs=5, learning_rate=1.0, schedule="cosine", warmup_epochs=1), 2)
    np.testing.assert_allclose(cosine[:3], [0.5, 1.0, 1.0])
    assert np.all(np.diff(cosine[2:]) < 0)
    np.testing.assert_allclose(cosine[2 + 4], 0.5)


def test_views_count_among_what_a_plan_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the views of 1000 images are made of: two kinds, ten numbers each, for every run."""
    monkeypatch.setattr(machine, "available_memory", lambda: 2**24)
    labels = np.repeat(np.arange(2), 500)
    common: dict[str, Any] = {"shots": (5,), "seeds": 2, "epochs": 2, "control": False, "weights": "random"}
    recipe = Recipe(strategy="fixmatch", views=50, **common)
    assert 2 * 8 * 10 * 50 * 1000 * 2 > 0.8 * 2**24 > 2 * 8 * 10 * 4 * 1000 * 2
    with pytest.raises(BadInput, match=r"seeds, with 50 views of each unlabelled image, .* lower --views, --epochs"):
        plan.draw_all(recipe, labels, None, ["a", "b"])
    plan.draw_all(recipe.model_copy(update={"shots": ("all",), "views": 4}), labels, None, ["a", "b"])
    plan.draw_all(recipe.model_copy(update={"strategy": "linear_probe"}), labels, None, ["a", "b"])

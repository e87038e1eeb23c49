"""Everything random or time-varying but the weights: subsets, batch order, flips, crops, learning rates.

Drawn once, in NumPy. Every draw has its own stream, keyed by the seed and by what it is for, so that changing one thing
(more epochs, another head) leaves all others as they were.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.errors import BadInput
from shared.recipe import Recipe, Shots
from shared.rows import Rows


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """An independent random stream for one seed and one purpose (PCG64, keyed by SHA-256)."""
    key = hashlib.sha256("/".join(str(part) for part in (seed, *purpose)).encode()).digest()
    return np.random.Generator(np.random.PCG64(np.frombuffer(key, dtype=np.uint32).tolist()))


@dataclass(frozen=True)
class Plan:
    """What a recipe and a seed determine.

    Attributes:
        train: indices of the training images, int64 (n,).
        test: indices of the test images, int64 (m,).
        order: for every epoch a permutation of ``range(n)``, int64 (epochs, n).
        learning_rates: of every step, float64 (steps,).
        flips: whether the image in this place of ``order`` is mirrored, bool (epochs, n); empty without ``flip``.
        crops: upper left corner of its crop in pixels, int64 (epochs, n, 2) as (y, x); empty without ``crop``.
    """

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    order: NDArray[np.int64]
    learning_rates: NDArray[np.float64]
    flips: NDArray[np.bool_]
    crops: NDArray[np.int64]

    def save(self, path: Path) -> None:
        """Write all arrays into one ``.npz`` file."""
        np.savez(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Read what ``save`` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{field.name: arrays[field.name] for field in fields(cls)})


def images(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices (train, test) of a plan that ``Plan.save`` wrote, without reading the rest of it."""
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["train"], arrays["test"]


def split(
    recipe: Recipe,
    labels: NDArray[np.int64],
    is_test: NDArray[np.bool_] | None,
    classes: list[str],
    seed: int,
    shots: Shots,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which images train and which test.

    Each class is shuffled once per seed and the first k images are drawn, so the subsets are nested. The test set is
    the folder's own; or, with shots "all" among the recipe's, a held-out part of each class; or everything that the
    recipe's largest number of shots does not draw, so that all numbers of shots are judged on the same images.

    Args:
        recipe: its shots and test_fraction are used.
        labels: class index of every image, (N,).
        is_test: which images the folder itself set apart, (N,), or None.
        classes: names, for messages.
        seed: repetition.
        shots: images a class, or "all".

    Returns:
        Sorted indices (train, test).

    Raises:
        BadInput: a class has too few images.
    """
    train: list[NDArray[np.int64]] = []
    test: list[NDArray[np.int64]] = []
    counts = [k for k in recipe.shots if isinstance(k, int)]
    for index, name in enumerate(classes):
        members = np.flatnonzero(labels == index)
        pool = members if is_test is None else members[~is_test[members]]
        pool = generator(seed, "subset", index).permutation(pool)
        available = len(pool)
        if is_test is not None:
            held_out = members[is_test[members]]
        elif "all" in recipe.shots:
            part = max(1, round(recipe.test_fraction * available))
            held_out, pool = pool[:part], pool[part:]
        else:
            held_out = pool[max(counts) :]
        needed = max(counts, default=1)
        if needed > len(pool) or (len(held_out) == 0 and is_test is None):
            kept = max(len(held_out), 1)
            purpose = "" if is_test is not None else f", and {kept} more to test on"
            raise BadInput(
                f"class {name!r} has {available} images{' for training' if is_test is not None else ''}, but {needed} "
                f"shots need {needed}{purpose}; lower --shots or add images."
            )
        train.append(pool if shots == "all" else pool[:shots])
        test.append(held_out)
    if sum(len(part) for part in test) == 0:
        raise BadInput("the test set is empty; add images to the test folder.")
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(test))


def draw_all(
    recipe: Recipe, labels: NDArray[np.int64], is_test: NDArray[np.bool_] | None, classes: list[str]
) -> dict[tuple[Shots, int], Plan]:
    """The plans of all runs, by number of shots and seed. Arguments and errors as in ``draw``."""
    return {
        (shots, seed): draw(recipe, labels, is_test, classes, seed, shots)
        for shots in recipe.shots
        for seed in recipe.seed_list
    }


def draw(
    recipe: Recipe,
    labels: NDArray[np.int64],
    is_test: NDArray[np.bool_] | None,
    classes: list[str],
    seed: int,
    shots: Shots,
) -> Plan:
    """The plan of one run. Arguments and errors as in ``split``, and one for a batch of a single image."""
    train, test = split(recipe, labels, is_test, classes, seed, shots)
    n, epochs = len(train), recipe.epochs
    if recipe.batch_norm_trains:
        check_batches(recipe, n)
    order = np.stack([generator(seed, "order", epoch).permutation(n) for epoch in range(epochs)])
    flips = np.zeros((0, n), dtype=bool)
    crops = np.zeros((0, n, 2), dtype=np.int64)
    if recipe.flip:
        flips = generator(seed, "flips").random((epochs, n)) < 0.5
    if recipe.crop:
        crops = generator(seed, "crops").integers(0, recipe.resize_to - recipe.size + 1, (epochs, n, 2))
    steps_per_epoch = math.ceil(n / recipe.batch_size)
    return Plan(train, test, order, schedule(recipe, steps_per_epoch), flips, crops)


def check_batches(recipe: Recipe, n: int) -> None:
    """Make sure that normalisation in training mode gets along with n training images.

    Raises:
        BadInput: a batch would have one image.
    """
    if recipe.pair.batch_norm and (n % recipe.batch_size == 1 or recipe.batch_size == 1):
        raise BadInput(
            f"with batch_size {recipe.batch_size} the last of {n} training images would be a batch of its own, and "
            "normalisation cannot estimate a variance from one; choose another --batch-size."
        )


def schedule(recipe: Recipe, steps_per_epoch: int) -> NDArray[np.float64]:
    """Learning rate of every step, float64 (epochs * steps_per_epoch,).

    Linear warm-up over ``warmup_epochs``, then constant or half a cosine to zero (Loshchilov and Hutter, SGDR, 2017,
    equation 5, without restarts).
    """
    steps = recipe.epochs * steps_per_epoch
    warmup = min(round(recipe.warmup_epochs * steps_per_epoch), steps)
    step = np.arange(steps, dtype=np.float64)
    rates = np.full(steps, recipe.learning_rate)
    if recipe.schedule == "cosine":
        rates *= 0.5 * (1 + np.cos(np.pi * np.clip((step - warmup) / max(steps - warmup, 1), 0, 1)))
    rates[:warmup] = recipe.learning_rate * (step[:warmup] + 1) / max(warmup, 1)
    return rates


@dataclass(frozen=True)
class Batch:
    """One training step's worth.

    Attributes:
        inputs: uint8 images (b, H, W, 3) in RGB, or features (b, ...).
        labels: int64 (b,).
        learning_rate: of this step.
    """

    inputs: NDArray[np.generic]
    labels: NDArray[np.int64]
    learning_rate: float


def training_batches(
    plan: Plan, batch_size: int, inputs: NDArray[np.generic] | Rows, labels: NDArray[np.int64], size: int | None
) -> Iterator[Batch]:
    """The batches of all epochs in the plan's order, with its flips and crops. The last batch of an epoch may be small.

    Args:
        plan: of this run.
        batch_size: images a step.
        inputs: stored images (N, S, S, 3) uint8, or features (N, ...).
        labels: of all N images.
        size: side of the network's input in pixels if ``inputs`` are images, None if they are features.
    """
    n, step = len(plan.train), 0
    for epoch in range(len(plan.order)):
        for start in range(0, n, batch_size):
            places = slice(start, start + batch_size)
            chosen = plan.train[plan.order[epoch, places]]
            batch = inputs[chosen]
            if size is not None:
                corners = plan.crops[epoch, places] if len(plan.crops) else None
                mirrored = plan.flips[epoch, places] if len(plan.flips) else None
                batch = augmented(batch, size, corners, mirrored)
            yield Batch(batch, labels[chosen], float(plan.learning_rates[step]))
            step += 1


def augmented(
    images: NDArray[np.generic], size: int, corners: NDArray[np.int64] | None, mirrored: NDArray[np.bool_] | None
) -> NDArray[np.generic]:
    """Crops and flips of stored images (b, S, S, 3), as (b, size, size, 3). Without ``corners``: the centre."""
    if corners is None:
        if images.shape[1] == size:
            cropped = images
        else:
            start = center(images.shape[1], size)
            cropped = images[:, start : start + size, start : start + size]
    else:
        cropped = np.stack([image[y : y + size, x : x + size] for image, (y, x) in zip(images, corners, strict=True)])
    if mirrored is None:
        return cropped
    return np.where(mirrored[:, None, None, None], cropped[:, :, ::-1], cropped)


def center(length: int, size: int) -> int:
    """First pixel of a centre crop; an odd remainder rounds half to even, as torchvision's center_crop does."""
    return round((length - size) / 2)

"""Which images train and which test: subsets that are nested, balanced, and judged on the same test images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from transfer_parity.shared.contract.recipe import Recipe, Shots
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.core.random import generator

#: Of the training images of a class, the part on which rates are chosen; one at least.
HELD_OUT = 0.2
#: Parts of the training images of a run, of which each is held out once to choose by; a class needs an image for each.
FOLDS = 4


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


def hold_out(
    train: NDArray[np.int64], labels: NDArray[np.int64], seed: int, batch: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide the training images of a run: a part of each class is held out to choose by, and is not trained on.

    Args:
        train: indices of the training images.
        labels: class index of every image of the set, (N,).
        seed: repetition.
        batch: if not 0, one more image is held out where otherwise the last of so many images a batch were alone.

    Returns:
        Sorted indices (those that are left to train on, those that are held out). A class with a single image holds
        none out.
    """
    kept: list[int] = []
    held: list[int] = []
    largest: list[int] = []
    for members in _shuffled(train, labels, seed, "validation"):
        part = min(max(1, round(HELD_OUT * len(members))), len(members) - 1)
        held += members[:part]
        kept += members[part:]
        largest = max(largest, members[part:], key=len)
    if batch > 1 and len(kept) % batch == 1 and len(largest) > 1:
        kept.remove(largest[0])
        held.append(largest[0])
    return np.array(sorted(kept), dtype=np.int64), np.array(sorted(held), dtype=np.int64)


def folds(
    train: NDArray[np.int64], labels: NDArray[np.int64], seed: int, batch: int = 0
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Divide the training images of a run into parts, each of which is held out once: cross-validation, class by class.

    Args:
        train: indices of the training images.
        labels: class index of every image of the set, (N,).
        seed: repetition.
        batch: if not 0, one more image is held out where otherwise the last of so many images a batch were alone.

    Returns:
        For each part, sorted indices (those that are left to train on, those that are held out). None at all if a class
        has fewer images than there are parts.
    """
    parts: list[list[int]] = [[] for _ in range(FOLDS)]
    dealt = 0
    for members in _shuffled(train, labels, seed, "folds"):
        if len(members) < FOLDS:
            return []
        for image in members:
            parts[dealt % FOLDS].append(image)
            dealt += 1
    found = []
    for number, held in enumerate(parts):
        kept = [image for other, part in enumerate(parts) if other != number for image in part]
        if batch > 1 and len(kept) % batch == 1:
            held = [*held, kept.pop()]
        found.append((np.array(sorted(kept), dtype=np.int64), np.array(sorted(held), dtype=np.int64)))
    return found


def _shuffled(train: NDArray[np.int64], labels: NDArray[np.int64], seed: int, purpose: str) -> Iterator[list[int]]:
    """The training images of each class, in an order that is drawn for a purpose."""
    for index in np.unique(labels[train]):
        yield generator(seed, purpose, int(index)).permutation(np.sort(train[labels[train] == index])).tolist()

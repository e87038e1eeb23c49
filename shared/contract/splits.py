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
        labels: class index of every image, (N,); of several tasks, (N, T) (see ``_split_tasks``).
        is_test: which images the folder itself set apart, (N,), or None.
        classes: names, for messages.
        seed: repetition.
        shots: images a class, or "all".

    Returns:
        Sorted indices (train, test).

    Raises:
        BadInput: a class has too few images.
    """
    if labels.ndim == 2:
        return _split_tasks(recipe, labels, classes, seed, shots)
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


def _split_tasks(
    recipe: Recipe, labels: NDArray[np.int64], classes: list[str], seed: int, shots: Shots
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which images of several tasks train and which test: k shots are k images of every class of every task at least.

    All images are shuffled once per seed, and those with a label of a class are the class's members in that order. Of
    every class the first k train, so an image may be drawn for several tasks, and all of its labels count; subsets are
    nested. Before, the first members of every class are held out: ``test_fraction`` of them with "all" among the
    recipe's shots, else one if none is yet. Without "all" every image is a test image, too, that the largest number of
    shots does not draw.

    Raises:
        BadInput: a class has too few images, or the other tasks have drawn all of them.
    """
    order = generator(seed, "subset of tasks").permutation(len(labels))
    members = [order[(labels[order] == index).any(axis=1)] for index in range(len(classes))]
    counts = [k for k in recipe.shots if isinstance(k, int)]
    held = np.zeros(len(labels), dtype=bool)
    for each in members:
        if "all" in recipe.shots:
            held[each[: max(1, round(recipe.test_fraction * len(each)))]] = True
        elif not held[each].any():
            held[each[:1]] = True
    pools = [each[~held[each]] for each in members]
    needed = max(counts, default=1)
    for name, each, pool in zip(classes, members, pools, strict=True):
        if needed > len(pool):
            raise BadInput(
                f"class {name!r} has {len(each)} images, of which {len(each) - len(pool)} are to test on, but {needed} "
                f"shots need {needed} of the others; lower --shots or add images."
            )
    if "all" not in recipe.shots:
        drawn = np.concatenate([pool[: max(counts)] for pool in pools])
        held = ~np.isin(np.arange(len(labels)), drawn)
    chosen = np.concatenate([pool if shots == "all" else pool[:shots] for pool in pools])
    return np.unique(chosen), np.flatnonzero(held)


def hold_out(
    train: NDArray[np.int64], labels: NDArray[np.int64], seed: int, batch: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide the training images of a run: a part of each class is held out to choose by, and is not trained on.

    Args:
        train: indices of the training images.
        labels: class index of every image of the set, (N,), or (N, T).
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
        labels: class index of every image of the set, (N,), or (N, T).
        seed: repetition.
        batch: if not 0, one image does not train where otherwise the last of so many images a batch were alone.

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
            # Not held out besides: it has its own part, and would count twice.
            kept.pop()
        found.append((np.array(sorted(kept), dtype=np.int64), np.array(sorted(held), dtype=np.int64)))
    return found


def _shuffled(train: NDArray[np.int64], labels: NDArray[np.int64], seed: int, purpose: str) -> Iterator[list[int]]:
    """The training images of each class, in an order that is drawn for a purpose.

    Of several tasks, images with the same labels in all of them are a class.
    """
    if labels.ndim == 2:
        labels = np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1)
    for index in np.unique(labels[train]):
        yield generator(seed, purpose, int(index)).permutation(np.sort(train[labels[train] == index])).tolist()

"""Is a trained classifier better than a guess, and if it is not, what is the likely cause?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from transfer_parity.shared.evaluation import divergence, significance

#: What the training loss says about the likely cause.
Cause = Literal["diverged", "loss rose", "loss stayed", "not general", "features"]
#: Parts of the first step's loss: above the one training has hardly begun.
STAYED = 0.7


def level(labels: NDArray[np.int64]) -> float:
    """Accuracy of always guessing the class with the most test images, 0 to 1.

    Args:
        labels: true classes of the test images, (N,); of several tasks (N, T), with -1 where one is not known: of each
            the most frequent class is guessed.
    """
    columns = [own[own >= 0] for own in labels.reshape(len(labels), -1).T]
    return float(sum(np.bincount(own).max() for own in columns) / sum(map(len, columns)))


def is_at(accuracies: NDArray[Any], images: NDArray[np.int64], by_chance: float) -> bool:
    """Whether nothing speaks for more than chance: the exact binomial test at 5 %, over the images of all seeds.

    Args:
        accuracies: of the seeds, 0 to 1, (n,).
        images: numbers of their test images, (n,); of several tasks, of their answers, as if each were an image's.
        by_chance: see ``level``.
    """
    right = round(float((accuracies * images).sum()))
    return significance.better_than(right, int(images.sum()), by_chance) >= significance.ALPHA


def likely_cause(losses: NDArray[Any], diverged: bool) -> Cause:
    """What the training loss says: did it fall, and how far?

    Args:
        losses: of all training steps in order, (steps,); none for what is solved in closed form.
        diverged: whether training did (``shared.evaluation.divergence``).
    """
    if diverged:
        return "diverged"
    if not len(losses):
        return "features"
    last = float(np.median(losses[-max(1, round(divergence.END * len(losses))) :]))
    if last > losses[0]:
        return "loss rose"
    return "loss stayed" if last > STAYED * losses[0] else "not general"


def verdict(accuracies: Sequence[float], by_chance: Sequence[float], cause: Cause) -> str:
    """What is said of runs that are no better than a guess, as the end of a sentence.

    Args:
        accuracies: means of one or several combinations, 0 to 1.
        by_chance: see ``level``; of each of them.
        cause: that all of them share.
    """
    return (
        f"is no better than chance ({_range(accuracies)} %; always the same class: {_range(by_chance)} %): "
        f"{in_words(cause)}."
    )


def _range(parts: Sequence[float]) -> str:
    """Percentages from the smallest to the largest, without a sign."""
    low, high = (f"{100 * part:.0f}" for part in (min(parts), max(parts)))
    return low if low == high else f"{low} to {high}"


def in_words(cause: Cause) -> str:
    """The likely cause and what to do."""
    words: dict[Cause, str] = {
        "diverged": "training diverged; lower --learning-rate",
        "loss rose": "its training loss rose, so the rate is probably too high; lower --learning-rate",
        "loss stayed": "its training loss hardly fell, so there are probably too few passes or the rate is too low; "
        "raise --epochs or --learning-rate",
        "not general": "its training loss fell, but what it learned does not carry over to other images; give more "
        "labelled images (--shots), or train less of the network",
        "features": "the frozen features probably say little about these classes; use other weights, or more images",
    }
    return words[cause]

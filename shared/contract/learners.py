"""What methods that train on base classes learn from, and what they learn: nothing of it is drawn by a framework."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from transfer_parity.shared.contract.episodes import Episodes, Indices
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.core.random import generator

LearnerName = Literal["anil", "siamese"]
#: Neutral names of what is learned, in torch's layout: the embedding of an image's features, and the head behind it.
EMBEDDING_WEIGHT, EMBEDDING_BIAS = "embedding.weight", "embedding.bias"
HEAD_WEIGHT, HEAD_BIAS = "head.weight", "head.bias"
#: Of Adam, which trains them: gradients that are next to nothing, most of which is rounding, shall not move what is
#: learned as far as all others. With Adam's own 1e-8 frameworks part ways several times faster.
ADAM_EPSILON = 1e-4


class LearnerSettings(BaseModel):
    """How a method trains.

    Attributes:
        units: length of the embedding.
        steps: of the optimizer.
        rate: of the optimizer.
        tasks: of a step (anil).
        inner_steps: of gradient descent on the head within a task, in training and when it is judged (anil).
        inner_rate: of them (anil).
        pairs: of a step, an even number (siamese).
        margin: from which distance on images of different classes are far enough apart (siamese).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    units: int = Field(128, ge=1)
    steps: int = Field(300, ge=0)
    rate: float = Field(1e-4, gt=0)
    tasks: int = Field(4, ge=1)
    inner_steps: int = Field(5, ge=1)
    inner_rate: float = Field(0.3, gt=0)
    pairs: int = Field(256, ge=2, multiple_of=2)
    margin: float = Field(1.4, gt=0)


@dataclass(frozen=True)
class Tasks:
    """T tasks of one size, as a wing gets them.

    Attributes:
        support: inputs of the labelled images, (T, n, d).
        support_targets: their classes as rows of one 1, (T, n, ways).
        queries: inputs of the images to be recognised, (T, m, d).
        query_targets: likewise, (T, m, ways).
    """

    support: NDArray[np.floating]
    support_targets: NDArray[np.floating]
    queries: NDArray[np.floating]
    query_targets: NDArray[np.floating]


@dataclass(frozen=True)
class Pairs:
    """P pairs of images, as a wing gets them.

    Attributes:
        first: inputs, (P, d).
        second: inputs, (P, d).
        same: 1 of a pair of one class, else 0, (P,).
    """

    first: NDArray[np.floating]
    second: NDArray[np.floating]
    same: NDArray[np.floating]


def shapes(name: LearnerName, features: int, ways: int, settings: LearnerSettings) -> dict[str, tuple[int, ...]]:
    """Neutral name and shape of everything that a method learns.

    Args:
        name: which method.
        features: length of an image's features.
        ways: classes of a task.
        settings: how it trains.
    """
    embedding = {EMBEDDING_WEIGHT: (settings.units, features), EMBEDDING_BIAS: (settings.units,)}
    head = {HEAD_WEIGHT: (ways, settings.units), HEAD_BIAS: (ways,)}
    return embedding | head if name == "anil" else embedding


def optimized(recipe: Recipe, rate: float) -> Recipe:
    """A recipe whose optimizer trains a method: Adam at this rate, whatever else it would train with."""
    adam = {"optimizer": "adam", "epsilon": ADAM_EPSILON, "weight_decay": 0.0}
    return recipe.model_copy(update={**adam, "learning_rate": rate})


def inputs(features: NDArray[np.floating], mean: NDArray[np.float64], dtype: str) -> NDArray[np.floating]:
    """Features (n, d) as learners get them: the base classes' mean is subtracted, and the length is the root of d.

    So rates and first weights suit every backbone. An image whose features are the mean itself stays at zero.
    """
    moved = features.astype(np.float64) - mean
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    scaled: NDArray[np.floating] = (moved * (np.sqrt(moved.shape[1]) / np.where(lengths > 0, lengths, 1))).astype(dtype)
    return scaled


def tasks(values: NDArray[np.floating], episodes: Episodes, chosen: slice) -> Tasks:
    """Some episodes as a wing gets them.

    Args:
        values: inputs of the images that the episodes' indices mean, (N, d).
        episodes: all of them.
        chosen: which.
    """
    rows = np.eye(episodes.ways, dtype=values.dtype)
    return Tasks(
        values[episodes.support[chosen]],
        rows[episodes.support_labels[chosen]],
        values[episodes.queries[chosen]],
        rows[episodes.query_labels[chosen]],
    )


def draw_pairs(labels: Indices, pairs: int, steps: int, seed: int) -> Indices:
    """Pairs of images for every step, half of them of one class: int64 (steps, pairs, 2), those of one class first.

    A class with a single image is in no pair of one class. A pair of one class is of two images.

    Args:
        labels: classes of the base images, (B,); two classes at least, and one with two images.
        pairs: of a step, an even number.
        steps: number of them.
        seed: repetition.
    """
    members = [np.flatnonzero(labels == index) for index in np.unique(labels)]
    several = [each for each in members if len(each) > 1]
    drawn = np.empty((steps, pairs, 2), np.int64)
    for step in range(steps):
        stream = generator(seed, "pairs", step)
        for place in range(pairs // 2):
            drawn[step, place] = stream.choice(several[stream.integers(len(several))], 2, replace=False)
            one, other = stream.choice(len(members), 2, replace=False)
            drawn[step, pairs // 2 + place] = stream.choice(members[one]), stream.choice(members[other])
    return drawn


def pair_batches(values: NDArray[np.floating], drawn: Indices) -> Iterator[Pairs]:
    """The pairs of every step, as a wing gets them; arguments as those of ``tasks`` and from ``draw_pairs``."""
    half = drawn.shape[1] // 2
    same = np.repeat(np.array([1, 0], dtype=values.dtype), half)
    for step in drawn:
        yield Pairs(values[step[:, 0]], values[step[:, 1]], same)

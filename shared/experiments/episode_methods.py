"""Methods that are judged on episodes. A new one is an entry here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.core.errors import BadInput, did_you_mean
from transfer_parity.shared.core.text import brief
from transfer_parity.shared.evaluation import closed_forms
from transfer_parity.shared.runtime import ridge
from transfer_parity.shared.zoo.pair import HEAD


@dataclass(frozen=True)
class Task:
    """One episode, as a method sees it.

    Attributes:
        support: features of the labelled images, float64 (n, d).
        labels: their classes, (n,).
        ways: number of classes.
        queries: features of the images to be recognised, float64 (m, d).
        ridge_penalty: the recipe's.
    """

    support: NDArray[np.float64]
    labels: NDArray[np.int64]
    ways: int
    queries: NDArray[np.float64]
    ridge_penalty: float


@dataclass(frozen=True)
class EpisodeMethod:
    """A method.

    Attributes:
        name: as options and documents write it.
        words: what it does, in a few words.
        trains_on_base: whether a wing's process trains it on base classes, and classifies.
        sees_queries: whether a task's queries are classified together, so that each helps to classify the others.
        logits: of a task's queries, (m, ways), in closed form; None of what trains.
    """

    name: str
    words: str
    trains_on_base: bool = False
    sees_queries: bool = False
    logits: Callable[[Task], Array] | None = None


def _nearest_mean(task: Task) -> Array:
    return closed_forms.nearest_mean(task.support, task.labels, task.ways).logits(task.queries)


def _prototypes(task: Task) -> Array:
    return closed_forms.prototypes(task.support, task.labels, task.ways, task.queries).logits(task.queries)


def _ridge(task: Task) -> Array:
    everything = np.arange(len(task.support), dtype=np.int64)
    head = ridge.fit(task.support, everything, task.labels, task.ways, task.ridge_penalty)
    logits: Array = task.queries @ head[f"{HEAD}output.weight"].T + head[f"{HEAD}output.bias"]
    return logits


METHODS = (
    EpisodeMethod("nearest_mean", "the nearest class mean of normalised features", logits=_nearest_mean),
    EpisodeMethod("prototypes", "class means moved towards the queries", sees_queries=True, logits=_prototypes),
    EpisodeMethod("ridge", "ridge regression on the features", logits=_ridge),
    EpisodeMethod("anil", "an embedding and a head that a few steps adapt to a task", trains_on_base=True),
    EpisodeMethod("siamese", "the nearest class mean in an embedding learned from pairs", trains_on_base=True),
)


def chosen(names: list[str] | None) -> tuple[EpisodeMethod, ...]:
    """The methods of these names, in the order of the table; all of them without names.

    Raises:
        BadInput: there is no such method.
    """
    known = [each.name for each in METHODS]
    for name in names or ():
        if name not in known:
            raise BadInput(f"--methods: there is no method {brief(name)}; {did_you_mean(name[:100], known)}")
    return tuple(each for each in METHODS if names is None or each.name in names)

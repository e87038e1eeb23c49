"""Episodes: small tasks of a few classes, drawn from classes that nothing was trained on.

Which classes are base and which are novel, and which images of which classes make an episode, is drawn here, in NumPy,
before either framework starts: both judge the same episodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from transfer_parity.shared.core.errors import BadInput, did_you_mean
from transfer_parity.shared.core.random import generator
from transfer_parity.shared.core.text import brief

Indices = NDArray[np.int64]
#: What is trained on base classes follows others than those that it is judged on.
BASE, NOVEL = "base", "novel"


@dataclass(frozen=True)
class Division:
    """Classes as indices of a data set: what trains sees the base ones, and is judged on the novel ones."""

    base: tuple[int, ...]
    novel: tuple[int, ...]


@dataclass(frozen=True)
class Episodes:
    """E tasks of one size.

    Attributes:
        ways: classes of each.
        support: indices of the labelled images, int64 (E, n).
        support_labels: their classes within the task, 0 to ways - 1, int64 (E, n).
        queries: indices of the images to be recognised, int64 (E, m).
        query_labels: their classes within the task, int64 (E, m).
    """

    ways: int
    support: Indices
    support_labels: Indices
    queries: Indices
    query_labels: Indices

    def __len__(self) -> int:
        return len(self.support)

    def among(self, images: Indices) -> Episodes:
        """The same episodes, with places in ``images`` (ascending, all of theirs among them) in place of indices."""
        support, queries = (np.searchsorted(images, each) for each in (self.support, self.queries))
        return replace(self, support=support, queries=queries)


def divide(
    classes: Sequence[str], base: Sequence[str] | float, novel: Sequence[str] | None = None, seed: int = 0
) -> Division:
    """Divide the classes of a data set.

    Args:
        classes: names of all, in label order.
        base: names of the base classes, or which part of all classes they are (rounded to the nearest number).
        novel: names of the novel classes; None for all others.
        seed: of the choice of base classes where only their part is given. Novel classes that are named are not chosen.

    Raises:
        BadInput: a name is not known, a class is on both sides, or no novel class is left.
    """
    chosen_novel = None if novel is None else _indices(classes, novel, "--novel-classes")
    if isinstance(base, float):
        free = [index for index in range(len(classes)) if index not in (chosen_novel or ())]
        number = min(round(base * len(classes)), len(free))
        drawn = generator(seed, "base classes").permutation(len(free))[:number]
        chosen_base = tuple(sorted(free[place] for place in drawn.tolist()))
    else:
        chosen_base = _indices(classes, base, "--base-classes")
    if chosen_novel is None:
        chosen_novel = tuple(index for index in range(len(classes)) if index not in chosen_base)
    if both := sorted(set(chosen_base) & set(chosen_novel)):
        names = ", ".join(classes[index] for index in both[:3])
        raise BadInput(f"{names}: a class cannot be base and novel; name it on one side only.")
    if not chosen_novel:
        raise BadInput(f"no novel class is left: all {len(classes)} are base classes; name fewer of them.")
    return Division(chosen_base, chosen_novel)


def _indices(classes: Sequence[str], names: Sequence[str], option: str) -> tuple[int, ...]:
    places = {name: index for index, name in enumerate(classes)}
    for name in names:
        if name not in places:
            raise BadInput(f"{option}: there is no class {brief(name)}; {did_you_mean(name[:100], classes)}")
    return tuple(sorted({places[name] for name in names}))


def check(
    labels: Indices, classes: Sequence[str], chosen: Sequence[int], ways: int, images: int, what: str = NOVEL
) -> None:
    """Make sure that episodes can be drawn.

    Args:
        labels: classes of all images, (N,).
        classes: names of all.
        chosen: those that episodes are drawn from.
        ways: classes of an episode.
        images: shots and queries of each class of an episode together.
        what: the side of the division that they are on.

    Raises:
        BadInput: there are too few classes, or too few images of one.
    """
    if ways > len(chosen):
        raise BadInput(
            f"--ways {ways} is more than the {len(chosen)} {what} class{'' if len(chosen) == 1 else 'es'}; give fewer "
            f"ways, or more {what} classes."
        )
    counts = np.bincount(labels, minlength=len(classes))
    fewest = min(chosen, key=lambda index: int(counts[index]))
    if counts[fewest] < images:
        raise BadInput(
            f"the {what} class {brief(classes[fewest])} has {counts[fewest]} images, and shots and queries together "
            f"need {images} of each class; lower --shots or --queries."
        )


def draw(
    labels: Indices,
    chosen: Sequence[int],
    ways: int,
    shots: int,
    queries: int,
    episodes: int,
    seed: int,
    purpose: str = NOVEL,
) -> Episodes:
    """Draw episodes, each from a stream of its own.

    An episode of another number of shots has the same classes and the same queries, and shares as many labelled images
    as both have: shots are compared on the same tasks, and more episodes are those and some more.

    Args:
        labels: classes of all images, (N,).
        chosen: classes that episodes are drawn from; ``check`` has found that they suffice.
        ways: classes of an episode, without repetition.
        shots: labelled images of each class.
        queries: images of each class to be recognised.
        episodes: number of them.
        seed: repetition.
        purpose: part of the streams' key.
    """
    members = {index: np.flatnonzero(labels == index) for index in chosen}
    support = np.empty((episodes, ways, shots), np.int64)
    asked = np.empty((episodes, ways, queries), np.int64)
    for number in range(episodes):
        stream = generator(seed, "episode", purpose, number)
        for way, place in enumerate(stream.permutation(len(chosen))[:ways].tolist()):
            order = stream.permutation(members[chosen[place]])
            asked[number, way] = order[:queries]
            support[number, way] = order[queries : queries + shots]
    ordered = np.arange(ways, dtype=np.int64)
    return Episodes(
        ways,
        support.reshape(episodes, ways * shots),
        np.tile(ordered.repeat(shots), (episodes, 1)),
        asked.reshape(episodes, ways * queries),
        np.tile(ordered.repeat(queries), (episodes, 1)),
    )

"""In which order the strategies stand that several studies share, over their data sets."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from transfer_parity.shared.contract.recipe import Shots
from transfer_parity.shared.evaluation import significance
from transfer_parity.shared.experiments import standing
from transfer_parity.shared.experiments.study_document import Order

#: By strategy and shots, mean accuracy, and over how many seeds.
Accuracies = dict[tuple[str, Shots], tuple[float, int]]
#: Differences of accuracy that are nothing but rounding.
ALIKE = 1e-12


@dataclass(frozen=True)
class DataSet:
    """What a study was made on.

    Attributes:
        place: the folder or name, as it was given.
        classes: their names.
        images: how many; None where an early study does not say it.
    """

    place: str
    classes: tuple[str, ...]
    images: int | None

    @property
    def name(self) -> str:
        """Of the folder."""
        return Path(self.place).name

    def is_same(self, other: DataSet) -> bool:
        """One folder with the same classes, perhaps with more images by now, or one folder in two places."""
        same_images = self.place == other.place or (self.name == other.name and self.images == other.images)
        return same_images and self.classes == other.classes


def over_studies(documents: Sequence[Mapping[str, Any]]) -> Order | None:
    """The order of the strategies that some studies share, over their data sets and numbers of shots.

    Args:
        documents: ``study.json`` of each, of any version, oldest first; of several on one data set the last one counts.
            One folder with the same classes is one data set, and so are folders of one name, with the same classes and
            as many images.

    Returns:
        Over as many data sets as have two strategies in common; None if no two have.
    """
    by_data = _by_data(documents)
    names, blocks = _in_common(by_data)
    data = list(dict.fromkeys(each for each, _ in blocks))
    if len(data) < 2:
        return None
    scores = np.array([[by_data[each][name, shots][0] for name in names] for each, shots in blocks])
    owner = np.array([each for each, _ in blocks])

    def p_value(better: str, worse: str) -> float:
        difference = scores[:, names.index(better)] - scores[:, names.index(worse)]
        by_set = np.array([difference[owner == each].mean() for each in data])
        if np.ptp(by_set) > ALIKE:
            return significance.paired_t(by_set)
        # No scatter says nothing about chance; that all have one sign does.
        return min(1.0, 2 * 0.5 ** len(data)) if abs(by_set.mean()) > ALIKE else 1.0

    facts = {
        "data": data,
        "left_out": [each for each in by_data if each not in data],
        "seeds": min(by_data[each][name, shots][1] for each, shots in blocks for name in names),
        "shots": list(dict.fromkeys(shots for _, shots in blocks)),
    }
    return standing.ordered(names, scores, facts, p_value)


def _by_data(documents: Sequence[Mapping[str, Any]]) -> dict[str, Accuracies]:
    """What came of the last study of each data set, by a name that no other has."""
    found: dict[DataSet, Accuracies] = {}
    for document in documents:
        # What is no study, or one that somebody has changed, counts for nothing.
        with contextlib.suppress(AttributeError, KeyError, StopIteration, TypeError, ValueError):
            recipe: Mapping[str, Any] = next(iter(document["recipes"].values()))
            data = DataSet(str(recipe["data"]), tuple(document.get("classes") or ()), document.get("images"))
            if accuracies := _accuracies(document):
                found[next((each for each in found if each.is_same(data)), data)] = accuracies
    names = Counter(each.name for each in found)
    by_data: dict[str, Accuracies] = {}
    for data, accuracies in found.items():
        # Folders of one name are told with their place, which may be one below several others.
        told = data.name if names[data.name] == 1 else data.place
        by_data[f"{told} ({len(by_data) + 1})" if told in by_data else told] = accuracies
    return by_data


def _in_common(by_data: Mapping[str, Accuracies]) -> tuple[list[str], list[tuple[str, Shots]]]:
    """Strategies, and the blocks (data set, shots) that have them all: of those two that the most data sets have, and
    any others that these data sets have beside them, with the same shots.
    """
    names = list(dict.fromkeys(name for each in by_data.values() for name, _ in each))

    def blocks(chosen: Sequence[str]) -> list[tuple[str, Shots]]:
        return [
            (data, shots)
            for data, each in by_data.items()
            for shots in dict.fromkeys(shots for _, shots in each)
            if all((name, shots) in each for name in chosen)
        ]

    def data(chosen: Sequence[str]) -> set[str]:
        return {each for each, _ in blocks(chosen)}

    best: Sequence[str] = max(combinations(names, 2), key=lambda pair: len(data(pair)), default=())
    if not best:
        return [], []
    common = [name for name in names if name in best or data([*best, name]) == data(best)]
    # Each of the others shares shots with the two, but perhaps not the same ones.
    chosen = common if data(common) == data(best) else best
    return list(chosen), blocks(chosen)


def _accuracies(document: Mapping[str, Any]) -> Accuracies:
    """By strategy and shots, mean accuracy over the frameworks in the first mode, and the seeds."""
    mode = (document.get("modes") or ["matched"])[0]
    found: dict[tuple[str, Shots], list[tuple[float, int]]] = {}
    for point in document.get("points") or ():
        if point.get("mode", "matched") == mode:
            value = (float(point["accuracy"]["mean"]), int(point["seeds"]))
            found.setdefault((point["strategy"], point["shots"]), []).append(value)
    return {key: (float(np.mean([one for one, _ in each])), min(n for _, n in each)) for key, each in found.items()}

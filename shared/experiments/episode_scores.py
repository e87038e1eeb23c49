"""Predictions of episodes, and what follows from them: accuracies, methods against each other, frameworks likewise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transfer_parity.shared.contract import wings
from transfer_parity.shared.contract.episodes import Episodes
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.contract.wings import Framework
from transfer_parity.shared.core.arrays import largest_difference
from transfer_parity.shared.evaluation import metrics, significance
from transfer_parity.shared.evaluation.agreement import Verdict
from transfer_parity.shared.experiments.episodes_document import (
    EpisodeAccuracy,
    FrameworkAgreement,
    MethodDifference,
)

#: Logits of an episode's queries, (m, ways), by its number.
LogitsOf = Callable[[int], Array]
#: From the one that says most for agreement to the one that says most against it.
ORDER: tuple[Verdict, ...] = ("not compared", "identical", "equivalent", "inconclusive", "different")


@dataclass(frozen=True)
class Judged:
    """One method on the episodes of one number of shots.

    Attributes:
        method: its name.
        shots: labelled images of each class.
        predictions: by framework, classes within the task, int64 (E, m).
        right: by framework, accuracy of each episode, (E,).
        logit_difference: the largest between the frameworks that are compared; infinite if logits are not all finite,
            None with one framework.
    """

    method: str
    shots: int
    predictions: Mapping[Framework, NDArray[np.int64]]
    right: Mapping[Framework, NDArray[np.float64]]
    logit_difference: float | None


def judged(
    method: str,
    shots: int,
    episodes: Episodes,
    logits_of: Mapping[Framework, LogitsOf],
    advance: Callable[[int], None] = lambda done: None,
) -> Judged:
    """Classify the queries of every episode in all frameworks; logits are forgotten at once.

    Args:
        method: its name.
        shots: labelled images of each class.
        episodes: E of them.
        logits_of: by framework.
        advance: hears how many episodes are done.
    """
    predictions = {each: np.empty(episodes.queries.shape, np.int64) for each in logits_of}
    two = wings.compared(tuple(logits_of))
    difference = 0.0
    for number in range(len(episodes)):
        logits = {each: of(number) for each, of in logits_of.items()}
        for each, values in logits.items():
            predictions[each][number] = metrics.predictions(values)
        if two is not None:
            ours, theirs = (logits[wing.identifier] for wing in two)
            finite = np.isfinite(ours).all() and np.isfinite(theirs).all()
            difference = max(difference, largest_difference(ours, theirs) if finite else math.inf)
        advance(number + 1)
    right = {each: (values == episodes.query_labels).mean(axis=1) for each, values in predictions.items()}
    return Judged(method, shots, predictions, right, difference if two is not None else None)


def accuracies(found: Judged) -> list[EpisodeAccuracy]:
    """Mean accuracy with its interval, in every framework."""
    return [
        EpisodeAccuracy(
            method=found.method,
            framework=framework,
            shots=found.shots,
            accuracy=float(values.mean()),
            interval=significance.accuracy_interval(values, found.predictions[framework].shape[1]),
            deviation=float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
        )
        for framework, values in found.right.items()
    ]


def method_differences(found: Sequence[Judged]) -> list[MethodDifference]:
    """Every pair of methods with the same number of shots, episode by episode; the later one minus the earlier one."""
    return [
        MethodDifference(
            framework=framework,
            shots=first.shots,
            method=second.method,
            minus=first.method,
            difference=float((second.right[framework] - first.right[framework]).mean()),
            interval=_bounded(second.right[framework] - first.right[framework]),
        )
        for first, second in itertools.combinations(found, 2)
        if first.shots == second.shots
        for framework in first.right
    ]


def framework_agreement(found: Judged, margin: float) -> FrameworkAgreement | None:
    """One method in both frameworks; None if there is but one.

    Args:
        found: the predictions.
        margin: accuracy difference that counts as equivalent.
    """
    two = wings.compared(tuple(found.predictions))
    if two is None or found.logit_difference is None:
        return None
    first, second = (wing.identifier for wing in two)
    ours, theirs = found.predictions[first], found.predictions[second]
    identical = int(((ours == theirs) & (ours != metrics.NO_PREDICTION)).sum())
    differences = found.right[first] - found.right[second]
    finite = math.isfinite(found.logit_difference)
    verdict: Verdict = "identical"
    if not finite:
        verdict = "inconclusive"
    elif identical < ours.size:
        verdict = significance.paired_difference(differences, margin).outcome
    return FrameworkAgreement(
        method=found.method,
        shots=found.shots,
        predictions_compared=ours.size,
        predictions_identical=identical,
        max_abs_logit_difference=found.logit_difference if finite else None,
        accuracy_difference=float(differences.mean()),
        accuracy_difference_interval=_bounded(differences),
        verdict=verdict,
    )


def worst(found: Sequence[FrameworkAgreement]) -> Verdict:
    """The verdict of all methods together."""
    return max((each.verdict for each in found), key=ORDER.index, default="not compared")


def _bounded(differences: NDArray[np.float64]) -> tuple[float, float] | None:
    return significance.difference_interval(differences) if len(differences) > 1 else None

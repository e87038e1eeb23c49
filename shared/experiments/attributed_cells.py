"""What the finished cells of an attribution predicted, and differences between them, paired by seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from transfer_parity.shared.contract import results
from transfer_parity.shared.contract.recipe import Framework, Recipe
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.evaluation import metrics, ordering
from transfer_parity.shared.evaluation.ordering import SeedRun
from transfer_parity.shared.experiments import points
from transfer_parity.shared.experiments.arms import ArmKey
from transfer_parity.shared.experiments.attribution_document import Measured
from transfer_parity.shared.experiments.study_document import Estimate
from transfer_parity.shared.experiments.sweep import Sweep


@dataclass(frozen=True)
class Predicted:
    """What a finished cell predicted.

    Attributes:
        images: its test images, as indices of the data set, (N,).
        classes: that it predicted, (N,).
        correct: whether they are right, (N,).
    """

    images: Array
    classes: Array
    correct: Array


#: Of an arm's finished cells, by number of shots and seed.
Predictions = dict[tuple[str, int], Predicted]


def read(sweeps: Iterable[Sweep]) -> dict[ArmKey, Predictions]:
    """What the finished cells of some sweeps predicted, by arm."""
    found: dict[ArmKey, Predictions] = {}
    for sweep in sweeps:
        for cell in sweep.finished():
            run, plans = cell.run, sweep.inputs.strategies[cell.arm.key.strategy].plans
            classes, images = metrics.predictions(results.finished(cell.folder).logits), plans[run.shots, run.seed].test
            predicted = Predicted(images, classes, classes == sweep.data.labels[images])
            found.setdefault(cell.arm.key, {})[str(run.shots), run.seed] = predicted
    return found


def differences(ours: Predictions, theirs: Predictions) -> dict[int, float]:
    """Accuracy of ours minus that of theirs for every seed, averaged over the numbers of shots that both have."""
    by_seed: dict[int, list[float]] = {}
    for key in sorted(ours.keys() & theirs.keys()):
        by_seed.setdefault(key[1], []).append(float(ours[key].correct.mean() - theirs[key].correct.mean()))
    return {seed: float(np.mean(values)) for seed, values in by_seed.items()}


def measured(ours: Predictions, theirs: Predictions) -> Measured | None:
    """Ours minus theirs, with its interval and the p-value of the paired tests; None if they share no cell."""
    by_seed = differences(ours, theirs)
    common = sorted(ours.keys() & theirs.keys())
    if not by_seed:
        return None
    one, other = (
        [SeedRun(seed, side[shots, seed].images, side[shots, seed].correct) for shots, seed in common]
        for side in (ours, theirs)
    )
    paired = ordering.paired(one, other)
    return Measured(
        seeds=len(by_seed),
        accuracy=points.estimate(list(by_seed.values()), paired.by_image),
        predictions_changed=float(np.mean([np.mean(ours[key].classes != theirs[key].classes) for key in common])),
        p_value=paired.p_value,
    )


def interaction(both: Predictions, singles: Sequence[Predictions], without: Predictions) -> tuple[Array, float] | None:
    """What two changes do together beyond the sum of what each does alone: by seed (seeds,), and the p-value.

    both + without - one - other, the same as (both + without)/2 against (one + other)/2, twice: so the tests are those
    of two ways to train. None unless all four have finished the same cells.
    """
    one, other = singles
    keys = sorted(both)
    if not keys or any(sorted(each) != keys for each in (one, other, without)):
        return None

    def means(first: Predictions, second: Predictions) -> list[SeedRun]:
        halves = [(first[key].correct + second[key].correct.astype(np.float64)) / 2 for key in keys]
        return [SeedRun(key[1], both[key].images, half) for key, half in zip(keys, halves, strict=True)]

    paired = ordering.paired(means(both, without), means(one, other))
    return 2 * paired.by_seed, paired.p_value


def accuracies(found: Mapping[Framework, Predictions], recipe: Recipe) -> dict[Framework, Estimate]:
    """Mean accuracy over the seeds that have finished all numbers of shots."""
    estimates = {}
    for framework, cells in found.items():
        by_seed: dict[int, list[float]] = {}
        for (_, seed), each in cells.items():
            by_seed.setdefault(seed, []).append(float(each.correct.mean()))
        whole = [float(np.mean(values)) for values in by_seed.values() if len(values) == len(recipe.shots)]
        if whole:
            images = len(next(iter(cells.values())).images)
            estimates[framework] = points.estimate_accuracy(whole, images)
    return estimates

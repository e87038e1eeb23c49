"""The points of learning curves: means over seeds, with intervals for other seeds and for new images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from transfer_parity.shared.contract.framework_defaults import Mode
from transfer_parity.shared.contract.recipe import Framework, Shots
from transfer_parity.shared.contract.study_recipe import BASELINE
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.data.folders import Dataset
from transfer_parity.shared.evaluation import new_images, significance
from transfer_parity.shared.evaluation.new_images import Division, Judged
from transfer_parity.shared.experiments.advice import MeasuredCell
from transfer_parity.shared.experiments.arms import ArmKey
from transfer_parity.shared.experiments.study_document import Estimate, Point
from transfer_parity.shared.experiments.sweep import Sweep

#: What tells a cell from all others.
CellKey = tuple[Mode, Framework, str, Shots, int]


def points(sweep: Sweep, cells: Sequence[MeasuredCell]) -> Iterator[Point]:
    """A point for each arm and number of shots that has finished cells."""
    by_cell = {_key(cell): cell for cell in cells}
    for key in (arm.key for arm in sweep.arms):
        strategy = sweep.inputs.strategies[key.strategy]
        for shots in strategy.recipe.shots:
            keys = [(key.mode, key.framework, key.strategy, shots, seed) for seed in strategy.recipe.seed_list]
            found = [by_cell[each] for each in keys if each in by_cell]
            if found:
                plan = strategy.plans[shots, found[0].result.seed]
                divided = division(sweep.data, len(plan.train), len(plan.test))
                yield _point(key, shots, found, divided, _gains(by_cell, found))


def division(data: Dataset, train: int, tested: int) -> Division:
    """How a seed divides the labelled images. Where the folder has tests of its own, these are no part of it."""
    fixed = data.is_test is not None
    pool = int(data.labelled.sum()) - tested * fixed
    return Division(train, pool, fixed)


def _key(cell: MeasuredCell) -> CellKey:
    each = cell.result
    return each.mode, each.framework, each.strategy, each.shots, each.seed


def _gains(by_cell: Mapping[CellKey, MeasuredCell], found: Sequence[MeasuredCell]) -> list[Judged]:
    """Image by image, what is recognised minus what the baseline recognises, for every seed that both have finished."""
    if found[0].result.strategy == BASELINE:
        return []
    pairs = []
    for cell in found:
        mode, framework, _, shots, seed = _key(cell)
        baseline = by_cell.get((mode, framework, BASELINE, shots, seed))
        if baseline is not None:
            pairs.append(Judged(cell.images, cell.correct.astype(np.float64) - baseline.correct))
    return pairs


def _point(
    key: ArmKey, shots: Shots, found: Sequence[MeasuredCell], divided: Division, gains: Sequence[Judged]
) -> Point:
    results = [cell.result for cell in found]

    def mean(name: str) -> float:
        return float(np.mean([getattr(each, name) for each in results]))

    finite = all(each.log_loss is not None for each in results)
    return Point(
        framework=key.framework,
        strategy=key.strategy,
        mode=key.mode,
        shots=shots,
        seeds=len(found),
        accuracy=_accuracy([Judged(cell.images, cell.correct) for cell in found], divided),
        macro_precision=mean("macro_precision"),
        macro_recall=mean("macro_recall"),
        macro_f1=mean("macro_f1"),
        log_loss=mean("log_loss") if finite else None,
        calibration_error=mean("calibration_error") if finite else None,
        seconds=mean("seconds"),
        gain=_gain(gains, divided) if gains else None,
    )


def estimate(values: Sequence[float], by_image: Sequence[float] | Array = ()) -> Estimate:
    """The mean of independent differences of accuracy, with its interval if there is more than one.

    Args:
        values: of the seeds.
        by_image: the same by test image. Seeds that happen to differ alike say nothing about spread; images do.
    """
    array = np.array(values)
    mean = float(array.mean())
    if len(array) < 2:
        return Estimate(mean=mean, interval=None)
    error = None
    if np.ptp(array) == 0 and len(by_image) > 1:
        array, error = np.full(len(by_image), mean), float(np.std(by_image, ddof=1)) / math.sqrt(len(by_image))
    return Estimate(mean=mean, interval=significance.difference_interval(array, error=error))


def estimate_accuracy(values: Sequence[float], images: int) -> Estimate:
    """The mean of independent accuracies, each on so many test images, with its interval if there is more than one."""
    array = np.array(values)
    interval = significance.accuracy_interval(array, images) if len(values) > 1 else None
    return Estimate(mean=float(array.mean()), interval=interval)


def _gain(seeds: Sequence[Judged], divided: Division) -> Estimate:
    values = [float(each.values.mean()) for each in seeds]
    found = estimate(values, new_images.by_image(seeds))
    if len(seeds) < 2:
        return found
    error = new_images.standard_error(seeds, divided)
    wide = significance.difference_interval(np.array(values), error=error) if error else found.interval
    return found.model_copy(update={"new_images": wide})


def _accuracy(seeds: Sequence[Judged], divided: Division) -> Estimate:
    values, images = [float(each.values.mean()) for each in seeds], len(np.unique(seeds[0].images))
    found = estimate_accuracy(values, images)
    if len(seeds) < 2:
        return found
    error = new_images.standard_error(seeds, divided)
    wide = significance.accuracy_interval(np.array(values), images, error=error)
    return found.model_copy(update={"new_images": wide})


def new_images_sentence(sweep: Sweep) -> str:
    """What the intervals for new images are about; nothing with a single seed.

    The largest number of shots stands for all: the division into test images and others is the same for each.
    """
    recipe = sweep.common
    if recipe.seeds < 2:
        return ""
    plan = next(iter(sweep.inputs.strategies.values())).plans[recipe.shots[-1], recipe.first_seed]
    tested = len(plan.test)
    divided = division(sweep.data, len(plan.train), tested)
    rest = divided.pool - tested
    if divided.fixed:
        return (
            "for new test images, and other training images from this pool: variance over seeds, and over the "
            f"{tested} test images, which all seeds share."
        )
    if tested <= rest:
        return (
            f"for new images of the same kind: seeds divide the same {divided.pool} images, so the variance over seeds "
            f"counts 1/{recipe.seeds} + {tested}/{rest} times, not 1/{recipe.seeds} (Nadeau and Bengio, 2003)."
        )
    return (
        f"for new images of the same kind: seeds divide the same {divided.pool} images and test on most of them, so "
        "the variance over images counts besides that over seeds."
    )

"""Is one way to train better than another? Only where paired tests say so; otherwise the two are tied."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.evaluation import significance

#: Most seeds that a promise is made about.
MOST_SEEDS = 1000


@dataclass(frozen=True)
class SeedRun:
    """What was recognised in one run.

    Attributes:
        seed: of the run.
        images: its test images, as indices of the data set, (N,).
        correct: which of them are recognised: bool, or a part of 1 as a mean of several runs on them, (N,).
    """

    seed: int
    images: Array
    correct: Array


@dataclass(frozen=True)
class Tie:
    """A strategy that cannot be told from the best one.

    Attributes:
        strategy: its name.
        behind: mean accuracy of the best one minus its own.
        p_value: of the paired tests, corrected for the number of pairs (Holm).
        seeds: about so many would tell it from the best, or None: fewer than two seeds, or more than ``MOST_SEEDS``.
    """

    strategy: str
    behind: float
    p_value: float
    seeds: int | None


@dataclass(frozen=True)
class PairedRuns:
    """Differences between two ways to train.

    Attributes:
        by_seed: mean accuracy differences, in the order of the seeds, (seeds,).
        by_image: the same by test image, over the seeds that tested it, (images,).
    """

    by_seed: Array
    by_image: Array

    @property
    def p_value(self) -> float:
        """That of the stricter of two tests, so that a difference holds for other training images and for other tests.

        Over seeds, Student's paired t test. Over images, the exact sign test: on how many is the one recognised more
        often, on how many the other (with one seed, McNemar's exact test)? One seed says nothing about seeds.
        """
        over_images = significance.exact_mcnemar(self.by_image > 0, self.by_image < 0)
        return over_images if len(self.by_seed) < 2 else max(over_images, significance.paired_t(self.by_seed))


def paired(ours: Sequence[SeedRun], theirs: Sequence[SeedRun]) -> PairedRuns:
    """Ours minus theirs, run by run: both in the same order, with the same seeds and test images.

    Several runs of a seed (numbers of shots, frameworks) count as one: they share their images.
    """
    by_seed: dict[int, list[float]] = defaultdict(list)
    by_image: dict[int, list[float]] = defaultdict(list)
    for one, other in zip(ours, theirs, strict=True):
        differences = one.correct.astype(np.float64) - other.correct
        by_seed[one.seed].append(float(differences.mean()))
        for image, difference in zip(one.images.tolist(), differences.tolist(), strict=True):
            by_image[image].append(difference)
    return PairedRuns(*(np.array([np.mean(values) for values in each.values()]) for each in (by_seed, by_image)))


def tied_with_best(runs: Mapping[str, Sequence[SeedRun]]) -> tuple[str, list[Tie]]:
    """The strategy with the highest mean accuracy, and those that cannot be told from it, the nearest first.

    All pairs of strategies are tested, since which one is best is seen only afterwards; the chance of a single wrong
    order among them stays below 5 % (Holm).

    Args:
        runs: by strategy, on the same seeds and test images in the same order; at least one strategy.
    """
    mean = {name: float(np.mean([each.correct.mean() for each in found])) for name, found in runs.items()}
    best = max(mean, key=lambda name: mean[name])
    pairs = list(combinations(runs, 2))
    tests = {pair: paired(runs[pair[0]], runs[pair[1]]) for pair in pairs}
    corrected = dict(zip(pairs, significance.holm([tests[pair].p_value for pair in pairs]), strict=True))
    ties = []
    for pair, p_value in corrected.items():
        if best in pair and p_value >= significance.ALPHA:
            other = pair[0] if pair[1] == best else pair[1]
            # Holm's first step divides by the number of all tests.
            needed = significance.seeds_to_tell_apart(tests[pair].by_seed, significance.ALPHA / len(pairs), MOST_SEEDS)
            if needed is not None:
                # As many as there are do not: it is the images, or bad luck, that keep them together.
                needed = max(needed, len(tests[pair].by_seed) + 1)
            ties.append(Tie(other, mean[best] - mean[other], p_value, needed))
    return best, sorted(ties, key=lambda tie: tie.behind)

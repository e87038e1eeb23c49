"""How far a mean over random splits of one pool of images may be from the truth for new images.

Seeds that divide one pool again and again share images, so their results scatter less than those of as many fresh
pools would. Student's interval over seeds answers "what would more seeds of this pool give?"; one for new images of the
same kind has to be wider.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from transfer_parity.shared.contract.wing import Array


@dataclass(frozen=True)
class Judged:
    """One seed: its test images, and what counts on each.

    Attributes:
        images: as indices of the pool, (m,); one with answers to several questions stands there as often.
        values: recognised or not, 0 or 1; or a difference of two classifiers, -1 to 1, (m,).
    """

    images: Array
    values: Array


@dataclass(frozen=True)
class Division:
    """How each seed divides a pool.

    Attributes:
        train: images that a seed trains on.
        pool: images that are there for training and for tests.
        fixed: whether all seeds have the same test images, which are none of those that any of them trains on.
    """

    train: int
    pool: int
    fixed: bool


def standard_error(seeds: Sequence[Judged], division: Division) -> float:
    """Standard error of the mean over seeds, as a statement about new images. Needs two seeds.

    Of J seeds with variance s², each on m test images of a pool of n:

    - Random splits, the test part not the larger one: s² (1/J + m/(n - m)), Nadeau and Bengio (2003, Inference for the
      generalization error, section 4): two test parts share m/n of their images, and are taken to correlate by as
      much. Where a seed trains on all that it does not test on, m/(n - m) is their "test by training images". Where
      it trains on few of those, the overlap of the test parts is still this one.
    - Random splits, the test part the larger one: all seeds test on nearly the same images, and nothing can be learned
      of these from scatter over seeds. Their part is the variance over images of what a seed has on average, divided
      by the number of images; the training images' is s² (1/J + k/(n - k)), for an overlap of k/n of them.
    - The same test images in all seeds: s²/J and the images' part. It speaks of new test images, and of other training
      images from the pool as far as seeds draw any.

    Args:
        seeds: two or more.
        division: of each of them.
    """
    means = np.array([each.values.mean() for each in seeds])
    return _error(means, len(np.unique(seeds[0].images)), division, lambda: _of_images(seeds))


def largest_error(accuracies: Array, tested: int, division: Division) -> float:
    """The same where nothing is known but accuracies: the part of the images is as large as they allow.

    Of N images with a mean of p the variance is at most p (1 - p) N/(N - 1), which is that of seeds that agree.

    Args:
        accuracies: of the seeds, 0 to 1, (J,); two or more.
        tested: test images of a seed.
        division: of each seed.
    """
    mean = float(accuracies.mean())
    return _error(accuracies, tested, division, lambda: mean * (1 - mean) / (tested - 1) if tested > 1 else 0.25)


def _error(means: Array, tested: int, division: Division, of_images: Callable[[], float]) -> float:
    # Equal ones scatter by rounding alone.
    variance = float(means.var(ddof=1)) if np.ptp(means) else 0.0
    count, rest = len(means), division.pool - tested
    if not division.fixed and tested <= rest:
        return math.sqrt(variance * (1 / count + tested / rest))
    others = division.pool - division.train
    shared = 0.0 if division.fixed or others <= 0 else division.train / others
    return math.sqrt(variance * (1 / count + shared) + of_images())


def by_image(seeds: Sequence[Judged]) -> Array:
    """What counts on each image, mean over the seeds that tested it, (N,)."""
    images = np.concatenate([each.images for each in seeds])
    values = np.concatenate([each.values for each in seeds]).astype(np.float64)
    _, place, counts = np.unique(images, return_inverse=True, return_counts=True)
    return np.bincount(place.ravel(), values) / counts


def _of_images(seeds: Sequence[Judged]) -> float:
    """Squared standard error of a mean over images."""
    values = by_image(seeds)
    return 0.25 if len(values) < 2 else float(values.var(ddof=1)) / len(values)

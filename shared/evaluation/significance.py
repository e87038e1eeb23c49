"""Is a paired difference small, real, or not known yet? SciPy's distributions, no home-made ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Outcome = Literal["equivalent", "different", "inconclusive"]
#: Chance of a wrong "equivalent" and of a wrong "different".
ALPHA = 0.05
#: Chance that as many seeds as ``seeds_to_settle`` says settle the question.
POWER = 0.8


def _special() -> Any:
    """SciPy's functions, which take a seventh of a second to import: not every command needs an interval."""
    from scipy import special

    return special


@dataclass(frozen=True)
class PairedDifference:
    """A mean paired difference with two intervals.

    Attributes:
        mean: of the differences.
        interval: 95 % confidence interval; a difference is real if it excludes 0.
        equivalence_interval: 90 % confidence interval; two one-sided tests at 5 % find equivalence if it lies within
            the margin (Schuirmann, 1987).
        outcome: "equivalent" within the margin, else "different" if real, else "inconclusive".
    """

    mean: float
    interval: tuple[float, float]
    equivalence_interval: tuple[float, float]
    outcome: Outcome


def paired_difference(differences: NDArray[Any], margin: float) -> PairedDifference:
    """Student's t intervals for the mean of independent paired differences of accuracy.

    Args:
        differences: one for each pair, -1 to 1, (n,).
        margin: differences of less than this count as equivalent.
    """
    mean = float(np.mean(differences))
    wide, narrow = (difference_interval(differences, level) for level in (1 - ALPHA, 1 - 2 * ALPHA))
    outcome: Outcome = "inconclusive"
    if -margin < narrow[0] and narrow[1] < margin:
        outcome = "equivalent"
    elif wide[0] > 0 or wide[1] < 0:
        outcome = "different"
    return PairedDifference(mean, wide, narrow, outcome)


def _interval(differences: NDArray[Any], level: float, error: float | None = None) -> tuple[float, float]:
    n = len(differences)
    mean = float(np.mean(differences))
    if n < 2:
        return (-math.inf, math.inf)
    error = float(np.std(differences, ddof=1)) / math.sqrt(n) if error is None else error
    reach = float(_special().stdtrit(n - 1, (1 + level) / 2)) * error
    return (mean - reach, mean + reach)


def difference_interval(
    differences: NDArray[Any], level: float = 1 - ALPHA, error: float | None = None
) -> tuple[float, float]:
    """Student's t interval for the mean of differences of accuracy (n,), without what cannot be.

    What lies outside of -1 to 1 is cut off, which takes nothing from its chance to cover the truth. Infinite for a
    single difference.

    Args:
        differences: of the seeds.
        level: chance that it covers the truth.
        error: standard error of the mean; that of independent differences if None.
    """
    values = np.asarray(differences, dtype=np.float64)
    low, high = _interval(values, level, error)
    return (low, high) if len(values) < 2 else (max(-1.0, low), min(1.0, high))


def accuracy_interval(
    accuracies: NDArray[Any], images: int, level: float = 1 - ALPHA, error: float | None = None
) -> tuple[float, float]:
    """Confidence interval for a mean accuracy, on the scale of the logit: it never leaves 0 to 1.

    Student's t for the mean p of n seeds, with the standard error carried over to ln(p / (1 - p)) by the delta method
    (Agresti, Categorical Data Analysis, 2013, section 3.1.6): divided by p (1 - p). In the middle, where few seeds do
    not scatter much, it is next to Student's own interval. Seeds that happen to be equally good say nothing about
    spread; images do then, by Wilson's score interval (1927) for one seed's test images. So do they where all answers
    are right, or all wrong: the logit of that is infinite.

    Args:
        accuracies: of the seeds, 0 to 1, (n,); at least two.
        images: test images of one seed.
        level: chance that it covers the truth.
        error: standard error of the mean; that of independent accuracies if None.
    """
    values = np.asarray(accuracies, dtype=np.float64)
    mean, n = float(values.mean()), len(values)
    if error is None:
        # Equal ones scatter by rounding alone.
        error = float(np.std(values, ddof=1)) / math.sqrt(n) if np.ptp(values) else 0.0
    if error == 0 or not 0 < mean < 1:
        return _wilson(mean, images, level)
    special = _special()
    reach = float(special.stdtrit(n - 1, (1 + level) / 2)) * error / (mean * (1 - mean))
    middle = special.logit(mean)
    return (float(special.expit(middle - reach)), float(special.expit(middle + reach)))


def _wilson(part: float, n: int, level: float) -> tuple[float, float]:
    z = float(_special().ndtri((1 + level) / 2))
    middle = (part + z * z / (2 * n)) / (1 + z * z / n)
    reach = z * math.sqrt(part * (1 - part) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return (max(0.0, min(part, middle - reach)), min(1.0, max(part, middle + reach)))


def better_than(right: int, images: int, chance: float) -> float:
    """p-value of the exact one-sided binomial test: are more images recognised than by chance?

    Args:
        right: how many are recognised.
        images: of so many.
        chance: part of them that is recognised by chance, 0 to 1.
    """
    return float(_special().bdtrc(right - 1, images, chance)) if right > 0 else 1.0


def paired_t(differences: NDArray[Any]) -> float:
    """p-value of Student's two-sided t test: is the mean of independent paired differences (n,) zero?

    1 for a single pair, and where there is no difference at all; 0 where all are the same and not zero.
    """
    n = len(differences)
    if n < 2 or not np.any(differences):
        return 1.0
    error = float(np.std(differences, ddof=1)) / math.sqrt(n)
    if error == 0:
        return 0.0
    return 2 * float(_special().stdtr(n - 1, -abs(float(np.mean(differences))) / error))


def seeds_to_tell_apart(differences: NDArray[Any], level: float, most: int = 1000) -> int | None:
    """How many pairs Student's two-sided t test needs to find a difference with a chance of 80 %.

    If they go on as they began: the mean that was found is taken as the true one, and so is the scatter.

    Args:
        differences: of the pairs so far, (n,).
        level: of the test; where several are made, that of the strictest.
        most: no more than so many.

    Returns:
        None if there are fewer than two pairs, or if ``most`` would not do.
    """
    if len(differences) < 2:
        return None
    mean, deviation = abs(float(np.mean(differences))), float(np.std(differences, ddof=1))
    return _fewest(lambda n: _t_test_power(n, mean, deviation, level) >= POWER, most)


def _t_test_power(n: int, mean: float, deviation: float, level: float) -> float:
    """Chance that Student's two-sided t test of n values finds their mean, by the noncentral t distribution."""
    special = _special()
    # Without any scatter two values do; and so far away the distribution cannot be computed.
    away = mean * math.sqrt(n) / max(deviation, 1e-9)
    return 1.0 if away > 30 else float(1 - special.nctdtr(n - 1, away, special.stdtrit(n - 1, 1 - level / 2)))


def _fewest(enough: Callable[[int], bool], most: int) -> int | None:
    """The smallest number from 2 on that is enough, as are all above it; None if ``most`` is not."""
    if not enough(most):
        return None
    low, high = 2, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


def exact_mcnemar(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> float:
    """p-value of McNemar's exact test: are two classifiers right equally often on the same images?

    Only images that one of them gets right and the other wrong count; under no difference each is a fair coin
    (McNemar, 1947; the exact form is a two-sided binomial test).

    Args:
        ours: which images the first one gets right, (N,).
        theirs: the same of the second one.
    """
    better, worse = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    # Twice the tail: a fair coin's distribution is symmetric.
    return min(1.0, 2 * float(_special().bdtr(min(better, worse), better + worse, 0.5)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values that are corrected for their number (Holm, 1979): the chance of any false alarm stays below the level.

    Args:
        p_values: of all tests, in any order.

    Returns:
        In the same order; each may be compared with the level as if it were the only one.
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def seeds_to_settle(differences: NDArray[Any], margin: float, most: int = 100_000) -> int | None:
    """How many pairs would settle what is inconclusive now, with a chance of 80 %, if they go on as they began.

    Settled is "equivalent" or "different". The mean of n pairs is taken as normal around the mean that was found, and
    their scatter as known: what is the chance that it lies within the one bound or beyond the other?

    Args:
        differences: of the pairs so far, (n,).
        margin: differences of less than this count as equivalent.
        most: no more than so many.

    Returns:
        None if there are fewer than two pairs, or if ``most`` would not do.
    """
    if len(differences) < 2:
        return None
    mean, deviation = float(np.mean(differences)), float(np.std(differences, ddof=1))
    if deviation == 0:
        return 2

    special = _special()

    def settled(n: int) -> bool:
        error = deviation / math.sqrt(n)
        within = margin / error - special.stdtrit(n - 1, 1 - ALPHA)
        beyond = max(within, special.stdtrit(n - 1, 1 - ALPHA / 2))

        def inside(bound: float) -> float:
            return float(special.ndtr(bound - mean / error) - special.ndtr(-bound - mean / error))

        return max(0.0, inside(within)) + 1 - inside(beyond) >= POWER

    return _fewest(settled, most)


def repeats_to_find(ratios: NDArray[Any], difference: float, power: float = 0.9, most: int = 1000) -> int | None:
    """How many paired repeats find a difference of a given size, if they scatter as these do.

    The power of Student's two-sided t test on the ratios' logarithms at 5 %, by the noncentral t distribution.

    Args:
        ratios: of paired measurements so far, all above 0, (n,).
        difference: the ratio that is to be found, above 1: 1.1 is a tenth more.
        power: chance of finding it.
        most: no more than so many.

    Returns:
        None if there are fewer than two ratios, or if ``most`` would not do.
    """
    if len(ratios) < 2:
        return None
    deviation = float(np.std(np.log(ratios), ddof=1))
    return _fewest(lambda n: _t_test_power(n, math.log(difference), deviation, ALPHA) >= power, most)


def ratio_interval(ratios: NDArray[Any], level: float = 1 - ALPHA, resamples: int = 9999) -> tuple[float, float]:
    """Bootstrap confidence interval for the geometric mean of paired ratios.

    The expanded percentile interval (Hesterberg, What Teachers Should Know About the Bootstrap, 2015, section 3.3):
    percentiles of resampled means, further out than the level says by as much as Student's t with n - 1 degrees of
    freedom is wider than the normal distribution and the divisor n narrower than n - 1. Five values have few different
    resamples, so that even this misses the truth in 8 % of all cases instead of 5 %; the interval is therefore never
    narrower than Student's.

    Args:
        ratios: of paired measurements, all above 0, (n,).
        level: chance that the interval covers the truth.
        resamples: of the bootstrap, drawn with a fixed seed.
    """
    logs = np.log(np.asarray(ratios, dtype=np.float64))
    n = len(logs)
    if n < 2:
        return (0.0, math.inf)
    special = _special()
    tail = float(special.ndtr(math.sqrt(n / (n - 1)) * special.stdtrit(n - 1, (1 - level) / 2)))
    drawn = np.random.default_rng(0).integers(0, n, (resamples, n))
    low, high = np.quantile(logs[drawn].mean(axis=1), (tail, 1 - tail))
    student = _interval(logs, level)
    return (math.exp(min(low, student[0])), math.exp(max(high, student[1])))

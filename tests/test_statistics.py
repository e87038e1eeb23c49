"""The statistics keep what they promise: error rates and coverage over thousands of simulated studies."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower, normal_sample_size_one_tail
from statsmodels.stats.weightstats import DescrStatsW, ttost_paired

from transfer_parity.shared.evaluation import significance

#: Simulated studies of each kind.
STUDIES = 4000
MARGIN = 0.01
#: A rate of 5 % comes out above this in one of a thousand batches of studies.
HIGHEST = stats.binom.ppf(0.999, STUDIES, 0.05) / STUDIES


def paired_predictions(random: np.random.Generator, seeds: int, images: int, difference: float) -> np.ndarray:
    """Accuracy differences by seed of two classifiers that mostly agree, the first one better by ``difference``.

    On an image both are right or wrong together, but for 6 % of them and those that make the difference.
    """
    draws = random.random((seeds, images))
    better = draws < 0.03 + difference
    worse = (draws > 0.5) & (draws < 0.53)
    return np.asarray((better.astype(float) - worse).mean(axis=1))


def normal(random: np.random.Generator, seeds: int, images: int, difference: float) -> np.ndarray:
    del images
    return random.normal(difference, 0.01, seeds)


KINDS = pytest.mark.parametrize("draw", [normal, paired_predictions])
SEEDS = pytest.mark.parametrize("seeds", [5, 20])


def studies(draw: object, seeds: int, difference: float) -> Iterator[significance.PairedDifference]:
    assert callable(draw)
    random = np.random.default_rng([seeds, int(1e6 * difference)])
    for _ in range(STUDIES):
        sample: np.ndarray = draw(random, seeds, 300, difference)
        yield significance.paired_difference(sample, MARGIN)


@KINDS
@SEEDS
def test_no_difference_is_rarely_called_one(draw: object, seeds: int) -> None:
    found = list(studies(draw, seeds, 0.0))
    assert np.mean([each.outcome == "different" for each in found]) <= 0.05
    covered = np.mean([each.interval[0] <= 0 <= each.interval[1] for each in found])
    assert 0.93 <= covered <= 0.97


@KINDS
@SEEDS
def test_a_difference_at_the_margin_is_rarely_called_equivalent(draw: object, seeds: int) -> None:
    found = list(studies(draw, seeds, MARGIN))
    assert np.mean([each.outcome == "equivalent" for each in found]) <= HIGHEST
    covered = np.mean([each.interval[0] <= MARGIN <= each.interval[1] for each in found])
    assert 0.93 <= covered <= 0.97


@pytest.mark.parametrize(
    ("differences", "outcome"),
    [
        ([0.0, 0.0, 0.0], "equivalent"),
        ([0.001, -0.001, 0.002, 0.0, 0.001], "equivalent"),
        ([0.05, 0.06, 0.05, 0.055, 0.052], "different"),
        ([0.05, -0.06, 0.02, -0.03, 0.04], "inconclusive"),
        ([0.05], "inconclusive"),
    ],
)
def test_paired_differences(differences: list[float], outcome: str) -> None:
    assert significance.paired_difference(np.array(differences), MARGIN).outcome == outcome


def test_a_plain_difference_is_found() -> None:
    found = [each.outcome for each in studies(paired_predictions, 20, 0.04)]
    assert np.mean([outcome == "different" for outcome in found]) > 0.9


def test_a_small_difference_is_found_equivalent() -> None:
    random = np.random.default_rng(0)
    found = [significance.paired_difference(random.normal(0.001, 0.004, 10), MARGIN).outcome for _ in range(STUDIES)]
    assert np.mean([outcome == "equivalent" for outcome in found]) > 0.9


@SEEDS
def test_intervals_of_means_cover_them(seeds: int) -> None:
    random = np.random.default_rng(seeds)
    hits = 0
    for _ in range(STUDIES):
        # Accuracies on 100 images each.
        low, high = significance.accuracy_interval(random.binomial(100, 0.8, seeds) / 100, 100)
        hits += low <= 0.8 <= high
    assert 0.93 <= hits / STUDIES <= 0.97


def test_mcnemar_counts_only_where_they_differ() -> None:
    ours = np.array([True] * 60 + [True] * 9 + [False] * 1 + [False] * 30)
    theirs = np.array([True] * 60 + [False] * 9 + [True] * 1 + [False] * 30)
    # Nine and one of ten fair coins: 2 (1 + 10) / 1024.
    assert significance.exact_mcnemar(ours, theirs) == pytest.approx(22 / 1024)
    assert significance.exact_mcnemar(ours, ours) == 1


def test_mcnemar_and_holm_rarely_give_a_false_alarm() -> None:
    """Twenty cells a study, none with a difference: the chance of any alarm stays below 5 %."""
    random = np.random.default_rng(1)
    alarms = 0
    for _ in range(2000):
        draws = random.random((20, 200))
        p_values = [significance.exact_mcnemar(row < 0.5, (row > 0.05) & (row < 0.55)) for row in draws]
        alarms += min(significance.holm(p_values)) < 0.05
    assert alarms / 2000 <= 0.05


def test_holm() -> None:
    """The example of Holm's own procedure: multipliers 4, 3, 2, 1, never falling."""
    assert significance.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert significance.holm([0.9, 0.8]) == [1.0, 1.0]
    assert significance.holm([]) == []


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 0.01), (0.004, 0.01), (0.02, 0.02)])
def test_as_many_seeds_as_promised_settle_it(mean: float, deviation: float) -> None:
    shape = np.array([-1.0, 0.0, 1.0, -1.0, 0.0, 1.0])
    pilot = mean + deviation * shape / shape.std(ddof=1)
    needed = significance.seeds_to_settle(pilot, MARGIN)
    assert needed is not None
    random = np.random.default_rng(2)

    def settled(n: int) -> float:
        outcomes = [
            significance.paired_difference(random.normal(mean, deviation, n), MARGIN).outcome for _ in range(2000)
        ]
        return float(np.mean([outcome != "inconclusive" for outcome in outcomes]))

    assert 0.75 <= settled(needed) <= 0.92
    assert settled(max(2, needed // 2)) < 0.75


def test_what_more_seeds_cannot_settle() -> None:
    assert significance.seeds_to_settle(np.array([0.01]), MARGIN) is None
    # Next to the margin: neither equivalent nor told apart from it, but told apart from zero.
    assert significance.seeds_to_settle(np.array([0.0099, 0.0101, 0.01]), MARGIN) is not None
    assert significance.seeds_to_settle(np.array([-1.0, 1.0]), MARGIN, most=100) is None


# Against statsmodels, which knows the same procedures.


@pytest.mark.parametrize("number", [1, 2, 5, 20, 60])
def test_holm_is_statsmodels(number: int) -> None:
    random = np.random.default_rng(number)
    for power in (1, 2, 4):
        # Rounded, so that some are equal.
        p_values = np.round(random.random(number) ** power, 2)
        expected = multipletests(p_values, method="holm")[1]
        np.testing.assert_allclose(significance.holm(p_values.tolist()), expected, rtol=1e-12)


@pytest.mark.parametrize("images", [1, 10, 100, 1000])
def test_exact_mcnemar_is_statsmodels(images: int) -> None:
    random = np.random.default_rng(images)
    for accuracy in (0.1, 0.5, 0.6, 0.95):
        ours, theirs = random.random(images) < 0.5, random.random(images) < accuracy
        table = [[(ours & theirs).sum(), (ours & ~theirs).sum()], [(~ours & theirs).sum(), (~ours & ~theirs).sum()]]
        expected = float(mcnemar(table, exact=True).pvalue)
        assert significance.exact_mcnemar(ours, theirs) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seeds", [2, 3, 5, 30])
def test_paired_differences_are_statsmodels(seeds: int) -> None:
    """Intervals, and two one-sided tests: equivalent is what both of them reject at 5 %."""
    random = np.random.default_rng(seeds)
    outcomes = set()
    for _ in range(300):
        mean, deviation = random.normal(0, 0.01), 10 ** random.uniform(-4, -1.6)
        ours, theirs = random.random(seeds), random.normal(mean, deviation, seeds)
        differences = ours - (theirs := ours + theirs)
        found = significance.paired_difference(differences, MARGIN)
        reference = DescrStatsW(differences)
        np.testing.assert_allclose(found.interval, reference.tconfint_mean(0.05), rtol=1e-9)
        np.testing.assert_allclose(found.equivalence_interval, reference.tconfint_mean(0.10), rtol=1e-9)
        tost = float(ttost_paired(ours, theirs, -MARGIN, MARGIN)[0])
        different = float(reference.ttest_mean(0)[1]) < 0.05
        outcome = "equivalent" if tost < 0.05 else "different" if different else "inconclusive"
        assert found.outcome == outcome
        outcomes.add(outcome)
    assert outcomes == {"equivalent", "different", "inconclusive"}


@pytest.mark.parametrize("deviation", [0.01, 0.05, 0.2, 0.5])
@pytest.mark.parametrize("difference", [1.05, 1.1, 1.5])
@pytest.mark.parametrize("power", [0.5, 0.8, 0.9])
def test_repeats_to_find_are_statsmodels(deviation: float, difference: float, power: float) -> None:
    """The smallest number of pairs with which the t test has the power; both know the noncentral t distribution."""
    logs = np.random.default_rng(3).normal(0, 1, 7)
    ratios = np.exp(deviation * logs / logs.std(ddof=1))
    found = significance.repeats_to_find(ratios, difference, power)

    def reached(repeats: int) -> float:
        # On the side on which the difference lies: to find it on the other one is no success.
        effect = math.log(difference) / deviation
        return float(TTestPower().power(effect, repeats, 0.025, alternative="larger"))

    if found is None:
        # No more than so many are looked at.
        assert reached(1000) < power
        return
    assert reached(found) >= power - 1e-9
    assert found == 2 or reached(found - 1) < power + 1e-9


@pytest.mark.parametrize("deviation", [0.01, 0.02, 0.04])
def test_seeds_to_settle_a_difference_are_statsmodels(deviation: float) -> None:
    """Far outside of the margin the question is that of Student's t test, which takes the scatter as unknown."""
    mean = 2.5 * MARGIN
    shape = np.array([-1.0, 0.0, 1.0, -1.0, 0.0, 1.0])
    found = significance.seeds_to_settle(mean + deviation * shape / shape.std(ddof=1), MARGIN)
    expected = TTestPower().solve_power(mean / deviation, alpha=0.05, power=significance.POWER)
    assert found is not None
    assert abs(found - math.ceil(expected)) <= 1


@pytest.mark.parametrize("deviation", [0.05, 0.1, 0.2])
def test_seeds_to_settle_an_equivalence_are_statsmodels(deviation: float) -> None:
    """Without a difference 5 % of all studies find one by chance, so that 75 % have to come out equivalent.

    Each of the two one-sided tests may miss half of the rest. The reference is for a scatter that is known.
    """
    shape = np.array([-1.0, 0.0, 1.0, -1.0, 0.0, 1.0])
    found = significance.seeds_to_settle(deviation * shape / shape.std(ddof=1), MARGIN)
    power = significance.POWER - significance.ALPHA
    expected = normal_sample_size_one_tail(MARGIN, (1 + power) / 2, significance.ALPHA, std_null=deviation)
    assert found is not None
    assert 0 <= found - expected <= 3

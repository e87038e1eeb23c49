"""Strategies compared fairly: ranks with a critical difference, intervals for new images, and equal conditions."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from scipy import stats

from tests.fakes import FakeWorkers
from tests.test_study import finished, sweep_in
from transfer_parity.shared.contract import study_recipe
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.data.folders import from_folder
from transfer_parity.shared.evaluation import new_images, ranks, significance
from transfer_parity.shared.evaluation.new_images import Division, Judged
from transfer_parity.shared.experiments import conditions, fitting, points
from transfer_parity.shared.experiments.comparison_document import Comparison
from transfer_parity.shared.experiments.fitting import Measured
from transfer_parity.shared.experiments.study_document import StudyDocument
from transfer_parity.shared.report import order, order_plot, plots
from transfer_parity.shared.report import study as report

Array = np.ndarray
#: Of a run.
IMAGES = {"training_images": 8, "test_images": 16}

# Ranks.


@pytest.mark.parametrize(("blocks", "strategies"), [(3, 3), (10, 3), (25, 9), (40, 5)])
@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_friedman_is_scipys(blocks: int, strategies: int, levels: int) -> None:
    """Also where many are equal."""
    random = np.random.default_rng([blocks, strategies, levels])
    for _ in range(5):
        scores = random.integers(0, levels, (blocks, strategies)) / levels
        found = ranks.friedman(scores)
        expected = stats.friedmanchisquare(*scores.T)
        assert found.statistic == pytest.approx(expected.statistic, rel=1e-9, abs=1e-9)
        assert found.p_value == pytest.approx(expected.pvalue, rel=1e-7, abs=1e-12)
        np.testing.assert_allclose(found.mean_ranks, stats.rankdata(-scores, axis=1).mean(axis=0), rtol=1e-12)


def test_strategies_that_are_always_equal() -> None:
    found = ranks.friedman(np.full((12, 4), 0.5))
    assert (found.statistic, found.p_value, found.mean_ranks.tolist()) == (0, 1, [2.5] * 4)


def test_nemenyis_q_values_are_those_of_the_paper() -> None:
    """Demsar (2006), table 5(a), for 5 %; and SciPy's, for other numbers."""
    table = {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 6: 2.850, 7: 2.949, 8: 3.031, 9: 3.102, 10: 3.164}
    for strategies, q in table.items():
        for blocks in (10, 25):
            expected = q * math.sqrt(strategies * (strategies + 1) / (6 * blocks))
            assert ranks.critical_difference(strategies, blocks) == pytest.approx(expected, rel=3e-4)
    exact = stats.studentized_range.ppf(0.99, 12, np.inf) / math.sqrt(2) * math.sqrt(12 * 13 / (6 * 30))
    assert ranks.critical_difference(12, 30, 0.01) == pytest.approx(exact, rel=1e-9)
    # At the critical difference, the p-value is the level.
    assert ranks.nemenyi(ranks.critical_difference(9, 25), 9, 25) == pytest.approx(0.05, rel=1e-6)


def test_the_example_of_the_paper() -> None:
    """Demsar (2006), section 3.2.4: mean ranks of four classifiers over 14 data sets."""
    mean_ranks = np.array([3.143, 2.000, 2.893, 1.964])
    statistic = 12 * 14 / (4 * 5) * ((mean_ranks**2).sum() - 4 * 25 / 4)
    assert statistic == pytest.approx(9.28, abs=0.02)
    assert ranks.critical_difference(4, 14) == pytest.approx(1.25, abs=0.01)
    # The pairs that the paper's level of 10 % tells apart: C4.5 and both with m, or almost.
    assert ranks.nemenyi(3.143 - 1.964, 4, 14) < 0.10 < ranks.nemenyi(2.893 - 1.964, 4, 14)


@pytest.mark.parametrize(("strategies", "blocks"), [(3, 10), (9, 25)])
def test_equal_strategies_are_rarely_told_apart(strategies: int, blocks: int) -> None:
    random = np.random.default_rng(strategies)
    difference = ranks.critical_difference(strategies, blocks)
    studies, alarms = 1000, 0
    for _ in range(studies):
        found = ranks.friedman(random.binomial(60, 0.7, (blocks, strategies)))
        alarms += found.p_value < significance.ALPHA and np.ptp(found.mean_ranks) >= difference
    assert alarms <= stats.binom.ppf(0.999, studies, 0.05)
    assert alarms > 0


@pytest.mark.parametrize(
    ("apart", "expected"),
    [
        ([], [["a", "b", "c", "d"]]),
        (["ad"], [["a", "b", "c"], ["b", "c", "d"]]),
        (["ac", "ad", "bc", "bd"], [["a", "b"], ["c", "d"]]),
        (["ab", "ac", "ad", "bc", "bd", "cd"], []),
        # What is no interval of ranks, which paired tests allow.
        (["ab", "cd"], [["a", "c"], ["a", "d"], ["b", "c"], ["b", "d"]]),
    ],
)
def test_groups(apart: list[str], expected: list[list[str]]) -> None:
    assert ranks.groups("abcd", [frozenset(each) for each in apart]) == expected


# Intervals for new images.


def test_the_formula_of_nadeau_and_bengio() -> None:
    """variance (1/J + n_test/n_train), where a seed trains on all that it does not test on."""
    random = np.random.default_rng(0)
    seeds = [Judged(random.permutation(100)[:20], random.random(20) < 0.7) for _ in range(5)]
    means = [each.values.mean() for each in seeds]
    expected = math.sqrt(np.var(means, ddof=1) * (1 / 5 + 20 / 80))
    assert new_images.standard_error(seeds, Division(80, 100, fixed=False)) == pytest.approx(expected, rel=1e-12)
    # Fewer training images do not make two test parts overlap more.
    assert new_images.standard_error(seeds, Division(10, 100, fixed=False)) == pytest.approx(expected, rel=1e-12)


def test_several_answers_about_an_image_are_one_image() -> None:
    random, seeds = np.random.default_rng(0), []
    for _ in range(5):
        right = np.repeat(random.random(20) < 0.7, 2)
        seeds.append(Judged(np.repeat(random.permutation(100)[:20], 2), right))
    once = [Judged(each.images[::2], each.values[::2]) for each in seeds]
    for division in (Division(80, 100, fixed=False), Division(10, 30, fixed=False), Division(80, 80, fixed=True)):
        found = new_images.standard_error(seeds, division)
        assert found == pytest.approx(new_images.standard_error(once, division), rel=1e-12)


def test_equal_seeds_do_not_scatter() -> None:
    seeds = [Judged(np.arange(10) + seed, np.arange(10) < 3) for seed in range(4)]
    assert new_images.standard_error(seeds, Division(40, 50, fixed=False)) == 0
    # What all seeds test on has a part of its own.
    images = new_images.standard_error([Judged(np.arange(10), np.arange(10) < 3)] * 4, Division(40, 40, fixed=True))
    assert images == pytest.approx(math.sqrt(0.3 * 0.7 / 9))


def test_the_largest_error_that_accuracies_allow() -> None:
    """Where each image is always right or always wrong it is the error itself; otherwise that is smaller."""
    random = np.random.default_rng(0)
    right = random.random(40) < 0.7
    for division in (Division(20, 20, fixed=True), Division(10, 50, fixed=False), Division(80, 200, fixed=False)):
        for agree in (True, False):
            answers = [right if agree else random.random(40) < 0.7 for _ in range(5)]
            seeds = [Judged(np.arange(40), each) for each in answers]
            means = np.array([each.mean() for each in answers])
            found, exact = new_images.largest_error(means, 40, division), new_images.standard_error(seeds, division)
            assert found == pytest.approx(exact) if agree or division.pool == 200 else found > exact


def test_an_estimate_of_a_model_is_one_for_new_images(photos: Path) -> None:
    """Seeds that share their test images hardly scatter, and say little about others."""
    data = from_folder(photos)
    runs = [
        SimpleNamespace(framework="torch", shots="all", seed=seed, pretrained=False, accuracy=each, **IMAGES)
        for seed, each in enumerate((0.75, 0.75, 0.8125))
    ]
    recipe = SimpleNamespace(shots=("all",), frameworks=("torch",))
    found = cast(Comparison, SimpleNamespace(runs=runs, recipe=recipe, checkpoint=None))
    shared = replace(data, is_test=np.arange(len(data)) < 16)
    means = np.array([0.75, 0.75, 0.8125])
    for each, division in ((data, Division(8, 24, fixed=False)), (shared, Division(8, 8, fixed=True))):
        interval = fitting.estimated(Measured(found, "earlier"), each).interval["torch"]
        error = new_images.largest_error(means, 16, division)
        assert interval == pytest.approx(significance.accuracy_interval(means, 16, error=error))
        plain = significance.accuracy_interval(means, 16)
        assert interval is not None and interval[1] - interval[0] > 1.5 * (plain[1] - plain[0])


def test_seeds_that_gain_alike_do_not_make_a_gain_certain() -> None:
    """Two seeds with as many gains on other images: the interval is that over the images, as of verdicts."""
    gains = np.repeat([1.0, 0.0, -1.0], [5, 4, 1])
    seeds = [Judged(np.arange(10) + 10 * seed, np.roll(gains, seed)) for seed in range(2)]
    found = points._gain(seeds, Division(30, 50, fixed=False))
    reach = stats.t.ppf(0.975, 19) * np.std([*gains, *gains], ddof=1) / math.sqrt(20)
    assert found.mean == pytest.approx(0.4) and found.interval == pytest.approx((0.4 - reach, 0.4 + reach))
    assert found.new_images == found.interval
    # Where predictions are the same on every image, nothing is gained for certain.
    same = [Judged(each.images, np.zeros(10)) for each in seeds]
    assert points._gain(same, Division(30, 50, fixed=False)).interval == (0, 0)


def test_a_single_test_image_of_all_seeds() -> None:
    """It says nothing about spread, and if all seeds are right their mean has no logit."""
    for right in (True, False):
        error = new_images.standard_error([Judged(np.array([7]), np.array([right]))] * 3, Division(10, 20, fixed=True))
        low, high = significance.accuracy_interval(np.full(3, float(right)), 1, error=error)
        assert (low, high) == pytest.approx((0.2065, 1) if right else (0, 0.7935), abs=1e-4)


def simulated(kind: str, seeds: int, studies: int) -> tuple[float, float]:
    """How often the intervals (Student's, and that for new images) of a study's mean cover the accuracy on new images.

    Ten classes, 21 images of each in a pool, nearest class means in 20 dimensions.
    """
    random, classes, size, images = np.random.default_rng(seeds), 10, 20, 21
    centres = 0.45 * random.normal(size=(classes, size))
    fixed, shots = kind == "own tests", {"all": 15, "few": 5, "rest": 5, "own tests": 5}[kind]
    tests = {"all": 6, "few": 6, "rest": 16, "own tests": 6}[kind]

    def draw(count: int) -> tuple[Array, Array]:
        labels = np.repeat(np.arange(classes), count)
        return centres[labels] + random.normal(size=(len(labels), size)), labels

    def recognised(train: Array, test: Array, labels: Array) -> Array:
        means = train.reshape(classes, -1, size).mean(axis=1)
        return np.asarray(((means**2).sum(axis=1) - 2 * test @ means.T).argmin(axis=1) == labels)

    many = draw(400)
    truth = float(np.mean([recognised(draw(shots)[0], *many).mean() for _ in range(100)]))
    covered = np.zeros(2)
    for _ in range(studies):
        pool, labels = draw(images)
        own, own_labels = draw(tests)
        judged = []
        for _ in range(seeds):
            places = np.stack([random.permutation(images) + images * label for label in range(classes)])
            test = np.arange(len(own)) if fixed else places[:, :tests].ravel()
            train = pool[places[:, images - shots :].ravel()]
            right = recognised(train, own, own_labels) if fixed else recognised(train, pool[test], labels[test])
            judged.append(Judged(test, right))
        values = np.array([each.values.mean() for each in judged])
        error = new_images.standard_error(judged, Division(classes * shots, classes * images, fixed))
        for number, wide in enumerate((None, error)):
            low, high = significance.accuracy_interval(values, len(judged[0].images), error=wide)
            covered[number] += low <= truth <= high
    return float(covered[0] / studies), float(covered[1] / studies)


@pytest.mark.parametrize(
    ("kind", "seeds"), [("all", 5), ("all", 20), ("few", 20), ("rest", 20), ("own tests", 20)], ids=str
)
def test_intervals_for_new_images_cover_the_truth(kind: str, seeds: int) -> None:
    """Student's over seeds do not: that is not their question. With "all", Nadeau and Bengio's are not too wide."""
    studies = 200
    plain, wide = simulated(kind, seeds, studies)
    # 94 % come out below this in one of a thousand batches.
    assert wide >= stats.binom.ppf(0.001, studies, 0.94) / studies
    assert plain < (0.93 if seeds == 5 else 0.75)
    if kind == "all":
        assert wide <= 0.985


# Equal conditions.


def test_what_differs_is_seen_from_recipes() -> None:
    """Whatever strategies are called."""
    recipes = {
        "scratch": Recipe(strategy="linear_probe", image_size=96, batch_size=8, epochs=5),
        "fine": Recipe(strategy="finetune", image_size=128, batch_size=8, epochs=10, learning_rate=0.1),
        "closed": Recipe(strategy="linear_probe", solver="ridge", image_size=128, batch_size=32, epochs=100),
    }
    found = conditions.conditions(recipes)
    assert found.alike == {"batch_size": 8, "precision": "float32"}
    assert {key: [each.value for each in values] for key, values in found.differing.items()} == {
        "image_size": [96, 128],
        "epochs": [5, 10],
    }
    assert found.closed_form == ["closed"]
    assert conditions.sentence(found) == (
        "Alike: batches of 8, float32. Not alike: 96 px (scratch), 128 px (the others); 5 passes over the "
        "training images (scratch), 10 (fine). In closed form, so with one pass and no steps: closed."
    )


def test_the_backbones_own_size_is_a_size() -> None:
    recipes = {"a": Recipe(image_size=224), "b": Recipe(image_size=None)}
    assert not conditions.conditions(recipes).differing


def test_augmentation_of_one_strategy_is_told() -> None:
    recipes = {"a": Recipe(flip=True), "b": Recipe()}
    assert "flip (a), no flip (b)" in conditions.sentence(conditions.conditions(recipes))


def test_the_shipped_study_is_fair() -> None:
    """One image size of 128 px at least, one batch size; what differs: the budget of scratch, and float64."""
    recipes = study_recipe.read("study", {})
    found = conditions.conditions(recipes)
    size = found.alike["image_size"]
    assert isinstance(size, int) and size >= 128
    assert "batch_size" in found.alike
    assert set(found.differing) <= {"epochs", "precision"}
    for each in found.differing.get("epochs", []):
        assert each.strategies == ["scratch"] or "scratch" not in each.strategies
    exact = {name for name, recipe in recipes.items() if recipe.precision == "float64"}
    assert exact == {name for name, recipe in recipes.items() if recipe.first_trained_stage == 0}


def test_the_built_in_study_is_fair() -> None:
    found = conditions.conditions(study_recipe.read(None, {}))
    assert set(found.differing) <= {"epochs"}


# What the report says.


@pytest.fixture
def document(tmp_path: Path, photos: Path, workers: FakeWorkers) -> StudyDocument:
    return finished(sweep_in(tmp_path, photos))


def test_the_report_says_what_differs_and_which_question_an_interval_answers(document: StudyDocument) -> None:
    assert document.conditions is not None
    words = conditions.sentence(document.conditions)
    assert words in report.notes(document) and "ridge" in words
    shown = plots.of_page(document)
    assert all(words in each.caption for each in shown.curves)
    # Of eight images of each of three classes, two are for training: most are for testing.
    assert "for new images of the same kind" in document.new_images_sentence
    for point in document.points:
        assert point.accuracy.interval is not None and point.accuracy.new_images is not None
        assert point.accuracy.new_images[0] <= point.accuracy.interval[0]
        assert point.accuracy.new_images[1] >= point.accuracy.interval[1]
    assert any(document.new_images_sentence in line for line in report.notes(document))
    assert shown.order is not None and "Holm" in shown.order.caption and words in shown.order.caption
    figure = plots.svg(lambda: plots.learning_curves(document))
    assert "batches of 16" in figure and "Thin bars" in figure


def test_the_order_of_few_blocks(document: StudyDocument) -> None:
    found = document.order
    assert found is not None and (found.test, found.blocks, found.p_value) == ("paired", 4, None)
    assert found.shots == [1, 2] and found.seeds == 2
    assert sum(found.mean_ranks.values()) == pytest.approx(6)
    assert list(found.mean_ranks.values()) == sorted(found.mean_ranks.values())
    assert "Too few blocks" in " ".join(order.sentences(found))


def test_the_order_of_many_blocks(tmp_path: Path, photos: Path, workers: FakeWorkers) -> None:
    """Scratch guesses; the other two are right mostly, by other draws."""
    recipes = {"seeds": 6}
    found = finished(sweep_in(tmp_path, photos, keys=recipes)).order
    assert found is not None and found.test == "friedman" and found.blocks == 12
    assert found.p_value is not None and found.p_value < 0.05
    assert found.critical_difference is not None
    assert found.critical_difference == pytest.approx(ranks.critical_difference(3, 12))
    assert list(found.mean_ranks)[-1] == "scratch"
    for each in found.pairs:
        assert each.told_apart == (each.rank_difference >= found.critical_difference)
    assert found.groups == [[name for name in found.mean_ranks if name != "scratch"]]
    assert "critical difference" in order.alternative(found)
    drawn = plots.svg(lambda: order_plot.diagram(found, "batches of 16"))
    assert all(name in drawn for name in (*found.mean_ranks, "batches of 16"))

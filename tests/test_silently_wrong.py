"""Nothing is silently wrong: agreement about nothing, orders by luck, intervals, chance, rungs that cannot tell."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import proportion_confint

from tests.fakes import FakeWorkers
from transfer_parity import compare
from transfer_parity.shared.checkpoints import neutral
from transfer_parity.shared.contract import plan, recipe_files, strategy_defaults, study_recipe
from transfer_parity.shared.contract.engines import Choice
from transfer_parity.shared.contract.jobs import TrainJob
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.recipe import Recipe, Shots
from transfer_parity.shared.contract.rungs import Label
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.contract.wings import WINGS, Framework, wing
from transfer_parity.shared.core import notices
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.data.folders import from_folder
from transfer_parity.shared.evaluation import chance, divergence, ordering, significance
from transfer_parity.shared.evaluation.ordering import SeedRun
from transfer_parity.shared.experiments.comparison_document import AtChance
from transfer_parity.shared.experiments.comparison_document import Comparison as ComparisonDocument
from transfer_parity.shared.experiments.study_document import Cheapest, Estimate, StudyDocument, Tied
from transfer_parity.shared.parity.document import PairResult
from transfer_parity.shared.parity.judging import Comparison
from transfer_parity.shared.parity.tolerance import Difference
from transfer_parity.shared.report import parity as parity_report
from transfer_parity.shared.report import study as study_report
from transfer_parity.shared.report.console import Console
from transfer_parity.shared.runtime import feature_key, features, prepare

#: Options of a small comparison without network.
SMALL = ("--weights", "random", "--no-control", "--image-size", "32", "--epochs", "2", "--seeds", "2", "--shots", "2")


@contextmanager
def heard() -> Iterator[list[str]]:
    said: list[str] = []
    with notices.heard(said.append):
        yield said


# Agreement about nothing (6).


@pytest.mark.parametrize(
    ("largest", "losses", "kind"),
    [
        (3.0, [2.3, 1.0, 0.2], None),
        (1e28, [2.3, 0.0, 0.0], "logits"),
        (1e28, [], "logits"),
        (1.0, [], None),
        (math.nan, [2.3], "not finite"),
        (3.0, [2.3, math.inf, 0.1], "not finite"),
        (300.0, [2.3, 30.0, 60.0], "loss"),
        # A spike on the way, and a network of large features, which began with a large loss, are no divergence.
        (30.0, [2.3, 500.0, 0.4], None),
        (1e8, [1e8, 1e7, 1e6], None),
        (1e18, [1e8, 1e7, 1e6], "logits"),
    ],
)
def test_what_has_diverged(largest: float, losses: list[float], kind: str | None) -> None:
    logits = np.array([[0.0, largest], [1.0, 2.0]])
    assert divergence.found(logits, np.array(losses)) == kind


@pytest.mark.parametrize("frameworks", [["torch"], ["tensorflow", "torch"]])
def test_identical_nonsense_is_inconclusive(
    frameworks: list[str], tmp_path: Path, photos: Path, workers: FakeWorkers, capsys: pytest.CaptureFixture[str]
) -> None:
    def enormous(job: TrainJob, framework: str, run: str, labels: Array) -> Array:
        return 1e28 * np.eye(len(job.data.classes))[labels]

    workers.logits = enormous
    folders = ["--output-dir", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache")]
    assert compare.main(["--data", str(photos), *SMALL, "--frameworks", *frameworks, *folders]) == 1
    text = (tmp_path / "out" / "comparison.json").read_text(encoding="utf-8")
    document = ComparisonDocument.model_validate_json(text)
    assert document.verdict == "inconclusive"
    assert document.agreement.diverged == {"logits": 2 * len(frameworks)}
    assert f"training diverged in {2 * len(frameworks)} runs" in document.verdict_sentence
    assert "Lower the learning rate." in " ".join(capsys.readouterr().out.split())
    given = ["study", "--data", str(photos), *SMALL[:2], *SMALL[3:], "--strategies", "linear_probe"]
    folders[1] = str(tmp_path / "study")
    assert compare.main([*given, "--frameworks", *frameworks, *folders]) == 1
    study = StudyDocument.model_validate_json((tmp_path / "study" / "study.json").read_text(encoding="utf-8"))
    assert study.verdict == "inconclusive"
    assert "Training diverged in" in study.verdict_sentence


@pytest.mark.parametrize(
    ("name", "values", "dtype", "words"),
    [
        ("conv.weight", [1.0, math.nan], "float32", "not finite"),
        ("conv.weight", [1.0, 1e39], "float64", "beyond float32's largest"),
        ("bn.running_var", [1.0, -1e-3], "float32", "a variance below 0"),
        ("bn.running_mean", [1.0, -1e-3], "float32", None),
        ("bn.running_var", [0.0, 1.0], "float32", None),
        ("conv.weight", [-3e38], "float64", None),
    ],
)
def test_weights_that_no_network_can_use(
    name: str, values: list[float], dtype: str, words: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "mine.safetensors"
    neutral.save(path, {name: np.array(values, dtype=dtype)}, Metadata(backbone="ResNet50", semantics="torchvision"))
    if words is None:
        neutral.load(path)
        return
    with pytest.raises(BadInput, match=words) as refused:
        neutral.load(path)
    assert str(path) in str(refused.value) and name in str(refused.value)


@pytest.mark.parametrize(("epsilon", "good"), [(1e-3, True), (1e-40, False), (0.0, False), (-1e-3, False)])
def test_an_epsilon_that_counts_as_nothing(epsilon: float, good: bool, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    metadata = Metadata(backbone="ResNet50", semantics="keras", batch_norm_epsilon=epsilon)
    neutral.save(path, {"x": np.ones(1, dtype=np.float32)}, metadata)
    if good:
        neutral.load(path)
    else:
        with pytest.raises(BadInput, match="below float32's smallest normal number"):
            neutral.load(path)


def test_an_epsilon_of_adam_that_counts_as_nothing() -> None:
    with pytest.raises(BadInput, match="below float32's smallest normal number"):
        recipe_files.read(None, {"epsilon": 1e-40})
    assert recipe_files.read(None, {"epsilon": 1e-40, "precision": "float64"}).epsilon == 1e-40


# Orders, costs and intervals (7).


def runs(random: np.random.Generator, accuracy: float, seeds: int, spread: float = 0.0) -> list[SeedRun]:
    """Of seeds with test images of their own, 60 each; accuracies of seeds vary around the mean."""
    found = []
    for seed in range(seeds):
        right = random.random(60) < accuracy + spread * random.normal()
        found.append(SeedRun(seed, np.arange(60) + 60 * seed, right))
    return found


def test_what_luck_orders_is_tied() -> None:
    """Two strategies of 79 and 72 %, whose seeds scatter by 20 points, are tied; three that are far apart are not."""
    random = np.random.default_rng(0)
    best, ties = ordering.tied_with_best({"one": runs(random, 0.75, 5, 0.2), "other": runs(random, 0.72, 5, 0.2)})
    assert [tie.strategy for tie in ties] == [{"one": "other", "other": "one"}[best]]
    assert ties[0].seeds is None or ties[0].seeds > 5
    clear = {"good": runs(random, 0.9, 5), "bad": runs(random, 0.2, 5), "worse": runs(random, 0.1, 5)}
    assert ordering.tied_with_best(clear) == ("good", [])


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_equal_strategies_are_rarely_ordered(seeds: int) -> None:
    """Four that are equally good: the chance that any is put above another stays below 5 %."""
    random = np.random.default_rng(seeds)
    ordered = 0
    for _ in range(400):
        found = {name: runs(random, 0.7, seeds) for name in "abcd"}
        ordered += len(ordering.tied_with_best(found)[1]) < 3
    assert ordered <= stats.binom.ppf(0.999, 400, 0.05)


def test_a_difference_of_seeds_must_be_one_of_images_too() -> None:
    """Every seed is better by one and the same image: its seeds do not scatter, and one image says nothing."""
    images, none = np.arange(40), np.zeros(40, dtype=bool)
    one = none.copy()
    one[3] = True
    pairs = ordering.paired([SeedRun(s, images, one) for s in range(5)], [SeedRun(s, images, none) for s in range(5)])
    assert significance.paired_t(pairs.by_seed) == 0
    assert pairs.p_value == 1


def test_one_seed_cannot_say_how_many_are_needed() -> None:
    random = np.random.default_rng(1)
    _, ties = ordering.tied_with_best({"a": runs(random, 0.7, 1), "b": runs(random, 0.7, 1)})
    assert ties[0].seeds is None


@pytest.mark.parametrize("deviation", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("level", [0.05, 0.005])
def test_seeds_to_tell_apart_are_statsmodels(deviation: float, level: float) -> None:
    shape = np.array([-1.0, 0.0, 1.0, -1.0, 0.0, 1.0])
    found = significance.seeds_to_tell_apart(0.1 + deviation * shape / shape.std(ddof=1), level)
    expected = TTestPower().solve_power(0.1 / deviation, alpha=level, power=significance.POWER)
    assert found is not None
    assert abs(found - math.ceil(expected)) <= 1


@pytest.mark.parametrize("number", [2, 3, 10])
def test_tests_are_scipys(number: int) -> None:
    random = np.random.default_rng(number)
    differences = random.normal(0.1, 0.2, number)
    assert significance.paired_t(differences) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    right = int(random.integers(0, 60))
    expected = stats.binomtest(right, 60, 0.3, alternative="greater").pvalue
    assert significance.better_than(right, 60, 0.3) == pytest.approx(expected)


@pytest.mark.parametrize("values", [(0.335, 0.549), (1.0, 1.0), (0.0, 0.0), (1.0, 0.9), (0.02, 0.0, 0.01), (0.8, 0.81)])
def test_intervals_stay_where_accuracies_are(values: tuple[float, ...]) -> None:
    low, high = significance.accuracy_interval(np.array(values), 40)
    assert 0 <= low <= np.mean(values) <= high <= 1
    assert high - low > 0


@pytest.mark.parametrize("part", [0.0, 0.3, 1.0])
def test_seeds_that_are_alike_leave_it_to_images(part: float) -> None:
    expected = proportion_confint(round(40 * part), 40, method="wilson")
    np.testing.assert_allclose(significance.accuracy_interval(np.full(5, part), 40), expected, atol=1e-12)


@pytest.mark.parametrize("seeds", [3, 5, 20])
@pytest.mark.parametrize("accuracy", [0.5, 0.8, 0.97])
def test_intervals_of_accuracies_cover_them(seeds: int, accuracy: float) -> None:
    random = np.random.default_rng(seeds)
    hits = 0
    for _ in range(2000):
        low, high = significance.accuracy_interval(random.binomial(100, accuracy, seeds) / 100, 100)
        hits += low <= accuracy <= high
    assert 0.93 <= hits / 2000 <= 0.99


@pytest.mark.parametrize(
    ("estimate", "sign", "text"),
    [
        (Estimate(mean=0.812, interval=(0.778, 0.846)), False, "81.2 ±3.4"),
        (Estimate(mean=0.442, interval=(0.0098, 0.984)), False, "44.2 (1 to 98)"),
        (Estimate(mean=0.971, interval=(0.89, 0.99)), False, "97.1 (89 to 99)"),
        (Estimate(mean=-0.4, interval=(-1.0, 0.6)), True, "-40.0 (-100 to +60)"),
        (Estimate(mean=-0.4, interval=(-0.5, -0.3)), True, "-40.0 ±10.0"),
        (Estimate(mean=0.5, interval=None), False, "50.0"),
    ],
)
def test_intervals_can_be_read(estimate: Estimate, sign: bool, text: str) -> None:
    assert study_report.percent(estimate, sign=sign) == text


@pytest.mark.parametrize(
    ("tied", "seeds", "sentence"),
    [
        ([], 5, "With 1 shot, a is best; c comes within a point of it in the least time."),
        (
            [("b", 12), ("d", None)],
            5,
            "With 1 shot, a, b and d are tied for best (a has the highest mean); about 12 seeds would tell it from b, "
            "more than 1000 seeds would be needed to tell it from d; c comes within a point of a in the least time.",
        ),
        ([("b", None)], 1, "one seed cannot tell how many seeds would tell them apart"),
    ],
)
def test_advice(tied: list[tuple[str, int | None]], seeds: int, sentence: str) -> None:
    ties = [Tied(strategy=name, behind=0.1, p_value=0.5, seeds_to_tell_apart=number) for name, number in tied]
    assert sentence in study_report.advice(Cheapest(shots=1, best="a", cheapest="c", tied=ties, seeds=seeds))


def test_features_are_charged_to_all_who_need_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes second finds them in the store, and is charged what they would have cost it."""

    class Slow:
        wing = None

        def engine(self, *given: Any) -> Choice:
            return Choice("plain", "the only way here")

        def batches(self, images: Any, missing: Array, *given: Any) -> Array:
            return missing

        def outputs(self, phase: str, part: str, missing: Array, engine: str) -> Iterator[Array]:
            clock[0] += 2.0 * len(missing)
            yield np.ones((len(missing), 3))

    @contextmanager
    def measured(phase: str) -> Iterator[SimpleNamespace]:
        stretch, start = SimpleNamespace(seconds=0.0), clock[0]
        yield stretch
        stretch.seconds = clock[0] - start

    clock = [0.0]
    monkeypatch.setattr(feature_key, "of_features", lambda *given: {"digest": given[-1]})
    monkeypatch.setattr(plan, "images", lambda path: (np.arange(4), np.arange(4, 10)))
    job = SimpleNamespace(store=tmp_path / "store", data=SimpleNamespace(features=None))
    run = SimpleNamespace(id="one", plan="plan")
    charged = []
    for _ in range(2):
        frozen = features.FrozenFeatures(Slow(), SimpleNamespace(measure=measured), job, None, np.zeros(20))  # type: ignore[arg-type]
        with frozen.of([run], tmp_path, "weights") as extracted:  # type: ignore[list-item]
            charged.append((extracted.seconds, extracted.alone))
    assert charged == [(20.0, 20.0), (0.0, 20.0)]


# Chance, and defaults by strategy (8).


@pytest.mark.parametrize(
    ("accuracy", "images", "by_chance", "at_chance"),
    [
        (0.51, 160, 0.5, True),
        (0.8, 160, 0.5, False),
        (0.12, 100, 0.1, True),
        (0.25, 100, 0.1, False),
        (0.0, 9, 0.5, True),
    ],
)
def test_no_better_than_chance(accuracy: float, images: int, by_chance: float, at_chance: bool) -> None:
    assert chance.is_at(np.array([accuracy] * 2), np.array([images] * 2), by_chance) == at_chance


def test_chance_is_told_once_for_what_has_the_same_cause() -> None:
    """Shots of a framework are one sentence, and so are frameworks of which the same is true."""

    def found(framework: Framework, shots: Shots, accuracy: float, cause: chance.Cause = "loss rose") -> AtChance:
        return AtChance(
            framework=framework, strategy="scratch", shots=shots, accuracy=accuracy, chance=0.17, cause=cause
        )

    first, second = (each.identifier for each in WINGS)
    each = [
        found(framework, shots, 0.16 + 0.02 * place)
        for place, framework in enumerate((first, second))
        for shots in (1, 2, 5)
    ]
    other = found(second, "all", 0.2, "loss stayed")
    names = " and ".join(wing(framework).short for framework in (first, second))
    said = study_report.at_chance([*each, other])
    assert [line.partition(": ")[0] for line in said] == [
        f"{names}, 1, 2 and 5 shots",
        f"{wing(second).short}, all images",
    ]
    assert (
        "scratch is no better than chance (16 to 18 %; always the same class: 17 %): its training loss rose" in said[0]
    )
    assert "(20 %; always the same class: 17 %): its training loss hardly fell" in said[1]


@pytest.mark.parametrize(
    ("losses", "diverged", "cause"),
    [
        ([0.7, 0.69, 0.68], False, "loss stayed"),
        ([0.7, 5.0, 4.0], False, "loss rose"),
        ([0.7, 0.1, 0.01], False, "not general"),
        ([], False, "features"),
        ([0.7, math.nan], True, "diverged"),
    ],
)
def test_likely_causes(losses: list[float], diverged: bool, cause: chance.Cause) -> None:
    assert chance.likely_cause(np.array(losses), diverged) == cause
    assert len(chance.in_words(cause)) > 20


def test_chance_is_told(tmp_path: Path, photos: Path, workers: FakeWorkers, capsys: pytest.CaptureFixture[str]) -> None:
    def guessing(job: TrainJob, framework: str, run: str, labels: Array) -> Array:
        return np.tile(np.arange(len(job.data.classes)), (len(labels), 1)).astype(float)

    workers.logits = guessing
    folders = ["--output-dir", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache")]
    compare.main(["--data", str(photos), *SMALL, *folders])
    words = "linear_probe is no better than chance (33 %; always the same class: 33 %)"
    assert words in " ".join(capsys.readouterr().out.split())
    folders[1] = str(tmp_path / "study")
    compare.main(["study", "--data", str(photos), *SMALL[:2], *SMALL[3:], "--strategies", "ridge", *folders])
    assert "ridge is no better than chance" in " ".join(capsys.readouterr().out.split())
    assert "ridge is no better than chance" in (tmp_path / "study" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("strategy", ["scratch", "linear_probe", "finetune"])
def test_a_strategy_means_the_same_everywhere(strategy: str) -> None:
    alone = recipe_files.read(None, {"strategy": strategy})
    studied = study_recipe.read(None, {}, [strategy])[strategy]
    for key in ("optimizer", "schedule", "momentum", "weight_decay"):
        assert getattr(alone, key) == getattr(studied, key)
    # In a study conditions are equal.
    assert studied.model_dump(include=set(study_recipe.CONDITIONS)) == study_recipe.CONDITIONS
    for key, value in strategy_defaults.BY_STRATEGY[strategy].items():
        assert getattr(alone, key) == value


def test_what_is_given_wins() -> None:
    given = {"epochs": 3, "learning_rate": 0.5, "schedule": "constant"}
    for strategy in ("scratch", "finetune"):
        assert recipe_files.read(None, {"strategy": strategy, **given}).model_dump(include=set(given)) == given
    # A rate belongs to its optimizer.
    assert recipe_files.read(None, {"strategy": "scratch", "optimizer": "adam"}).learning_rate == 1e-3
    # The default recipe is as it was.
    assert recipe_files.read(None, {}) == Recipe()


# Inconclusive because rounding grew (9).


@pytest.mark.parametrize(
    ("precise", "words"),
    [(1e-9, "Rounding grew: one cell (linear_probe, 2 shots, seed"), (3.0, "It is not rounding alone: one cell")],
)
def test_an_inconclusive_study_is_checked_in_float64(
    precise: float, words: str, tmp_path: Path, photos: Path, workers: FakeWorkers, capsys: pytest.CaptureFixture[str]
) -> None:
    def parting(job: TrainJob, framework: str, run: str, labels: Array) -> Array:
        """One framework gets other images wrong than the other, if rounding is large enough."""
        logits = np.eye(len(job.data.classes))[labels]
        noise = np.random.default_rng([len(run), framework == "torch", int(run[-1])]).normal(size=logits.shape)
        return logits + (precise if job.recipe.precision == "float64" else 1.0) * noise

    workers.logits = parting
    folders = ["--output-dir", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache")]
    given = ["study", "--data", str(photos), *SMALL[:2], *SMALL[3:], "--strategies", "linear_probe", *folders]
    assert compare.main(given) == 1
    assert words in " ".join(capsys.readouterr().out.split())
    document = StudyDocument.model_validate_json((tmp_path / "out" / "study.json").read_text(encoding="utf-8"))
    assert document.verdict == "inconclusive"
    assert document.rounding is not None
    assert document.rounding.settled == (precise < 1)
    assert ("--precision float64 settles it" in study_report.markdown(document)) == document.rounding.settled
    # Two cells more than the study has, which a rerun does not do again.
    assert len(workers.runs) == document.cells + 2
    assert compare.main(given) == 1
    assert len(workers.runs) == document.cells + 2


# Rungs that cannot tell (10).


def climbed(tmp_path: Path, ours: Array, theirs: Array, allowed: float) -> Comparison:
    np.save(tmp_path / "labels.npy", np.arange(8) % 4)
    comparison = Comparison.__new__(Comparison)
    comparison.names, comparison.tasks = {"tensorflow": {}, "torch": {}}, ()
    comparison.given = SimpleNamespace(labels=tmp_path / "labels.npy", plan=None)  # type: ignore[assignment]
    comparison._logits = lambda: (ours, theirs, allowed)  # type: ignore[method-assign]
    return comparison


@pytest.mark.parametrize(("allowed", "informative"), [(1e-3, True), (50.0, False)])
def test_a_tolerance_as_large_as_all_there_is_tells_nothing(
    allowed: float, informative: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounding explains 100 nats of log loss: whatever another wing finds, nothing is known about it."""
    monkeypatch.setattr(plan.Plan, "load", lambda path: SimpleNamespace(test=np.arange(8)))
    ours = 3.0 * np.eye(10)[np.arange(8) % 4]
    theirs = ours if informative else 0.5 * ours
    comparison = climbed(tmp_path, ours, theirs, allowed)
    for found in (comparison._predictions(), comparison._metrics()):
        assert found.first_divergence is None
        assert (found.informative, found.passed) == (informative, informative)


def test_an_array_tells_less_than_its_size() -> None:
    assert Difference(Label("losses"), 0.1, 0.1, 0.5, 1.0).tells
    assert not Difference(Label("losses"), 0.1, 0.1, 1.0, 1.0).tells
    # Whole numbers, which allow nothing.
    assert Difference(Label("images"), 0.0, 0.0, 0.0, 1.0).tells


def test_what_is_not_informative_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rung = climbed(tmp_path, np.zeros((8, 10)), np.zeros((8, 10)), 1.0)._predictions()
    result = PairResult(
        **{"backbone": "MobileNetV2", "semantics": "keras", "precision": "float32", "weights": "random"},
        **{"switches": [], "seed": 0, "image_size": 64, "rungs": [rung], "max_loss_difference": 0.1, "passed": False},
    )
    assert result.first_failure is None and result.uninformative == [rung]
    parity_report.show(result, Console(width=80))
    shown = capsys.readouterr().out
    assert "not informative" in shown and "--precision float64 tells more" in " ".join(shown.split())
    assert "FAILED" not in shown


# Folders (12).


def folder_of(tmp_path: Path, *names: str) -> Path:
    for name in names:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "photos"


@pytest.mark.parametrize("how", ["cannot be listed", "cannot be entered"])
def test_folders_that_cannot_be_opened(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user meets them; root can open everything, so the system's answers are planted."""
    folder = folder_of(tmp_path, "a/1.png", "a/closed/2.png", "b/3.png")
    closed = str(folder / "a" / "closed")
    scandir, is_file = os.scandir, Path.is_file

    def refuse(path: Any) -> Any:
        if str(path) == closed and how == "cannot be listed":
            raise PermissionError(13, "Permission denied", closed)
        return scandir(path)

    def refuse_file(path: Path, **given: Any) -> bool:
        if str(path.parent) == closed and how == "cannot be entered":
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path, **given)

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(Path, "is_file", refuse_file)
    with heard() as said:
        found = from_folder(folder)
    assert len(found) == 2
    assert len(said) == 1 and closed in said[0] and "not used" in said[0]


def test_a_test_folder_without_a_class(tmp_path: Path) -> None:
    names = [f"{part}/{name}/1.png" for part in ("train", "test") for name in ("a", "b", "c")]
    with heard() as said:
        from_folder(folder_of(tmp_path, *names))
    assert said == []
    (tmp_path / "photos" / "test" / "c" / "1.png").unlink()
    with heard() as said:
        from_folder(tmp_path / "photos")
    assert len(said) == 1 and "has no image of c:" in said[0]


@pytest.mark.parametrize(
    ("given", "images", "told"),
    [({"data": "x"}, 200, True), ({"data": "x", "shots": 5}, 200, False), ({}, 200, False), ({"data": "x"}, 12, False)],
)
def test_five_of_two_hundred_is_the_default(given: dict[str, Any], images: int, told: bool) -> None:
    recipe = recipe_files.read(None, {**given, "seeds": 1, "epochs": 1})
    data = SimpleNamespace(labels=np.arange(2 * images) % 2, is_test=None, classes=("a", "b"))
    with heard() as said:
        prepare.drawn(recipe, data)  # type: ignore[arg-type]
    assert bool(said) == told
    if told:
        assert said == [
            "5 labelled images a class are used, which is the default, of up to 200 that are there; more are used with "
            "--shots 5 20 all."
        ]

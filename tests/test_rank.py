"""Ranking backbones: the scores against independent evaluations, and the command on small backbones."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from scipy import optimize
from sklearn.neighbors import NearestCentroid

from tests.conftest import CLASSES, Command, Outcome, run_compare, write_images
from transfer_parity import compare
from transfer_parity.shared.checkpoints import neutral
from transfer_parity.shared.commands import rank
from transfer_parity.shared.contract import splits
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.wings import wing
from transfer_parity.shared.core import code
from transfer_parity.shared.core.arrays import Rows
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.core.run_folder import RunFolder
from transfer_parity.shared.data.folders import from_folder
from transfer_parity.shared.evaluation import transferability
from transfer_parity.shared.experiments.known_accuracies import accuracies
from transfer_parity.shared.experiments.ranking import Candidate, Ranker, Request, predictions
from transfer_parity.shared.experiments.ranking_document import Ranked, Ranking
from transfer_parity.shared.report.ranking import sentences
from transfer_parity.shared.runtime import resolve_weights
from transfer_parity.shared.zoo.pair import HEAD
from transfer_parity.shared.zoo.pairs import PAIRS

Array = np.ndarray[Any, Any]
TINY = ("--weights", "random", "--image-size", 32)


def dense_evidence(features: Array, target: Array) -> float:
    """The largest log density of the target under N(0, I / beta + F F' / alpha), found by a general optimizer."""
    n = len(features)

    def negative(logs: Array) -> float:
        alpha, beta = np.exp(np.clip(logs, -50, 50))
        covariance = np.eye(n) / beta + features @ features.T / alpha
        _, log_determinant = np.linalg.slogdet(covariance)
        return float(n * math.log(2 * math.pi) + log_determinant + target @ np.linalg.solve(covariance, target)) / 2

    options = {"xatol": 1e-8, "fatol": 1e-12, "maxiter": 4000}
    starts = [(alpha, beta) for alpha in (0.0, 6.0) for beta in (0.0, 3.0)]
    return -min(float(optimize.minimize(negative, s, method="Nelder-Mead", options=options).fun) for s in starts)


@pytest.mark.parametrize(("images", "length"), [(30, 5), (12, 40), (20, 20)])
@pytest.mark.parametrize("signal", [0.0, 2.0])
def test_evidence_is_that_of_the_dense_model(images: int, length: int, signal: float) -> None:
    random = np.random.default_rng(images + length)
    targets = np.eye(3)[np.arange(images) % 3]
    features = random.normal(size=(images, length)) + signal * targets @ random.normal(size=(3, length))
    found = transferability.log_evidence(features, targets)
    np.testing.assert_allclose(found, [dense_evidence(features, y) for y in targets.T], rtol=0, atol=1e-8)


def test_evidence_of_features_that_depend_on_each_other() -> None:
    random = np.random.default_rng(1)
    features = np.abs(random.normal(size=(15, 2))) @ random.normal(size=(2, 30))
    target = (np.arange(15) % 3 == 0).astype(float)
    found = transferability.log_evidence(features, target[:, None])
    np.testing.assert_allclose(found, dense_evidence(features, target), rtol=0, atol=1e-8)


def test_logme_is_the_mean_over_classes_for_one_image() -> None:
    random = np.random.default_rng(2)
    labels = np.repeat(np.arange(3), 8)
    features = random.normal(size=(24, 6))
    expected = np.mean([dense_evidence(features, (labels == index).astype(float)) for index in range(3)]) / 24
    assert transferability.logme(features, labels, 3) == pytest.approx(expected, abs=1e-9)


def test_logme_prefers_features_that_tell_classes_apart() -> None:
    random = np.random.default_rng(3)
    labels = np.repeat(np.arange(3), 20)
    noise = random.normal(size=(60, 16))
    scores = [
        transferability.logme(noise + strength * np.eye(3, 16)[labels], labels, 3) for strength in (0.0, 1.0, 3.0, 9.0)
    ]
    assert scores == sorted(scores)
    assert scores[-1] - scores[0] > 0.5
    # More features, of noise alone, are no better than fewer that tell something.
    wide = random.normal(size=(60, 500))
    assert transferability.logme(wide, labels, 3) < scores[1]


def test_logme_does_not_depend_on_the_scale_of_the_features() -> None:
    random = np.random.default_rng(4)
    labels = np.arange(30) % 3
    features = random.normal(size=(30, 8)) + np.eye(3, 8)[labels]
    reference = transferability.logme(features, labels, 3)
    assert transferability.logme(1e4 * features, labels, 3) == pytest.approx(reference, abs=1e-12)
    assert transferability.logme(features.astype(np.float32), labels, 3) == pytest.approx(reference, abs=1e-6)


INDICATORS = np.eye(3)[np.arange(9) % 3]


@pytest.mark.parametrize(
    "features", [np.zeros((9, 4)), np.ones((9, 4)), INDICATORS, np.tile(INDICATORS, 4) / 3, np.eye(9)]
)
def test_logme_of_extreme_features_is_finite(features: Array) -> None:
    score = transferability.logme(features, np.arange(9) % 3, 3)
    assert math.isfinite(score)
    # Without any feature: labels of variance 1/3 around zero.
    nothing = -(1 + math.log(2 * math.pi / 3)) / 2
    assert nothing - 1e-9 <= score < 12


def test_nearest_mean_by_hand() -> None:
    train, train_labels = np.array([[0.0, 0], [2, 0], [10, 0]]), np.array([0, 0, 1])
    # Means (1, 0) and (10, 0): the border is at 5.5.
    test, test_labels = np.array([[5.4, 0.0], [5.6, 0], [9, 9], [-3, 0]]), np.array([0, 0, 1, 0])
    assert transferability.nearest_mean_accuracy(train, train_labels, test, test_labels, 2) == 0.75


def test_nearest_mean_is_scikit_learns() -> None:
    random = np.random.default_rng(5)
    labels, test_labels = np.arange(40) % 4, np.arange(200) % 4
    centers = random.normal(size=(4, 7))
    train = (centers[labels] + random.normal(size=(40, 7))).astype(np.float32)
    test = (centers[test_labels] + random.normal(size=(200, 7))).astype(np.float32)
    expected = NearestCentroid().fit(train, labels).score(test, test_labels)
    found = transferability.nearest_mean_accuracy(train, labels, test, test_labels, 4)
    assert 0.4 < found < 1
    assert found == expected


def plain_nearest_mean(train: Array, labels: Array, test: Array, test_labels: Array) -> float:
    """The same without scikit-learn, in float64 throughout."""
    means = np.stack([train[labels == index].mean(axis=0, dtype=np.float64) for index in np.unique(labels)])
    squares = ((test[:, None].astype(np.float64) - means) ** 2).sum(axis=2)
    return float((squares.argmin(axis=1) == test_labels).mean())


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nearest_mean_is_in_float64(dtype: type, scale: float) -> None:
    """Far from zero, float32 could not tell the means apart."""
    random = np.random.default_rng(6)
    labels, test_labels = np.arange(60) % 3, np.arange(90) % 3
    offset = 1000 * random.normal(size=5)

    def features(classes: Array) -> Array:
        scattered = random.normal(size=(len(classes), 5)) + 3 * np.eye(3, 5)[classes]
        return np.asarray(scale * (offset + 1e-3 * scattered), dtype)

    train, test = features(labels), features(test_labels)
    found = transferability.nearest_mean_accuracy(train, labels, test, test_labels, 3)
    assert 0.5 < found <= 1
    assert found == plain_nearest_mean(train, labels, test, test_labels)


def test_nearest_mean_of_a_tie_is_the_first_class() -> None:
    train, labels = np.array([[-1.0], [1], [3]]), np.array([0, 1, 2])
    assert transferability.nearest_mean_accuracy(train, labels, np.zeros((1, 1)), np.array([0]), 3) == 1
    assert transferability.nearest_mean_accuracy(train, labels, np.array([[2.0]]), np.array([1]), 3) == 1


@pytest.mark.parametrize("value", [0.0, 0.1, -3.0])
def test_nearest_mean_of_features_that_tell_nothing(value: float) -> None:
    """All means are the same, so that every image goes to the first class."""
    labels, test_labels = np.arange(21) % 3, np.array([0, 0, 1, 2])
    train, test = np.full((21, 4), value, np.float32), np.full((4, 4), value, np.float32)
    assert transferability.nearest_mean_accuracy(train, labels, test, test_labels, 3) == 0.5


def test_nearest_mean_of_dead_units_and_single_images() -> None:
    """Nothing scatters within a class: scikit-learn warns, and it does not matter here."""
    train = np.concatenate([np.eye(3), np.zeros((3, 2))], axis=1).astype(np.float32)
    assert transferability.nearest_mean_accuracy(train, np.arange(3), train, np.arange(3), 3) == 1


def test_rank_correlation() -> None:
    ascending, swapped = np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 4, 3])
    same = transferability.rank_correlation(ascending, ascending)
    reversed_ = transferability.rank_correlation(ascending, -ascending)
    assert same is not None
    assert reversed_ is not None
    assert same.tau == pytest.approx(1)
    assert reversed_.tau == pytest.approx(-1)
    # One of six pairs is the other way round: (5 - 1) / 6; at the top it weighs more.
    at_the_top = transferability.rank_correlation(ascending, swapped)
    at_the_end = transferability.rank_correlation(-ascending, -swapped)
    assert at_the_top is not None
    assert at_the_end is not None
    assert at_the_top.tau == at_the_end.tau == pytest.approx(4 / 6)
    assert at_the_top.weighted_tau < at_the_end.weighted_tau
    assert transferability.rank_correlation(ascending[:2], ascending[:2]) is None
    assert transferability.rank_correlation(ascending, np.ones(4)) is None


def ranked(logme: float, ncm: float, trained: float | None) -> Ranked:
    return Ranked(
        rank=1,
        backbone="VGG16",
        weights="random",
        source="",
        parameters=1,
        features=1,
        image_size=32,
        logme=logme,
        ncm_accuracy=ncm,
        trained_accuracy=trained,
        seconds=1,
        phases={},
        weights_digest="",
    )


def test_predictions_in_words() -> None:
    three = [ranked(0.3, 0.1, 0.9), ranked(0.2, 0.2, 0.8), ranked(0.1, 0.3, 0.7), ranked(0.0, 0.0, None)]
    logme, ncm = predictions(three)
    assert (logme.score, logme.backbones, ncm.score, ncm.backbones) == ("LogME", 3, "NCM", 3)
    assert logme.tau == pytest.approx(1)
    assert ncm.tau == pytest.approx(-1)
    assert "3 backbones: Kendall's tau +1.00, weighted +1.00" in sentences([logme])[0]
    few = sentences(predictions(three[1:]))
    assert "LogME: nothing can be said" in few[0]
    assert "known of 2 backbones; it takes 3 or more" in few[0]
    equal = sentences(predictions([ranked(0.1, 0.1, 0.5), ranked(0.2, 0.1, 0.5), ranked(0.3, 0.1, 0.5)]))
    assert "all equal" in equal[0]


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of this module's own: in the session's, another engine may have stored features of the same weights."""
    return tmp_path_factory.mktemp("rank-cache")


@pytest.fixture(scope="module")
def outcome(photos: Path, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Two small backbones and one that needs larger images, ranked and trained."""
    backbones = ("MobileNetV2", "MobileNetV3Small", "InceptionV3")
    arguments = ("--data", photos, *TINY, "--backbone", *backbones, "--train", "--cache-dir", cache_dir)
    return run_compare(tmp_path_factory.mktemp("rank"), "rank", *arguments)


def read(folder: Path) -> Ranking:
    return Ranking.model_validate_json((folder / "rank.json").read_text(encoding="utf-8"))


def trained(folder: Path) -> list[Path]:
    return sorted((folder / "trained").iterdir())


def test_the_command_ranks_and_skips(outcome: Outcome) -> None:
    assert outcome.status == 0, outcome.errors
    assert "Traceback" not in outcome.errors
    assert all(len(line) <= 80 for line in outcome.output.splitlines() if not line.startswith("Results:"))
    for part in ("LogME", "NCM", "Trained", "Seconds", "0.9 M", "Skipped InceptionV3", "nothing can be said"):
        assert part in outcome.output
    document = read(outcome.folder)
    assert {each.backbone: each.features for each in document.ranking} == {"MobileNetV2": 1280, "MobileNetV3Small": 576}
    assert [each.rank for each in document.ranking] == [1, 2]
    assert document.ranking[0].logme >= document.ranking[1].logme
    assert [each.backbone for each in document.skipped] == ["InceptionV3"]
    assert "give 75" in document.skipped[0].reason
    assert (document.training_images, document.test_images, document.shots) == (18, 6, "all")
    assert document.versions["torch"]


# Dead units of an untrained backbone put out nothing at all.
@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_ has at least 1 zero:UserWarning")
def test_scores_are_those_of_the_stored_features(outcome: Outcome, cache_dir: Path) -> None:
    labels = np.repeat(np.arange(3), 8)
    recipe = Recipe(shots=("all",), weights="random", control=False)
    train, test = splits.split(recipe, labels, None, list(CLASSES), 0, "all")
    digests = {}
    for key in cache_dir.glob("features/*/key.json"):
        digests[json.loads(key.read_text(encoding="utf-8"))["weights"]] = key.parent
    for each in read(outcome.folder).ranking:
        features = Rows(digests[each.weights_digest] / "outputs.npy")[:]
        assert each.logme == transferability.logme(features[train], labels[train], 3)
        expected = NearestCentroid().fit(features[train], labels[train]).score(features[test], labels[test])
        assert each.ncm_accuracy == expected


def test_stored_features_go_by_the_code(outcome: Outcome, cache_dir: Path) -> None:
    keys = [json.loads(path.read_text(encoding="utf-8")) for path in cache_dir.glob("features/*/key.json")]
    assert len(keys) == len(read(outcome.folder).ranking)
    assert {key["code"] for key in keys} == {code.of_wing(wing(key["framework"]).package) for key in keys}


def test_training_finds_the_features_that_the_ranking_computed(outcome: Outcome) -> None:
    known = {each.backbone: each.trained_accuracy for each in read(outcome.folder).ranking}
    for folder in trained(outcome.folder):
        document = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
        assert "training" in document["workers"]["torch"]["steps"]
        assert "features" not in document["workers"]["torch"]["steps"]
        assert known[document["recipe"]["backbone"]] == document["runs"][0]["accuracy"]


def test_earlier_results_are_known(outcome: Outcome, photos: Path, tmp_path: Path) -> None:
    data = from_folder(photos)
    found = accuracies(trained(outcome.folder), data, "torch", "all")
    expected = {(each.backbone, "random"): each.trained_accuracy for each in read(outcome.folder).ranking}
    assert found == expected
    other = from_folder(write_images(tmp_path / "other", dict.fromkeys(CLASSES, 7)))
    with pytest.raises(BadInput, match="a comparison on other images"):
        accuracies(trained(outcome.folder), other, "torch", "all")
    with pytest.raises(BadInput, match=r"no comparison\.json"):
        accuracies([tmp_path], data, "torch", "all")
    # By another recipe: what it says cannot be put beside the others.
    path = trained(outcome.folder)[0] / "comparison.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["recipe"]["strategy"] = "finetune"
    (tmp_path / "comparison.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(BadInput, match=r"linear_probe with shots all.*finetune with shots all"):
        accuracies([*trained(outcome.folder), tmp_path], data, "torch", "all")


def test_a_checkpoint_file_names_its_backbone(outcome: Outcome, command: Command, photos: Path, tmp_path: Path) -> None:
    """The same weights from a file: the same features, found in the store, and the same scores."""
    folder = next(each for each in trained(outcome.folder) if each.name.endswith("MobileNetV3Small"))
    arrays = safetensors.numpy.load_file(folder / "models" / "torch.safetensors")
    backbone = {name: array for name, array in arrays.items() if not name.startswith(HEAD)}
    file = tmp_path / "mine.safetensors"
    metadata = Metadata(backbone="MobileNetV3Small", semantics="torchvision", source="a test")
    neutral.save(file, backbone, metadata)
    again = command("rank", "--data", photos, "--weights", file, "--image-size", 32, "--results", folder)
    assert again.status == 0, again.errors
    (found,) = read(again.folder).ranking
    (before,) = (each for each in read(outcome.folder).ranking if each.backbone == "MobileNetV3Small")
    assert (found.weights, found.source) == (str(file), "a test")
    assert (found.logme, found.ncm_accuracy) == (before.logme, before.ncm_accuracy)
    assert found.weights_digest == before.weights_digest
    # The comparison was on other weights.
    assert found.trained_accuracy is None
    assert "known of 0 backbones" in again.output


def test_weights_are_tried_in_order(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def resolve(recipe: Recipe, *more: object) -> Path:
        tried.append(recipe.weights)
        if recipe.weights == "torchvision":
            raise BadInput("out of reach.")
        return tmp_path / "found.safetensors"

    monkeypatch.setattr(resolve_weights, "resolve", resolve)
    recipe = Recipe(shots=("all",), control=False, frameworks=("torch",))
    data = from_folder(photos)
    folder = RunFolder(tmp_path)
    ranker = Ranker(Request([], recipe), data, {}, Cache(tmp_path), folder, lambda what, done, total: None)
    found, path = ranker._weights(Candidate("ResNet50", ("torchvision", "keras")))
    assert tried == ["torchvision", "keras"]
    assert (found.backbone, found.weights, path) == ("ResNet50", "keras", tmp_path / "found.safetensors")
    with pytest.raises(BadInput, match="out of reach"):
        ranker._weights(Candidate("ResNet50", ("torchvision",)))


def test_candidates() -> None:
    assert rank.candidates(["resnet50", "ResNet50", "vgg16"], ["Keras"]) == [
        Candidate("ResNet50", ("keras",)),
        Candidate("VGG16", ("keras",)),
    ]
    assert [each.backbone for each in rank.candidates(["all"], ["random"])] == [pair.name for pair in PAIRS]
    assert [each.backbone for each in rank.candidates(None, ["random"])] == list(rank.BACKBONES)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--backbone", "MobileNetV9"), ("'MobileNetV9'", "did you mean 'MobileNetV2'")),
        (("--weights", "torchvison"), ("torchvison", "no such file", "did you mean 'torchvision'")),
        (("--weights", "mine.safetensors"), ("mine.safetensors", "no checkpoint")),
        (("--weights", "random", "keras"), ("random", "leave one out")),
        (("--weights", "random", "mine.safetensors"), ("do not go together",)),
        (("--weights", "mine.safetensors", "--backbone", "VGG16"), ("--backbone", "leave it out")),
        (("--weights", "FOLDER/state.pth"), ("state.pth", "compare.py convert", "--backbone NAME")),
        (("--weights", "FOLDER/state.safetensors"), ("not a neutral checkpoint", "convert it first")),
        (("--shots", "some"), ("shots = 'some'", "a whole number or all")),
        (("--shots", "8"), ("class 'circle' has 8 images", "lower --shots")),
        (("--image-size", "8"), ("image_size", "greater than or equal to 32")),
        (("--image-size", "32", "--backbone", "InceptionV3"), ("no backbone is left", "InceptionV3", "give 75")),
        (("--framework", "jax"), ("--framework", "jax")),
        (("--train", "--results", "here"), ("--results", "not allowed with")),
        (("--results", "nowhere"), ("nowhere", "no comparison.json")),
        (("--epochs", "3"), ("unknown option '--epochs'",)),
        (("--data", "nowhere"), ("--data nowhere", "flowers")),
    ],
)
def test_bad_arguments_get_one_sentence(
    photos: Path,
    cache_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    parts: tuple[str, ...],
) -> None:
    (tmp_path / "state.pth").touch()
    safetensors.numpy.save_file({"a": np.zeros(1)}, tmp_path / "state.safetensors")
    given = [argument.replace("FOLDER", str(tmp_path)) for argument in arguments]
    usual = ["--data", str(photos), "--cache-dir", str(cache_dir), "--output-dir", str(tmp_path / "out")]
    random = [] if "--weights" in given else ["--weights", "random"]
    status = compare.main(["rank", *usual, *random, *given])
    errors = capsys.readouterr().err
    assert status == 2, errors
    assert len([line for line in errors.splitlines() if line.startswith("error:")]) == 1
    for part in parts:
        assert part in errors


def test_no_weights_at_all(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def imagenet(recipe: Recipe, origin: str, *more: object) -> Path:
        raise BadInput(f"{origin}'s weights of {recipe.backbone} are out of reach.")

    monkeypatch.setattr(resolve_weights, "imagenet", imagenet)
    options = ("--data", photos, "--cache-dir", tmp_path / "cache", "--output-dir", tmp_path / "out")
    status = compare.main(["rank", *(str(option) for option in options), "--backbone", "VGG16", "VGG19"])
    assert status == 2
    message = "no backbone is left to rank; VGG16: torchvision's weights of VGG16 are out of reach. keras's weights"
    assert message in capsys.readouterr().err


def test_a_worker_that_fails(inside: Command, photos: Path, package_of: Callable[[str, str], None]) -> None:
    package_of("torch", "no_such_wing")
    outcome = inside("rank", "--data", photos, *TINY, "--backbone", "MobileNetV2")
    assert outcome.status == 3
    assert "No module named no_such_wing" in outcome.errors
    assert "Traceback" not in outcome.errors
    assert (outcome.folder / "MobileNetV2-worker.log").is_file()

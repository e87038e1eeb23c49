"""Heads in closed form: what they compute, that both wings have them alike, and that others compute the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from tests.conftest import CLASSES, SMALL, Command, write_images
from tests.fakes import FakeWorkers
from tests.processes import python
from tests.runs import quiet, write_job
from transfer_parity.shared.contract import artifacts, recipe_files
from transfer_parity.shared.contract.jobs import TrainJob
from transfer_parity.shared.contract.plan import Plan
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.rungs import RIDGE_RUNGS
from transfer_parity.shared.core.arrays import Rows
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.data import text_features
from transfer_parity.shared.evaluation import closed_forms
from transfer_parity.shared.evaluation.closed_forms import CosineHead
from transfer_parity.shared.parity import recipe_climb
from transfer_parity.shared.parity.document import PairResult
from transfer_parity.shared.parity.recipe_ladder import RecipeLadder
from transfer_parity.shared.runtime import closed_form, ridge
from transfer_parity.shared.runtime.short_climb import ShortClimb

#: Of this file, by strategy.
RECIPES = {
    "nearest_mean": "nearest-mean",
    "prototypes": "prototypes",
    "zero_shot": "zero-shot",
    "tip_adapter": "tip-adapter",
}
WINGS = ("tf_impl", "torch_impl")
#: What runs in the fast tests: every recipe in one wing, every kind of head in both.
RUN = [*(("torch_impl", name) for name in RECIPES), ("tf_impl", "prototypes"), ("tf_impl", "tip_adapter")]
SIX = {"backbone": "MobileNetV3Small", "weights": "random", "control": False, "text_features": "text.npy"}


def data(seed: int = 0, images: int = 30, length: int = 12) -> tuple[Any, Any, Any]:
    """Features of four classes, far from the origin, their labels, and features of others, elsewhere."""
    random = np.random.default_rng(seed)
    labels = np.arange(images) % 4
    features = random.normal(3, 1, (images, length)) + 2 * np.eye(4, length)[labels]
    return features, labels, random.normal(3.5, 1, (50, length)) + np.eye(4, length)[np.arange(50) % 4]


def of(kind: str, features: Any, labels: Any, queries: Any) -> CosineHead:
    if kind == "prototypes":
        return closed_forms.prototypes(features, labels, 4, queries)
    return closed_forms.nearest_mean(features, labels, 4)


def test_the_nearest_mean_by_hand() -> None:
    """Means of (1, 0), (3, 0), (2, 3) and (2, 1) are at (2, 1); what is left of them is a unit long after that."""
    features, labels = np.array([[1.0, 0], [3, 0], [2, 3], [2, 1 - 1e-30]]), np.array([0, 0, 1, 1])
    head = closed_forms.nearest_mean(features, labels, 3)
    assert head.mean == pytest.approx([2, 1])
    # (-1, -1) and (1, -1), whose mean points down; (0, 2) points up, and what is left of nothing is nothing.
    assert head.prototypes == pytest.approx(np.array([[0, -(0.5**0.5)], [0, 0.5], [0, 0]]))
    cosines = np.array([[1, -1, 0], [-1, 1, 0], [0, 0, 0]])
    assert head.logits(np.array([[2.0, 0], [2, 5], [7, 1]])) == pytest.approx(cosines)


def test_prototypes_by_hand() -> None:
    """Labelled at 0 and 180 degrees about the mean; queries at 60 and 180, whose mean is moved to where that one is."""
    features, labels = np.array([[1.0, 0], [-1, 0]]), np.array([0, 1])
    queries = np.array([[1, 3**0.5], [-3, 0]])
    found = closed_forms.prototypes(features, labels, 2, queries).prototypes
    # Made as long as 1, (1/2, root 3/4) and (-1, 0), which are a quarter of (-1, root 3) from their place.
    moved = np.array([0.75, 3**0.5 / 4])
    one, other = np.exp(1), np.exp(0.75**0.5)
    first = (one * features[0] + other * moved) / (one + other)
    assert found == pytest.approx(np.stack([first, -first]))


def test_what_is_near_counts_for_a_class_whether_or_not_it_is_labelled() -> None:
    """Labelled images as queries: each counts once for its class, and once for the class that it is nearest to."""
    features, labels, _ = data()
    same = closed_forms.prototypes(features, labels, 4, features)
    centred = closed_forms.unit(features - features.mean(axis=0))
    by_class = [centred[labels == each].mean(axis=0) for each in range(4)]
    cosines = centred @ closed_forms.unit(np.stack(by_class)).T
    nearest = cosines.argmax(axis=1)
    for each in range(4):
        weights = np.exp(cosines[:, each]) * ((labels == each).astype(int) + (nearest == each))
        assert same.prototypes[each] == pytest.approx(weights @ centred / weights.sum())


@pytest.mark.parametrize("kind", ["nearest_mean", "prototypes"])
def test_the_unit_of_the_features_does_not_matter(kind: str) -> None:
    features, labels, queries = data()
    first = of(kind, features, labels, queries).logits(queries)
    for scale in (1e-3, 1e5):
        again = of(kind, scale * features, labels, scale * queries).logits(scale * queries)
        assert again == pytest.approx(first, abs=1e-9)


@pytest.mark.parametrize("kind", ["nearest_mean", "prototypes"])
def test_neither_names_nor_order_matter(kind: str) -> None:
    features, labels, queries = data()
    first = of(kind, features, labels, queries).logits(queries)
    names = np.array([2, 0, 3, 1])
    assert of(kind, features, names[labels], queries).logits(queries)[:, names] == pytest.approx(first, abs=1e-12)
    order, others = np.random.default_rng(1).permutation(30), np.random.default_rng(2).permutation(50)
    assert of(kind, features[order], labels[order], queries[others]).logits(queries) == pytest.approx(first, abs=1e-12)


def test_many_rows_are_read_a_block_at_a_time(tmp_path: Path) -> None:
    """The same from a file of float32 and in several blocks; images that were not chosen do not count."""
    features, labels, queries = data(images=2500)
    rows = Rows.create(tmp_path / "features.npy", (2600, 12), np.float32)
    rows[:] = np.vstack([np.full((50, 12), 1e9), queries, features])
    none: Any = np.zeros((0, 0), np.int64)
    drawn = Plan(np.arange(100, 2600), np.arange(50, 100), none, np.zeros(0), none, none)
    recipe = recipe_files.validated({**SIX, "strategy": "prototypes", "logit_scale": 7}, "here")
    found = closed_form.fit(recipe, rows, drawn, np.concatenate([np.zeros(100, np.int64), labels]), 4).head
    features, queries = features.astype(np.float32).astype(np.float64), queries.astype(np.float32).astype(np.float64)
    expected = closed_forms.prototypes(features, labels, 4, queries, 7)
    assert found["head.centre.running_mean"] == pytest.approx(features.mean(axis=0), abs=1e-12)
    assert found["head.output.weight"] == pytest.approx(7 * closed_forms.unit(expected.prototypes), abs=1e-12)


def test_the_cache_by_hand() -> None:
    head = closed_forms.tip_adapter(np.array([[0.0, 3]]), np.array([1]), np.array([[2.0, 0], [0, 1]]), 10, 2, 0.5)
    assert head.logits(np.array([[0.0, 1], [5, 0]])) == pytest.approx(np.array([[0, 10 + 2], [10, 2 * np.exp(-0.5)]]))
    without = closed_forms.CacheHead(head.text, head.keys, head.values, 10, 0, 0.5)
    assert without.logits(np.eye(2)) == pytest.approx(closed_forms.zero_shot(head.text, 10).logits(np.eye(2)))


def save(folder: Path, array: Any, allow_pickle: bool = False) -> str:
    np.save(folder / "text.npy", array, allow_pickle=allow_pickle)
    return str(folder / "text.npy")


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.ones((2, 4)), "is 2 x 4, and there are 3 classes"),
        (np.ones(3), "is 3, and there are 3 classes"),
        (np.ones((3, 5)), "has 5 numbers for a class, and image features have 4"),
        (np.array([[1.0] * 4, [np.nan] * 4, [1] * 4]), "not finite for class square"),
        (np.eye(3, 4) - np.eye(3, 4)[[1]], "nothing but zeros for class square"),
        (np.ones((3, 4), np.int64), "does not hold floating-point numbers"),
        (np.array([[{}] * 4] * 3), "pickled objects are not read"),
    ],
)
def test_bad_text_features(tmp_path: Path, array: Any, sentence: str) -> None:
    with pytest.raises(BadInput) as caught:
        text_features.load(save(tmp_path, array, allow_pickle=True), CLASSES, 4)
    assert sentence in str(caught.value) and str(caught.value).count("\n") == 0


def test_text_features_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"cannot be read \(No such file or directory\); give a \.npy file"):
        text_features.load(str(tmp_path / "none.npy"), CLASSES, 4)
    with pytest.raises(BadInput, match="cannot be read"):
        text_features.load(str(tmp_path), CLASSES, 4)
    whole = Path(save(tmp_path, np.ones((3, 4)))).read_bytes()
    # Empty, cut off, of a header that claims more than there is, and something else.
    for content in (b"", whole[:40], whole[:-8], whole.replace(b"(3, 4)", b"(9, 9)"), b"hello"):
        (tmp_path / "text.npy").write_bytes(content)
        with pytest.raises(BadInput, match="is not an array of numbers"):
            text_features.load(str(tmp_path / "text.npy"), CLASSES, 4)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"strategy": "zero_shot", "text_features": None}, "compares with text; give --text-features FILE.npy"),
        (
            {"strategy": "nearest_mean", "head": "mlp"},
            "nearest_mean has a head of its own; leave head mlp out",
        ),
        ({"strategy": "prototypes", "flip": True}, "strategy prototypes has no steps; leave them out"),
        ({"strategy": "prototypes", "solver": "ridge"}, "solver ridge is for a linear head on frozen features"),
    ],
)
def test_what_does_not_go_together(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput) as caught:
        recipe_files.validated({key: value for key, value in {**SIX, **values}.items() if value is not None}, "here")
    assert sentence in str(caught.value)


def test_a_cache_that_is_too_small() -> None:
    features, labels, _ = data()
    none: Any = np.zeros((0, 0), np.int64)
    drawn = Plan(np.arange(30), np.arange(0), none, np.zeros(0), none, none)
    recipe = recipe_files.validated({**SIX, "strategy": "tip_adapter", "head_units": 29}, "here")
    with pytest.raises(BadInput, match="30 are more than head_units 29; give --head-units 30, or fewer shots"):
        closed_form.fit(recipe, features, drawn, labels, 4, np.ones((4, 12)))


def recipes(folder: Path) -> dict[str, Recipe]:
    """The recipe of each strategy, on small images with drawn text, by strategy."""
    photos = write_images(folder / "photos", dict.fromkeys(CLASSES, 8))
    text = save(folder, np.random.default_rng(0).normal(size=(3, 576)))
    small = {"data": str(photos), "image_size": 64, "text_features": text, "shots": [3], "precision": "float64"}
    return {name: recipe_files.read(file, {**SIX, **small, "seeds": 1}) for name, file in RECIPES.items()}


@pytest.fixture(scope="module")
def climbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PairResult]:
    """Every recipe through both wings."""
    folder = tmp_path_factory.mktemp("climbed")
    cache = Cache(str(folder / "cache"))

    def subjects() -> Iterator[recipe_climb.RecipeSubject]:
        for recipe in recipes(folder).values():
            yield from recipe_climb.from_recipe(recipe, [0], (), cache, 1, quiet)

    found = RecipeLadder(folder, 1, "cpu", quiet).climb_recipes(list(subjects()), "float64")
    return dict(zip(RECIPES, found, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_both_wings_climb_the_recipe(name: str, climbed: dict[str, PairResult]) -> None:
    found = climbed[name]
    assert found.passed, found.first_failure
    assert [rung.name for rung in found.rungs] == list(RIDGE_RUNGS)
    assert (found.strategy, found.head) == (name, "cache" if name == "tip_adapter" else "cosine")
    assert all((found.rung(rung).max_rel_difference or 0) <= 1e-8 for rung in ("fit", "predictions", "activations"))


#: Puts features through the heads of a wing, which are given their parameters, and does the runs of some jobs.
WORK = """
import json, sys
from pathlib import Path
import numpy as np
from transfer_parity.shared.contract import jobs
from transfer_parity.shared.contract.recipe_files import validated
from transfer_parity.shared.contract.spec import model_spec
from transfer_parity.shared.core.clocks import Phases
from transfer_parity.shared.runtime.events import Events
from transfer_parity.shared.runtime.train import RunLoop
from transfer_parity.WING.wing import WING as wing
wing.device.configure(1, "float64", "cpu")
folder = Path(sys.argv[1])
held, found = dict(np.load(folder / "held.npz")), {}
# What people compare speeds with takes longer than these runs.
wing.inference.matrix_product_rate = lambda network: 1e9
for name in ("prototypes", "tip_adapter"):
    recipe = validated(json.loads(sys.argv[2]) | {"strategy": name, "precision": "float64"}, "the test")
    network = wing.network.build(model_spec(recipe, None, 4, given=576))
    head = {key.partition(" ")[2]: array for key, array in held.items() if key.startswith(name + " ")}
    assert {key for key in wing.weights.shapes(network) if key.startswith("head.")} == set(head)
    wing.weights.load(network, head)
    found[name] = next(iter(wing.inference.infer(network, "head", [held["features"]])))
np.savez(folder / "WING.npz", **found)
events = Events()
for job in sorted((folder / "WING").iterdir()):
    phases = Phases(wing.device.synchronize)
    phases.add("start", 0.0)
    RunLoop(wing, jobs.read(job), job, events, phases).run()
"""


@dataclass(frozen=True)
class Done:
    """What came of ``WORK``: logits of some features by name, and by wing; and the folders of each wing's runs."""

    expected: dict[str, Any]
    found: dict[str, dict[str, Any]]
    runs: dict[str, dict[str, Path]]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Both wings' heads on the same parameters and features, of which the last is 1e-9 from the mean; every recipe."""
    folder = tmp_path_factory.mktemp("heads")
    features, labels, queries = data(length=576)
    head = closed_forms.prototypes(features, labels, 4, queries, 10)
    text = np.random.default_rng(3).normal(size=(4, 576))
    cached = closed_forms.tip_adapter(features, labels, text, 100, 2, 3)
    queries = np.vstack([queries, head.mean + 1e-9 * np.eye(576)[0]])
    held: dict[str, Any] = {"features": queries}
    held |= {f"prototypes {name}": array for name, array in closed_form.of_cosines(head).items()}
    held |= {f"tip_adapter {name}": array for name, array in closed_form.of_cache(cached, 40).items()}
    np.savez(folder / "held.npz", **held)
    chosen, cache = recipes(folder), Cache(str(folder / "cache"))
    runs: dict[str, dict[str, Path]] = {wing: {} for wing in WINGS}
    for wing, name in RUN:
        runs[wing][name] = write_job(folder / wing / name, chosen[name], cache, explain=2)
    for wing in WINGS:
        given = {**SIX, "image_size": 32, "head_units": 40}
        program = WORK.replace("WING", wing).replace(f"{wing} as wing", "WING as wing")
        python(program, folder, json.dumps(given))
    expected = {"prototypes": head.logits(queries), "tip_adapter": cached.logits(queries)}
    found: dict[str, dict[str, Any]] = {wing: dict(np.load(folder / f"{wing}.npz")) for wing in WINGS}
    return Done(expected, found, runs)


@pytest.mark.parametrize(("wing", "name"), RUN)
def test_a_recipe_runs(wing: str, name: str, done: Done) -> None:
    """Without steps; its kept model is there."""
    folder = done.runs[wing][name]
    logits = np.load(folder / artifacts.LOGITS, allow_pickle=False)
    assert logits.shape == (15, 3) and np.isfinite(logits).all() and np.abs(logits).max() > 0.1
    assert len(np.load(folder / artifacts.LOSSES, allow_pickle=False)) == 0
    assert len(list(folder.glob(f"{artifacts.MODEL}*"))) == 1


@pytest.mark.parametrize("name", [name for wing, name in RUN if wing == "tf_impl"])
def test_both_wings_predict_and_look_alike(name: str, done: Done) -> None:
    """Logits, and class-activation maps, through the closed form."""
    for file, allowed in ((artifacts.LOGITS, 1e-8), (artifacts.MAPS, 1e-5)):
        first, second = (np.load(done.runs[wing][name] / file, allow_pickle=False) for wing in WINGS)
        assert first.shape == second.shape and np.abs(first).max() > 0.1
        assert np.abs(first - second).max() <= allowed * np.abs(first).max()


@pytest.mark.parametrize("wing", WINGS)
@pytest.mark.parametrize("name", ["prototypes", "tip_adapter"])
def test_the_heads_of_the_wings(name: str, wing: str, done: Done) -> None:
    """All features but the last, which is as far from the mean as rounding is large."""
    assert done.found[wing][name][:-1] == pytest.approx(done.expected[name][:-1], abs=1e-10)


@pytest.mark.parametrize("wing", WINGS)
def test_the_epsilon_bounds_the_length(wing: str, done: Done) -> None:
    """Features 1e-9 from the mean count as a unit; with the epsilon in the square root they would be 0.001 long."""
    found, expected = done.found[wing]["prototypes"][-1], done.expected["prototypes"][-1]
    # What is left of 1e-9 beside a mean of 3 has seven digits.
    assert found == pytest.approx(expected, abs=1e-5)
    assert np.abs(found).max() > 0.1


def test_a_run_says_that_it_saw_the_test_images(inside: Command, photos: Path, workers: FakeWorkers) -> None:
    """On the terminal, and in the document, where another strategy's says that it did not."""
    for strategy, seen in (("prototypes", True), ("nearest_mean", False)):
        outcome = inside("--strategy", strategy, "--data", photos, *SMALL[:-2], "--no-check")
        assert outcome.status in (0, 1), outcome.errors
        sentence = "prototypes sees the test images without their labels (transductive)"
        assert (sentence in " ".join(outcome.output.split())) is seen
        assert outcome.document["transductive"] is seen


def test_a_study_says_which_strategies_saw_the_test_images(inside: Command, photos: Path, workers: FakeWorkers) -> None:
    """And leaves them apart where it advises one, however good they are."""

    def logits(job: TrainJob, framework: str, run: str, labels: Any) -> Any:
        right = 9.0 * np.eye(len(job.data.classes))[labels]
        # All images, and all but two.
        right[: 0 if job.recipe.strategy == "prototypes" else 2] *= -1
        return right

    workers.logits = logits
    names = ("scratch", "nearest_mean", "prototypes")
    outcome = inside("study", "--data", photos, "--strategies", *names, *SMALL[:2], "--shots", 3, "--seeds", 2)
    assert outcome.status in (0, 1), outcome.errors
    assert "prototypes sees the test images" in " ".join(outcome.output.split())
    document = json.loads((outcome.folder / artifacts.STUDY).read_text(encoding="utf-8"))
    assert document["transductive"] == ["prototypes"]
    assert next(iter(document["order"]["mean_ranks"])) == "prototypes"
    assert all(set(each["seconds"]) == {"scratch", "nearest_mean"} for each in document["cheapest"])
    assert "What is best and what takes least time is said of the others." in " ".join(outcome.output.split())
    assert "Sees the test images, without labels: prototypes." in " ".join(outcome.output.split())
    assert "prototypes sees the test images" in (outcome.folder / "report.html").read_text(encoding="utf-8")


#: Scores of easyfsl's classifiers, from features as 2 files.
EASYFSL = """
import sys
import numpy as np, torch
sys.path.insert(0, sys.argv[1])
from easyfsl.methods import BDCSPN, SimpleShot
held = {name: torch.from_numpy(array) for name, array in np.load(sys.argv[2]).items()}
found = {}
for name, kind in (("nearest_mean", SimpleShot), ("prototypes", BDCSPN)):
    model = kind(feature_centering=held["features"].mean(dim=0), feature_normalization=2.0)
    model.process_support_set(held["features"], held["labels"])
    found[name] = model(held["queries"]).numpy()
np.savez(sys.argv[3], **found)
"""


@pytest.mark.network
def test_others_compute_the_same(tmp_path: Path) -> None:
    """easyfsl's SimpleShot and BD-CSPN, and scikit-learn's ridge, on the same features."""
    target = tmp_path / "packages"
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), "easyfsl==1.5.0"]
    subprocess.run([sys.executable, *install], check=True, capture_output=True)
    for seed, (images, length) in enumerate([(20, 64), (100, 16), (4, 200)]):
        features, labels, queries = data(seed, images, length)
        np.savez(tmp_path / "held.npz", features=features, labels=labels, queries=queries)
        paths = [str(target), str(tmp_path / "held.npz"), str(tmp_path / "found.npz")]
        subprocess.run([sys.executable, "-c", EASYFSL, *paths], check=True)
        with np.load(tmp_path / "found.npz") as found:
            for name in ("nearest_mean", "prototypes"):
                ours = of(name, features, labels, queries).logits(queries)
                assert np.abs(ours - found[name]).max() <= 1e-8
            assert np.abs(found["nearest_mean"] - found["prototypes"]).max() > 0.01
        from sklearn.linear_model import Ridge

        head = ridge.fit(features, np.arange(images), labels, 4, 1.0)
        theirs = Ridge(alpha=1.0, solver="svd").fit(features, np.eye(4)[labels])
        assert np.abs(head["head.output.weight"] - theirs.coef_).max() <= 1e-8
        assert np.abs(head["head.output.bias"] - theirs.intercept_).max() <= 1e-8


@pytest.mark.parametrize(("strategy", "seen"), [("linear_probe", False), ("nearest_mean", True)])
def test_a_head_that_centres_sees_the_move_that_measures_rounding(strategy: str, seen: bool) -> None:
    """Features that no rectifier has cut off: moved alike in all images, they are the same again once centred."""
    features = np.random.default_rng(0).normal(3, 1, (40, 20))
    labels = np.arange(40) % 4
    network, run = cast(Any, None), cast(Any, SimpleNamespace(seed=0))
    moved = ShortClimb(cast(Any, None), network, Recipe(strategy=strategy), run)._moved(features, 1e-3)
    assert np.allclose(np.abs(moved - features), 1e-3)
    logits = [closed_forms.nearest_mean(each, labels, 4).logits(each) for each in (features, moved)]
    change = np.abs(logits[1] - logits[0]).max()
    assert 1e-5 < change < 1e-2 if seen else change < 1e-12

"""What strategies are, and that both wings climb every rung of what each of them trains."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from tests.conftest import CLASSES, write_images
from tests.fakes import FakeWorkers
from transfer_parity import compare
from transfer_parity.shared.contract import methods, plan, recipe_files
from transfer_parity.shared.contract.methods import METHODS, VARIANTS
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.rungs import FITTED_RUNGS, RECIPE_RUNGS
from transfer_parity.shared.contract.wing import Wing
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.data import views
from transfer_parity.shared.data.folders import from_folder
from transfer_parity.shared.experiments import known_accuracies
from transfer_parity.shared.experiments.comparison_document import Comparison
from transfer_parity.shared.parity import recipe_climb
from transfer_parity.shared.parity.document import PairResult
from transfer_parity.shared.parity.recipe_ladder import RecipeLadder
from transfer_parity.shared.runtime import embedding, native_behaviour, prepare

#: MobileNetV3Small has 13 parts in five stages, and these shapes of the parameters of each.
SHAPES = {
    f"features.{number}.{name}": shape
    for number in range(13)
    for name, shape in {
        "0.weight": (8, 4, 1, 1),
        "0.bias": (8,),
        "1.weight": (8,),
        "1.bias": (8,),
        "1.running_mean": (8,),
        "1.running_var": (8,),
    }.items()
}


def recipe(**values: Any) -> Recipe:
    given = {"backbone": "MobileNetV3Small", "weights": "random", "control": False, "text_features": "t.npy", **values}
    return recipe_files.validated(given, "here")


def test_every_variant_is_found_by_the_recipe_that_it_stands_for() -> None:
    for name, values in VARIANTS.items():
        assert recipe(**values).method.variant(recipe(**values)) == name
    assert recipe(strategy="finetune", finetune_stages=2).method.variant(recipe(strategy="finetune")) == "finetune"


def test_the_first_variant_is_the_strategy_itself() -> None:
    assert all(next(iter(method.variants)) == name for name, method in METHODS.items())


def test_norm_only_trains_scales_and_shifts_alone() -> None:
    trained = METHODS["norm_only"].trained(recipe(strategy="norm_only"), SHAPES)
    assert trained == {f"features.{number}.1.{name}" for number in range(13) for name in ("weight", "bias")}
    last = METHODS["norm_only"].trained(recipe(strategy="norm_only", finetune_stages=1), SHAPES)
    assert last < trained and min(int(name.split(".")[1]) for name in last) > 6
    assert not recipe(strategy="norm_only").batch_norm_trains


def test_rates_fall_with_the_distance_from_the_head() -> None:
    chosen = recipe(strategy="finetune", finetune_stages="all", stage_rate_decay=0.5)
    stages = len(chosen.pair.stages)
    assert chosen.rate_factor("head.output.weight") == 1
    assert chosen.rate_factor("features.12.0.weight") == 0.5
    assert chosen.rate_factor("features.0.0.weight") == 0.5**stages
    assert recipe(strategy="finetune").rate_factor("features.0.0.weight") == 1


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"strategy": "lp_ft", "head": "mlp"}, "first_head ridge is for a linear head; with head mlp give first_head"),
        ({"strategy": "norm_only", "backbone": "VGG16"}, "norm_only trains normalisations, and VGG16 has none"),
        ({"strategy": "lp_ft", "solver": "ridge"}, "solver ridge is for a linear head on frozen features"),
        ({"strategy": "fixmatch", "freeze_batch_norm": False}, "with strategy fixmatch normalisation stays as it is"),
        ({"strategy": "finetune", "finetune_stages": 0}, "finetune_stages = 0 is not valid: give 1 or more stages"),
        ({"strategy": "siamese", "loss": "mse"}, "strategy siamese has the contrastive loss of pairs; leave loss and"),
        ({"strategy": "siamese", "label_smoothing": 0.1}, "strategy siamese has the contrastive loss of pairs"),
        ({"strategy": "lpft"}, "did you mean 'lp_ft'?"),
        ({"stage_rate_decay": 0}, "stage_rate_decay = 0 is not valid"),
    ],
)
def test_bad_input(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput) as caught:
        recipe(**values)
    assert sentence in str(caught.value)


def test_partners_are_drawn_in_turn(photos: Path) -> None:
    data = from_folder(photos)
    chosen = recipe(strategy="siamese", shots=[1, 3], epochs=4)
    drawn = plan.draw_all(chosen, data.labels, None, list(data.classes))
    several = drawn[3, 0]
    images = several.train[several.order]
    assert not (several.partners == images).any() and np.isin(several.partners, several.train).all()
    alike = data.labels[several.partners] == data.labels[images]
    assert alike[:, ::2].all() and not alike[:, 1::2].any()
    # A class of one image has partners of other classes only.
    single = drawn[1, 0]
    assert (data.labels[single.partners] != data.labels[single.train[single.order]]).all()


def test_partners_stay_with_their_images_in_another_order(photos: Path) -> None:
    """A framework that shuffles by itself trains on the same pairs, half of them of one class."""
    data = from_folder(photos)
    chosen = recipe(strategy="siamese", shots=[3], epochs=4)
    drawn = plan.draw_all(chosen, data.labels, None, list(data.classes))[3, 0]
    epochs, images = drawn.order.shape
    random = np.random.default_rng(0)
    order = np.stack([random.permutation(images) for _ in range(epochs)])
    wing = cast(Wing, SimpleNamespace(native=SimpleNamespace(shuffled_order=lambda images, epochs: order)))
    found = native_behaviour.native_plan(wing, drawn, frozenset({"data_order"}))
    assert (found.order == order).all() and (found.order != drawn.order).any()
    for epoch in range(epochs):
        before, after = (set(zip(each.order[epoch], each.partners[epoch], strict=True)) for each in (drawn, found))
        assert before == after
    # Nothing to keep where a strategy takes no pairs.
    alone = plan.draw_all(recipe(shots=[3], epochs=4), data.labels, None, list(data.classes))[3, 0]
    assert not len(native_behaviour.native_plan(wing, alone, frozenset({"data_order"})).partners)


def test_an_embedding_is_classified_by_the_nearest_mean() -> None:
    random = np.random.default_rng(0)
    features, labels = random.standard_normal((20, 7)), np.arange(20) % 4
    weight, bias = random.standard_normal((4, 7)), random.standard_normal(4)
    embedded = features @ weight.T + bias
    found = embedding.classifier(embedded, labels, weight, bias)
    logits = features @ found[embedding.WEIGHT].T + found[embedding.BIAS]
    means = np.stack([embedded[labels == each].mean(axis=0) for each in range(4)])
    squared = np.square(embedded[:, None] - means).sum(axis=-1)
    np.testing.assert_allclose(logits - logits[:, :1], -squared + squared[:, :1], atol=1e-12)


def test_unlabelled_images_are_those_beyond_the_shots(photos: Path) -> None:
    data = from_folder(photos)
    chosen = recipe(strategy="fixmatch", shots=[3, "all"], batch_size=4, unlabeled_ratio=2, epochs=2)
    drawn = plan.draw_all(chosen, data.labels, None, list(data.classes))
    few, everything = drawn[3, 0], drawn["all", 0]
    assert not set(few.unlabelled) & {*few.train, *few.test}
    assert len(few.unlabelled) + len(few.train) + len(few.test) == len(data)
    # Where all are labelled, they are those without their labels.
    assert everything.unlabelled.tolist() == everything.train.tolist()
    assert few.unlabelled_order.shape == few.unlabelled_views.shape == (len(few.learning_rates), 8)
    # Each comes once before any comes again.
    first = few.unlabelled_order.ravel()[: len(few.unlabelled)]
    assert sorted(first.tolist()) == list(range(len(few.unlabelled)))
    probe = chosen.model_copy(update={"strategy": "linear_probe"})
    alone = plan.draw_all(probe, data.labels, None, list(data.classes))[3, 0]
    for name in ("train", "test", "order", "learning_rates"):
        np.testing.assert_array_equal(getattr(few, name), getattr(alone, name))
    assert not len(alone.unlabelled)


def test_a_folder_of_unlabelled_images(photos: Path, tmp_path: Path) -> None:
    more = write_images(tmp_path / "more", {"deep/inside": 2, "beside": 3}, seed=9)
    chosen = recipe(strategy="fixmatch", shots=3, unlabeled=str(more), image_size=32)
    data = prepare.with_unlabelled(chosen, from_folder(photos))
    assert data.labels.tolist()[-5:] == [-1] * 5 and len(data) == 29
    assert [path.parent.name for path in data.pictures.files([24, 0, 28], tmp_path)] == ["beside", "circle", "inside"]
    cache = Cache(str(tmp_path / "cache"))
    data, pixels = prepare.decoded(chosen, data, cache, lambda what, done, total: None)
    for each in prepare.drawn(chosen, data, pixels).values():
        assert each.unlabelled.tolist() == [24, 25, 26, 27, 28]
        assert each.train.max() < 24 and each.test.max() < 24


def test_unlabelled_images_are_not_counted_among_those_of_the_classes(
    photos: Path, tmp_path: Path, workers: FakeWorkers
) -> None:
    """So that a later ranking on the same images can be held against the comparison."""
    more = write_images(tmp_path / "more", {"beside": 3}, seed=9)
    given = ("--strategy", "pseudo_label", "--unlabeled", more, "--weights", "random", "--image-size", 32, "--shots", 3)
    places = ("--output-dir", tmp_path / "out", "--cache-dir", tmp_path / "cache", "--no-control", "--no-check")
    small = ("--seeds", 1, "--epochs", 2, "--frameworks", "torch")
    assert compare.main([str(each) for each in ("--data", photos, *given, *small, *places)]) == 0
    data, folder = from_folder(photos), tmp_path / "out"
    assert Comparison.model_validate_json((folder / "comparison.json").read_text()).images == len(data)
    assert known_accuracies.accuracies([folder], data, "torch", 3)


def test_test_images_among_the_unlabelled_ones_are_named(photos: Path, tmp_path: Path) -> None:
    """Under another name, too."""
    more = tmp_path / "more"
    more.mkdir()
    chosen = recipe(strategy="fixmatch", shots=3, seeds=1, unlabeled=str(more), image_size=32)
    data = from_folder(photos)
    drawn = plan.draw(chosen, np.append(data.labels, -1), None, list(CLASSES), 0, 3)
    (tested,) = data.pictures.files([int(drawn.test[4])], more)
    shutil.copyfile(tested, more / "holiday.png")
    data, pixels = prepare.decoded(
        chosen, prepare.with_unlabelled(chosen, data), Cache(str(tmp_path / "cache")), lambda what, done, total: None
    )
    with pytest.raises(
        BadInput, match=f"test images are among the unlabelled ones.*{tested.parent.name}/{tested.name}"
    ):
        prepare.drawn(chosen, data, pixels)


@pytest.mark.parametrize(
    ("folder", "sentence"), [("nowhere", "there is no such folder"), ("empty", "holds no image that can be opened")]
)
def test_a_folder_without_unlabelled_images(folder: str, sentence: str, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    chosen = recipe(strategy="pseudo_label", unlabeled=str(tmp_path / folder))
    with pytest.raises(BadInput, match=f"--unlabeled .*{folder}:? {sentence}"):
        prepare.with_unlabelled(chosen, from_folder(photos))


def test_no_images_without_labels(photos: Path) -> None:
    data = from_folder(photos)
    with pytest.raises(BadInput, match="beyond the shots every image is a test image; give --unlabeled FOLDER"):
        plan.draw_all(recipe(strategy="mean_teacher", shots=3), data.labels, None, list(data.classes))


def test_views_are_bytes_that_differ() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    draws = np.random.default_rng(1).random((200, views.DRAWS))
    for make in (views.weak, views.strong):
        made = [make(image, each) for each in draws]
        assert all(view.shape == image.shape and view.dtype == np.uint8 for view in made)
        assert len({view.tobytes() for view in made}) > 60
        assert make(image, draws[0]).tobytes() == made[0].tobytes()
    # Neither flipped nor moved, the image itself.
    np.testing.assert_array_equal(views.weak(image, np.array([0.6, 0.5, 0.5])), image)
    assert {int(each * len(views.OPERATIONS)) for each in draws[:, 3]} == set(range(len(views.OPERATIONS)))


def test_every_strategy_has_a_recipe() -> None:
    """A file in recipes/, which can be read."""
    found = [recipe_files.load(str(path))[0] for path in recipe_files.RECIPES.glob("*.toml")]
    chosen = [recipe_files.validated(values, "here") for values in found if "strategies" not in values]
    assert {each.strategy for each in chosen} == set(METHODS)


def test_summaries_are_told_apart() -> None:
    assert all(method.summary in methods.SUMMARY for method in METHODS.values())


UNLABELLED: dict[str, Any] = {"shots": [3, "all"], "threshold": 0.4, "unlabeled_weight": 2.0, "learning_rate": 1e-2}
#: What climbs: heads, rates by stage, what trains, unlabelled images.
CLIMBED: dict[str, dict[str, Any]] = {
    "lp_ft": {
        **{"strategy": "lp_ft", "finetune_stages": 2, "learning_rate": 1e-3, "stage_rate_decay": 0.3},
        **{"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.1},
    },
    "siamese": {"strategy": "siamese", "finetune_stages": 1, "learning_rate": 1e-3, "pair_margin": 2.0},
    "multi_task": {"strategy": "multi_task", "finetune_stages": 1, "label_smoothing": 0.1, "batch_size": 4},
    "pseudo_label": {"strategy": "pseudo_label", **UNLABELLED, "label_temperature": 0.5},
    "fixmatch": {"strategy": "fixmatch", **UNLABELLED, "finetune_stages": 1},
    "mean_teacher": {"strategy": "mean_teacher", **UNLABELLED, "teacher_decay": 0.8},
    "lp_ft from a probe": {"strategy": "lp_ft", "first_head": "probe", "head": "mlp", "head_units": 8},
    "norm_only": {"strategy": "norm_only", "finetune_stages": 2},
    "rates, adamw": {
        **{"strategy": "finetune", "finetune_stages": 2, "stage_rate_decay": 0.3, "optimizer": "adamw"},
        **{"weight_decay": 0.1},
    },
}


def climbed(names: Collection[str], folder: Path) -> dict[str, PairResult]:
    """Recipes of ``CLIMBED`` through both wings."""
    photos = write_images(folder / "photos", dict.fromkeys(CLASSES, 8), side=48)
    recipe_climb.label_tasks(photos)
    cache = Cache(str(folder / "cache"))
    common = {"data": str(photos), "image_size": 32, "shots": (3,), "batch_size": 6, "precision": "float64"}

    def quiet(what: str, done: int, total: int) -> None:
        """Nobody watches."""

    def subjects() -> Iterator[recipe_climb.RecipeSubject]:
        for name in names:
            chosen = recipe(**{**common, **CLIMBED[name]})
            yield from recipe_climb.from_recipe(chosen, [0], (), cache, 1, quiet)

    return dict(
        zip(names, RecipeLadder(folder, 1, "cpu", quiet).climb_recipes(list(subjects()), "float64"), strict=True)
    )


def check(name: str, found: PairResult) -> None:
    assert found.passed, found.first_failure
    fitted = CLIMBED[name]["strategy"] == "lp_ft"
    assert [rung.name for rung in found.rungs] == list(FITTED_RUNGS if fitted else RECIPE_RUNGS)
    assert found.steps is not None and found.steps >= 20
    assert (found.rung("trajectory").max_rel_difference or 0) <= 1e-8
    assert np.isfinite(found.max_loss_difference or np.nan)


@pytest.mark.slow
def test_both_wings_train_alike_in_every_strategy(tmp_path: Path) -> None:
    """Fitted heads, the last stages, rates by stage with momentum and weight decay."""
    for name, found in climbed(CLIMBED, tmp_path).items():
        check(name, found)

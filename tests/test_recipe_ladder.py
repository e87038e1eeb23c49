"""The ladder of a recipe: what it climbs, and that matched wings pass every rung of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import SMALL, Command
from transfer_parity import compare
from transfer_parity.shared.contract.plan import Plan
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.rungs import RECIPE_RUNGS, RIDGE_RUNGS, Label, Rung
from transfer_parity.shared.contract.wings import TENSORFLOW, TORCH
from transfer_parity.shared.data.folders import from_folder
from transfer_parity.shared.parity import recipe_climb
from transfer_parity.shared.parity.climb import LABELS, SHOTS
from transfer_parity.shared.parity.document import PairResult
from transfer_parity.shared.parity.recipe_climb import RecipeSubject, chosen, cut, recipe_of, strategy_of
from transfer_parity.shared.parity.recipe_judging import RecipeComparison
from transfer_parity.shared.parity.tolerance import tolerance
from transfer_parity.shared.runtime import sampling, trace_format
from transfer_parity.shared.runtime.prepare import RunInputs
from transfer_parity.shared.zoo.lookup import find_pair

SMALLEST = find_pair("MobileNetV3Small")


def drawn(recipe: Recipe, photos: Path, *budget: int) -> tuple[Plan, Recipe]:
    return recipe_climb._plan(recipe, from_folder(photos), 0, *(budget or (20, 40)))


def test_each_backbone_is_compared_with_text_of_its_own_length(tmp_path: Path) -> None:
    for pair in (SMALLEST, find_pair("ResNet50")):
        given: Any = (pair, ["linear"], ["zero_shot"], ["torchvision"], None, tmp_path, {}, (), (0,), lambda *_: None)
        (subject,) = recipe_climb.of_defaults(*given)
        assert np.load(str(subject.recipe.text_features), allow_pickle=False).shape == (LABELS, pair.channels)


@pytest.mark.parametrize(
    ("shots", "batch", "epochs", "steps", "last"),
    [(5, 32, 20, 20, 15), (5, 4, 5, 20, 3), (5, 15, 20, 20, 15), (7, 4, 4, 24, 1), (6, 5, 5, 20, 3)],
)
def test_a_short_training(shots: int, batch: int, epochs: int, steps: int, last: int, photos: Path) -> None:
    """At least 20 steps, and no more than another epoch; the batches are the recipe's, with the small last one."""
    found, short = drawn(Recipe(shots=(shots,), batch_size=batch, epochs=100), photos)
    assert (short.epochs, len(found.order)) == (epochs, epochs)
    assert len(found.learning_rates) == steps
    assert (len(found.train) % batch or batch) == last
    # Its schedule ends where this training ends.
    falling, _ = drawn(Recipe(shots=(shots,), batch_size=batch, schedule="cosine"), photos)
    assert falling.learning_rates[-1] < 0.05 * falling.learning_rates[0]


def test_a_large_epoch_is_cut_and_keeps_its_last_batch(photos: Path) -> None:
    recipe = Recipe(shots=(7,), batch_size=2, strategy="finetune", flip=True, crop=True, image_size=32)
    found, _ = drawn(recipe, photos, 2, 4)
    assert found.train.shape == (7,)
    assert found.order.tolist() == [list(range(7))]
    assert (len(found.learning_rates), found.flips.shape, found.crops.shape) == (4, (1, 7), (1, 7, 2))
    whole, _ = drawn(recipe, photos, 2, 40)
    assert found.train.tolist() == whole.train[whole.order[0, :7]].tolist()
    assert cut(whole, 2, 11) is whole


def test_few_test_images_of_all_classes(tmp_path: Path, photos: Path) -> None:
    found, _ = drawn(Recipe(shots=(1,)), photos)
    assert len(found.test) == 21
    many = Plan(*(np.arange(100), np.arange(1000)), np.zeros((1, 1)), *[np.zeros(0)] * 3)  # type: ignore[arg-type]
    assert len(many.test[:: -(-1000 // recipe_climb.TESTED)]) <= recipe_climb.TESTED


@pytest.mark.parametrize("strategy", recipe_climb.STRATEGIES)
def test_recipes_of_defaults(strategy: str) -> None:
    recipe = recipe_of(SMALLEST, "linear", strategy, {"data": "nowhere", "text_features": "nowhere.npy"})
    assert strategy_of(recipe) == strategy
    # Images that go through everything in every step are augmented; others cannot be.
    assert recipe.flip == recipe.crop == (recipe.frozen_stages == 0)
    # The last batch of each epoch is small.
    assert LABELS * SHOTS % recipe.batch_size


def test_names_of_heads_and_strategies() -> None:
    assert chosen("--heads", None, recipe_climb.HEADS, "linear") == ["linear"]
    assert chosen("--heads", ["all"], recipe_climb.HEADS, "linear") == ["linear", "mlp", "conv"]
    assert chosen("--heads", ["conv", "conv"], recipe_climb.HEADS, "linear") == ["conv"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["finetune", "--backbone", "VGG16"], "--backbone is what the recipe finetune says itself; leave out one"),
        (["finetune", "--heads", "mlp"], "--heads is what the recipe finetune says itself"),
        (["finetune", "--image-size", "64"], "--image-size is what the recipe finetune says itself"),
        (["finetune", "--weights", "random"], "--weights is what the recipe finetune says itself"),
        (["finetine"], "no recipe file 'finetine'; did you mean 'finetune'?"),
        (["study"], "is the recipe of a study"),
        (["--heads", "lineer"], "--heads lineer: there is no such name; did you mean 'linear'?"),
        (["--strategies", "probe"], "--strategies probe: there is no such name"),
        (["--heads", "mlp", "--strategies", "ridge"], "--strategies ridge fits linear heads only; give --heads linear"),
        (
            ["--heads", "mlp", "--backbone", "MobileNetV3Small", "--switch", "torch:data_ordr"],
            "did you mean 'torch:data_order'?",
        ),
        (["--strategies", "linear_probe", "--switch", "torch:augmentation"], "makes no difference to what this recipe"),
    ],
)
def test_bad_input(arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main(["parity", *arguments, "--output-dir", str(tmp_path / "out")]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())


def test_images_that_move_or_change_have_other_fingerprints() -> None:
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    other = images.copy()
    other[1, 0, 0, 0] += 1
    first, second, mirrored = map(sampling.fingerprints, (images, other, images[:, :, ::-1]))
    assert first[0] == second[0] and first[1] != second[1]
    assert not set(first) & set(mirrored)
    assert sampling.fingerprints(images[:0]).shape == (0,)


def test_optimizer_steps_add_up_their_rounding() -> None:
    recipe = Recipe(precision="float64")
    few, many = (Label("momentum", "a", optimizer="sgd", step=step) for step in (3, 24))
    assert tolerance("optimizer", many, None, recipe) == 8 * tolerance("optimizer", few, None, recipe)


# The judge, on what wings might have written.


def subject(photos: Path, solver: str = "optimizer") -> RecipeSubject:
    data = from_folder(photos)
    recipe = Recipe(shots=(3,), precision="float64", solver=solver)
    plans = {(3, seed): recipe_climb._plan(recipe, data, seed, 20, 40)[0] for seed in (0, 1)}
    return RecipeSubject(recipe, None, 0, RunInputs(recipe, data, Path("nowhere"), None, plans))  # type: ignore[arg-type]


def outputs(engine: str, precision: str, value: float) -> dict[Label, Any]:
    return {Label("logits", engine=engine, precision=precision): np.full((8, 3), value)}


def judged(photos: Path, folder: Path, rung: Rung, wings: Mapping[str, Mapping[Label, Any]]) -> Any:
    """A rung of what both wings wrote, with float32's engines in a folder of their own."""
    places: dict[bool, dict[str, Path]] = {False: {}, True: {}}
    for wing in (TENSORFLOW, TORCH):
        for single in places:
            place = places[single][wing] = folder / f"{wing}-{single}"
            place.mkdir()
        mine = wings[wing]
        kept = {label: array for label, array in mine.items() if label.precision != "float32"}
        trace_format.write(places[False][wing], rung, kept)
        trace_format.write(places[True][wing], rung, {k: v for k, v in mine.items() if k not in kept})
        trace_format.write_names(places[False][wing], {})
        changes = {Label("logits", precision="float64"): 1e-16, Label("logits", precision="float32"): 1e-8}
        predicted = {Label("logits", run=run): 1e-15 for run in (1, 2)}
        trace_format.write_rounding(places[False][wing], {"engines": changes, "predictions": predicted})
    one = subject(photos)
    return RecipeComparison(one, one.recipe, places[False], places[True], TENSORFLOW)._rung(rung)


@pytest.mark.parametrize(
    ("wing", "engine", "precision", "value"),
    [
        (TORCH, "fused", "float32", 1 + 1e-4),
        (TENSORFLOW, "fused", "float64", 1 + 1e-9),
        # The plain one has kernels of its own in float32.
        (TORCH, "eager", "float32", 0.5),
    ],
)
def test_an_engine_is_judged_by_its_own_wing_in_float64(
    wing: str, engine: str, precision: str, value: float, photos: Path, tmp_path: Path
) -> None:
    plain = {TORCH: "eager", TENSORFLOW: "graph"}
    good: dict[str, dict[Label, Any]] = {
        each: outputs(plain[each], "float64", 1.0)
        | outputs("fused", "float64", 1 + 1e-15)
        | outputs(plain[each], "float32", 1 + 5e-7)
        | outputs("fused", "float32", 1 + 1e-7)
        for each in (TENSORFLOW, TORCH)
    }
    (tmp_path / "good").mkdir()
    passed = judged(photos, tmp_path / "good", "engines", good)
    assert passed.passed and passed.arrays == 8
    good[wing] |= outputs(engine, precision, value)
    failed = judged(photos, tmp_path, "engines", good)
    assert failed.first_divergence.what == f"logits by {wing}'s engine {engine} in {precision}"


def test_missing_predictions_differ(photos: Path, tmp_path: Path) -> None:
    logits = {Label("logits", run=run): np.eye(3)[np.arange(15) % 3] for run in (1, 2)}
    fewer = logits | {Label("logits", run=2): np.zeros((14, 3))}
    found = judged(photos, tmp_path, "predictions", {TORCH: logits, TENSORFLOW: fewer})
    assert found.first_divergence.what == "logits, second seed"


def test_a_recipe_of_the_command_line_is_climbed(command: Command, photos: Path, tmp_path: Path) -> None:
    """A recipe with its own images: float32, the first engine, an mlp, mean squares and a small last batch."""
    values = dict(zip(map(str, SMALL[::2]), SMALL[1::2], strict=False))
    assert "--weights" in values
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        f'data = "{photos}"\nbackbone = "MobileNetV3Small"\nweights = "random"\ncontrol = false\nimage_size = 44\n'
        'shots = [3, 5]\nhead = "mlp"\nhead_units = 8\nloss = "mse"\nbatch_size = 7\nepochs = 2\n'
        'precision = "float32"\n'
    )
    outcome = command("parity", recipe, "--threads", 1)
    document = json.loads((outcome.folder / "parity.json").read_text())
    assert outcome.status == 0, outcome.output + outcome.errors
    (found,) = document["pairs"]
    assert (found["recipe"], found["strategy"], found["head"]) == ("mine", "linear_probe", "mlp")
    assert (found["precision"], found["steps"], found["image_size"]) == ("float64", 20, 44)
    assert [rung["name"] for rung in found["rungs"]] == list(RECIPE_RUNGS)
    assert "1 of 1 climbs passed all 10 rungs" in outcome.output
    assert "| MobileNetV3Small | mine | linear_probe | mlp | 0 |" in (outcome.folder / "parity.md").read_text()
    assert max(map(len, outcome.output.splitlines()[:-1])) <= 80


def test_documents_before_there_were_recipes() -> None:
    old: dict[str, Any] = {
        **{"backbone": "MobileNetV2", "semantics": "keras", "precision": "float32", "weights": "random"},
        **{"switches": [], "seed": 0, "image_size": 64, "rungs": [], "max_loss_difference": None, "passed": True},
    }
    found = PairResult.model_validate(old)
    assert (found.recipe, found.strategy, found.head, found.steps) == (None, None, None, None)


def test_rungs_of_ridge() -> None:
    assert [rung for rung in RIDGE_RUNGS if rung not in RECIPE_RUNGS] == ["fit"]
    assert not {"loss", "gradients", "optimizer", "trajectory"} & set(RIDGE_RUNGS)

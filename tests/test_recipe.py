from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import ValidationError

from transfer_parity.shared.contract import keys, recipe_files
from transfer_parity.shared.contract.options import Option, Options
from transfer_parity.shared.contract.recipe import OPTIONS, Recipe
from transfer_parity.shared.contract.recipe_files import RECIPES
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.runtime.built_network import trained_names


def test_defaults_are_the_default_run() -> None:
    recipe = recipe_files.read(None, {})
    assert (recipe.data, recipe.backbone, recipe.weights) == ("flowers", "MobileNetV2", "torchvision")
    assert (recipe.strategy, recipe.shots, recipe.seeds, recipe.size, recipe.resize_to) == (
        "linear_probe",
        (5,),
        5,
        224,
        256,
    )


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(ValidationError):
        Recipe().epochs = 3  # type: ignore[misc]


#: Recipes of several strategies are none of one run; see test_study.py and test_attribution.py.
PLAIN = sorted(path for path in RECIPES.glob("*.toml") if path.stem not in ("study", "attribute"))


@pytest.mark.parametrize("path", PLAIN, ids=lambda path: path.stem)
def test_every_shipped_recipe_is_valid_and_survives_being_written(path: Path, tmp_path: Path) -> None:
    recipe = recipe_files.read(path.stem, {})
    assert recipe.name == path.stem
    written = tmp_path / "again.toml"
    written.write_text(recipe.as_toml(), encoding="utf-8")
    assert recipe_files.read(str(written), {}) == recipe


def test_the_command_line_overrides_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('epochs = 7\nshots = [1, "all", 5]\n', encoding="utf-8")
    recipe = recipe_files.read(str(file), {"epochs": "9", "seeds": None})
    assert (recipe.epochs, recipe.seeds, recipe.shots) == (9, 5, (1, 5, "all"))


def test_every_field_is_an_option() -> None:
    grouped = [key for keys in OPTIONS.grouped().values() for key in keys]
    assert sorted(grouped) == sorted(OPTIONS.of("compare")) == sorted(recipe_files.field_names())
    assert all(OPTIONS.grouped().values())


def test_commands_offer_what_fields_say() -> None:
    assert OPTIONS.grouped()["speed"] == ["runtime", "engine", "repeats", "cache"]
    assert OPTIONS.grouped()["comparison"][0] == "name"
    assert OPTIONS.of("study")[-2:] == ["threads", "name"]
    assert OPTIONS.of("attribute")[9:14] == ["optimizer", "learning_rate", "schedule", "weight_decay", "flip"]
    assert OPTIONS.of("rank") == [
        *("data", "shots", "first_seed", "test_fraction", "skip_unreadable", "image_size", "device", "threads")
    ]


def test_a_study_knows_what_fields_say() -> None:
    assert not OPTIONS.common & OPTIONS.fixed.keys()
    fixed = {"control": False, "runtime": "tuned", "repeats": 1, "engine": "plain", "cache": True, "check": False}
    assert OPTIONS.fixed == fixed
    # What is fixed is valid, and it goes together.
    assert Recipe(**OPTIONS.fixed).engine == "plain"
    assert OPTIONS.common - keys.RUNS.reasons.keys() == {
        *("shots", "test_fraction", "backbone", "weights", "device", "threads")
    }


def test_a_field_without_an_option_is_not_overlooked() -> None:
    class Wider(Recipe):
        rotations: int = 0

    with pytest.raises(TypeError, match="field rotations needs one Option in its annotation, and has 0"):
        Options(Wider.model_fields)


def test_an_option_behind_one_that_is_not_there() -> None:
    class Wider(Recipe):
        rotations: Annotated[int, Option("training", frozenset({"study"}), behind={"study": "control"})] = 0

    with pytest.raises(TypeError, match="study: rotations would stand behind what is no option"):
        Options(Wider.model_fields)


@pytest.mark.parametrize("spelling", ["mobilenet_v2", "MobileNetV2", "mobilenetv2", "MOBILENET-V2"])
def test_backbones_are_found_in_both_spellings(spelling: str) -> None:
    assert Recipe(backbone=spelling).backbone == "MobileNetV2"


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"epoch": 3}, ("'epoch'", "did you mean 'epochs'")),
        ({"optimizer": "adamm"}, ("optimizer", "'adamm'", "did you mean 'adam'")),
        ({"backbone": "ResNet5"}, ("'ResNet5'", "did you mean 'ResNet50'")),
        ({"epochs": 0}, ("epochs = 0", "greater than or equal to 1")),
        ({"epochs": "many"}, ("epochs = 'many'", "give a whole number")),
        ({"shots": [0]}, ("shots", "at least 1")),
        ({"shots": ["some"]}, ("shots = 'some'", "give a whole number or all")),
        ({"frameworks": ["jax"]}, ("frameworks", "jax")),
        ({"strategy": "finetune", "finetune_stages": 9}, ("finetune_stages 9", "5 stages")),
        ({"loss": "mse", "label_smoothing": 0.1}, ("label_smoothing", "mse")),
        ({"image_size": 96, "resize": 64}, ("resize 64", "image_size 96")),
        ({"backbone": "InceptionV3", "image_size": 64}, ("image_size 64", "75")),
        ({"weights": "random"}, ("random", "--no-control")),
        ({"weights": "torchvison"}, ("'torchvison'", "did you mean 'torchvision'")),
        ({"crop": True, "solver": "ridge"}, ("flip and crop", "use optimizer")),
        ({"learning_rate": float("inf")}, ("learning_rate", "finite")),
    ],
)
def test_a_wrong_key_or_value_gets_one_sentence(values: dict[str, Any], parts: tuple[str, ...]) -> None:
    with pytest.raises(BadInput) as caught:
        recipe_files.validated(values, "mine.toml")
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_file_that_is_not_toml(tmp_path: Path) -> None:
    file = tmp_path / "broken.toml"
    file.write_text("epochs = = 3", encoding="utf-8")
    with pytest.raises(BadInput, match=r"broken\.toml is not a readable TOML recipe"):
        recipe_files.read(str(file), {})


def test_a_wrong_option_is_not_blamed_on_the_file() -> None:
    with pytest.raises(BadInput, match=r"^the command line: epochs"):
        recipe_files.read("flowers", {"epochs": "many"})


def test_a_recipe_may_have_any_file_name(tmp_path: Path) -> None:
    (tmp_path / "my recipe!.toml").write_text("epochs = 2\n", encoding="utf-8")
    assert recipe_files.read(str(tmp_path / "my recipe!.toml"), {}).name == "my-recipe-"


def test_a_missing_file_suggests_a_recipe() -> None:
    with pytest.raises(BadInput, match="did you mean 'flowers'"):
        recipe_files.read("flower", {})


@pytest.mark.parametrize(
    ("values", "first"),
    [
        ({"strategy": "finetune", "finetune_stages": 1}, 14),
        ({"strategy": "finetune", "finetune_stages": 2}, 7),
        ({"strategy": "finetune", "finetune_stages": "all", "freeze_batch_norm": False}, 0),
        ({"strategy": "scratch"}, 0),
        ({"strategy": "linear_probe"}, 19),
    ],
)
def test_what_trains_is_the_head_and_the_last_stages(values: dict[str, Any], first: int) -> None:
    """MobileNetV2's stages begin at features 0, 2, 4, 7 and 14; there are 19 of them."""
    backbone = [
        f"features.{number}.{name}"
        for number in range(19)
        for name in ("0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var")
    ]
    recipe = recipe_files.validated({"backbone": "MobileNetV2", "control": False, **values}, "here")
    expected = {name for name in backbone if int(name.split(".")[1]) >= first}
    if not recipe.batch_norm_trains:
        expected = {name for name in expected if ".1." not in name}
    head = {"head.output.weight", "head.output.bias"}
    assert trained_names(recipe, dict.fromkeys(backbone, (1,)), head) == expected | head

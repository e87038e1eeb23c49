"""Image features and text features as files: what is taken, what is refused in one sentence, and where they go."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import CLASSES, SMALL, Command, write_images
from tests.fakes import FakeWorkers
from tests.test_bad_input import assert_refused
from transfer_parity.shared.contract import artifacts, recipe_files, study_recipe
from transfer_parity.shared.contract.jobs import Execution
from transfer_parity.shared.core import machine
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.data import image_features
from transfer_parity.shared.data.folders import Dataset, from_folder
from transfer_parity.shared.experiments.comparison import run_specs
from transfer_parity.shared.runtime import prepare
from transfer_parity.shared.runtime.prepare import RunInputs

ROWS = np.random.default_rng(0).normal(size=(24, 5)).astype(np.float32)


@pytest.fixture
def data(photos: Path) -> Dataset:
    return from_folder(photos)


def names(data: Dataset) -> list[str]:
    return [name for name, _ in data.pictures.decoders()]


def load(path: Path, data: Dataset, dtype: Any = np.float32) -> Any:
    return image_features.load(str(path), data, dtype)


def test_rows_find_their_images(data: Dataset, tmp_path: Path) -> None:
    """In whatever order, among others, and however somebody writes paths."""
    order = np.random.default_rng(1).permutation(24)
    files = [f"./{names(data)[each]}".replace("/", "\\" if each % 2 else "/") for each in order]
    np.savez(tmp_path / "a.npz", features=np.vstack([ROWS[order], ROWS[:1]]), files=[*files, "another/one.png"])
    np.testing.assert_array_equal(load(tmp_path / "a.npz", data), ROWS)
    np.savez_compressed(tmp_path / "b.npz", features=ROWS[order], files=files)
    np.testing.assert_array_equal(load(tmp_path / "b.npz", data), ROWS)


def test_rows_without_names_are_in_the_order_of_the_data_set(data: Dataset, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS.astype(np.float16))
    found = load(tmp_path / "a.npy", data, np.float64)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, ROWS.astype(np.float16))


def test_files_that_could_not_be_read_have_no_row(data: Dataset, tmp_path: Path) -> None:
    """With names they are passed over; without, nobody knows which rows are theirs."""
    left = replace(data.only(np.arange(24) != 3), skipped=(names(data)[3],))
    np.savez(tmp_path / "a.npz", features=ROWS, files=names(data))
    np.testing.assert_array_equal(load(tmp_path / "a.npz", left), np.delete(ROWS, 3, axis=0))
    np.save(tmp_path / "a.npy", ROWS)
    with pytest.raises(BadInput, match="which of its rows belong to the 1 unreadable files that are left out; give an"):
        load(tmp_path / "a.npy", left)


Save = Callable[[Path, list[str]], object]


def npy(array: Any) -> Save:
    return lambda path, files: path.write_bytes(b"") if array is None else _save(path, array)


def _save(path: Path, array: Any) -> None:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=True)


def npz(**changed: Callable[[Any], Any]) -> Save:
    """Arrays, some of which were changed, or left out where that gives None."""

    def save(path: Path, files: list[str]) -> None:
        arrays = {"features": ROWS, "files": np.array(files)}
        arrays = {name: changed.get(name, lambda array: array)(array) for name, array in arrays.items()}
        with path.open("wb") as file:
            np.savez(file, allow_pickle=True, **{name: array for name, array in arrays.items() if array is not None})

    return save


def damaged(change: Callable[[bytes], bytes]) -> Save:
    def save(path: Path, files: list[str]) -> None:
        npz()(path, files)
        path.write_bytes(change(path.read_bytes()))

    return save


@pytest.mark.parametrize(
    ("save", "sentence"),
    [
        (npy(ROWS[:-1]), "has 23 rows, and .* has 24 images; give one row for each, or give an .npz with the images'"),
        (npy(ROWS[None]), "is 1 x 24 x 5; give one row of numbers for each image"),
        (npy(ROWS[:, :0]), "is 24 x 0; give one row of numbers"),
        (npy(np.float32(1)), "is a single number; give one row"),
        (npy(ROWS.astype(int)), "does not hold floating-point numbers; save one array of float32"),
        (npy(np.array([{}] * 24)), "is not an array of numbers as numpy.save writes it; pickled objects are not read"),
        (npy(None), "is not an array of numbers"),
        (lambda path, files: path.write_bytes(pickle.dumps(ROWS)), "writes it; pickled objects are not read"),
        (npy(np.where(np.arange(24)[:, None] == 9, np.nan, ROWS)), r"not finite for square/01.png; compute them again"),
        (npy(1e300 * ROWS.astype(np.float64)), "not finite for circle/00.png"),
        (npz(files=lambda files: None), "has no array files; write it with numpy.savez"),
        (npz(features=lambda rows: None), "has no array features; write it with numpy.savez"),
        (npz(features=lambda rows: rows[1:]), "does not have a text in files for each row of features"),
        (npz(files=lambda files: np.arange(24)), "does not have a text in files for each row of features"),
        (npz(files=lambda files: np.array([Path(each) for each in files])), "'files' holds Python objects.*str.path"),
        (npz(files=lambda files: np.roll(files, 1)[[0] * 24]), "names 'triangle/07.png' more than once"),
        (npz(files=lambda files: [f"photos/{each}" for each in files]), "no row for circle/00.png and 23 more; give"),
        (damaged(lambda content: content[:-30]), "is not an array of numbers.*File is not a zip file"),
        (damaged(lambda content: content[:300] + b"?" + content[301:]), "is not an array of numbers.*Bad CRC"),
        (damaged(lambda content: content.replace(b"(24, 5)", b"(99, 5)")), "is not an array of numbers"),
    ],
)
def test_bad_image_features(save: Save, sentence: str, data: Dataset, tmp_path: Path) -> None:
    save(tmp_path / "given", names(data))
    with pytest.raises(BadInput, match=sentence) as caught:
        load(tmp_path / "given", data)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_what_unpacks_to_more_than_there_is_room_for(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npz()(tmp_path / "given.npz", names(data))
    monkeypatch.setattr(machine, "available_memory", lambda: 500)
    with pytest.raises(BadInput, match="unpacks to 0 GiB, and 0 are free; save float32, or fewer rows"):
        load(tmp_path / "given.npz", data)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"strategy": "finetune"}, "strategy finetune trains a backbone, and image_features has what came out of one"),
        ({"strategy": "siamese", "finetune_stages": 1}, "strategy siamese trains a backbone"),
        ({"strategy": "scratch"}, "strategy scratch trains a backbone"),
        ({"strategy": "fixmatch"}, "strategy fixmatch takes views of images, which image_features has not"),
        ({"crop": True}, "flip and crop need images in every step, which image_features has not"),
        ({"head": "conv"}, "head conv works on feature maps, and image_features has vectors; give head linear or mlp"),
        ({"control": True}, "the control runs on an untrained backbone, and .* add --no-control"),
    ],
)
def test_what_needs_images(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        recipe_files.validated({"image_features": "clip.npz", **values}, "here")


def test_there_is_no_control_beside_given_features() -> None:
    assert not recipe_files.validated({"image_features": "clip.npz"}, "here").control
    assert recipe_files.validated({}, "here").control


@pytest.fixture
def files(data: Dataset, tmp_path: Path) -> dict[str, Path]:
    """Vectors of the images, and of the classes."""
    npz()(tmp_path / "clip.npz", names(data))
    np.save(tmp_path / "text.npy", np.eye(3, 5))
    return {"--image-features": tmp_path / "clip.npz", "--text-features": tmp_path / "text.npy"}


def options(files: dict[str, Path]) -> list[object]:
    return [part for pair in files.items() for part in pair]


def test_jobs_have_the_vectors(data: Dataset, files: dict[str, Path], tmp_path: Path) -> None:
    """In the type of the arithmetic, and text of their length."""
    values = {"strategy": "zero_shot", "precision": "float64", "data": data.name}
    values |= {option[2:].replace("-", "_"): str(path) for option, path in files.items()}
    recipe = recipe_files.validated(values, "here")
    (tmp_path / "images.json").write_text('{"digest": ""}', encoding="utf-8")
    inputs = RunInputs(recipe, data, tmp_path / "images.npy", None, {})
    assert inputs.pretrained and not any(run.save_model for run in run_specs(recipe, inputs.pretrained))
    written = prepare.features_job(tmp_path, inputs, [], Execution.of(recipe, 1), None).data
    assert written.features is not None and written.text is not None
    found = np.load(written.features)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, ROWS)
    np.testing.assert_array_equal(np.load(written.text), np.eye(3, 5))


def test_a_comparison_says_what_it_stands_on(
    inside: Command, photos: Path, files: dict[str, Path], workers: FakeWorkers
) -> None:
    """No weights are looked for, no model is kept; and what is refused afterwards leaves the results as they are."""
    small = ("--data", photos, "--image-size", 32, "--shots", 3, "--seeds", 1, "--no-check")
    outcome = inside("--strategy", "zero_shot", *options(files), *small)
    assert outcome.status in (0, 1), outcome.errors
    assert f"image features {files['--image-features']}" in outcome.output.replace("\n", "")
    assert " px" not in outcome.output and "Accuracy, 3 shots" in outcome.output
    runs, before = outcome.document["runs"], (outcome.folder / artifacts.COMPARISON).read_bytes()
    assert len(runs) == 2 and all(run["pretrained"] for run in runs)
    assert not (outcome.folder / artifacts.MODELS).exists()
    np.save(files["--text-features"], np.eye(3, 4))
    assert_refused(inside("--strategy", "zero_shot", *options(files), *small), "has 4 numbers for a class", "have 5")
    files["--image-features"].write_bytes(b"")
    assert_refused(inside("--strategy", "zero_shot", *options(files), *small), "is not an array of numbers")
    assert (outcome.folder / artifacts.COMPARISON).read_bytes() == before


def test_a_study_of_given_features(inside: Command, photos: Path, files: dict[str, Path], workers: FakeWorkers) -> None:
    strategies = ("linear_probe", "nearest_mean", "zero_shot", "tip_adapter")
    given = ("study", "--data", photos, *options(files), "--shots", 3, "--seeds", 2, "--image-size", 32)
    outcome = inside(*given, "--strategies", *strategies)
    assert outcome.status in (0, 1), outcome.errors
    document = json.loads((outcome.folder / artifacts.STUDY).read_text(encoding="utf-8"))
    assert list(document["recipes"]) == list(strategies)
    # Nothing of an image, and nothing that makes a strategy what it is.
    assert set(document["conditions"]["alike"]) == {"batch_size", "epochs", "precision"}
    assert not document["conditions"]["differing"] and not document["explanations"]
    assert "Image features" in (outcome.folder / artifacts.STUDY_PAGE).read_text(encoding="utf-8")
    kept = study_recipe.read(str(outcome.folder / artifacts.RECIPE), {})
    assert {name: recipe.model_dump(mode="json") for name, recipe in kept.items()} == document["recipes"]
    assert_refused(inside(*given), "strategy scratch trains a backbone")
    assert_refused(inside(*given, "--strategies", "ridge", "--mode", "both"), "--mode both puts images through")


@pytest.mark.parametrize("command", ["fit", "parity", "attribute"])
def test_commands_that_need_images(command: str, inside: Command, photos: Path, files: dict[str, Path]) -> None:
    recipe = files["--image-features"].parent / "recipe.toml"
    recipe.write_text(f'image_features = "{files["--image-features"]}"\ndata = "{photos}"\n', encoding="utf-8")
    if command == "attribute":
        recipe.write_text(recipe.read_text() + '[strategies.ridge]\nsolver = "ridge"\n', encoding="utf-8")
    assert_refused(inside(command, recipe), "puts images through a backbone, and image_features")


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.eye(2, 576), "is 2 x 576, and there are 3 classes"),
        (np.eye(3, 7), "has 7 numbers for a class, and image features have 576"),
        (np.ones((3, 576), int), "does not hold floating-point numbers"),
        (np.array([[{}] * 576] * 3), "pickled objects are not read"),
        (b"\x93NUMPY", "is not an array of numbers"),
    ],
)
def test_bad_text_features_end_a_command(array: Any, sentence: str, inside: Command, photos: Path) -> None:
    path = photos.parent / "bad.npy"
    path.write_bytes(array) if isinstance(array, bytes) else _save(path, array)
    given = ("--data", photos, "--backbone", "MobileNetV3Small", *SMALL, "--strategy", "tip_adapter")
    assert_refused(inside(*given, "--text-features", path), sentence)


@pytest.mark.parametrize(
    ("folder", "sentence"),
    [
        ("empty", "holds no image that can be opened"),
        ("nowhere", "there is no such folder"),
        ("copies", "test images are among the unlabelled ones, and would be learnt from: circle/"),
    ],
)
def test_bad_folders_of_unlabelled_images(
    folder: str, sentence: str, inside: Command, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    write_images(tmp_path / "copies", dict.fromkeys(CLASSES, 8))
    given = ("--data", photos, *SMALL, "--strategy", "fixmatch", "--unlabeled", tmp_path / folder)
    assert_refused(inside(*given), sentence)


def test_more_shots_than_images(inside: Command, photos: Path) -> None:
    given = ("--data", photos, *SMALL, "--shots", 30)
    assert_refused(inside(*given), "class 'circle' has 8 images, but 30 shots need 30, and 1 more to test on")

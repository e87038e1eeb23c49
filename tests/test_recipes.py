"""Every recipe of the folder is carried out, and heads on features that another encoder made of the images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import runs
from tests.conftest import CLASSES, write_images
from transfer_parity.shared.contract import artifacts, recipe_files
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.data import folders

#: Strategies that tests/test_closed_forms.py and tests/test_tasks.py carry out.
CLOSED = ("nearest_mean", "prototypes", "zero_shot", "tip_adapter", "multi_task")
WINGS = ("tf_impl", "torch_impl")
LENGTH = 20
#: So small that all of them take seconds.
TINY: dict[str, Any] = {
    **{"backbone": "MobileNetV3Small", "weights": "random", "control": False, "image_size": 32, "seeds": 1},
    **{"epochs": 2, "batch_size": 6, "precision": "float64"},
}
#: What a recipe is called, and where its images come from and how often.
OF_PLACE = {"name", "data", "text_features", "test_fraction"}
#: On given features, by name.
HEADS: dict[str, dict[str, Any]] = {
    "linear_probe": {"learning_rate": 0.03},
    "mlp": {"head": "mlp", "head_units": 8, "learning_rate": 0.03},
    "ridge": {"solver": "ridge"},
    "nearest_mean": {"strategy": "nearest_mean"},
    "prototypes": {"strategy": "prototypes"},
    "zero_shot": {"strategy": "zero_shot"},
    "tip_adapter": {"strategy": "tip_adapter", "head_units": 12},
    "siamese": {"strategy": "siamese", "learning_rate": 0.03},
}


def named() -> dict[str, dict[str, Any]]:
    """What each file says, and of a study each strategy's part of it, by name; what comes to the same once."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(recipe_files.RECIPES.glob("*.toml")):
        values, _ = recipe_files.load(str(path))
        tables = values.pop("strategies", {"": {}})
        for name, table in tables.items():
            own = {**values, **table, **TINY}
            own["shots"] = ("all",) if "all" in str(own.get("shots")) else (3,)
            own = {key: value for key, value in own.items() if key not in OF_PLACE}
            if own not in found.values():
                found[f"{path.stem} {name}".strip()] = own
    return found


RECIPES = named()


def data(folder: Path) -> dict[str, str]:
    """Keys of a recipe for pictures, and for vectors of them and of their classes; in the order of nobody."""
    photos = write_images(folder / "photos", dict.fromkeys(CLASSES, 8))
    random = np.random.default_rng(0)
    text, found = random.normal(size=(3, LENGTH)), folders.from_folder(photos)
    vectors = 2 * text[found.labels] + random.normal(size=(len(found), LENGTH))
    names = [name for name, _ in found.pictures.decoders()]
    order = random.permutation(len(found))
    np.savez(folder / "images.npz", features=vectors[order], files=[names[each] for each in order])
    np.save(folder / "text.npy", text)
    np.save(folder / "text576.npy", random.normal(size=(3, 576)))
    return {
        "data": str(photos),
        "image_features": str(folder / "images.npz"),
        "text_features": str(folder / "text.npy"),
        "of the backbone": str(folder / "text576.npy"),
    }


def tiny(values: Mapping[str, Any], given: Mapping[str, str], precision: str) -> Recipe:
    """A recipe of the folder, made small, on other pictures."""
    own = {"data": given["data"], "text_features": given["of the backbone"], "precision": precision}
    return recipe_files.validated({**values, **own}, "the test")


def head(name: str, given: Mapping[str, str]) -> Recipe:
    """A recipe on given features."""
    files = {key: given[key] for key in ("data", "image_features", "text_features")}
    return recipe_files.validated({**TINY, "epochs": 20, "shots": 3, **files, **HEADS[name]}, "the test")


def carried_out(
    folder: Path, chosen: Mapping[str, list[str]], precision: str = "float64"
) -> dict[str, dict[str, Path]]:
    """By wing, the folders of its runs of some recipes, and of all heads."""
    given, cache = data(folder), Cache(str(folder / "cache"))
    found: dict[str, dict[str, Path]] = {}
    for wing, names in chosen.items():
        made = {name: tiny(RECIPES[name], given, precision) for name in names}
        made |= {f"given {name}": head(name, given) for name in HEADS}
        jobs = {name: folder / wing / f"{number:02d}" for number, name in enumerate(made)}
        found[wing] = {name: runs.write_job(jobs[name], recipe, cache) for name, recipe in made.items()}
        runs.carry_out(wing, folder / wing, runs.WORK.replace("float64", precision))
    return found


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    """Heads in both wings, and in one those recipes that no other test carries out: graphs of networks take seconds."""
    chosen = [name for name, values in RECIPES.items() if values.get("strategy") not in CLOSED]
    return carried_out(tmp_path_factory.mktemp("recipes"), {"torch_impl": chosen, "tf_impl": []})


def logits(run: Path) -> Any:
    return np.load(run / artifacts.LOGITS, allow_pickle=False)


@pytest.mark.parametrize("name", [name for name, values in RECIPES.items() if values.get("strategy") not in CLOSED])
def test_a_recipe_runs(name: str, done: dict[str, dict[str, Path]]) -> None:
    """It trains where it has steps, keeps its model, and predicts."""
    run = done["torch_impl"][name]
    found = logits(run)
    assert found.shape[1] == 3 and np.isfinite(found).all() and np.ptp(found, axis=0).max() > 1e-6
    losses = np.load(run / artifacts.LOSSES, allow_pickle=False)
    assert np.isfinite(losses).all()
    assert np.ptp(losses) > 0 if RECIPES[name].get("solver") != "ridge" else not len(losses)
    assert len(list(run.glob(f"{artifacts.MODEL}*"))) == 1


@pytest.mark.parametrize("name", HEADS)
def test_both_wings_do_the_same(name: str, done: dict[str, dict[str, Path]]) -> None:
    first, second = (logits(done[wing][f"given {name}"]) for wing in WINGS)
    assert first.shape == second.shape and np.abs(first).max() > 0.01
    assert np.abs(first - second).max() <= 1e-8 * max(1.0, np.abs(first).max())


@pytest.mark.parametrize("name", HEADS)
def test_heads_learn_from_given_features(name: str, done: dict[str, dict[str, Path]]) -> None:
    """No model of images comes of it. Rows that were taken for other images' would be recognised by chance."""
    run = done["torch_impl"][f"given {name}"]
    test = np.load(run.parent / "plan.npz", allow_pickle=False)["test"]
    labels = np.load(run.parent / artifacts.LABELS, allow_pickle=False)[test]
    assert (logits(run).argmax(axis=1) == labels).mean() > 0.8
    assert not list(run.glob(f"{artifacts.MODEL}*"))


@pytest.mark.slow
def test_both_wings_run_every_recipe_alike(tmp_path: Path) -> None:
    """To what rounding in float64 may do: what it does in float32, times 2^-29, the ratio of the two.

    And 16 times that, since it falls in another way in each wing; not less than 16 last places of the largest logit.
    """
    # Labels of tasks are tests/test_tasks.py's.
    names = [name for name, values in RECIPES.items() if values.get("strategy") != "multi_task"]
    found = carried_out(tmp_path / "float64", dict.fromkeys(WINGS, names))
    coarse = carried_out(tmp_path / "float32", {WINGS[1]: names}, "float32")[WINGS[1]]
    apart = {}
    for name in names:
        first, second, rounded = (logits(each[name]) for each in (*(found[wing] for wing in WINGS), coarse))
        bound = 16 * (2.0**-29 * np.abs(rounded - second).max() + 2.0**-52 * np.abs(second).max())
        if np.abs(first - second).max() > bound:
            apart[name] = (np.abs(first - second).max(), bound)
    assert not apart, apart

"""Attribution: what single defaults cost, and how far they add up; with planted effects, and for real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Command
from tests.fakes import FakeWorkers
from transfer_parity import compare
from transfer_parity.shared.contract import study_recipe
from transfer_parity.shared.contract.jobs import TrainJob
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.experiments.attribution_document import AttributionDocument
from transfer_parity.shared.runtime import resolve_weights

#: A small one without network.
OPTIONS = ("--weights", "random", "--image-size", 32, "--epochs", 2, "--seeds", 3, "--shots", 2)


def read(folder: Path) -> AttributionDocument:
    return AttributionDocument.model_validate_json((folder / "attribution.json").read_text(encoding="utf-8"))


def planted(job: TrainJob, framework: str, run: str, labels: Array) -> Array:
    """Perfect but for the first images: so many are lost to each switch, and two to two switches together."""
    lost = {"initialisation": 1, "data_order": 2, "resizing": 3, "frozen_batch_norm": 4}
    wrong = sum(lost.get(switch, 0) for switch in job.switches)
    if {"initialisation", "data_order"} <= set(job.switches):
        wrong += 2 if framework == "torch" else 0
    logits = 5.0 * np.eye(len(job.data.classes))[labels]
    logits[:wrong] = np.roll(logits[:wrong], 1, axis=1)
    return logits


@pytest.fixture
def arguments(photos: Path, tmp_path: Path) -> list[str]:
    folders = ["--output-dir", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache")]
    return ["attribute", "--strategies", "linear_probe", "--data", str(photos), *map(str, OPTIONS), *folders]


def test_planted_effects_are_found(
    arguments: list[str], tmp_path: Path, workers: FakeWorkers, capsys: pytest.CaptureFixture[str]
) -> None:
    workers.logits = planted
    assert compare.main(arguments) == 0
    (found,) = read(tmp_path / "out").strategies
    images = 3 * 6  # of eight pictures of each of three classes two are for training
    effects = {each.label: each for each in found.effects}
    expected = {
        "tensorflow:initialisation": 1,
        "tensorflow:data_order": 2,
        "tensorflow:resizing": 3,
        "tensorflow:adam_epsilon": 0,
        "torch:initialisation": 1,
        "torch:data_order": 2,
        "torch:frozen_batch_norm": 4,
    }
    for label, lost in expected.items():
        assert effects[label].native, label
        assert effects[label].accuracy.mean == pytest.approx(-lost / images), label
        assert effects[label].predictions_changed == pytest.approx(lost / images), label
    assert not effects["torch:resizing"].native
    costs = [each.accuracy.mean for each in found.effects]
    assert costs == sorted(costs, key=lambda cost: -abs(cost))
    assert found.gap is not None
    # TensorFlow loses six, PyTorch seven, and two more to two defaults together.
    assert found.gap.matched.mean == 0
    assert found.gap.explained.mean == pytest.approx(1 / images)
    assert found.gap.shipped.mean == pytest.approx(3 / images)
    assert found.gap.rest.mean == pytest.approx(2 / images)
    output = capsys.readouterr().out
    assert all(len(line) <= 80 for line in output.splitlines() if not line.startswith("Results:"))
    assert "(resizing)" in output and "In brackets: no default of that framework" in output
    for name in ("attribution.md", "attribution.png", "attribution.svg", "recipe.toml"):
        assert (tmp_path / "out" / name).stat().st_size > 300
    # Nothing is done twice.
    before = len(workers.runs)
    assert compare.main(arguments) == 0
    assert len(workers.runs) == before


def test_chosen_switches(arguments: list[str], tmp_path: Path, workers: FakeWorkers) -> None:
    workers.logits = planted
    assert compare.main([*arguments, "--switches", "torch:data_order", "tensorflow:resizing"]) == 0
    (found,) = read(tmp_path / "out").strategies
    assert [each.label for each in found.effects] == ["tensorflow:resizing", "torch:data_order"]
    # The others are part of as shipped, so these two say nothing about the whole.
    assert found.gap is None


def test_weights_that_cannot_be_had_are_left_out(
    arguments: list[str], tmp_path: Path, workers: FakeWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(recipe: Recipe, *more: object) -> Path | None:
        if recipe.weights == "keras":
            raise BadInput("keras's weights are out of reach.")
        return None

    monkeypatch.setattr(resolve_weights, "resolve", resolve)
    given = [each if each != "random" else "torchvision" for each in arguments]
    assert compare.main(given) == 0
    document = read(tmp_path / "out")
    assert document.left_out == {"tensorflow:weights": "keras's weights are out of reach."}
    assert "tensorflow:weights" not in {each.label for each in document.strategies[0].effects}
    assert "Left out: tensorflow:weights" in (tmp_path / "out" / "attribution.md").read_text(encoding="utf-8")


def test_an_interruption_mixes_nothing_up(arguments: list[str], tmp_path: Path, workers: FakeWorkers) -> None:
    """Arms may have finished other shots of the same seeds; the whole difference waits until all have."""
    given = [*arguments, "--shots", "1", "2", "--jobs", "1"]
    workers.logits, workers.lives = planted, 40
    assert compare.main(given) == 3
    document = read(tmp_path / "out")
    (found,) = document.strategies
    assert (document.finished, found.gap) == (40, None)
    assert found.effects
    assert "40 of" in (tmp_path / "out" / "attribution.md").read_text(encoding="utf-8")
    workers.lives = None
    assert compare.main(given) == 0
    (found,) = read(tmp_path / "out").strategies
    assert found.gap is not None


def test_a_study_may_go_on_in_the_same_folder(arguments: list[str], tmp_path: Path, workers: FakeWorkers) -> None:
    """A study also wants class-activation maps, which the cells of an attribution lack."""
    workers.logits = planted
    assert compare.main([*arguments, "--switches", "torch:data_order"]) == 0
    before = len(workers.runs)
    assert compare.main(["study", "attribute", *arguments[1:]]) == 0
    assert len(workers.runs) == before + 2
    assert (tmp_path / "out" / "report.html").is_file()
    assert len(list((tmp_path / "out" / "cells").glob("*/explained.npy"))) == 2


def test_the_shipped_recipe(tmp_path: Path) -> None:
    recipes = study_recipe.read("attribute", {})
    assert list(recipes) == ["linear_probe", "finetune"]
    written = tmp_path / "again.toml"
    written.write_text(study_recipe.as_toml(recipes), encoding="utf-8")
    assert study_recipe.read(str(written), {}) == recipes


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            ["--switches", "torch:dataorder"],
            "there is no such default; did you mean 'torch:data_order'?",
        ),
        (["--switches", "torch:weight_decay"], "no such default makes a difference here"),
        (["--strategies", "linear"], "there is no such strategy; did you mean 'linear_probe'?"),
        (["--jobs", "0"], "--jobs 0 is too small"),
        (["--learning-rate", "-1"], "learning_rate"),
    ],
)
def test_bad_arguments(
    more: list[str], sentence: str, arguments: list[str], workers: FakeWorkers, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare.main([*arguments, *more]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())


def test_the_command(command: Command, photos: Path) -> None:
    """Both frameworks for real: what is switched on happens, and nothing else."""
    chosen = ("tensorflow:resizing", "tensorflow:data_order", "torch:initialisation", "torch:frozen_batch_norm")
    # Small batches: with a single one its order is no more than an order of summation.
    given = (
        "--data",
        photos,
        *OPTIONS,
        "--seeds",
        1,
        "--batch-size",
        3,
        "--precision",
        "float64",
        "--switches",
        *chosen,
    )
    outcome = command("attribute", "--strategies", "linear_probe", "--no-tune", "--no-pairs", *given)
    assert outcome.status == 0, outcome.errors
    document = read(outcome.folder)
    assert document.finished == document.cells == 8
    assert {each.label for each in document.strategies[0].effects} == set(chosen)
    cells = outcome.folder / "cells"

    def change(name: str, other: str) -> float:
        (ours,), (theirs,) = (
            [np.load(path) for path in cells.glob(f"{each}-shots2-seed0*/logits.npy")] for each in (name, other)
        )
        return float(np.abs(ours - theirs).max())

    # float64: matched is the same to a dozen digits, so that what is switched on stands out whatever its size.
    assert change("tensorflow-linear_probe", "torch-linear_probe") < 1e-10
    for label in chosen:
        framework, name = label.split(":")
        assert change(f"{framework}-linear_probe", f"{framework}-linear_probe+{name}") > 1e-4, label


def test_a_batch_of_one_that_is_normalised_after_all(command: Command, photos: Path) -> None:
    """Nine images in batches of eight, and a last feature map of one pixel: there is nothing to take a variance of."""
    given = ("--data", photos, *OPTIONS, "--shots", 3, "--seeds", 1, "--batch-size", 8, "--image-size", 32)
    chosen = ("--strategies", "linear_probe", "--switches", "torch:frozen_batch_norm")
    outcome = command("attribute", *given, *chosen)
    assert outcome.status == 2
    assert "the last of 9 training images would be a batch of its own" in " ".join(outcome.errors.split())

"""A whole run through the front door, and what it leaves behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import CLASSES, ROOT, SMALL, Command, Outcome, run_compare
from tests.processes import last_line
from transfer_parity.shared.contract import splits
from transfer_parity.shared.contract.recipe import Framework, Recipe
from transfer_parity.shared.contract.wings import KERAS, TORCHVISION
from transfer_parity.shared.evaluation import metrics
from transfer_parity.shared.evaluation.agreement import Agreement, judge
from transfer_parity.shared.experiments.comparison_document import Comparison, schema

RUN_KEYS = {
    *("framework", "strategy", "pretrained", "shots", "seed", "accuracy", "macro_f1", "macro_recall", "log_loss"),
    *("macro_precision", "recalls", "calibration_error"),
    *("confusion_matrix", "phases", "peak_memory_bytes"),
}


@pytest.fixture(scope="module")
def outcome(photos: Path, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Both frameworks on random weights, two seeds."""
    arguments = ("--data", photos, *SMALL, "--seeds", 2, "--cache-dir", cache_dir)
    return run_compare(tmp_path_factory.mktemp("outcome"), *arguments)


def test_the_run_succeeds_within_eighty_columns(outcome: Outcome) -> None:
    assert outcome.status == 0, outcome.errors
    assert all(len(line) <= 80 for line in outcome.output.splitlines() if not line.startswith("Results:"))
    for part in (
        "Accuracy, 3 shots",
        "macro F1",
        "log loss",
        "Seconds, start",
        "Images/s",
        "Peak memory",
        "Identical:",
    ):
        assert part in outcome.output
    assert "Traceback" not in outcome.errors


def test_the_document_follows_its_schema(outcome: Outcome) -> None:
    document = outcome.document
    read = Comparison.model_validate(document)
    assert json.loads(read.model_dump_json()) == document
    assert document["schema_version"] == 3
    assert document["verdict"] == "identical"
    assert not {"versions", "threads", "cpu", "allocator"} - document["environment"].keys()
    for package in ("tensorflow", "keras", "torch", "torchvision", "numpy"):
        assert document["environment"]["versions"][package]
    assert len(document["runs"]) == 4
    for run in document["runs"]:
        assert run.keys() >= RUN_KEYS
        assert set(run["phases"]) == {"start", "build", "weights", "features", "training", "inference"}
        assert run["peak_memory_bytes"] > 100 * 2**20
        assert not run["pretrained"]
    agreement = document["agreement"]
    assert agreement["predictions_compared"] == agreement["predictions_identical"] == 2 * 5 * len(CLASSES)
    assert agreement["initial_weights_identical"]


def test_metrics_come_from_the_kept_logits(outcome: Outcome) -> None:
    document = outcome.document
    labels = np.repeat(np.arange(3), 8)
    recipe = Recipe.model_validate(document["recipe"])
    for run in document["runs"]:
        logits = np.load(outcome.folder / run["logits"], allow_pickle=False)
        test = splits.split(recipe, labels, None, list(CLASSES), run["seed"], 3)[1]
        assert run["accuracy"] == metrics.evaluate(logits, labels[test]).accuracy
        assert np.array(run["confusion_matrix"]).sum() == len(test)


def test_the_recipe_as_run_can_be_run_again(outcome: Outcome) -> None:
    from transfer_parity.shared.contract import recipe_files

    again = recipe_files.read(str(outcome.folder / "recipe.toml"), {})
    assert again.model_dump(mode="json") == outcome.document["recipe"]


@pytest.mark.parametrize(("wing", "model"), [("tf_impl", "tensorflow.keras"), ("torch_impl", "torch.safetensors")])
def test_a_kept_model_predicts_what_the_run_predicted(outcome: Outcome, photos: Path, wing: str, model: str) -> None:
    # As in docs/comparison.md: build the model again, read one picture, print the name and all logits.
    program = (
        "import json, pathlib\n"
        "from transfer_parity.shared.data import images\n"
        f"from transfer_parity.{wing} import inference, weights\n"
        f"network, classes = weights.restore(pathlib.Path({str(outcome.folder / 'models' / model)!r}))\n"
        "resize, size = network.spec.resize, network.spec.image_size\n"
        f"paths = sorted(pathlib.Path({str(photos)!r}).rglob('*.png'))\n"
        "pictures = [images.read(path, resize, size) for path in paths]\n"
        "import numpy\n"
        "logits = next(iter(inference.infer(network, 'all', [numpy.stack(pictures)])))\n"
        "print(json.dumps([classes, logits.tolist()]))\n"
    )
    classes, logits = json.loads(last_line(program))
    assert tuple(classes) == CLASSES
    run = next(run for run in outcome.document["runs"] if run["seed"] == 0 and run["framework"] in model)
    recipe = Recipe.model_validate(outcome.document["recipe"])
    test = splits.split(recipe, np.repeat(np.arange(3), 8), None, list(CLASSES), 0, 3)[1]
    kept = np.load(outcome.folder / run["logits"], allow_pickle=False)
    # float32 and another batch size: rounding differs in the last digits.
    np.testing.assert_allclose(np.array(logits)[test], kept, rtol=1e-4, atol=1e-4 * np.abs(kept).max())


def test_the_keras_file_loads_without_this_project(outcome: Outcome, tmp_path: Path) -> None:
    path = str(outcome.folder / "models" / "tensorflow.keras")
    program = f"import keras, sys; keras.models.load_model({path!r}); assert 'tf_impl' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=True)


def test_the_schema_in_the_documentation_is_up_to_date() -> None:
    assert (ROOT / "docs" / "comparison.schema.json").read_text(encoding="utf-8") == schema(), "run make schema"


def agreeing(compared: int, identical: int) -> Agreement:
    return Agreement(
        predictions_compared=compared,
        predictions_identical=identical,
        max_abs_logit_difference=0.1,
        max_abs_loss_difference=0.1,
        initial_weights_identical=True,
        accuracy_difference=0.0,
        accuracy_difference_interval=None,
        seeds_to_settle=12,
    )


@pytest.mark.parametrize(
    ("identical", "differences", "verdict"),
    [
        (100, [0.0, 0.0], "identical"),
        (99, [0.001, -0.001, 0.0, 0.001, 0.0], "equivalent"),
        (90, [0.05, 0.06, 0.055, 0.05, 0.06], "different"),
        (90, [0.05, -0.06, 0.03, -0.02, 0.01], "inconclusive"),
        (0, [], "not compared"),
    ],
)
def test_verdicts(identical: int, differences: list[float], verdict: str) -> None:
    compared = 100 if differences else 0
    found, sentence = judge(agreeing(compared, identical), np.array(differences), 0.01, (KERAS, TORCHVISION))
    assert found == verdict
    assert sentence.lower().startswith(verdict)
    assert ("About 12 seeds would settle it" in sentence) == (verdict == "inconclusive")


def test_runs_that_diverged_are_not_identical(command: Command, photos: Path) -> None:
    options = ("--optimizer", "sgd", "--learning-rate", 1e30, "--loss", "mse", "--epochs", 10)
    outcome = command("--data", photos, *SMALL, *options)
    assert outcome.status == 1, outcome.errors
    assert outcome.document["verdict"] == "inconclusive"
    assert outcome.document["agreement"]["max_abs_logit_difference"] is None
    assert {run["log_loss"] for run in outcome.document["runs"]} == {None}


def test_one_framework_alone_is_not_compared(command: Command, photos: Path) -> None:
    outcome = command("--data", photos, *SMALL, "--frameworks", "torch")
    assert outcome.status == 0, outcome.errors
    assert outcome.document["verdict"] == "not compared"


def test_help_names_every_field(command: Command) -> None:
    outcome = command("--help")
    assert outcome.status == 0
    for key in Recipe.model_fields:
        assert "--" + key.replace("_", "-") in outcome.output


FRAMEWORKS: tuple[Framework, ...] = ("tensorflow", "torch")


@pytest.mark.network
def test_the_default_run(command: Command, tmp_path: Path) -> None:
    """Real photographs, real weights: the figures that the README states."""
    outcome = command("--cache-dir", tmp_path / "cache")
    assert outcome.status == 0, outcome.errors
    document: dict[str, Any] = outcome.document
    agreement = document["agreement"]
    assert (agreement["predictions_compared"], agreement["predictions_identical"]) == (800, 800)
    assert agreement["max_abs_logit_difference"] < 1e-2
    for framework in FRAMEWORKS:
        runs = [run for run in document["runs"] if run["framework"] == framework]
        means = [
            np.mean([run["accuracy"] for run in runs if run["pretrained"] == with_it]) for with_it in (True, False)
        ]
        assert 0.75 < means[0] < 0.90
        assert means[0] - means[1] > 0.40


@pytest.mark.network
def test_resnet50_with_keras_weights(command: Command, tmp_path: Path) -> None:
    outcome = command("resnet50-keras", "--cache-dir", tmp_path / "cache")
    assert outcome.status == 0, outcome.errors
    assert outcome.document["verdict"] == "identical"
    assert outcome.document["checkpoint"]["batch_norm_epsilon"] == 0.001

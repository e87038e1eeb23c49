"""Both wings through their workers: the same plan gives the same losses, logits and predictions.

Tolerances. In float64 a rounding error is 1e-16 of a value; a forward pass through a hundred layers and a backward pass
leave about 1e-14 of the loss, and each of 20 steps of training may amplify what the one before left by a small factor.
1e-8 is the project's bound for loss curves; a wrong epsilon, padding, decay or momentum shows at 1e-4 and above.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import CLASSES, Command, write_images

#: 20 steps: 10 images in batches of 5, 10 epochs. One thread: with more, many tiny parallel sections wait for one
#: another, which takes minutes if anything else runs on the machine.
TWENTY_STEPS = ("--threads", 1, "--shots", 5, "--seeds", 1, "--batch-size", 5, "--epochs", 10, "--no-control")
SGD = ("--optimizer", "sgd", "--learning-rate", 0.01, "--momentum", 0.9, "--schedule", "cosine", "--warmup-epochs", 1)
ADAM = ("--optimizer", "adam", "--learning-rate", 0.001)
ADAMW = ("--optimizer", "adamw", "--learning-rate", 0.001, "--weight-decay", 0.1)
SCRATCH = ("--strategy", "scratch")
FINETUNE = ("--strategy", "finetune", "--finetune-stages", 1, "--weights", "random")


@pytest.fixture(scope="module")
def two_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("two"), {"a": 7, "b": 7}, side=96)


CASES = {
    "scratch-sgd-cosine": (*SCRATCH, *SGD, "--weight-decay", 0.01),
    "scratch-adam-mse-flips-crops": (*SCRATCH, *ADAM, "--loss", "mse", "--flip", "--crop"),
    "scratch-adamw-smoothing": (*SCRATCH, *ADAMW, "--label-smoothing", 0.1),
    "finetune-sgd-mlp": (*FINETUNE, *SGD, "--head", "mlp", "--head-units", 16),
    "finetune-adam-conv-decay": (*FINETUNE, *ADAM, "--head", "conv", "--head-units", 8, "--weight-decay", 0.01),
    "finetune-adamw-batch-norm-trains": (*FINETUNE, *ADAMW, "--no-freeze-batch-norm"),
    # Features under random weights are large; a larger rate diverges.
    "probe-mse-mlp": ("--weights", "random", *SGD, "--learning-rate", 1e-5, "--head", "mlp", "--loss", "mse"),
    "ResNet50-finetune-adam": ("--backbone", "ResNet50", *FINETUNE, *ADAM),
}
#: Those that run at once; the ladder has the optimizers one by one.
FAST = {"finetune-sgd-mlp"}
SLOW_CASES = {
    f"{backbone}-{strategy[1]}-{optimizer[1]}": ("--backbone", backbone, *strategy, *optimizer)
    for backbone in ("MobileNetV2", "ResNet50", "InceptionV3", "VGG16")
    for strategy in (SCRATCH, FINETUNE)
    for optimizer in (SGD, ADAM, ADAMW)
    # Without normalisation VGG16 does not learn from random weights at this rate; its loss curve is chaotic.
    if not (backbone == "VGG16" and strategy is SCRATCH)
}


def check(command: Command, data: Path, size: int, options: tuple[object, ...]) -> None:
    outcome = command("--data", data, "--precision", "float64", "--image-size", size, *TWENTY_STEPS, *options)
    assert outcome.status == 0, outcome.errors
    document = outcome.document
    agreement = document["agreement"]
    assert agreement["initial_weights_identical"]
    curves = {run["framework"]: np.array(run["losses"]) for run in document["runs"]}
    assert len(curves["tensorflow"]) == 20
    np.testing.assert_allclose(curves["tensorflow"], curves["torch"], rtol=0, atol=1e-8)
    # Something was learnt: a loop that does not train would agree as well.
    assert curves["torch"][10:].min() < curves["torch"][:2].mean()
    assert agreement["max_abs_logit_difference"] < 1e-6
    assert document["verdict"] == "identical"


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in CASES])
def test_float64_loss_curves(name: str, command: Command, two_classes: Path) -> None:
    check(command, two_classes, 64, CASES[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_CASES)
def test_float64_loss_curves_of_larger_backbones(name: str, command: Command, two_classes: Path) -> None:
    check(command, two_classes, 96, SLOW_CASES[name])


def test_several_shots_and_seeds(command: Command, photos: Path) -> None:
    outcome = command(
        *("--data", photos, "--weights", "random", "--no-control", "--image-size", 32, "--epochs", 2),
        *("--shots", 1, 3, "--seeds", 2, "--frameworks", "torch", "tensorflow"),
    )
    assert outcome.status == 0, outcome.errors
    runs = outcome.document["runs"]
    assert len(runs) == 8
    assert {run["training_images"] for run in runs} == {len(CLASSES), 3 * len(CLASSES)}
    assert {run["test_images"] for run in runs} == {5 * len(CLASSES)}

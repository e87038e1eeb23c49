"""Mistakes in what a recipe runs, planted in one wing at a time: the ladder of the recipe names each."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CLASSES, ROOT, write_images
from transfer_parity.shared.contract import artifacts
from transfer_parity.shared.contract.rungs import Rung

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Mistake:
    """One change of one wing's code, and what the ladder says to it.

    Attributes:
        file: in which it is planted.
        right: what stands there, once.
        wrong: what is planted in its place.
        rung: that names it.
        what: it says differs first.
        recipe: lines of TOML for a recipe that it matters to; None for one of defaults, whose weights look trained:
            untrained ones have no biases.
        name: the neutral name that is given ends so.
    """

    file: str
    right: str
    wrong: str
    rung: Rung
    what: str
    recipe: str | None = ""
    name: str = ""


CROSS_ENTROPY = "F.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)"
PROBE, LAST_STAGE = "", 'strategy = "finetune"\n'
MISTAKES = {
    "mse summed over classes": Mistake(
        "torch_impl/optimizers.py",
        "F.mse_loss(logits, targets)",
        "F.mse_loss(logits, targets) * targets.shape[1]",
        *("loss", "loss, first batch", 'loss = "mse"\n'),
    ),
    "smoothing off by K/(K-1)": Mistake(
        "tf_impl/optimizers.py",
        "label_smoothing=recipe.label_smoothing)",
        "label_smoothing=recipe.label_smoothing * 3 / 2)",
        *("loss", "loss, first batch", "label_smoothing = 0.1\n"),
    ),
    "maximum for mean in front of the head": Mistake(
        "tf_impl/network.py",
        'GlobalAveragePooling2D(name="avg_pool")',
        'GlobalMaxPooling2D(name="avg_pool")',
        *("activations", "activation", "", "features.12.1 > activation > pooling"),
    ),
    "maximum for mean within a conv head": Mistake(
        "torch_impl/head.py",
        "nn.AdaptiveAvgPool2d(1)",
        "nn.AdaptiveMaxPool2d(1)",
        *("activations", "activation", 'head = "conv"\n', "head.conv > activation > pooling"),
    ),
    "mlp head without its rectifier": Mistake(
        "torch_impl/head.py",
        '"hidden": nn.Linear(channels, units), "relu": nn.ReLU()',
        '"hidden": nn.Linear(channels, units), "relu": nn.Identity()',
        *("activations", "activation", 'head = "mlp"\n', "head.output"),
    ),
    "one stage less is frozen": Mistake(
        "torch_impl/network.py",
        "backbone.cut(body, spec.pair, spec.frozen_stages)",
        "backbone.cut(body, spec.pair, spec.frozen_stages - 1)",
        *("activations", "output of the frozen stages", LAST_STAGE),
    ),
    "a layer that trains is frozen": Mistake(
        "torch_impl/training.py",
        "each.variable.requires_grad_(each.name in trainable)",
        'each.variable.requires_grad_(each.name in trainable and not each.name.startswith("features.12"))',
        *("gradients", "gradient, first batch", LAST_STAGE, "features.12.0.weight"),
    ),
    "a layer that is frozen trains": Mistake(
        "tf_impl/training.py",
        "chosen = [each for each in everything if each.name in trainable]",
        'chosen = [each for each in everything if each.name in trainable or each.name.startswith("features.8.")]',
        *("gradients", "gradient, first batch", LAST_STAGE + "flip = true\n", "features.8."),
    ),
    "adam's epsilon": Mistake(
        "tf_impl/optimizers.py",
        'recipe.epsilon, name="adam")',
        'recipe.epsilon * 1.1, name="adam")',
        *("optimizer", "adam, step 1: parameter"),
    ),
    "adam's counter stops at step 3": Mistake(
        "tf_impl/optimizers.py",
        'step = ops.cast(self.iterations + 1, "float64")',
        'step = ops.cast(ops.minimum(self.iterations + 1, 3), "float64")',
        *("optimizer", "adam, step 4: parameter"),
    ),
    "adam's betas are not the recipe's": Mistake(
        "torch_impl/optimizers.py",
        "betas=(recipe.beta1, recipe.beta2)",
        "betas=(0.9, recipe.beta2)",
        *("optimizer", "adam, step 1: first moment", "beta1 = 0.8\n"),
    ),
    "the second seed goes on with the first one's optimizer": Mistake(
        "tf_impl/training.py",
        "    _forget(trainer.optimizer)\n",
        "",
        *("trajectory", "losses, second seed"),
    ),
    "the small last batch is dropped": Mistake(
        "torch_impl/training.py",
        "    for batch in batches:\n",
        "    for batch in batches:\n        if len(batch.labels) < recipe.batch_size:\n            continue\n",
        *("bytes", "sizes of the batches, first seed"),
    ),
    "the small last batch's mean is over a full one": Mistake(
        "torch_impl/optimizers.py",
        CROSS_ENTROPY,
        f"{CROSS_ENTROPY} * len(targets) / recipe.batch_size",
        *("loss", "loss, last batch of an epoch"),
    ),
    "a fused epsilon": Mistake(
        "tf_impl/fusion.py",
        "variance + normalisation.epsilon)",
        "variance + 1.1 * normalisation.epsilon)",
        *("engines", "output of the frozen stages by tensorflow's engine fused in float64"),
    ),
    "fused depthwise convolutions without their bias": Mistake(
        "torch_impl/internals.py",
        "self.bias = None if convolution.bias is None else",
        "self.bias = None if convolution.bias is None or convolution.groups > 1 else",
        *("engines", "output of the frozen stages by torch's engine fused in float32", None),
    ),
}


def copied(folder: Path) -> Path:
    """The checkout in a folder of another name; on PYTHONPATH it stands in for the installed one."""
    left = shutil.ignore_patterns(".*", "results", "build", "dist", "*.egg-info", "__pycache__", "docs", "tests")
    return Path(shutil.copytree(ROOT, folder / "transfer_parity", ignore=left))


def climbed(copy: Path, folder: Path, *arguments: object) -> dict[str, Any]:
    """The document of a climb by the copy."""
    command = [sys.executable, str(copy / "compare.py"), "parity", *map(str, arguments), "--threads", "1"]
    given = [*command, "--output-dir", str(folder / "out"), "--cache-dir", str(folder / "cache")]
    environment = os.environ | ({} if copy == ROOT else {"PYTHONPATH": str(copy.parent)})
    finished = subprocess.run(given, capture_output=True, text=True, env=environment, cwd=folder, check=False)
    assert finished.returncode in (0, 1), finished.stdout + finished.stderr
    document: dict[str, Any] = json.loads((folder / "out" / artifacts.PARITY).read_text(encoding="utf-8"))
    return document


def planted(folder: Path, names: Iterable[str]) -> Path:
    """A copy of the project with these mistakes."""
    copy = copied(folder)
    for name in names:
        mistake = MISTAKES[name]
        place = copy / mistake.file
        text = place.read_text(encoding="utf-8")
        assert text.count(mistake.right) == 1
        place.write_text(text.replace(mistake.right, mistake.wrong), encoding="utf-8")
    return copy


def climbed_for(mistake: Mistake, copy: Path, folder: Path) -> dict[str, Any]:
    """The document of a climb to which a mistake matters."""
    of_defaults = ("--strategies", "linear_probe", "--backbone", "MobileNetV3Small")
    arguments = of_defaults if mistake.recipe is None else (written(folder, mistake.recipe),)
    return climbed(copy, folder, *arguments)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named(name: str, tmp_path: Path) -> None:
    mistake = MISTAKES[name]
    rung, what, neutral = first_failure(climbed_for(mistake, planted(tmp_path, [name]), tmp_path))
    assert (rung, what) == (mistake.rung, mistake.what)
    assert mistake.name in neutral


#: In heads, pooling, losses, engines, partial freezing and small batches.
TOGETHER = (
    "mse summed over classes",
    "smoothing off by K/(K-1)",
    "maximum for mean in front of the head",
    "maximum for mean within a conv head",
    "mlp head without its rectifier",
    "a layer that trains is frozen",
    "adam's epsilon",
    "the small last batch is dropped",
    "a fused epsilon",
    "fused depthwise convolutions without their bias",
)


@pytest.fixture(scope="module")
def all_planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted(tmp_path_factory.mktemp("together"), TOGETHER)


@pytest.mark.parametrize("name", TOGETHER)
def test_ten_mistakes_together_fail_their_rungs(name: str, all_planted: Path, tmp_path: Path) -> None:
    """What fails below does not hide a rung: each is compared by itself, and says what differs in it."""
    mistake = MISTAKES[name]
    (found,) = climbed_for(mistake, all_planted, tmp_path)["pairs"]
    (rung,) = (each for each in found["rungs"] if each["name"] == mistake.rung)
    assert rung["first_divergence"]["what"] == mistake.what


#: By switch, a recipe that it matters to, and what the ladder of that recipe says differs first.
SWITCHED = {
    "torch:resizing": (PROBE, "bytes", "images"),
    "tensorflow:data_order": (PROBE, "bytes", "labels of the batches, first seed"),
    "torch:augmentation": (LAST_STAGE + "flip = true\n", "bytes", "images of the batches, first seed"),
    "tensorflow:preprocessing": (PROBE + 'preprocessing = "auto"\n', "preprocessing", "inputs"),
    "torch:initialisation": (PROBE, "activations", "activation"),
    "torch:frozen_batch_norm": (LAST_STAGE, "loss", "loss, first batch"),
    "tensorflow:weight_decay": ("weight_decay = 0.1\n", "optimizer", "adam, step 1: first moment"),
    "torch:adam_epsilon": (PROBE, "optimizer", "adam, step 1: parameter"),
    "tensorflow:bn_running_variance": (
        LAST_STAGE + "freeze_batch_norm = false\n",
        *("trajectory", "running statistics, first seed, step 1"),
    ),
}


@pytest.mark.parametrize("switch", SWITCHED)
def test_a_switch_is_caught(switch: str, tmp_path: Path) -> None:
    lines, *expected = SWITCHED[switch]
    document = climbed(ROOT, tmp_path, written(tmp_path, lines), "--switch", switch)
    assert list(first_failure(document)[:2]) == expected


def written(folder: Path, lines: str) -> Path:
    """A recipe of three classes of small pictures."""
    photos = write_images(folder / "photos", dict.fromkeys(CLASSES, 8))
    recipe = folder / "mine.toml"
    recipe.write_text(
        f'data = "{photos}"\nbackbone = "MobileNetV3Small"\nweights = "random"\ncontrol = false\nimage_size = 44\n'
        f"shots = 5\nhead_units = 8\nbatch_size = 6\n{lines}"
    )
    return recipe


def first_failure(document: dict[str, Any]) -> tuple[str, str, str]:
    """The lowest rung of the only climb that found a difference, what differs, and its neutral name."""
    (found,) = document["pairs"]
    failed = next(rung for rung in found["rungs"] if rung["first_divergence"])
    first = failed["first_divergence"]
    return failed["name"], first["what"], first["neutral"] or ""

"""Benchmarks of whole recipes: frozen backbone from start to end, and fine-tuning of the last stage."""

from __future__ import annotations

import shutil
import statistics
import tempfile
from pathlib import Path

from benchmarks.processes import Outcome, bare, compare, convert
from benchmarks.records import Row
from benchmarks.turns import FRAMEWORKS, Setting, in_turns, row

#: Ours may be less accurate by so much and still count as the same.
ACCURACY_MARGIN = 0.02
#: As the tutorial and the guide train, so that accuracies can be compared.
OPTIMIZERS: dict[str, list[object]] = {
    "torch": ["--optimizer", "sgd", "--momentum", 0.9, "--learning-rate", 1e-3],
    "tensorflow": ["--optimizer", "adam", "--learning-rate", 1e-3],
}
SCRIPTS = {"torch": "pytorch_tutorial.py", "tensorflow": "keras_guide.py"}
REFERENCES = {"torch": "PyTorch tutorial", "tensorflow": "Keras guide"}
TARGETS = {"torch": 8.0, "tensorflow": 3.0}


def cold(setting: Setting) -> list[Row]:
    """The frozen-backbone recipe, with nothing decoded or computed before, against the bare loops."""
    return [_against_bare(setting, each) for each in FRAMEWORKS]


def warm(setting: Setting) -> list[Row]:
    """The same recipe a second time, when pixels and features are stored, against the first time."""
    return [_against_itself(setting, each) for each in FRAMEWORKS]


def finetune_last_stage(setting: Setting) -> list[Row]:
    """Fine-tuning from stored activations against the whole network in every epoch, which augmentation asks for."""
    return [_finetune(setting, each) for each in FRAMEWORKS]


def _against_bare(setting: Setting, framework: str) -> Row:
    weights = _weights(setting)[framework]

    def ours() -> tuple[float, float]:
        with tempfile.TemporaryDirectory(prefix="benchmark-") as empty:
            outcome = _recipe(setting, framework, _only_weights(setting, Path(empty)))
        return outcome.seconds, outcome.accuracy(framework)

    def theirs() -> tuple[float, float]:
        said = bare(SCRIPTS[framework], setting.sample, "--weights", weights, "--epochs", 10)
        return said["wall_seconds"], said["accuracy"]

    pairs = in_turns(setting, f"recipe, {framework}", ours, theirs)
    our_accuracy, their_accuracy = (statistics.median(each) for each in zip(*pairs.details, strict=True))
    as_accurate = our_accuracy >= their_accuracy - ACCURACY_MARGIN
    return row(
        pairs,
        "less",
        what="frozen backbone, 10 epochs, end to end, cold",
        framework=framework,
        quantity="s",
        reference=REFERENCES[framework],
        target=TARGETS[framework],
        requirements={
            f"accuracy {our_accuracy:.3f} against {their_accuracy:.3f}, at most two points lower": as_accurate
        },
    )


def _against_itself(setting: Setting, framework: str) -> Row:
    _weights(setting)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as parent:
        caches: list[Path] = []

        def first() -> tuple[float, None]:
            caches.append(_only_weights(setting, Path(parent) / str(len(caches))))
            return _recipe(setting, framework, caches[-1]).seconds, None

        def second() -> tuple[float, None]:
            return _recipe(setting, framework, caches[-1]).seconds, None

        # The first time fills the cache that the second one finds, so the reference leads here.
        pairs = in_turns(setting, f"recipe cold and warm, {framework}", first, second).swapped()
    return row(
        pairs,
        "less",
        what="frozen backbone, 10 epochs, end to end, warm",
        framework=framework,
        quantity="s",
        reference="the same, cold",
        target=2.0,
    )


def _finetune(setting: Setting, framework: str) -> Row:
    def tune(*more: object) -> tuple[float, None]:
        options: list[object] = ["--data", setting.sample, "--frameworks", framework, "--no-control", "--no-cache"]
        options += ["--shots", "all", "--seeds", 1, "--epochs", 10, "--weights", "random", "--learning-rate", 3e-4]
        outcome = compare(setting.cache, *options, "--strategy", "finetune", "--finetune-stages", 1, *more)
        # The features of the test images are computed ahead, too: both sides count until the last logits.
        return outcome.phases(framework, "features", "training", "inference"), None

    # With flips the number of steps is the same, and so is what trains.
    pairs = in_turns(setting, f"fine-tuning, {framework}", tune, lambda: tune("--flip"))
    return row(
        pairs,
        "less",
        what="fine-tuning the last stage, 10 epochs: features, training, inference",
        framework=framework,
        quantity="s",
        reference="the whole network in every epoch",
        target=3.0,
    )


def _recipe(setting: Setting, framework: str, cache: Path) -> Outcome:
    options: list[object] = ["--data", setting.sample, "--frameworks", framework, "--no-control"]
    options += ["--shots", "all", "--seeds", 1, "--epochs", 10, "--batch-size", 32, "--weights", "torchvision"]
    return compare(cache, *options, *OPTIMIZERS[framework])


def _weights(setting: Setting) -> dict[str, Path]:
    """torchvision's ImageNet weights for each of the bare loops; also puts them into the project's cache."""
    about = ("--backbone", "MobileNetV2")
    return {
        "torch": convert(setting.cache, "torchvision", setting.folder / "imagenet.pth", *about),
        "tensorflow": convert(
            setting.cache, "torchvision", setting.folder / "imagenet.keras", *about, "--classifier", "none"
        ),
    }


def _only_weights(setting: Setting, target: Path) -> Path:
    """A cache folder that holds the weights and nothing else."""
    (target / "weights").mkdir(parents=True)
    for path in (setting.cache / "weights").glob("MobileNetV2-torchvision*"):
        shutil.copy(path, target / "weights")
    return target

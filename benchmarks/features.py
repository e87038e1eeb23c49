"""Benchmarks of feature extraction: the worker against bare loops, and against its own wing in a bare loop."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import pictures
from benchmarks.processes import WINGS, Outcome, as_worker, bare, compare, convert
from benchmarks.records import Row
from benchmarks.turns import FRAMEWORKS, Setting, in_turns, row
from transfer_parity.shared.core import machine
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.data import pixel_cache
from transfer_parity.shared.runtime import resolve_dataset

#: Largest difference of float32 features relative to the largest of them: the parity ladder's promise.
TOLERANCE = 1e-4
#: So many images that what is done once hardly counts.
MANY = 4_000
#: A bare loop is timed on so many images at most; its rate does not depend on how many follow.
ENOUGH = 800
#: Images a second, ours against the bare loop's.
TARGETS = {
    ("MobileNetV2", "torch"): 3.5,
    ("MobileNetV2", "tensorflow"): 1.5,
    ("ResNet50", "torch"): 1.4,
    ("ResNet50", "tensorflow"): 1.0,
}
#: The same where there is enough work for any preparation to pay.
TARGET_FOR_MANY = 4.5
SCRIPTS = {"torch": "inference_torch.py", "tensorflow": "inference_tensorflow.py"}


def mobilenetv2(setting: Setting) -> list[Row]:
    """MobileNetV2 on the photographs."""
    return [_against_bare(setting, setting.photographs, each, "MobileNetV2", batch=32) for each in FRAMEWORKS]


def mobilenetv2_many(setting: Setting) -> list[Row]:
    """MobileNetV2 in torch on so many images that any preparation pays."""
    many = pictures.many(setting.folder, MANY)
    return [_against_bare(setting, many, "torch", "MobileNetV2", batch=32, target=TARGET_FOR_MANY)]


def resnet50(setting: Setting) -> list[Row]:
    """ResNet50 on the photographs."""
    return [_against_bare(setting, setting.photographs, each, "ResNet50", batch=16) for each in FRAMEWORKS]


def harness(setting: Setting) -> list[Row]:
    """The features phase of a worker against the wing in a plain loop, with the same engine and environment."""
    return [_against_itself(setting, each) for each in FRAMEWORKS]


def _against_bare(
    setting: Setting, data: Path, framework: str, backbone: str, batch: int, target: float | None = None
) -> Row:
    images, count = _pixels(setting, data)

    def ours() -> tuple[float, Outcome]:
        outcome = _extract(setting, data, framework, backbone, batch)
        # Like for like: a median batch against a median batch, a whole pass against a whole call of predict.
        if framework == "torch":
            return batch / outcome.step(framework, "features", "median"), outcome
        return outcome.step(framework, "features", "images_per_second"), outcome

    def theirs() -> tuple[float, None]:
        return bare(SCRIPTS[framework], images, backbone, batch, "--first", ENOUGH)["images_per_second"], None

    pairs = in_turns(setting, f"features of {backbone}, {framework}", ours, theirs)
    outcome: Outcome = pairs.details[-1][0]
    engine = outcome.engine(framework)
    difference = _difference(setting, framework, backbone, batch, images, engine)
    return row(
        pairs,
        "more",
        what=f"features, {backbone}, 224 px, batch {batch}, {count:,} images",
        framework=framework,
        quantity="images/s",
        reference="eager channels_last loop" if framework == "torch" else "model.predict",
        target=target or TARGETS[backbone, framework],
        requirements={
            f"features within {TOLERANCE:g} of the largest (they differ by {difference:.1e})": difference <= TOLERANCE
        },
        notes=[f"engine: {engine} ({outcome.engine_reason(framework)})"],
    )


def _against_itself(setting: Setting, framework: str) -> Row:
    # Passes of five seconds differ by ten per cent on a machine that others use, too; long ones differ less.
    data, backbone, batch = pictures.many(setting.folder, MANY), "MobileNetV2", 32
    images, count = _pixels(setting, data)
    engine = ""

    def ours() -> tuple[float, Outcome]:
        nonlocal engine
        outcome = _extract(setting, data, framework, backbone, batch)
        engine = outcome.engine(framework)
        return outcome.phases(framework, "features"), outcome

    def theirs() -> tuple[float, dict[str, Any]]:
        given = [WINGS[framework], images, backbone, batch, "--engine", engine]
        said = bare("bare_wing.py", *given, environment=as_worker(machine.available_cores()))
        return said["seconds"], said

    pairs = in_turns(setting, f"harness, {framework}", ours, theirs)
    steady = statistics.median(
        outcome.step(framework, "features", "median") / said["median"] for outcome, said in pairs.details
    )
    return row(
        pairs,
        "cost",
        what=f"features phase of a worker, {backbone}, {count:,} images",
        framework=framework,
        quantity="s",
        reference="the wing in a bare loop",
        target=1.03,
        notes=[f"engine: {engine}; a median batch takes {steady:.3f} times the bare loop's"],
    )


def _extract(setting: Setting, data: Path, framework: str, backbone: str, batch: int) -> Outcome:
    """A run that is little more than one pass of all images through the backbone."""
    options: list[object] = ["--data", data, "--frameworks", framework, "--no-control", "--no-cache"]
    options += ["--shots", "all", "--seeds", 1, "--epochs", 1, "--weights", "random"]
    options += ["--backbone", backbone, "--image-size", 224, "--inference-batch-size", batch]
    return compare(setting.cache, *options)


def _pixels(setting: Setting, data: Path) -> tuple[Path, int]:
    """The images of a folder as ``compare.py`` decodes them, in its cache, and their number; nobody waits for them."""
    cache = Cache(setting.cache)
    found, array = pixel_cache.pixels(resolve_dataset.load(str(data), cache), resize=256, size=224, cache=cache)
    return array, len(found)


def _difference(setting: Setting, framework: str, backbone: str, batch: int, images: Path, engine: str) -> float:
    """How far features of ours and of the bare loop are apart, with the same weights, relative to the largest.

    The weights are random ones that look trained, so that nothing has to be fetched.
    """
    weights = setting.folder / f"{backbone}.safetensors"
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        ours, theirs = Path(folder) / "ours.npy", Path(folder) / "theirs.npy"
        given: list[object] = [WINGS[framework], images, backbone, batch, "--first", ENOUGH, "--features", ours]
        # Drawn alike in both wings; whichever comes first keeps them.
        given += ["--weights" if weights.is_file() else "--save-weights", weights, "--engine", engine]
        bare("bare_wing.py", *given, environment=as_worker(machine.available_cores()))
        suffix = ".pth" if framework == "torch" else ".keras"
        converted = convert(setting.cache, weights, weights.with_suffix(suffix), "--classifier", "none")
        given = [images, backbone, batch, "--first", ENOUGH, "--weights", converted, "--features", theirs]
        bare(SCRIPTS[framework], *given)
        a, b = np.load(ours), np.load(theirs)
        return float(np.abs(a - b).max() / np.abs(b).max())

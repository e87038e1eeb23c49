"""Random recipes on random photographs: whatever is the same in both frameworks is called so.

Comparisons with the default recipe, but for its sizes, are identical or equivalent, and their checks pass. So are those
with recipes drawn from all strategies, heads, losses and optimizers, but where many layers train in float32: rounding
grows there from step to step, and a verdict may be "inconclusive", as it may be where training diverges. It never says
that something differs.

``TRANSFER_PARITY_COMPARISONS`` says how many comparisons there are of each sort, ``TRANSFER_PARITY_COMPARISONS_FIRST``
the number of the first, ``TRANSFER_PARITY_COMPARISONS_SEED`` which, and ``TRANSFER_PARITY_SHORT_LADDERS`` how many
short ladders. Two run at a time, with a thread each.
"""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Outcome, run_compare
from transfer_parity.shared.evaluation.agreement import AGREEING

COMPARISONS = int(os.environ.get("TRANSFER_PARITY_COMPARISONS", "10"))
LADDERS = int(os.environ.get("TRANSFER_PARITY_SHORT_LADDERS", "20"))
SEED = int(os.environ.get("TRANSFER_PARITY_COMPARISONS_SEED", "0"))
FIRST = int(os.environ.get("TRANSFER_PARITY_COMPARISONS_FIRST", "0"))
Sort = Literal["default", "any", "short ladder"]
#: Small ones of several families: depthwise, squeeze and excitation, residual, dense.
BACKBONES = ("MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "ResNet50", "DenseNet121")
SMALL = ("MobileNetV2", "MobileNetV3Small")


def draw_photographs(folder: Path, random: np.random.Generator) -> tuple[int, int]:
    """Textures that depend a little on their class, below ``folder/class/``. Returns how many classes, and of each."""
    classes, each = int(random.integers(2, 6)), int(random.integers(6, 16))
    for label in range(classes):
        (folder / f"class-{label}").mkdir(parents=True)
        slope = random.normal(0, 8, 2)
        for number in range(each):
            width, height = random.integers(40, 120, 2)
            y, x = np.mgrid[0:height, 0:width] / 60
            pixels = np.zeros((height, width, 3))
            for fx, fy in [slope, *random.normal(0, 10, (6, 2))]:
                pixels += np.cos(fx * x + fy * y + random.uniform(0, 6.3))[..., None] * random.uniform(0, 40, 3)
            image = Image.fromarray(np.clip(pixels + 128, 0, 255).astype(np.uint8))
            image.save(folder / f"class-{label}" / f"{number:02d}.jpg", quality=90)
    return classes, each


def draw_recipe(random: np.random.Generator, classes: int, each: int, sort: Sort) -> dict[str, Any]:
    """Options of a comparison that takes seconds."""
    shots = sorted({int(random.integers(1, each - 2)) for _ in range(2)})[: int(random.integers(1, 3))]
    given: dict[str, Any] = {
        "shots": shots,
        "seeds": int(random.integers(1, 4)),
        "first-seed": int(random.integers(0, 1000)),
        "image-size": int(random.choice([48, 64, 96])),
        "epochs": int(random.integers(2, 12)),
        "weights": str(random.choice(["torchvision", "random"])),
    }
    if sort == "default":
        return given | {"control": given["weights"] != "random"}
    strategy = str(random.choice(["linear_probe", "linear_probe", "finetune", "scratch"]))
    given |= {
        "strategy": strategy,
        "backbone": str(random.choice(SMALL if strategy != "linear_probe" else BACKBONES)),
        "head": str(random.choice(["linear", "mlp", "conv"])),
        "loss": str(random.choice(["cross_entropy", "mse"])),
        "optimizer": str(random.choice(["sgd", "adam", "adamw"])),
        "schedule": str(random.choice(["constant", "cosine"])),
        "batch-size": int(
            random.choice([size for size in range(3, 17) if all(n * classes % size != 1 for n in shots)])
        ),
        "flip": strategy != "linear_probe" and bool(random.random() < 0.5),
        "crop": strategy != "linear_probe" and bool(random.random() < 0.5),
        "epochs": int(random.integers(1, 4)) if strategy != "linear_probe" else given["epochs"],
    }
    if given["backbone"] != "MobileNetV2":
        # The others' weights are too large to fetch for a test.
        given["weights"] = "random"
    if given["loss"] == "cross_entropy":
        given["label-smoothing"] = float(random.choice([0.0, 0.1]))
    if strategy == "linear_probe" and given["head"] == "linear" and random.random() < 0.2:
        given = {key: value for key, value in given.items() if key in ("strategy", "backbone", "weights", "image-size")}
        given |= {"shots": shots, "seeds": 2, "solver": "ridge"}
    if sort == "short ladder":
        few = {"shots": shots[:1], "seeds": 1, "control": False}
        return given | few | ({} if given.get("solver") == "ridge" else {"epochs": 1})
    return given | {"control": given["weights"] != "random" and strategy != "scratch"}


def arguments(given: dict[str, Any]) -> list[str]:
    """As the command line has them."""
    found = []
    for key, value in given.items():
        if isinstance(value, bool):
            found.append(f"--{key}" if value else f"--no-{key}")
        else:
            found += [f"--{key}", *map(str, value if isinstance(value, list) else [value])]
    return found


def complaint(number: int, sort: Sort, folder: Path, cache: Path) -> tuple[str, dict[str, Any]]:
    """What is wrong with one comparison, or nothing, and what there is to tell of it."""
    random = np.random.default_rng((SEED, number))
    given = arguments(draw_recipe(random, *draw_photographs(folder / "photographs", random), sort))
    files = ("--data", folder / "photographs", "--cache-dir", cache)
    outcome: Outcome = run_compare(folder / "results", *given, *files, "--threads", 1)
    if outcome.status not in (0, 1):
        return f"{number}: {' '.join(given)}: exit status {outcome.status}\n{outcome.errors}", {}
    document = outcome.document
    verdict, check = document["verdict"], document["check"]
    told = {"number": number, "verdict": verdict, "arguments": given, "sentence": document["verdict_sentence"]}
    told["rungs"] = {
        rung["name"]: (rung["max_abs_difference"] or 0.0) / rung["tolerance"] for rung in (check or {}).get("rungs", [])
    }
    hard = bool({"finetune", "scratch"} & set(given)) or bool(document["agreement"]["diverged"])
    uncertain = verdict == "inconclusive" and hard
    alarm = not (verdict in AGREEING or uncertain) or check is None or check["first_difference"] is not None
    return (f"{number}: {' '.join(given)}: {document['verdict_sentence']} {check}" if alarm else ""), told


@pytest.mark.slow
@pytest.mark.parametrize(("sort", "count"), [("default", COMPARISONS), ("any", COMPARISONS), ("short ladder", LADDERS)])
def test_no_false_alarm(sort: Sort, count: int, tmp_path: Path, cache_dir: Path) -> None:
    def one(number: int) -> str:
        folder = tmp_path / str(number)
        found, told = complaint(number, sort, folder, cache_dir)
        shutil.rmtree(folder)
        if record := os.environ.get("TRANSFER_PARITY_COMPARISONS_RECORD"):
            with Path(record).open("a", encoding="utf-8") as file:
                file.write(json.dumps(told | {"sort": sort, "complaint": found}) + "\n")
        return found

    with ThreadPoolExecutor(2) as pool:
        found = [each for each in pool.map(one, range(FIRST, FIRST + count)) if each]
    assert not found, "\n".join(found)

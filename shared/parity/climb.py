"""What a climb needs before it begins: its recipe, pictures, labels and plan, written down for every wing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from transfer_parity.shared.checkpoints import neutral
from transfer_parity.shared.contract import artifacts, plan, recipe_files, switches
from transfer_parity.shared.contract.climbs import ClimbSpec, WingClimb
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.rungs import RUNGS
from transfer_parity.shared.contract.wings import IDENTIFIERS, REFERENCE, Framework
from transfer_parity.shared.core.random import generator
from transfer_parity.shared.data import images
from transfer_parity.shared.zoo.pair import Pair

#: Pictures of each class, and how many of them train: 16 in batches of 4, and 8 that are never trained on.
LABELS, PER_LABEL, SHOTS = 4, 6, 4
#: Passes over the training images: 20 steps.
EPOCHS = 5
#: Classes of the architecture's own classifier, or of the recipe's head, where no checkpoint says how many.
CLASSES = 10
#: Every wing's part of one climb.
WingClimbs = dict[Framework, WingClimb]


def recipe_for(spec: ClimbSpec, device: str, threads: int) -> Recipe:
    """The trajectory: every parameter trains, normalisation too, with SGD under a warm-up and a cosine, and flips."""
    rate = 1e-4
    if spec.pair.family == "InceptionV3":
        # At 1e-4 rounding grows tenfold a step, in either framework alone: from 1e-13 to 0.3 in eleven steps. Nothing
        # could be told from such a trajectory.
        rate = 1e-6
    if not spec.pair.batch_norm and spec.pair.preprocessing[spec.semantics] == "caffe":
        # Inputs deviate by about 60, elsewhere by about 1; without normalisation, curvature grows by their square.
        rate /= 60**2
    return recipe_files.validated(
        {
            "name": "parity",
            "backbone": spec.pair.name,
            "weights": "random",
            "strategy": "finetune",
            "finetune_stages": "all",
            "freeze_batch_norm": False,
            "control": False,
            "image_size": spec.size,
            "flip": True,
            "shots": SHOTS,
            "seeds": 1,
            "first_seed": spec.seed,
            "label_smoothing": 0.1,
            "optimizer": "sgd",
            "momentum": 0.9,
            "weight_decay": 0.01,
            "learning_rate": rate,
            "schedule": "cosine",
            "warmup_epochs": 1,
            "epochs": EPOCHS,
            "batch_size": 4,
            "precision": spec.precision,
            "device": device,
            "threads": threads,
        },
        "the command line",
    )


def draw_pictures(folder: Path, count: int, seed: int) -> Iterator[Path]:
    """Write smooth coloured JPEG textures of several shapes, as photographs have them: decoders and resizers differ."""
    for number in range(count):
        random = generator(seed, "picture", number)
        width, height = 160 + 8 * (number % 3), 120 + 8 * (number % 5)
        y, x = np.mgrid[0:height, 0:width] / 100
        pixels = np.zeros((height, width, 3))
        for _ in range(12):
            fx, fy = random.normal(0, 12, 2)
            pixels += np.cos(fx * x + fy * y + random.uniform(0, 6.3))[..., None] * random.uniform(0, 30, 3)
        path = folder / f"{number:02d}.jpg"
        Image.fromarray(np.clip(pixels + 128, 0, 255).astype(np.uint8)).save(path, quality=90)
        yield path


def classifier(path: Path, pair: Pair) -> tuple[bool, int]:
    """Whether a checkpoint brings the architecture's own classifier, and the number of its classes."""
    shapes = neutral.shapes(path)
    behind = [shape for name, shape in shapes.items() if pair.in_classifier(name) and name.endswith(".bias")]
    return (True, behind[-1][0]) if behind else (False, CLASSES)


def prepare(spec: ClimbSpec, recipe: Recipe, work: Path, trusted: Framework | None = None) -> WingClimbs:
    """Draw pictures, labels and plan, and write them down for every wing; once for all climbs of a seed and size.

    ``trusted``: the wing that measures rounding, where it is known that something is wrong with another.
    """
    folder = work / f"data-{spec.seed}-{spec.size}"
    if not folder.is_dir():
        folder.mkdir()
        labels = np.arange(LABELS * PER_LABEL) % LABELS
        paths = list(draw_pictures(folder, len(labels), spec.seed))
        np.save(
            folder / artifacts.IMAGES, np.stack([images.read(path, recipe.resize_to, recipe.size) for path in paths])
        )
        np.save(folder / artifacts.LABELS, labels)
        drawn = plan.draw(recipe, labels, None, [str(n) for n in range(LABELS)], spec.seed, SHOTS)
        drawn.save(folder / artifacts.PLAN)
    own_classifier, classes = True, CLASSES
    if spec.checkpoint is not None:
        own_classifier, classes = classifier(spec.checkpoint, spec.pair)
    climbs: WingClimbs = {}
    for framework in IDENTIFIERS:
        mine = spec.of_wing(framework)
        named = sorted(switches.of(framework, mine.switches))
        climbs[framework] = WingClimb(
            id="-".join((spec.pair.name, spec.semantics, spec.precision, str(spec.size), str(spec.seed), *named)),
            spec=mine,
            recipe=recipe,
            own_classifier=own_classifier,
            classes=classes,
            images=folder / artifacts.IMAGES,
            labels=folder / artifacts.LABELS,
            plan=folder / artifacts.PLAN,
            pictures=tuple(sorted(folder.glob("*.jpg"))),
        )
    chosen = trusted or measuring(climbs)
    climbs[chosen] = climbs[chosen].model_copy(update={"measures_rounding": True})
    return climbs


def measuring(climbs: Mapping[Framework, WingClimb]) -> Framework:
    """The wing whose rounding counts: one in which nothing is switched, better the reference."""
    unswitched = [framework for framework, climb in climbs.items() if not climb.spec.switches]
    reference = REFERENCE.identifier
    return reference if reference in unswitched or not unswitched else unswitched[0]


def merged(climbs: Sequence[WingClimb]) -> list[WingClimb]:
    """What one wing has to do. Climbs that differ in another wing only are one to it, and go as far as any of them."""
    found: dict[str, WingClimb] = {}
    for climb in climbs:
        known = found.setdefault(climb.id, climb)
        further = {
            "until": max(known.spec.until, climb.spec.until, key=RUNGS.index),
            "skip": known.spec.skip & climb.spec.skip,
        }
        found[climb.id] = known.model_copy(
            update={
                "spec": known.spec.model_copy(update=further),
                "measures_rounding": known.measures_rounding or climb.measures_rounding,
            }
        )
    return list(found.values())

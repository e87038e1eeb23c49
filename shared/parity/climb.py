"""One climb of the ladder: what to compare, its recipe, its pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from transfer_parity.shared.checkpoints import neutral
from transfer_parity.shared.contract import recipe_files
from transfer_parity.shared.contract.jobs import Case
from transfer_parity.shared.contract.recipe import Framework, Recipe
from transfer_parity.shared.contract.rungs import Rung
from transfer_parity.shared.core.random import generator
from transfer_parity.shared.zoo.pair import Pair, Semantics

#: Whose order of layers counts, and whose values differences are relative to.
REFERENCE: Framework = "torch"
OTHER: Framework = "tensorflow"
#: Pictures of each class, and how many of them train: 16 in batches of 4, and 8 that are never trained on.
LABELS, PER_LABEL, SHOTS = 4, 6, 4
#: Passes over the training images: 20 steps.
EPOCHS = 5
#: One climb, as each wing's case.
Parts = dict[Framework, Case]


@dataclass(frozen=True)
class Climb:
    """What to compare.

    Attributes:
        pair: the architecture.
        semantics: of random weights; a checkpoint brings its own.
        precision: "float64" or "float32".
        seed: of everything random.
        switches: as "wing:name".
        checkpoint: neutral checkpoint, or None for random weights that look trained.
        image_size: side of the input in pixels. None: what a checkpoint is made for; for random weights one that is
            small and yet tells paddings apart.
        until: last rung.
        skip: rungs to leave out, to save time; loss and gradients go together.
    """

    pair: Pair
    semantics: Semantics = "torchvision"
    precision: str = "float64"
    seed: int = 0
    switches: tuple[str, ...] = ()
    checkpoint: Path | None = None
    image_size: int | None = None
    until: Rung = "metrics"
    skip: frozenset[Rung] = frozenset()

    @property
    def size(self) -> int:
        """Side of the input in pixels.

        Halved again and again it is even and odd (44, 22, 11; 76, 38, 19), which tells paddings apart, and the last
        feature map has more than one place: architectures that round up at every halving have 2x2 of 44 pixels, those
        that round down need 76, and InceptionV3, which does not pad, 107. A normalisation over one place of each of
        four images would make training chaotic. ConvNeXt does with one place, since it does not normalise over them.
        """
        if self.checkpoint is not None:
            return self.image_size or self.pair.image_size
        smallest = {"VGG": 76, "DenseNet": 76, "InceptionV3": 107}.get(self.pair.family, 44)
        return self.image_size or max(smallest, self.pair.smallest_image)


def recipe_for(climb: Climb, device: str, threads: int) -> Recipe:
    """The trajectory: every parameter trains, normalisation too, with SGD under a warm-up and a cosine, and flips."""
    rate = 1e-4
    if climb.pair.family == "InceptionV3":
        # At 1e-4 rounding grows tenfold a step, in either framework alone: from 1e-13 to 0.3 in eleven steps. Nothing
        # could be told from such a trajectory.
        rate = 1e-6
    if not climb.pair.batch_norm and climb.pair.preprocessing[climb.semantics] == "caffe":
        # Inputs deviate by about 60, elsewhere by about 1; without normalisation, curvature grows by their square.
        rate /= 60**2
    return recipe_files.validated(
        {
            "name": "parity",
            "backbone": climb.pair.name,
            "weights": "random",
            "strategy": "finetune",
            "finetune_stages": "all",
            "freeze_batch_norm": False,
            "control": False,
            "image_size": climb.size,
            "flip": True,
            "shots": SHOTS,
            "seeds": 1,
            "first_seed": climb.seed,
            "label_smoothing": 0.1,
            "optimizer": "sgd",
            "momentum": 0.9,
            "weight_decay": 0.01,
            "learning_rate": rate,
            "schedule": "cosine",
            "warmup_epochs": 1,
            "epochs": EPOCHS,
            "batch_size": 4,
            "precision": climb.precision,
            "device": device,
            "threads": threads,
        },
        "the command line",
    )


def measuring(parts: Parts) -> Framework:
    """The wing whose rounding counts: one in which nothing is switched, better the reference."""
    return OTHER if parts[REFERENCE].switches and not parts[OTHER].switches else REFERENCE


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
    return (True, behind[-1][0]) if behind else (False, 10)

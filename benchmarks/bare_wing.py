"""A wing of this project in a plain loop: its own network and its own ``inference.infer``, and nothing around them.

No worker, no events, no memory map, no store of features. What the worker takes longer for the same images is what the
harness costs. Start it with the worker's environment (``transfer_parity.shared.runtime.launch.environment``).

The last line of its output is JSON: ``seconds`` of the loop, of its ``first`` batch, and of the ``median`` one of the
others.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from transfer_parity.shared.checkpoints import initialisation, neutral
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.spec import model_spec
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.contract.wings import WINGS
from transfer_parity.shared.core import machine
from transfer_parity.shared.zoo.pair import HEAD


def build(wing: str, backbone: str, size: int, weights: Path | None, threads: int) -> tuple[Any, dict[str, Array]]:
    """The wing's network as its worker builds it.

    Args:
        wing: its package.
        backbone: name of the pair.
        size: of the images.
        weights: neutral checkpoint; None draws weights that look trained.
        threads: of the framework.

    Returns:
        The network, and the arrays of its backbone by neutral name.
    """
    implementation = importlib.import_module(f"{wing}.wing").WING
    recipe = Recipe(backbone=backbone, weights="random", control=False, image_size=size)
    implementation.device.configure(threads, recipe.precision, recipe.device)
    arrays, metadata = neutral.load(weights) if weights else ({}, None)
    network = implementation.network.build(model_spec(recipe, metadata, classes=2))
    shapes = {
        name: shape for name, shape in implementation.weights.shapes(network).items() if not name.startswith(HEAD)
    }
    if weights is None:
        drawn = initialisation.draw_trained_looking_weights(shapes, seed=0)
        arrays = {name: array.astype(np.float32) for name, array in drawn.items()}
    implementation.weights.load(network, arrays)
    return network, arrays


def main() -> None:
    """One timed pass over the images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wing", choices=[wing.package for wing in WINGS])
    parser.add_argument("images", type=Path, help="uint8 array (N, S, S, 3), .npy")
    parser.add_argument("backbone")
    parser.add_argument("batch_size", type=int)
    parser.add_argument("--threads", type=int, default=machine.available_cores())
    parser.add_argument("--weights", type=Path, help="neutral checkpoint (default: random weights that look trained)")
    parser.add_argument("--features", type=Path, help="keep the features here, .npy")
    parser.add_argument("--save-weights", type=Path, help="keep the backbone's weights here, as a neutral checkpoint")
    parser.add_argument("--engine", help="how to run the network (default: as it is)")
    parser.add_argument("--first", type=int, help="take no more than so many images")
    options = parser.parse_args()
    images, step = np.load(options.images, mmap_mode="r")[: options.first].copy(), options.batch_size
    network, arrays = build(options.wing, options.backbone, images.shape[1], options.weights, options.threads)
    if options.save_weights is not None:
        about = Metadata(backbone=options.backbone, semantics="torchvision", source="random")
        neutral.save(options.save_weights, arrays, about)

    batches = (images[start : start + step] for start in range(0, len(images), step))
    infer = importlib.import_module(f"{options.wing}.inference").infer
    outputs, marks = [], [time.perf_counter()]
    for output in infer(network, "features", batches, options.engine):
        outputs.append(output)
        marks.append(time.perf_counter())
    seconds = np.diff(marks)
    if options.features is not None:
        np.save(options.features, np.concatenate(outputs))
    median = float(np.median(seconds[1:] if len(seconds) > 1 else seconds))
    print(json.dumps({"seconds": marks[-1] - marks[0], "first": float(seconds[0]), "median": median}))


if __name__ == "__main__":
    main()

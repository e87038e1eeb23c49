"""What a wing does by itself where it is switched on, instead of following the plan and the decoded images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from transfer_parity.shared.contract import plan
from transfer_parity.shared.contract.plan import Plan
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.wing import Array, Wing
from transfer_parity.shared.core.arrays import Rows
from transfer_parity.shared.data.images import decode, fit, is_jpeg

#: Switches that make a wing read image files itself.
READING = frozenset({"jpeg_decoding", "resizing"})
#: Images that are read in one go.
_BATCH = 64


#: Largest image, in pixels, of which backbones make a last feature map of one pixel: they halve it five times.
SMALLEST_MAP = 32


def check_batches(recipe: Recipe, drawn: Plan, switches: frozenset[str]) -> None:
    """Make sure that a switch leaves every batch something to normalise by.

    Raises:
        BadInput: a batch has a single image, whose last feature maps are single pixels.
    """
    if "frozen_batch_norm" in switches and recipe.size <= SMALLEST_MAP:
        # It normalises by the batch after all.
        plan.check_batches(recipe, len(drawn.train))


def native_plan(wing: Wing, drawn: Plan, switches: frozenset[str]) -> Plan:
    """The plan, with what is switched on (order, flips) drawn by the framework, which has been seeded.

    In another order every image keeps the partner that the plan gave it.
    """
    epochs, images = drawn.order.shape
    if "data_order" in switches:
        order, partners = wing.native.shuffled_order(images, epochs), drawn.partners
        if len(partners):
            of_image = np.take_along_axis(partners, np.argsort(drawn.order, axis=1), axis=1)
            partners = np.take_along_axis(of_image, order, axis=1)
        drawn = replace(drawn, order=order, partners=partners)
    if "augmentation" in switches:
        drawn = replace(drawn, flips=wing.native.random_flips(images, epochs))
    return drawn


def native_pixels(
    wing: Wing,
    pictures: Sequence[Path],
    stored: Rows,
    resize: int,
    switches: frozenset[str],
    target: Path,
) -> Rows:
    """The images as the wing reads them itself, if a switch says so: kept in a file, so that memory stays flat.

    Args:
        wing: of the wing.
        pictures: the files of all N images.
        stored: the same images as the project decoded them, uint8 (N, S, S, 3).
        resize: shorter side in pixels before the crop.
        switches: of the wing.
        target: where the new array goes.
    """
    if not switches & READING:
        return stored
    found = Rows.create(target, stored.shape, np.uint8)
    for start in range(0, len(found), _BATCH):
        part = slice(start, min(start + _BATCH, len(found)))
        found[part] = read_images(wing, pictures[part], stored[part], resize, switches)
    return found


def read_images(wing: Wing, pictures: Sequence[Path], images: Array, resize: int, switches: frozenset[str]) -> Array:
    """The images, with what is switched on done by the wing itself, and everything else as usual.

    Args:
        wing: whose decoding and resizing.
        pictures: the files that they were read from.
        images: as the project read them, uint8 (N, S, S, 3).
        resize: shorter side in pixels to which they were resized.
        switches: "jpeg_decoding": JPEG files; "resizing": squash to a square without antialiasing.

    Returns:
        uint8 (N, S, S, 3).
    """
    if not switches & READING:
        return images
    size = images.shape[1]
    changed = []
    for path in pictures:
        natively = "jpeg_decoding" in switches and is_jpeg(path)
        pixels = wing.native.decode_jpeg(path) if natively else np.array(decode(path))
        if "resizing" in switches:
            changed.append(wing.native.squash(pixels, size))
        else:
            changed.append(fit(Image.fromarray(pixels), resize, size))
    return np.stack(changed)

"""What a wing does by itself where it is switched on, instead of following the plan and the decoded images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from transfer_parity.shared.contract.plan import Plan
from transfer_parity.shared.contract.wing import AnyImplementation
from transfer_parity.shared.core.arrays import Rows

#: Switches that make a wing read image files itself.
READING = frozenset({"jpeg_decoding", "resizing"})
#: Images that are read in one go.
_BATCH = 64


def own_plan(implementation: AnyImplementation, drawn: Plan, switches: frozenset[str]) -> Plan:
    """The plan, with what is switched on (order, flips) drawn by the framework, which has been seeded."""
    epochs, images = drawn.order.shape
    if "data_order" in switches:
        drawn = replace(drawn, order=implementation.own_order(images, epochs))
    if "augmentation" in switches:
        drawn = replace(drawn, flips=implementation.own_flips(images, epochs))
    return drawn


def own_pixels(
    implementation: AnyImplementation,
    pictures: Sequence[Path],
    stored: Rows,
    resize: int,
    switches: frozenset[str],
    target: Path,
) -> Rows:
    """The images as the wing reads them itself, if a switch says so: kept in a file, so that memory stays flat.

    Args:
        implementation: of the wing.
        pictures: the files of all N images.
        stored: the same images as the project decoded them, uint8 (N, S, S, 3).
        resize: shorter side in pixels before the crop.
        switches: of the wing.
        target: where the new array goes.
    """
    if not switches & READING:
        return stored
    own = Rows.create(target, stored.shape, np.uint8)
    for start in range(0, len(own), _BATCH):
        part = slice(start, min(start + _BATCH, len(own)))
        own[part] = implementation.own_images(pictures[part], stored[part], resize, switches)
    return own

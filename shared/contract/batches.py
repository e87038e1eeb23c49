"""Batches of a plan: images or features in its order, with its flips and crops; nothing is drawn here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from transfer_parity.shared.contract.plan import Plan
from transfer_parity.shared.core.arrays import Rows
from transfer_parity.shared.data.images import center


@dataclass(frozen=True)
class Batch:
    """One training step's worth.

    Attributes:
        inputs: uint8 images (b, H, W, 3) in RGB, or features (b, ...).
        labels: int64 (b,); of several tasks (b, T), with -1 where one is not known, which ``more`` says, too: "known".
        learning_rate: of this step.
        more: other streams by name, where a strategy has any, each (b', ...).
    """

    inputs: NDArray[np.generic]
    labels: NDArray[np.int64]
    learning_rate: float
    more: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)

    @property
    def streams(self) -> dict[str, NDArray[np.generic]]:
        """All that the step is given, by name."""
        return {"inputs": self.inputs, "labels": self.labels, **self.more}


def training_batches(
    plan: Plan,
    batch_size: int,
    inputs: NDArray[np.generic] | Rows,
    labels: NDArray[np.int64],
    size: int | None,
    more: Callable[[int], Mapping[str, NDArray[np.generic]]] = lambda step: {},
) -> Iterator[Batch]:
    """The batches of all epochs in the plan's order, with its flips and crops. The last batch of an epoch may be small.

    Args:
        plan: of this run.
        batch_size: images a step.
        inputs: stored images (N, S, S, 3) uint8, or features (N, ...).
        labels: of all N images, (N,) or (N, T).
        size: side of the network's input in pixels if ``inputs`` are images, None if they are features.
        more: other streams of a step, counted from 0.
    """
    n, step = len(plan.train), 0
    for epoch in range(len(plan.order)):
        for start in range(0, n, batch_size):
            places = slice(start, start + batch_size)
            chosen = plan.train[plan.order[epoch, places]]
            batch = inputs[chosen]
            if size is not None:
                corners = plan.crops[epoch, places] if len(plan.crops) else None
                mirrored = plan.flips[epoch, places] if len(plan.flips) else None
                batch = augmented(batch, size, corners, mirrored)
            others = dict(more(step))
            if labels.ndim == 2:
                others["known"] = labels[chosen] >= 0
            if len(plan.partners):
                partners = plan.partners[epoch, places]
                found = inputs[partners]
                others["partners"] = found if size is None else augmented(found, size, None, None)
                others["partner_labels"] = labels[partners]
            yield Batch(batch, labels[chosen], float(plan.learning_rates[step]), others)
            step += 1


def augmented(
    images: NDArray[np.generic], size: int, corners: NDArray[np.int64] | None, mirrored: NDArray[np.bool_] | None
) -> NDArray[np.generic]:
    """Crops and flips of stored images (b, S, S, 3), as (b, size, size, 3). Without ``corners``: the centre."""
    if corners is None:
        if images.shape[1] == size:
            cropped = images
        else:
            start = center(images.shape[1], size)
            cropped = images[:, start : start + size, start : start + size]
    else:
        cropped = np.stack([image[y : y + size, x : x + size] for image, (y, x) in zip(images, corners, strict=True)])
    if mirrored is None:
        return cropped
    return np.where(mirrored[:, None, None, None], cropped[:, :, ::-1], cropped)

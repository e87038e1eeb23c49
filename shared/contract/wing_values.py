"""What a wing hands over that is more than an array."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from PIL import Image

from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.rungs import StateKind

Array = NDArray[Any]


@dataclass(frozen=True)
class Differentiated:
    """One forward and backward pass.

    Attributes:
        activations: output of every layer that holds parameters, by neutral name, and of every activation, gate,
            pooling, sum and concatenation between them, by the name that ``shared/runtime/entries.py`` gives it, in the
            order of the forward pass; feature maps are (b, H, W, C), what stands behind the pooling is (b, C).
        loss: of the batch.
        gradients: by neutral name, in torch's layout.
    """

    activations: dict[str, Array]
    loss: float
    gradients: dict[str, Array]


@dataclass(frozen=True)
class State:
    """What an optimizer holds for a parameter after a step, or the parameter itself, which follows from it.

    Attributes:
        kind: which of them.
        name: neutral name of the parameter.
        array: a sample of the values in torch's layout.
    """

    kind: StateKind
    name: str
    array: Array


@dataclass(frozen=True)
class ForeignCheckpoint:
    """What a file in a framework's own format holds.

    Attributes:
        arrays: by neutral name, in torch's layout. Nothing says yet that they fit the architecture.
        recorded: what the file says about itself, if this project wrote it.
        left_over: shapes of arrays that have no neutral name, by their name in the file.
        batch_norm_epsilon: from the model's configuration, if the file has it.
    """

    arrays: dict[str, Array]
    recorded: Metadata | None
    left_over: dict[str, tuple[int, ...]]
    batch_norm_epsilon: float | None = None


@dataclass(frozen=True)
class Portion:
    """The training or the test images of a data set that a framework offers.

    Attributes:
        classes: names by label, or None if it has none.
        total: number of images.
        images: each as a file or decoded, and its label; can be gone through once.
    """

    classes: tuple[str, ...] | None
    total: int
    images: Iterator[tuple[Path | Image.Image, int]]

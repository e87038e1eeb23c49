"""What a training run leaves for event files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Training:
    """One training run.

    Attributes:
        name: of its folder, and so of the run in TensorBoard.
        losses: of every step.
        learning_rates: of every step.
        accuracy: on the test images when it had ended, 0 to 1.
    """

    name: str
    losses: Sequence[float | None]
    learning_rates: Sequence[float]
    accuracy: float

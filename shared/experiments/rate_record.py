"""The record of how rates and budgets of strategies were chosen: ``docs/strategy-rates.json``."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from transfer_parity.shared.contract.wings import Framework
from transfer_parity.shared.core.document import Document
from transfer_parity.shared.experiments.study_document import Edge

#: A larger budget has to lower the loss by so much, as a part of that of guessing.
WORTH = 0.01


class Budget(Document):
    """One number of passes over the training images, at every rate of the grid.

    Losses are mean log losses on training images that were held out, divided by the log of the number of classes: 1 is
    that of guessing. Null where a run diverged.
    """

    rates: list[float]
    losses: list[float | None] = Field(description="mean over the data sets")
    by_data: dict[str, list[float | None]]
    rate: float = Field(description="the one with the least loss, the smaller of equal ones")
    edge: Edge | None = Field(description="where it lies at an edge of the grid: beyond it may be a better one")

    @property
    def least(self) -> float:
        """The loss at the chosen rate; infinite if every run diverged."""
        return min((loss for loss in self.losses if loss is not None), default=float("inf"))


class Strategy(Document):
    """One strategy as a study names it."""

    optimizer: str
    schedule: str
    budgets: dict[str, Budget] = Field(description="by passes over the training images")
    epochs: int = Field(description="the smallest budget that is within 0.01 of the least loss of all")
    rate: float = Field(description="of that budget")


class RateRecord(Document):
    """All of the record."""

    schema_version: int = 1
    created: str = Field(description="ISO 8601, UTC, of the last sweep")
    framework: Framework
    versions: dict[str, str]
    backbone: str
    image_size: int
    batch_size: int
    folds: int
    shots: list[int]
    seeds: int
    data: list[str] = Field(description="names of the data sets, whose training images alone are used")
    strategies: dict[str, Strategy]


def smallest_budget(budgets: Mapping[str, Budget]) -> int:
    """The smallest budget that comes within ``WORTH`` of the best."""
    best = min(budget.least for budget in budgets.values())
    return min(int(passes) for passes, budget in budgets.items() if budget.least <= best + WORTH)

"""What each default costs: ``attribution.json``."""

from __future__ import annotations

from pydantic import Field

from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.wings import Framework
from transfer_parity.shared.core.document import Document
from transfer_parity.shared.evaluation.significance import ALPHA
from transfer_parity.shared.experiments.comparison_document import Environment
from transfer_parity.shared.experiments.study_document import Estimate


class Effect(Document):
    """What one framework's way of doing one thing does to its accuracy, everything else matched."""

    framework: Framework
    name: str = Field(description="of the switch, or weights")
    summary: str
    native: bool = Field(
        description="whether the framework does so by itself; if not, it is a mistake in moving a model"
    )
    seeds: int
    accuracy: Estimate = Field(description="accuracy with it minus accuracy without it, paired by seed")
    predictions_changed: float = Field(description="part of all test predictions that it changes, 0 to 1")
    p_value: float | None = Field(
        None,
        description="the larger of a paired t test over seeds (if there are several) and an exact sign test over test "
        "images, corrected for the number of the strategy's effects (Holm)",
    )

    @property
    def told_from_zero(self) -> bool:
        """Whether the paired tests tell it from no effect at all."""
        return self.p_value is not None and self.p_value < ALPHA

    @property
    def label(self) -> str:
        """As it is written on the command line."""
        return f"{self.framework}:{self.name}"


class Gap(Document):
    """Accuracy of TensorFlow minus that of PyTorch, and how much of it single defaults explain; all paired by seed."""

    matched: Estimate = Field(description="both frameworks alike")
    shipped: Estimate = Field(description="each framework in its own way")
    explained: Estimate = Field(description="effects of the native defaults, one at a time, added up")
    rest: Estimate = Field(description="shipped - matched - explained: what they do together and none of them alone")


class Attributed(Document):
    """One strategy."""

    strategy: str
    recipe: Recipe = Field(description="matched")
    accuracy: dict[Framework, Estimate] = Field(description="matched")
    accuracy_shipped: dict[Framework, Estimate]
    effects: list[Effect] = Field(description="the largest first")
    gap: Gap | None = Field(description="null unless both frameworks have finished everything")


class AttributionDocument(Document):
    """All of ``attribution.json``."""

    schema_version: int = 1
    created: str = Field(description="ISO 8601, UTC")
    environment: Environment
    images: int
    classes: list[str]
    strategies: list[Attributed]
    left_out: dict[str, str] = Field(description="defaults that could not be tried, and why")
    cells: int = Field(description="of the whole grid")
    finished: int

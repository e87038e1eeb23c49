"""What each default costs: ``attribution.json``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.wings import Framework
from transfer_parity.shared.core.document import Document
from transfer_parity.shared.evaluation.significance import ALPHA
from transfer_parity.shared.experiments.comparison_document import Environment
from transfer_parity.shared.experiments.study_document import Edge, Estimate


class Measured(Document):
    """What a change does to accuracy: with it minus without it, paired by seed."""

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


class AtChosenRates(Measured):
    """The same where each side has a rate of its own, chosen by the same rule."""

    rate: float = Field(description="learning rate of the runs with it")
    matched_rate: float = Field(description="learning rate of the matched runs that they are compared with")


class Effect(Measured):
    """What one framework's way of doing one thing does to its accuracy, everything else matched, the rate included."""

    framework: Framework
    name: str = Field(description="of the switch, or weights")
    summary: str
    native: bool = Field(
        description="whether the framework does so by itself; if not, it is a mistake in moving a model"
    )
    tuned: AtChosenRates | None = Field(None, description="its effect at a rate that is chosen for each side")

    @property
    def label(self) -> str:
        """As it is written on the command line."""
        return f"{self.framework}:{self.name}"

    @property
    def best(self) -> Measured:
        """The effect that is no doing of the rate, where it was measured."""
        return self.tuned or self


class ChosenRate(Document):
    """The learning rate of one side: least mean log loss on training images held out, the smaller of equal ones."""

    framework: Framework
    arm: str = Field(description="matched, as shipped, or the names of the defaults that it follows")
    rates: list[float] = Field(description="that were tried, ascending")
    log_losses: list[float | None] = Field(description="of each, over all seeds; null where a run diverged")
    rate: float
    edge: Edge | None = Field(description="where it lies at an edge of the grid: beyond it may be a better one")


class Together(Document):
    """Two defaults of one framework at once, against what each of them does alone; paired by seed."""

    seeds: int
    accuracy: Estimate = Field(description="accuracy with both minus accuracy with neither")
    interaction: Estimate = Field(description="that minus the sum of the two single effects")
    p_value: float | None = Field(description="of the interaction, as of an effect; Holm over the strategy's pairs")

    @property
    def told_from_zero(self) -> bool:
        """Whether the paired tests tell the interaction from none at all."""
        return self.p_value is not None and self.p_value < ALPHA


class Interaction(Together):
    """The same, and which ones."""

    framework: Framework
    names: tuple[str, str]
    native: bool = Field(description="whether the framework does both by itself, so that as shipped has both")
    tuned: Together | None = Field(None, description="at a rate that is chosen for each side")


class Gap(Document):
    """Accuracy of TensorFlow minus that of PyTorch, and how much of it single defaults explain; all paired by seed."""

    matched: Estimate = Field(description="both frameworks alike")
    shipped: Estimate = Field(description="each framework in its own way")
    explained: Estimate = Field(description="effects of the native defaults, one at a time, added up")
    rest: Estimate = Field(description="shipped - matched - explained: what they do together and none of them alone")
    pairs: Estimate | None = Field(
        None, description="interactions of native pairs, added up; null if none was measured"
    )
    rest_of_pairs: Estimate | None = Field(
        None, description="rest - pairs: what comes of three or more, or other pairs"
    )


class Attributed(Document):
    """One strategy."""

    strategy: str
    recipe: Recipe = Field(description="matched")
    accuracy: dict[Framework, Estimate] = Field(description="matched")
    accuracy_shipped: dict[Framework, Estimate]
    effects: list[Effect] = Field(description="the largest first, at chosen rates if there are any")
    gap: Gap | None = Field(description="null unless both frameworks have finished everything")
    rates: list[ChosenRate] = Field([], description="that were chosen for each side; empty if none were")
    accuracy_tuned: dict[Framework, Estimate] = Field({}, description="matched, at rates chosen for each side")
    accuracy_shipped_tuned: dict[Framework, Estimate] = Field({}, description="the same as shipped")
    gap_tuned: Gap | None = Field(None, description="the same at rates chosen for each side")
    interactions: list[Interaction] = Field([], description="of pairs of the largest effects, the largest first")
    pairs_left_out: dict[str, str] = Field({}, description="pairs of the largest effects that were not run, and why")
    not_tuned: str = Field("", description="why no rates were chosen, if they should have been")


class GuideStep(Document):
    """One step on the way from one guide to the other: the recipe differs in one thing from the step before."""

    name: str
    what: str = Field(description="the thing that changes, and how; of the first step, where the way begins")
    switches: list[str] = Field(description="native behaviour that is switched on, in all frameworks alike")
    recipe: Recipe
    training_steps: int = Field(description="of one run of the smallest number of shots: the budget")
    accuracy: dict[Framework, Estimate] = Field(description="after the step")
    change: dict[Framework, Measured] = Field(description="accuracy after the step minus before it; empty at the first")


class Guides(Document):
    """The official guides of two libraries, on the same images and subsets."""

    first: str = Field(description="the guide at which the way begins, and where it stands")
    last: str = Field(description="the guide at which it ends, and where it stands")
    steps: list[GuideStep]
    own_ways: dict[Framework, Measured] = Field(
        description="each library's own guide with what the framework draws and decodes by itself, minus the same step "
        "matched"
    )
    whole: Measured | None = Field(description="the first guide in its own framework minus the last one in its own")
    accuracy: dict[Framework, Estimate] = Field(description="of each guide in its own framework")
    left_out: list[str] = Field(description="what of the guides a recipe cannot say: left out, or approximated")


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
    mode: Literal["defaults", "guides"] = "defaults"
    guides: Guides | None = Field(None, description="the two guides and the steps between them; null in other modes")

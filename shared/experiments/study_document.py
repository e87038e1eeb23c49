"""The result of a study as a documented document: ``study.json``."""

from __future__ import annotations

from pydantic import Field

from transfer_parity.shared.contract.framework_defaults import Mode
from transfer_parity.shared.contract.recipe import Recipe, Shots
from transfer_parity.shared.contract.wings import Framework
from transfer_parity.shared.core.document import Document
from transfer_parity.shared.evaluation.agreement import Agreement, Verdict
from transfer_parity.shared.experiments.comparison_document import AtChance, Environment, Measured


class Result(Measured):
    """One cell: one framework, strategy (by its name in this study), mode, number of shots and seed."""

    mode: Mode = "matched"
    seconds: float = Field(
        description="of features, training and inference, as if no other cell had computed its features; other cells "
        "may have run beside it"
    )
    folder: str = Field(description="its logits.npy and losses.npy, relative to this document")


class Estimate(Document):
    """A mean over seeds with its 95 % confidence interval; null with one seed.

    Student's t: of accuracies on the scale of the logit, so that it stays between 0 and 1; of differences as it is, cut
    off at -1 and 1.
    """

    mean: float
    interval: tuple[float, float] | None


class Point(Document):
    """One point of a learning curve."""

    framework: Framework
    strategy: str
    mode: Mode = "matched"
    shots: Shots
    seeds: int
    accuracy: Estimate
    macro_precision: float
    macro_recall: float
    macro_f1: float
    log_loss: float | None
    calibration_error: float | None
    seconds: float = Field(description="of one cell, mean")
    gain: Estimate | None = Field(
        description="accuracy minus that of the strategy scratch, paired by seed; null without it"
    )


class Judgement(Document):
    """Whether the frameworks agree on one strategy and number of shots."""

    strategy: str
    mode: Mode = "matched"
    shots: Shots
    verdict: Verdict
    sentence: str
    agreement: Agreement
    p_value: float | None = Field(
        description="smallest of McNemar's exact tests of all seeds, corrected for the number of all cells (Holm)"
    )


class Tied(Document):
    """A strategy that cannot be told from the best one."""

    strategy: str
    behind: float = Field(description="mean accuracy of the best one minus its own")
    p_value: float = Field(
        description="the larger of a paired t test over seeds and an exact sign test over test images, corrected for "
        "all pairs of strategies (Holm)"
    )
    seeds_to_tell_apart: int | None = Field(
        description="about so many seeds would, with a chance of 80 %; null with fewer than two, or if 1000 would not"
    )


class Cheapest(Document):
    """What to use with so many labels."""

    shots: Shots
    best: str = Field(description="the strategy of the highest accuracy, mean over frameworks and seeds")
    cheapest: str = Field(description="the one that takes least time among those within one point of the best")
    tied: list[Tied] = Field([], description="those that cannot be told from the best, the nearest first")
    seconds: dict[str, float] = Field({}, description="by strategy: what a cell would need alone, mean")
    seeds: int = Field(0, description="that every one of the strategies has finished")


class Explanation(Document):
    """Class-activation maps (Grad-CAM) of both frameworks for the same test images and their true classes."""

    strategy: str
    shots: Shots
    seed: int
    images: list[int] = Field(description="indices of the data set")
    correlations: list[float | None] = Field(description="of both maps, by image, -1 to 1; null if one is not finite")


class RoundingCheck(Document):
    """One cell of an inconclusive study, trained again in float64 by both frameworks."""

    strategy: str
    shots: Shots
    seed: int
    predictions_compared: int
    predictions_identical: int
    max_abs_logit_difference: float = Field(description="in float64")
    max_abs_logit_difference_before: float = Field(description="in float32")
    settled: bool = Field(description="whether all predictions are the same in float64, and logits nearer")


class StudyDocument(Document):
    """All of ``study.json``."""

    schema_version: int = 2
    created: str = Field(description="ISO 8601, UTC")
    recipes: dict[str, Recipe] = Field(description="by strategy, as both frameworks carry it out when matched")
    modes: list[Mode] = Field(description="matched, as shipped, or both; the first one gives the verdict")
    own_ways: dict[str, dict[Framework, list[str]]] = Field(
        description="by strategy, what each framework does in its own way when as shipped"
    )
    environment: Environment
    classes: list[str]
    images: int
    cells: int = Field(description="of the whole grid")
    results: list[Result] = Field(description="finished cells")
    points: list[Point]
    judgements: list[Judgement]
    cheapest: list[Cheapest]
    at_chance: list[AtChance] = Field([], description="combinations of the first mode that are no better than a guess")
    explanations: list[Explanation]
    rounding: RoundingCheck | None = Field(
        None, description="whether it is rounding that keeps a matched study in float32 inconclusive; null if not asked"
    )
    verdict: Verdict = Field(description="the worst of all judgements of the first mode")
    verdict_sentence: str
    shipped_sentence: str | None = Field(description="how far the frameworks agree as shipped, if that is another mode")

    @property
    def common(self) -> Recipe:
        """What all strategies have in common: data, backbone, weights, shots, seeds, margin, frameworks."""
        return next(iter(self.recipes.values()))

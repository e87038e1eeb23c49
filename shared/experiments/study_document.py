"""The result of a study as a documented document: ``study.json``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from transfer_parity.shared.contract.framework_defaults import Mode
from transfer_parity.shared.contract.recipe import Recipe, Shots
from transfer_parity.shared.contract.wings import Framework
from transfer_parity.shared.core.document import Document
from transfer_parity.shared.evaluation.agreement import Agreement, Verdict
from transfer_parity.shared.experiments.comparison_document import AtChance, Environment, Measured

Edge = Literal["lowest", "highest"]


class Result(Measured):
    """One cell: one framework, strategy (by its name in this study), mode, number of shots and seed."""

    mode: Mode = "matched"
    seconds: float = Field(
        description="of features, training and inference, as if no other cell had computed its features; other cells "
        "may have run beside it"
    )
    folder: str = Field(description="its logits.npy and losses.npy, relative to this document")


class Estimate(Document):
    """A mean over seeds with its 95 % confidence intervals; null with one seed.

    Student's t: of accuracies on the scale of the logit, so that it stays between 0 and 1; of differences as it is, cut
    off at -1 and 1.
    """

    mean: float
    interval: tuple[float, float] | None = Field(description="of the mean over all seeds, on these same images")
    new_images: tuple[float, float] | None = Field(
        None,
        description="for new images of the same kind: corrected for the images that seeds share "
        "(`shared/evaluation/new_images.py`); null where nothing is said about those",
    )


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
    """What to use with so many labels, of the strategies that do not see the test images."""

    shots: Shots
    best: str = Field(description="the strategy of the highest accuracy, mean over frameworks and seeds")
    cheapest: str = Field(description="the one that takes least time among those within one point of the best")
    tied: list[Tied] = Field([], description="those that cannot be told from the best, the nearest first")
    seconds: dict[str, float] = Field({}, description="by strategy: what a cell would need alone, mean")
    seeds: int = Field(0, description="that every one of the strategies has finished")


class ConditionValue(Document):
    """A value of a recipe key, and the strategies that have it."""

    value: str | int | float | bool | None
    strategies: list[str]


class Conditions(Document):
    """What is alike for all strategies, and what is not; from the recipes."""

    alike: dict[str, str | int | float | bool | None] = Field(
        description="recipe keys and values; image_size is the side that it comes to, epochs are passes over the "
        "training images"
    )
    differing: dict[str, list[ConditionValue]] = Field(description="by recipe key")
    closed_form: list[str] = Field(
        description="strategies that pass each training image through the network once, without batches, steps or loss"
    )


class RunRate(Document):
    """The learning rate of a run: least log loss on its own training images, each held out once."""

    strategy: str
    shots: Shots
    seed: int
    rates: list[float] = Field(description="that were tried, ascending")
    log_losses: list[float | None] = Field(description="of each, mean over images; null where a run diverged")
    rate: float = Field(description="the smaller of equal ones")
    edge: Edge | None = Field(description="where it lies at an edge of the grid: beyond it may be a better one")


class Tuning(Document):
    """Rates that were chosen by cross-validation inside the training images of each run."""

    folds: int
    framework: Framework = Field(description="whose runs chose; the rates are those of all frameworks")
    rates: list[RunRate]
    kept: dict[str, str] = Field(description="by strategy, why all or some of its runs keep the recipe's rate")


class PairTest(Document):
    """Two strategies, the better one first."""

    better: str
    worse: str
    rank_difference: float
    p_value: float = Field(description="corrected for all pairs")
    told_apart: bool


class Order(Document):
    """Strategies by mean rank over blocks: one block is one number of shots and one seed that all have finished; over
    several studies one number of shots of one data set, mean over seeds.

    With ten blocks and three strategies at least, Friedman's test and Nemenyi's critical difference (Demsar, 2006);
    with fewer, the larger p-value of a paired t test over seeds and an exact sign test over test images, corrected for
    all pairs (Holm). Blocks share images: the order is that of strategies on this pool.
    """

    test: Literal["friedman", "paired"]
    data: list[str] = Field([], description="data sets of the studies; empty for the order of one study")
    left_out: list[str] = Field([], description="data sets of further studies, without those strategies in common")
    seeds: int = Field(description="over several studies, the smallest number")
    shots: list[Shots]
    blocks: int
    mean_ranks: dict[str, float] = Field(description="by strategy, the best first; 1 is the best possible")
    accuracies: dict[str, float] = Field(description="by strategy, mean over blocks and frameworks")
    statistic: float | None = Field(description="Friedman's chi-square, corrected for ties; null with paired tests")
    p_value: float | None = Field(description="of Friedman's test; null with paired tests")
    critical_difference: float | None = Field(description="Nemenyi's, in ranks, at 5 %; null with paired tests")
    pairs: list[PairTest]
    groups: list[list[str]] = Field(description="largest sets of strategies of which no two are told apart")


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
    transductive: list[str] = Field([], description="strategies that see the test images without their labels")
    environment: Environment
    classes: list[str]
    images: int
    cells: int = Field(description="of the whole grid")
    results: list[Result] = Field(description="finished cells")
    points: list[Point]
    judgements: list[Judgement]
    cheapest: list[Cheapest]
    conditions: Conditions | None = Field(None, description="null in documents that are older than it")
    tuning: Tuning | None = Field(None, description="null unless rates were chosen run by run (--tune)")
    order: Order | None = Field(None, description="of the first mode; null with fewer than two strategies to compare")
    new_images_sentence: str = Field("", description="what the intervals for new images are about, and their formula")
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

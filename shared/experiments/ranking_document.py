"""What ``rank.json`` holds."""

from __future__ import annotations

from typing import Literal

from transfer_parity.shared.contract.recipe import Shots
from transfer_parity.shared.contract.wings import Framework
from transfer_parity.shared.core.document import Document

Score = Literal["LogME", "NCM"]


class Ranked(Document):
    """One backbone that was ranked.

    Attributes:
        rank: by LogME, from 1.
        backbone: name of the pair.
        weights: "torchvision", "keras", "random", or the checkpoint's file.
        source: where the weights come from, as their checkpoint says; empty if they are random.
        parameters: weights and running statistics of the backbone, without a classifier, as torchvision has it.
        features: length of an image's features.
        image_size: side of the input in pixels.
        logme: LogME on the training images, nats per image.
        ncm_accuracy: part of the test images that are nearest to the mean of their class's training images, 0 to 1.
        trained_accuracy: mean test accuracy of trained classifiers, 0 to 1; None if it is not known.
        seconds: of the process that computed the features, and of the scores; training is not among them.
        phases: seconds by phase of that process; ``features`` is short if an earlier run had computed them.
        weights_digest: SHA-256 of the backbone's weights.
    """

    rank: int
    backbone: str
    weights: str
    source: str
    parameters: int
    features: int
    image_size: int
    logme: float
    ncm_accuracy: float
    trained_accuracy: float | None = None
    seconds: float
    phases: dict[str, float]
    weights_digest: str


class Skipped(Document):
    """One backbone that could not be ranked, and why.

    Attributes:
        backbone: name of the pair.
        weights: those that were tried, in order.
        reason: in a sentence or more.
    """

    backbone: str
    weights: list[str]
    reason: str


class Prediction(Document):
    """How well one score ordered the backbones whose trained accuracy is known.

    Attributes:
        score: which.
        backbones: how many there are.
        tau: Kendall's tau-b of score and trained accuracy: 1 the same order, 0 unrelated, -1 reversed; None if there
            are fewer than 3, or all scores or all accuracies are equal.
        weighted_tau: Vigna's weighted tau, in which the first places count most; None likewise.
    """

    score: Score
    backbones: int
    tau: float | None = None
    weighted_tau: float | None = None


class Ranking(Document):
    """The document.

    Attributes:
        created: date and time of its writing, ISO 8601, UTC.
        data: as given.
        shots: training images a class, or "all".
        seed: of the choice of images.
        training_images: LogME and the class means are of these.
        test_images: the nearest class mean and trained classifiers are judged on these.
        versions: by package, of the framework.
        device: what the arithmetic ran on.
        ranking: the best first.
        skipped: in the order in which they were asked for.
        predictions: one for each score; empty if no trained accuracy was asked for.
    """

    schema_version: int = 1
    created: str
    data: str
    classes: list[str]
    shots: Shots
    seed: int
    training_images: int
    test_images: int
    framework: Framework
    versions: dict[str, str]
    device: str
    ranking: list[Ranked]
    skipped: list[Skipped]
    predictions: list[Prediction]

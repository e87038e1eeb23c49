"""What ``rank.json`` holds, and the same as a table for the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from shared.recipe import WEIGHT_ORIGINS, Framework, Shots
from shared.report.console import WIDTH
from shared.report.document import Document

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


def show(document: Ranking, console: Console) -> None:
    """Print what was skipped, the table, and how well the scores predicted the trained accuracy."""
    console.print(
        f"{document.training_images} training and {document.test_images} test images of {len(document.classes)} "
        f"classes ({escape(document.data)}), {document.framework}",
        highlight=False,
    )
    # There may be many, with long reasons: the table is what one wants to see last.
    for skipped in document.skipped:
        console.print(f"[yellow]Skipped {skipped.backbone}:[/] {escape(skipped.reason)}", highlight=False)
    console.print(_table(document))
    for sentence in sentences(document.predictions):
        console.print(sentence, highlight=False)


def _table(document: Ranking) -> Table:
    trained = bool(document.predictions)
    table = Table(box=box.SIMPLE_HEAD, width=WIDTH, padding=0, pad_edge=False)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("Backbone", no_wrap=True)
    table.add_column("Weights", overflow="fold")
    for title in ("Params", "Features", "LogME", "NCM", *(["Trained"] if trained else []), "Seconds"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in document.ranking:
        known = "-" if row.trained_accuracy is None else f"{row.trained_accuracy:.3f}"
        table.add_row(
            str(row.rank),
            row.backbone,
            escape(row.weights if row.weights in WEIGHT_ORIGINS else Path(row.weights).name),
            f"{row.parameters / 1e6:.1f} M",
            str(row.features),
            f"{row.logme:.3f}",
            f"{row.ncm_accuracy:.3f}",
            *([known] if trained else []),
            f"{row.seconds:.1f}",
        )
    return table


def sentences(predictions: list[Prediction]) -> list[str]:
    """How well each score ordered the backbones, or why nothing can be said about it."""
    found = []
    for each in predictions:
        if each.tau is None or each.weighted_tau is None:
            why = "their accuracies or scores are all equal" if each.backbones >= 3 else "it takes 3 or more"
            found.append(
                f"{each.score}: nothing can be said about how well it predicts trained accuracy, which is known of "
                f"{each.backbones} backbone{'' if each.backbones == 1 else 's'}; {why}."
            )
        else:
            found.append(
                f"{each.score} against trained accuracy, {each.backbones} backbones: Kendall's tau {each.tau:+.2f}, "
                f"weighted {each.weighted_tau:+.2f}."
            )
    return found

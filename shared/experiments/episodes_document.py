"""What ``episodes.json`` holds."""

from __future__ import annotations

from pydantic import Field

from transfer_parity.shared.contract.wings import Framework
from transfer_parity.shared.core.document import Document
from transfer_parity.shared.evaluation.agreement import Verdict


class JudgedMethod(Document):
    """What a method is.

    Attributes:
        name: as the option writes it.
        trains_on_base: whether it was trained on the base classes.
        sees_queries: whether each query helped to classify the others of its episode, without labels.
    """

    name: str
    trains_on_base: bool
    sees_queries: bool


class EpisodeAccuracy(Document):
    """How good a method is in one framework.

    Attributes:
        method: its name.
        framework: whose features.
        shots: labelled images of each class.
        accuracy: mean over episodes, 0 to 1.
        interval: 95 % confidence interval of that mean: over episodes of these classes and images, not over others.
        deviation: standard deviation over episodes.
    """

    method: str
    framework: Framework
    shots: int
    accuracy: float
    interval: tuple[float, float]
    deviation: float


class MethodDifference(Document):
    """Two methods on the same episodes.

    Attributes:
        framework: whose features.
        shots: labelled images of each class.
        method: the one.
        minus: the other, whose accuracy is subtracted.
        difference: mean over episodes, -1 to 1.
        interval: 95 % confidence interval of that mean, paired by episode; null for a single episode.
    """

    framework: Framework
    shots: int
    method: str
    minus: str
    difference: float
    interval: tuple[float, float] | None


class FrameworkAgreement(Document):
    """One method in both frameworks on the same episodes.

    Attributes:
        method: its name.
        shots: labelled images of each class.
        predictions_compared: queries of all episodes.
        predictions_identical: those with the same prediction in both.
        max_abs_logit_difference: null if logits are not all finite.
        accuracy_difference: the first framework's minus the second's, mean over episodes.
        accuracy_difference_interval: 95 % confidence interval, paired by episode; null for a single episode.
        verdict: identical, or equivalent, different, inconclusive about the accuracy.
    """

    method: str
    shots: int
    predictions_compared: int
    predictions_identical: int
    max_abs_logit_difference: float | None
    accuracy_difference: float
    accuracy_difference_interval: tuple[float, float] | None
    verdict: Verdict


class PublishedError(Document):
    """An error that somebody else has published for the same runs.

    Attributes:
        who: or what made the error.
        error: part of the test images, 0 to 1.
        source: where it was published.
        trained_on: what it had seen of such images before.
    """

    who: str
    error: float
    source: str
    trained_on: str


class Side(Document):
    """One framework's process.

    Attributes:
        versions: by package.
        device: what the arithmetic ran on.
        weights_digest: SHA-256 of the backbone's weights.
        features: length of an image's features.
        seconds: of its processes.
    """

    versions: dict[str, str]
    device: str
    weights_digest: str
    features: int
    seconds: float


class EpisodesDocument(Document):
    """The document.

    Attributes:
        created: date and time of its writing, ISO 8601, UTC.
        data: as given; the archive, of published runs.
        base_data: the set that the base classes come from, if it is another one.
        base_classes: names of the classes that may be trained on.
        novel_classes: names of the classes that episodes are drawn from.
        ways: classes of an episode.
        shots: labelled images of each.
        queries: images of an episode that are recognised, those of all its classes together.
        episodes: number of them.
        seed: of the division and of the episodes.
        runs: names of the published runs; empty where episodes were drawn.
        chance: accuracy of guessing.
        backbone: name of the pair.
        weights: as given.
        source: where the weights come from, as their checkpoint says; empty if they are random.
        image_size: side of the input in pixels.
        precision: floating-point type of the backbone.
        margin: accuracy difference that counts as equivalent.
        sides: by framework.
        published: errors of others for the same runs.
    """

    schema_version: int = 1
    created: str
    data: str
    base_data: str | None
    base_classes: list[str]
    novel_classes: list[str]
    ways: int
    shots: list[int]
    queries: int
    episodes: int
    seed: int
    runs: list[str]
    chance: float
    backbone: str
    weights: str
    source: str
    image_size: int
    precision: str
    margin: float
    sides: dict[Framework, Side]
    methods: list[JudgedMethod]
    accuracies: list[EpisodeAccuracy]
    differences: list[MethodDifference]
    agreement: list[FrameworkAgreement] = Field(description="empty with one framework")
    verdict: Verdict
    published: list[PublishedError]

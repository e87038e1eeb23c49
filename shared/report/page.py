"""``report.html``: one file that needs nothing else, to be read on a phone, in the dark, on paper, or by keyboard."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from transfer_parity.shared.contract.framework_defaults import Mode
from transfer_parity.shared.contract.recipe import Shots
from transfer_parity.shared.contract.wings import WINGS, Framework
from transfer_parity.shared.experiments.study_document import Point, StudyDocument
from transfer_parity.shared.report import order
from transfer_parity.shared.report.plots import PagePlots
from transfer_parity.shared.report.study import notes, percent, view, where

#: The text of a table's field, by mode, framework, strategy and shots.
FieldText = Callable[[Mode, Framework, str, Shots], str]


@dataclass(frozen=True)
class Origin:
    """Which run a picture is about."""

    strategy: str
    shots: Shots
    seed: int

    def __str__(self) -> str:
        return f"{self.strategy}, {self.shots} a class, seed {self.seed}"


@dataclass(frozen=True)
class Prediction:
    """What somebody takes a picture for.

    Attributes:
        name: the class, or "none" if logits were not finite.
        probability: of that class by the softmax, 0 to 1, or None likewise.
    """

    name: str
    probability: float | None

    def __str__(self) -> str:
        return self.name if self.probability is None else f"{self.name}, {self.in_per_cent}"

    @property
    def in_per_cent(self) -> str:
        """The probability. What is not certain is not called 100 %."""
        if self.probability is None:
            return "no probability"
        number = "over 99" if self.probability > 0.995 else f"{100 * self.probability:.0f}"
        return f"{number}\N{NO-BREAK SPACE}%"


@dataclass(frozen=True)
class PredictedPicture:
    """A test image, and what it is taken for.

    Attributes:
        picture: JPEG as a data URI.
        true: its class.
        predictions: by framework or strategy.
        origin: the run.
        classes: indices of the true and the predicted classes, for the filter.
    """

    picture: str
    true: str
    predictions: dict[str, Prediction]
    origin: Origin
    classes: tuple[int, ...]

    @property
    def alt(self) -> str:
        """What is to be seen, in words."""
        names = {each.name for each in self.predictions.values()}
        if len(names) == 1:
            return f"Test image of class {self.true}, taken for {names.pop()}"
        told = " and ".join(f"{each.name} by {who}" for who, each in self.predictions.items())
        return f"Test image of class {self.true}, taken for {told}"


@dataclass(frozen=True)
class ActivationMapPicture:
    """Where the frameworks look when they see one test image.

    Attributes:
        pictures: JPEGs as data URIs, by what they show.
        alts: what is to be seen on them, in words, likewise.
        true: its class, for which the maps are.
        class_index: of that class, for the filter.
        correlation: of two frameworks' maps, or None.
        origin: the run.
    """

    pictures: dict[str, str]
    alts: dict[str, str]
    true: str
    class_index: int
    correlation: float | None
    origin: Origin


@dataclass(frozen=True)
class Confusion:
    """Confusion matrices (rows are true classes, columns predictions) by framework, and what they are of."""

    strategy: str
    shots: Shots
    matrices: dict[Framework, list[list[int]]]

    @property
    def title(self) -> str:
        """What they are of."""
        return f"{self.strategy}, {self.shots} images a class"


def render(
    document: StudyDocument,
    plots: PagePlots,
    confusion: Confusion | None,
    galleries: Mapping[str, Sequence[PredictedPicture]],
    maps: Sequence[ActivationMapPicture],
    recipe: str,
) -> str:
    """The page.

    Args:
        document: what was found.
        plots: curves and differences.
        confusion: of one strategy and number of shots, if anything is finished.
        galleries: pictures by title.
        maps: class-activation maps.
        recipe: as TOML.
    """
    points = {(point.mode, point.framework, point.strategy, point.shots): point for point in document.points}

    def field(shown: Callable[[Point], str]) -> FieldText:
        def text(mode: Mode, framework: Framework, strategy: str, shots: Shots) -> str:
            point = points.get((mode, framework, strategy, shots))
            return shown(point) if point else ""

        return text

    first = document.common
    views = [(mode, framework) for mode in document.modes for framework in first.frameworks]
    memory = {
        key: max((each.peak_memory_bytes for each in document.results if (each.mode, each.framework) == key), default=0)
        for key in views
    }
    # Everything is escaped: class names come from folders, which anyone may name.
    environment = Environment(
        loader=PackageLoader("transfer_parity.shared.report", ""), autoescape=True, undefined=StrictUndefined
    )
    script = environment.get_template("report.js.j2").render()
    return environment.get_template("report.html.j2").render(
        document=document,
        first=first,
        titles={wing.identifier: wing.title for wing in WINGS},
        views={key: view(document, *key) for key in views},
        where=where,
        notes=notes(document),
        plots=plots,
        what_intervals="mean over seeds ± half of the 95 % interval"
        + (" for new images" if document.new_images_sentence else ""),
        order=order.rows(document.order) if document.order else [],
        accuracy=field(lambda point: percent(point.accuracy)),
        gain=field(lambda point: percent(point.gain, sign=True) if point.gain else ""),
        seconds=field(lambda point: f"{point.seconds:.2f}"),
        has_gains=any(point.gain for point in document.points),
        memory={key: f"{most / 2**20:,.0f} MiB" for key, most in memory.items()},
        confusion=confusion,
        galleries={title: pictures for title, pictures in galleries.items() if pictures},
        maps=maps,
        explanations=[(each, _smallest(each.correlations)) for each in document.explanations],
        versions=", ".join(f"{name} {version}" for name, version in document.environment.versions.items()),
        recipe=recipe,
        script=Markup(script),
        script_digest=script_digest(script),
    )


def script_digest(script: str) -> str:
    """As a Content-Security-Policy names the one script that may run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def _smallest(correlations: Sequence[float | None]) -> str:
    finite = [each for each in correlations if each is not None]
    return f"{min(finite):.6f}" if finite and len(finite) == len(correlations) else "not finite"

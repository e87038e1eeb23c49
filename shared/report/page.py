"""``report.html``: one file that needs nothing else, to be read on a phone, in the dark, or by keyboard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from transfer_parity.shared.contract.framework_defaults import Mode
from transfer_parity.shared.contract.recipe import Shots
from transfer_parity.shared.contract.wings import WINGS, Framework
from transfer_parity.shared.experiments.study_document import Point, StudyDocument
from transfer_parity.shared.report.plots import Plot
from transfer_parity.shared.report.study import notes, percent, view, where

#: The text of a table's field, by mode, framework, strategy and shots.
FieldText = Callable[[Mode, Framework, str, Shots], str]


@dataclass(frozen=True)
class DisagreementPicture:
    """A test image that is recognised differently.

    Attributes:
        picture: JPEG as a data URI.
        true: its class.
        predictions: the class that was predicted, by framework or strategy.
        where: strategy, shots, seed.
    """

    picture: str
    true: str
    predictions: dict[str, str]
    where: str


@dataclass(frozen=True)
class ActivationMapPicture:
    """Where the frameworks look when they see one test image.

    Attributes:
        pictures: JPEGs as data URIs, by what they show.
        true: its class, for which the maps are.
        correlation: of two frameworks' maps, or None.
        where: strategy, shots, seed.
    """

    pictures: dict[str, str]
    true: str
    correlation: float | None
    where: str


def render(
    document: StudyDocument,
    plots: Mapping[str, Plot],
    matrices: Mapping[str, Sequence[Sequence[int]]],
    matrix_of: str,
    galleries: Mapping[str, Sequence[DisagreementPicture]],
    maps: Sequence[ActivationMapPicture],
    recipe: str,
) -> str:
    """The page.

    Args:
        document: what was found.
        plots: "curves" and "differences".
        matrices: confusion matrix by framework.
        matrix_of: which strategy and number of shots they are of.
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
    return environment.get_template("report.html.j2").render(
        document=document,
        first=first,
        titles={wing.identifier: wing.title for wing in WINGS},
        views={key: view(document, *key) for key in views},
        where=where,
        notes=notes(document),
        plots=plots,
        accuracy=field(lambda point: percent(point.accuracy)),
        gain=field(lambda point: percent(point.gain, sign=True) if point.gain else ""),
        seconds=field(lambda point: f"{point.seconds:.2f}"),
        has_gains=any(point.gain for point in document.points),
        memory={key: f"{most / 2**20:,.0f} MiB" for key, most in memory.items()},
        matrices=matrices,
        matrix_of=matrix_of,
        galleries={title: pictures for title, pictures in galleries.items() if pictures},
        maps=maps,
        explanations=[(each, _smallest(each.correlations)) for each in document.explanations],
        versions=", ".join(f"{name} {version}" for name, version in document.environment.versions.items()),
        recipe=recipe,
    )


def _smallest(correlations: Sequence[float | None]) -> str:
    finite = [each for each in correlations if each is not None]
    return f"{min(finite):.6f}" if finite and len(finite) == len(correlations) else "not finite"

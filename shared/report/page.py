"""``report.html``: one file that needs nothing else, to be read on a phone, in the dark, or by keyboard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from transfer_parity.shared.contract.framework_defaults import Mode
from transfer_parity.shared.contract.recipe import Framework, Shots
from transfer_parity.shared.experiments.study_document import Point, StudyDocument
from transfer_parity.shared.report.console import TITLES
from transfer_parity.shared.report.plots import Plot
from transfer_parity.shared.report.study import notes, percent, view, where

Cell = Callable[[Mode, Framework, str, Shots], str]


@dataclass(frozen=True)
class Exhibit:
    """One picture.

    Attributes:
        picture: JPEG as a data URI.
        true: its class.
        said: who says what it is.
        where: strategy, shots, seed.
    """

    picture: str
    true: str
    said: dict[str, str]
    where: str


@dataclass(frozen=True)
class Sight:
    """Where both frameworks look when they see one picture.

    Attributes:
        pictures: JPEGs as data URIs, by what they show.
        true: its class, for which the maps are.
        correlation: of the two maps, or None.
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
    galleries: Mapping[str, Sequence[Exhibit]],
    sights: Sequence[Sight],
    recipe: str,
) -> str:
    """The page.

    Args:
        document: what was found.
        plots: "curves" and "differences".
        matrices: confusion matrix by framework.
        matrix_of: of which cells.
        galleries: pictures by title.
        sights: class-activation maps.
        recipe: as TOML.
    """
    points = {(point.mode, point.framework, point.strategy, point.shots): point for point in document.points}

    def cell(shown: Callable[[Point], str]) -> Cell:
        def text(mode: Mode, framework: Framework, strategy: str, shots: Shots) -> str:
            point = points.get((mode, framework, strategy, shots))
            return shown(point) if point else ""

        return text

    first = document.common
    views = [(mode, framework) for mode in document.modes for framework in first.frameworks]
    memory = {
        way: max((each.peak_memory_bytes for each in document.results if (each.mode, each.framework) == way), default=0)
        for way in views
    }
    # Everything is escaped: class names come from folders, which anyone may name.
    environment = Environment(
        loader=PackageLoader("transfer_parity.shared.report", ""), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("report.html.j2").render(
        document=document,
        first=first,
        titles=TITLES,
        views={way: view(document, *way) for way in views},
        where=where,
        notes=notes(document),
        plots=plots,
        accuracy=cell(lambda point: percent(point.accuracy)),
        gain=cell(lambda point: percent(point.gain, sign=True) if point.gain else ""),
        seconds=cell(lambda point: f"{point.seconds:.2f}"),
        has_gains=any(point.gain for point in document.points),
        memory={way: f"{most / 2**20:,.0f} MiB" for way, most in memory.items()},
        matrices=matrices,
        matrix_of=matrix_of,
        galleries={title: exhibits for title, exhibits in galleries.items() if exhibits},
        sights=sights,
        explanations=[(each, _smallest(each.correlations)) for each in document.explanations],
        versions=", ".join(f"{name} {version}" for name, version in document.environment.versions.items()),
        recipe=recipe,
    )


def _smallest(correlations: Sequence[float | None]) -> str:
    finite = [each for each in correlations if each is not None]
    return f"{min(finite):.6f}" if finite and len(finite) == len(correlations) else "not finite"

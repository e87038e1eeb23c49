"""``report.html`` of a climb of one's own pair: one file that needs nothing else, and runs nothing."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from transfer_parity.shared.core.text import printable
from transfer_parity.shared.report import subject, subject_plots
from transfer_parity.shared.report.plots import Plot
from transfer_parity.shared.subjects.document import SubjectParity, SubjectRung

#: Rungs whose plot is shown whether they failed or not.
PLOTTED = ("activations", "gradients")


def render(document: SubjectParity) -> str:
    """The page: what diverged first and why, every rung, and every array with both names.

    Args:
        document: what was found.
    """
    # Everything is escaped: names of layers come from a user's code.
    environment = Environment(
        loader=PackageLoader("transfer_parity.shared.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    failed = document.first_failure
    first = failed.first_divergence if failed is not None else None
    sides = (document.reference, document.candidate)
    return environment.get_template("subject.html.j2").render(
        document=document,
        sides=sides,
        sentence=subject.sentence(document),
        verdict="identical" if document.passed else "different" if failed is not None else "inconclusive",
        failed=failed,
        first=first,
        sources=subject.sources_of(document, first) if first is not None else (None, None),
        numbers=subject.numbers,
        at=subject.at(first.place, *(side.name for side in sides)) if first is not None and first.place else None,
        why=[(cause, list(subject.mending(document, cause))) for cause in document.causes],
        not_explained=subject.causes(document) if failed is not None and not document.causes else [],
        where=[plot for plot in (subject_plots.places(first), subject_plots.spread(first)) if plot] if first else [],
        plots=_plots(document, failed),
        largest=subject.largest,
        rung_verdict=subject.verdict,
        number=subject.number,
        sources_of=lambda array: subject.sources_of(document, array),
        share=_share,
    )


def _plots(document: SubjectParity, failed: SubjectRung | None) -> dict[str, Plot]:
    """Plots by rung."""
    shown = [rung for rung in document.rungs if rung is failed or rung.name in PLOTTED]
    found = {rung.name: subject_plots.along(rung) for rung in shown}
    return {name: plot for name, plot in found.items() if plot is not None}


def _share(value: float | None, tolerance: float) -> str:
    """A difference as a multiple of its tolerance."""
    if value is None or not tolerance:
        return ""
    return f"{value / tolerance:.2g}"

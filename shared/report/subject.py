"""A climb of one's own pair, in words: on the terminal, as Markdown, and as the message of a failed test."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich import box
from rich.table import Table

from transfer_parity.shared.core.text import printable
from transfer_parity.shared.report import markdown as tables
from transfer_parity.shared.report.console import WIDTH, Console, marked
from transfer_parity.shared.subjects.document import ArrayResult, Cause, Place, SubjectParity, SubjectRung

#: How many causes are told outside of the page.
CAUSES = 3


def show(document: SubjectParity, console: Console) -> None:
    """A line for each rung, what diverged first, and what explains it."""
    first, second = document.reference, document.candidate
    mapped = f"{len(document.map)} layers mapped"
    left = len(document.left_over_reference) + len(document.left_over_candidate)
    if left:
        mapped += f", {left} parameters left over"
    console.print(printable(f"{document.name}: {first.name} against {second.name}, {document.precision}; {mapped}"))
    if document.rungs:
        console.print(_table(document))
    for line in lines(document)[1:]:
        console.print(line, highlight=False, soft_wrap=True)
    colour = "green" if document.passed else "red"
    console.print(marked(f"[bold {colour}]{{}}[/]", printable(sentence(document))), highlight=False)


def _table(document: SubjectParity) -> Table:
    table = Table(box=box.SIMPLE_HEAD, width=WIDTH, pad_edge=False)
    table.add_column("Rung")
    for column in ("Arrays", "Largest difference", "Tolerance", ""):
        table.add_column(column, justify="right")
    colours = {"passed": "default", "FAILED": "red"}
    for rung in document.rungs:
        worst, word = largest(rung), verdict(rung)
        found = (number(worst.max_abs_difference), number(worst.tolerance)) if worst else ("-", "-")
        said = marked(f"[{colours.get(word, 'yellow')}]{{}}[/]", word)
        table.add_row(rung.name, str(len(rung.arrays)), *found, said)
    return table


def sentence(document: SubjectParity) -> str:
    """The result in one sentence."""
    if document.refused is not None:
        return f"Not climbed: {document.refused}"
    accepted = sum(each.accepted is not None for rung in document.rungs for each in rung.arrays)
    if document.passed:
        but = f", with {accepted} accepted difference{'' if accepted == 1 else 's'}" if accepted else ""
        total = len(document.rungs)
        return f"All {total} rungs passed{but}." if total > 1 else f"{total} rung passed{but}."
    failed = document.first_failure
    if failed is None:
        names = " and ".join(rung.name for rung in document.rungs if not rung.passed)
        return (
            f"Not told: {names}. What rounding explains in {document.precision} is as large as what is compared; "
            "float64 tells more."
        )
    place = document.rungs.index(failed) + 1
    return f"Different from rung {failed.name} on, which is number {place} of {len(document.rungs)}."


def lines(document: SubjectParity) -> list[str]:
    """What there is to say about a failure: what diverged first, both names, the numbers and the suspected cause."""
    found = [f"{document.name}: {sentence(document)}"]
    failed = document.first_failure
    if failed is None:
        return found
    first = failed.first_divergence
    assert first is not None
    found.append(f"First divergence, at rung {failed.name}: {first.what}")
    sources = sources_of(document, first)
    sides = (document.reference.name, document.candidate.name)
    width = max(map(len, sides)) + 1
    for side, name, source in zip(sides, (first.reference, first.candidate), sources, strict=True):
        found.append(f"  {side + ':':{width}} {name or 'there is none'}{f' ({source})' if source else ''}")
    found.append(f"  {numbers(first)}")
    if first.place is not None and first.max_abs_difference is not None:
        found.append(f"  {at(first.place, *sides)}")
    found += causes(document)
    return [printable(line) for line in found]


def causes(document: SubjectParity) -> list[str]:
    """What explains a failure, the best first, with the lines that mend it."""
    if not document.causes:
        if document.tried:
            return [f"Nothing explains it: none of {document.tried} known differences that were tried does."]
        return ["Nothing was tried to explain it."]
    found = []
    # What explains less than another one is on the page only.
    best = [cause for cause in document.causes if cause.explains == document.causes[0].explains]
    for place, cause in enumerate(best[:CAUSES]):
        start = "Or" if place else "Suspected cause"
        found.append(f"{start}: {cause.sentence}")
        found += mending(document, cause)
    return found


def mending(document: SubjectParity, cause: Cause) -> Iterator[str]:
    """The lines of code that would mend it, one for each side."""
    for side, source, line in (
        (document.reference.name, cause.reference_source, cause.mend_reference),
        (document.candidate.name, cause.candidate_source, cause.mend_candidate),
    ):
        if line is not None:
            yield f"  in {side}{f', {source}' if source else ''}: {line}"


def numbers(array: ArrayResult) -> str:
    """By how much an array differs, and what is allowed."""
    if array.max_abs_difference is None:
        if array.shapes:
            shapes = " and ".join(str(tuple(shape)) for shape in array.shapes)
            return f"the two cannot be compared: shapes are {shapes}"
        return "the two cannot be compared: one is missing, or not finite"
    relative = f" ({array.max_rel_difference:.1e} of its largest value)" if array.max_rel_difference else ""
    return f"differs by {array.max_abs_difference:.2e}{relative}; rounding explains {array.tolerance:.1e}"


def at(place: Place, reference: str, candidate: str) -> str:
    """Where two arrays differ most."""
    values = (
        f"{side} {'not finite' if value is None else f'{value:.9g}'}"
        for side, value in ((reference, place.reference), (candidate, place.candidate))
    )
    index = ", ".join(map(str, place.index))
    return f"most at [{index}]: {', '.join(values)}"


def sources_of(document: SubjectParity, array: ArrayResult) -> tuple[str | None, str | None]:
    """Where the layers of an array are made, ``file:line``, as far as that is known."""
    best: tuple[int, tuple[str | None, str | None]] = (-1, (None, None))
    for layer in document.map:
        for mine, name in ((layer.reference, array.reference), (layer.candidate, array.candidate)):
            # A parameter's name begins with its layer's.
            if name is not None and (name == mine or name.startswith(f"{mine}.")) and len(mine) > best[0]:
                best = (len(mine), (layer.reference_source, layer.candidate_source))
    return best[1]


def largest(rung: SubjectRung) -> ArrayResult | None:
    """The array of a rung that comes nearest to its tolerance, or exceeds it most."""
    first = rung.first_divergence
    if first is not None and first.max_abs_difference is None:
        return first
    return max(rung.arrays, key=share, default=None)


def share(array: ArrayResult) -> float:
    """The difference as a part of its tolerance; infinite where nothing could be compared."""
    if array.max_abs_difference is None:
        return math.inf
    if array.tolerance == 0:
        return math.inf if array.max_abs_difference else 0.0
    return array.max_abs_difference / array.tolerance


def verdict(rung: SubjectRung) -> str:
    """Of a rung, in a word or two."""
    if rung.first_divergence is not None:
        return "FAILED"
    if not rung.informative:
        return "not informative"
    if any(each.accepted is not None for each in rung.arrays):
        return "accepted"
    return "passed" if rung.passed else "FAILED"


def markdown(document: SubjectParity) -> str:
    """What was found, for people who read it in a forge."""
    text = [f"# {tables.escaped(document.name)}\n\n**{tables.escaped(sentence(document))}**\n"]
    versions = (
        f"- {tables.escaped(side.name)}: {tables.escaped(side.framework)}, {tables.escaped(side.factory)}, "
        f"{side.parameters:,} parameters in {side.layers} layers; "
        + tables.escaped(", ".join(f"{name} {version}" for name, version in sorted(side.versions.items())))
        for side in (document.reference, document.candidate)
    )
    text.append("\n".join(versions) + "\n")
    rows = []
    for rung in document.rungs:
        worst = largest(rung)
        names = (worst.reference or worst.candidate or "") if worst else ""
        differs = (number(worst.max_abs_difference), number(worst.tolerance)) if worst else ("", "")
        rows.append([rung.name, str(len(rung.arrays)), *differs, tables.escaped(names), verdict(rung)])
    text.append(tables.table(["rung", "arrays", "largest difference", "tolerance", "where", "verdict"], rows))
    told = lines(document)[1:]
    if told:
        text.append(tables.block("\n".join(told)))
    moment = f"{document.created[:10]}; {document.precision}, seed {document.seed}, weights of {document.weights}"
    text.append(tables.escaped(moment) + ".\n")
    return "\n".join(text)


def number(value: float | None) -> str:
    """Of a table."""
    if value is None:
        return "-"
    return "0" if value == 0 else f"{value:.1e}"

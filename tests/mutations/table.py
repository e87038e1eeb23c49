"""What was found, as lines of JSON and as a section of docs/validity.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.mutations import runner
from tests.mutations.catalogue import MUTATIONS
from tests.mutations.mutation import TOOLS, Mutation

BEGIN, END = "<!-- mutations: begin (make mutate) -->", "<!-- mutations: end -->"
_SIDES = {"tensorflow": "TensorFlow", "torch": "torch", "both": "both"}

Results = dict[str, dict[str, Any]]


def read(path: Path) -> Results:
    """Results by id; none if there is no file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {result["id"]: result for result in map(json.loads, lines)}


def write(path: Path, results: Mapping[str, dict[str, Any]]) -> None:
    """A line for every mistake that there is, in the catalogue's order."""
    lines = [json.dumps(results[each.id]) for each in MUTATIONS if each.id in results]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def in_document(text: str, results: Mapping[str, dict[str, Any]]) -> str:
    """A document with the section between its markers made anew.

    Raises:
        ValueError: it has no markers.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError("the document has no place for the table of mistakes")
    return f"{before}{BEGIN}\n\n{section(results)}\n{END}{after}"


def section(results: Mapping[str, dict[str, Any]]) -> str:
    """The section in Markdown."""
    planted = [each for each in MUTATIONS if each.id in results]
    lines = [_summary(planted, results), ""]
    if planted:
        lines += ["| mistake | in | noticed by, and what it names | exactly |", "|---|---|---|---|"]
        lines += [_row(each, results[each.id]) for each in planted]
        lines += [""]
    missed = [each for each in planted if not runner.noticed(results[each.id])]
    lines += ["Nothing notices:" if missed else "There is none among them that nothing notices.", ""]
    lines += [f"- `{each.id}`: {each.mistake}{_harmless(each)}" for each in missed]
    return "\n".join(lines).rstrip("\n") + "\n"


def _harmless(mutation: Mutation) -> str:
    return "" if mutation.changes else "; a matched run computes the same with it"


def _summary(planted: list[Mutation], results: Mapping[str, dict[str, Any]]) -> str:
    """How many, when, and how many of those were noticed."""
    if not planted:
        return f"None of the {len(MUTATIONS)} mistakes has been planted yet."
    days = sorted({results[each.id]["date"] for each in planted})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    computed = [each for each in planted if each.changes]
    seen = [each for each in planted if runner.noticed(results[each.id])]
    by_tools = [each for each in computed if _by_ladder_or_comparison(results[each.id])]
    exact = [each for each in planted if runner.exactly(each, results[each.id])]
    wings = [each for each in computed if each.side != "both"]
    of_wings = [each for each in wings if each in by_tools]
    part = "All" if len(planted) == len(MUTATIONS) else f"{len(planted)} of the"
    return (
        f"{part} {len(MUTATIONS)} mistakes were planted ({when}). {len(seen)} of these {len(planted)} were noticed, "
        f"{len(exact)} of them named exactly. {len(wings)} are in one wing and change what a matched run computes: "
        f"ladder or comparison noticed {len(of_wings)}. Others are in both wings alike or compute the same, and "
        "are for tests to notice. A tool that a line does not have was not asked: it has nothing of the mistake, or "
        "another one had named it exactly."
    )


def _by_ladder_or_comparison(result: dict[str, Any]) -> bool:
    return any(seen["noticed"] for tool, seen in result["seen"].items() if tool != "tests")


def _row(mutation: Mutation, result: dict[str, Any]) -> str:
    told = []
    for tool in TOOLS:
        seen = result["seen"].get(tool)
        if seen is not None:
            told.append(f"{tool}: {_escaped(seen['says']) if seen['noticed'] else 'nothing'}")
    exact = "yes" if runner.exactly(mutation, result) else "no"
    return f"| {mutation.mistake} (`{mutation.id}`) | {_SIDES[mutation.side]} | {'; '.join(told)} | {exact} |"


def _escaped(text: str) -> str:
    """Text in a cell of a table."""
    return text.replace("|", r"\|").replace("*", r"\*").replace("<", "&lt;")

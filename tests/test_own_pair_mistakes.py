"""Twenty single mistakes in copies of the examples: the ladder says where each is, and mostly what it is.

``TRANSFER_PARITY_MISTAKES`` names some of them, by their numbers from 0, separated by commas. The table is printed
with ``pytest -s``, and when the test fails.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.own_pair_mistakes import MISTAKES, REFUSED, Mistake
from tests.test_own_pairs import climb, told
from transfer_parity.shared.contract import subject_files

#: Of twenty.
CAUGHT, EXPLAINED = 18, 12


@dataclass(frozen=True)
class Finding:
    """What the ladder said of a mistake."""

    mistake: Mistake
    rung: str
    names: tuple[str, ...]
    causes: tuple[str, ...]
    details: str

    @property
    def caught(self) -> bool:
        """Whether it was at the right rung, and the right layer was named."""
        wanted = self.mistake.layer
        named = not self.names if wanted is None else any(wanted in name for name in self.names)
        return self.rung == self.mistake.rung and named

    @property
    def explained(self) -> bool:
        """Whether the best explanation is the right one."""
        return self.mistake.cause is not None and self.causes[:1] == (self.mistake.cause,)

    def line(self) -> str:
        """Of the table."""
        marks = f"{'caught' if self.caught else 'MISSED':7} {'explained' if self.explained else '-':10}"
        named = " / ".join(self.names) or "-"
        return f"{self.mistake.name:44} {marks} {self.rung:14} {named:58} {', '.join(self.causes) or '-'}"


def find(mistake: Mistake, folder: Path) -> Finding:
    path = mistake.plant(folder / "pair")
    outcome, document = climb(path, folder / "out")
    if outcome.status == 2:
        sentence = outcome.errors
        cause = (mistake.cause,) if mistake.cause is not None and mistake.cause in sentence else ()
        names = (mistake.layer,) if mistake.layer is not None and mistake.layer in sentence else ()
        return Finding(mistake, REFUSED, names, cause, sentence)
    failed = document.first_failure if document else None
    array = failed.first_divergence if failed else None
    if outcome.status != 1 or document is None or failed is None or array is None:
        return Finding(mistake, f"status {outcome.status}", (), (), outcome.output + outcome.errors)
    named = tuple(name for name in (array.reference, array.candidate) if name)
    return Finding(mistake, failed.name, named, tuple(cause.name for cause in document.causes), told(document))


def test_twenty_different_mistakes_are_planted(tmp_path: Path) -> None:
    """Every text that is replaced is there, once, and what comes out is still a pair of Python files."""
    assert len({mistake.name for mistake in MISTAKES}) == len(MISTAKES) == 20
    for number, mistake in enumerate(MISTAKES):
        path = mistake.plant(tmp_path / str(number))
        subject_files.read(path)
        for file in path.parent.glob("*.py"):
            compile(file.read_text(encoding="utf-8"), str(file), "exec")


@pytest.mark.slow
def test_mistakes_are_caught_and_explained(tmp_path: Path) -> None:
    chosen = os.environ.get("TRANSFER_PARITY_MISTAKES")
    numbers = [int(number) for number in chosen.split(",")] if chosen else list(range(len(MISTAKES)))
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda number: find(MISTAKES[number], tmp_path / str(number)), numbers))
    table = "\n".join(each.line() for each in found)
    print(f"\n{table}")
    missed = "\n".join(f"{each.mistake.name}: {each.details[-1000:]}" for each in found if not each.caught)
    allowed = len(MISTAKES) - CAUGHT
    assert sum(not each.caught for each in found) <= allowed, f"{table}\n\n{missed}"
    assert sum(not each.explained for each in found) <= len(MISTAKES) - EXPLAINED, table

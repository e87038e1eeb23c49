"""Checks a learner's copy: what the ladder says, whether that is further than before, and which hint is due."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from transfer_parity.shared.exercises.exercise import Exercise
from transfer_parity.shared.exercises.judging import Judged
from transfer_parity.shared.exercises.working_folder import WorkingFolder

#: Climbs with the copy in a working folder.
Climb = Callable[[WorkingFolder], Judged]


@dataclass(frozen=True)
class Hint:
    """A hint.

    Attributes:
        number: of it, from 1.
        total: how many there are.
        text: of it; None if all were given before.
    """

    number: int
    total: int
    text: str | None


@dataclass(frozen=True)
class Checked:
    """What came of a check.

    Attributes:
        exercise: which one.
        judged: the ladder.
        before: rungs that had passed in the best check before; None if this is the first.
        hint: that is due, if any.
    """

    exercise: Exercise
    judged: Judged
    before: int | None
    hint: Hint | None

    @property
    def solved(self) -> bool:
        """Whether every rung passes."""
        return self.judged.result.passed


def check(folder: WorkingFolder, climb: Climb) -> Checked:
    """Climb, and note what came of it. A check that fails without having come further brings the next hint.

    Args:
        folder: with the copy.
        climb: carries out the climb.
    """
    judged = climb(folder)
    before = folder.standing.best
    solved = judged.result.passed
    folder.keep_log(judged.printed)
    best = max(judged.passed, before or 0)
    folder.note(checks=folder.standing.checks + 1, best=best, solved=folder.standing.solved or solved)
    due = not solved and before is not None and judged.passed <= before
    return Checked(folder.exercise, judged, before, next_hint(folder) if due else None)


def next_hint(folder: WorkingFolder) -> Hint:
    """The next hint, which counts as given from now on."""
    hints, given = folder.exercise.hints, folder.standing.hints
    if given >= len(hints):
        return Hint(len(hints), len(hints), None)
    folder.note(hints=given + 1)
    return Hint(given + 1, len(hints), hints[given])

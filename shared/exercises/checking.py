"""Checks a learner's copy: what the ladder says, whether that is further than before, and which hint is due."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from transfer_parity.shared.core import notices
from transfer_parity.shared.exercises.exercise import Exercise
from transfer_parity.shared.exercises.judging import CopyFailed, Judged
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
        return self.judged.solved


def check(folder: WorkingFolder, climb: Climb) -> Checked:
    """Climb, and note what came of it. A check that fails without having come further brings the next hint.

    Args:
        folder: with the copy.
        climb: carries out the climb.

    Raises:
        CopyFailed: the copy does not run. What it printed by then is kept.
    """
    try:
        judged = climb(folder)
    except CopyFailed as failed:
        with _noting(folder):
            folder.look_again()
            folder.keep_log(failed.printed)
        raise
    folder.look_again()
    before = folder.standing.best
    solved = judged.solved
    best, hint = max(judged.passed, before or 0), None
    with _noting(folder):
        folder.keep_log(judged.printed)
        folder.note(checks=folder.standing.checks + 1, best=best, solved=folder.standing.solved or solved)
        if not solved and before is not None and judged.passed <= before:
            hint = next_hint(folder)
    return Checked(folder.exercise, judged, before, hint)


@contextlib.contextmanager
def _noting(folder: WorkingFolder) -> Iterator[None]:
    """What came of a check is told even where it cannot be noted, such as in what was handed in and is only read."""
    try:
        yield
    except OSError as error:
        notices.say(f"{folder.path} cannot be written ({error.strerror or error}), so this check is not noted there.")


def next_hint(folder: WorkingFolder) -> Hint:
    """The next hint, which counts as given from now on."""
    hints, given = folder.exercise.hints, folder.standing.hints
    if given >= len(hints):
        return Hint(len(hints), len(hints), None)
    folder.note(hints=given + 1)
    return Hint(given + 1, len(hints), hints[given])

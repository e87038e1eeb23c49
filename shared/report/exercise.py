"""What is shown of exercises on the terminal."""

from __future__ import annotations

import difflib
import shlex
import textwrap
from collections.abc import Sequence

from transfer_parity.shared.contract.artifacts import EXERCISE_TEXT
from transfer_parity.shared.exercises.checking import Checked, Hint
from transfer_parity.shared.exercises.exercise import Exercise
from transfer_parity.shared.exercises.judging import CopyFailed
from transfer_parity.shared.exercises.working_folder import WorkingFolder
from transfer_parity.shared.report import parity
from transfer_parity.shared.report.console import WIDTH, Console, marked

#: Of what stands below an exercise's name.
_INDENT = " " * 3


def show_all(exercises: Sequence[Exercise], console: Console) -> None:
    """Two lines or more for each: what it is, and what it looks like."""
    for each in exercises:
        facts = f"{each.wing.short:10}  fails at {each.rung:13}  lesson {each.lesson:02d}"
        console.print(marked("{}  [bold]{}[/]  {}", each.grade, f"{each.name:11}", facts), highlight=False)
        console.print(
            textwrap.fill(each.symptom, WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT), highlight=False
        )
    console.print()
    _say("The number in front is the grade. Begin: compare.py exercise start NAME", console)


def show_started(folder: WorkingFolder, console: Console) -> None:
    """Where the copy is, and what to do now."""
    exercise = folder.exercise
    _head(exercise, console)
    _say(exercise.symptom, console)
    _say(
        f"A part of {exercise.wing.title} lies in {folder.code}, with one fault. It fails the ladder at the rung "
        f"{exercise.rung!r}. {folder.path / EXERCISE_TEXT} says how to go on; lesson {exercise.lesson:02d} prepares "
        "it.",
        console,
    )
    place = shlex.quote(str(folder.path))
    console.print(f"Check: compare.py exercise check {place}", highlight=False, soft_wrap=True)


def show_checked(checked: Checked, console: Console) -> None:
    """The rungs, what differs first, and a hint if one is due."""
    exercise, result = checked.exercise, checked.judged.result
    _head(exercise, console)
    console.print(parity.table_of(result))
    if checked.solved:
        also = "" if checked.judged.partial is None else ", also if only its last stage trains"
        console.print(
            marked(
                "[bold green]All {} rungs pass[/]: your copy computes what the other wing computes{}.",
                len(result.rungs),
                also,
            ),
            highlight=False,
        )
        _say(exercise.why, console)
        return
    if checked.judged.partial is not None:
        # Where every layer trains, all is well.
        _say(f"All {len(result.rungs)} rungs pass, in which every layer trains. If only the last stage does:", console)
        result = checked.judged.partial
        console.print(parity.table_of(result))
    failed = next(rung for rung in result.rungs if not rung.passed)
    for line in parity.divergence(failed) if failed.first_divergence else ():
        console.print(line, highlight=False)
    passed, before = checked.judged.passed, checked.before
    further = ""
    if before is not None and passed != before:
        further = f", {abs(passed - before)} {'more' if passed > before else 'fewer'} than at best before"
    if checked.judged.partial is None:
        _say(f"{passed} of {len(result.rungs)} rungs pass from below{further}.", console)
    if checked.hint is not None:
        show_hint(exercise, checked.hint, console)
    elif before is None:
        _say("A check that does not come further brings a hint.", console)


def show_hint(exercise: Exercise, hint: Hint, console: Console) -> None:
    """One hint."""
    if hint.text is None:
        told = f"All {hint.total} hints are given. compare.py exercise solution {exercise.name} shows the fault."
        _say(told, console)
        return
    console.print(marked("[bold]Hint {} of {}[/]: {}", hint.number, hint.total, hint.text), highlight=False)


def show_failed(exercise: Exercise, failed: CopyFailed, console: Console) -> None:
    """That a copy does not run, and the end of what it said."""
    _head(exercise, console)
    console.print(marked("[bold red]Your copy does not run[/]: {}", failed), highlight=False)
    console.print("Its last words:")
    console.print(failed.last_words, highlight=False, soft_wrap=True)


def show_solution(exercise: Exercise, console: Console) -> None:
    """The difference between the fault and the wing as it is, and why."""
    _head(exercise, console)
    edit = exercise.fault
    lines = difflib.unified_diff(
        edit.new.splitlines(),
        edit.old.splitlines(),
        f"{exercise.folder}/{edit.file} (exercise)",
        f"{exercise.folder}/{edit.file} (mended)",
        lineterm="",
    )
    for line in lines:
        colour = {"+": "green", "-": "red"}.get(line[:1], "")
        console.print(line, style=colour, highlight=False, soft_wrap=True)
    _say(exercise.why, console)


def _head(exercise: Exercise, console: Console) -> None:
    console.print(
        marked("[bold]{}[/], grade {}, {}", exercise.name, exercise.grade, exercise.wing.title), highlight=False
    )


def _say(text: str, console: Console) -> None:
    console.print(text, highlight=False)

"""``compare.py exercise``: a wing with one fault in it, to be found and mended, with the ladder as the judge."""

from __future__ import annotations

from transfer_parity.shared.commands.parser import Parser, at_least
from transfer_parity.shared.core import paths
from transfer_parity.shared.core.errors import DIFFERENT_OR_INCONCLUSIVE, IDENTICAL_OR_EQUIVALENT, BadInput
from transfer_parity.shared.exercises import catalogue, checking, judging, working_folder
from transfer_parity.shared.exercises.judging import CopyFailed, Judged
from transfer_parity.shared.exercises.working_folder import HOME, WorkingFolder
from transfer_parity.shared.report import exercise as report
from transfer_parity.shared.report.console import WIDTH, Console
from transfer_parity.shared.report.progress import progress

LIST, START, CHECK, SOLUTION = ACTIONS = ("list", "start", "check", "solution")


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(
        prog="compare.py exercise",
        usage="compare.py exercise [list | start NAME [FOLDER] | check [FOLDER] | solution NAME] [options]",
        description="Ten exercises: a part of a wing is copied into a folder of yours with one fault in it. Find it, "
        "mend it, and let the parity ladder judge: check says which rungs pass and what differs first; a check that "
        "fails without having come further gives a hint. A check takes as long as a climb of one small backbone.",
        epilog="Exit status: 0 done, or every rung passes; 1 not yet, 2 bad input, 3 the other wing's process failed.",
        allow_abbrev=False,
    )
    parser.add_argument("action", nargs="?", choices=ACTIONS, metavar="{" + ",".join(ACTIONS) + "}", help="what to do")
    parser.add_argument("exercise", nargs="*", metavar="NAME", help="of an exercise; and the folder that you work in")
    parser.add_argument("--hint", action="store_true", help="check: print the next hint, and do not climb")
    parser.add_argument(
        "--again", action="store_true", help="start: begin again, which replaces what you changed in the folder"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="of each framework (default: half of the cores)")
    return parser


def run(arguments: list[str], errors: Console) -> int:
    """Do what is asked for, and print what came of it."""
    options = build_parser().read(arguments)
    at_least(options, threads=1)
    action, given, output = options.action or LIST, list(options.exercise), Console(width=WIDTH)
    most = {LIST: 0, START: 2, CHECK: 1, SOLUTION: 1}[action]
    if len(given) > most:
        raise BadInput(f"exercise {action} takes {most or 'no'} name{'s' * (most > 1)}, not {len(given)}; see --help.")
    for option, belongs in (("hint", CHECK), ("again", START)):
        if getattr(options, option) and action != belongs:
            raise BadInput(f"--{option} is for exercise {belongs}; leave it out.")
    if action in (START, SOLUTION) and not given:
        raise BadInput(f"exercise {action} needs a name: {', '.join(catalogue.BY_NAME)}.")
    if action == LIST:
        report.show_all(catalogue.EXERCISES, output)
        return IDENTICAL_OR_EQUIVALENT
    if action == SOLUTION:
        report.show_solution(catalogue.find(given[0]), output)
        return IDENTICAL_OR_EQUIVALENT
    if action == START:
        exercise = catalogue.find(given[0])
        folder = paths.expanded(given[1]) if len(given) > 1 else HOME / exercise.name
        report.show_started(working_folder.start(exercise, folder, options.again), output)
        return IDENTICAL_OR_EQUIVALENT
    opened = working_folder.open_(working_folder.chosen(paths.expanded(given[0]) if given else None))
    if options.hint:
        report.show_hint(opened.exercise, checking.next_hint(opened), output)
        return IDENTICAL_OR_EQUIVALENT
    return _check(opened, options.threads, output, errors)


def _check(folder: WorkingFolder, threads: int | None, output: Console, errors: Console) -> int:
    def climb(folder: WorkingFolder) -> Judged:
        with progress(errors) as tell:
            return judging.climb(folder.exercise, folder.code, threads, tell)

    try:
        checked = checking.check(folder, climb)
    except CopyFailed as failed:
        report.show_failed(folder.exercise, failed, output)
        return DIFFERENT_OR_INCONCLUSIVE
    report.show_checked(checked, output)
    return IDENTICAL_OR_EQUIVALENT if checked.solved else DIFFERENT_OR_INCONCLUSIVE

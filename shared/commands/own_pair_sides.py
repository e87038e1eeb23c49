"""``compare.py parity dump`` and ``parity judge``: the sides of a pair of one's own, each where it can be climbed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transfer_parity.shared.commands.own_pair import (
    WRITES,
    add_judging,
    check,
    has_side,
    told,
    with_backend,
    write,
)
from transfer_parity.shared.commands.parser import Parser, at_least
from transfer_parity.shared.contract import subject_files
from transfer_parity.shared.core import machine, paths, run_folder
from transfer_parity.shared.core.errors import IDENTICAL_OR_EQUIVALENT, BadInput
from transfer_parity.shared.report.console import WIDTH, Console
from transfer_parity.shared.report.progress import progress
from transfer_parity.shared.subjects import api

#: Words in place of a file, which make the command another one.
DUMP, JUDGE = "dump", "judge"


def build_dump_parser() -> Parser:
    """The options of ``parity dump``."""
    parser = Parser(
        prog="compare.py parity dump",
        description="Climb one side of a pair of one's own alone, and write all rungs into a folder: its framework may "
        "live in another environment, or on another machine. Dump the reference, which is the first of [sides], first; "
        "the other side takes its examples and weights with --from.",
        epilog="Exit status: 0 written, 2 bad input, 3 the worker failed.",
        allow_abbrev=False,
    )
    parser.add_argument("pair", metavar="PAIR", help="the .toml file of the pair")
    parser.add_argument("--side", metavar="NAME", required=True, help="which of its two")
    kept = "a new folder for all rungs"
    parser.add_argument("--output", type=paths.expanded, metavar="DIR", required=True, help=kept)
    origin = "the reference's folder; only the reference itself has none"
    parser.add_argument("--from", dest="origin", type=paths.expanded, metavar="DIR", help=origin)
    parser.add_argument("--backend", metavar="NAME", help="what computes for this side")
    parser.add_argument("--map", type=paths.expanded, metavar="FILE", help="map of names")
    parser.add_argument("--threads", type=int, metavar="N", help="of the framework (default: half of the cores)")
    return parser


def dump(arguments: list[str], errors: Console) -> int:
    """Climb one side alone. Returns the exit status."""
    options = build_dump_parser().read(arguments)
    at_least(options, threads=1)
    changes: dict[str, Any] = {"map": options.map.absolute() if options.map else None}
    pair, root = subject_files.read(options.pair, changes)
    has_side(pair, options.side)
    pair = with_backend(pair, options)
    if options.output.exists():
        raise BadInput(f"--output {options.output} is there already; remove it, or choose a new folder.")
    run_folder.make(options.output.absolute().parent)
    from transfer_parity.shared.subjects import offline

    with progress(errors) as tell:
        threads = options.threads or max(1, machine.available_cores() // 2)
        offline.dump(pair, root, options.side, options.output, threads, tell, options.origin)
    Console(width=WIDTH).print(f"Dump of {options.side}: {options.output}", highlight=False, soft_wrap=True)
    return IDENTICAL_OR_EQUIVALENT


def build_judge_parser() -> Parser:
    """The options of ``parity judge``."""
    parser = Parser(
        prog="compare.py parity judge",
        description="Compare two folders of parity dump, one of each side. No framework is needed.",
        epilog="Exit status: 0 every rung passed, 1 not, 2 bad input.",
        allow_abbrev=False,
    )
    for name, metavar in (("first", "DIR_A"), ("second", "DIR_B")):
        parser.add_argument(name, type=paths.expanded, metavar=metavar, help="a folder of parity dump")
    parser.add_argument("--pair", metavar="FILE", help="the .toml file (default: as the reference's folder has it)")
    kept = "map of names in place of the one that the second side was dumped with"
    parser.add_argument("--map", type=paths.expanded, metavar="FILE", help=kept)
    add_judging(parser)
    parser.add_output_dir("results/parity-<name>/")
    return parser


def judge(arguments: list[str], errors: Console) -> int:
    """Compare two dumps, and write what came of it. Returns the exit status."""
    options = build_judge_parser().read(arguments)
    check(options)
    pair, root = subject_files.read(options.pair) if options.pair is not None else (None, Path())
    from transfer_parity.shared.subjects import offline

    accepted = api.accepted_by(options.baseline, bool(options.parity_update))
    document = offline.judge(pair, root, options.first, options.second, accepted, options.map)
    document = api.settled(document, options.baseline, bool(options.parity_update))
    folder = options.output_dir or Path("results") / f"parity-{document.name}"
    with run_folder.claimed(folder, WRITES) as output:
        write(document, output)
    return told(document, options, folder)

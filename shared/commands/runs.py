"""``compare.py runs``: a table of all results under a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from transfer_parity.shared.commands.parser import Parser
from transfer_parity.shared.contract.wings import WINGS
from transfer_parity.shared.core.errors import IDENTICAL_OR_EQUIVALENT, BadInput
from transfer_parity.shared.experiments import order_over_studies, run_table
from transfer_parity.shared.experiments.run_table import Found
from transfer_parity.shared.report import csv_file, order
from transfer_parity.shared.report.console import WIDTH, Console


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(
        prog="compare.py runs",
        usage="compare.py runs [FOLDER] [options]",
        description="A table of all results under a folder, oldest first: what ran, on what, how accurate it was, and "
        "the verdict.",
        epilog="Exit status: 0 done, 2 bad input.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path("results"), metavar="FOLDER", help="default: results"
    )
    parser.add_argument(
        "--order",
        action="store_true",
        help="also in which order the strategies of several studies stand, over their data sets and numbers of shots "
        "(Friedman's test with Nemenyi's critical difference)",
    )
    parser.add_csv()
    return parser


def run(arguments: list[str], errors: Console) -> int:
    """Print the table, or write a line for every training run."""
    options = build_parser().read(arguments)
    if not options.folder.is_dir():
        raise BadInput(f"there is no folder {options.folder}; give the one that holds results.")
    if options.csv is not None:
        csv_file.check(options.csv)
    found = run_table.find(options.folder)
    if not found:
        raise BadInput(
            f"{options.folder} holds no results; give a folder with {', '.join(run_table.DOCUMENTS)} below it."
        )
    output = Console(width=WIDTH)
    show(found, options.folder, output)
    if options.order:
        found_order = order_over_studies.over_studies([each.document for each in found if each.command == "study"])
        if found_order is None:
            raise BadInput(
                f"--order: {options.folder} holds no studies of two data sets or more that share two strategies; run "
                "compare.py study on further images."
            )
        for line in order.sentences(found_order):
            output.print(line, highlight=False)
    if options.csv is not None:
        count = csv_file.append(options.csv, found)
        output.print(f"{count} runs added to {options.csv}", highlight=False, soft_wrap=True)
    return IDENTICAL_OR_EQUIVALENT


def show(found: Sequence[Found], root: Path, output: Console) -> None:
    """A row for each command's results."""
    table = Table(box=box.SIMPLE_HEAD, width=WIDTH, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("Folder", overflow="fold", ratio=3)
    table.add_column("When", width=10)
    table.add_column("What", overflow="fold", ratio=3)
    for wing in WINGS:
        table.add_column(wing.identifier, justify="right", no_wrap=True)
    table.add_column("Verdict", overflow="fold", ratio=2)
    for each in found:
        folder = each.folder.relative_to(root)
        accuracies = (each.accuracy.get(wing.identifier) for wing in WINGS)
        table.add_row(
            Text(str(folder) if str(folder) != "." else str(root)),
            each.created[:10],
            Text(f"{each.command}: {each.subject}" if each.subject else each.command),
            *("" if accuracy is None else f"{accuracy:.3f}" for accuracy in accuracies),
            Text(each.verdict),
        )
    output.print(table)

"""``compare.py cache``: what is kept between runs, and pruning it by age or size."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence

from rich import box
from rich.table import Table

from transfer_parity.shared.commands.parser import Parser
from transfer_parity.shared.core import cache_contents
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.cache_contents import COMPUTED, KINDS, Entry, shown
from transfer_parity.shared.core.errors import IDENTICAL_OR_EQUIVALENT, BadInput
from transfer_parity.shared.report.console import WIDTH, Console

#: Bytes of each unit of a size.
UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
DAY = 86_400


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(
        prog="compare.py cache",
        usage="compare.py cache [options]",
        description="List what is kept between runs, by kind, size and last use, and prune it by age or size, least "
        "recently used first. What a run is using stays. Everything can be computed or fetched again. Where the disk "
        "is nearly full, a run itself removes what can be computed again, and says so.",
        epilog="Exit status: 0 done, 2 bad input.",
        allow_abbrev=False,
    )
    parser.add_argument("--entries", action="store_true", help="list every entry, not only the kinds")
    parser.add_argument("--kind", nargs="+", choices=tuple(KINDS), metavar="KIND", help=f"only {', '.join(KINDS)}")
    parser.add_argument("--older-than", metavar="DAYS", help="remove what was not used for so many days")
    parser.add_argument(
        "--max-size", metavar="SIZE", help="remove the least recently used until no more is left, such as 500MB or 2GB"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    parser.add_cache_dir()
    return parser


def run(arguments: list[str], errors: Console) -> int:
    """Print the table; remove what the options say."""
    options = build_parser().read(arguments)
    age = None if options.older_than is None else _days(options.older_than) * DAY
    most = None if options.max_size is None else _bytes(options.max_size)
    if options.dry_run and age is None and most is None:
        raise BadInput("--dry-run says what would be removed; give --older-than DAYS or --max-size SIZE with it.")
    cache, output = Cache(options.cache_dir), Console(width=WIDTH)
    found = [each for each in cache_contents.entries(cache) if each.kind in (options.kind or KINDS)]
    if age is None and most is None:
        show(found, output, options.entries)
        output.print(f"Cache: {cache.root}", highlight=False, soft_wrap=True)
        return IDENTICAL_OR_EQUIVALENT
    going = cache_contents.to_prune(found, age, most)
    if not options.dry_run:
        for entry in going:
            cache_contents.remove(entry)
    show(going, output, options.entries)
    left = sum(each.size for each in found) - sum(each.size for each in going)
    done = "Would remove" if options.dry_run else "Removed"
    output.print(
        f"{done} {len(going)} of {len(found)} entries, {shown(sum(each.size for each in going))}; {shown(left)} "
        f"{'would stay' if options.dry_run else 'stay'}.",
        highlight=False,
    )
    return IDENTICAL_OR_EQUIVALENT


def show(entries: Sequence[Entry], output: Console, each: bool = False) -> None:
    """A row for each kind, largest first, and for each entry if that is wanted."""
    table = Table(box=box.SIMPLE_HEAD, width=WIDTH, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("Kind")
    for title in ("Entries", "Size", "Last used"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("Comes again by")
    by_kind = {kind: [entry for entry in entries if entry.kind == kind] for kind in KINDS}
    for kind, of_kind in sorted(by_kind.items(), key=lambda pair: -sum(entry.size for entry in pair[1])):
        if not of_kind:
            continue
        latest = max(entry.used for entry in of_kind)
        size = sum(entry.size for entry in of_kind)
        again = "computing" if kind in COMPUTED else "fetching"
        table.add_row(f"{kind} ({KINDS[kind]})", str(len(of_kind)), shown(size), _date(latest), again)
        for entry in reversed(of_kind if each else []):
            busy = "in use" if entry.in_use else ""
            table.add_row(f"  {entry.path.name}", "", shown(entry.size), _date(entry.used), busy)
    table.add_section()
    table.add_row("all", str(len(entries)), shown(sum(entry.size for entry in entries)), "", "")
    output.print(table)


def _date(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def _days(given: str) -> float:
    try:
        days = float(given)
    except ValueError:
        days = -1.0
    if not 0 <= days < 1e6:
        raise BadInput(f"--older-than {given} is no number of days; give one such as 30.")
    return days


def _bytes(given: str) -> int:
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,9})?)\s*([kmgt]?)(?:i?b)?", given.strip().lower(), re.ASCII)
    if match is None:
        raise BadInput(f"--max-size {given} is no size; give one such as 500MB or 2GB.")
    return round(float(match[1]) * UNITS[match[2]])

"""Options of commands that choose learning rates: whether, and from which."""

from __future__ import annotations

import argparse
import math

from transfer_parity.shared.commands.parser import Parser
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.experiments import tuning


def add(parser: Parser, described: str, *, default: bool) -> None:
    """The options ``--tune`` and ``--rates``.

    Args:
        parser: of the command.
        described: what ``--tune`` does.
        default: whether rates are chosen unless that is said.
    """
    parser.add_argument("--tune", action=argparse.BooleanOptionalAction, default=default, help=described)
    parser.add_argument(
        "--rates",
        nargs="+",
        type=float,
        metavar="X",
        help="rates to choose from, as multiples of the recipe's (default: "
        f"{' '.join(f'{each:g}' for each in tuning.FACTORS)})",
    )


def factors(options: argparse.Namespace) -> tuple[float, ...]:
    """The grid of rates, as multiples of the recipe's; none if no rate is to be chosen.

    Raises:
        BadInput: there is nothing to choose from, or it is not to be done.
    """
    if options.rates is None:
        return tuning.FACTORS if options.tune else ()
    given = " ".join(f"{each:g}" for each in options.rates)
    if not options.tune:
        raise BadInput(f"--rates {given}: without --tune no rate is chosen; add it, or leave out --rates.")
    if any(not (math.isfinite(each) and each > 0) for each in options.rates) or len(set(options.rates)) < 2:
        raise BadInput(f"--rates {given}: give at least two different multiples of the recipe's rate, all above 0.")
    return tuple(options.rates)

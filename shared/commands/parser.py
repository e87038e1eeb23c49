"""The command line's own manners: one sentence about a mistake, and options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from shared.cache import VARIABLE
from shared.errors import BadInput, did_you_mean


class Parser(argparse.ArgumentParser):
    """An argument parser that says in one sentence what is wrong."""

    def error(self, message: str) -> NoReturn:
        """Raise the message as BadInput, which is printed like all other mistakes."""
        raise BadInput(f"{message}; see --help.")

    def read(self, arguments: list[str]) -> argparse.Namespace:
        """The options, or the nearest known one if one is not known.

        Raises:
            BadInput: an option is unknown, incomplete or of the wrong kind.
        """
        options, unknown = self.parse_known_args(arguments)
        if unknown:
            known = [option for action in self._actions for option in action.option_strings]
            raise BadInput(f"unknown option {unknown[0]!r}; {did_you_mean(unknown[0], known)}")
        return options

    def add_cache_dir(self, group: argparse._ArgumentGroup | None = None) -> None:
        """Where fetched files are kept."""
        kept = f"where fetched files are kept (default: ${VARIABLE}, or the user's cache)"
        (group or self).add_argument("--cache-dir", metavar="DIR", help=kept)

    def add_output_dir(self, where: str, group: argparse._ArgumentGroup | None = None) -> None:
        """Where results go."""
        (group or self).add_argument(
            "--output-dir", type=Path, metavar="DIR", help=f"where results go (default: {where})"
        )

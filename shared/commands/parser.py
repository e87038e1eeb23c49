"""The command line's own manners: one sentence about a mistake, and options that several commands share."""

from __future__ import annotations

import argparse
import typing
from pathlib import Path
from typing import Any, NoReturn

from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.recipe_files import literal_choices
from transfer_parity.shared.core.cache import VARIABLE
from transfer_parity.shared.core.errors import BadInput, did_you_mean


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

    def add_recipe_option(self, key: str, group: argparse._ArgumentGroup | None = None) -> None:
        """One field of the recipe as an option; the recipe checks values, so files and options get the same words."""
        field = Recipe.model_fields[key]
        option, add = "--" + key.replace("_", "-"), (group or self).add_argument
        described = str(field.description)
        if field.default is not None:
            described += f" (default: {_shown(field.default)})"
        choices = literal_choices(key)
        if isinstance(field.default, bool):
            add(option, action=argparse.BooleanOptionalAction, default=None, help=described)
        elif isinstance(field.default, tuple):
            add(option, nargs="+", metavar="N" if key == "shots" else "NAME", help=described)
        else:
            words = choices and key != "finetune_stages"
            add(option, metavar="{" + ",".join(choices) + "}" if words else _metavar(field.annotation), help=described)

    def add_cache_dir(self, group: argparse._ArgumentGroup | None = None) -> None:
        """Where fetched files are kept."""
        kept = f"where fetched files are kept (default: ${VARIABLE}, or the user's cache)"
        (group or self).add_argument("--cache-dir", metavar="DIR", help=kept)

    def add_jobs(self) -> None:
        """How much of a grid runs beside each other."""
        kept = "processes at the same time (default: one a core, or fewer of several threads)"
        self.add_argument("--jobs", type=int, metavar="N", help=kept)

    def add_tensorboard(self, group: argparse._ArgumentGroup | None = None) -> None:
        """Whether event files are written."""
        written = "also write loss and learning rate of every step as TensorBoard event files, into tensorboard/"
        (group or self).add_argument("--tensorboard", action="store_true", help=written)

    def add_output_dir(self, where: str, group: argparse._ArgumentGroup | None = None) -> None:
        """Where results go."""
        (group or self).add_argument(
            "--output-dir", type=Path, metavar="DIR", help=f"where results go (default: {where})"
        )


def at_least(options: argparse.Namespace, **least: int) -> None:
    """Check numbers that were given, or have a default; ``first_seed=0`` says what --first-seed has to be at least.

    Raises:
        BadInput: one is too small.
    """
    for name, smallest in least.items():
        value = getattr(options, name)
        if value is not None and value < smallest:
            raise BadInput(f"--{name.replace('_', '-')} {value} is too small; give {smallest} or more.")


def _metavar(annotation: Any) -> str:
    """What stands for a value in the help: a whole number, a number, or a word."""
    kinds = {annotation, *typing.get_args(annotation)}
    return "N" if int in kinds else "X" if float in kinds else "NAME"


def _shown(default: Any) -> str:
    return " ".join(str(part) for part in default) if isinstance(default, tuple) else str(default)

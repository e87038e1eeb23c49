"""The command line's own manners: one sentence about a mistake, and options that several commands share."""

from __future__ import annotations

import argparse
import typing
from collections.abc import Mapping
from typing import Any, NoReturn

from transfer_parity.shared.contract import strategy_defaults
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.recipe_files import literal_choices
from transfer_parity.shared.core import paths
from transfer_parity.shared.core.cache import VARIABLE
from transfer_parity.shared.core.errors import BadInput, did_you_mean
from transfer_parity.shared.core.text import brief


class Parser(argparse.ArgumentParser):
    """An argument parser that says in one sentence what is wrong.

    Args:
        commands: names and what they do, which --help lists before everything else.
    """

    def __init__(self, *, commands: Mapping[str, str] | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self._listed: argparse.ArgumentParser | None = None
        if commands:
            # Neither options nor arguments: the one door has taken a command's name away before anything is parsed.
            self._listed = argparse.ArgumentParser(usage=argparse.SUPPRESS, add_help=False, prefix_chars="\0")
            group = self._listed.add_argument_group("commands", "compare.py COMMAND --help says more about each")
            for name, line in commands.items():
                group.add_argument(name, help=line)

    def format_help(self) -> str:
        """What --help prints: the commands first."""
        described = super().format_help()
        if self._listed is None:
            return described
        usage, paragraph, rest = described.partition("\n\n")
        return f"{usage}\n\n{self._listed.format_help()}\n{rest}" if paragraph else described

    def error(self, message: str) -> NoReturn:
        """Raise the message as BadInput, which is printed like all other mistakes."""
        # It may quote what was given, whatever its length.
        shown = message if len(message) <= 300 else f"{message[:200]}...{message[-60:]}"
        raise BadInput(f"{shown}; see --help.")

    def read(self, arguments: list[str]) -> argparse.Namespace:
        """The options, or the nearest known one if one is not known.

        Raises:
            BadInput: an option is unknown, incomplete or of the wrong kind.
        """
        options, unknown = self.parse_known_args(arguments)
        if unknown and not unknown[0].startswith("-"):
            words = [word for word in unknown if not word.startswith("-")]
            raise BadInput(
                f"{' and '.join(map(brief, words[:3]))} {'is' if len(words) == 1 else 'are'} not expected here; leave "
                f"{'it' if len(words) == 1 else 'them'} out, or put quotes around a name with spaces."
            )
        if unknown:
            known = [option for action in self._actions for option in action.option_strings]
            raise BadInput(f"unknown option {unknown[0]!r}; {did_you_mean(unknown[0], known)}")
        return options

    def add_recipe_option(
        self, key: str, group: argparse._ArgumentGroup | None = None, stands_in: object | None = None
    ) -> None:
        """One field of the recipe as an option; the recipe checks values, so files and options get the same words.

        Args:
            key: of the recipe.
            group: in which it is listed.
            stands_in: the command's own default, if it has one.
        """
        field = Recipe.model_fields[key]
        option, add = "--" + key.replace("_", "-"), (group or self).add_argument
        described = str(field.description)
        if stands_in is not None:
            described = f"{described.partition(' (default')[0]} (default: {stands_in})"
        elif field.default is not None:
            described += f" (default: {_shown(field.default)}{strategy_defaults.in_words(key)})"
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

    def add_csv(self, group: argparse._ArgumentGroup | None = None) -> None:
        """Whether a line for every training run is added to a table."""
        written = "also add a line for every training run to this CSV file"
        (group or self).add_argument("--csv", type=paths.expanded, metavar="FILE", help=written)

    def add_mlflow(self, group: argparse._ArgumentGroup | None = None) -> None:
        """Whether training runs are recorded with MLflow."""
        written = "also record every training run with MLflow, where MLFLOW_TRACKING_URI says"
        (group or self).add_argument("--mlflow", action="store_true", help=written)

    def add_output_dir(self, where: str, group: argparse._ArgumentGroup | None = None) -> None:
        """Where results go."""
        (group or self).add_argument(
            "--output-dir", type=paths.expanded, metavar="DIR", help=f"where results go (default: {where})"
        )


def _most(key: str) -> int | None:
    """The largest value of a field of the recipe."""
    bounds = [each.le for each in Recipe.model_fields[key].metadata if hasattr(each, "le")]
    return int(bounds[0]) if bounds else None


#: The largest numbers of options that are no fields of the recipe where they stand; as fields they have the same.
MOST = {key: most for key in Recipe.model_fields if (most := _most(key)) is not None} | {
    "first_seed": 2**31 - 1,
    "jobs": 1024,
}


def at_least(options: argparse.Namespace, **least: int) -> None:
    """Check numbers that were given, or have a default; ``first_seed=0`` says what --first-seed has to be at least.

    Raises:
        BadInput: one is too small, or larger than ``MOST``.
    """
    for name, smallest in least.items():
        value = getattr(options, name)
        if value is not None and value < smallest:
            raise BadInput(f"--{name.replace('_', '-')} {value} is too small; give {smallest} or more.")
        if value is not None and value > (most := MOST.get(name, value)):
            raise BadInput(f"--{name.replace('_', '-')} {brief(value)} is too large; give {most} or less.")


def _metavar(annotation: Any) -> str:
    """What stands for a value in the help: a whole number, a number, or a word."""
    kinds = {annotation, *typing.get_args(annotation)}
    return "N" if int in kinds else "X" if float in kinds else "NAME"


def _shown(default: Any) -> str:
    return " ".join(str(part) for part in default) if isinstance(default, tuple) else str(default)

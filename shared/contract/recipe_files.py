"""Recipes from TOML files and the command line, and one sentence about what is wrong with them."""

from __future__ import annotations

import re
import tomllib
import typing
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from transfer_parity.shared.contract import strategy_defaults
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.core.errors import BadInput, did_you_mean
from transfer_parity.shared.core.text import brief

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def field_names() -> list[str]:
    """The recipe's keys, in order."""
    return list(Recipe.model_fields)


def read(source: str | None, overrides: dict[str, Any]) -> Recipe:
    """Read a recipe from a TOML file and apply the command line's values on top.

    Args:
        source: a path, the name of a file in ``recipes/`` (with or without ``.toml``), or None for the defaults.
        overrides: recipe keys and their values; None means not given.

    Raises:
        BadInput: the file is missing or is not TOML, or a key or a value is not valid.
    """
    values, where = load(source)
    if "strategies" in values:
        raise BadInput(f"{where} is the recipe of a study; run it with compare.py study.")
    given = {key: value for key, value in overrides.items() if value is not None}
    return validated({**values, **given}, where, given)


def load(source: str | None) -> tuple[dict[str, Any], str]:
    """What a TOML file says, with a name if it gives none, and where that stands, for messages.

    Args:
        source: as for ``read``.

    Raises:
        BadInput: there is no such file, it cannot be read, or it is no TOML.
    """
    if source is None:
        return {}, "the command line"
    path = find(source)
    try:
        # With or without the byte-order mark that some editors write.
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror or error}); make it readable.") from None
    except RecursionError:
        raise BadInput(f"{path} is not a readable TOML recipe (nested too deeply); mend the file.") from None
    except ValueError as error:
        # Besides errors of TOML and UTF-8, a number of more digits than Python reads.
        raise BadInput(f"{path} is not a readable TOML recipe ({error}); mend the file.") from None
    return {"name": re.sub(r"[^\w.-]+", "-", path.stem), **values}, str(path)


def validated(values: dict[str, Any], where: str, overrides: Collection[str] = ()) -> Recipe:
    """A recipe from plain values, or one sentence about the first thing that is wrong with them.

    Keys that are not given have the defaults of the recipe's strategy (``strategy_defaults``).

    Args:
        values: recipe keys and values.
        where: where they come from, for the message.
        overrides: keys that come from the command line instead.

    Raises:
        BadInput: naming the key, the value and the nearest valid one.
    """
    for key in values:
        if key not in Recipe.model_fields:
            raise BadInput(f"{where}: unknown recipe key {brief(key)}; {did_you_mean(key[:100], field_names())}")
    try:
        recipe = Recipe.model_validate(strategy_defaults.completed(values))
    except ValidationError as error:
        raise BadInput(_sentence(error, where, overrides)) from None
    for key in values:
        if key not in overrides:
            _check_kind(key, values[key], where)
    return recipe


def find(source: str, commands: Collection[str] = ()) -> Path:
    """The file that a path means, or the name of one in ``recipes/``.

    Args:
        source: as for ``read``.
        commands: what else the word may have been meant for, where one of them could stand.

    Raises:
        BadInput: there is none.
    """
    for path in (Path(source), RECIPES / source, RECIPES / f"{source}.toml"):
        if path.is_file():
            return path
    if Path(source).is_dir():
        raise BadInput(f"{source} is a folder and no recipe; if it holds images, give --data {source}.")
    known = [*commands, *sorted(path.stem for path in RECIPES.glob("*.toml"))]
    nearest = did_you_mean(Path(source).stem, dict.fromkeys(known))
    raise BadInput(f"there is no command and no recipe file {source!r}; {nearest}")


def _check_kind(key: str, value: Any, where: str) -> None:
    """Refuse truth values and words in place of numbers, which pydantic would take for numbers.

    On the command line everything is a word; a file can tell them apart.
    """
    kinds, choices = _kinds(Recipe.model_fields[key].annotation), literal_choices(key)
    for each in value if isinstance(value, list | tuple) else [value]:
        if isinstance(each, bool) and bool not in kinds:
            raise BadInput(f"{where}: {key} = {brief(value)} is not valid: give {_wanted(kinds, choices)}.")
        if isinstance(each, str) and str not in kinds and each not in choices and kinds & {int, float, bool}:
            raise BadInput(
                f"{where}: {key} = {brief(value)} is not valid: give {_wanted(kinds, choices)}, without quotes."
            )


def _kinds(annotation: Any) -> set[Any]:
    """The types in an annotation, however they are combined."""
    parts = typing.get_args(annotation)
    if typing.get_origin(annotation) is Literal or not parts:
        return {annotation}
    return set().union(*map(_kinds, parts))


def _wanted(kinds: set[Any], choices: list[str]) -> str:
    what = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return " or ".join([words for kind, words in what.items() if kind in kinds] + choices)


def _sentence(error: ValidationError, where: str, overrides: Collection[str]) -> str:
    details = error.errors()[0]
    if not details["loc"]:
        return f"{where}: {_reason(details)}."
    key = str(details["loc"][0])
    where = "the command line" if key in overrides else where
    choices = literal_choices(key)
    value = details["input"]
    if details["type"] == "literal_error" and isinstance(value, str) and choices:
        return f"{where}: {key} = {brief(value)} is not known; {did_you_mean(value[:100], choices)}"
    if details["type"] == "int_parsing":
        return f"{where}: {key} = {brief(value)} is not valid: give {' or '.join(['a whole number', *choices])}."
    return f"{where}: {key} = {brief(value)} is not valid: {_reason(details)}."


def _reason(details: Any) -> str:
    reason = str(details["msg"]).removeprefix("Value error, ")
    return (reason[:1].lower() + reason[1:]).rstrip(".")


def literal_choices(key: str) -> list[str]:
    """The words a recipe key accepts, or an empty list if it does not take words from a fixed list."""
    found: list[str] = []

    def collect(annotation: Any) -> None:
        if typing.get_origin(annotation) is Literal:
            found.extend(str(choice) for choice in typing.get_args(annotation))
        else:
            for part in typing.get_args(annotation):
                collect(part)

    collect(Recipe.model_fields[key].annotation)
    return found

"""Recipes from TOML files and the command line, and one sentence about what is wrong with them."""

from __future__ import annotations

import re
import tomllib
import typing
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.core.errors import BadInput, did_you_mean

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
    path = _find(source)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise BadInput(f"{path} is not a readable TOML recipe ({error}); mend the file.") from None
    return {"name": re.sub(r"[^\w.-]+", "-", path.stem), **values}, str(path)


def validated(values: dict[str, Any], where: str, overrides: Collection[str] = ()) -> Recipe:
    """A recipe from plain values, or one sentence about the first thing that is wrong with them.

    Args:
        values: recipe keys and values.
        where: where they come from, for the message.
        overrides: keys that come from the command line instead.

    Raises:
        BadInput: naming the key, the value and the nearest valid one.
    """
    for key in values:
        if key not in Recipe.model_fields:
            raise BadInput(f"{where}: unknown recipe key {key!r}; {did_you_mean(key, field_names())}")
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise BadInput(_sentence(error, where, overrides)) from None


def _find(source: str) -> Path:
    for path in (Path(source), RECIPES / source, RECIPES / f"{source}.toml"):
        if path.is_file():
            return path
    known = sorted(path.stem for path in RECIPES.glob("*.toml"))
    raise BadInput(f"there is no command and no recipe file {source!r}; {did_you_mean(Path(source).stem, known)}")


def _sentence(error: ValidationError, where: str, overrides: Collection[str]) -> str:
    details = error.errors()[0]
    if not details["loc"]:
        return f"{where}: {_reason(details)}."
    key = str(details["loc"][0])
    where = "the command line" if key in overrides else where
    choices = literal_choices(key)
    value = details["input"]
    if details["type"] == "literal_error" and isinstance(value, str) and choices:
        return f"{where}: {key} = {value!r} is not known; {did_you_mean(value, choices)}"
    if details["type"] == "int_parsing":
        return f"{where}: {key} = {value!r} is not valid: give {' or '.join(['a whole number', *choices])}."
    return f"{where}: {key} = {value!r} is not valid: {_reason(details)}."


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

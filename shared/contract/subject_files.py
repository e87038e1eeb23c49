"""Pairs of one's own from TOML files and keyword arguments, and one sentence about what is wrong with them."""

from __future__ import annotations

import datetime
import math
import re
import tomllib
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import BaseModel, ValidationError

from transfer_parity.shared.contract.rungs import RUNGS
from transfer_parity.shared.contract.subject import Input, Layout, Side, Subject, Training
from transfer_parity.shared.core.errors import BadInput, did_you_mean
from transfer_parity.shared.core.text import brief

#: The table that makes a TOML file that of a pair of one's own.
SIDES = "sides"
#: What else gives values, for messages.
COMMAND_LINE = "the command line"
#: By table, what it describes; of sides and inputs there is one for each name.
_TABLES: dict[str, type[BaseModel]] = {SIDES: Side, "inputs": Input, "training": Training}
_NAMED = (SIDES, "inputs")
#: The type of a value, in words.
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text, in quotes"}

Keys = tuple[str, ...]


def is_subject(path: str | Path) -> bool:
    """Whether this is a TOML file that describes a pair of one's own: it has a table ``[sides]``."""
    path = Path(path)
    try:
        return path.suffix.lower() == ".toml" and path.is_file() and SIDES in _loaded(path)
    except BadInput:
        return False


def read(path: str | Path, changes: Mapping[str, Any] | None = None, whose: str = COMMAND_LINE) -> tuple[Subject, Path]:
    """Read a pair of one's own, and put some values in place of the file's.

    Args:
        path: of the TOML file.
        changes: keys and values, None where nothing is changed; what a table says is changed key by key.
        whose: who gives the changes, for messages.

    Returns:
        The pair, and the folder that its files are relative to, which is the file's.

    Raises:
        BadInput: there is no such file, it cannot be read, or a key or a value is not valid.
    """
    path = Path(path)
    values = _loaded(path)
    if SIDES not in values:
        raise BadInput(f"{path} has no [sides], which describe the two models; see docs/own-pair.md for a whole file.")
    return _changed({"name": _name_of(path), **values}, changes or {}, str(path), whose), path.parent


def made(values: Mapping[str, Any], whose: str) -> Subject:
    """A pair of keys and values, without a file.

    Args:
        values: as a file has them; None where the default stands.
        whose: who gives them, for messages.

    Raises:
        BadInput: a key is missing, or a key or a value is not valid.
    """
    given = {key: value for key, value in values.items() if value is not None}
    return _changed(given, {}, whose, whose)


def changed(subject: Subject, changes: Mapping[str, Any], whose: str) -> Subject:
    """A pair with some values in place of its own.

    Args:
        subject: the pair.
        changes: as for ``read``.
        whose: who gives them, for messages.

    Raises:
        BadInput: a key or a value is not valid.
    """
    return _changed(subject.model_dump(), changes, f"pair {subject.name}", whose)


def written(subject: Subject) -> str:
    """A pair as the TOML file that ``read`` makes it of; what is as by default is left out, but for the name."""
    values = subject.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    return tomli_w.dumps({"name": subject.name, **values})


def _loaded(path: Path) -> dict[str, Any]:
    try:
        # With or without the byte-order mark that some editors write.
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise BadInput(f"there is no file {path}; give the TOML file of a pair of one's own.") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror or error}); make it readable.") from None
    except RecursionError:
        raise BadInput(f"{path} is not readable TOML (nested too deeply); mend the file.") from None
    except ValueError as error:
        # Besides errors of TOML and UTF-8, a number of more digits than Python reads.
        raise BadInput(f"{path} is not readable TOML ({error}); mend the file.") from None


def _name_of(path: Path) -> str:
    return re.sub(r"[^\w.-]+", "-", path.stem)[:100]


def _changed(values: Mapping[str, Any], changes: Mapping[str, Any], where: str, whose: str) -> Subject:
    """A valid pair, or one sentence about the first thing that is wrong with it."""
    merged = _merged(values, changes)
    try:
        subject = Subject.model_validate(merged)
    except ValidationError as error:
        # What is not about one key has come with the changes if it is not there without them.
        blamed = whose if changes and _is_valid(values) else where
        raise BadInput(_sentence(error, changes, blamed, whose)) from None
    for keys, value in _not_kept(merged, subject.model_dump(), ()):
        place, wanted = whose if _has(changes, keys) else where, _WORDS[type(value)]
        raise BadInput(f"{place}: {_key(keys)} is not valid: give {wanted}.")
    rungs: dict[Keys, str] = {("until",): subject.until} | {("equal", each): each for each in subject.equal}
    for keys, rung in rungs.items():
        if rung not in RUNGS:
            place = whose if _has(changes, keys) else where
            raise BadInput(f"{place}: {_key(keys)}: {rung!r} is no rung of such a pair; {did_you_mean(rung, RUNGS)}")
    for name, side in subject.sides.items():
        for keys, value in _leaves(side.arguments, (SIDES, name, "arguments")):
            if isinstance(value, datetime.date | datetime.time):
                raise BadInput(f"{where}: {_key(keys)} is a date or time, which no process can be given; quote it.")
            if isinstance(value, float) and not math.isfinite(value):
                raise BadInput(f"{where}: {_key(keys)} = {value} cannot be given to a process; give a finite number.")
    return subject


def _is_valid(values: Mapping[str, Any]) -> bool:
    try:
        Subject.model_validate(values)
    except ValidationError:
        return False
    return True


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(values)
    for key, value in changes.items():
        if value is None:
            continue
        old = found.get(key)
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        found[key] = _merged(old, value) if both and old is not None else value
    return found


def _leaves(value: Any, keys: Keys) -> Iterator[tuple[Keys, Any]]:
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _leaves(each, (*keys, str(name)))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for number, each in enumerate(value):
            yield from _leaves(each, (*keys, str(number)))
    else:
        yield keys, value


def _not_kept(given: Any, found: Any, keys: Keys) -> Iterator[tuple[Keys, Any]]:
    """Truth values and words that were taken for numbers, and numbers that were taken for truth values."""
    if isinstance(given, Mapping) and isinstance(found, Mapping):
        for name, each in given.items():
            yield from _not_kept(each, found.get(name), (*keys, str(name)))
    elif isinstance(given, list | tuple) and isinstance(found, list | tuple):
        for one, other in zip(given, found, strict=False):
            yield from _not_kept(one, other, keys)
    # A whole number is a number, too.
    elif isinstance(found, bool | int | float) and (
        isinstance(given, bool) != isinstance(found, bool) or isinstance(given, str)
    ):
        yield keys, found


def _sentence(error: ValidationError, changes: Mapping[str, Any], where: str, whose: str) -> str:
    details = error.errors()[0]
    keys = tuple(str(each) for each in details["loc"] if each != "[key]")
    place, value = whose if _has(changes, keys) else where, details["input"]
    if details["type"] == "extra_forbidden":
        known = did_you_mean(keys[-1][:100], _model(keys[:-1]).model_fields)
        return f"{place}: unknown key {brief(_key(keys))}; {known}"
    if details["type"] == "missing":
        described = _model(keys[:-1]).model_fields[keys[-1]].description
        return f"{place}: {_key(keys)} is missing; give it ({described})."
    if not keys:
        return f"{place}: {_ended(_reason(details))}"
    if details["type"] == "literal_error" and isinstance(value, str):
        known = did_you_mean(value[:100], _choices(keys))
        return f"{place}: {_key(keys)} = {brief(value)} is not known; {known}"
    if details["type"] in ("dict_type", "model_type"):
        return f"{place}: {_key(keys)} = {brief(value)} is not valid: give a table."
    if isinstance(value, Mapping):
        return f"{place}: {_key(keys)}: {_ended(_reason(details))}"
    return f"{place}: {_key(keys)} = {brief(value)} is not valid: {_ended(_reason(details))}"


def _has(changes: Mapping[str, Any], keys: Keys) -> bool:
    """Whether changes give a value at a place, or the table around it."""
    found: Any = changes
    for key in keys:
        if not isinstance(found, Mapping):
            return True
        if found.get(key) is None:
            return False
        found = found[key]
    return bool(keys)


def _model(keys: Keys) -> type[BaseModel]:
    """What describes the table at a place."""
    if len(keys) > 3 and keys[0] == SIDES and keys[2] == "layouts":
        return Layout
    return _TABLES.get(keys[0], Subject) if keys else Subject


def _choices(keys: Keys) -> list[str]:
    """The words that a key takes: fields of a table, or names of rungs."""
    if keys[0] in ("until", "equal"):
        return list(RUNGS)
    above = keys[:-1]
    annotation = _model(above).model_fields[keys[-1]].annotation
    assert typing.get_origin(annotation) is Literal
    return [str(each) for each in typing.get_args(annotation)]


def _key(keys: Keys) -> str:
    return ".".join(keys)


def _reason(details: Any) -> str:
    reason = str(details["msg"]).removeprefix("Value error, ")
    return reason[:1].lower() + reason[1:]


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith(("?", ".")) else f"{sentence}."

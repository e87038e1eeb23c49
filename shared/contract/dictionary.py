"""The dictionary: what one framework calls a thing, what the other calls it, and what differs, in two languages.

The source is ``dictionary/``, a file for each topic. ``docs/dictionary.md`` and ``docs/zh/dictionary.md`` are made of
it, and ``compare.py explain`` prints it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from transfer_parity.shared.contract.wings import WINGS, Framework
from transfer_parity.shared.core.errors import normalised

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)

_FOLDER = Path(__file__).with_suffix("")
#: Files of the folder, in the order in which a reader wants them.
TOPICS = ("tensors", "layers", "models", "training", "losses", "optimizers", "data", "files", "running")
#: Chinese has no space behind its own punctuation, where a line may end.
_FULL_WIDTH = tuple("\uff0c\u3002\uff1a\uff1b\u3001\uff09")


@dataclass(frozen=True)
class Entry:
    """One thing.

    Attributes:
        names: by wing, what its framework calls it; the first is the usual name.
        also: other words under which it is found.
        text: by language, what differs. Code stands between backticks.
        switches: the known differences that treat it (``shared/contract/switches.py``).
        wings: where it stands in the wings, as ``module.function`` or ``module.Class.method``.
        numbers: numbers that the text says, each with the places in the libraries that have it:
            ``path function parameter`` (its default), ``path function`` (in its code) or ``path NAME`` (a constant).
    """

    names: Mapping[Framework, tuple[str, ...]]
    also: tuple[str, ...]
    text: Mapping[Language, str]
    switches: tuple[str, ...]
    wings: tuple[str, ...]
    numbers: Mapping[str, tuple[str, ...]]

    @property
    def usual(self) -> tuple[str, ...]:
        """The usual name in each framework, in the order of ``WINGS``."""
        return tuple(self.names[each.identifier][0] for each in WINGS)

    @property
    def words(self) -> tuple[str, ...]:
        """All words under which it is found, as they are written."""
        return (*dict.fromkeys(name for names in self.names.values() for name in names), *self.also)


@dataclass(frozen=True)
class Topic:
    """Entries that belong together.

    Attributes:
        title: by language.
        entries: in the order in which they are told.
    """

    title: Mapping[Language, str]
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Page:
    """What stands around the entries, in one language.

    Attributes:
        title, introduction, switches, versions: of the document; ``{count}``, ``{differences}`` and ``{link}`` are to
            be filled in.
        switch, place, called: what stands in front of switches, of places in the wings, and of names, by wing.
        more: what to do next, under the list of all entries.
    """

    title: str
    introduction: str
    switches: str
    versions: str
    switch: str
    place: str
    more: str
    called: Mapping[Framework, str]


@cache
def page(language: Language) -> Page:
    """What stands around the entries."""
    table = _load(_FOLDER / "page.toml")[language]
    texts = {name: "".join(_joined(text)) for name, text in table.items() if isinstance(text, str)}
    return Page(**texts, called=table["called"])


@cache
def topics() -> tuple[Topic, ...]:
    """The whole dictionary."""
    return tuple(_read(_FOLDER / f"{name}.toml") for name in TOPICS)


def entries() -> list[Entry]:
    """All entries, in order."""
    return [entry for topic in topics() for entry in topic.entries]


def find(word: str) -> list[Entry]:
    """The entries of a word, whatever its case and punctuation; none if there is no such word.

    A module's name in front may be given or left out: ``nn.Linear``, ``torch.nn.Linear`` and ``linear`` are the same.
    A word that is the name of something, such as ``BatchNormalization``, does not also mean the entries about its
    arguments.
    """
    wanted = dict.fromkeys(filter(None, map(normalised, (word, _last(word)))))
    return next((index[key] for key in wanted for index in _indices() if key in index), [])


@cache
def _indices() -> tuple[dict[str, list[Entry]], ...]:
    """Entries by what finds them, and by what finds them if nothing else has that name."""
    indices: tuple[dict[str, list[Entry]], ...] = ({}, {})
    for entry in entries():
        for index, keys in zip(indices, (_keys(entry), _heads(entry)), strict=True):
            for key in keys:
                index.setdefault(key, []).append(entry)
    return indices


def _keys(entry: Entry) -> set[str]:
    """Its words, and what stands behind the last full stop of each."""
    return {normalised(form) for word in entry.words for form in (word, _last(word))}


def _heads(entry: Entry) -> set[str]:
    """Its words without arguments and values."""
    return {normalised(_last(re.split("[(=]", word)[0])) for word in entry.words}


def _last(word: str) -> str:
    """A name without the modules in front of it. What looks like a suffix of a file, or a number, has none."""
    return re.sub(r"^(?:\w+\.)+(?=[A-Za-z_]\w*)", "", word)


def _read(path: Path) -> Topic:
    document = _load(path)
    return Topic(document["title"], tuple(map(_entry, document["entry"])))


def _load(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return tomllib.load(file)


def _entry(table: Mapping[str, Any]) -> Entry:
    return Entry(
        names={each.identifier: tuple(table[each.identifier]) for each in WINGS},
        also=tuple(table.get("also", ())),
        text={language: "".join(_joined(table[language])) for language in LANGUAGES},
        switches=tuple(table.get("switches", ())),
        wings=tuple(table.get("wings", ())),
        numbers={number: tuple(places) for number, places in table.get("numbers", {}).items()},
    )


def _joined(text: str) -> Iterator[str]:
    """The lines of a text as one."""
    lines = text.strip().splitlines()
    for line in lines[:-1]:
        yield line if line.endswith(_FULL_WIDTH) else f"{line} "
    yield lines[-1]

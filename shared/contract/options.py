"""What else there is to say about a field of the recipe: which commands offer it, and what depends on it.

Every field carries its ``Option`` as metadata, so that a new field is written in one place.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from pydantic.fields import FieldInfo

#: Headings of the default command's --help, in its order.
Group = Literal["data", "model", "preprocessing and augmentation", "training", "comparison", "speed"]
#: Commands with options that are fields of the recipe. The default one, compare, offers all of them.
Command = Literal["compare", "study", "attribute", "rank"]


@dataclass(frozen=True)
class Option:
    """One field as an option of the command line.

    Attributes:
        group: heading under which the default command offers it.
        commands: which others offer it, too.
        behind: by command, the key that it follows in that command's --help. Without one it stands there as it does in
            the recipe.
        common: whether all strategies of a study have the same value.
        fixed: its value in every study, which leaves no choice; None if there is one.
    """

    group: Group
    commands: frozenset[Command] = frozenset()
    behind: Mapping[Command, str] = field(default_factory=dict)
    common: bool = False
    fixed: Any = None


class Options:
    """The options of all fields, by key.

    Args:
        fields: of the recipe's model.

    Attributes:
        common: keys that all strategies of a study share.
        fixed: keys and values that are the same in every study.

    Raises:
        TypeError: a field has no ``Option``, or follows one that its command does not offer.
    """

    def __init__(self, fields: Mapping[str, FieldInfo]) -> None:
        self._options = {key: _option(key, each) for key, each in fields.items()}
        self.common = frozenset(key for key, each in self._options.items() if each.common)
        self.fixed = {key: each.fixed for key, each in self._options.items() if each.fixed is not None}
        self._keys: dict[Command, list[str]] = {command: self._ordered(command) for command in get_args(Command)}

    def of(self, command: Command) -> list[str]:
        """Keys that a command offers, in the order of its --help."""
        return list(self._keys[command])

    def grouped(self) -> dict[Group, list[str]]:
        """The default command's keys by heading, in the order of its --help."""
        return {
            group: [key for key in self._keys["compare"] if self._options[key].group == group]
            for group in get_args(Group)
        }

    def _ordered(self, command: Command) -> list[str]:
        offered = {key: each for key, each in self._options.items() if command == "compare" or command in each.commands}
        followers: dict[str | None, list[str]] = defaultdict(list)
        for key, each in offered.items():
            followers[each.behind.get(command)].append(key)

        def walk(keys: Iterable[str]) -> Iterator[str]:
            for key in keys:
                yield key
                yield from walk(followers[key])

        order = list(walk(followers[None]))
        if lost := set(offered) - set(order):
            raise TypeError(f"{command}: {', '.join(sorted(lost))} would stand behind what is no option of the command")
        return order


def _option(key: str, described: FieldInfo) -> Option:
    found = [each for each in described.metadata if isinstance(each, Option)]
    if len(found) != 1:
        raise TypeError(f"the recipe's field {key} needs one Option in its annotation, and has {len(found)}")
    return found[0]

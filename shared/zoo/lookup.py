"""Pairs by name."""

from __future__ import annotations

from collections.abc import Sequence

from transfer_parity.shared.core.errors import BadInput, did_you_mean, normalised
from transfer_parity.shared.zoo.pair import Pair
from transfer_parity.shared.zoo.pairs import PAIRS


def find_pair(name: str) -> Pair:
    """The pair of a name in Keras's or torchvision's spelling, whatever its case.

    Raises:
        BadInput: no pair has this name.
    """
    wanted = normalised(name)
    for pair in PAIRS:
        if wanted in (normalised(pair.name), normalised(pair.torchvision_name)):
            return pair
    raise BadInput(f"unknown backbone {name!r}; {did_you_mean(name, [pair.name for pair in PAIRS])}")


def select_pairs(names: Sequence[str]) -> tuple[Pair, ...]:
    """The pairs of some names, each once, in the order of the names; all pairs if the only name is "all".

    Raises:
        BadInput: no pair has one of the names, or there are others beside "all".
    """
    if "all" in [name.lower() for name in names]:
        if len(set(map(str.lower, names))) > 1:
            raise BadInput("--backbone all is every backbone already; leave the other names out.")
        return PAIRS
    return tuple(dict.fromkeys(find_pair(name) for name in names))

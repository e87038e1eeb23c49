"""Defaults that differ by strategy, so that each one works as it comes; the same for every command.

They stand in for keys that neither a recipe nor the command line gives; what is given always wins. A key without an
entry here has the recipe's own default (``recipe.py``), which is a linear probe's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transfer_parity.shared.contract.methods import METHODS

#: By strategy, recipe keys and values; ``methods.py`` says why they are what they are.
BY_STRATEGY: dict[str, dict[str, Any]] = {name: dict(method.defaults) for name, method in METHODS.items()}

#: The optimizer of strategies whose defaults name none.
OPTIMIZER = "adam"


def completed(values: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's keys and values, with the defaults of its strategy for those that are not given.

    A rate belongs to an optimizer: where another one is given, the strategy's rate does not stand in.

    Args:
        values: as a file or the command line gives them; whatever is wrong with them stays so.
    """
    strategy = values.get("strategy", "linear_probe")
    defaults = dict(BY_STRATEGY.get(strategy, {})) if isinstance(strategy, str) else {}
    usual = defaults.get("optimizer", OPTIMIZER)
    if values.get("optimizer", usual) != usual:
        defaults.pop("learning_rate", None)
    if values.get("image_features") is not None:
        # There is no backbone beside them that a control could leave untrained.
        defaults["control"] = False
    return {**defaults, **values}


def in_words(key: str) -> str:
    """Where the default of a key differs and what it is there, to stand behind it: "; scratch: 0.05"; or nothing."""
    return "".join(f"; {strategy}: {each[key]}" for strategy, each in BY_STRATEGY.items() if key in each)

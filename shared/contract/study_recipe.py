"""What a study compares: one recipe for each strategy, alike in everything that makes their results comparable."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import tomli_w

from transfer_parity.shared.contract import recipe_files
from transfer_parity.shared.contract.methods import VARIANTS
from transfer_parity.shared.contract.recipe import OPTIONS, Recipe
from transfer_parity.shared.core import paths
from transfer_parity.shared.core.errors import BadInput, did_you_mean

#: The strategies of a study whose recipe names none, each with the defaults of its kind (``strategy_defaults``), as
#: everywhere. scratch is what the others are compared with.
DEFAULTS: dict[str, dict[str, Any]] = {
    name: VARIANTS[name] for name in ("scratch", "linear_probe", "ridge", "finetune", "finetune_all")
}
BASELINE = "scratch"
#: Equal conditions: what every strategy of a study has unless the recipe or the command line says otherwise. Those that
#: train all of a network in every step set the size and the budget. Reports say what is not alike
#: (``experiments/conditions.py``).
CONDITIONS: dict[str, Any] = {"image_size": 128, "batch_size": 16, "epochs": 10}
#: What all strategies of a study have in common: the pictures, their division, and what pretrained weights there are.
COMMON = OPTIONS.common
#: A study has a baseline of its own, times nothing against the clock, and must give the same bits when it goes on.
FIXED = OPTIONS.fixed


#: What the rule of ``benchmarks/choose_rates.py`` has chosen on other images under these conditions
#: (``docs/strategy-rates.json``); a strategy that is not there has its kind's own rate.
RATES: dict[str, dict[str, Any]] = {
    "scratch": {"learning_rate": 1e-3},
    "finetune": {"learning_rate": 3e-5},
    "lp_ft": {"learning_rate": 1e-5},
    "lp_ft_all": {"learning_rate": 3e-4},
}


def read(
    source: str | None,
    overrides: dict[str, Any],
    chosen: Sequence[str] | None = None,
    conditions: Mapping[str, Any] = CONDITIONS,
) -> dict[str, Recipe]:
    """The recipes of a study by strategy, in order.

    A TOML file holds keys that all strategies share, and may have a table ``[strategies.NAME]`` for each of them with
    keys of its own.

    Args:
        source: a path, the name of a file in ``recipes/``, or None for the defaults.
        overrides: recipe keys and their values from the command line; None means not given. They go to all strategies.
        chosen: names of strategies; None means all.
        conditions: recipe keys and values of all strategies where nothing is given.

    Raises:
        BadInput: the file, a key, a value or a name is not valid.
    """
    common, where = recipe_files.load(source)
    # Without tables every strategy can be chosen by its name, the usual ones first, which are all where none is.
    tables = common.pop("strategies", None) or ({**DEFAULTS, **VARIANTS} if chosen else DEFAULTS)
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise BadInput(f"{where}: strategies is not a table of tables; write [strategies.NAME] and keys below it.")
    for name in chosen or ():
        if name not in tables:
            raise BadInput(f"--strategies {name}: there is no such strategy; {did_you_mean(name, tables)}")
    given = {key: value for key, value in overrides.items() if value is not None}
    if "data" in given and "name" not in given:
        # Other images are another study: its results may not replace those of the recipe's own images.
        given["name"] = _name_of(given["data"])
    found = {}
    for name, table in tables.items():
        if not re.fullmatch(r"[\w.-]+", name):
            raise BadInput(f"{where}: strategy {name!r} is no name for files; use letters, digits, '_', '-' and '.'.")
        for key in table:
            if key in COMMON or key in FIXED:
                raise BadInput(f"{where}: strategies.{name}: {key} is the same for all strategies; move or remove it.")
        if not chosen or name in chosen:
            # A rate belongs to an optimizer, and to the conditions under which it was chosen.
            is_kind = name in VARIANTS and VARIANTS[name].items() <= table.items()
            usual = conditions and is_kind and "optimizer" not in {**common, **table, **given}
            own = RATES.get(name, {}) if usual else {}
            values = {"name": "study", **conditions, **own, **common, **table, **given}
            found[name] = recipe_files.validated({**values, **FIXED}, f"{where} (strategy {name})", given)
    return found


def _name_of(data: str) -> str:
    """A data set's name, or a folder's own, as a part of a folder's name."""
    return re.sub(r"[^\w.-]+", "-", paths.expanded(data).resolve().name) or "study"


def as_toml(found: Mapping[str, Recipe]) -> str:
    """The recipes of a study as a file that ``read`` reads again: common keys, then a table for each strategy."""
    dumped = {name: recipe.given() for name, recipe in found.items()}
    first = next(iter(dumped.values()))
    common = {
        key: value
        for key, value in first.items()
        if key not in FIXED and (key in COMMON or all(each.get(key) == value for each in dumped.values()))
    }
    tables = {
        name: {key: value for key, value in values.items() if key not in common and key not in FIXED}
        for name, values in dumped.items()
    }
    return tomli_w.dumps({**common, "strategies": tables})

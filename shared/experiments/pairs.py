"""Pairs of defaults: which of the largest effects are run together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from transfer_parity.shared.contract.framework_defaults import Default
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.experiments.attribution_document import Effect

#: So many of the largest effects are paired: ten pairs at most.
LARGEST = 5


def largest(effects: Sequence[Effect], defaults: Sequence[Default]) -> list[list[Default]]:
    """The defaults behind the largest effects, each with its counterpart in another framework.

    A switch that costs both frameworks the same is one mistake, seen twice. Where each has a way of its own (first
    weights, order), there are two.

    Args:
        effects: measured ones of a strategy.
        defaults: all of that strategy.
    """
    by_label = {each.label: each for each in defaults}
    groups: dict[str, list[Default]] = {}
    for effect in sorted(effects, key=lambda each: -abs(each.best.accuracy.mean)):
        default = by_label[effect.label]
        alike = [each for each in effects if each.name == effect.name]
        own = sum(each.native for each in alike) > 1
        groups.setdefault(default.label if own else default.name, []).append(default)
    return list(groups.values())[:LARGEST]


def pairs(
    effects: Sequence[Effect], defaults: Sequence[Default], recipe: Recipe
) -> tuple[list[tuple[Default, Default]], dict[str, str]]:
    """Which of the largest effects can be had together in one framework, and why the others cannot.

    Where both frameworks have both, it is the one that does more of it by itself.

    Returns:
        The pairs, and reasons by the labels of the others.
    """
    found, left_out = [], {}
    for one, other in combinations(largest(effects, defaults), 2):
        candidates = [(a, b) for a in one for b in other if a.framework == b.framework]
        label = f"{one[0].label} + {other[0].label}"
        if not candidates:
            left_out[label] = "they run in different frameworks, so that one cannot change what the other does"
            continue
        pair = max(candidates, key=lambda each: each[0].native + each[1].native)
        if reason := _quarrel(*pair, recipe):
            left_out[f"{pair[0].label} + {pair[1].label}"] = reason
        else:
            found.append(pair)
    return found, left_out


def _quarrel(one: Default, other: Default, recipe: Recipe) -> str:
    """Why two defaults of a framework do not go together; nothing if they do."""
    if one.changes.keys() & other.changes.keys():
        return "they change the same key of the recipe"
    for first, second in ((one, other), (other, one)):
        if "weights" in first.changes and second.name in recipe.pair.aspects:
            return f"with other weights, {second.name} would mean the contrary"
    return ""

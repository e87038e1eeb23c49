"""Layers of the user's own that no rule fits: what to say about them before anything is climbed."""

from __future__ import annotations

import itertools
import math

from transfer_parity.shared.contract.inventory import Inventory
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.subjects.name_map import NameMap, Shape

#: Axes of which all orders are tried for an example, and parameters that a sentence tells.
MOST_AXES, TOLD = 4, 4


def refuse(names: NameMap, inventories: tuple[Inventory, Inventory], sides: tuple[str, str], file: str | None) -> None:
    """Make sure that no layer of the user's own was left over because nothing says how its parameters are laid out.

    Args:
        names: a map that was proposed.
        inventories: of the reference and the candidate.
        sides: their names.
        file: where the map was written, if it was.

    Raises:
        BadInput: one was, and the other side has parameters left over that may be its counterpart's.
    """
    left = (
        _shapes(inventories[0], names.left_over_reference),
        _shapes(inventories[1], names.left_over_candidate),
    )
    if not all(left):
        return
    for side, inventory in enumerate(inventories):
        for layer in inventory.layers:
            named = [f"{layer.name}.{role}" for role in layer.parameters]
            mine = {name: left[side][name] for name in named if name in left[side]}
            if layer.kind != "custom" or not mine:
                continue
            others = left[1 - side]
            advice = _advice(mine, others, side, sides[1], file or "the file that the key map names")
            raise BadInput(
                f"side {sides[side]}: {layer.name} ({', '.join(filter(None, (layer.class_name, layer.source)))}) is a "
                f"layer of your own, and no rule says which of {sides[1 - side]}'s parameters are its {_told(mine)}; "
                f"left over there: {_told(others)}; {advice}."
            )


def _shapes(inventory: Inventory, left: list[str]) -> dict[str, Shape]:
    every = {f"{layer.name}.{role}": shape for layer in inventory.layers for role, shape in layer.parameters.items()}
    return {name: every[name] for name in left}


def _told(shapes: dict[str, Shape]) -> str:
    told = ", ".join(f"{name} {shape}" for name, shape in list(shapes.items())[:TOLD])
    return told + (f" and {len(shapes) - TOLD} more" if len(shapes) > TOLD else "")


def _advice(mine: dict[str, Shape], others: dict[str, Shape], side: int, candidate: str, file: str) -> str:
    """The rule that the first parameter and one of its size need, or how to do without one."""
    both = ((name, other) for name in mine for other in others if math.prod(mine[name]) == math.prod(others[other]))
    for name, other in both:
        own, given, wanted = (other, others[other], mine[name]) if side == 0 else (name, mine[name], others[other])
        if given == wanted:
            return f'if {name} is {other}, put the two into "parameters" of {file}'
        axes = order(given, wanted)
        rule = f"axes = {list(axes)}" if axes else f"split = [...], axes = [...], shape = {list(wanted)}"
        return f'if {name} is {other}, say how it is laid out: "{own}" = {{ {rule} }} in [sides.{candidate}.layouts]'
    return f'list others in "layers" and "parameters" of {file}, without it, and it keeps its own weights'


def order(given: Shape, wanted: Shape) -> tuple[int, ...] | None:
    """The first order of axes that makes one shape of another; None if none does."""
    if len(given) != len(wanted) or len(given) > MOST_AXES:
        return None
    orders = itertools.permutations(range(len(given)))
    return next((each for each in orders if tuple(given[axis] for axis in each) == wanted), None)

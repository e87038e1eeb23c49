"""Changes of weights that make one side's what the other side's would be if it read them in another order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from transfer_parity.shared.contract.inventory import Amendment, Inventory, LayerRecord
from transfer_parity.shared.contract.rungs import Array

#: Keys of amendments of weights.
FLATTEN, GATES, HEADS, TRANSPOSE, BLOCKS = "flatten_order", "gate_order", "head_order", "transposed", "block_order"
#: Numbers of heads that are tried where no layer says how many there are.
HEAD_COUNTS = (2, 4, 8, 3, 6, 12, 16)
#: Gate orders besides the canonical one that libraries have, as places in the canonical one.
LSTM_ORDERS = ((0, 1, 3, 2), (0, 2, 1, 3), (1, 0, 2, 3), (2, 1, 0, 3), (0, 3, 1, 2), (3, 1, 2, 0))
GRU_ORDERS = ((1, 0, 2), (2, 0, 1), (1, 2, 0))


def apply(amendment: Amendment, arrays: Mapping[str, Array], inventory: Inventory) -> dict[str, Array]:
    """Canonical arrays with one change.

    An amendment's key, and its value:

        flatten_order   [places, channels, "channels_first" or "channels_last"]: what columns become
        gate_order      which block of rows each becomes
        head_order      [heads, "apart" or "together"]: of the columns of what comes behind attention
        transposed      nothing
        block_order     as gate_order, of packed queries, keys and values

    Args:
        amendment: of weights: a layer, one of these keys, and its value.
        arrays: by the side's own parameter names.
        inventory: of the side.

    Raises:
        KeyError: there is no such change, or no such layer.
    """
    layer = inventory.layer(amendment.layer)
    change = _CHANGES[amendment.key]
    found = dict(arrays)
    for role in layer.parameters:
        name = f"{layer.name}.{role}"
        if name in found:
            found[name] = np.ascontiguousarray(change(role, found[name], amendment.value))
    return found


def _flatten(role: str, array: Array, value: Any) -> Array:
    places, channels, order = value
    if role != "weight":
        return array
    shape = (places, channels) if order == "channels_first" else (channels, places)
    return array.reshape(len(array), *shape).swapaxes(1, 2).reshape(array.shape)


def _blocks(role: str, array: Array, value: Any) -> Array:
    several = np.split(array, len(value))
    return np.concatenate([several[place] for place in value])


def _heads(role: str, array: Array, value: Any) -> Array:
    heads, order = value
    if role not in ("weight", "output_weight"):
        return array
    size = array.shape[1] // heads
    shape = (heads, size) if order == "apart" else (size, heads)
    return array.reshape(len(array), *shape).swapaxes(1, 2).reshape(array.shape)


def _transpose(role: str, array: Array, value: Any) -> Array:
    if not role.endswith("weight") or array.ndim < 2 or array.shape[-1] != array.shape[-2]:
        return array
    return array.swapaxes(-1, -2)


_CHANGES: dict[str, Callable[[str, Array, Any], Array]] = {
    FLATTEN: _flatten,
    GATES: _blocks,
    BLOCKS: _blocks,
    HEADS: _heads,
    TRANSPOSE: _transpose,
}


def possible(layer: LayerRecord, inventory: Inventory) -> Iterator[Amendment]:
    """Changes of a layer's weights that would make sense, likeliest first."""

    def changed(key: str, value: Any = None) -> Amendment:
        return Amendment(what="weights", layer=layer.name, key=key, value=value)

    if layer.kind == "lstm":
        yield from (changed(GATES, list(order)) for order in LSTM_ORDERS)
    if layer.kind == "gru":
        yield from (changed(GATES, list(order)) for order in GRU_ORDERS)
    if layer.kind == "attention":
        heads = layer.config.get("heads")
        if isinstance(heads, int) and heads > 1:
            yield from (changed(HEADS, [heads, order]) for order in ("apart", "together"))
    if layer.kind == "dense":
        rows, columns = layer.parameters["weight"]
        shape = _map_before(layer, inventory, columns)
        if shape is not None:
            yield from (changed(FLATTEN, [*shape, order]) for order in ("channels_first", "channels_last"))
        elif rows == columns:
            yield changed(TRANSPOSE)
            known = {each.config["heads"] for each in inventory.layers if isinstance(each.config.get("heads"), int)}
            for heads in [*sorted(known), *(each for each in HEAD_COUNTS if each not in known)][:3]:
                if columns % heads == 0 and 1 < heads < columns:
                    yield from (changed(HEADS, [heads, order]) for order in ("apart", "together"))
        if rows == 3 * columns:
            yield from (
                changed(BLOCKS, list(order)) for order in ((1, 0, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0), (2, 0, 1))
            )
    if layer.kind in ("conv", "conv_transpose"):
        kernel = layer.parameters["weight"][2:]
        if len(kernel) > 1 and kernel[-1] == kernel[-2] > 1:
            yield changed(TRANSPOSE)


def _map_before(layer: LayerRecord, inventory: Inventory, columns: int) -> tuple[int, int] | None:
    """Places and channels of the feature map whose values a dense layer gets, if it gets one."""
    names = [each.name for each in inventory.layers]
    for each in reversed(inventory.layers[: names.index(layer.name)]):
        if each.kind == "dense":
            return None
        shape = each.output_shape
        if shape is not None and len(shape) > 2:
            size = int(np.prod(shape[1:]))
            return (size // shape[-1], shape[-1]) if size == columns and 1 < shape[-1] < size else None
    return None

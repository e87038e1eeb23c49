"""The canonical layout of a user's own model: what each of its parameters is, and how it is read and written.

The layout is that of ``shared/contract/inventory.py``. Keras has kernels the other way round, a GRU's gates in another
order, and the projections of an attention by head.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import keras
import numpy as np
from keras import layers as kl
from keras import ops

from transfer_parity.shared.contract.inventory import Kind
from transfer_parity.shared.contract.subject import AS_IT_IS, Layout
from transfer_parity.shared.contract.wing import Array
from transfer_parity.tf_impl.internals import einsum_letters, own_weights, within
from transfer_parity.tf_impl.layer_kinds import kind_of, layers

#: The user's own rules for parameters of such models, by name.
RULES: WeakKeyDictionary[keras.Model, Mapping[str, Layout]] = WeakKeyDictionary()


@dataclass
class Held:
    """One canonical parameter or statistic.

    Attributes:
        name: ``layer.role``.
        layer: name of its layer.
        role: what it is there.
        trains: whether its gradient is asked for.
        own_names: Keras's.
        variable: that holds it.
        forth: from an array with the shape of the variable to the canonical one.
        back: from the canonical array, and one of the variable's before, to one with the shape of the variable.
        statistic: whether it is a running one.
        layout: the user's own rule.
    """

    name: str
    layer: str
    role: str
    trains: bool
    own_names: list[str]
    variable: keras.Variable = field(repr=False)
    forth: Callable[[Array], Array] = field(repr=False)
    back: Callable[[Array, Array], Array] = field(repr=False)
    statistic: bool = False
    layout: Layout = AS_IT_IS

    @property
    def shape(self) -> tuple[int, ...]:
        """Canonical."""
        return self.layout.apply(self.forth(np.empty(self.variable.shape, np.bool_))).shape

    def read(self) -> Array:
        """A copy of the values, canonical."""
        return self.to_canonical(self.variable)

    def write(self, array: Array) -> None:
        """Set the values.

        Raises:
            ValueError: the shape does not fit.
        """
        if self.shape != array.shape:
            raise ValueError(f"{self.name} has the shape {self.shape}, not {array.shape}")
        self.variable.assign(self.from_canonical(array, self.variable))

    def to_canonical(self, value: Any) -> Array:
        """This parameter's part of what has the shape of the variable (a gradient, a state), as an array of its own."""
        return self.layout.apply(self.forth(np.array(ops.convert_to_numpy(value)))).copy()

    def from_canonical(self, array: Array, before: Any) -> Any:
        """What has the shape of the variable, with this parameter's part from an array and the rest as before."""
        value = np.array(ops.convert_to_numpy(before))
        found = self.back(self.layout.undo(array, self.forth(value).shape), value)
        return np.ascontiguousarray(found.astype(keras.config.floatx()))


def held(model: keras.Model) -> list[Held]:
    """Every parameter and running statistic of a model, each once, in the order in which the layers were made."""
    trained = {id(each) for each in model.trainable_variables}
    rules = RULES.get(model, {})
    found: list[Held] = []
    seen: set[tuple[int, str]] = set()
    for name, layer in layers(model):
        for each in _of_layer(name, layer):
            each.trains = id(each.variable) in trained
            place = (id(each.variable), each.role)
            if place not in seen:
                seen.add(place)
                each.layout = rules.get(each.name, AS_IT_IS)
                found.append(each)
    return found


def _plain(layer: str, role: str, variable: Any) -> Held:
    return _turned(layer, role, variable, lambda array: array, lambda array: array)


def _turned(
    layer: str, role: str, variable: Any, forth: Callable[[Array], Array], back: Callable[[Array], Array]
) -> Held:
    return Held(
        f"{layer}.{role}", layer, role, True, [variable.path], variable, forth, lambda array, before: back(array)
    )


def _transposed(layer: str, role: str, variable: Any) -> Held:
    return _turned(layer, role, variable, np.transpose, np.transpose)


def _kernel(layer: str, role: str, variable: Any) -> Held:
    """(*kernel, a, b) to (b, a, *kernel)."""
    return _turned(
        layer,
        role,
        variable,
        lambda array: np.moveaxis(array, (-1, -2), (0, 1)),
        lambda array: np.moveaxis(array, (0, 1), (-1, -2)),
    )


def _depthwise(layer: str, role: str, variable: Any) -> Held:
    """(*kernel, in, multiplier) to (in * multiplier, 1, *kernel)."""
    *_, inputs, multiplier = variable.shape

    def forth(array: Array) -> Array:
        moved = np.moveaxis(array, (-2, -1), (0, 1))
        return moved.reshape(inputs * multiplier, 1, *moved.shape[2:])

    def back(array: Array) -> Array:
        return np.moveaxis(array.reshape(inputs, multiplier, *array.shape[2:]), (0, 1), (-2, -1))

    return _turned(layer, role, variable, forth, back)


def _of_layer(name: str, layer: Any) -> Iterator[Held]:
    kind, layer = kind_of(layer), within(layer)
    if isinstance(layer, kl.Bidirectional):
        for way, inner in (("forward", layer.forward_layer), ("backward", layer.backward_layer)):
            yield from _of_layer(f"{name}.{way}", inner)
    elif kind == "lstm":
        yield from _of_lstm(name, layer)
    elif kind == "gru":
        yield from _of_gru(name, layer)
    elif kind == "attention":
        yield from _of_attention(name, layer)
    elif isinstance(layer, kl.SeparableConv1D | kl.SeparableConv2D):
        yield _depthwise(f"{name}.depthwise", "weight", layer.depthwise_kernel)
        yield _kernel(f"{name}.pointwise", "weight", layer.pointwise_kernel)
        if layer.bias is not None:
            yield _plain(f"{name}.pointwise", "bias", layer.bias)
    elif isinstance(layer, kl.EinsumDense) and kind == "dense":
        yield _summed(name, layer)
        if layer.bias is not None:
            yield _flat(name, "bias", layer.bias)
    elif kind in ("dense", "conv", "conv_transpose"):
        rule = (
            _depthwise
            if isinstance(layer, kl.DepthwiseConv1D | kl.DepthwiseConv2D)
            else _transposed
            if kind == "dense"
            else _kernel
        )
        yield rule(name, "weight", layer.kernel)
        if layer.bias is not None:
            yield _plain(name, "bias", layer.bias)
    else:
        yield from _of_others(name, layer, kind)


def _summed(name: str, layer: kl.EinsumDense) -> Held:
    """A kernel with any order of axes, several of which may be heads, to (out, in)."""
    letters = einsum_letters(layer)
    assert letters is not None
    summed, made, kernel = letters
    shape = tuple(layer.kernel.shape)
    sizes = dict(zip(kernel, shape, strict=True))
    rows = math.prod(sizes[each] for each in made)
    rule = Layout(axes=tuple(kernel.index(each) for each in made + summed), shape=(rows, math.prod(shape) // rows))
    return _turned(name, "weight", layer.kernel, rule.apply, lambda array: rule.undo(array, shape))


def _of_others(name: str, layer: Any, kind: Kind) -> Iterator[Held]:
    roles: dict[str, Any] = {}
    if kind in ("batch_norm", "layer_norm", "group_norm"):
        roles = {"weight": layer.gamma, "bias": layer.beta}
    elif kind == "rms_norm":
        roles = {"weight": layer.scale}
    elif kind == "embedding":
        roles = {"weight": layer.embeddings}
    elif kind == "prelu":
        yield _turned(
            name, "weight", layer.alpha, lambda array: array.reshape(-1), lambda array: array.reshape(layer.alpha.shape)
        )
    else:
        names = Counter(each.name for each in own_weights(layer))
        for number, each in enumerate(own_weights(layer)):
            yield _plain(name, each.name if names[each.name] == 1 else f"{each.name}_{number}", each)
    for role, variable in roles.items():
        if variable is not None:
            yield _plain(name, role, variable)
    if kind == "batch_norm":
        for role, variable in (("running_mean", layer.moving_mean), ("running_var", layer.moving_variance)):
            statistic = _plain(name, role, variable)
            statistic.statistic = True
            yield statistic


def _of_lstm(name: str, layer: Any) -> Iterator[Held]:
    yield _transposed(name, "input_weight", layer.cell.kernel)
    yield _transposed(name, "recurrent_weight", layer.cell.recurrent_kernel)
    if layer.cell.bias is not None:
        yield _plain(name, "bias", layer.cell.bias)


def _of_gru(name: str, layer: Any) -> Iterator[Held]:
    def swapped(array: Array) -> Array:
        """Gates z, r, n along the first axis to r, z, n, and back."""
        z, r, n = np.split(array, 3)
        return np.concatenate([r, z, n])

    for role, variable in (("input_weight", layer.cell.kernel), ("recurrent_weight", layer.cell.recurrent_kernel)):
        yield _turned(name, role, variable, lambda array: swapped(array.T), lambda array: swapped(array).T)
    if layer.cell.bias is None:
        return
    for row, role in enumerate(("bias", "recurrent_bias")):

        def forth(array: Array, row: int = row) -> Array:
            return swapped(array[row])

        def back(array: Array, before: Array, row: int = row) -> Array:
            found = before.copy()
            found[row] = swapped(array)
            return found

        variable = layer.cell.bias
        yield Held(
            f"{name}.{role}",
            *(name, role, True, [f"{variable.path}[{row}]"], variable),
            forth,
            back,
        )


def _of_attention(name: str, layer: Any) -> Iterator[Held]:
    for role in ("query", "key", "value"):
        dense = getattr(layer, f"{role}_dense")

        def back(array: Array, shape: tuple[int, ...] = dense.kernel.shape) -> Array:
            return array.T.reshape(shape)

        yield _turned(name, f"{role}_weight", dense.kernel, lambda array: array.reshape(array.shape[0], -1).T, back)
        if dense.bias is not None:
            yield _flat(name, f"{role}_bias", dense.bias)
    dense = layer.output_dense
    shape = dense.kernel.shape
    yield _turned(
        *(name, "output_weight", dense.kernel),
        lambda array: array.reshape(-1, array.shape[-1]).T,
        lambda array: array.T.reshape(shape),
    )
    if dense.bias is not None:
        yield _flat(name, "output_bias", dense.bias)


def _flat(layer: str, role: str, variable: Any) -> Held:
    shape = variable.shape
    return _turned(layer, role, variable, lambda array: array.reshape(-1), lambda array: array.reshape(shape))

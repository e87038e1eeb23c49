"""What a forward pass puts out besides its layers, under names that every wing finds by itself.

Layers that hold parameters have neutral names. All else (activations, gates, poolings, sums, concatenations) has none
that two libraries share: one calls a module, another a function, a third writes the arithmetic out, and one module may
be called thrice. So an **entry** is named after the layer or entry whose output it works on, and what it does to it:
``features.0.1 > activation``, ``layer1.0.bn3 > sum``, ``layer1.0.bn3 > sum > activation``. The names follow from the
graph alone:

* Arithmetic on the output of one layer is one activation, in however many operations it is written: its value is that
  of the last one (0.5 x (1 + erf(x/sqrt 2)) and GELU; relu6(x + 3) / 6 and the hard sigmoid; x times that and the hard
  swish). Behind a pooling, arithmetic with constants belongs to the pooling.
* Where the outputs of several layers meet (a sum, the product of gate and feature map, a concatenation) the entry is
  named after the one that lies furthest behind the input; of several such ones, after the last in the alphabet.
  Concatenations of concatenations are one.
* What moves values without changing them (padding with zeros, flattening, permuting) is no entry.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from transfer_parity.shared.contract.wing import Array

#: Between what is worked on and what is done to it.
BEHIND = " > "
#: What there is besides layers.
Does = Literal["activation", "pooling", "product", "sum", "concatenation"]


@dataclass(frozen=True)
class Value:
    """What a tensor of a forward pass holds.

    Attributes:
        entry: name of the layer or entry.
        source: the layer or entry that an activation works on; the entry itself if it is no activation.
        depth: layers, poolings, products and sums on the longest way to it.
        does: what the entry is; None for a layer that holds parameters, and for the network's input.
        parts: what was concatenated.
    """

    entry: str
    source: str
    depth: int = 0
    does: Does | None = None
    parts: frozenset[Value] = frozenset()


#: The inputs of a network.
INPUT = Value("input", "input")


class Entries:
    """Names of the entries of one forward pass, whose operations are told one after the other."""

    def __init__(self) -> None:
        self._met: Counter[str] = Counter()

    def layer(self, name: str, inputs: Iterable[Value]) -> Value:
        """Output of a layer that holds parameters.

        Args:
            name: its neutral name.
            inputs: what it works on.
        """
        return Value(name, name, 1 + _deepest(inputs).depth)

    def pooling(self, value: Value) -> Value:
        """Output of a pooling, whatever its kind and extent."""
        return self._entry(value, "pooling", value.depth + 1)

    def concatenation(self, inputs: Sequence[Value]) -> Value:
        """Output of a concatenation. Of a single value it is that value."""
        if len(inputs) == 1:
            return inputs[0]
        parts = frozenset(part for each in inputs for part in each.parts or {each})
        deepest = _deepest(parts)
        return self._entry(deepest, "concatenation", deepest.depth, parts)

    def function(self, inputs: Sequence[Value], multiplies: bool = False, scales: bool = False) -> Value:
        """Output of an operation that works on every element by itself.

        Args:
            inputs: those that depend on the network's input, at least one.
            multiplies: whether it multiplies them with each other, where there are several.
            scales: whether it is arithmetic with a constant.
        """
        deepest = _deepest(inputs)
        if len({each.source for each in inputs}) > 1:
            return self._entry(deepest, "product" if multiplies else "sum", deepest.depth + 1)
        if scales and deepest.does == "pooling":
            return deepest
        return Value(deepest.source + BEHIND + "activation", deepest.source, deepest.depth, "activation")

    def _entry(self, value: Value, does: Does, depth: int, parts: frozenset[Value] = frozenset()) -> Value:
        name = value.entry + BEHIND + does
        self._met[name] += 1
        if self._met[name] > 1:
            name += f" {self._met[name]}"
        return Value(name, name, depth, does, parts)


def flattened(array: Array) -> Array:
    """An entry's values without its two middle dimensions where they hold a single place: wings keep them or not."""
    return array.reshape(len(array), -1) if array.ndim == 4 and array.shape[1:3] == (1, 1) else array


def _deepest(values: Iterable[Value]) -> Value:
    return max(values, key=lambda each: (each.depth, each.entry), default=INPUT)

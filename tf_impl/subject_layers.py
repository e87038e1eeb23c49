"""Layers of a user's own model: where they were made, what they put out, and each of them alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import keras
from keras import layers as kl
from keras import ops

from transfer_parity.shared.contract.inventory import SPATIAL, LayerRecord
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.runtime.canonical import covered
from transfer_parity.shared.runtime.user_code import calling_line
from transfer_parity.tf_impl import layer_kinds
from transfer_parity.tf_impl.internals import (
    as_array,
    einsum_letters,
    hidden_layers,
    last_activation,
    layers_of,
    within,
)
from transfer_parity.tf_impl.layouts import Held
from transfer_parity.tf_impl.subject_config import config_of

if TYPE_CHECKING:
    # Another backend may compute.
    import tensorflow as tf

#: Where layers were made, "file:line".
SOURCES: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
#: Of models whose inventory was made, what puts out each layer and entry, by its name.
PUT_OUT_BY: WeakKeyDictionary[keras.Model, dict[str, Any]] = WeakKeyDictionary()
#: Zeros that another layer puts around what a layer is given, by axis.
SURROUNDED: WeakKeyDictionary[Any, tuple[tuple[int, int], ...]] = WeakKeyDictionary()


class Remembering:
    """While it is open, every layer that is made has its place in the user's code remembered."""

    def __enter__(self) -> Remembering:
        self._before = before = keras.Layer.__init__

        def remembering(layer: keras.Layer, *arguments: Any, **named: Any) -> None:
            before(layer, *arguments, **named)
            place = calling_line(keras.__file__)
            if place is not None:
                SOURCES[layer] = place

        keras.Layer.__init__ = remembering
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        keras.Layer.__init__ = self._before


def tensors(output: Any) -> list[tf.Tensor]:
    """All tensors in what a model or layer returns, in order."""
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, list | tuple):
        return [tensor for each in output for tensor in tensors(each)]
    return [output] if ops.is_tensor(output) else []


def holds_layers(layer: Any) -> bool:
    """Whether a layer consists of others."""
    return isinstance(layer, keras.Layer) and bool(layers_of(layer))


def put_out(name: str, layer: Any, output: Any) -> list[tuple[str, tf.Tensor]]:
    """Names of layers within one, and what they put out: of a sequence the state behind all of it.

    Args:
        name: of the layer.
        layer: one with parameters.
        output: all that it returned.
    """
    names, first = layer_kinds.recurrent_names(name, layer), tensors(output)[0]
    both = isinstance(layer, kl.Bidirectional)
    if not both and not isinstance(layer, kl.RNN):
        return [(names[-1], ops.reshape(first, _canonical_shape(layer, first.shape)))]
    forth = back = first
    if len(first.shape) == 3:
        # What reads backwards has read everything at the first place.
        forth, back = first[:, -1], first[:, 0]
    if not both:
        return [(names[0], back if layer.go_backwards and not layer.return_sequences else forth)]
    if layer.merge_mode != "concat":
        return []
    half = first.shape[-1] // 2
    return [(names[0], forth[..., :half]), (names[1], back[..., half:])]


def _canonical_shape(layer: Any, shape: Sequence[int]) -> tuple[int, ...]:
    """Shape of what a layer puts out: heads are one axis, and steps of feature maps are examples."""
    inner = within(layer)
    if isinstance(inner, kl.EinsumDense) and (letters := einsum_letters(inner)) is not None:
        kept = len(shape) - len(letters[1])
        return (*shape[:kept], math.prod(shape[kept:]))
    if inner is not layer and layer_kinds.kind_of(inner) in SPATIAL and len(shape) > 3:
        return (shape[0] * shape[1], *shape[2:])
    return tuple(shape)


def records_of(
    name: str, layer: Any, held: Mapping[str, Sequence[Held]], shape: Sequence[int] = ()
) -> list[LayerRecord]:
    """What the inventory says of a layer, or of the layers within one.

    Args:
        name: of the layer.
        layer: one with parameters.
        held: parameters by the name of their layer.
        shape: of what it was given, with the batch.
    """
    return [_record(each, layer, held.get(each, ()), shape) for each in layer_kinds.recurrent_names(name, layer)]


def completed(
    model: keras.Model, records: Mapping[str, LayerRecord], held: Mapping[str, Sequence[Held]]
) -> list[LayerRecord]:
    """Records of what was heard, in that order, and of layers that were not."""
    found = dict(records)
    hidden = hidden_layers(model)
    for name, layer in layer_kinds.layers(model):
        for each in records_of(name, layer, held):
            found.setdefault(each.name, each.model_copy(update={"hidden": id(layer) in hidden}))
    return list(found.values())


def _record(name: str, layer: Any, held: Sequence[Held], shape: Sequence[int]) -> LayerRecord:
    inner = {"forward": "forward_layer", "backward": "backward_layer"}.get(name.rpartition(".")[2], "")
    of = getattr(layer, inner) if inner and isinstance(layer, kl.Bidirectional) else within(layer)
    if of is not layer and shape and isinstance(layer, kl.TimeDistributed):
        shape = [shape[0], *shape[2:]]
    return LayerRecord(
        name=name,
        kind=layer_kinds.kind_of(of),
        class_name=type(layer).__name__,
        config=config_of(of, tuple(shape)),
        parameters={each.role: each.shape for each in held},
        own_names={each.role: each.own_names for each in held},
        frozen=[each.role for each in held if not each.trains and not each.statistic],
        source=SOURCES.get(layer),
    )


def modules_of(model: keras.Model) -> dict[str, Any]:
    """What puts out an entry without having parameters, by its name, of a model whose inventory was made."""
    return PUT_OUT_BY.get(model, {})


def surrounded(layer: Any) -> tuple[tuple[int, int], ...]:
    """The zeros that another layer puts around what a layer is given, by axis; nothing where there are none."""
    return SURROUNDED.get(layer, ())


def alone(model: keras.Model, name: str, inputs: Sequence[tf.Tensor]) -> list[Array] | None:
    """A layer alone, in inference mode, with canonical inputs, to its canonical output; None where it cannot be."""
    named = dict(layer_kinds.layers(model))
    whole = name if name in named else name.rpartition(".")[0]
    layer = named.get(whole)
    if layer is None or (holds_layers(layer) and not layer_kinds.is_whole(layer)):
        return None
    given = [ops.convert_to_tensor(covered(as_array(each), surrounded(layer))) for each in inputs]
    if isinstance(layer, kl.MultiHeadAttention):
        # torch's order is query, key, value.
        given = [given[0], given[-1], given[1]] if len(given) == 3 else [given[0]] * 2
    inner = within(layer)
    activation = last_activation(inner)
    try:
        if activation is not None:
            inner.activation = keras.activations.linear
        outputs = put_out(whole, layer, layer(*given))
        return [as_array(output) for each, output in outputs if each == name] or None
    except (ValueError, TypeError):
        return None
    finally:
        if activation is not None:
            inner.activation = activation

"""What a user's own model computes, in order: its layers, and the functions between them.

Layers are those with parameters. What stands between them is seen as the layers without parameters and the operations
of a functional model that it is, and named after the layer behind which it stands (``shared/runtime/entries.py``).
Functions of ``keras.ops`` that the ``call`` of a user's own layer or model calls are seen, too; operators (``x + y``)
are not. A layer with an ``activation`` is two things: what it puts out without it, and the activation behind it.
"""

from __future__ import annotations

import inspect
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
from keras import layers as kl

from transfer_parity.shared.contract.inventory import Inventory, LayerRecord
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.runtime.canonical import together, uncovered
from transfer_parity.shared.runtime.entries import BEHIND, INPUT, Entries, Value, flattened
from transfer_parity.tf_impl import layer_kinds, layouts, subject_layers
from transfer_parity.tf_impl.internals import CONFIGS, as_array, calls_replaced, last_activation, takes_a_list, within
from transfer_parity.tf_impl.subject_config import function_config

if TYPE_CHECKING:
    # Another backend may compute.
    import tensorflow as tf

#: Hears the name of a layer or entry, and its canonical output.
Hear = Callable[[str, Array], None]
#: Operations that move values without changing them, by the names of their classes.
_MOVES = {
    *("Reshape", "Transpose", "GetItem", "Squeeze", "ExpandDims", "Cast", "Pad", "Split", "Flatten", "Ravel"),
    *("Moveaxis", "Swapaxes", "BroadcastTo", "Repeat", "Tile", "Roll", "StopGradient", "Copy", "Identity", "Take"),
}
_POOLS = {"Mean", "Amax", "Max", "MaxPool", "AveragePool"}
_JOINS = {"Concatenate", "Stack", "Hstack", "Vstack"}
_MULTIPLIES = {"Multiply", "Dot", "Matmul", "Einsum", "Tensordot", "DotProductAttention"}
_SCALES = {*_MULTIPLIES, "Divide", "TrueDivide", "Rescaling"}


@dataclass(frozen=True)
class _Seen:
    """What a tensor holds.

    Attributes:
        value: of which layer or entry.
        padding: by which zeros it was surrounded, [[before, after], ...] by axis, since the last layer.
    """

    value: Value
    padding: tuple[tuple[int, int], ...] = ()


class _Known:
    """What tensors hold, as long as they live."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[Any, _Seen]] = {}

    def get(self, tensor: Any) -> _Seen | None:
        reference, seen = self._held.get(id(tensor), (None, None))
        return seen if reference is not None and reference() is tensor else None

    def put(self, tensor: Any, seen: _Seen) -> None:
        self._held[id(tensor)] = (weakref.ref(tensor), seen)


class _Watching:
    """Hears what every layer and entry puts out while a model computes.

    Attributes:
        records: of what was heard, by name, in the order in which it was computed first.
        others: what puts out an entry without having parameters, by its name.
        parameters: of each layer, by its name.
    """

    def __init__(
        self, model: keras.Model, hear: Hear | None, hear_inputs: Callable[[str, list[Array]], None] | None
    ) -> None:
        self._model, self._hear, self._hear_inputs = model, hear, hear_inputs
        self.records: dict[str, LayerRecord] = {}
        self.others: dict[str, Any] = {}
        self.known, self._entries, self._silent = _Known(), Entries(), 0
        #: What was put out last.
        self._last = _Seen(INPUT)
        self._calls: Counter[str] = Counter()
        self._names = {id(layer): name for name, layer in layer_kinds.layers(model)}
        self.parameters: dict[str, list[layouts.Held]] = {}
        for each in layouts.held(model):
            self.parameters.setdefault(each.layer, []).append(each)

    def call(self, original: Callable[..., Any], operation: Any, arguments: Any, named: Any) -> Any:
        """Carry out a call of an operation, and hear what it puts out."""
        given = subject_layers.tensors([arguments, list(named.values())])
        if self._silent or any(isinstance(each, keras.KerasTensor) for each in given) or operation is self._model:
            return original(operation, *arguments, **named)
        known = [seen for seen in (self.known.get(each) for each in given) if seen is not None]
        name = self._names.get(id(operation))
        if not known and given and (name is not None or subject_layers.holds_layers(operation)):
            # Behind arithmetic that nobody saw.
            known = [self._last]
        if not known or isinstance(operation, keras.Model | kl.InputLayer):
            return original(operation, *arguments, **named)
        if name is not None:
            if subject_layers.holds_layers(operation) and not layer_kinds.is_whole(operation):
                # Its parameters are used somewhere between its own layers.
                for layer in subject_layers.records_of(name, operation, self.parameters, given[0].shape):
                    self.records.setdefault(layer.name, layer)
                return self._through(original, operation, arguments, named, known)
            return self._layer(name, original, operation, arguments, named, given, known)
        if isinstance(operation, keras.Layer) and subject_layers.holds_layers(operation):
            return self._through(original, operation, arguments, named, known)
        return self._between(original, operation, arguments, named, given, known)

    def function(self, original: Callable[..., Any], name: str, arguments: Any, named: Any) -> Any:
        """Carry out a call of a function of Keras's, and hear what it puts out."""
        given = subject_layers.tensors([arguments, list(named.values())])
        known = [seen for seen in (self.known.get(each) for each in given) if seen is not None]
        if self._silent or not known:
            return original(*arguments, **named)

        def call(operation: Any, *arguments: Any, **named: Any) -> Any:
            return operation(*arguments, **named)

        return self._between(call, original, arguments, named, given, known)

    def _through(
        self, original: Callable[..., Any], operation: Any, arguments: Any, named: Any, known: list[_Seen]
    ) -> Any:
        """A layer of layers. What it does besides is not seen: its output holds what its last layer put out."""
        # Layers that are called for every step of a sequence put out a part, or what only a graph has.
        steps = isinstance(operation, kl.TimeDistributed)
        self._silent += steps
        output = original(operation, *arguments, **named)
        self._silent -= steps
        for each in subject_layers.tensors(output):
            if self.known.get(each) is None:
                last = next(reversed(self.records), known[0].value.entry)
                self.known.put(each, _Seen(Value(last, last, 1 + max(seen.value.depth for seen in known))))
        return output

    def _layer(
        self,
        name: str,
        original: Callable[..., Any],
        layer: Any,
        arguments: Any,
        named: Any,
        given: list[Any],
        known: list[_Seen],
    ) -> Any:
        if self._hear_inputs is not None:
            pads = layer_kinds.kind_of(layer) in ("conv", "conv_transpose")
            around = known[0].padding if pads else ()
            arrays = [as_array(each) for each in given]
            # What another layer puts around it counts as this one's padding.
            self._hear_inputs(
                layer_kinds.recurrent_names(name, layer)[-1], [uncovered(each, around) for each in arrays]
            )
        inner = within(layer)
        activation = last_activation(inner)
        self._silent += 1
        try:
            if activation is not None:
                inner.activation = keras.activations.linear
            output = original(layer, *arguments, **named)
        finally:
            self._silent -= 1
            if activation is not None:
                inner.activation = activation
        self._calls[name] += 1
        again = f"#{self._calls[name]}" if self._calls[name] > 1 else ""
        value = self._entries.layer(name + again, [each.value for each in known])
        padding = known[0].padding
        if padding and layer_kinds.kind_of(layer) in ("conv", "conv_transpose"):
            subject_layers.SURROUNDED[layer] = padding
        for each in subject_layers.records_of(name, layer, self.parameters, given[0].shape):
            record = each if not again else each.model_copy(update={"name": each.name + again, "parameters": {}})
            if padding and "padding" in record.config:
                summed = together(padding, record.config["padding"])
                record = record.model_copy(update={"config": {**record.config, "padding": summed}})
            self.records.setdefault(record.name, record)
            CONFIGS.setdefault(layer, record.config)
        self._last = _Seen(value)
        for each in subject_layers.tensors(output):
            self.known.put(each, self._last)
        for each_name, tensor in subject_layers.put_out(name, layer, output):
            self._tell(self.records[each_name + again], as_array(tensor))
        if activation is None:
            return output
        self._silent += 1
        output = activation(output)
        self._silent -= 1
        self._entry(activation, "activation", self._entries.function([value]), output, given[0].shape, ())
        return output

    def _between(
        self,
        original: Callable[..., Any],
        operation: Any,
        arguments: Any,
        named: Any,
        given: list[Any],
        known: list[_Seen],
    ) -> Any:
        self._silent += 1
        output = original(operation, *arguments, **named)
        self._silent -= 1
        outputs = [
            each for each in subject_layers.tensors(output) if "float" in keras.backend.standardize_dtype(each.dtype)
        ]
        kind = type(operation).__name__
        if inspect.isfunction(operation):
            # As the operation of a graph is called.
            kind = "".join(word.title() for word in operation.__name__.split("_"))
        linear = getattr(operation, "activation", None) is keras.activations.linear
        moves = layer_kinds.kind_of(operation) in ("shape", "dropout") or kind in _MOVES or linear
        if moves or len(outputs) != 1:
            padding = known[0].padding
            if kind.startswith("ZeroPadding"):
                own = operation.padding if isinstance(operation.padding[0], tuple | list) else [operation.padding]
                padding = tuple((int(a), int(b)) for a, b in together(padding, own))
            for each in outputs:
                self.known.put(each, _Seen(known[0].value, padding if kind.startswith("ZeroPadding") else ()))
            return output
        values, does = [each.value for each in known], "activation"
        if kind in _POOLS or "Pooling" in kind:
            value, does = self._entries.pooling(values[0]), "pooling"
        elif kind in _JOINS:
            value, does = self._entries.concatenation(values), "merge"
            if value.does is None:
                self.known.put(outputs[0], _Seen(value))
                return output
        else:
            value = self._entries.function(values, kind in _MULTIPLIES, kind in _SCALES)
            does = "activation" if value.does == "activation" else "merge"
        self._entry(operation, does, value, outputs[0], given[0].shape, known[0].padding)
        return output

    def _entry(self, operation: Any, does: str, value: Value, output: Any, shape: Any, padding: Any) -> None:
        self.known.put(output, _Seen(value))
        self.others[value.entry] = operation
        record = LayerRecord(
            name=value.entry,
            kind="activation" if does == "activation" else "pooling" if does == "pooling" else "merge",
            class_name=getattr(operation, "__name__", type(operation).__name__),
            config=function_config(operation, shape, padding),
            source=subject_layers.SOURCES.get(operation) if isinstance(operation, keras.Layer) else None,
        )
        if isinstance(operation, keras.Operation):
            subject_layers.SURROUNDED[operation] = tuple(padding)
            CONFIGS.setdefault(operation, record.config)
        self._tell(record, as_array(output))

    def _tell(self, record: LayerRecord, array: Array) -> None:
        if BEHIND in record.name:
            array = flattened(array)
        self.records[record.name] = record.model_copy(update={"output_shape": tuple(array.shape)})
        if self._hear is not None:
            self._hear(record.name, array)


def watched(
    model: keras.Model,
    inputs: Sequence[tf.Tensor],
    training: bool,
    hear: Hear | None,
    hear_inputs: Callable[[str, list[Array]], None] | None = None,
    grad: bool = False,
) -> tuple[list[tf.Tensor], _Watching]:
    """Put inputs through a model, and hear every layer and entry.

    Args:
        model: that is called.
        inputs: tensors in the order of the model's inputs.
        training: whether layers are in training mode.
        hear: gets what they put out.
        hear_inputs: gets what layers are given.
        grad: whether the outputs' gradients will be asked for, which the caller sees to.

    Returns:
        The outputs, and what was watched.
    """
    watching = _Watching(model, hear, hear_inputs)
    for each in inputs:
        watching.known.put(each, _Seen(INPUT))
    with calls_replaced(watching.call, watching.function):
        output = called(model, inputs, training)
    return subject_layers.tensors(output), watching


def called(model: keras.Model, inputs: Sequence[tf.Tensor], training: bool) -> Any:
    """What a model returns."""
    if len(inputs) == 1:
        return model(inputs[0], training=training)
    functional = bool(getattr(model, "operations", None))
    return (
        model(list(inputs), training=training)
        if functional or takes_a_list(model)
        else model(*inputs, training=training)
    )


def inventory(model: keras.Model, inputs: Sequence[tf.Tensor]) -> Inventory:
    """Every layer and entry in the order in which they compute, and layers that never do."""
    outputs, watching = watched(model, inputs, False, None)
    subject_layers.PUT_OUT_BY[model] = watching.others
    records = subject_layers.completed(model, watching.records, watching.parameters)
    return Inventory(layers=records, outputs=[tuple(each.shape) for each in outputs])

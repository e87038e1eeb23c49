"""Private interfaces of Keras, each with the reason why no public one will do, and what has no like in torch.

The one file whose names differ from the other wing's. Everywhere else Keras is used as its documentation describes it.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import h5py
import keras
import numpy as np

from transfer_parity.shared.contract.rungs import StateKind
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.core.errors import BadInput

#: No honest array or file in an archive is this many times larger than what is stored of it, but for a small rest.
_MOST_EXPANDED = 100
_SMALL = 2**20


#: What layers and operations of a user's own models were when they were first seen, as ``LayerRecord.config`` says it.
#: Keras keeps no place for it on an operation.
CONFIGS: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()


def layers_of(model: keras.Layer) -> list[keras.Layer]:
    """All layers of a model or layer, those inside of nested ones among them.

    ``Model.layers`` stops at the first level.
    """
    return model._flatten_layers(include_self=False, recursive=True)


def nodes_of(model: keras.Model) -> list[Any]:
    """One node for each operation of a functional model, in the order of the forward pass.

    A node has ``operation``, ``input_tensors`` and ``outputs``. Keras shows which layers a model has, but not which
    tensors lie between them: ``Layer.input`` and ``Layer.output`` are there for layers only, not for additions.
    """
    return [operation._inbound_nodes[0] for operation in model.operations]


def maker(tensor: keras.KerasTensor) -> keras.Operation:
    """The operation that a symbolic tensor comes from. A tensor does not tell it otherwise."""
    return tensor._keras_history.operation


@contextmanager
def calls_replaced(call: Callable[..., Any], function: Callable[..., Any]) -> Iterator[None]:
    """While it is open, someone else carries out every call of an operation, and of a function of ``keras.ops``.

    Layers and operations can be given hooks in no other way; their classes look ``__call__`` up on the class. In a
    model that is a class functions are called one by one, eagerly.

    Args:
        call: gets what to call, the operation, its arguments and named arguments; returns what it returns.
        function: gets the function, its name, arguments and named arguments.
    """
    kinds: tuple[Any, ...] = (keras.Operation, keras.Layer)
    originals = [kind.__call__ for kind in kinds]

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        def replacement(operation: Any, *arguments: Any, **named: Any) -> Any:
            return call(original, operation, arguments, named)

        return replacement

    def heard(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def replacement(*arguments: Any, **named: Any) -> Any:
            return function(original, name, arguments, named)

        return replacement

    modules = (keras.ops, keras.activations)
    before = [
        (module, name, value)
        for module in modules
        for name, value in vars(module).items()
        if inspect.isfunction(value) and name not in _UNHEARD
    ]
    for kind, original in zip(kinds, originals, strict=True):
        kind.__call__ = wrapped(original)
    for module, name, value in before:
        setattr(module, name, heard(name, value))
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
        for kind, original in zip(kinds, originals, strict=True):
            kind.__call__ = original


#: Functions that compute nothing, and those that only say what an activation is.
_UNHEARD = {"is_tensor", "convert_to_numpy", "convert_to_tensor", "shape", "get", "serialize", "deserialize", "linear"}


def replaced(layer: Any, call: Callable[..., Any] | None) -> None:
    """Put a function of (layer, inputs, ...) in place of one layer's own ``call``; None: its class's again.

    A layer looks its ``call`` up on itself before its class, which nothing documents.
    """
    layer.__dict__.pop("call", None)
    if call is not None:
        layer.__dict__["call"] = partial(call, layer)


def place(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> int:
    """Which of its variables it is.

    A subclass that overrides ``update_step`` gets the variable, and what belongs to it lies in lists in the order in
    which the optimizer was built.
    """
    return int(optimizer._get_variable_index(variable))


def momentum(optimizer: keras.optimizers.SGD, variable: keras.Variable) -> keras.Variable:
    """What an SGD holds for a variable; see ``place``."""
    return optimizer.momentums[place(optimizer, variable)]


def moments(optimizer: keras.optimizers.Adam, variable: keras.Variable) -> tuple[keras.Variable, keras.Variable]:
    """The first and the second moment that an Adam holds for a variable; see ``place``."""
    index = place(optimizer, variable)
    return optimizer._momentums[index], optimizer._velocities[index]


def states(optimizer: keras.optimizers.Optimizer) -> dict[StateKind, list[keras.Variable]]:
    """All that an SGD or Adam holds, by what it is, in the order of the variables that it was built for.

    ``Optimizer.variables`` has the same and more, told apart by nothing but names.
    """
    if isinstance(optimizer, keras.optimizers.SGD):
        # Without momentum it holds nothing.
        return {"momentum": optimizer.momentums} if optimizer.momentum else {}
    return {"first_moment": optimizer._momentums, "second_moment": optimizer._velocities}


def names_in(configuration: Mapping[str, Any]) -> dict[tuple[str, ...], str]:
    """Names of layers by their groups in a Keras 3 file, from a model's configuration.

    Groups are called after the class, and numbered in the order of the model's layers: so Keras's saving module does,
    whose functions for it are private.
    """
    names: dict[tuple[str, ...], str] = {}
    used: Counter[str] = Counter()
    for layer in configured_layers(configuration):
        group = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", re.sub(r"\W+", "", layer["class_name"]))
        group = re.sub(r"([a-z])([A-Z])", r"\1_\2", group).lower()
        own = f"{group}_{used[group]}" if used[group] else group
        used[group] += 1
        names[(own,)] = layer["config"]["name"]
        names |= {(own, *key): name for key, name in names_in(layer).items()}
    return names


def configured_layers(configuration: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The layers that a model's configuration lists, or none if it is a layer's."""
    config = configuration.get("config")
    found = config.get("layers", []) if isinstance(config, dict) else config if isinstance(config, list) else []
    return [layer for layer in found if isinstance(layer, dict) and isinstance(layer.get("config"), dict | list)]


def claims_too_much(claimed: int, stored: int) -> bool:
    """Whether no honest array, or file in an archive, is so many bytes large with so few stored."""
    return claimed > _MOST_EXPANDED * stored + _SMALL


@dataclass(frozen=True)
class Leaf:
    """A layer with variables, as it is found in a file.

    Attributes:
        path: of the file.
        container: groups of the models around it, from the outside in.
        key: its own group below the innermost of them.
        name: of the layer, if the file says it.
        variables: data sets by Keras's word for their kind.
    """

    path: Path
    container: tuple[str, ...]
    key: tuple[str, ...]
    name: str | None
    variables: dict[str, h5py.Dataset]

    def below(self, container: tuple[str, ...]) -> tuple[str, ...]:
        """Its group's name as seen from a container around it."""
        return (*self.container, *self.key)[len(container) :]

    def array(self, kind: str) -> Array:
        """A variable in single precision at least.

        Raises:
            BadInput: it is not in the file.
        """
        dataset = self.variables[kind]
        if dataset.is_virtual or dataset.external:
            raise BadInput(f"{self.path}: {dataset.name} lies in another file, which is not opened; save it again.")
        if claims_too_much(dataset.nbytes, dataset.id.get_storage_size()):
            raise BadInput(
                f"{self.path}: {dataset.name} claims {dataset.nbytes} bytes that are not in the file; save it again."
            )
        array = np.asarray(dataset)
        return array.astype(np.float32) if array.dtype.itemsize < 4 else array


#: The attribute that holds the factor of an attention's scores, which is no argument of the layer.
_ATTENTION_SCALE = "_inverse_sqrt_key_dim"


def settle(model: keras.Model) -> None:
    """Make a model compute with constants as exact as everything else, and one thing after the other.

    Keras casts the scale of an attention by way of float32, as any number of Python's; and it may compute both
    directions of a recurrent layer at once, so that neither is seen.
    """
    for layer in layers_of(model):
        if isinstance(layer, keras.layers.MultiHeadAttention | keras.layers.GroupQueryAttention):
            vars(layer)[_ATTENTION_SCALE] = np.float64(getattr(layer, _ATTENTION_SCALE))
        if hasattr(layer, "use_cudnn"):
            layer.use_cudnn = False


def score_scale(layer: keras.Layer) -> float:
    """The factor of an attention's scores."""
    return float(getattr(layer, _ATTENTION_SCALE))


def scale_scores(layer: keras.Layer, factor: float) -> None:
    """Give the scores of an attention another factor."""
    vars(layer)[_ATTENTION_SCALE] = np.float64(factor)


def stop_dropout(layer: keras.Layer) -> None:
    """No dropout within an attention any more. Its rate is an argument, and cannot be changed afterwards."""
    layer._dropout = 0.0


def takes_a_list(model: keras.Model) -> bool:
    """Whether a model that is a class gets its inputs as one list."""
    names = [name for name in inspect.signature(model.call).parameters if name not in ("training", "mask")]
    return len(names) == 1


def configure_backend(threads: int, precision: str) -> dict[str, str]:
    """Settle threads, device and precision of what computes for Keras. Returns its version.

    Here and where gradients are asked for it matters what computes; no other framework is imported.
    """
    if keras.backend.backend() == "torch":
        # Keras looks for TensorFlow wherever it computes, and two frameworks in one process can crash. None: not there.
        sys.modules["tensorflow"] = None  # type: ignore[assignment]
        import torch

        torch.set_num_threads(threads)
        torch.set_default_dtype(getattr(torch, precision))
        torch.manual_seed(0)
        # Keras follows JAX in that what it promotes is never larger than 32 bits, on TensorFlow excepted: without this
        # normalisations and products of matrices are float32 here even where everything else is float64.
        from keras.src.backend.common import dtypes

        dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
        return {"torch": torch.__version__}
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.set_visible_devices([], "GPU")
    return {"tensorflow": tf.__version__}


def last_activation(layer: Any) -> Callable[..., Any] | None:
    """The activation that is applied last; those inside of recurrent layers are none."""
    activation = getattr(layer, "activation", None)
    outside = not isinstance(layer, keras.layers.RNN | keras.layers.Activation) and callable(activation)
    return activation if outside and activation is not keras.activations.linear else None


def as_array(tensor: Any) -> Array:
    """A copy of a tensor of whichever backend."""
    return np.array(keras.ops.convert_to_numpy(tensor))


def within(layer: Any) -> Any:
    """The one layer that another one calls for every step of a sequence; any other layer itself."""
    inner = layer.layer if isinstance(layer, keras.layers.TimeDistributed) else layer
    return inner if inner is not layer and not layers_of(inner) and inner.weights else layer


def hidden_layers(model: keras.Model) -> set[int]:
    """Identities of layers that are called for every step of a sequence together with others: in a graph, unheard."""
    distributed = [each for each in layers_of(model) if isinstance(each, keras.layers.TimeDistributed)]
    return {id(each) for layer in distributed if within(layer) is layer for each in layers_of(layer)}


def einsum_letters(layer: keras.layers.EinsumDense) -> tuple[str, str, str] | None:
    """What an einsum sums over, what it puts out, and its kernel's axes, if it is a dense layer of the last axes."""
    incoming, _, rest = layer.equation.replace("...", "").replace(" ", "").partition(",")
    kernel, _, outcome = rest.partition("->")
    summed = "".join(each for each in incoming if each in kernel and each not in outcome)
    made = "".join(each for each in outcome if each in kernel and each not in incoming)
    whole = sorted(summed + made) == sorted(kernel) and incoming.endswith(summed) and outcome.endswith(made)
    biased = not layer.bias_axes or sorted(layer.bias_axes) == sorted(made)
    return (summed, made, kernel) if whole and biased and summed and made else None


def own_weights(layer: Any) -> list[Any]:
    """Weights that are no sublayer's; dropout's seeds are none."""
    theirs = {id(each) for sub in layers_of(layer) for each in sub.weights}
    return [each for each in layer.weights if id(each) not in theirs]

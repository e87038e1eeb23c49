"""A model of the user's own, as ``shared/contract/subject_wing.py`` wants it handled. Keras alone: any backend."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import layers as kl
from keras import ops

from transfer_parity.shared.contract.inventory import Amendment, Inventory
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.subject import Layout
from transfer_parity.shared.contract.subject_wing import Watch
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.contract.wings import WingInfo
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.runtime import user_code
from transfer_parity.tf_impl import layer_kinds, layouts, subject_amendments, subject_layers, subject_watch
from transfer_parity.tf_impl.internals import configure_backend, layers_of, settle, stop_dropout
from transfer_parity.tf_impl.subject_training import SubjectTraining

if TYPE_CHECKING:
    # Another backend may compute.
    import tensorflow as tf


def configure(info: WingInfo, threads: int, precision: str) -> dict[str, str]:
    """Set threads and floating-point type, on the CPU, once, before anything is built. Returns versions."""
    versions = configure_backend(threads, precision)
    keras.config.set_floatx(precision)
    keras.config.set_dtype_policy(precision)
    keras.config.set_image_data_format("channels_last")
    keras.utils.set_random_seed(0)
    return {"keras": keras.__version__, **versions, "numpy": np.__version__}


def build(make: Callable[[], Any], prepare: Callable[[], Sequence[Array]]) -> keras.Model:
    """The model that the user's factory makes, tried with one forward pass, in the configured precision.

    Raises:
        BadInput: the factory returns something else, or the forward pass fails.
    """
    with subject_layers.Remembering():
        model = make()
    if not isinstance(model, keras.Model):
        raise BadInput(f"the factory returns {type(model).__name__}; it has to return a keras.Model.")
    settle(model)
    inputs = _tensors(prepare())
    try:
        with subject_layers.Remembering():
            outputs = subject_layers.tensors(subject_watch.called(model, inputs, False))
    except Exception as error:
        raise user_code.cannot_be_called(error, (tuple(each.shape) for each in inputs)) from error
    settle(model)
    user_code.require_outputs(outputs)
    return model


def lay_out(model: keras.Model, rules: Mapping[str, Layout]) -> None:
    """From now on the named parameters, and all that has their shapes, are read and written by these rules."""
    layouts.RULES[model] = rules


def inventory(model: keras.Model, inputs: Sequence[Array]) -> Inventory:
    """Every layer in the order in which it computes, and the functions between layers."""
    return subject_watch.inventory(model, _tensors(inputs))


def shown(value: Any) -> Array:
    """An array or tensor, as a user's preprocessing may return it, as a NumPy array."""
    return np.array(ops.convert_to_numpy(value)) if ops.is_tensor(value) else np.asarray(value)


def dump(model: keras.Model, names: Collection[str] | None = None) -> Iterator[tuple[str, Array]]:
    """Copies of parameters and statistics, one at a time: all, or the named ones."""
    for each in layouts.held(model):
        if names is None or each.name in names:
            yield each.name, each.read()


def load(model: keras.Model, arrays: Mapping[str, Array]) -> None:
    """Set the named parameters; all others stay as they are.

    Raises:
        KeyError: a name that the model does not have.
        ValueError: a shape that does not fit.
    """
    known = {each.name: each for each in layouts.held(model)}
    for name, array in arrays.items():
        known[name].write(array)


def read_checkpoint(model: keras.Model, path: Path) -> None:
    """Load the weights of a ``.weights.h5``, ``.keras`` or older ``.h5`` file, without running code from it.

    Raises:
        BadInput: it cannot be read, or does not fit.
    """
    user_code.require_checkpoint(path)
    if path.suffix not in (".h5", ".hdf5", ".keras"):
        raise BadInput(f"{path} is no file of weights; save it with model.save_weights('model.weights.h5').")
    try:
        model.load_weights(path)
    except Exception as error:
        raise user_code.does_not_fit(path, error) from error


def write_checkpoint(model: keras.Model, path: Path) -> None:
    """Write the model's weights."""
    if not path.name.endswith(".weights.h5"):
        raise BadInput(f"{path}: Keras writes weights as NAME.weights.h5; name it so.")
    model.save_weights(path)


def silence(model: keras.Model) -> None:
    """Switch off everything random that is a layer of its own, in training mode too."""
    for layer in layers_of(model):
        if layer_kinds.kind_of(layer) == "dropout":
            for key in ("rate", "stddev"):
                if hasattr(layer, key):
                    setattr(layer, key, 0.0)
        if isinstance(layer, kl.MultiHeadAttention | kl.GroupQueryAttention):
            stop_dropout(layer)
        cell = getattr(layer, "cell", None)
        if isinstance(layer, kl.RNN) and cell is not None and hasattr(cell, "dropout"):
            cell.dropout = cell.recurrent_dropout = 0.0


def amend(model: keras.Model, amendment: Amendment) -> None:
    """Change one thing about one layer, as ``LayerRecord.config`` names it.

    Raises:
        ValueError: it cannot be changed there.
    """
    subject_amendments.amend(model, amendment, subject_layers.modules_of(model))


def forward(model: keras.Model, inputs: Sequence[Array], training: bool, watch: Watch | None = None) -> list[Array]:
    """Outputs of the model, in inference mode or in training mode, without gradients. Statistics stay as they were."""
    before = {each.name: each.read() for each in layouts.held(model) if each.statistic} if training else {}
    if watch is None:
        outputs = subject_layers.tensors(subject_watch.called(model, _tensors(inputs), training))
    else:
        outputs, _ = subject_watch.watched(model, _tensors(inputs), training, watch)
    found = [np.array(ops.convert_to_numpy(each)) for each in outputs]
    load(model, before)
    return found


def call(model: keras.Model, layer: str, inputs: Sequence[Array]) -> list[Array] | None:
    """A layer alone, in inference mode, with canonical inputs, to canonical outputs; None where it cannot be."""
    return subject_layers.alone(model, layer, _tensors(inputs))


def inputs_of(model: keras.Model, inputs: Sequence[Array], watch: Callable[[str, list[Array]], None]) -> None:
    """Put inputs through the model, in inference mode; ``watch`` hears the canonical inputs of every layer."""
    subject_watch.watched(model, _tensors(inputs), False, None, watch)


def trainer(
    model: keras.Model,
    recipe: Recipe,
    loss: Callable[[Any, Any], Any] | None,
    optimizer: Callable[[Any], Any] | None,
    training_mode: bool,
) -> SubjectTraining:
    """A trainer of everything in the model that trains."""
    return SubjectTraining(model, recipe, loss, optimizer, training_mode)


def _tensors(inputs: Sequence[Array]) -> list[tf.Tensor]:
    return [ops.convert_to_tensor(each) for each in inputs]

"""Changes of one thing about one layer of a user's own model, to see whether a difference goes away with it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import keras
import numpy as np
from keras import layers as kl
from keras import ops

from transfer_parity.shared.contract.inventory import Amendment
from transfer_parity.tf_impl import layer_kinds
from transfer_parity.tf_impl.internals import CONFIGS, replaced, scale_scores
from transfer_parity.tf_impl.subject_config import function_config
from transfer_parity.tf_impl.subject_layers import surrounded

_FUNCTIONS: dict[str, Any] = {
    "relu": ops.relu,
    "relu6": ops.relu6,
    "gelu": lambda x: ops.gelu(x, approximate=False),
    "gelu_tanh": lambda x: ops.gelu(x, approximate=True),
    "silu": ops.silu,
    "sigmoid": ops.sigmoid,
    "tanh": ops.tanh,
    "hard_swish": ops.hard_silu,
    "hard_sigmoid": ops.hard_sigmoid,
    "elu": ops.elu,
    "leaky_relu": lambda x: ops.leaky_relu(x, 0.01),
    "linear": lambda x: x,
}
_OF_POOLINGS = ("mode", "kernel", "stride", "padding", "counts_padding")
#: What is changed about poolings.
_pooled: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()
#: Activations that layers had themselves, before they were changed.
_activations: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
_TRANSPOSES = (kl.Conv1DTranspose, kl.Conv2DTranspose, kl.Conv3DTranspose)
_CONVS = (kl.Conv1D, kl.Conv2D, kl.Conv3D, kl.DepthwiseConv1D, kl.DepthwiseConv2D)


def amend(model: keras.Model, amendment: Amendment, others: dict[str, Any]) -> None:
    """Change one thing about a layer, or make it what it was.

    Args:
        model: that is changed.
        amendment: whose layer is a name of the inventory, or "*" for every layer that has the key.
        others: layers without parameters that put out an entry, by its name.

    Raises:
        ValueError: it cannot be changed there.
    """
    named = dict(layer_kinds.layers(model)) | {
        name: each for name, each in others.items() if isinstance(each, keras.Operation)
    }
    if amendment.layer == "*":
        changed = [_amended(layer, amendment) for layer in named.values() if _has(layer, amendment.key)]
        if not changed:
            raise ValueError(f"no layer has {amendment.key}")
        return
    if amendment.layer not in named:
        behind = named.get(amendment.layer.rpartition(" > ")[0])
        if amendment.key == "function" and behind is not None and amendment.value in _FUNCTIONS:
            own = _activations.setdefault(behind, behind.activation)
            as_it_was = function_config(own, (), ())["function"] == amendment.value
            behind.activation = own if as_it_was else _named(amendment.value)
            return
        raise ValueError(f"{amendment.layer} is a call of a function, not a layer")
    if not _amended(named[amendment.layer], amendment):
        raise ValueError(f"{amendment.layer} has no {amendment.key} that can be changed")


def _named(function: str) -> Any:
    """The activation of a neutral name, under that name."""

    def activation(x: Any) -> Any:
        return _FUNCTIONS[function](x)

    activation.__name__ = function
    return activation


def _has(layer: Any, key: str) -> bool:
    if key == "epsilon":
        return hasattr(layer, "epsilon")
    return key in ("momentum", "biased_variance") and isinstance(layer, kl.BatchNormalization)


def _amended(layer: Any, amendment: Amendment) -> bool:
    key, value = amendment.key, amendment.value
    as_it_was = CONFIGS.get(layer, {}).get(key) == value
    if key == "epsilon" and hasattr(layer, "epsilon"):
        layer.epsilon = value
    elif key == "momentum" and isinstance(layer, kl.BatchNormalization):
        layer.momentum = 1 - value
    elif key == "biased_variance" and isinstance(layer, kl.BatchNormalization):
        replaced(layer, None if value else _unbiased)
    elif key == "padding" and isinstance(layer, _CONVS):
        if as_it_was:
            replaced(layer, None)
        else:
            _pad(layer, value)
    elif key == "padding" and isinstance(layer, _TRANSPOSES):
        pairs = [(int(before), int(after)) for before, after in value]
        replaced(layer, None if as_it_was else partial(_transposed, padding=pairs))
    elif key == "stride" and isinstance(layer, _CONVS):
        layer.strides = tuple(value)
    elif key == "dilation" and isinstance(layer, _CONVS):
        layer.dilation_rate = tuple(value)
    elif key in _OF_POOLINGS and "pool_size" in vars(layer):
        _pool(layer, key, value)
    elif key == "function" and value in _FUNCTIONS and not getattr(layer, "weights", ()):
        replaced(layer, None if as_it_was else lambda layer, x, *_, **__: _FUNCTIONS[value](x))
    elif key == "slope" and hasattr(layer, "negative_slope"):
        layer.negative_slope = value
    elif key == "axes" and isinstance(layer, kl.LayerNormalization):
        replaced(layer, None if as_it_was else lambda layer, x, *_, **__: _normalised(layer, x, list(value)))
    elif key == "scale" and isinstance(layer, kl.MultiHeadAttention):
        scale_scores(layer, value)
    else:
        return False
    return True


def _pad(layer: Any, value: list[list[int]]) -> None:
    """Pad with zeros in front of a convolution, which is then to pad nothing itself."""
    outside = surrounded(layer) or ((0, 0),) * len(value)
    own = [(int(a) - c, int(b) - d) for (a, b), (c, d) in zip(value, outside, strict=True)]
    widths = [(0, 0), *((max(before, 0), max(after, 0)) for before, after in own), (0, 0)]
    # What is around it already, and too much, is cut off.
    cut = (slice(None), *(slice(max(-before, 0), -max(-after, 0) or None) for before, after in own))

    def padded(layer: Any, x: Any) -> Any:
        before, layer.padding = layer.padding, "valid"
        try:
            return type(layer).call(layer, ops.pad(x, widths)[cut])
        finally:
            layer.padding = before

    replaced(layer, padded)


def _transposed(layer: Any, inputs: Any, padding: Sequence[tuple[int, int]]) -> Any:
    """A transposed convolution whose padding is what is cut off what it puts out."""
    before, layer.padding = layer.padding, "valid"
    try:
        whole = type(layer).call(layer, inputs)
    finally:
        layer.padding = before
    cut = [slice(max(first, 0), -max(last, 0) or None) for first, last in padding]
    widths = [(0, 0), *((max(-first, 0), max(-last, 0)) for first, last in padding), (0, 0)]
    return ops.pad(whole[(slice(None), *cut)], widths)


def _pool(layer: Any, key: str, value: Any) -> None:
    """Give a pooling another configuration, in one key more."""
    config = CONFIGS.get(layer, {})
    changes = _pooled.setdefault(layer, {})
    changes[key] = value
    if config.get(key) == value:
        changes.pop(key)
    outside = surrounded(layer) or ((0, 0),) * len(config["kernel"])
    replaced(layer, partial(_pooling, config=config | changes, outside=outside) if changes else None)


def _pooling(layer: Any, inputs: Any, config: dict[str, Any], outside: Sequence[tuple[int, int]]) -> Any:
    most = config["mode"] == "max"
    pool = ops.max_pool if most else ops.average_pool
    kernel, stride = tuple(config["kernel"]), tuple(config["stride"])
    own = [(before - c, after - d) for (before, after), (c, d) in zip(config["padding"], outside, strict=True)]
    widths = [(0, 0), *own, (0, 0)]
    if any(min(pair) < 0 for pair in own):
        raise ValueError(f"{layer.name} cannot pad less than what is in front of it")
    # Below everything: what is padded is never the largest.
    value = float(np.finfo(keras.config.floatx()).min) if most else 0.0
    found = pool(ops.pad(inputs, widths, constant_values=value), kernel, stride, "valid")
    if most or config.get("counts_padding", True):
        return found
    return found / pool(ops.pad(ops.ones_like(inputs), widths), kernel, stride, "valid")


def _unbiased(layer: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
    """A normalisation that remembers the sample variance."""
    kept = layer.moving_variance * layer.momentum
    outputs = type(layer).call(layer, inputs, training=training, mask=mask)
    if training and layer.trainable:
        n = ops.cast(ops.size(inputs) // inputs.shape[-1], kept.dtype)
        layer.moving_variance.assign(kept + (layer.moving_variance - kept) * n / (n - 1))
    return outputs


def _normalised(layer: Any, x: Any, axes: list[int]) -> Any:
    mean, variance = ops.mean(x, axes, keepdims=True), ops.var(x, axes, keepdims=True)
    found = (x - mean) / ops.sqrt(variance + layer.epsilon)
    if layer.gamma is not None:
        found = found * layer.gamma
    return found if layer.beta is None else found + layer.beta

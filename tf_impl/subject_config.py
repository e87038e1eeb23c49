"""What decides what a layer of a user's own model computes, in neutral words, read from layers and operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from keras import layers as kl

from transfer_parity.shared.runtime.canonical import together
from transfer_parity.tf_impl.internals import score_scale

#: Keras's names of functions to neutral ones, where those differ.
_FUNCTIONS = {"hard_silu": "hard_swish", "hardsilu": "hard_swish", "hardsigmoid": "hard_sigmoid", "swish": "silu"}


def config_of(layer: Any, shape: Sequence[int] = ()) -> dict[str, Any]:
    """The keys of ``LayerRecord.config`` for a layer with parameters.

    Args:
        layer: of Keras.
        shape: of what it was given, with the batch: padding depends on it.
    """
    found: dict[str, Any] = {}
    if hasattr(layer, "kernel_size") and hasattr(layer, "strides"):
        depthwise = isinstance(layer, kl.DepthwiseConv1D | kl.DepthwiseConv2D)
        found = {
            "kernel": list(layer.kernel_size),
            "stride": _several(layer.strides, len(layer.kernel_size)),
            "dilation": _several(layer.dilation_rate, len(layer.kernel_size)),
            "groups": int(shape[-1]) if depthwise and shape else int(getattr(layer, "groups", 1) or 1),
        }
        found["padding"] = _padding(layer, found, shape)
    if isinstance(layer, kl.BatchNormalization):
        found = {"epsilon": layer.epsilon, "momentum": round(1 - layer.momentum, 12)}
        if type(layer).call is kl.BatchNormalization.call:
            # A subclass with a forward pass of its own may remember another one.
            found["biased_variance"] = True
    if isinstance(layer, kl.LayerNormalization | kl.RMSNormalization):
        axes = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
        found = {"epsilon": layer.epsilon, "axes": sorted(a - len(shape) if a >= 0 and shape else a for a in axes)}
    if isinstance(layer, kl.GroupNormalization):
        found = {"epsilon": layer.epsilon, "groups": layer.groups}
    if isinstance(layer, kl.GRU):
        found = {"reset_after": layer.reset_after}
    if isinstance(layer, kl.MultiHeadAttention):
        found = {"heads": layer.num_heads, "scale": score_scale(layer)}
    return found


def _several(value: Any, places: int) -> list[int]:
    """One number for each axis."""
    return [int(each) for each in value] if isinstance(value, list | tuple) else [int(value)] * places


def _padding(layer: Any, config: dict[str, Any], shape: Sequence[int]) -> list[list[int]]:
    transposed = "Transpose" in type(layer).__name__
    found = []
    for axis, kernel in enumerate(config["kernel"]):
        extent = config["dilation"][axis] * (kernel - 1) + 1
        stride = config["stride"][axis]
        if layer.padding == "same" and transposed:
            total = max(extent - stride, 0)
        elif layer.padding == "same" and shape:
            size = int(shape[1 + axis])
            total = max((math.ceil(size / stride) - 1) * stride + extent - size, 0)
        elif layer.padding == "causal":
            found.append([extent - 1, 0])
            continue
        else:
            total = 0
        found.append([total // 2, total - total // 2])
    return found


def function_config(operation: Any, shape: Sequence[int], padding: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """The same for what stands between layers.

    Args:
        operation: a layer without parameters, an operation, or an activation function.
        shape: of what it was given, with the batch.
        padding: zeros around its input, by axis.
    """
    name = type(operation).__name__
    if "Pooling" in name:
        return _of_pooling(operation, shape, padding)
    function = getattr(operation, "activation", None)
    if callable(operation) and not isinstance(operation, kl.Layer) and hasattr(operation, "__name__"):
        function = operation
    word = str(getattr(function, "__name__", name)).lower()
    found: dict[str, Any] = {"function": _FUNCTIONS.get(word, word)}
    if name == "ReLU" and operation.max_value is not None:
        found["function"] = "relu6" if float(operation.max_value) == 6 else "clip"
    if name == "Gelu":
        found["function"] = "gelu_tanh" if getattr(operation, "approximate", False) else "gelu"
    if name == "LeakyReLU" or (name == "ReLU" and operation.negative_slope):
        found |= {"function": "leaky_relu", "slope": float(operation.negative_slope)}
    if name == "ELU":
        found["slope"] = float(operation.alpha)
    return found


def _of_pooling(layer: Any, shape: Sequence[int], padding: Sequence[tuple[int, int]]) -> dict[str, Any]:
    name = type(layer).__name__
    found: dict[str, Any] = {"mode": "max" if "Max" in name else "average"}
    if name.startswith("Global") or name.startswith("Adaptive"):
        return found
    places = len(shape) - 2
    found |= {"kernel": _several(layer.pool_size, places), "stride": _several(layer.strides, places)}
    own = _padding(layer, {**found, "dilation": [1] * places}, shape)
    own = together(padding, own)
    found["padding"] = own
    if found["mode"] == "average" and any(before or after for before, after in own):
        # Zeros of its own "same" padding are left out of the mean; those of a layer in front of it count.
        found["counts_padding"] = bool(padding)
    return found

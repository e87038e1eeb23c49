"""What decides what a layer of a user's own model computes, in neutral words, read from torch's modules and calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from transfer_parity.shared.runtime.canonical import together

#: torch's names of functions and modules to neutral ones, where those differ.
_FUNCTIONS = {"hardtanh": "clip", "hardswish": "hard_swish", "hardsigmoid": "hard_sigmoid", "swish": "silu"}
_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSES = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
#: Places of the parameters of torch's functions for poolings, behind the input.
_POOLING = ("kernel_size", "stride", "padding")


def config_of(layer: Any, shape: Sequence[int] = ()) -> dict[str, Any]:
    """The keys of ``LayerRecord.config`` for a layer with parameters.

    Args:
        layer: of torch.
        shape: of what it was given, with the batch; torch's own layers do not depend on it.
    """
    found: dict[str, Any] = {}
    if isinstance(layer, (*_CONVS, *_TRANSPOSES)):
        found = {
            "kernel": list(layer.kernel_size),
            "stride": list(layer.stride),
            "dilation": list(layer.dilation),
            "groups": layer.groups,
            "padding": _padding(layer),
        }
        if layer.padding_mode != "zeros":
            found["padding_mode"] = layer.padding_mode
    if isinstance(layer, _BATCH_NORMS):
        found = {"epsilon": layer.eps, "momentum": layer.momentum}
        if type(layer).forward in [each.forward for each in _BATCH_NORMS]:
            # A subclass with a forward pass of its own may remember another one.
            found["biased_variance"] = False
    if isinstance(layer, nn.LayerNorm | nn.RMSNorm):
        epsilon = torch.finfo(torch.get_default_dtype()).eps if layer.eps is None else layer.eps
        found = {"epsilon": epsilon, "axes": list(range(-len(layer.normalized_shape), 0))}
    if isinstance(layer, nn.GroupNorm):
        found = {"epsilon": layer.eps, "groups": layer.num_groups}
    if isinstance(layer, nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d):
        found = {"epsilon": layer.eps, "groups": layer.num_features}
    if isinstance(layer, nn.GRU):
        found = {"reset_after": True}
    if isinstance(layer, nn.MultiheadAttention):
        found = {"heads": layer.num_heads, "scale": layer.head_dim**-0.5}
    return found


def _several(value: Any, places: int) -> list[int]:
    """One number for each axis."""
    return [int(each) for each in value] if isinstance(value, list | tuple) else [int(value)] * places


def _padding(module: Any) -> list[list[int]]:
    if isinstance(module.padding, str):
        if module.padding == "valid":
            return [[0, 0] for _ in module.kernel_size]
        totals = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        return [[total // 2, total - total // 2] for total in totals]
    if isinstance(module, _TRANSPOSES):
        return [[p, p - o] for p, o in zip(module.padding, module.output_padding, strict=True)]
    return [[each, each] for each in module.padding]


def function_config(operation: Any, shape: Sequence[int], padding: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """The same for what stands between layers.

    Args:
        operation: a call of one of torch's functions: ``func``, ``args``, ``kwargs``, and ``module``, without
            parameters, that made it, if one did.
        shape: of what it was given, with the batch.
        padding: zeros around its input, by axis.
    """
    module, kwargs = operation.module, operation.kwargs
    name = str(getattr(operation.func, "__name__", operation.func)).strip("_")
    if "pool" in name or name in ("mean", "amax"):
        return _of_pooling(name, module, operation.args, kwargs, shape, padding)
    found: dict[str, Any] = {"function": _FUNCTIONS.get(name, name)}

    def given(key: str, place: int, default: Any) -> Any:
        return kwargs.get(key, operation.args[place] if len(operation.args) > place else default)

    if name == "gelu":
        found["function"] = "gelu_tanh" if given("approximate", 1, "none") == "tanh" else "gelu"
    if name == "leaky_relu":
        found["slope"] = given("negative_slope", 1, 0.01)
    if name in ("elu", "celu"):
        found["slope"] = given("alpha", 1, 1.0)
    if name in ("hardtanh", "clamp", "clip"):
        ends = (given("min_val", 1, None), given("max_val", 2, None))
        ends = tuple(kwargs.get(key, end) for key, end in zip(("min", "max"), ends, strict=True))
        relu = {(0, 6): "relu6", (0, None): "relu"}
        found["function"] = relu.get(ends, "clip")
        if isinstance(module, nn.ReLU6):
            found["function"] = "relu6"
    if name in ("softmax", "log_softmax") and len(shape):
        axis = given("dim", 1, None)
        if isinstance(axis, int):
            found["axes"] = [axis - len(shape) if axis >= 0 else axis]
    return found


def _of_pooling(
    name: str, module: Any, args: Any, kwargs: Any, shape: Sequence[int], padding: Sequence[tuple[int, int]]
) -> dict[str, Any]:
    found: dict[str, Any] = {"mode": "max" if "max" in name else "average"}
    if "pool" not in name or name.startswith("adaptive"):
        return found
    places = max(len(shape) - 2, 1)
    if module is not None and hasattr(module, "kernel_size"):
        values = {key: getattr(module, key) for key in _POOLING}
        counts = getattr(module, "count_include_pad", True)
    else:
        values = {
            key: kwargs.get(key, args[place] if len(args) > place else None) for place, key in enumerate(_POOLING, 1)
        }
        counts = kwargs.get("count_include_pad", args[5] if len(args) > 5 else True)
    kernel = values["kernel_size"]
    stride = kernel if values["stride"] in (None, ()) else values["stride"]
    own = [[each, each] for each in _several(values["padding"] or 0, places)]
    own = together(padding, own)
    found |= {"kernel": _several(kernel, places), "stride": _several(stride, places), "padding": own}
    if found["mode"] == "average" and any(before or after for before, after in own):
        found["counts_padding"] = bool(counts)
    return found

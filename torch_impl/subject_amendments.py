"""Changes of one thing about one layer of a user's own model, to see whether a difference goes away with it.

Layers are changed themselves. Of what stands between them, in modules or in calls of functions, the call is replaced
whenever the model computes (``internals.CHANGES``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from transfer_parity.shared.contract.inventory import Amendment
from transfer_parity.torch_impl import layer_kinds
from transfer_parity.torch_impl.internals import CHANGES, replaced, with_parameters
from transfer_parity.torch_impl.subject_layers import surrounded

_FUNCTIONS: dict[str, Any] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "mish": F.mish,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": F.softplus,
    "hard_swish": F.hardswish,
    "hard_sigmoid": F.hardsigmoid,
    "elu": F.elu,
    "leaky_relu": F.leaky_relu,
    "linear": lambda x: x,
}
_SLOPED: dict[str, Any] = {"leaky_relu": F.leaky_relu, "elu": F.elu, "celu": F.celu}
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSES = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_WINDOWS = ("kernel", "stride", "padding", "counts_padding")
_MAXIMA: dict[int, Any] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MEANS: dict[int, Any] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def amend(model: nn.Module, amendment: Amendment, others: dict[str, Any]) -> None:
    """Change one thing about a layer, or make it what it was.

    Args:
        model: that is changed.
        amendment: whose layer is a name of the inventory, or "*" for every layer that has the key.
        others: what puts out each layer and entry, by its name.

    Raises:
        ValueError: it cannot be changed there.
    """
    named = dict(layer_kinds.layers(model))
    if amendment.layer == "*":
        several = [(name, each) for name, each in named.items() if _has(each, amendment.key)]
        if not several:
            raise ValueError(f"no layer has {amendment.key}")
        for name, module in several:
            _amended(module, amendment, others.get(name))
        return
    name, _, again = amendment.layer.partition("#")
    if amendment.layer in others and amendment.layer not in named and not again:
        _change(model, amendment, others[amendment.layer])
        return
    module = named.get(name) or named.get(name.rpartition(".")[0])
    if module is None:
        raise ValueError(f"there is no layer {amendment.layer}")
    if not _amended(module, amendment, others.get(amendment.layer)):
        raise ValueError(f"{amendment.layer} has no {amendment.key} that can be changed to {amendment.value}")


def _has(module: nn.Module, key: str) -> bool:
    if key == "epsilon":
        return hasattr(module, "eps")
    return key in ("momentum", "biased_variance") and isinstance(module, _BATCH_NORMS)


def _amended(module: Any, amendment: Amendment, call: Any) -> bool:
    """Change a layer; ``call``: what the inventory has of it. Returns whether it could be."""
    key, value = amendment.key, amendment.value
    as_it_was = call is not None and call.config.get(key) == value
    if key == "epsilon" and hasattr(module, "eps"):
        module.eps = value
    elif key == "momentum" and isinstance(module, _BATCH_NORMS):
        module.momentum = value
    elif key == "biased_variance" and isinstance(module, _BATCH_NORMS):
        replaced(module, _biased if value else None)
    elif key == "padding" and isinstance(module, (*_CONVS, *_TRANSPOSES)):
        return _pad(module, [list(map(int, each)) for each in value], surrounded(module))
    elif key in ("stride", "dilation") and isinstance(module, (*_CONVS, *_TRANSPOSES)):
        setattr(module, key, tuple(value))
    elif key == "groups" and isinstance(module, nn.GroupNorm) and module.num_channels % int(value) == 0:
        module.num_groups = int(value)
    elif key == "axes" and isinstance(module, nn.LayerNorm):
        replaced(module, None if as_it_was else partial(_normalised, axes=tuple(value)))
    elif key == "scale" and isinstance(module, nn.MultiheadAttention):
        # Scores are scaled where queries are: the module itself divides by the root of the size.
        factor = 1.0 if as_it_was else value / module.head_dim**-0.5
        replaced(module, None if factor == 1 else partial(_scaled, factor=factor))
    else:
        return False
    return True


def _pad(module: Any, value: list[list[int]], outside: tuple[tuple[int, int], ...]) -> bool:
    """Pad with zeros around a layer. ``outside``: what already is around its input."""
    if outside:
        value = [[a - c, b - d] for (a, b), (c, d) in zip(value, outside, strict=True)]
    if isinstance(module, _TRANSPOSES):
        if any(not 0 <= before - after < stride for (before, after), stride in zip(value, module.stride, strict=True)):
            return False
        module.padding = tuple(before for before, _ in value)
        module.output_padding = tuple(before - after for before, after in value)
        return True
    if module.padding_mode != "zeros":
        return False
    # torch itself can only pad alike on both sides, and take nothing away.
    alike = all(before == after >= 0 for before, after in value)
    module.padding = tuple(before for before, _ in value) if alike else (0,) * len(value)
    flat = _flat(value)
    replaced(module, None if alike else lambda layer, x: type(layer).forward(layer, F.pad(x, flat)))
    return True


def _flat(padding: list[list[int]]) -> list[int]:
    """[before, after] by axis as ``F.pad`` takes it: the last axis first."""
    return [each for pair in reversed(padding) for each in pair]


def _biased(layer: Any, x: Tensor) -> Tensor:
    """A normalisation that remembers the biased variance, (n - 1)/n of the sample variance that torch counts."""
    learns = layer.training and layer.running_var is not None and layer.momentum is not None
    before = layer.running_var.clone() if learns else None
    output: Tensor = type(layer).forward(layer, x)
    if before is not None:
        n = x.numel() / x.shape[1]
        kept = (1 - layer.momentum) * before
        with torch.no_grad():
            layer.running_var.data.copy_(kept + (layer.running_var - kept) * (n - 1) / n)
    return output


def _normalised(layer: Any, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """A normalisation over other axes; its scale and offset stand along these if they fit, else along the last ones."""
    variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    found = (x - mean) / torch.sqrt(variance + layer.eps)
    sizes = [x.shape[axis] for axis in axes]
    for parameter, does in ((layer.weight, torch.mul), (layer.bias, torch.add)):
        if parameter is not None:
            fits = list(parameter.shape) == sizes
            shape = [x.shape[i] if fits and i - x.ndim in axes else 1 for i in range(x.ndim)]
            found = does(found, parameter.reshape(shape) if fits else parameter)
    return found


def _scaled(layer: Any, *args: Any, factor: float, **named: Any) -> Any:
    """An attention whose queries are larger by a factor; their bias too."""
    rows = torch.ones(3 * layer.embed_dim)
    rows[: layer.embed_dim] = factor
    changed = {}
    if layer.in_proj_weight is not None:
        changed["in_proj_weight"] = layer.in_proj_weight * rows[:, None]
    else:
        changed["q_proj_weight"] = layer.q_proj_weight * factor
    if layer.in_proj_bias is not None:
        changed["in_proj_bias"] = layer.in_proj_bias * rows
    with with_parameters(layer, changed):
        return type(layer).forward(layer, *args, **named)


def _change(model: nn.Module, amendment: Amendment, call: Any) -> None:
    """Change what stands between layers."""
    key, value, changes = amendment.key, amendment.value, CHANGES.setdefault(model, {})
    if call.config.get(key) == value:
        changes.pop(amendment.layer, None)
        return
    if call.operations > 1:
        raise ValueError(f"{amendment.layer} is written in several operations, of which none can be changed alone")
    change: Callable[..., Tensor] | None = None
    if key == "function" and "function" in call.config and value in _FUNCTIONS:
        change = _function(_FUNCTIONS[value])
    elif key == "slope" and call.config.get("function") in _SLOPED and value is not None:
        change = _function(partial(_SLOPED[call.config["function"]], **_slope(call.config["function"], value)))
    elif key == "axes" and call.func in (F.softmax, torch.softmax, Tensor.softmax) and len(value) == 1:
        change = _function(partial(torch.softmax, dim=int(value[0])))
    elif key == "mode" and value in ("max", "average") and "mode" in call.config and "kernel" not in call.config:
        change = partial(_whole, maximum=value == "max")
    elif "kernel" in call.config and key in ("mode", *_WINDOWS):
        config = {"counts_padding": True, **call.config, key: value}
        change = partial(_windows, config=config, outside=call.padding)
    if change is None:
        raise ValueError(f"{amendment.layer} has no {key} that can be changed to {value}")
    changes[amendment.layer] = change


def _slope(function: str, value: float) -> dict[str, float]:
    return {"negative_slope" if function == "leaky_relu" else "alpha": float(value)}


def _function(function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def change(func: Any, args: Any, kwargs: Mapping[str, Any]) -> Tensor:
        return function(args[0] if args else kwargs["input"])

    return change


def _whole(func: Any, args: Any, kwargs: Mapping[str, Any], maximum: bool) -> Tensor:
    """A pooling to few places by the other function: the windows of torch's own call."""
    x = args[0] if args else kwargs["input"]
    name = str(func.__name__)
    if "pool" not in name:
        axes = kwargs.get("dim", args[1] if len(args) > 1 else tuple(range(x.ndim)))
        keeps = bool(kwargs.get("keepdim", args[2] if len(args) > 2 else False))
        return torch.amax(x, axes, keeps) if maximum else torch.mean(x, axes, keeps)
    size = kwargs.get("output_size", args[1] if len(args) > 1 else 1)
    places = int(name[-2])
    several: dict[tuple[int, bool], Any] = {
        (1, True): F.adaptive_max_pool1d,
        (2, True): F.adaptive_max_pool2d,
        (3, True): F.adaptive_max_pool3d,
        (1, False): F.adaptive_avg_pool1d,
        (2, False): F.adaptive_avg_pool2d,
        (3, False): F.adaptive_avg_pool3d,
    }
    found: Tensor = several[places, maximum](x, size)
    return found


def _windows(
    func: Any, args: Any, kwargs: Mapping[str, Any], config: Mapping[str, Any], outside: tuple[tuple[int, int], ...]
) -> Tensor:
    """A pooling of windows as the inventory's keys say. ``outside``: zeros that already are around its input."""
    x = args[0] if args else kwargs["input"]
    kernel, stride, places = config["kernel"], config["stride"], len(config["kernel"])
    around = [list(each) for each in outside] or [[0, 0]] * places
    pairs = zip(config["padding"], around, strict=True)
    own = _flat([[a - c, b - d] for (a, b), (c, d) in pairs])
    if config["mode"] == "max":
        found: Tensor = _MAXIMA[places](F.pad(x, own, value=-math.inf), kernel, stride)
        return found
    total = _MEANS[places](F.pad(x, own), kernel, stride)
    if config["counts_padding"]:
        return total
    inner = _flat([[-before, -after] for before, after in around])
    ones = F.pad(torch.ones_like(F.pad(x, inner)), _flat(around))
    return total / _MEANS[places](F.pad(ones, own), kernel, stride)

"""Initial weights, drawn in NumPy by name and shape, so that both wings ask for the same arrays in any order."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from transfer_parity.shared.core.random import generator


def draw_weights(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, NDArray[np.float64]]:
    """Initial weights by neutral name, float64. A name's array depends on nothing but its name, its shape and the seed.

    Convolutions: normal with variance 2/fan_in (He et al., 2015). Dense layers: uniform in +-sqrt(6/(fan_in + fan_out))
    (Glorot and Bengio, 2010). Scales and running variances one; biases, shifts and running means zero. ConvNeXt's layer
    scales 1e-6 (Liu et al., 2022, table 5).

    Args:
        shapes: in torch's layout.
        seed: of the run.
    """
    return {name: _draw_parameter(name, shape, seed) for name, shape in shapes.items()}


def close_residual_branches(
    weights: Mapping[str, NDArray[np.float64]], without_shortcut: tuple[str, ...] = ()
) -> dict[str, NDArray[np.float64]]:
    """The same weights with a zero scale at the end of every residual branch: each block starts as the identity.

    For training from scratch (Goyal et al., 2017, section 5.1). Otherwise the rounding error of one step grows tenfold
    in the next, and no two frameworks stay together. Not for frozen random features: it makes the network shallow.

    Args:
        weights: of a backbone by neutral name.
        without_shortcut: blocks that keep their channels and yet have no shortcut: a zero there would end the signal.
    """
    scales = _residual_scales({name: array.shape for name, array in weights.items()}, without_shortcut)
    return {name: np.zeros_like(array) if name in scales else array for name, array in weights.items()}


def _draw_parameter(name: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float64]:
    kind = name.rpartition(".")[2]
    if len(shape) == 4:
        fan_in = math.prod(shape[1:])
        return generator(seed, "weights", name).standard_normal(shape) * math.sqrt(2 / fan_in)
    if len(shape) == 2:
        bound = math.sqrt(6 / (shape[0] + shape[1]))
        return generator(seed, "weights", name).uniform(-bound, bound, shape)
    if kind == "layer_scale":
        return np.full(shape, 1e-6)
    return np.ones(shape) if kind in ("weight", "running_var") else np.zeros(shape)


def draw_trained_looking_weights(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, NDArray[np.float64]]:
    """Random weights under which every parameter of a backbone matters, to compare functions without trained weights.

    In untrained weights many differences hide: shifts and running means of zero make every padding alike, running
    variances of one make epsilons small, a layer scale of 1e-6 removes its block. Here kernels are those of
    ``draw_weights``; scales are around one and running variances in [0.5, 1.5]; shifts, biases and running
    means are small. Residual branches are damped, so that a hundred of them still add up to activations of order one.

    Args:
        shapes: of a backbone, in torch's layout.
        seed: of the draw.
    """
    damped = _residual_scales(shapes)
    weights: dict[str, NDArray[np.float64]] = {}
    for name, shape in shapes.items():
        random = generator(seed, "trained-looking", name)
        kind = name.rpartition(".")[2]
        if len(shape) in (2, 4):
            weights[name] = _draw_parameter(name, shape, seed)
        elif kind == "running_var":
            weights[name] = random.uniform(0.5, 1.5, shape)
        elif kind == "layer_scale":
            weights[name] = random.uniform(0.1, 0.3, shape)
        elif kind == "weight":
            weights[name] = random.uniform(0.8, 1.2, shape) * (0.2 if name in damped else 1.0)
        else:
            # The gates of squeeze-and-excitation stand half open at zero, which would halve the signal in every block.
            weights[name] = random.normal(2.0 if name.endswith(".fc2.bias") else 0.0, 0.1, shape)
    return weights


def _residual_scales(shapes: Mapping[str, tuple[int, ...]], without_shortcut: tuple[str, ...] = ()) -> set[str]:
    """Names of the scales that close a residual branch: the block keeps its channels, or its shortcut downsamples."""
    blocks: dict[str, list[str]] = {}
    # By number within a block (conv1, conv2, conv10), whatever the order in which a framework lists its parameters.
    for name in sorted(shapes, key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)]):
        match = re.match(r"(layer\d+\.\d+|features\.\d+(\.\d+)?)(?=\.(conv|bn|block))", name)
        if match and name.endswith(".weight"):
            blocks.setdefault(match[0], []).append(name)
    found = set()
    for block, names in blocks.items():
        scales = [name for name in names if name.removesuffix("weight") + "running_var" in shapes]
        kernels = [name for name in names if len(shapes[name]) == 4]
        if scales and block not in without_shortcut:
            (out, inner, *_), (channels,) = shapes[kernels[0]], shapes[scales[-1]]
            # A depthwise kernel has one input channel for each of its outputs.
            if channels == (out if inner == 1 else inner) or f"{block}.downsample.0.weight" in shapes:
                found.add(scales[-1])
    return found

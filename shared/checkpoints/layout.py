"""Keras's layout and words for an array, and torch's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from transfer_parity.shared.checkpoints import flattening
from transfer_parity.shared.zoo.pair import Pair


def from_keras_layout(kind: str, array: NDArray[np.generic], depthwise: bool = False) -> NDArray[np.generic]:
    """A Keras array in torch's layout.

    Kernels HWIO to OIHW, depthwise HWCM to (C*M)1HW, dense (in, out) to (out, in), layer scale (C,) to (C, 1, 1).
    """
    if kind == LAYER_SCALE:
        return array.reshape(-1, 1, 1)
    if kind != "kernel":
        return array
    if array.ndim == 2:
        return array.T
    if depthwise:
        height, width, channels, multiplier = array.shape
        return array.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, height, width)
    return array.transpose(3, 2, 0, 1)


def to_keras_layout(kind: str, array: NDArray[np.generic], shape: tuple[int, ...]) -> NDArray[np.generic]:
    """The inverse of ``from_keras_layout``. The Keras variable's ``shape`` tells depthwise from other kernels."""
    if kind == LAYER_SCALE:
        return array.reshape(shape)
    if kind != "kernel":
        return array
    if array.ndim == 2:
        # MobileNetV3's dense layers are 1x1 convolutions in Keras.
        return array.T.reshape(shape)
    if array.shape[1] == 1 and shape[2] != 1:
        _, _, channels, multiplier = shape
        return array.reshape(channels, multiplier, *array.shape[2:]).transpose(2, 3, 0, 1)
    return array.transpose(2, 3, 1, 0)


def classifier_from_keras(name: str, array: NDArray[Any], pair: Pair) -> NDArray[Any]:
    """An array in torch's layout, made into one for the classifier as torchvision builds it, if it belongs to that.

    Keras flattens (H, W, C), torch (C, H, W): the inputs of VGG's first dense layer change places. MobileNetV3's
    classifier is made of 1x1 convolutions in Keras, of dense layers in torchvision.
    """
    if name == pair.flattened and flattening.is_square(array, pair):
        return flattening.from_keras_order(array, pair)
    return array[:, :, 0, 0] if pair.in_classifier(name) and array.ndim == 4 else array


#: The last part of a parameter's name: Keras's word to torch's.
PARAMETER_NAMES = {
    "kernel": "weight",
    "depthwise_kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
#: ConvNeXt's factor on each channel of a block: a layer in Keras, a parameter of the block in torchvision.
LAYER_SCALE = "layer_scale"
#: What a Normalization layer holds: constants of the preprocessing, which are no parameters (see PREPROCESSING).
CONSTANTS = frozenset({"mean", "variance", "count"})


def kind_of(module: str, variable: str) -> str:
    """Keras's word for what a variable of a neutral module is; a layer scale's variable has no name worth using."""
    return LAYER_SCALE if module.endswith(f".{LAYER_SCALE}") else variable


def neutral_name(module: str, kind: str) -> str | None:
    """Neutral name of a variable of this kind in a neutral module, or None if there is no such parameter."""
    if kind == LAYER_SCALE:
        return module
    return f"{module}.{PARAMETER_NAMES[kind]}" if kind in PARAMETER_NAMES else None

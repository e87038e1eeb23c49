"""VGG's first dense layer takes a flattened feature map: as (H, W, C) in Keras, as (C, H, W) in torch."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray

from transfer_parity.shared.zoo.pair import Pair

#: The backbone halves an image five times.
_SHRINKS = 32


def map_side(image_size: int) -> int:
    """Side in cells of the feature map of a square image, which has so many pixels a side."""
    return image_size // _SHRINKS


def image_size(map_side: int) -> int:
    """Least side in pixels of an image whose feature map has so many cells a side."""
    return _SHRINKS * map_side


def side(weight: NDArray[Any], pair: Pair) -> int:
    """Side in cells of the feature map that a dense weight (out, in) takes, if ``is_square``."""
    return round(math.sqrt(weight.shape[1] / pair.channels))


def is_square(weight: NDArray[Any], pair: Pair) -> bool:
    """Whether the inputs of a weight (out, in) are a square feature map. If not, it is somebody's own layer."""
    return weight.ndim == 2 and weight.shape[1] == pair.channels * side(weight, pair) ** 2


def from_keras_order(weight: NDArray[Any], pair: Pair) -> NDArray[Any]:
    """A dense weight (out, in) for inputs (H, W, C), made into one for inputs (C, H, W)."""
    cells = side(weight, pair)
    kernel = weight.reshape(len(weight), cells, cells, pair.channels)
    return kernel.transpose(0, 3, 1, 2).reshape(weight.shape)


def to_keras_order(weight: NDArray[Any], pair: Pair) -> NDArray[Any]:
    """A dense weight (out, in) for inputs (C, H, W), made into one for inputs (H, W, C)."""
    cells = side(weight, pair)
    kernel = weight.reshape(len(weight), pair.channels, cells, cells)
    return kernel.transpose(0, 2, 3, 1).reshape(weight.shape)

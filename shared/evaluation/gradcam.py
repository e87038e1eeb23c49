"""Where in an image a class shows: class-activation maps from a feature map and a gradient, and pictures of them.

Grad-CAM (Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization, 2017).
What the frameworks compute, activations and gradients, comes from the wings.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: Reads the same with every kind of colour vision, and in grey.
COLORMAP = "viridis"


def class_activation_maps(activations: NDArray[Any], gradients: NDArray[Any]) -> NDArray[np.float64]:
    """How much each place of a feature map speaks for a class, 0 to 1, float64 (b, h, w).

    Equations 1 and 2 of the paper: a channel weighs as much as its gradient does on average over all places; what is
    left of the weighted sum of channels after a ReLU is the map. Here each map is divided by its largest value. Where
    no place speaks for the class, all of it is zero and stays so; if something is not finite, all of it is NaN.

    Args:
        activations: feature maps, (b, h, w, c).
        gradients: of each image's class logit with respect to them, (b, h, w, c).

    Raises:
        ValueError: the two have different shapes, or other than four dimensions.
    """
    if activations.shape != gradients.shape or activations.ndim != 4:
        raise ValueError(f"activations {activations.shape} and gradients {gradients.shape} must be (b, h, w, c) alike")
    weights = gradients.astype(np.float64).mean(axis=(1, 2))
    with np.errstate(invalid="ignore"):
        maps = np.maximum(np.einsum("bhwc,bc->bhw", activations.astype(np.float64), weights), 0)
    largest = maps.max(axis=(1, 2), keepdims=True)
    largest[largest == 0] = 1
    largest[~np.isfinite(largest)] = np.nan
    return np.asarray(maps / largest, dtype=np.float64)


def upsampled(class_map: NDArray[Any], height: int, width: int) -> NDArray[np.float64]:
    """A map in an image's size, bilinear between the centres of its places, float64 (height, width).

    Args:
        class_map: (h, w).
        height: of the image in pixels.
        width: of the image in pixels.
    """
    places = Image.fromarray(class_map.astype(np.float32))
    return np.asarray(places.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float64)


def correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Pearson's correlation of two maps over their places, -1 to 1.

    It is undefined where a map has the same value everywhere. Here equal maps agree (1), so two that are all zero do,
    and a constant map has nothing in common with a different one (0). NaN if a value is not finite.

    Args:
        a: (h, w).
        b: (h, w).

    Raises:
        ValueError: the two have different shapes.
    """
    if a.shape != b.shape:
        raise ValueError(f"maps of shapes {a.shape} and {b.shape} have no common places")
    x, y = (each.astype(np.float64).ravel() for each in (a, b))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return float("nan")
    if np.array_equal(x, y):
        return 1.0
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def overlay(image: NDArray[np.uint8], class_map: NDArray[Any], opacity: float = 0.5) -> NDArray[np.uint8]:
    """An image under its map in colours, from violet (0) to yellow (1), RGB uint8 (H, W, 3).

    Args:
        image: RGB, (H, W, 3).
        class_map: values from 0 to 1, (h, w).
        opacity: of the colours, 0 to 1.
    """
    # Only who draws needs matplotlib; the frameworks' processes do not wait for it.
    from matplotlib import colormaps

    colours = colormaps[COLORMAP](upsampled(class_map, *image.shape[:2]))[..., :3]
    blended = (1 - opacity) * image + opacity * 255 * colours
    return np.rint(blended).astype(np.uint8)

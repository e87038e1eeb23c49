"""Weak and strong views of an image, as bytes: what both wings see, made of numbers that the plan has drawn.

Weak is a flip and a shift by up to an eighth; strong is a weak view behind two operations of RandAugment's list (Cubuk
et al., 2020) and with a square cut out, as FixMatch has it (Sohn et al., 2020). Pillow makes them for both wings.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

#: Numbers from 0 to 1 that a view is made of.
DRAWS = 10
#: The most that a weak view is shifted, as a part of its side.
SHIFT = 1 / 8
#: What stands where nothing of the image is: the middle of all values.
GREY = (127, 127, 127)

Pixels = NDArray[np.uint8]


def weak(image: Pixels, drawn: NDArray[np.float64]) -> Pixels:
    """A flip and a shift of an image (S, S, 3), with its border mirrored.

    ``drawn``: (DRAWS,), of which the first three count.
    """
    side = image.shape[0]
    most = int(side * SHIFT)
    flipped = image[:, ::-1] if drawn[0] < 0.5 else image
    y, x = (int(each * (2 * most + 1)) for each in drawn[1:3])
    padded = np.pad(flipped, ((most, most), (most, most), (0, 0)), mode="reflect")
    return np.ascontiguousarray(padded[y : y + side, x : x + side])


def strong(image: Pixels, drawn: NDArray[np.float64]) -> Pixels:
    """A weak view of an image (S, S, 3), two operations, and a square of grey. ``drawn``: (DRAWS,)."""
    view = Image.fromarray(weak(image, drawn))
    for which, strength in (drawn[3:5], drawn[5:7]):
        view = OPERATIONS[int(which * len(OPERATIONS))](view, float(strength))
    pixels = np.array(view)
    side = image.shape[0]
    half = int(drawn[7] * side / 4)
    y, x = (int(each * side) for each in drawn[8:10])
    pixels[max(0, y - half) : y + half, max(0, x - half) : x + half] = GREY
    return pixels


def _enhanced(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Callable[[Image.Image, float], Image.Image]:
    """From a twentieth of what it has to nearly twice as much."""
    return lambda image, strength: kind(image).enhance(0.05 + 1.9 * strength)


def _moved(image: Image.Image, *matrix: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=GREY)


def _both_ways(most: float, strength: float) -> float:
    return most * (2 * strength - 1)


#: Operations on an image, with a strength from 0 to 1.
OPERATIONS: tuple[Callable[[Image.Image, float], Image.Image], ...] = (
    lambda image, strength: image,
    lambda image, strength: ImageOps.autocontrast(image),
    lambda image, strength: ImageOps.equalize(image),
    lambda image, strength: ImageOps.posterize(image, 4 + int(strength * 4.99)),
    lambda image, strength: ImageOps.solarize(image, int(strength * 256)),
    _enhanced(ImageEnhance.Brightness),
    _enhanced(ImageEnhance.Color),
    _enhanced(ImageEnhance.Contrast),
    _enhanced(ImageEnhance.Sharpness),
    lambda image, strength: image.rotate(_both_ways(30, strength), Image.Resampling.BILINEAR, fillcolor=GREY),
    lambda image, strength: _moved(image, 1, _both_ways(0.3, strength), 0, 0, 1, 0),
    lambda image, strength: _moved(image, 1, 0, 0, _both_ways(0.3, strength), 1, 0),
    lambda image, strength: _moved(image, 1, 0, _both_ways(0.3 * image.width, strength), 0, 1, 0),
    lambda image, strength: _moved(image, 1, 0, 0, 0, 1, _both_ways(0.3 * image.height, strength)),
)

"""Image files to pixels: whatever a file holds comes out as upright 8-bit RGB, resized and cropped."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
#: What may be in such a file, whatever its name says. Pillow knows more, some of it with programs of its own (EPS).
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
#: The first bytes of every JPEG file.
_JPEG = b"\xff\xd8\xff"
#: Resizing the shorter side of a longer strip would take more memory than any photograph.
MOST_ELONGATED = 50


class Unreadable(Exception):
    """An image file that cannot be decoded; the message is the reason in a few words."""


def read(path: Path, resize: int, size: int) -> NDArray[np.uint8]:
    """Decode a file, resize its shorter side and cut out the centre.

    Bilinear with antialiasing, as torchvision's Resize does with PIL images: the longer side is rounded down.

    Args:
        path: JPEG, PNG, WebP, BMP, GIF (its first frame) or TIFF.
        resize: shorter side after resizing, in pixels.
        size: side of the square that is cut out, in pixels.

    Returns:
        RGB pixels (size, size, 3).

    Raises:
        Unreadable: the file is damaged, truncated, or no image.
    """
    return fit(decode(path), resize, size)


def fit(image: Image.Image, resize: int, size: int) -> NDArray[np.uint8]:
    """Resize the shorter side of a decoded image and cut out the centre, as ``read`` does.

    Raises:
        Unreadable: the image is too elongated.
    """
    width, height = image.size
    if max(width, height) > MOST_ELONGATED * min(width, height):
        raise Unreadable(f"{width}x{height} pixels are too elongated")
    shorter = min(width, height)
    scaled = (int(resize * width / shorter), int(resize * height / shorter))
    image = image.resize(scaled, Image.Resampling.BILINEAR)
    left, top = center(scaled[0], size), center(scaled[1], size)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def decode(source: Path | BinaryIO) -> Image.Image:
    """The file as an upright 8-bit RGB image; transparent parts show white.

    Args:
        source: its path, or what it holds.

    Raises:
        Unreadable: the file is damaged, truncated, or no image.
    """
    try:
        with warnings.catch_warnings():
            # A file that claims a huge size is refused (an error), one that is merely large is read.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(source, formats=FORMATS) as file:
                file.load()
                return to_rgb(ImageOps.exif_transpose(file))
    except UnidentifiedImageError:
        raise Unreadable("not an image") from None
    except Exception as error:
        # Pillow's decoders raise whatever a damaged file leads them into.
        raise Unreadable(str(error).splitlines()[0] if str(error) else type(error).__name__) from None


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode to 8-bit RGB. Pillow alone would clip 16-bit grey at 255 and show what lies under transparent pixels."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = Image.fromarray(_to_eight_bits(np.asarray(image)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(background, image)
    return image.convert("RGB")


def _to_eight_bits(pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Grey of more than 8 bits. Integers count as 16-bit if any exceeds 255, floats as 0..1 if none exceeds 1."""
    values = pixels.astype(np.float64)
    most = values.max(initial=0)
    if pixels.dtype == np.uint16 or (pixels.dtype.kind in "iu" and most > 255):
        values = values / 257
    elif pixels.dtype.kind == "f" and most <= 1:
        values = values * 255
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def is_jpeg(path: Path) -> bool:
    """Whether a file holds a JPEG image, whatever its name says."""
    with path.open("rb") as file:
        return file.read(len(_JPEG)) == _JPEG


def center(length: int, size: int) -> int:
    """First pixel of a centre crop; an odd remainder rounds half to even, as torchvision's center_crop does."""
    return round((length - size) / 2)

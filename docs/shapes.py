"""Draws the images of the sample report: ``python docs/shapes.py FOLDER``. Six shapes, 24 pictures of each."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

#: Corners of each shape on the unit circle: how many, and the radius of every second one (1: a polygon).
CORNERS = {"triangle": (3, 1.0), "square": (4, 1.0), "pentagon": (5, 1.0), "disc": (60, 1.0)}
STARS = {"star": (5, 0.45), "cross": (4, 0.35)}
PICTURES = 24
#: Side of a picture in pixels, and how many times finer it is drawn.
SIDE, FINER = 96, 4


def draw(shape: str, random: np.random.Generator) -> Image.Image:
    """One picture: a shape of any colour, size, place and turn on a blurred background, with a little noise."""
    coarse = random.integers(40, 216, (6, 6, 3), dtype=np.uint8)
    side = SIDE * FINER
    picture = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
    corners, inner = {**CORNERS, **STARS}[shape]
    points = corners * (2 if shape in STARS else 1)
    angles = random.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(points) / points
    lengths = np.where(np.arange(points) % 2 & (shape in STARS), inner, 1.0) * random.uniform(0.18, 0.4) * side
    centre = random.uniform(0.4, 0.6, 2) * side
    outline = centre + lengths[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    colour = tuple(int(value) for value in random.integers(0, 256, 3))
    ImageDraw.Draw(picture).polygon([(float(x), float(y)) for x, y in outline], fill=colour)
    small = picture.filter(ImageFilter.GaussianBlur(FINER)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    noisy = np.asarray(small, np.float64) + random.normal(0, 6, (SIDE, SIDE, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def main(folder: Path) -> None:
    """Draw all pictures, into one folder for each shape."""
    random = np.random.default_rng(0)
    for shape in {**CORNERS, **STARS}:
        (folder / shape).mkdir(parents=True, exist_ok=True)
        for number in range(PICTURES):
            draw(shape, random).save(folder / shape / f"{number:02d}.png")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/shapes.py FOLDER")
    main(Path(sys.argv[1]))

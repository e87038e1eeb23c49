from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from transfer_parity.shared.data import images

RED, GREEN, BLUE = (200, 30, 40), (20, 180, 60), (10, 60, 220)


def quarters(side: int = 64) -> Image.Image:
    """Red, green, blue and grey quarters: an image that shows turned sides and swapped channels."""
    pixels = np.zeros((side, side, 3), dtype=np.uint8)
    half = side // 2
    pixels[:half, :half], pixels[:half, half:] = RED, GREEN
    pixels[half:, :half], pixels[half:, half:] = BLUE, (128, 128, 128)
    return Image.fromarray(pixels)


def corners(path: Path) -> list[tuple[int, ...]]:
    """Colour in the middle of each quarter, row by row."""
    pixels = images.read(path, 64, 64)
    assert pixels.shape == (64, 64, 3)
    assert pixels.dtype == np.uint8
    return [tuple(int(value) for value in pixels[y, x]) for y in (16, 48) for x in (16, 48)]


EXPECTED = [RED, GREEN, BLUE, (128, 128, 128)]


def close(found: Sequence[tuple[int, ...]], expected: Sequence[tuple[int, ...]], tolerance: int) -> bool:
    return bool(np.abs(np.array(found) - np.array(expected)).max() <= tolerance)


@pytest.mark.parametrize(
    ("suffix", "options", "tolerance"),
    [
        (".png", {}, 0),
        (".bmp", {}, 0),
        (".tiff", {}, 0),
        (".webp", {"lossless": True}, 0),
        (".jpg", {"quality": 95}, 8),
        (".gif", {}, 0),
    ],
)
def test_every_format(suffix: str, options: dict[str, Any], tolerance: int, tmp_path: Path) -> None:
    path = tmp_path / f"image{suffix}"
    quarters().save(path, **options)
    assert close(corners(path), EXPECTED, tolerance)


def test_palette(tmp_path: Path) -> None:
    quarters().quantize(8).save(tmp_path / "palette.png")
    assert close(corners(tmp_path / "palette.png"), EXPECTED, 0)


def test_grey(tmp_path: Path) -> None:
    Image.new("L", (64, 64), 77).save(tmp_path / "grey.png")
    assert corners(tmp_path / "grey.png") == [(77, 77, 77)] * 4


def test_one_bit(tmp_path: Path) -> None:
    Image.new("1", (64, 64), 1).save(tmp_path / "bit.png")
    assert corners(tmp_path / "bit.png") == [(255, 255, 255)] * 4


def test_opaque_alpha_changes_nothing(tmp_path: Path) -> None:
    image = quarters()
    image.putalpha(255)
    image.save(tmp_path / "opaque.png")
    assert corners(tmp_path / "opaque.png") == EXPECTED


def test_transparent_parts_show_white_and_not_what_lies_under_them(tmp_path: Path) -> None:
    image = quarters()
    mask = Image.new("L", image.size, 255)
    mask.paste(0, (0, 0, 32, 32))
    image.putalpha(mask)
    image.save(tmp_path / "alpha.png")
    assert corners(tmp_path / "alpha.png") == [(255, 255, 255), *EXPECTED[1:]]


def test_transparent_palette(tmp_path: Path) -> None:
    image = Image.new("P", (64, 64), 0)
    image.putpalette([*RED, *GREEN])
    image.paste(1, (32, 0, 64, 64))
    image.save(tmp_path / "palette.gif", transparency=0)
    assert corners(tmp_path / "palette.gif") == [(255, 255, 255), GREEN] * 2


@pytest.mark.parametrize("suffix", [".jpg", ".tiff"])
def test_cmyk(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"cmyk{suffix}"
    quarters().convert("CMYK").save(path)
    assert close(corners(path), EXPECTED, 10)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bit_grey(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"deep{suffix}"
    Image.fromarray(np.full((64, 64), 77 * 257, dtype=np.uint16)).save(path)
    assert corners(path) == [(77, 77, 77)] * 4


def test_floating_point_grey(tmp_path: Path) -> None:
    Image.fromarray(np.full((64, 64), 0.4, dtype=np.float32)).save(tmp_path / "float.tiff")
    assert corners(tmp_path / "float.tiff") == [(102, 102, 102)] * 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int, tmp_path: Path) -> None:
    turn_back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = quarters()
    stored = image.transpose(turn_back[orientation]) if orientation in turn_back else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "turned.jpg", quality=95, exif=exif)
    assert close(corners(tmp_path / "turned.jpg"), EXPECTED, 8)


def test_only_the_first_frame_of_a_gif(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in (RED, GREEN)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert corners(tmp_path / "moving.gif") == [RED] * 4


def test_the_shorter_side_is_resized_and_the_centre_cut_out(tmp_path: Path) -> None:
    wide = np.zeros((50, 100, 3), dtype=np.uint8)
    wide[:, 40:60] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    pixels = images.read(tmp_path / "wide.png", 100, 80)
    assert pixels.shape == (80, 80, 3)
    # 200 x 100 after resizing: columns 60 to 140 remain, of which 80 to 120 are white.
    assert np.flatnonzero(pixels[40, :, 0] > 127).tolist() == list(range(20, 60))


def test_resizing_averages_and_does_not_skip(tmp_path: Path) -> None:
    stripes = np.zeros((128, 128, 3), dtype=np.uint8)
    stripes[:, ::2] = 200
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    pixels = images.read(tmp_path / "stripes.png", 32, 32)
    # At the border the filter has one side only, and so one stripe more of one kind.
    np.testing.assert_array_equal(pixels[:, 1:-1], 100)


def test_too_elongated(tmp_path: Path) -> None:
    Image.new("RGB", (4000, 2)).save(tmp_path / "strip.png")
    with pytest.raises(images.Unreadable, match="4000x2 pixels are too elongated"):
        images.read(tmp_path / "strip.png", 64, 64)


def test_other_formats_do_not_hide_behind_a_suffix(tmp_path: Path) -> None:
    quarters().save(tmp_path / "page.eps")
    (tmp_path / "page.eps").rename(tmp_path / "page.jpg")
    with pytest.raises(images.Unreadable, match="not an image"):
        images.read(tmp_path / "page.jpg", 64, 64)


@pytest.mark.parametrize("kind", ["truncated", "text", "empty"])
def test_broken_files(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.jpg"
    quarters().save(path)
    data = path.read_bytes()
    path.write_bytes({"truncated": data[: len(data) // 2], "text": b"no picture\n", "empty": b""}[kind])
    with pytest.raises(images.Unreadable):
        images.read(path, 64, 64)

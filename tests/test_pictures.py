from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.data import images
from transfer_parity.shared.data.storage import Files, Pictures, Sprites


def write_sprite(path: Path, count: int, side: int, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Random images (count, side, side, 3) as the rows of a PNG file."""
    pixels = np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels.reshape(count, side * side, 3)).save(path)
    return pixels


def decoded(pictures: Pictures) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.stack([np.asarray(decode()) for _, decode in pictures.decoders()])


def test_every_row_of_every_sprite_is_an_image(tmp_path: Path) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    expected = np.concatenate([write_sprite(paths[0], 5, 4), write_sprite(paths[1], 3, 4, seed=1)])
    sprites = Sprites.of(paths, 4)
    assert len(sprites) == 8
    np.testing.assert_array_equal(decoded(sprites), expected)
    assert [name for name, _ in sprites.decoders()][4:6] == ["a.png, row 4", "b.png, row 0"]
    some = sprites.only(np.arange(8) % 3 == 1)
    np.testing.assert_array_equal(decoded(some), expected[[1, 4, 7]])
    np.testing.assert_array_equal(decoded(some.only(np.array([False, True, True]))), expected[[4, 7]])


def test_images_of_a_sprite_as_files(tmp_path: Path) -> None:
    expected = write_sprite(tmp_path / "a.png", 6, 4)
    sprites = Sprites.of([tmp_path / "a.png"], 4).only(np.arange(6) > 0)
    files = sprites.files([3, 0, 3], tmp_path / "files")
    for path, number in zip(files, (4, 1, 4), strict=True):
        np.testing.assert_array_equal(np.asarray(images.decode(path)), expected[number])
    written = files[0].stat().st_mtime_ns
    assert sprites.files([3], tmp_path / "files") == files[:1]
    assert files[0].stat().st_mtime_ns == written
    assert len(list((tmp_path / "files").iterdir())) == 2


def test_files_are_files_already(tmp_path: Path) -> None:
    files = Files(tmp_path, (tmp_path / "a.png", tmp_path / "b.png"))
    assert files.files([1], tmp_path / "unused") == [tmp_path / "b.png"]
    assert not (tmp_path / "unused").exists()


def test_the_state_tells_changes(tmp_path: Path) -> None:
    write_sprite(tmp_path / "a.png", 6, 4)
    sprites = Sprites.of([tmp_path / "a.png"], 4)
    states = {b"".join(each.state()) for each in (sprites, sprites.only(np.arange(6) < 5))}
    (tmp_path / "a.png").write_bytes(b"something else")
    states.add(b"".join(sprites.state()))
    assert len(states) == 3


def test_a_damaged_sprite(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_sprite(path, 40, 4)
    whole = path.read_bytes()
    with pytest.raises(BadInput, match=r"a\.png is damaged \(it is 16 pixels wide instead of 25\)"):
        Sprites.of([path], 5)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match=r"a\.png is damaged .*fetch it anew"):
        decoded(Sprites.of([path], 4))
    path.write_bytes(b"nothing")
    with pytest.raises(BadInput, match=r"a\.png is damaged"):
        Sprites.of([path], 4)

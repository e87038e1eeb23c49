from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from tests.conftest import CLASSES, write_images
from tests.processes import python
from transfer_parity.shared.core import machine
from transfer_parity.shared.core.cache import VARIABLE, Cache
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.data import folders, pixel_cache, storage


def paths_of(data: folders.Dataset) -> tuple[Path, ...]:
    assert isinstance(data.pictures, storage.Files)
    return data.pictures.paths


def test_a_folder_of_classes(photos: Path) -> None:
    found = folders.from_folder(photos)
    assert found.classes == CLASSES
    assert np.bincount(found.labels).tolist() == [8, 8, 8]
    assert found.is_test is None


@pytest.mark.parametrize("name", ["test", "val", "valid", "Test"])
def test_a_folder_with_its_own_test_set(name: str, tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"a": 3, "b": 4})
    write_images(tmp_path / name, {"a": 1, "b": 2})
    found = folders.from_folder(tmp_path)
    assert found.is_test is not None
    assert (len(found), int(found.is_test.sum())) == (10, 3)
    assert all((name in path.parts) == own for path, own in zip(paths_of(found), found.is_test, strict=True))


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert folders.from_folder(write_images(tmp_path, {"bus": 2, "train": 3})).classes == ("bus", "train")


def test_names_of_another_encoding(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "data", {"a": 2, "b": 2})
    os.rename(os.fsencode(folder / "a" / "00.png"), os.fsencode(folder / "a") + b"/caf\xe9.png")
    with open(os.fsencode(folder / "a") + b"/th\xe9.png", "wb") as file:
        file.write(b"nothing")
    kept, _ = pixel_cache.pixels(folders.from_folder(folder), 36, 32, Cache(tmp_path / "cache"), skip_unreadable=True)
    assert (len(kept), kept.skipped) == (4, ("a/th\ufffd.png",))


def test_test_is_preferred_to_validation(tmp_path: Path) -> None:
    for part, count in (("train", 3), ("val", 1), ("test", 2)):
        write_images(tmp_path / part, {"a": count, "b": count})
    found = folders.from_folder(tmp_path)
    assert found.is_test is not None
    assert int(found.is_test.sum()) == 4


def test_other_files_are_no_images(photos: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(photos, tmp_path / "copy")
    (folder / "README.txt").write_text("notes")
    (folder / "circle" / "notes.txt").write_text("notes")
    (folder / ".hidden").mkdir()
    (folder / "circle" / "deeper").mkdir()
    shutil.copy(folder / "circle" / "00.png", folder / "circle" / "deeper" / "more.PNG")
    assert np.bincount(folders.from_folder(folder).labels).tolist() == [9, 8, 8]


def test_pixels_are_decoded_once_and_again_after_a_change(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "data", {"a": 2, "b": 2})
    cache = Cache(tmp_path / "cache")
    calls: list[int] = []

    def decode() -> Path:
        calls.clear()
        return pixel_cache.pixels(
            folders.from_folder(folder), 36, 32, cache, progress=lambda what, done, total: calls.append(done)
        )[1]

    first = decode()
    assert calls == [1, 2, 3, 4]
    assert np.load(first, mmap_mode="r").shape == (4, 32, 32, 3)
    assert decode() == first
    assert calls == []
    write_images(folder, {"a": 2, "b": 2}, seed=1)
    assert decode() != first
    assert calls == [1, 2, 3, 4]


def test_unreadable_files_are_listed_together_or_skipped(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "data", {"a": 3, "b": 3})
    (folder / "a" / "00.png").write_bytes((folder / "a" / "00.png").read_bytes()[:60])
    (folder / "b" / "text.jpg").write_text("no picture")
    cache, listed = Cache(tmp_path / "cache"), folders.from_folder(folder)
    with pytest.raises(BadInput, match=r"2 image files") as caught:
        pixel_cache.pixels(listed, 36, 32, cache)
    assert "a/00.png" in str(caught.value)
    assert "b/text.jpg: not an image" in str(caught.value)
    kept, path = pixel_cache.pixels(listed, 36, 32, cache, skip_unreadable=True)
    assert kept.skipped == ("a/00.png", "b/text.jpg")
    assert kept.labels.tolist() == [0, 0, 1, 1, 1]
    # Rows follow the files that are left.
    whole, whole_path = pixel_cache.pixels(
        folders.from_folder(write_images(tmp_path / "good", {"a": 3, "b": 3})), 36, 32, cache
    )
    rows = [index for index, each in enumerate(paths_of(whole)) if each.name != "00.png" or each.parent.name != "a"]
    np.testing.assert_array_equal(np.load(path), np.load(whole_path)[rows])


def test_a_file_replaced_by_one_that_looks_the_same(tmp_path: Path) -> None:
    """Same name, size and time of modification, as after unpacking another archive: other pixels all the same."""
    folder, cache = write_images(tmp_path / "set", {"a": 2, "b": 2}), Cache(tmp_path / "cache")
    path = folder / "a" / "00.bmp"
    Image.new("RGB", (40, 40), "red").save(path)
    os.utime(path, (1e9, 1e9))
    _, first = pixel_cache.pixels(folders.from_folder(folder), 36, 32, cache)
    before, digest = np.load(first), pixel_cache.digest(first)
    Image.new("RGB", (40, 40), "blue").save(path)
    os.utime(path, (1e9, 1e9))
    _, second = pixel_cache.pixels(folders.from_folder(folder), 36, 32, cache)
    assert not np.array_equal(before, np.load(second))
    assert pixel_cache.digest(second) != digest


def test_the_digest_is_of_the_pixels(photos: Path, tmp_path: Path) -> None:
    """A copy of the folder elsewhere has the same; another size has not."""
    copy, cache = shutil.copytree(photos, tmp_path / "copy"), Cache(tmp_path / "cache")
    arrays = [pixel_cache.pixels(folders.from_folder(folder), 36, 32, cache)[1] for folder in (photos, copy)]
    assert arrays[0] != arrays[1]
    assert pixel_cache.digest(arrays[0]) == pixel_cache.digest(arrays[1])
    assert pixel_cache.digest(pixel_cache.pixels(folders.from_folder(photos), 40, 32, cache)[1]) != pixel_cache.digest(
        arrays[0]
    )


class Slow(storage.Files):
    """One file over and over; the first of each eight takes long to decode, and all tell when they are asked for."""

    asked: ClassVar[list[int]] = []

    def decoders(self) -> Iterator[tuple[str, storage.Decoder]]:
        def decode(index: int) -> Image.Image:
            time.sleep(0.02 if index % 8 == 0 else 0)
            return Image.new("RGB", (32, 32), (index, 0, 0))

        for index in range(len(self)):
            self.asked.append(index)
            yield str(index), partial(decode, index)


def test_decoding_keeps_the_order_and_little_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_cores", lambda: 4)
    slow = Slow(tmp_path, (tmp_path,) * 200)
    Slow.asked.clear()
    ahead: list[int] = []
    data = folders.Dataset("slow", ("a", "b"), slow, np.zeros(200, dtype=np.int64), None)
    _, path = pixel_cache.pixels(
        data, 32, 32, Cache(tmp_path / "cache"), progress=lambda what, done, total: ahead.append(len(Slow.asked) - done)
    )
    np.testing.assert_array_equal(np.load(path)[:, 0, 0, 0], np.arange(200))
    assert max(ahead) <= 64


def test_memory_does_not_grow_with_the_set(photos: Path, tmp_path: Path) -> None:
    """600 images of 512 pixels are 450 MiB."""
    program = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from transfer_parity.shared.data import folders\n"
        "from transfer_parity.shared.data import pixel_cache\n"
        "from transfer_parity.shared.core import machine\n"
        "from transfer_parity.shared.data import storage\n"
        "from transfer_parity.shared.core.cache import Cache\n"
        "machine.available_cores = lambda: 2\n"
        "files = storage.Files(Path(sys.argv[1]), tuple(sorted(Path(sys.argv[1]).rglob('*.png'))[:1] * 600))\n"
        "data = folders.Dataset('many', ('a', 'b'), files, np.zeros(600, dtype=np.int64), None)\n"
        "before = machine.peak_memory_bytes()\n"
        "pixel_cache.pixels(data, 512, 512, Cache(sys.argv[2]))\n"
        "print((machine.peak_memory_bytes() - before) / 2**20)\n"
    )
    assert float(python(program, photos, tmp_path)) < 100


def test_an_array_that_does_not_fit_on_the_disk(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**5, total=10**6))
    with pytest.raises(
        BadInput, match=r"24 images of .* take 0\.0 GB at 48 px, but .* has 0\.0 GB left; lower --image"
    ):
        pixel_cache.pixels(folders.from_folder(photos), 48, 48, Cache(tmp_path))


def test_an_interruption_leaves_nothing_half_done(photos: Path, tmp_path: Path) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pixel_cache.pixels(folders.from_folder(photos), 36, 32, Cache(tmp_path), progress=interrupt)
    assert not [path for path in (tmp_path / "pixels").rglob("*") if path.is_file()]


def test_the_cache_folder_comes_from_option_then_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "environment"))
    assert Cache(tmp_path / "option").root == tmp_path / "option"
    assert Cache().root == tmp_path / "environment"
    monkeypatch.delenv(VARIABLE)
    assert Cache().root.name == "transfer-parity"

"""Data sets of a framework become folders of image files; here without a framework."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from transfer_parity.shared.contract.wing_values import Portion
from transfer_parity.shared.contract.wings import TORCHVISION
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.data import folders, images
from transfer_parity.shared.runtime import export_dataset


def portion(classes: Sequence[str] | None, images: Sequence[tuple[Path | Image.Image, int]]) -> Portion:
    return Portion(tuple(classes) if classes else None, len(images), iter(images))


def export(make: Callable[[Path], dict[str, Portion]], folder: Path) -> list[str]:
    told: list[str] = []

    def progress(phase: str, total: int) -> Callable[[int], None]:
        return lambda steps: told.append(f"{phase} of {total}")

    # A wing that offers whatever it is given.
    offers = SimpleNamespace(data_set=lambda name, downloads: make(downloads))
    wing: Any = SimpleNamespace(info=TORCHVISION, data=offers)
    export_dataset.export(wing, "Sample", folder, progress)
    return told


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_files_are_moved_and_pixels_written_without_loss(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)

    def make(folder: Path) -> dict[str, Portion]:
        (folder / "deep").mkdir()
        (folder / "deep" / "a.JPEG").write_bytes(b"as it is")
        train: list[tuple[Path | Image.Image, int]]
        train = [(folder / "deep" / "a.JPEG", 1), (Image.fromarray(pixels), 0), (Image.new("CMYK", (8, 8)), 0)]
        return {"train": portion(["rose", "iris"], train), "test": portion(["rose", "iris"], [train[1]])}

    told = export(make, tmp_path)
    assert names(tmp_path / "images") == [
        "test/rose/000000.png",
        "train/iris/000000.jpeg",
        "train/rose/000001.png",
        "train/rose/000002.png",
    ]
    assert (tmp_path / "images/train/iris/000000.jpeg").read_bytes() == b"as it is"
    np.testing.assert_array_equal(np.asarray(images.decode(tmp_path / "images/train/rose/000001.png")), pixels)
    assert told == ["writing train images of Sample of 3"] * 3 + ["writing test images of Sample of 1"]
    found = folders.from_folder(tmp_path / "images")
    assert found.classes == ("iris", "rose")
    assert found.is_test is not None
    assert found.is_test.tolist() == [False, False, False, True]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "YCbCr", "HSV", "F"])
def test_images_of_every_mode(mode: str, tmp_path: Path) -> None:
    export(lambda folder: {"train": portion(["a"], [(Image.new(mode, (8, 8)), 0)])}, tmp_path)
    with Image.open(tmp_path / "images" / "train" / "a" / "000000.png") as image:
        assert image.size == (8, 8)


def test_files_of_other_formats_become_png(tmp_path: Path) -> None:
    def make(folder: Path) -> dict[str, Portion]:
        Image.new("RGB", (8, 8), "red").save(folder / "sign.ppm")
        Image.new("RGB", (8, 8), "red").save(folder / "sign.bmp")
        return {"train": portion(["a"], [(folder / "sign.ppm", 0), (folder / "sign.bmp", 0)])}

    export(make, tmp_path)
    assert names(tmp_path / "images") == ["train/a/000000.png", "train/a/000001.bmp"]


def test_classes_without_names_sort_as_they_count(tmp_path: Path) -> None:
    pictures = [(Image.new("L", (8, 8)), label) for label in (10, 2, 0)]
    export(lambda folder: {"train": portion(None, pictures)}, tmp_path)
    assert folders.from_folder(tmp_path / "images").classes == ("000", "002", "010")


@pytest.mark.parametrize("label", [-1, 2])
def test_images_without_a_class(label: int, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="Sample has images without a class; give another --data"):
        export(lambda folder: {"train": portion(["a", "b"], [(Image.new("L", (8, 8)), label)])}, tmp_path)


def test_a_data_set_that_cannot_be_downloaded(tmp_path: Path) -> None:
    def fail(folder: Path) -> dict[str, Portion]:
        raise OSError("no route to host")

    with pytest.raises(
        BadInput, match=r"Sample is not in the cache, and torch cannot download it \(no route to host\)"
    ):
        export(fail, tmp_path)


@pytest.mark.parametrize(
    ("classes", "folders"),
    [
        (["tench", "snow leopard, ounce"], ["tench", "snow leopard, ounce"]),
        (["T-shirt/top", "abbey\\x"], ["T-shirt-top", "abbey-x"]),
        (["../../up", ".hidden"], ["-..-up", "hidden"]),
        (["B747", "b747"], ["0 B747", "1 b747"]),
        (["", *"abcdefghij"], ["00", *(f"{label:02d} {name}" for label, name in enumerate("abcdefghij", 1))]),
        ([".", ".."], ["0", "1"]),
    ],
)
def test_folder_names(classes: list[str], folders: list[str]) -> None:
    assert export_dataset.folder_names(classes) == folders


def test_only_one_image_at_a_time(tmp_path: Path) -> None:
    def one_by_one() -> Iterator[tuple[Path | Image.Image, int]]:
        for number in range(20):
            yield Image.new("L", (8, 8)), 0
            assert len(names(tmp_path / "images")) == number + 1

    export(lambda folder: {"train": Portion(("a",), 20, one_by_one())}, tmp_path)
    assert len(names(tmp_path / "images")) == 20

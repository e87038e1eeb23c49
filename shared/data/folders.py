"""Labelled images: what a folder holds."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transfer_parity.shared.core import notices, text
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.data import images
from transfer_parity.shared.data.storage import Files, Joined, Pictures

TRAIN = ("train",)
TEST = ("test", "val", "valid", "validation")
#: The labels of several tasks, in the folder of the images, unless another file is named.
TASK_LABELS = "labels.csv"


@dataclass(frozen=True)
class Task:
    """One question about every image: its name, and its classes in label order."""

    name: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Dataset:
    """Images and their labels.

    Attributes:
        name: built-in name or folder.
        classes: names in label order (sorted, as ImageFolder and image_dataset_from_directory do).
        pictures: all N images.
        labels: class index of every image, int64 (N,); of several tasks, (N, T) with a column for each and -1 where the
            class is not known.
        is_test: which images the set itself has apart for testing, bool (N,), or None if it has none.
        skipped: files left out because they could not be read.
        tasks: T of them, if there are several; their classes, one task's behind the other's, are ``classes``.
    """

    name: str
    classes: tuple[str, ...]
    pictures: Pictures
    labels: NDArray[np.int64]
    is_test: NDArray[np.bool_] | None
    skipped: tuple[str, ...] = ()
    tasks: tuple[Task, ...] = ()

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def task_sizes(self) -> tuple[int, ...]:
        """Number of classes of each task; none where there is but one task."""
        return tuple(len(task.classes) for task in self.tasks)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Which images have a label, of any task, (N,)."""
        return np.asarray((self.labels.reshape(len(self), -1) >= 0).any(axis=1))

    @property
    def division(self) -> str:
        """A digest of the class of every image, of the classes' names, and of what is apart for testing."""
        found = hashlib.sha256(json.dumps(self.classes).encode())
        if self.tasks:
            found.update(json.dumps(self.task_sizes).encode())
        for array in (self.labels, self.is_test):
            found.update(b"-" if array is None else array.tobytes())
        return found.hexdigest()

    def only(self, keep: NDArray[np.bool_]) -> Dataset:
        """The images that a mask (N,) chooses, in the same order."""
        is_test = None if self.is_test is None else self.is_test[keep]
        return replace(self, pictures=self.pictures.only(keep), labels=self.labels[keep], is_test=is_test)


def from_folder(folder: Path) -> Dataset:
    """List ``class/image``, or ``train/class/image`` with ``test``, ``val`` or ``valid`` beside it.

    Folders that cannot be opened, and classes without a test image, are told in one sentence each.

    Raises:
        BadInput: there are fewer than two classes, or the test part has a class that the training part lacks.
    """
    parts = {child.name.lower(): child for child in _subfolders(folder)}
    train = next((parts[name] for name in TRAIN if name in parts and _subfolders(parts[name])), None)
    test = next((parts[name] for name in TEST if name in parts), None) if train else None
    root = train or folder
    classes = tuple(child.name for child in _subfolders(root))
    for name in classes:
        if not text.is_name(name):
            raise BadInput(f"{root}: the class folder {text.brief(name)} is not named in UTF-8; rename it.")
    if len(classes) < 2:
        found = f"one class ({classes[0]})" if classes else "no class folders"
        hint = f" {TASK_LABELS} is read with --strategy multi_task." if (root / TASK_LABELS).is_file() else ""
        raise BadInput(
            f"{root} holds {found}; a recipe needs at least two folders of images, one for each class.{hint}"
        )
    if test is not None:
        unknown = sorted({child.name for child in _subfolders(test)} - set(classes))
        if unknown:
            raise BadInput(f"{test} has the class {unknown[0]!r}, which {root} has not; use the same folders in both.")
    paths: list[Path] = []
    labels: list[int] = []
    is_test: list[bool] = []
    closed: list[Path] = []
    for part in filter(None, (root, test)):
        for index, name in enumerate(classes):
            members = image_files(part / name, closed)
            paths += members
            labels += [index] * len(members)
            is_test += [part is test] * len(members)
    tell_of_closed(closed)
    if test is not None:
        tested = {label for label, apart in zip(labels, is_test, strict=True) if apart}
        untested = [name for index, name in enumerate(classes) if index not in tested]
        # Without any test image there is another sentence to say, and an end.
        if untested and tested:
            notices.say(
                f"{test} has no image of {_some(untested)}: how well {_them(untested)} recognised is not measured, and "
                "accuracy is that of the other classes."
            )
    own_test = np.array(is_test, dtype=bool) if test is not None else None
    return Dataset(str(folder), classes, Files(folder, tuple(paths)), np.array(labels, dtype=np.int64), own_test)


def extended(data: Dataset, folder: Path) -> Dataset:
    """A data set with the images of a folder behind all others: they have no label, which is -1, and test nothing.

    Raises:
        BadInput: there is no such folder, or it holds no image.
    """
    if not folder.is_dir():
        raise BadInput(f"--unlabeled {folder}: there is no such folder; give one that holds images.")
    closed: list[Path] = []
    found = image_files(folder, closed)
    if not found:
        raise BadInput(f"--unlabeled {folder} holds no image that can be opened; give a folder with images.")
    more = len(found)
    is_test = None if data.is_test is None else np.concatenate([data.is_test, np.zeros(more, bool)])
    pictures = Joined(data.pictures, Files(folder, tuple(found)))
    return replace(data, pictures=pictures, labels=np.concatenate([data.labels, np.full(more, -1)]), is_test=is_test)


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    except PermissionError:
        raise BadInput(f"{folder} cannot be opened (permission denied); make it readable.") from None


def image_files(folder: Path, closed: list[Path]) -> list[Path]:
    """All files with an image's suffix, however deep; others (notes, thumbnails' indexes) are not images.

    Args:
        folder: of a class; it need not exist.
        closed: receives the folders in it that cannot be opened.
    """
    if not folder.is_dir():
        return []
    found = []
    # Not Path.rglob, which passes over what it cannot open.
    for place, _, names in os.walk(folder, onerror=lambda error: closed.append(Path(error.filename))):
        candidates = [Path(place, name) for name in names if Path(name).suffix.lower() in images.SUFFIXES]
        try:
            found += [path for path in candidates if path.is_file() and not path.name.startswith(".")]
        except PermissionError:
            # Its names can be listed, and nothing in it can be opened.
            closed.append(Path(place))
    return sorted(found)


def tell_of_closed(closed: list[Path]) -> None:
    """Say which folders cannot be opened, if any."""
    if closed:
        notices.say(
            f"{_some(sorted(map(str, closed)))} cannot be opened (permission denied?), and what {_it(closed)} "
            "not used; make the folder readable to use it."
        )


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _it(closed: list[Path]) -> str:
    return "it holds is" if len(closed) == 1 else "they hold is"


def _them(classes: list[str]) -> str:
    return "it is" if len(classes) == 1 else "they are"

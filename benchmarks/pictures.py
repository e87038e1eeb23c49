"""The folders of images that the benchmarks run on."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.data import folders, images

#: Shorter side in pixels of the photographs in a sample.
SIDE = 500


def sample(source: Path | None, parent: Path, train: int = 244, test: int = 153) -> Path:
    """A folder with ``train/`` and ``test/`` of so many JPEGs of about 500 pixels, made once.

    The first images of every class, as evenly as they come; JPEGs that are small enough are copied as they are.

    Args:
        source: a larger folder of images; without one, pictures are drawn.
        parent: folder below which the sample is made.
        train: number of images to train on.
        test: number of images to test on.

    Raises:
        BadInput: the source has too few images.
    """
    name = hashlib.sha256(f"{source.resolve() if source else ''} {train} {test}".encode()).hexdigest()[:12]
    target = parent / f"sample-{name}"
    if target.is_dir():
        return target
    unfinished = parent / f".sample-{name}"
    shutil.rmtree(unfinished, ignore_errors=True)
    if source is None:
        for part, count in (("train", train), ("test", test)):
            _draw(unfinished / part, count, seed=len(part))
    else:
        _choose(folders.from_folder(source), unfinished, train, test)
    unfinished.replace(target)
    return target


def _choose(data: folders.Dataset, target: Path, train: int, test: int) -> None:
    by_class: list[tuple[list[Path], list[Path]]] = []
    paths = data.pictures.files(range(len(data)), target)
    for index in range(len(data.classes)):
        chosen = [i for i in range(len(data)) if data.labels[i] == index]
        own = data.is_test
        to_train = [paths[i] for i in chosen if own is None or not own[i]]
        # Without a test set of its own, a class is tested with what stands at its end.
        to_test = [paths[i] for i in chosen if own[i]] if own is not None else to_train[::-1]
        by_class.append((to_train, to_test))
    taken: set[Path] = set()
    for place, (part, count) in enumerate((("train", train), ("test", test))):
        queues = [[path for path in parts[place] if path not in taken] for parts in by_class]
        for name in data.classes:
            (target / part / name).mkdir(parents=True)
        # Round after round, one of every class that still has some.
        rounds = max((len(queue) for queue in queues), default=0)
        order = [(k, queue[i]) for i in range(rounds) for k, queue in enumerate(queues) if i < len(queue)]
        if len(order) < count:
            raise BadInput(
                f"--data {data.name} has {len(order)} images for {part}/, not {count}; give a larger folder."
            )
        for number, (label, path) in enumerate(order[:count]):
            taken.add(path)
            _copy(path, target / part / data.classes[label] / f"{number:04d}.jpg")


def _copy(source: Path, target: Path) -> None:
    image = images.decode(source)
    width, height = image.size
    if source.suffix.lower() in (".jpg", ".jpeg") and min(width, height) <= SIDE:
        shutil.copyfile(source, target)
        return
    scale = min(1.0, SIDE / min(width, height))
    image.resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR).save(target, quality=90)


def _draw(folder: Path, count: int, seed: int, classes: int = 4) -> None:
    """Cloudy JPEGs whose tint tells their class: nothing to learn from, but as much work as photographs are."""
    random = np.random.default_rng(seed)
    for index in range(classes):
        (folder / f"class{index}").mkdir(parents=True)
    for number in range(count):
        label = number % classes
        tint = 100 + 60 * np.array([label & 1, label >> 1 & 1, 0])
        layers = np.zeros((375, 500, 3))
        for cells in (4, 16, 64):
            noise = random.normal(0, 40, (cells, cells, 3)).clip(-120, 120) + 128
            cloud = Image.fromarray(noise.astype(np.uint8)).resize((500, 375), Image.Resampling.BICUBIC)
            layers += np.asarray(cloud, dtype=np.float64) - 128
        pixels = (tint + layers).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"class{label}" / f"{number:04d}.jpg", quality=90)


def many(parent: Path, count: int, side: int = 64) -> Path:
    """A folder of two classes with so many small PNG pictures, made once and quickly."""
    target = parent / f"many-{count}"
    if target.is_dir():
        return target
    unfinished = parent / f".many-{count}"
    shutil.rmtree(unfinished, ignore_errors=True)
    random = np.random.default_rng(count)
    for label in range(2):
        folder = unfinished / f"class{label}"
        folder.mkdir(parents=True)
        for number in range(label, count, 2):
            blocks = random.integers(0, 200, (4, 4, 3), dtype=np.uint8)
            blocks[..., label] += 50
            Image.fromarray(blocks).resize((side, side), Image.Resampling.NEAREST).save(folder / f"{number:05d}.png")
    unfinished.replace(target)
    return target

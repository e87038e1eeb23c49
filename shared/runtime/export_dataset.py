"""What a framework's process does with a data set that its framework offers: downloads it and writes image files."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from transfer_parity.shared.contract import artifacts
from transfer_parity.shared.contract.wing import Wing
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.data import images

#: Modes that PNG files can hold.
_STORED_AS_THEY_ARE = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})


def export(wing: Wing, name: str, folder: Path, progress: Callable[[str, int], Callable[[int], None]]) -> None:
    """Write ``images/train/class/number`` and, if the set itself has test images, ``images/test/class/number``.

    Files come as they are; what the framework holds as pixels becomes PNG files, without loss.

    Args:
        wing: whose data set.
        name: of the data set, as the framework calls it.
        folder: receives the folder "images".
        progress: makes a function that counts images.

    Raises:
        BadInput: there is no such set, it is not one of labelled images, or it cannot be fetched.
    """
    downloads = folder / artifacts.DOWNLOADS
    downloads.mkdir()
    try:
        portions = wing.data.data_set(name, downloads)
    except OSError as error:
        raise BadInput(
            f"the data set {name} is not in the cache, and {wing.info.identifier} cannot download it ({error}); "
            "connect to the network once, or give --data a folder of images."
        ) from None
    for part, portion in portions.items():
        names = folder_names(portion.classes) if portion.classes else None
        advance = progress(f"writing {part} images of {name}", portion.total)
        for number, (image, label) in enumerate(portion.images):
            if label < 0 or (names and label >= len(names)):
                raise BadInput(f"the data set {name} has images without a class; give another --data.")
            target = folder / artifacts.DATA_SET / part / (names[label] if names else f"{label:03d}")
            target.mkdir(parents=True, exist_ok=True)
            if isinstance(image, Path) and image.suffix.lower() in images.SUFFIXES:
                image.replace(target / f"{number:06d}{image.suffix.lower()}")
            else:
                _storable(image).save(target / f"{number:06d}.png", format="PNG")
            advance(1)


def _storable(image: Path | Image.Image) -> Image.Image:
    if isinstance(image, Path):
        with Image.open(image) as image:
            image.load()
    return image if image.mode in _STORED_AS_THEY_ARE else images.to_rgb(image)


def folder_names(classes: Sequence[str]) -> list[str]:
    """A folder for each class: its name without what a file system would take for something else.

    If two would be the same folder, or one has no name, all get their label in front.
    """
    plain = [re.sub(r'[\x00-\x1f/\\:*?"<>|]+', "-", name).strip(" .") for name in classes]
    if len({name.lower() for name in plain if name}) == len(plain):
        return plain
    digits = len(str(len(plain) - 1))
    return [f"{label:0{digits}d} {name}".strip() for label, name in enumerate(plain)]

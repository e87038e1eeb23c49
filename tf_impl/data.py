"""Data sets that Keras offers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
from PIL import Image

from transfer_parity.shared.contract.wing_values import Portion
from transfer_parity.shared.data.offered import downloading, find

#: The others are texts or tables.
_IMAGES = ("cifar10", "cifar100", "fashion_mnist", "mnist")


def data_set(name: str, folder: Path) -> dict[str, Portion]:
    """One of Keras's data sets of images. Their classes have no names there.

    Args:
        name: of its module, in any spelling.
        folder: stays empty, since Keras keeps downloads in its own cache.

    Raises:
        BadInput: there is no such set.
        OSError: it cannot be fetched.
    """
    offers = {each: getattr(keras.datasets, each) for each in _IMAGES}
    kind = find(name, offers, f"Keras has no data set of images {name!r}")
    with downloading():
        parts = kind.load_data()
    return {
        part: Portion(None, len(images), _pairs(images, labels))
        for part, (images, labels) in zip(("train", "test"), parts, strict=True)
    }


def _pairs(images: Any, labels: Any) -> Iterator[tuple[Path | Image.Image, int]]:
    for image, label in zip(images, labels.ravel().tolist(), strict=True):
        yield Image.fromarray(image), label

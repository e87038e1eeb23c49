"""Data sets that Keras offers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
from PIL import Image

from transfer_parity.shared.contract.wing import Portion
from transfer_parity.shared.core.errors import BadInput, did_you_mean, normalised
from transfer_parity.shared.data.download import impatient

#: The others are texts or tables.
IMAGES = ("cifar10", "cifar100", "fashion_mnist", "mnist")


def data_set(name: str, folder: Path) -> dict[str, Portion]:
    """One of Keras's data sets of images. Their classes have no names there.

    Args:
        name: of its module, in any spelling.
        folder: stays empty, since Keras keeps downloads in its own cache.

    Raises:
        BadInput: there is no such set.
        OSError: it cannot be fetched.
    """
    known = {normalised(each): each for each in IMAGES}
    if normalised(name) not in known:
        raise BadInput(f"Keras has no data set of images {name!r}; {did_you_mean(name, IMAGES)}")
    try:
        with impatient():
            parts = getattr(keras.datasets, known[normalised(name)]).load_data()
    except Exception as error:
        # keras.utils.get_file raises a plain Exception for whatever goes wrong on the way.
        raise OSError(" ".join(str(error).split()) or type(error).__name__) from error
    return {
        part: Portion(None, len(images), _pairs(images, labels))
        for part, (images, labels) in zip(("train", "test"), parts, strict=True)
    }


def _pairs(images: Any, labels: Any) -> Iterator[tuple[Path | Image.Image, int]]:
    for image, label in zip(images, labels.ravel().tolist(), strict=True):
        yield Image.fromarray(image), label

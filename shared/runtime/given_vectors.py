"""What a user's own encoders made of images and classes: looked through before anything starts, and put into jobs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from transfer_parity.shared.contract import artifacts
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.data import image_features, text_features
from transfer_parity.shared.data.folders import Dataset


def check(recipe: Recipe, data: Dataset) -> None:
    """Make sure that a recipe's files hold what it needs for a data set.

    Raises:
        BadInput: one does not.
    """
    _read(recipe, data)


def write(recipe: Recipe, data: Dataset, folder: Path) -> tuple[Path | None, Path | None]:
    """Write what a recipe's strategy takes into the folder of a job.

    Returns:
        Files of the classes' vectors and of the images', where the recipe has any.

    Raises:
        BadInput: as ``check``.
    """
    text, images = _read(recipe, data)
    places = (folder / artifacts.TEXT).absolute(), (folder / artifacts.GIVEN_FEATURES).absolute()
    for array, place in zip((text, images), places, strict=True):
        if array is not None:
            np.save(place, array)
    return places[0] if text is not None else None, places[1] if images is not None else None


def _read(recipe: Recipe, data: Dataset) -> tuple[Array | None, Array | None]:
    images = text = None
    if recipe.image_features is not None:
        # The backbone's own features have the type of the arithmetic, too.
        kind = np.float64 if recipe.precision == "float64" else np.float32
        images = image_features.load(recipe.image_features, data, kind)
    if recipe.method.text and recipe.text_features is not None:
        length = recipe.pair.channels if images is None else images.shape[1]
        text = text_features.load(recipe.text_features, data.classes, length)
    return text, images

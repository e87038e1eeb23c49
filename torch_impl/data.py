"""Data sets that torchvision offers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torchvision.datasets
from PIL import Image

from transfer_parity.shared.contract.wing_values import Portion
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.data.offered import downloading, find

#: torchvision's words for the parts of a set, the preferred one first.
_TRAIN, _TEST = ("train", "trainval", "train-standard"), ("test", "val", "valid")
#: What this project knows to say to a data set's constructor.
_UNDERSTOOD = frozenset({"root", "train", "split", "download", "loader"})


def data_set(name: str, folder: Path) -> dict[str, Portion]:
    """One of torchvision's data sets, downloaded into the folder.

    Args:
        name: of its class, in any spelling.
        folder: receives the downloads.

    Raises:
        BadInput: there is no such set, torchvision cannot download it, or it is not one of labelled images.
        OSError: it cannot be fetched.
    """
    kind = find(name, _available(), f"torchvision has no data set {name!r} that it downloads by its name alone")
    portions = {"train": _portion(kind, _TRAIN, True, folder)}
    if {"train", "split"} & inspect.signature(kind).parameters.keys():
        portions["test"] = _portion(kind, _TEST, False, folder)
    return portions


def _available() -> dict[str, Any]:
    """Classes that need nothing but a folder: those that download their files, and those that make images up."""
    found = {}
    for name in torchvision.datasets.__all__:
        kind = getattr(torchvision.datasets, name)
        if not inspect.isclass(kind):
            continue
        parameters = inspect.signature(kind).parameters
        required = {each.name for each in parameters.values() if each.default is each.empty}
        if required <= _UNDERSTOOD and ("download" in parameters or "root" not in parameters):
            found[name] = kind
    return found


def _portion(kind: Any, splits: tuple[str, ...], train: bool, folder: Path) -> Portion:
    parameters = inspect.signature(kind).parameters
    # Where torchvision lets the caller read the files, they are taken as they are: the path instead of the image.
    offered = {"root": folder, "download": True, "train": train, "loader": Path}
    arguments = {key: value for key, value in offered.items() if key in parameters}
    if "split" not in parameters:
        return _read(kind, _constructed(kind, arguments))
    for split in splits:
        try:
            return _read(kind, _constructed(kind, {**arguments, "split": split}))
        except OSError as error:
            # torchvision says so before it downloads anything.
            if not (isinstance(error.__cause__, ValueError) and "argument split" in str(error)):
                raise
            refusal = error.__cause__
    raise BadInput(
        f"torchvision's {kind.__name__} has no split {' or '.join(splits)} ({refusal}); give another --data."
    )


def _constructed(kind: Any, arguments: dict[str, Any]) -> Any:
    with downloading():
        return kind(**arguments)


def _read(kind: Any, made: Any) -> Portion:
    indices = getattr(made, "class_to_idx", {})
    names = (
        getattr(made, "classes", None)
        or getattr(made, "categories", None)
        or sorted(indices, key=lambda each: indices[each])
    )
    # Imagenette has several names for each class.
    classes = tuple(each if isinstance(each, str) else ", ".join(each) for each in names)
    return Portion(classes or None, len(made), _pairs(kind, made))


def _pairs(kind: Any, made: Any) -> Iterator[tuple[Path | Image.Image, int]]:
    for index in range(len(made)):
        pair = made[index]
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], Path | Image.Image)):
            raise BadInput(f"torchvision's {kind.__name__} is not a set of labelled images; give another --data.")
        image, label = pair
        try:
            yield image, int(label)
        except (TypeError, ValueError, RuntimeError):
            raise BadInput(
                f"torchvision's {kind.__name__} does not have one class for each image; give another --data."
            ) from None

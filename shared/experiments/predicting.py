"""What a kept model says about photographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transfer_parity.shared.checkpoints import kept_model
from transfer_parity.shared.contract import artifacts, wings
from transfer_parity.shared.contract.jobs import Execution, PredictJob
from transfer_parity.shared.contract.recipe import Framework
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.contract.wings import WingInfo
from transfer_parity.shared.core import files, machine, scratch
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.core.progress import Progress
from transfer_parity.shared.data import images
from transfer_parity.shared.evaluation import metrics
from transfer_parity.shared.experiments import model_card
from transfer_parity.shared.runtime import installed, launch


@dataclass(frozen=True)
class Predictions:
    """Of N images in K classes.

    Attributes:
        framework: whose file it was.
        model: the file.
        classes: K names.
        names: of the image files, as they were given or found.
        probabilities: softmax of the logits, float64 (N, K).
        unreadable: files that could not be read, and why.
    """

    framework: Framework
    model: Path
    classes: tuple[str, ...]
    names: tuple[str, ...]
    probabilities: Array
    unreadable: tuple[tuple[str, str], ...]


def find_model(given: Path, framework: Framework | None) -> tuple[WingInfo, Path]:
    """The wing and the file that a path means: a kept model, or a folder of results that has some.

    Raises:
        BadInput: there is none, or it is not the one that its card describes.
    """
    if given.is_dir():
        folder = given / artifacts.MODELS if (given / artifacts.MODELS).is_dir() else given
        offered = [(wing, folder / f"{wing.identifier}{wing.keeps}") for wing in wings.WINGS]
        there = [(wing, path) for wing, path in offered if path.is_file()]
        chosen = [each for each in there if framework in (None, each[0].identifier)]
        if not chosen:
            asked = f" of {framework}" if framework and there else ""
            raise BadInput(f"{given} holds no kept model{asked}; make one with compare.py fit, or name a model's file.")
        here = [each for each in chosen if not installed.missing(each[0].identifier)]
        wing, path = (here or chosen)[0]
    else:
        path = given
        if not path.is_file():
            raise BadInput(f"{path} does not exist; name a folder that compare.py fit has written, or a model's file.")
        found = wings.keeper(path.suffix.lower())
        if found is None:
            raise BadInput(
                f"{path} is no kept model; these end in {' or '.join(wings.keeping())}, and compare.py convert makes "
                "one of the other."
            )
        wing = found
        if framework not in (None, wing.identifier):
            raise BadInput(f"{path} is a file of {wing.identifier}; leave --framework out, or convert it.")
    _check_card(path)
    return wing, path


def _check_card(path: Path) -> None:
    """Make sure that a model which has a card is the one that the card describes."""
    place = path.absolute().parent.parent / artifacts.CARD
    if path.absolute().parent.name != artifacts.MODELS or not place.is_file():
        return
    card = model_card.read(place)
    for each in card.models.values():
        if Path(each.file).name == path.name and files.sha256(path) != each.sha256:
            raise BadInput(f"{path} is not the file that {place.name} describes; fit it again, or move the card away.")


def find_photos(given: Sequence[Path]) -> list[Path]:
    """Files as they are, and all image files of folders, however deep, in order.

    Raises:
        BadInput: something does not exist, or there is nothing.
    """
    found: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = sorted(each for each in path.rglob("*") if each.suffix.lower() in images.SUFFIXES)
            if not inside:
                raise BadInput(f"{path} holds no image files ({', '.join(sorted(images.SUFFIXES))}).")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise BadInput(f"{path} does not exist; name image files, or folders of them.")
    return found


def predict(wing: WingInfo, model: Path, photos: Sequence[Path], progress: Progress) -> Predictions:
    """Put photographs through a model, prepared as its training images were.

    Args:
        wing: whose file it is.
        model: as ``find_model`` found it.
        photos: image files.
        progress: hears how far it is.

    Raises:
        BadInput: the model cannot be used, or no file can be read.
        WorkerFailed: the framework's process ended early.
    """
    kept = kept_model.required(model)
    recipe = kept.recipe
    if recipe.method.takes_tasks:
        raise BadInput(
            f"{model} answers several tasks at once, and predict names one class for each image; read the file with "
            f"{wing.library} itself: its {len(kept.classes)} logits are those of all tasks, one behind the other."
        )
    names, unreadable, pixels = [], [], []
    for number, path in enumerate(photos, start=1):
        try:
            pixels.append(images.read(path, recipe.resize_to, recipe.stored_size))
            names.append(str(path))
        except images.Unreadable as error:
            unreadable.append((str(path), str(error)))
        progress("decoding images", number, len(photos))
    if not pixels:
        name, reason = unreadable[0]
        raise BadInput(f"none of {len(photos)} image files can be read; {name}: {reason}")
    with scratch.folder(artifacts.SCRATCH) as folder:
        np.save(folder / artifacts.IMAGES, np.stack(pixels))
        job = PredictJob(
            execution=Execution.of(recipe, recipe.threads or machine.available_cores()),
            model=model.absolute(),
            images=folder / artifacts.IMAGES,
        )
        launch.run(wing.identifier, job, folder / "work", launch.shown(progress, wing.identifier))
        logits = np.load(folder / "work" / artifacts.LOGITS, allow_pickle=False)
    return Predictions(
        wing.identifier, model, kept.classes, tuple(names), metrics.probabilities(logits), tuple(unreadable)
    )

"""What a person wants converted, checked before any work begins."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from transfer_parity.shared.checkpoints import kept_model, neutral
from transfer_parity.shared.checkpoints.kept_model import KeptModel
from transfer_parity.shared.contract import artifacts, recipe_files, wings
from transfer_parity.shared.contract.jobs import ClassifierChoice
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.wings import WingInfo
from transfer_parity.shared.core import paths
from transfer_parity.shared.core.errors import BadInput, did_you_mean, normalised
from transfer_parity.shared.runtime import installed
from transfer_parity.shared.zoo.lookup import find_pair
from transfer_parity.shared.zoo.pair import Semantics
from transfer_parity.shared.zoo.pairs import PAIRS

#: Suffixes of destinations; a neutral checkpoint needs no wing.
WRITABLE = (artifacts.NEUTRAL, *wings.writable())


@dataclass(frozen=True)
class Request:
    """What a person wants converted.

    Attributes:
        source: a file, or the name of a library for that library's ImageNet weights.
        destination: a file; its suffix chooses the format.
        backbone: name of the pair, if the source does not say.
        semantics: of a source that does not say.
        classifier: whether the source's own classifier is taken if there is one, must be there, or is left out.
        image_size: side in pixels of the images that a Keras model is built for and that the check uses.
        threads: of each framework.
    """

    source: str
    destination: Path
    backbone: str | None = None
    semantics: Semantics | None = None
    classifier: ClassifierChoice = "auto"
    image_size: int | None = None
    threads: int = 1


@dataclass(frozen=True)
class Checked:
    """What a request comes to.

    Attributes:
        recipe: with the backbone and the size of its images; of a kept model, that by which it was trained.
        suffix: that chooses the format of the destination.
        writer: the wing that writes it, or None if none has to.
        kept: what the source says about itself if it is a kept model, which is then converted whole.
    """

    recipe: Recipe
    suffix: str
    writer: WingInfo | None
    kept: KeptModel | None


def writing_suffix(path: Path) -> str:
    """The suffix that chooses the format of a destination.

    Raises:
        BadInput: it is not one of ``WRITABLE``.
    """
    name = path.name.lower()
    for suffix in WRITABLE:
        if name.endswith(suffix) and name != suffix:
            return suffix
    raise BadInput(f"{path}: the name of the destination must end in {', '.join(WRITABLE)}; rename it.")


def guessed_backbone(path: Path) -> str | None:
    """The pair whose name, in Keras's or torchvision's spelling, is in a file's name; the longest if there are more."""
    name = normalised(path.name)
    found = [
        (len(spelling), pair.name)
        for pair in PAIRS
        for spelling in (normalised(pair.name), normalised(pair.torchvision_name))
        if spelling in name
    ]
    return max(found)[1] if found else None


def checked(request: Request) -> Checked:
    """What a request comes to.

    Raises:
        BadInput: the source cannot be read, does not say what it is, or does not fit the destination; or that cannot be
            written.
    """
    suffix = writing_suffix(request.destination)
    installed.make_sure_of(wings.IDENTIFIERS)
    kept = _kept(request)
    recipe = _recipe(request, kept)
    if kept is not None and wings.keeper(suffix) is None:
        raise BadInput(
            f"{request.destination}: no plain class has a place for the trained head of {request.source}; write "
            f"{' or '.join(wings.keeping())}, or give --classifier none for the backbone alone."
        )
    _make_sure_of(request)
    writer = wings.writer(suffix) if kept is None else wings.keeper(suffix)
    return Checked(recipe, suffix, writer, kept)


def reader(path: Path) -> WingInfo:
    """The wing that reads a file.

    Raises:
        BadInput: none does.
    """
    found = wings.reader(path.suffix.lower())
    if found is None:
        raise BadInput(f"{path}: unknown kind of file; give {', '.join(wings.readable())}.")
    return found


def _kept(request: Request) -> KeptModel | None:
    """What the source says about itself, if it is a kept model that is to be converted whole."""
    if request.source in wings.libraries():
        return None
    path = paths.expanded(request.source)
    _make_sure_it_can_be_read(path)
    return kept_model.of_file(path) if request.classifier != "none" else None


def _recipe(request: Request, kept: KeptModel | None) -> Recipe:
    """Backbone and image size, checked like those of any recipe: of a kept model, its own."""
    path = paths.expanded(request.source)
    name = request.backbone
    if request.source not in wings.libraries():
        recorded = _recorded(path)
        if recorded and name and find_pair(name).name != recorded:
            raise BadInput(f"{path} holds weights of {recorded}, not of {name}; leave --backbone out.")
        name = name or recorded or guessed_backbone(path)
    if name is None:
        raise BadInput(f"{request.source}: the name does not say which architecture this is; give --backbone NAME.")
    values = {"backbone": name, "image_size": request.image_size, "device": "cpu"}
    chosen = recipe_files.validated(
        values, "the command line", [key for key, value in values.items() if value is not None]
    )
    if kept is None:
        return chosen
    if request.image_size is not None and chosen.size != kept.recipe.size:
        raise BadInput(
            f"{path} was trained on images of {kept.recipe.size} pixels, not of {chosen.size}; leave --image-size out."
        )
    # Weights are float32 or float64; less precise arithmetic would only blur the check.
    precision = "float64" if kept.recipe.precision == "float64" else "float32"
    return kept.recipe.model_copy(update={"device": "cpu", "precision": precision})


def _recorded(path: Path) -> str | None:
    """The architecture that a file says it has, if it can say so."""
    if path.suffix.lower() == artifacts.NEUTRAL and neutral.is_neutral(path):
        return neutral.read_metadata(path).backbone
    found = neutral.recorded(kept_model.read_record(path), path)
    return found.backbone if found else None


def _make_sure_it_can_be_read(path: Path) -> None:
    if not path.is_file():
        words = did_you_mean(str(path), wings.libraries()) if not path.suffix else "give an existing file"
        raise BadInput(f"there is no file {path}; {words.rstrip('.')}{'' if words.endswith('?') else '.'}")
    reader(path)
    try:
        path.open("rb").close()
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}); make it readable.") from None


def _make_sure_of(request: Request) -> None:
    """Refuse a destination that cannot be written before work begins."""
    destination = request.destination
    if destination.is_dir():
        raise BadInput(f"{destination} is a folder; give the name of a file in it.")
    source = paths.expanded(request.source)
    # Both: a hard link has another path, and a path through ".." need not exist before its folder has been made.
    linked = destination.exists() and source.exists() and destination.samefile(source)
    if linked or (source.exists() and destination.resolve() == source.resolve()):
        raise BadInput(f"{destination} is the source itself; give another destination.")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=destination.parent):
            pass
    except OSError as error:
        raise BadInput(f"{destination} cannot be written ({error.strerror or error}); give another folder.") from None

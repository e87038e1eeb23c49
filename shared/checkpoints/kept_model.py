"""A model that this project trained and kept: what its file says about it, which is all that building it again takes.

Both wings' files say the same, so that either framework can build what the other one has kept. Files stay data: JSON is
read, and nothing that it describes is executed.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
from pydantic import ValidationError

from transfer_parity.shared.checkpoints import neutral
from transfer_parity.shared.contract import artifacts, wings
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.spec import ModelSpec, model_spec
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.zoo.pair import HEAD

#: What every trained head has, of whatever kind it is.
HEAD_WEIGHT = f"{HEAD}output.weight"
#: Member of a zip archive with the record.
MEMBER = f"{neutral.RECORD}.json"
#: Bytes, more than any record has.
_LONGEST_RECORD = 2**20
#: First bytes of an HDF5 file.
_HDF5 = b"\x89HDF\r\n\x1a\n"
#: What a damaged file can lead the libraries into.
_UNREADABLE = (safetensors.SafetensorError, zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError)
#: Keys of a neutral checkpoint's header, which say what a file is and not what the model in it is.
_OF_THE_FILE = ("format", "metadata")


@dataclass(frozen=True)
class KeptModel:
    """What the file of a kept model says.

    Attributes:
        recipe: by which it was trained.
        metadata: of the checkpoint that it began from; of random weights, the reference's semantics.
        classes: their names, in the order of the logits.
        record: all of this as it stands in the file, and whatever else does; a converted file takes it over as it is.
    """

    recipe: Recipe
    metadata: Metadata
    classes: tuple[str, ...]
    record: dict[str, str]

    @property
    def spec(self) -> ModelSpec:
        """The model to build."""
        return model_spec(self.recipe, self.metadata, len(self.classes))


def of_file(path: Path) -> KeptModel | None:
    """What a file says, or None if it is not that of a kept model.

    Raises:
        BadInput: the file is damaged, or what it says cannot be used.
    """
    return of_record(read_record(path), path)


def required(path: Path) -> KeptModel:
    """What the file of a kept model says.

    Raises:
        BadInput: the file is damaged, says nothing, or what it says cannot be used.
    """
    found = of_file(path)
    if found is None:
        raise BadInput(f"{path} does not say which model it holds; use a file as it was kept or converted.")
    return found


def of_record(record: Mapping[str, Any], path: Path) -> KeptModel | None:
    """What the record of a file says, or None if it is not that of a kept model.

    Args:
        record: as ``read_record`` found it.
        path: of the file, for messages.

    Raises:
        BadInput: it is damaged, or contradicts itself.
    """
    if not {"recipe", "classes"} <= record.keys():
        return None
    try:
        recipe = Recipe.model_validate_json(record["recipe"])
        classes = json.loads(record["classes"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("recipe", *first["loc"])))
        raise _unusable(path, f"{where}: {first['msg']}") from None
    except BadInput as error:
        raise _unusable(path, f"recipe: {str(error).rstrip('.')}") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise _unusable(path, type(error).__name__) from None
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        raise _unusable(path, "classes: no list of names")
    metadata = neutral.recorded(record, path)
    if metadata is None or metadata.backbone != recipe.backbone:
        found = metadata.backbone if metadata else "nothing"
        raise _unusable(path, f"a recipe for {recipe.backbone} and weights of {found}")
    kept = {key: text for key, text in record.items() if isinstance(text, str) and key not in _OF_THE_FILE}
    return KeptModel(recipe, metadata, tuple(classes), kept)


def read_record(path: Path) -> dict[str, Any]:
    """What a file says about itself, or nothing if it says nothing, or cannot without running code.

    The header of a ``.safetensors`` file, or a member of the archive of a kept model; before version 0.2 a comparison
    kept that in a ``.json`` file beside it.

    Raises:
        BadInput: the file is damaged.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == artifacts.NEUTRAL:
            with safetensors.safe_open(path, framework="numpy") as file:
                return dict(file.metadata() or {})
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if MEMBER in archive.namelist():
                    if archive.getinfo(MEMBER).file_size > _LONGEST_RECORD:
                        raise BadInput(f"{path}: its {MEMBER} is longer than any description; use another file.")
                    return neutral.parsed_record(archive.read(MEMBER), path)
        elif suffix in wings.keeping() and not _is_hdf5(path):
            raise BadInput(f"{path} is damaged: it is no archive; use another copy of it, or save it again.")
    except _UNREADABLE as error:
        raise neutral.damaged(path, error) from None
    beside = path.with_suffix(".json")
    if suffix in wings.keeping() and beside.is_file() and beside.stat().st_size < _LONGEST_RECORD:
        return neutral.parsed_record(beside.read_bytes(), path)
    return {}


def _is_hdf5(path: Path) -> bool:
    """Whether a file is no archive but what stands in one."""
    with path.open("rb") as file:
        return file.read(len(_HDF5)) == _HDF5


def _unusable(path: Path, why: str) -> BadInput:
    why = " ".join(why.split())
    return BadInput(f"{path}: what it says about its model cannot be used ({why}); use the file as it was kept.")

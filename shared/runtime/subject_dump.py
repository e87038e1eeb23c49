"""What one side writes of a climb of a user's own pair: a folder that can be taken to another machine.

One ``.npy`` file for each array, written as soon as it is computed and read one at a time, so that memory stays bounded
whatever the model's size.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy
from pydantic import TypeAdapter, ValidationError

from transfer_parity.shared.contract.inventory import Inventory
from transfer_parity.shared.contract.rungs import Array, Label, Rung
from transfer_parity.shared.core.document import Document
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.runtime import trace_format

#: Of the folder's format; another one is refused.
FORMAT = 1
INFO, INVENTORY, SUBJECT = "dump.json", "inventory.json", "subject.json"
WEIGHTS, EXAMPLES = "weights.safetensors", "examples.npz"
LABELS = "labels.json"
#: Inputs of every layer, for a climb in single steps.
LAYER_INPUTS = "layer-inputs"

_LABELS = TypeAdapter(list[Label])


class DumpInfo(Document):
    """What a folder is of."""

    format: int = FORMAT
    name: str
    subject: str
    side: str
    framework: str
    backend: str | None
    factory: str
    versions: dict[str, str]
    precision: str
    seed: int
    examples: str


class Dump:
    """The folder of one side's climb.

    Attributes:
        folder: where it is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places: dict[Rung, dict[Label, int]] = {}

    @property
    def info(self) -> DumpInfo:
        """What it is of.

        Raises:
            BadInput: it is no such folder, or of another version.
        """
        path = self.folder / INFO
        try:
            return DumpInfo.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise BadInput(f"{self.folder} holds no dump ({INFO} is missing); give a folder of parity dump.") from None
        except (ValidationError, UnicodeDecodeError):
            raise BadInput(f"{path} is of another version of this program; dump that side again.") from None

    @property
    def inventory(self) -> Inventory:
        """The side's layers."""
        return Inventory.model_validate_json((self.folder / INVENTORY).read_text(encoding="utf-8"))

    def write(self, rung: Rung, label: Label, array: Array) -> None:
        """Write one array of a rung, behind those before it. A label that was written before is replaced."""
        places = self._places.setdefault(rung, {})
        folder = self.folder / rung
        folder.mkdir(parents=True, exist_ok=True)
        place = places.setdefault(label, len(places))
        np.save(folder / f"{place}.npy", np.asarray(array), allow_pickle=False)

    def finish(self, rung: Rung) -> None:
        """Write which arrays a rung has."""
        (self.folder / rung).mkdir(parents=True, exist_ok=True)
        text = _LABELS.dump_json(list(self._places.get(rung, {})), exclude_defaults=True)
        (self.folder / rung / LABELS).write_bytes(text)

    def has(self, rung: Rung) -> bool:
        """Whether a rung was finished."""
        return (self.folder / rung / LABELS).is_file()

    def labels(self, rung: Rung) -> list[Label]:
        """What a rung has, in the order in which it was computed."""
        if rung not in self._places:
            found = _LABELS.validate_json((self.folder / rung / LABELS).read_bytes())
            self._places[rung] = {label: place for place, label in enumerate(found)}
        return list(self._places[rung])

    def read(self, rung: Rung, label: Label) -> Array:
        """One array, as it was written.

        Raises:
            KeyError: the rung does not have it.
        """
        self.labels(rung)
        place = self._places[rung][label]
        array: Array = np.load(self.folder / rung / f"{place}.npy", allow_pickle=False)
        return array

    def write_rounding(self, changes: Mapping[Rung, Mapping[Label, float]]) -> None:
        """How far rounding moves the arrays, relative, by group and, for activations, by label."""
        trace_format.write_rounding(self.folder, changes)

    @property
    def rounding(self) -> dict[Rung, dict[Label, float]]:
        """As ``write_rounding`` wrote it."""
        return trace_format.read_rounding(self.folder)

    def weights(self) -> dict[str, Array]:
        """The weights that the climb began with, canonical, by parameter name."""
        return dict(safetensors.numpy.load_file(self.folder / WEIGHTS))


def write_layer_inputs(folder: Path, layer: str, arrays: list[Array]) -> None:
    """Add the inputs of one layer to a folder."""
    index = _index(folder)
    if layer in index:
        return
    number = len(index)
    folder.mkdir(parents=True, exist_ok=True)
    for place, array in enumerate(arrays):
        np.save(folder / f"{number}-{place}.npy", array, allow_pickle=False)
    index[layer] = [number, len(arrays)]
    (folder / LABELS).write_text(json.dumps(index), encoding="utf-8")


def layers_with_inputs(folder: Path) -> list[str]:
    """Layers whose inputs a folder has."""
    return list(_index(folder))


def read_layer_inputs(folder: Path, layer: str) -> list[Array]:
    """The inputs of one layer."""
    number, count = _index(folder)[layer]
    return [np.load(folder / f"{number}-{place}.npy", allow_pickle=False) for place in range(count)]


def replace_layer_inputs(folder: Path, layer: str, arrays: list[Array]) -> None:
    """Put other inputs of one layer, as many as before, in place of those that are there."""
    number, _ = _index(folder)[layer]
    for place, array in enumerate(arrays):
        np.save(folder / f"{number}-{place}.npy", array, allow_pickle=False)


def rename_layer_inputs(folder: Path, names: Mapping[str, str]) -> None:
    """Call layers as another side does; those without a name there are left out."""
    index = {names[layer]: place for layer, place in _index(folder).items() if layer in names}
    (folder / LABELS).write_text(json.dumps(index), encoding="utf-8")


def _index(folder: Path) -> dict[str, list[int]]:
    path = folder / LABELS
    found: dict[str, list[int]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found

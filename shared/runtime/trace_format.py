"""What a wing writes of a climb, as files in a folder: the arrays of every rung, its names, and measured rounding."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from pydantic import TypeAdapter

from transfer_parity.shared.contract import artifacts
from transfer_parity.shared.contract.rungs import Array, Label, Rung

_LABELS = TypeAdapter(list[Label])
_CHANGES = TypeAdapter(dict[Rung, list[tuple[Label, float]]])


def write(folder: Path, rung: Rung, arrays: Mapping[Label, Array]) -> None:
    """Write a rung, in order.

    The keys of the file are numbers: places in the list of labels that its header holds, as JSON.
    """
    numbered = {str(number): np.ascontiguousarray(array) for number, array in enumerate(arrays.values())}
    labels = _LABELS.dump_json(list(arrays), exclude_defaults=True).decode()
    safetensors.numpy.save_file(numbered, folder / artifacts.rung_file(rung), metadata={"labels": labels})


def read(folder: Path, rung: Rung) -> dict[Label, Array]:
    """A rung as ``write`` wrote it, in order."""
    with safetensors.safe_open(folder / artifacts.rung_file(rung), framework="numpy") as file:
        labels = _LABELS.validate_json(file.metadata()["labels"])
        return {label: file.get_tensor(str(number)) for number, label in enumerate(labels)}


def write_names(folder: Path, names: Mapping[str, str]) -> None:
    """Write the framework's own names of layers and parameters, by neutral name."""
    (folder / artifacts.NAMES).write_text(json.dumps(dict(names)), encoding="utf-8")


def read_names(folder: Path) -> dict[str, str]:
    """Names as ``write_names`` wrote them."""
    names: dict[str, str] = json.loads((folder / artifacts.NAMES).read_text(encoding="utf-8"))
    return names


def write_rounding(folder: Path, changes: Mapping[Rung, Mapping[Label, float]]) -> None:
    """Write how far rounding may move the arrays of each group of labels, relative to their scales."""
    pairs = {rung: list(groups.items()) for rung, groups in changes.items()}
    # By way of the json module: a change may be infinite, which pydantic would write as null.
    text = json.dumps(_CHANGES.dump_python(pairs, exclude_defaults=True))
    (folder / artifacts.ROUNDING).write_text(text, encoding="utf-8")


def read_rounding(folder: Path) -> dict[Rung, dict[Label, float]]:
    """Rounding as ``write_rounding`` wrote it."""
    pairs = _CHANGES.validate_python(json.loads((folder / artifacts.ROUNDING).read_text(encoding="utf-8")))
    return {rung: dict(groups) for rung, groups in pairs.items()}

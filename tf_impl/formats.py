"""Keras's file formats: ``.keras``, ``.weights.h5`` and the legacy ``.h5``. Reading never runs code from a file.

What is in a file, under the names that it has there; ``files.py`` finds the architecture in it. Only HDF5 data sets and
JSON are read, in memory: nothing that a configuration describes is built, and nothing is unpacked to disk.

A Keras 3 file has one group for each layer, with data sets numbered in the order of the layer's variables, so what they
are depends on the layer's class, which the group is called after. Files of today's Keras also have the layer's
name. A legacy file has the names of layers and variables.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import keras

from transfer_parity.shared.checkpoints import kept_model, neutral
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.tf_impl.internals import Leaf, claims_too_much

#: What is written: Keras saves models, torch saves states.
Content: TypeAlias = keras.Model
#: Keras's words for a layer's variables, in their order, by class.
_VARIABLES = {
    "conv2d": ("kernel", "bias"),
    "depthwise_conv2d": ("depthwise_kernel", "bias"),
    "dense": ("kernel", "bias"),
    "layer_normalization": ("gamma", "beta"),
    "layer_scale": ("gamma",),
    "normalization": ("mean", "variance", "count"),
}
#: A batch normalisation may lack its scale, and its shift.
_BATCH_NORMALIZATION = {
    4: ("gamma", "beta", "moving_mean", "moving_variance"),
    3: ("beta", "moving_mean", "moving_variance"),
    2: ("moving_mean", "moving_variance"),
}
#: Keras 3's name for the list of a model's layers, and that of TensorFlow 2.13.
_LAYERS = ("layers", "_layer_checkpoint_dependencies")


@dataclass(frozen=True)
class Opened:
    """What is in a file.

    Attributes:
        leaves: layers with variables.
        left_over: shapes of what belongs to no layer, such as the optimizer's variables, by name in the file.
        configuration: of the model, if it is there.
        record: what the file says about itself, or nothing.
        legacy: whether the file has the arrangement from before Keras 3.
    """

    leaves: list[Leaf]
    left_over: dict[str, tuple[int, ...]]
    configuration: Mapping[str, Any] | None
    record: Mapping[str, Any]
    legacy: bool


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """What is in a file, for as long as the block lasts.

    Raises:
        BadInput: the file is damaged, or no Keras file.
    """
    try:
        with _members(path) as (file, configuration, record):
            legacy = not any(name in file for name in _LAYERS)
            leaves, left_over = _legacy_leaves(file, path) if legacy else _leaves(file, path)
            yield Opened(leaves, left_over, configuration, record, legacy)
    except (OSError, RuntimeError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(f"{path} is not a readable Keras file ({reason}); fetch or save it again.") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(
            f"{path} is not arranged like a Keras file ({type(error).__name__}: {error}); save it again."
        ) from None


def write(path: Path, content: Content, record: Mapping[str, Any]) -> None:
    """Write a model in the format that the suffix chooses, and what it is: a record that Keras reads over.

    Args:
        path: ends in ``.keras``, ``.weights.h5`` or ``.h5``.
        content: what the file is to hold.
        record: anything that JSON can say.
    """
    if path.name.endswith(".weights.h5"):
        content.save_weights(path)
    else:
        content.save(path)
    if path.suffix == ".keras":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(kept_model.MEMBER, json.dumps(record))
    else:
        with h5py.File(path, "r+") as file:
            file.attrs[neutral.RECORD] = json.dumps(record)


@contextmanager
def _members(path: Path) -> Iterator[tuple[h5py.File, dict[str, Any] | None, dict[str, Any]]]:
    """The HDF5 file, the model's configuration and the record, as far as they are there."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = set(archive.namelist())
            if "model.weights.h5" not in members:
                raise BadInput(f"{path} is an archive without model.weights.h5, so no .keras file; save it again.")
            data = _member(archive, "model.weights.h5", path)
            configuration = _json(_member(archive, "config.json", path)) if "config.json" in members else None
        with h5py.File(io.BytesIO(data), "r") as file:
            yield file, configuration, kept_model.read_record(path)
        return
    with h5py.File(path, "r") as file:
        text, record = (file.attrs.get(name) for name in ("model_config", neutral.RECORD))
        yield (
            file,
            _json(text) if text is not None else None,
            neutral.parsed_record(record, path) if record is not None else {},
        )


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    info = archive.getinfo(name)
    if claims_too_much(info.file_size, info.compress_size):
        raise BadInput(f"{path}: {name} would unpack to {info.file_size} bytes, so the file is refused; save it again.")
    return archive.read(info)


def _json(text: str | bytes) -> dict[str, Any]:
    document = json.loads(text)
    if not isinstance(document, dict):
        raise TypeError("the configuration is no JSON object")
    return document


def _items(group: h5py.Group, path: Path) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """What is in a group itself. Links are refused: they may lead to other files."""
    for key in group:
        if not isinstance(group.get(key, getlink=True), h5py.HardLink):
            raise BadInput(f"{path}: {group.name}/{key} is a link, which a weights file does not need; save it again.")
        yield key, group[key]


def _leaves(file: h5py.File, path: Path) -> tuple[list[Leaf], dict[str, tuple[int, ...]]]:
    """Layers of a Keras 3 file, and what is none: variables of other things, such as the optimizer."""
    leaves: list[Leaf] = []
    left_over: dict[str, tuple[int, ...]] = {}

    def visit(group: h5py.Group, place: tuple[str, ...]) -> None:
        for key, item in _items(group, path):
            if isinstance(item, h5py.Dataset):
                left_over["/".join((*place, key))] = item.shape
            elif key != "vars":
                visit(item, (*place, key))
            elif place and place[-1] != "seed_generator":
                # A generator's state is no parameter.
                found = sorted((dict(_items(item, path))).items(), key=lambda each: int(each[0]))
                _add(place, item.attrs.get("name"), [dataset for _, dataset in found])

    def _add(place: tuple[str, ...], name: str | None, datasets: list[h5py.Dataset]) -> None:
        if not datasets:
            return
        if place[0] not in _LAYERS:
            left_over.update({dataset.name.strip("/"): dataset.shape for dataset in datasets})
            return
        last = max(index for index, part in enumerate(place) if part in _LAYERS)
        container = tuple(part for part in place[:last] if part not in _LAYERS)
        kind = re.sub(r"_\d+$", "", place[-1])
        words = _VARIABLES.get(kind, ())
        if kind == "batch_normalization":
            words = _BATCH_NORMALIZATION.get(len(datasets), ())
        variables = {words[i] if i < len(words) else str(i): dataset for i, dataset in enumerate(datasets)}
        leaves.append(Leaf(path, container, place[last + 1 :], name, variables))

    visit(file, ())
    return leaves, left_over


def _legacy_leaves(file: h5py.File, path: Path) -> tuple[list[Leaf], dict[str, tuple[int, ...]]]:
    """Layers of a legacy file, each under its whole path, and what is none."""
    found: dict[tuple[str, ...], dict[str, h5py.Dataset]] = {}
    left_over: dict[str, tuple[int, ...]] = {}

    def visit(group: h5py.Group, place: tuple[str, ...]) -> None:
        for key, item in _items(group, path):
            if isinstance(item, h5py.Group):
                visit(item, (*place, key))
            elif place and place[0] == "optimizer_weights":
                left_over["/".join((*place, key))] = item.shape
            else:
                found.setdefault(place, {})[key.partition(":")[0]] = item

    visit(file, ())
    leaves = []
    for place, variables in found.items():
        below = place[1:] if "model_weights" in file else place
        if below:
            leaves.append(Leaf(path, (), below, below[-1], variables))
        else:
            left_over |= {dataset.name.strip("/"): dataset.shape for dataset in variables.values()}
    return leaves, left_over

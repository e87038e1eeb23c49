"""Keras's file formats, read without Keras: ``.keras``, ``.weights.h5`` and the legacy ``.h5``.

Only HDF5 data sets and JSON are read, in memory: nothing is turned into code, and nothing is unpacked to disk.

A Keras 3 file has one group for each layer, with data sets numbered in the order of the layer's variables, so what they
are depends on the layer's class, which the group is called after. Files of today's Keras also have the layer's
name. A legacy file has the names of layers and variables.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from pydantic import ValidationError

from transfer_parity.shared.checkpoints.layout import CONSTANTS, from_keras_layout, kind_of, neutral_name
from transfer_parity.shared.checkpoints.neutral import RECORD, kept
from transfer_parity.shared.checkpoints.tfjs import single_epsilon
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.wing import Array, ForeignCheckpoint
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.zoo.pair import PREPROCESSING, Pair

#: Of a group's own name within its container to the name of its layer.
LayerNames = Mapping[tuple[str, ...], str]
#: Keras's words for a layer's variables, in their order, by class.
_VARIABLES = {
    "conv2d": ("kernel", "bias"),
    "depthwise_conv2d": ("depthwise_kernel", "bias"),
    "dense": ("kernel", "bias"),
    "layer_normalization": ("gamma", "beta"),
    "layer_scale": ("gamma",),
    "normalization": ("mean", "variance", "count"),
}
#: A batch normalisation may lack its scale.
_BATCH_NORMALIZATION = {
    4: ("gamma", "beta", "moving_mean", "moving_variance"),
    3: ("beta", "moving_mean", "moving_variance"),
}
#: Keras 3's name for the list of a model's layers, and that of TensorFlow 2.13.
_LAYERS = ("layers", "_layer_checkpoint_dependencies")
#: No honest array or file in an archive is this many times larger than what is stored of it.
_MOST_EXPANDED = 100
_SMALL = 2**20


@dataclass(frozen=True)
class Leaf:
    """A layer with variables.

    Attributes:
        container: groups of the models around it, from the outside in.
        key: its own group below the innermost of them.
        name: of the layer, if the file says it.
        variables: data sets by Keras's word for their kind.
    """

    container: tuple[str, ...]
    key: tuple[str, ...]
    name: str | None
    variables: dict[str, h5py.Dataset]

    def below(self, container: tuple[str, ...]) -> tuple[str, ...]:
        """Its group's name as seen from a container around it."""
        return (*self.container, *self.key)[len(container) :]


def read(path: Path, pair: Pair, stock_names: Callable[[], LayerNames]) -> ForeignCheckpoint:
    """The arrays of a Keras file, by neutral name; of a bigger model, those of the backbone nested in it.

    Args:
        path: of the file.
        pair: the architecture to look for.
        stock_names: called if the file has no names of layers: those of the stock model, as ``names_in`` finds them.

    Raises:
        BadInput: the file is damaged, or no Keras file.
    """
    try:
        with _opened(path) as (file, configuration, record):
            is_new = any(name in file for name in _LAYERS)
            leaves, left_over = _leaves(file, path) if is_new else _legacy_leaves(file, path, pair)
            if any(leaf.name is None for leaf in leaves):
                names = names_in(configuration) if configuration else None
                leaves = _named(leaves, pair, names, stock_names)
            arrays, others, used = _translated(leaves, pair, path)
            old_resnet = not is_new and "bn_conv1" in used
    except (OSError, RuntimeError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(f"{path} is not a readable Keras file ({reason}); fetch or save it again.") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(
            f"{path} is not arranged like a Keras file ({type(error).__name__}: {error}); save it again."
        ) from None
    # Keras before 2.3 wrote no other into its ResNet.
    epsilon = _epsilon(configuration, used, path) if configuration else 1e-3 if old_resnet else None
    return ForeignCheckpoint(arrays, record, left_over | others, epsilon)


def names_in(configuration: Mapping[str, Any]) -> dict[tuple[str, ...], str]:
    """Names of layers by their groups in a Keras 3 file, from a model's configuration.

    Groups are called after the class, and numbered in the order of the model's layers.
    """
    names: dict[tuple[str, ...], str] = {}
    used: Counter[str] = Counter()
    for layer in _layers_of(configuration):
        group = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", re.sub(r"\W+", "", layer["class_name"]))
        group = re.sub(r"([a-z])([A-Z])", r"\1_\2", group).lower()
        own = f"{group}_{used[group]}" if used[group] else group
        used[group] += 1
        names[(own,)] = layer["config"]["name"]
        names |= {(own, *key): name for key, name in names_in(layer).items()}
    return names


def write_record(path: Path, metadata: Metadata) -> None:
    """Add to a finished file what it was made from. Keras reads over it."""
    if path.suffix == ".keras":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(f"{RECORD}.json", metadata.model_dump_json())
    else:
        with h5py.File(path, "r+") as file:
            file.attrs[RECORD] = metadata.model_dump_json()


@contextmanager
def _opened(path: Path) -> Iterator[tuple[h5py.File, dict[str, Any] | None, Metadata | None]]:
    """The HDF5 file, the model's configuration and our own record, as far as they are there."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = set(archive.namelist())
            if "model.weights.h5" not in members:
                raise BadInput(f"{path} is an archive without model.weights.h5, so no .keras file; save it again.")
            data = _member(archive, "model.weights.h5", path)
            configuration = _json(_member(archive, "config.json", path)) if "config.json" in members else None
            record = _member(archive, f"{RECORD}.json", path) if f"{RECORD}.json" in members else None
        with h5py.File(io.BytesIO(data), "r") as file:
            yield file, configuration, _record(record, path)
        return
    with h5py.File(path, "r") as file:
        text = file.attrs.get("model_config")
        yield file, _json(text) if text is not None else None, _record(file.attrs.get(RECORD), path)


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    info = archive.getinfo(name)
    if info.file_size > _MOST_EXPANDED * info.compress_size + _SMALL:
        raise BadInput(f"{path}: {name} would unpack to {info.file_size} bytes, so the file is refused; save it again.")
    return archive.read(info)


def _json(text: str | bytes) -> dict[str, Any]:
    document = json.loads(text)
    if not isinstance(document, dict):
        raise TypeError("the configuration is no JSON object")
    return document


def _record(text: str | bytes | None, path: Path) -> Metadata | None:
    """From the file itself, or from beside it if a comparison kept it there (see ``tf_impl.weights.save``)."""
    beside = path.with_suffix(".json")
    try:
        if text is not None:
            return Metadata.model_validate_json(text)
        if path.suffix == ".keras" and beside.is_file() and beside.stat().st_size < _SMALL:
            return kept(_json(beside.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise ValueError(f"its record has {error.error_count()} faults") from None
    return None


def _items(group: h5py.Group, path: Path) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """What is in a group itself. Links are refused: they may lead to other files."""
    for key in group:
        if not isinstance(group.get(key, getlink=True), h5py.HardLink):
            raise BadInput(f"{path}: {group.name}/{key} is a link, which a weights file does not need; save it again.")
        yield key, group[key]


def _values(dataset: h5py.Dataset, path: Path) -> Array:
    """The array in a data set, in single precision at least."""
    if dataset.is_virtual or dataset.external:
        raise BadInput(f"{path}: {dataset.name} lies in another file, which is not opened; save it again.")
    if dataset.nbytes > _MOST_EXPANDED * dataset.id.get_storage_size() + _SMALL:
        raise BadInput(f"{path}: {dataset.name} claims {dataset.nbytes} bytes that are not in the file; save it again.")
    array = np.asarray(dataset)
    return array.astype(np.float32) if array.dtype.itemsize < 4 else array


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
        leaves.append(Leaf(container, place[last + 1 :], name, variables))

    visit(file, ())
    return leaves, left_over


def _legacy_leaves(file: h5py.File, path: Path, pair: Pair) -> tuple[list[Leaf], dict[str, tuple[int, ...]]]:
    """Layers of a legacy file: the last group in a data set's path is its layer, the first may be a nested model."""
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
        if not below:
            left_over |= {dataset.name.strip("/"): dataset.shape for dataset in variables.values()}
            continue
        top, layer = below[0], below[-1]
        # Built twice in one program, a layer's variables may stand under its name with a number behind it.
        is_direct = top == layer or (pair.neutral_module(top) is not None and pair.neutral_module(layer) is None)
        kernel = variables.get("kernel")
        # Keras 3 calls it a kernel, too. Only a depthwise one has a last dimension of 1: no convolution has one output.
        if kernel is not None and kernel.ndim == 4 and kernel.shape[3] == 1:
            variables = {("depthwise_kernel" if kind == "kernel" else kind): item for kind, item in variables.items()}
        name = top if is_direct else layer
        leaves.append(Leaf(() if is_direct else (top,), (name,), name, variables))
    return leaves, left_over


def _named(
    leaves: list[Leaf], pair: Pair, names: LayerNames | None, stock_names: Callable[[], LayerNames]
) -> list[Leaf]:
    """The leaves of a file without names, named after the file's own configuration or else after the stock model."""
    if names is not None:
        return [replace(leaf, name=names.get(leaf.below(()))) for leaf in leaves]
    stock = stock_names()

    def named_from(container: tuple[str, ...]) -> list[Leaf]:
        inside = [leaf for leaf in leaves if leaf.container[: len(container)] == container]
        return [
            replace(leaf, name=stock.get(leaf.below(container))) for leaf in inside if leaf.below(container) in stock
        ]

    containers = {leaf.container for leaf in leaves} | {()}
    best = max(sorted(containers, key=len), key=lambda container: len(named_from(container)))
    renamed = {(leaf.container, leaf.key): leaf for leaf in named_from(best)}
    return [renamed.get((leaf.container, leaf.key), leaf) for leaf in leaves]


def _translated(
    leaves: list[Leaf], pair: Pair, path: Path
) -> tuple[dict[str, Array], dict[str, tuple[int, ...]], set[str]]:
    """Arrays by neutral name, shapes of those without one, and the names of the layers that were used."""
    modules = _modules(leaves, pair)
    counts = Counter(leaf.container for leaf, module in zip(leaves, modules, strict=True) if module)
    # The backbone is the model with most of the layers; a name outside of it is a coincidence.
    home = max(sorted(counts, key=len), key=lambda container: counts[container], default=())
    arrays: dict[str, Array] = {}
    left_over: dict[str, tuple[int, ...]] = {}
    used: set[str] = set()
    for leaf, module in zip(leaves, modules, strict=True):
        inside = leaf.container[: len(home)] == home
        for kind, dataset in leaf.variables.items():
            if kind in CONSTANTS and _is_known_constant(kind, dataset, path):
                continue
            word = kind_of(module or "", kind)
            neutral = neutral_name(module, word) if module and inside else None
            if neutral is None or dataset.dtype.kind != "f":
                left_over["/".join((*leaf.container, leaf.name or leaf.key[-1], kind))] = dataset.shape
                continue
            if neutral in arrays:
                raise BadInput(f"{path} has two arrays for {neutral}; save the backbone alone.")
            depthwise = word == "depthwise_kernel"
            array = from_keras_layout("kernel" if depthwise else word, _values(dataset, path), depthwise)
            arrays[neutral] = array
            used.add(leaf.name or "")
    return arrays, left_over, used


def _modules(leaves: list[Leaf], pair: Pair) -> list[str | None]:
    """The neutral module of each leaf.

    Keras numbers layers without a name of their own (InceptionV3's) over the whole program, so the first convolution of
    a model may be ``conv2d_94``. What counts is the order, so each kind is numbered from zero within its model.
    """
    names = [leaf.name or "" for leaf in leaves]
    if pair.family == "InceptionV3":
        matches = [re.fullmatch(r"(conv2d|batch_normalization)(?:_(\d+))?", name) for name in names]
        first: dict[tuple[tuple[str, ...], str], int] = {}
        for leaf, match in zip(leaves, matches, strict=True):
            if match:
                place = (leaf.container, match[1])
                first[place] = min(int(match[2] or 0), first.get(place, int(match[2] or 0)))
        names = [
            f"{match[1]}_{int(match[2] or 0) - first[leaf.container, match[1]]}" if match else name
            for leaf, match, name in zip(leaves, matches, names, strict=True)
        ]
    return [pair.neutral_module(name) for name in names]


def _is_known_constant(kind: str, dataset: h5py.Dataset, path: Path) -> bool:
    """Whether what a Normalization holds is ImageNet's mean or variance, which ``PREPROCESSING`` has already.

    Keras's EfficientNet takes half of the variance here and half in another layer, so its file may have the deviation.
    """
    imagenet = PREPROCESSING["imagenet"]
    wanted = {"mean": (imagenet.mean,), "variance": (np.square(imagenet.std), imagenet.std)}.get(kind)
    if wanted is None:
        return True
    values = _values(dataset, path).ravel()
    return any(len(values) == 3 and np.allclose(values, each, rtol=1e-3) for each in wanted)


def _layers_of(configuration: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The layers that a model's configuration lists, or none if it is a layer's."""
    config = configuration.get("config")
    layers = config.get("layers", []) if isinstance(config, dict) else config if isinstance(config, list) else []
    return [layer for layer in layers if isinstance(layer, dict) and isinstance(layer.get("config"), dict | list)]


def _epsilon(configuration: Mapping[str, Any], used: set[str], path: Path) -> float | None:
    """The epsilon of the backbone's batch normalisations, wherever in a bigger model it is nested."""
    models: list[list[dict[str, Any]]] = []

    def visit(model: Mapping[str, Any]) -> None:
        layers = _layers_of(model)
        models.append(
            [
                layer
                for layer in layers
                if layer.get("class_name") == "BatchNormalization" and layer["config"].get("name") in used
            ]
        )
        for layer in layers:
            visit(layer)

    visit(configuration)
    return single_epsilon(max(models, key=len), path)

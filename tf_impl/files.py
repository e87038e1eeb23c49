"""Checkpoints in Keras's own formats: models as keras.applications has them, alone or nested in bigger ones."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from transfer_parity.shared.checkpoints import bias_folding, neutral
from transfer_parity.shared.checkpoints.layout import (
    CONSTANTS,
    classifier_from_keras,
    from_keras_layout,
    kind_of,
    neutral_name,
)
from transfer_parity.shared.checkpoints.tfjs import single_epsilon
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.spec import ModelSpec
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.contract.wing_values import ForeignCheckpoint
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.zoo.pair import HEAD, PREPROCESSING, Pair
from transfer_parity.tf_impl import backbone, formats, weights
from transfer_parity.tf_impl.internals import Leaf, configured_layers, names_in

#: Of a group's own name within its container to the name of its layer.
_LayerNames = Mapping[tuple[str, ...], str]


def read_checkpoint(path: Path, pair: Pair) -> ForeignCheckpoint:
    """The arrays of a Keras model by neutral name: ``.keras``, ``.weights.h5`` or legacy ``.h5``.

    Of a bigger model, those of the backbone nested in it.

    Raises:
        BadInput: the file is damaged, or no Keras file.
    """
    with formats.opened(path) as file:
        leaves = [_placed(leaf, pair) for leaf in file.leaves] if file.legacy else file.leaves
        if any(leaf.name is None for leaf in leaves):
            leaves = _named(leaves, pair, names_in(file.configuration) if file.configuration else None)
        arrays, others, used = _translated(leaves, pair, path)
        # Keras before 2.3 wrote no other into its ResNet.
        epsilon = 1e-3 if file.legacy and "bn_conv1" in used else None
        if file.configuration:
            epsilon = _epsilon(file.configuration, used, path)
        return ForeignCheckpoint(arrays, neutral.recorded(file.record, path), file.left_over | others, epsilon)


def write_checkpoint(path: Path, arrays: Mapping[str, Array], metadata: Metadata, spec: ModelSpec) -> None:
    """Write a Keras file, and a record of what it was made from.

    ``.keras`` and ``.h5`` hold the model under its semantics, for preprocessed images. ``.weights.h5`` holds numbers
    for ``keras.applications``'s own class if that has a place for each, else for the same model as the others.

    Args:
        path: ends in one of these three.
        arrays: by neutral name.
        metadata: of the arrays.
        spec: of the model that they fit.
    """
    # Keras's ResNet has biases: with zeros, under torchvision's semantics, it is the same function and the same class.
    held = dict(arrays)
    if "conv_bias" in spec.pair.structure:
        held, _ = bias_folding.conform(arrays, spec.pair, "keras", str(path))
        if spec.meaning("conv_bias") == "torchvision":
            spec = replace(spec, switches=spec.switches | {"conv_bias"})
    weights_only = path.name.endswith(".weights.h5")
    if weights_only and not ("bn_scale" in spec.pair.structure and spec.meaning("bn_scale") == "torchvision"):
        model = backbone.stock(spec.pair, spec.image_size, classifier=spec.head == "imagenet", classes=spec.classes)
        _set_constants(model)
    else:
        model = backbone.build(spec)
    for each in weights.stock_parameters(model, spec.pair):
        each.variable.assign(each.from_neutral(held.pop(each.name)))
    if held:
        raise KeyError(f"the Keras model has no {', '.join(held)}")
    formats.write(path, model, metadata.model_dump())


def _set_constants(model: keras.Model) -> None:
    """Give the Normalization in a stock EfficientNet ImageNet's mean and variance, which weights=None leaves out."""
    imagenet = PREPROCESSING["imagenet"]
    for layer in model.layers:
        if isinstance(layer, layers.Normalization) and layer.weights:
            layer.set_weights([np.array(imagenet.mean), np.square(imagenet.std), np.array(0)])


def _placed(leaf: Leaf, pair: Pair) -> Leaf:
    """A layer of a legacy file: the last group in its path is its layer, the first may be a nested model."""
    top, layer = leaf.key[0], leaf.key[-1]
    # Built twice in one program, a layer's variables may stand under its name with a number behind it.
    is_direct = top == layer or (pair.neutral_module(top) is not None and pair.neutral_module(layer) is None)
    variables = leaf.variables
    kernel = variables.get("kernel")
    # Keras 3 calls it a kernel, too. Only a depthwise one has a last dimension of 1: no convolution has one output.
    if kernel is not None and kernel.ndim == 4 and kernel.shape[3] == 1:
        variables = {("depthwise_kernel" if kind == "kernel" else kind): item for kind, item in variables.items()}
    name = top if is_direct else layer
    return Leaf(leaf.path, () if is_direct else (top,), (name,), name, variables)


def _named(leaves: list[Leaf], pair: Pair, names: _LayerNames | None) -> list[Leaf]:
    """The leaves of a file without names, named after the file's own configuration or else after the stock model."""
    if names is not None:
        return [replace(leaf, name=names.get(leaf.below(()))) for leaf in leaves]
    model = backbone.stock(pair, pair.image_size, classifier=True)
    stock = names_in(json.loads(model.to_json()))

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
            if kind in CONSTANTS and _is_known_constant(kind, leaf):
                continue
            word = kind_of(module or "", kind)
            name = neutral_name(module, word) if module and inside else None
            if name is None or dataset.dtype.kind != "f":
                left_over["/".join((*leaf.container, leaf.name or leaf.key[-1], kind))] = dataset.shape
                continue
            if name in arrays:
                raise BadInput(f"{path} has two arrays for {name}; save the backbone alone.")
            depthwise = word == "depthwise_kernel"
            array = from_keras_layout("kernel" if depthwise else word, leaf.array(kind), depthwise)
            arrays[name] = classifier_from_keras(name, array, pair)
            used.add(leaf.name or "")
    return arrays, left_over, used


def _modules(leaves: list[Leaf], pair: Pair) -> list[str | None]:
    """The neutral module of each leaf, or what this project's own head calls it.

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
    return [name if name.startswith(HEAD) else pair.neutral_module(name) for name in names]


def _is_known_constant(kind: str, leaf: Leaf) -> bool:
    """Whether what a Normalization holds is ImageNet's mean or variance, which ``PREPROCESSING`` has already.

    Keras's EfficientNet takes half of the variance here and half in another layer, so its file may have the deviation.
    """
    imagenet = PREPROCESSING["imagenet"]
    wanted = {"mean": (imagenet.mean,), "variance": (np.square(imagenet.std), imagenet.std)}.get(kind)
    if wanted is None:
        return True
    values = leaf.array(kind).ravel()
    return any(len(values) == 3 and np.allclose(values, each, rtol=1e-3) for each in wanted)


def _epsilon(configuration: Mapping[str, Any], used: set[str], path: Path) -> float | None:
    """The epsilon of the backbone's batch normalisations, wherever in a bigger model it is nested."""
    models: list[list[dict[str, Any]]] = []

    def visit(model: Mapping[str, Any]) -> None:
        layers = configured_layers(model)
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

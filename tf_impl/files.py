"""Files in Keras's own formats. Reading never runs code from a file, nor builds what its configuration describes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from keras import layers

from transfer_parity.shared.checkpoints import bias_folding, keras_h5
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.spec import ModelSpec
from transfer_parity.shared.contract.wing import Array, ForeignCheckpoint
from transfer_parity.shared.zoo.pair import PREPROCESSING, Pair
from transfer_parity.tf_impl import backbone, weights


def read_checkpoint(path: Path, pair: Pair) -> ForeignCheckpoint:
    """The arrays of a Keras model by neutral name: ``.keras``, ``.weights.h5`` or legacy ``.h5``.

    Raises:
        BadInput: the file is damaged, or no Keras file.
    """

    def stock_names() -> keras_h5.LayerNames:
        model = backbone.stock(pair, pair.image_size, classifier=True)
        return keras_h5.names_in(json.loads(model.to_json()))

    found = keras_h5.read(path, pair, stock_names)
    arrays = {name: weights.with_torchvision_classifier(name, array, pair) for name, array in found.arrays.items()}
    return replace(found, arrays=arrays)


def write_checkpoint(path: Path, arrays: Mapping[str, Array], metadata: Metadata, spec: ModelSpec) -> None:
    """Write a Keras file; what it was made from stands in a record that Keras reads over.

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
    for name, kind, _, variable in weights.parameters(model, spec.pair):
        array = weights.from_neutral(name, kind, held.pop(name), variable, spec.pair)
        variable.assign(array.astype(variable.dtype))
    if held:
        raise KeyError(f"the Keras model has no {', '.join(held)}")
    if weights_only:
        model.save_weights(path)
    else:
        model.save(path)
    keras_h5.write_record(path, metadata)


def _set_constants(model: keras.Model) -> None:
    """Give the Normalization in a stock EfficientNet ImageNet's mean and variance, which weights=None leaves out."""
    imagenet = PREPROCESSING["imagenet"]
    for layer in model.layers:
        if isinstance(layer, layers.Normalization) and layer.weights:
            layer.set_weights([np.array(imagenet.mean), np.square(imagenet.std), np.array(0)])

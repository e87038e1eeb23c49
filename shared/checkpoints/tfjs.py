"""Keras models in TensorFlow.js's layers format."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transfer_parity.shared.checkpoints.layout import CONSTANTS, from_keras_layout, kind_of, neutral_name
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.wings import KERAS
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.zoo.pair import Pair


def read_tfjs(manifest: Path, pair: Pair) -> tuple[dict[str, NDArray[np.float32]], Metadata]:
    """A Keras model in TensorFlow.js's layers format: ``model.json`` beside float32 shards.

    Args:
        manifest: the ``model.json`` file.
        pair: the architecture it holds.

    Returns:
        Neutral arrays and metadata; the epsilon of batch normalisation is the one written in the file.

    Raises:
        BadInput: a weight has no place in the architecture, or the shards do not have the announced length.
    """
    document = json.loads(manifest.read_text(encoding="utf-8"))
    arrays: dict[str, NDArray[np.float32]] = {}
    for group in document["weightsManifest"]:
        data = b"".join((manifest.parent / Path(part).name).read_bytes() for part in group["paths"])
        offset = 0
        for entry in group["weights"]:
            if entry["dtype"] != "float32" or "quantization" in entry:
                raise BadInput(f"{manifest}: weight {entry['name']} is not plain float32; use another checkpoint.")
            count = int(np.prod(entry["shape"], dtype=np.int64))
            if offset + 4 * count > len(data):
                raise BadInput(f"{manifest}: the shards end inside weight {entry['name']}; fetch the file again.")
            array = np.frombuffer(data, dtype="<f4", count=count, offset=offset).reshape(entry["shape"])
            offset += 4 * count
            layer, _, kind = entry["name"].rpartition("/")
            if kind in CONSTANTS:
                continue
            module = pair.neutral_module(layer)
            kind = kind_of(module or "", kind)
            neutral = neutral_name(module or "", kind)
            if not module or not neutral:
                raise BadInput(
                    f"{manifest}: weight {entry['name']} has no place in {pair.name}; use another checkpoint."
                )
            depthwise = kind == "depthwise_kernel"
            arrays[neutral] = from_keras_layout("kernel" if depthwise else kind, array, depthwise).astype(np.float32)
        if offset != len(data):
            raise BadInput(f"{manifest}: the shards hold {len(data) - offset} bytes too many; fetch the file again.")
    topology = document["modelTopology"]
    epsilon = single_epsilon(topology.get("model_config", topology)["config"]["layers"], manifest)
    return arrays, Metadata(
        backbone=pair.name, semantics=KERAS.library, batch_norm_epsilon=epsilon, source=manifest.name
    )


def single_epsilon(layers: list[dict[str, Any]], path: Path) -> float | None:
    """The epsilon that all batch normalisations in a Keras model's configuration share, or None without any.

    Raises:
        BadInput: they have several, or one that is no positive number.
    """
    found = [layer["config"].get("epsilon") for layer in layers if layer["class_name"] == "BatchNormalization"]
    for epsilon in found:
        if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or not 0 < epsilon < math.inf:
            raise BadInput(f"{path}: batch normalisation has the epsilon {epsilon!r}; use one with a positive number.")
    if len(epsilons := set(found)) > 1:
        raise BadInput(f"{path}: batch normalisation has several epsilons {sorted(epsilons)}; use another checkpoint.")
    return epsilons.pop() if epsilons else None

"""The neutral checkpoint: a safetensors file in torchvision's names and layout, and the semantics it was trained under.

Reading never executes anything: safetensors, JSON and raw float32 buffers only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from shared import zoo
from shared.errors import BadInput

FORMAT = "transfer-parity checkpoint 1"
#: Name of the attribute (HDF5, pickle) or file (zip) under which a converted file keeps its Metadata as JSON.
RECORD = "transfer_parity"


class Metadata(BaseModel):
    """What a checkpoint says about itself, in the header of its file.

    Attributes:
        backbone: name of the pair.
        semantics: under whose meaning of padding, stride, epsilon and preprocessing the weights were trained.
        batch_norm_epsilon: if it differs from the library's own for this architecture.
        source: where the weights come from, for people.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: str
    semantics: zoo.Semantics
    batch_norm_epsilon: float | None = None
    source: str = ""


Arrays = Mapping[str, NDArray[np.generic]]


def save(path: Path, arrays: Arrays, metadata: Metadata) -> None:
    """Write a neutral checkpoint. The file appears whole or not at all."""
    header = {"format": FORMAT, "metadata": metadata.model_dump_json()}
    temporary = path.with_name(path.name + ".part")
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    safetensors.numpy.save_file(contiguous, temporary, metadata=header)
    temporary.replace(path)


def read_metadata(path: Path) -> Metadata:
    """What a checkpoint says about itself.

    Raises:
        BadInput: the file is missing, damaged, or not a neutral checkpoint.
    """
    if not path.is_file():
        raise BadInput(
            f"there is no checkpoint {path}; give torchvision, keras, random or an existing file to --weights."
        )
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
        if header.get("format") != FORMAT:
            raise BadInput(f"{path} is not a neutral checkpoint of this project ({FORMAT}); convert it first.")
        return Metadata.model_validate_json(header["metadata"])
    except (safetensors.SafetensorError, OSError, KeyError, ValidationError) as error:
        raise BadInput(f"{path} is damaged ({_first_line(error)}); fetch or convert it again.") from None


def load(path: Path) -> tuple[dict[str, NDArray[np.generic]], Metadata]:
    """All arrays of a checkpoint, by neutral name, and its metadata.

    Raises:
        BadInput: the file is damaged, or an array holds values that are not finite.
    """
    metadata = read_metadata(path)
    try:
        arrays = safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise BadInput(f"{path} is damaged ({_first_line(error)}); fetch or convert it again.") from None
    check_finite(arrays, path)
    return arrays, metadata


def check_finite(arrays: Arrays, path: Path) -> None:
    """Refuse arrays with values that are infinite or not a number.

    Raises:
        BadInput: naming the first such array.
    """
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise BadInput(f"{path}: {name} holds values that are not finite; use another checkpoint.")


def is_neutral(path: Path) -> bool:
    """Whether a safetensors file is a neutral checkpoint; otherwise it is taken for a torchvision state_dict.

    Raises:
        BadInput: the file is damaged.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (safetensors.SafetensorError, OSError) as error:
        raise BadInput(f"{path} is damaged ({_first_line(error)}); fetch it again.") from None


def kept(description: Mapping[str, str]) -> Metadata | None:
    """What the description of a model that a comparison kept (``models/``) says about its backbone, if it is one.

    Raises:
        KeyError, TypeError, ValidationError, JSONDecodeError: it is not what a comparison writes.
    """
    if not {"recipe", "classes"} <= set(description):
        # Somebody else's words for something else.
        return None
    if "checkpoint" in description:
        return Metadata.model_validate_json(description["checkpoint"])
    # Trained from random weights, for which torchvision's semantics stand.
    return Metadata(backbone=json.loads(description["recipe"])["backbone"], semantics="torchvision")


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the arrays in a checkpoint, from its header.

    Raises:
        BadInput: the file is damaged.
    """
    read_metadata(path)
    with safetensors.safe_open(path, framework="numpy") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def account_for(expected: Mapping[str, tuple[int, ...]], arrays: Arrays, what: str) -> None:
    """Check that arrays and a model's parameters are the same set of names and shapes.

    Raises:
        BadInput: naming what is missing, left over or of another shape.
    """
    missing = sorted(expected.keys() - arrays.keys())
    left_over = sorted(arrays.keys() - expected.keys())
    misshapen = [
        f"{name} {tuple(arrays[name].shape)} instead of {tuple(expected[name])}"
        for name in sorted(expected.keys() & arrays.keys())
        if tuple(arrays[name].shape) != tuple(expected[name])
    ]
    faults = [
        f"{label}: {_some(names)}"
        for label, names in (("missing", missing), ("left over", left_over), ("misshapen", misshapen))
        if names
    ]
    if faults:
        raise BadInput(f"{what} does not fit the model ({'; '.join(faults)}); use a checkpoint of this architecture.")


def digest(arrays: Arrays) -> str:
    """SHA-256 over names, shapes and float64 values: equal on both sides when both hold the same weights."""
    state = hashlib.sha256()
    for name in sorted(arrays):
        state.update(f"{name}{tuple(arrays[name].shape)}".encode())
        state.update(np.ascontiguousarray(arrays[name], dtype=np.float64).tobytes())
    return state.hexdigest()


def from_keras_layout(kind: str, array: NDArray[np.generic], depthwise: bool = False) -> NDArray[np.generic]:
    """A Keras array in torch's layout.

    Kernels HWIO to OIHW, depthwise HWCM to (C*M)1HW, dense (in, out) to (out, in), layer scale (C,) to (C, 1, 1).
    """
    if kind == LAYER_SCALE:
        return array.reshape(-1, 1, 1)
    if kind != "kernel":
        return array
    if array.ndim == 2:
        return array.T
    if depthwise:
        height, width, channels, multiplier = array.shape
        return array.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, height, width)
    return array.transpose(3, 2, 0, 1)


def to_keras_layout(kind: str, array: NDArray[np.generic], shape: tuple[int, ...]) -> NDArray[np.generic]:
    """The inverse of ``from_keras_layout``. The Keras variable's ``shape`` tells depthwise from other kernels."""
    if kind == LAYER_SCALE:
        return array.reshape(shape)
    if kind != "kernel":
        return array
    if array.ndim == 2:
        # MobileNetV3's dense layers are 1x1 convolutions in Keras.
        return array.T.reshape(shape)
    if array.shape[1] == 1 and shape[2] != 1:
        _, _, channels, multiplier = shape
        return array.reshape(channels, multiplier, *array.shape[2:]).transpose(2, 3, 0, 1)
    return array.transpose(2, 3, 1, 0)


#: The last part of a parameter's name: Keras's word to torch's.
PARAMETER_NAMES = {
    "kernel": "weight",
    "depthwise_kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}

#: ConvNeXt's factor on each channel of a block: a layer in Keras, a parameter of the block in torchvision.
LAYER_SCALE = "layer_scale"

#: What a Normalization layer holds: constants of the preprocessing, which are no parameters (see zoo.PREPROCESSING).
CONSTANTS = frozenset({"mean", "variance", "count"})


def kind_of(module: str, variable: str) -> str:
    """Keras's word for what a variable of a neutral module is; a layer scale's variable has no name worth using."""
    return LAYER_SCALE if module.endswith(f".{LAYER_SCALE}") else variable


def neutral_name(module: str, kind: str) -> str | None:
    """Neutral name of a variable of this kind in a neutral module, or None if there is no such parameter."""
    if kind == LAYER_SCALE:
        return module
    return f"{module}.{PARAMETER_NAMES[kind]}" if kind in PARAMETER_NAMES else None


def read_tfjs(manifest: Path, pair: zoo.Pair) -> tuple[dict[str, NDArray[np.float32]], Metadata]:
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
    return arrays, Metadata(backbone=pair.name, semantics="keras", batch_norm_epsilon=epsilon, source=manifest.name)


def single_epsilon(layers: list[dict[str, Any]], path: Path) -> float | None:
    """The epsilon that all batch normalisations in a Keras model's configuration share, or None without any.

    Raises:
        BadInput: they have several.
    """
    epsilons = {layer["config"]["epsilon"] for layer in layers if layer["class_name"] == "BatchNormalization"}
    if len(epsilons) > 1:
        raise BadInput(f"{path}: batch normalisation has several epsilons {sorted(epsilons)}; use another checkpoint.")
    return epsilons.pop() if epsilons else None


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__

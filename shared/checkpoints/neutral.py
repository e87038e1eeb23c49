"""The neutral checkpoint: a safetensors file in torchvision's names and layout, and the semantics it was trained under.

Reading never executes anything: safetensors and JSON only.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import ValidationError

from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.wings import REFERENCE
from transfer_parity.shared.core.errors import BadInput

FORMAT = "transfer-parity checkpoint 1"
#: Name of the attribute (HDF5, pickle) or file (zip) under which a file in a framework's format keeps its record.
RECORD = "transfer_parity"
Arrays = Mapping[str, NDArray[np.generic]]
#: Of float32: the largest number, and the smallest that is not denormal.
LARGEST, SMALLEST = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)
#: The last part of a running variance's name.
RUNNING_VARIANCE = "running_var"


def save(path: Path, arrays: Arrays, metadata: Metadata, record: Mapping[str, str] | None = None) -> None:
    """Write a neutral checkpoint. The file appears whole or not at all.

    Args:
        path: of the file.
        arrays: by neutral name.
        metadata: of the arrays.
        record: of the kept model (see ``kept_model``) that the arrays are all of, with its trained head.
    """
    header = {**(record or {}), "format": FORMAT, "metadata": metadata.model_dump_json()}
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
        raise damaged(path, error) from None


def load(path: Path) -> tuple[dict[str, NDArray[np.generic]], Metadata]:
    """All arrays of a checkpoint, by neutral name, and its metadata.

    Raises:
        BadInput: the file is damaged, or holds what no network can compute with (see ``check_values``).
    """
    metadata = read_metadata(path)
    check_epsilon(metadata, path)
    try:
        arrays = safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise damaged(path, error) from None
    check_values(arrays, path)
    return arrays, metadata


def check_values(arrays: Arrays, path: Path) -> None:
    """Refuse values that no network can compute with: from them on, everything would be agreement about nothing.

    Infinite, not a number, beyond the largest number of float32 (which becomes infinite where the network is built), or
    a running variance below 0 (whose square root is not a number).

    Raises:
        BadInput: naming the first such array.
    """
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise BadInput(f"{path}: {name} holds values that are not finite; use another checkpoint.")
        if array.dtype.itemsize > 4 and array.size and np.abs(array).max() > LARGEST:
            raise BadInput(f"{path}: {name} holds values beyond float32's largest, 3.4e38; use another checkpoint.")
        if name.endswith(f".{RUNNING_VARIANCE}") and array.size and array.min() < 0:
            raise BadInput(
                f"{path}: {name} holds a variance below 0 ({array.min():.1e}), which no batch of images has; use "
                "another checkpoint."
            )


def check_epsilon(metadata: Metadata, path: Path) -> None:
    """Refuse an epsilon of the normalisations that processors may round to 0: a variance of 0 then divides by 0.

    Raises:
        BadInput: it is smaller than float32's smallest normal number.
    """
    epsilon = metadata.batch_norm_epsilon
    if epsilon is not None and not epsilon >= SMALLEST:
        raise BadInput(
            f"{path}: an epsilon of {epsilon:.1e} for its normalisations is below float32's smallest normal number, "
            "1.2e-38; use another checkpoint."
        )


def is_neutral(path: Path) -> bool:
    """Whether a safetensors file is a neutral checkpoint; otherwise it is taken for a torchvision state_dict.

    Raises:
        BadInput: the file is damaged.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (safetensors.SafetensorError, OSError) as error:
        raise damaged(path, error) from None


def recorded(record: Mapping[str, Any], path: Path) -> Metadata | None:
    """What the record in a file says about its weights, if this project wrote it.

    Args:
        record: the header of a neutral file, the ``Metadata`` of a converted one, or the description of a model that a
            comparison kept (``models/``); or somebody else's words for something else, of which nothing is asked.
        path: of the file, for the message.

    Raises:
        BadInput: the record looks like this project's and is not.
    """
    try:
        if record.get("format") == FORMAT:
            return Metadata.model_validate_json(record["metadata"])
        if {"recipe", "classes"} <= record.keys():
            if "checkpoint" in record:
                return Metadata.model_validate_json(record["checkpoint"])
            # Trained from random weights, for which the reference's semantics stand.
            return Metadata(backbone=json.loads(record["recipe"])["backbone"], semantics=REFERENCE.library)
        return Metadata.model_validate(record) if "semantics" in record else None
    except (ValidationError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise _unreadable_record(path, error) from None


def parsed_record(text: str | bytes, path: Path) -> dict[str, Any]:
    """A record that stands in a file under ``RECORD``, as JSON.

    Raises:
        BadInput: it is no JSON object.
    """
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise _unreadable_record(path, error) from None


def _unreadable_record(path: Path, error: Exception) -> BadInput:
    return BadInput(f"{path} says about itself what cannot be read ({type(error).__name__}); convert it again.")


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


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def damaged(path: Path, error: Exception) -> BadInput:
    """What is said of a file that cannot be read, for whatever reason."""
    if not os.access(path, os.R_OK):
        return BadInput(f"{path} cannot be read (permission denied); make it readable.")
    return BadInput(f"{path} is damaged ({_first_line(error)}); fetch or convert it again.")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__

"""What goes into a user's own pair: real inputs from a file, or drawn ones; and targets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from transfer_parity.shared.contract.rungs import Array
from transfer_parity.shared.contract.subject import BATCHES, Input, Subject
from transfer_parity.shared.core.errors import BadInput, did_you_mean
from transfer_parity.shared.core.random import generator

TARGETS = "targets"


def count(subject: Subject) -> int:
    """Examples that a climb needs: some batches that are trained on, and one that never is."""
    return subject.training.batch * (BATCHES + 1)


def draw(subject: Subject, root: Path) -> dict[str, Array]:
    """The inputs of a climb by name, (N, ...), drawn or from the subject's file, and its targets if that has any.

    Args:
        subject: the pair.
        root: folder that its file is relative to.

    Raises:
        BadInput: the file cannot be read, lacks an input, or an array has another shape or too few examples.
    """
    wanted = count(subject)
    if subject.examples is None:
        return {name: _drawn(each, subject.seed, name, wanted) for name, each in subject.inputs.items()}
    path = root / subject.examples
    held = read(path)
    found = {}
    for name, each in subject.inputs.items():
        if name not in held:
            raise BadInput(f"{path} has no array {name!r}; {did_you_mean(name, held)}")
        array = held[name]
        if array.shape[1:] != each.shape:
            raise BadInput(f"{path}: {name} has examples of shape {array.shape[1:]}, and the pair says {each.shape}.")
        found[name] = _as_kind(array, each, f"{path}: {name}")
    if TARGETS in held:
        found[TARGETS] = held[TARGETS]
    for name, array in found.items():
        if len(array) < wanted:
            raise BadInput(
                f"{path}: {name} has {len(array)} examples, and {wanted} are needed; "
                "give more, or lower training.batch."
            )
    return {name: array[:wanted] for name, array in found.items()}


def with_targets(subject: Subject, examples: Mapping[str, Array], output: tuple[int, ...]) -> dict[str, Array]:
    """Examples with targets: as they are, or drawn for outputs of this shape (with the batch).

    Classes int64 (N,) for cross entropy, normal numbers (N, ...) for mean squares.
    """
    if TARGETS in examples:
        return dict(examples)
    random, number = generator(subject.seed, "targets"), count(subject)
    if subject.training.loss == "cross_entropy":
        targets: Array = random.integers(0, output[-1], number)
    else:
        targets = random.standard_normal((number, *output[1:]))
    return {**examples, TARGETS: targets}


def read(path: Path) -> dict[str, Array]:
    """Arrays of an ``.npz`` file.

    Raises:
        BadInput: it cannot be read as arrays of numbers.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, AttributeError, TypeError) as error:
        reason = getattr(error, "strerror", None) or next(iter(str(error).splitlines()), type(error).__name__)
        raise BadInput(
            f"{path} cannot be read as an .npz file of arrays ({reason}); write it with numpy.savez."
        ) from None


def write(path: Path, examples: Mapping[str, Array]) -> None:
    """Write examples as an ``.npz`` file."""
    arrays: dict[str, Any] = dict(examples)
    np.savez(path, **arrays)


def digest(examples: Mapping[str, Array]) -> str:
    """16 digits that change with any value, shape or type."""
    state = hashlib.sha256()
    for name in sorted(examples):
        array = np.ascontiguousarray(examples[name])
        state.update(f"{name} {array.dtype.str} {array.shape}".encode() + array.tobytes())
    return state.hexdigest()[:16]


def _drawn(each: Input, seed: int, name: str, number: int) -> Array:
    random = generator(seed, "input", name)
    shape = (number, *each.shape)
    if each.kind == "image":
        return random.integers(0, 256, shape, dtype=np.uint8)
    if each.kind == "tokens":
        return random.integers(0, each.below, shape)
    return random.standard_normal(shape)


def _as_kind(array: Array, each: Input, what: str) -> Array:
    if each.kind == "values":
        if array.dtype.kind not in "fiub" or not np.isfinite(array).all():
            raise BadInput(f"{what} holds something that is no finite number; mend the file.")
        return array.astype(np.float64)
    if array.dtype.kind not in "iu":
        raise BadInput(f"{what} is {array.dtype}, and an input of kind {each.kind} is whole numbers; convert it.")
    return array if each.kind == "image" else array.astype(np.int64)

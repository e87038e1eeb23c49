"""Inventories and dumps of models that no framework has, for tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from transfer_parity.shared.contract.inventory import Inventory, Kind, LayerRecord
from transfer_parity.shared.contract.rungs import DUMPED, Array, Label, Rung
from transfer_parity.shared.contract.subject import Input, Subject
from transfer_parity.shared.runtime import subject_dump
from transfer_parity.shared.runtime.subject_dump import Dump, DumpInfo

Shape = tuple[int, ...]


def layer(name: str, kind: Kind, output: Any = None, config: Any = None, **roles: Any) -> LayerRecord:
    """A layer; ``roles``: shapes of its parameters."""
    return LayerRecord(
        name=name,
        kind=kind,
        class_name=kind.title(),
        config=dict(config or {}),
        parameters=roles,
        source=f"{name.partition('.')[0]}.py:7",
        output_shape=output,
    )


def dense(name: str, out: int, into: int, bias: bool = True, **more: Any) -> LayerRecord:
    return layer(name, "dense", **more, weight=(out, into), **({"bias": (out,)} if bias else {}))


def conv(name: str, out: int, into: int, size: int = 3, bias: bool = False, **more: Any) -> LayerRecord:
    return layer(name, "conv", **more, weight=(out, into, size, size), **({"bias": (out,)} if bias else {}))


def norm(name: str, width: int, affine: bool = True, **more: Any) -> LayerRecord:
    scale = {"weight": (width,), "bias": (width,)} if affine else {}
    return layer(name, "batch_norm", **more, **scale, running_mean=(width,), running_var=(width,))


def layer_norm(name: str, width: int, **more: Any) -> LayerRecord:
    return layer(name, "layer_norm", **more, weight=(width,), bias=(width,))


def attention(name: str, width: int, **more: Any) -> LayerRecord:
    parts = ("query", "key", "value", "output")
    shapes: dict[str, Shape] = {f"{part}_weight": (width, width) for part in parts}
    return layer(name, "attention", **more, **shapes, **{f"{part}_bias": (width,) for part in parts})


def relu(name: str, output: Shape | None = None, function: str = "relu") -> LayerRecord:
    return layer(name, "activation", output, {"function": function})


def inventory(layers: Iterable[LayerRecord], outputs: Sequence[Shape] = ((4, 3),)) -> Inventory:
    return Inventory(layers=list(layers), outputs=list(outputs), inputs=["x"])


def weights(model: Inventory, seed: int = 0) -> dict[str, Array]:
    """Random ones."""
    random = np.random.default_rng(seed)
    return {
        f"{each.name}.{role}": random.standard_normal(shape)
        for each in model.layers
        for role, shape in each.parameters.items()
    }


def pairs_of(names: Any) -> dict[str, str]:
    return {pair.reference: pair.candidate for pair in names.pairs}


def subject(**more: Any) -> Subject:
    sides = {
        "one": {"framework": "torch", "factory": "a:b"},
        "two": {"framework": "keras", "factory": "a:b"},
    }
    return Subject.model_validate({"sides": sides, "inputs": {"x": Input(shape=(6,))}, **more})


def dump(
    folder: Path,
    side: str,
    model: Inventory,
    rungs: Mapping[Rung, Mapping[Label, Array]],
    rounding: Mapping[Rung, Mapping[Label, float]] | None = None,
    arrays: Mapping[str, Array] | None = None,
) -> Dump:
    """A side's folder; rungs that are not given are empty."""
    found = Dump(folder)
    folder.mkdir(parents=True)
    for rung in DUMPED:
        for label, array in rungs.get(rung, {}).items():
            found.write(rung, label, array)
        found.finish(rung)
    found.write_rounding(rounding or {})
    model.save(folder / subject_dump.INVENTORY)
    DumpInfo(
        name="pair",
        subject="0",
        side=side,
        framework="torch",
        backend=None,
        factory="a:b",
        versions={},
        precision="float64",
        seed=0,
        examples="0",
    ).save(folder / subject_dump.INFO)
    safetensors.numpy.save_file(dict(arrays or {}), folder / subject_dump.WEIGHTS)
    return Dump(folder)

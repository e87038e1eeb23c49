from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from transfer_parity.shared.checkpoints import layout, neutral, tfjs
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.zoo.lookup import find_pair

METADATA = Metadata(backbone="ResNet50", semantics="keras", batch_norm_epsilon=1e-3, source="test")


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    arrays = {"conv1.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2).transpose(1, 0, 2, 3)}
    neutral.save(tmp_path / "a.safetensors", arrays, METADATA)
    read, metadata = neutral.load(tmp_path / "a.safetensors")
    assert metadata == METADATA
    np.testing.assert_array_equal(read["conv1.weight"], arrays["conv1.weight"])


def test_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    neutral.save(path, {"a": np.zeros(100)}, METADATA)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(BadInput, match=r"a\.safetensors is damaged"):
        neutral.load(path)


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    neutral.save(tmp_path / "a.safetensors", {"fc.bias": np.array([0, np.nan])}, METADATA)
    with pytest.raises(BadInput, match=r"fc\.bias holds values that are not finite"):
        neutral.load(tmp_path / "a.safetensors")


def test_everything_is_accounted_for() -> None:
    expected = {"a": (2,), "b": (3,), "c": (4,)}
    with pytest.raises(BadInput, match=r"missing: a; left over: d; misshapen: b \(2,\) instead of \(3,\)"):
        neutral.account_for(expected, {"b": np.zeros(2), "c": np.zeros(4), "d": np.zeros(1)}, "x.safetensors")


@pytest.mark.parametrize(
    ("kind", "shape", "depthwise"),
    [
        ("kernel", (3, 3, 8, 16), False),
        ("kernel", (3, 3, 8, 1), True),
        ("kernel", (5, 7), False),
        ("bias", (4,), False),
    ],
)
def test_layouts_there_and_back(kind: str, shape: tuple[int, ...], depthwise: bool) -> None:
    array = np.random.default_rng(0).normal(size=shape)
    there = layout.from_keras_layout(kind, array, depthwise)
    np.testing.assert_array_equal(layout.to_keras_layout(kind, there, shape), array)


def test_the_digest_sees_names_shapes_and_values() -> None:
    base = {"a": np.zeros(4), "b": np.ones(2)}
    others: list[dict[str, np.ndarray[Any, Any]]] = [
        {"a": np.zeros(4), "c": np.ones(2)},
        {"a": np.zeros((2, 2)), "b": np.ones(2)},
        {"a": np.zeros(4), "b": np.array([1, 1 + 1e-15])},
    ]
    assert len({neutral.digest(arrays) for arrays in (base, *others)}) == 4
    assert neutral.digest(base) == neutral.digest(dict(reversed(base.items())))


def write_tfjs(folder: Path, name: str = "conv1/kernel") -> Path:
    """One 7x7 convolution in two shards."""
    kernel = np.arange(7 * 7 * 3 * 64, dtype="<f4")
    data = kernel.tobytes()
    (folder / "one.bin").write_bytes(data[:1000])
    (folder / "two.bin").write_bytes(data[1000:])
    normalisation = {"class_name": "BatchNormalization", "config": {"epsilon": 0.001}}
    document = {
        "modelTopology": {"model_config": {"config": {"layers": [normalisation]}}},
        "weightsManifest": [
            {
                "paths": ["one.bin", "two.bin"],
                "weights": [{"name": name, "shape": [7, 7, 3, 64], "dtype": "float32"}],
            }
        ],
    }
    path = folder / "model.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_a_tensorflow_js_model(tmp_path: Path) -> None:
    arrays, metadata = tfjs.read_tfjs(write_tfjs(tmp_path), find_pair("ResNet50"))
    assert metadata.batch_norm_epsilon == 0.001
    expected = np.arange(7 * 7 * 3 * 64, dtype=np.float32).reshape(7, 7, 3, 64)
    assert arrays["conv1.weight"][5, 2, 3, 4] == expected[3, 4, 2, 5]


def test_a_tensorflow_js_model_with_a_missing_end(tmp_path: Path) -> None:
    path = write_tfjs(tmp_path)
    (tmp_path / "two.bin").write_bytes(b"")
    with pytest.raises(BadInput, match="the shards end inside weight conv1/kernel"):
        tfjs.read_tfjs(path, find_pair("ResNet50"))


def test_a_tensorflow_js_model_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="weight dense_7/kernel has no place in ResNet50"):
        tfjs.read_tfjs(write_tfjs(tmp_path, "dense_7/kernel"), find_pair("ResNet50"))

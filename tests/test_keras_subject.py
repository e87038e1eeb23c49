"""Keras's side of a pair of one's own: layouts, values, training, amendments and a whole climb, on both backends.

Every program runs in a process of its own, and leaves arrays that are compared with formulas here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from tests.conftest import ROOT
from transfer_parity.shared.contract import subject_files
from transfer_parity.shared.contract.rungs import Array
from transfer_parity.shared.contract.subject_jobs import SubjectClimb, SubjectJob
from transfer_parity.shared.runtime import subject_dump, subject_examples
from transfer_parity.shared.runtime.subject_dump import Dump
from transfer_parity.shared.runtime.subject_launch import SubjectTask

BACKENDS = ("tensorflow", "torch")
#: Of float64, relative to values of the size of one: sums of a hundred terms.
CLOSE = 1e-12
START = """
import json, sys
import keras, numpy as np
from keras import layers, ops
from transfer_parity.shared.contract.inventory import Amendment
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.wings import KERAS
from transfer_parity.tf_impl import subject

versions = subject.configure(KERAS, 1, "float64")
random = np.random.default_rng(0)
arrays, told = {}, {}

def built(make, *inputs):
    model = subject.build(make, lambda: list(inputs))
    subject.silence(model)
    return model

def draw(model):
    drawn = {}
    for name, array in subject.dump(model):
        positive = name.endswith("running_var")
        drawn[name] = random.uniform(0.5, 1.5, array.shape) if positive else random.standard_normal(array.shape)
    subject.load(model, drawn)
    return drawn
"""
END = """
assert (sys.modules.get("torch") is None) != (sys.modules.get("tensorflow") is None)
np.savez(sys.argv[1] + ".npz", **arrays)
open(sys.argv[1] + ".json", "w").write(json.dumps(told))
"""


def ran(program: str, backend: str, folder: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """What a program leaves: arrays, and what it tells."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": ""}
    file, base = folder / "program.py", folder / "left"
    file.write_text(START + textwrap.dedent(program) + END)
    done = subprocess.run(
        [sys.executable, str(file), str(base)], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(f"{base}.npz") as left:
        return dict(left), json.loads(Path(f"{base}.json").read_text())


LAYERS = """
class Scaled(layers.Layer):
    def build(self, shape):
        self.table = self.add_weight(name="table", shape=(shape[-1],))
    def call(self, x):
        return x * self.table

CASES = {
    "dense": (lambda: layers.Dense(5, activation="relu"), (4,)),
    "without_bias": (lambda: layers.Dense(5, use_bias=False), (4,)),
    "conv1": (lambda: layers.Conv1D(6, 3, padding="causal"), (7, 4)),
    "conv2": (lambda: layers.Conv2D(6, 3, strides=2, padding="same", groups=2), (8, 7, 4)),
    "conv3": (lambda: layers.Conv3D(3, 2), (4, 4, 4, 2)),
    "depthwise": (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), (6, 6, 3)),
    "separable": (lambda: layers.SeparableConv2D(5, 3, padding="same"), (6, 6, 3)),
    "transposed": (lambda: layers.Conv2DTranspose(5, 3, strides=2), (4, 4, 3)),
    "batch_norm": (lambda: layers.BatchNormalization(), (4, 4, 3)),
    "batch_norm_plain": (lambda: layers.BatchNormalization(center=False, scale=False), (4, 4, 3)),
    "layer_norm": (lambda: layers.LayerNormalization(axis=(1, 2)), (4, 3)),
    "group_norm": (lambda: layers.GroupNormalization(2), (4, 4, 6)),
    "rms_norm": (lambda: layers.RMSNormalization(), (4, 3)),
    "embedding": (lambda: layers.Embedding(9, 4), None),
    "lstm": (lambda: layers.LSTM(3, return_sequences=True), (5, 4)),
    "gru": (lambda: layers.GRU(3), (5, 4)),
    "bidirectional": (lambda: layers.Bidirectional(layers.LSTM(3, return_sequences=True)), (5, 4)),
    "attention": (lambda: layers.MultiHeadAttention(2, 3, value_dim=5, output_shape=7), (5, 6)),
    "prelu": (lambda: layers.PReLU(shared_axes=[1, 2]), (4, 4, 3)),
    "custom": (lambda: Scaled(), (4, 3)),
}
for case, (make, shape) in CASES.items():
    tokens = shape is None
    x = random.integers(0, 9, (2, 4)) if tokens else random.standard_normal((2, *shape))
    def model():
        given = keras.Input(x.shape[1:], dtype="int64" if tokens else None)
        layer = make()
        layer.name = "it"
        return keras.Model(given, layer(given, given) if case == "attention" else layer(given))
    made = built(model, x)
    drawn = draw(made)
    back = dict(subject.dump(made))
    assert list(back) == list(drawn) and all((back[name] == drawn[name]).all() for name in drawn), case
    found = subject.inventory(made, [x])
    told[case] = [[each.name, each.kind, each.parameters, each.config] for each in found.layers]
    arrays[f"{case} x"] = x
    (arrays[f"{case} y"],) = subject.forward(made, [x], False)
    arrays |= {f"{case} {name}": array for name, array in drawn.items()}
    def hear(name, array):
        arrays[f"{case} > {name}"] = array
    plain = arrays[f"{case} y"]
    assert (subject.forward(made, [x], False, hear)[0] == plain).all(), case
    given = {}
    subject.inputs_of(made, [x], given.__setitem__)
    for name, several in given.items():
        alone = subject.call(made, name, several)
        assert alone is not None and np.array_equal(alone[0].ravel(), arrays[f"{case} > {name}"].ravel()), (case, name)
"""


@pytest.fixture(scope="module", params=BACKENDS)
def single(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Every kind of layer alone: what it was given, holds and puts out, and its inventory."""
    return ran(LAYERS, request.param, tmp_path_factory.mktemp("layers"))


def convolved(x: Array, w: Array, b: Array | float, stride: int, pads: list[list[int]], groups: int = 1) -> Array:
    """A convolution of (n, *places, in) with (out, in / groups, *kernel)."""
    rank = x.ndim - 2
    x = np.pad(x, [(0, 0), *map(tuple, pads), (0, 0)])
    windows = sliding_window_view(x, w.shape[2:], axis=tuple(range(1, rank + 1)))
    windows = windows[(slice(None), *[slice(None, None, stride)] * rank)]
    # (n, *places, in, *kernel), group by group.
    parts = zip(np.split(windows, groups, axis=1 + rank), np.split(w, groups), strict=True)
    axes = list(range(1 + rank, 2 + 2 * rank))
    found: Array = np.concatenate([np.tensordot(part, some, (axes, range(1, w.ndim))) for part, some in parts], -1) + b
    return found


def sigmoid(x: Array) -> Array:
    found: Array = 1 / (1 + np.exp(-x))
    return found


def lstm(x: Array, p: Callable[[str], Array]) -> Array:
    """(n, t, in) to (n, t, h), with gates i, f, g, o."""
    h = c = np.zeros((len(x), p("recurrent_weight").shape[1]))
    found = []
    for t in range(x.shape[1]):
        i, f, g, o = np.split(x[:, t] @ p("input_weight").T + h @ p("recurrent_weight").T + p("bias"), 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        found.append(h)
    return np.stack(found, 1)


def gru(x: Array, p: Callable[[str], Array]) -> Array:
    """The last state (n, h), with gates r, z, n."""
    h = np.zeros((len(x), p("recurrent_weight").shape[1]))
    for t in range(x.shape[1]):
        r, z, n = np.split(x[:, t] @ p("input_weight").T + p("bias"), 3, -1)
        hr, hz, hn = np.split(h @ p("recurrent_weight").T + p("recurrent_bias"), 3, -1)
        r, z = sigmoid(r + hr), sigmoid(z + hz)
        h = (1 - z) * np.tanh(n + r * hn) + z * h
    return h


def attention(x: Array, p: Callable[[str], Array], heads: int) -> Array:
    """Self-attention (n, t, in) to (n, t, out)."""
    query, key, value = (
        np.stack(np.split(x @ p(f"{each}_weight").T + p(f"{each}_bias"), heads, -1), 1)
        for each in ("query", "key", "value")
    )
    scores = np.exp(query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1]))
    mixed = scores / scores.sum(-1, keepdims=True) @ value
    return np.concatenate(list(mixed.swapaxes(0, 1)), -1) @ p("output_weight").T + p("output_bias")


def normal(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    found: Array = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)
    return found


def test_layers_compute_what_their_canonical_parameters_say(single: Any) -> None:
    arrays, told = single

    def of(case: str) -> tuple[Array, Callable[[str], Array], Array]:
        return arrays[f"{case} x"], lambda role: arrays[f"{case} it.{role}"], arrays[f"{case} y"]

    def check(case: str, wanted: Array) -> None:
        np.testing.assert_allclose(arrays[f"{case} y"], wanted, rtol=CLOSE, atol=CLOSE, err_msg=case)

    x, p, _ = of("dense")
    check("dense", np.maximum(x @ p("weight").T + p("bias"), 0))
    np.testing.assert_allclose(arrays["dense > it"], x @ p("weight").T + p("bias"), rtol=CLOSE, atol=CLOSE)
    assert (arrays["dense > it > activation"] == arrays["dense y"]).all()
    x, p, _ = of("conv1")
    check("conv1", convolved(x, p("weight"), p("bias"), 1, [[2, 0]]))
    x, p, _ = of("conv2")
    # ceil(8 / 2) places need one more row behind, ceil(7 / 2) one on either side.
    assert told["conv2"][0][3]["padding"] == [[0, 1], [1, 1]]
    check("conv2", convolved(x, p("weight"), p("bias"), 2, [[0, 1], [1, 1]], 2))
    x, p, _ = of("conv3")
    check("conv3", convolved(x, p("weight"), p("bias"), 1, [[0, 0]] * 3))
    x, p, _ = of("depthwise")
    assert told["depthwise"][0][3]["groups"] == 3
    check("depthwise", convolved(x, p("weight"), p("bias"), 1, [[0, 0]] * 2, 3))
    x = arrays["separable x"]
    parts = {
        part: arrays[f"separable it.{part}"] for part in ("depthwise.weight", "pointwise.weight", "pointwise.bias")
    }
    between = convolved(x, parts["depthwise.weight"], 0, 1, [[1, 1]] * 2, 3)
    check("separable", convolved(between, parts["pointwise.weight"], parts["pointwise.bias"], 1, [[0, 0]] * 2))
    x, p, y = of("transposed")
    wanted = np.zeros(y.shape)
    for row, column in np.ndindex(3, 3):
        wanted[:, row : row + 7 : 2, column : column + 7 : 2] += x @ p("weight")[:, :, row, column]
    check("transposed", wanted + p("bias"))
    x, p, _ = of("batch_norm")
    check("batch_norm", (x - p("running_mean")) / np.sqrt(p("running_var") + 1e-3) * p("weight") + p("bias"))
    x, p, _ = of("layer_norm")
    check("layer_norm", normal(x, (1, 2), 1e-3) * p("weight") + p("bias"))
    x, p, _ = of("group_norm")
    check("group_norm", normal(x.reshape(2, 4, 4, 2, 3), (1, 2, 4), 1e-3).reshape(x.shape) * p("weight") + p("bias"))
    x, p, _ = of("rms_norm")
    epsilon = told["rms_norm"][0][3]["epsilon"]
    check("rms_norm", x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * p("weight"))
    x, p, _ = of("embedding")
    check("embedding", p("weight")[x])
    x, p, _ = of("lstm")
    check("lstm", lstm(x, p))
    assert (arrays["lstm > it"] == arrays["lstm y"][:, -1]).all()
    x, p, _ = of("gru")
    check("gru", gru(x, p))
    x = arrays["bidirectional x"]
    ways = [lambda role, way=way: arrays[f"bidirectional it.{way}.{role}"] for way in ("forward", "backward")]
    check("bidirectional", np.concatenate([lstm(x, ways[0]), lstm(x[:, ::-1], ways[1])[:, ::-1]], -1))
    x, p, _ = of("attention")
    check("attention", attention(x, p, 2))
    x, p, _ = of("prelu")
    check("prelu", np.where(x > 0, x, x * p("weight")))
    x, p, _ = of("custom")
    check("custom", x * p("table"))


def test_layers_have_canonical_shapes(single: Any) -> None:
    _, told = single
    shapes = {
        case: {name: parameters for name, _, parameters, _ in layers if parameters} for case, layers in told.items()
    }
    assert shapes["without_bias"] == {"it": {"weight": [5, 4]}}
    assert shapes["conv2"] == {"it": {"weight": [6, 2, 3, 3], "bias": [6]}}
    assert shapes["depthwise"] == {"it": {"weight": [6, 1, 3, 3], "bias": [6]}}
    assert shapes["separable"] == {
        "it.depthwise": {"weight": [3, 1, 3, 3]},
        "it.pointwise": {"weight": [5, 3, 1, 1], "bias": [5]},
    }
    assert shapes["transposed"] == {"it": {"weight": [3, 5, 3, 3], "bias": [5]}}
    assert shapes["batch_norm_plain"] == {"it": {"running_mean": [3], "running_var": [3]}}
    assert shapes["lstm"] == {"it": {"input_weight": [12, 4], "recurrent_weight": [12, 3], "bias": [12]}}
    assert shapes["gru"]["it"] == {
        "input_weight": [9, 4],
        "recurrent_weight": [9, 3],
        "bias": [9],
        "recurrent_bias": [9],
    }
    assert list(shapes["bidirectional"]) == ["it.forward", "it.backward"]
    assert shapes["attention"]["it"]["value_weight"] == [10, 6]
    assert shapes["attention"]["it"]["output_weight"] == [7, 10]
    assert shapes["prelu"] == {"it": {"weight": [3]}}
    kinds = {case: layers[0][1] for case, layers in told.items()}
    assert kinds["dense"] == "dense"
    assert [kinds[each] for each in ("lstm", "gru", "attention", "custom")] == ["lstm", "gru", "attention", "custom"]


TRAINING = """
def network():
    x = given = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="gelu", name="conv")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Dropout(0.5)(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(given, layers.Dense(3, name="head")(x))

x, labels = random.standard_normal((4, 6, 6, 3)), np.array([0, 2, 1, 1])
model = built(network, x)
drawn = draw(model)
arrays |= {f"first {name}": array for name, array in drawn.items()}
for optimizer in ("sgd", "adam", "adamw"):
    for weight_decay in (0.0, 0.1):
        case = f"{optimizer} {weight_decay}"
        recipe = Recipe(optimizer=optimizer, weight_decay=weight_decay, momentum=0.9, epsilon=1e-3, precision="float64")
        subject.load(model, drawn)
        trainer = subject.trainer(model, recipe, None, None, True)
        heard = {}
        told[f"{case} loss"] = trainer.differentiate([x], labels, heard.__setitem__)
        told["heard"] = list(heard)
        gradients = dict(trainer.gradients())
        arrays |= {f"{case} gradient {name}": array for name, array in gradients.items()}
        subject.load(model, drawn)
        for rate in (0.1, 0.02):
            trainer.update(rate, gradients)
        arrays |= {f"{case} {each.kind} {each.name}": each.array for each in trainer.states()}
subject.load(model, drawn)
plain = Recipe(precision="float64")
trainer = subject.trainer(model, plain, None, None, False)
told["frozen loss"] = trainer.differentiate([x], labels)
arrays |= {f"frozen gradient {name}": array for name, array in trainer.gradients()}
for name in ("conv.weight", "head.bias", "norm.weight"):
    direction, step = random.standard_normal(drawn[name].shape), 1e-6
    ends = []
    for sign in (1, -1):
        subject.load(model, {name: drawn[name] + sign * step * direction})
        ends.append(trainer.differentiate([x], labels))
    subject.load(model, drawn)
    told[f"slope {name}"] = (ends[0] - ends[1]) / (2 * step)
    arrays[f"direction {name}"] = direction
own = subject.trainer(
    model,
    plain,
    lambda targets, outputs: ops.mean(keras.losses.sparse_categorical_crossentropy(targets, outputs, from_logits=True)),
    lambda model: keras.optimizers.RMSprop(0.5),
    False,
)
told["own loss"] = own.differentiate([x], labels)
own.update(1e-9)
told["own moved"] = float(np.abs(dict(subject.dump(model))["head.bias"] - drawn["head.bias"]).max())
before = dict(subject.dump(model))
subject.forward(model, [x], True)
told["kept"] = all((array == before[name]).all() for name, array in subject.dump(model))
weights, archive = (__import__("pathlib").Path(sys.argv[1] + suffix) for suffix in (".weights.h5", ".keras"))
subject.write_checkpoint(model, weights)
model.save(archive)
for path in (weights, archive):
    subject.load(model, drawn)
    subject.read_checkpoint(model, path)
    told[f"read {path.suffix}"] = all((array == before[name]).all() for name, array in subject.dump(model))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same training on both backends."""
    return {each: ran(TRAINING, each, tmp_path_factory.mktemp(each)) for each in BACKENDS}


def test_both_backends_train_alike(trained: Any) -> None:
    (ours, told), (theirs, other) = (trained[each] for each in BACKENDS)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        # keras.activations.gelu has constants in single precision.
        np.testing.assert_allclose(array, theirs[name], rtol=1e-6, atol=1e-7, err_msg=name)
    assert told["heard"] == other["heard"] == ["conv", "conv > activation", "norm", "norm > pooling", "head"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_are_slopes(trained: Any, backend: str) -> None:
    arrays, told = trained[backend]
    for name in ("conv.weight", "head.bias", "norm.weight"):
        slope = (arrays[f"frozen gradient {name}"] * arrays[f"direction {name}"]).sum()
        assert slope == pytest.approx(told[f"slope {name}"], rel=1e-6, abs=1e-8), name
    assert told["own loss"] == pytest.approx(told["frozen loss"], rel=1e-12)
    assert told["own moved"] > 0.1 and told["kept"] and told["read .h5"] and told["read .keras"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_optimizers_are_the_formulas(trained: Any, optimizer: str, decay: float, backend: str) -> None:
    arrays, _ = trained[backend]
    case, name = f"{optimizer} {decay}", "conv.weight"
    w, given = arrays[f"first {name}"].copy(), arrays[f"{case} gradient {name}"]
    m = v = np.zeros_like(w)
    for step, rate in enumerate((0.1, 0.02), start=1):
        gradient = given
        if optimizer == "adamw":
            w = w - rate * decay * w
        else:
            gradient = given + decay * w
        if optimizer == "sgd":
            m = 0.9 * m + gradient
            w = w - rate * m
            continue
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        w = w - rate * m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.999**step)) + 1e-3)

    def check(kind: str, wanted: Array) -> None:
        np.testing.assert_allclose(arrays[f"{case} {kind} {name}"], wanted, rtol=1e-11, atol=1e-13)

    check("parameter", w)
    check("momentum" if optimizer == "sgd" else "first_moment", m)
    if optimizer != "sgd":
        check("second_moment", v)
    assert f"{case} statistic norm.running_mean" in arrays


AMENDMENTS = """
def network():
    x = given = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="conv")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.ZeroPadding2D(1)(x)
    x = layers.Conv2D(4, 3, activation="gelu", name="padded")(x)
    x = layers.AveragePooling2D(3, 1, padding="same")(x)
    x = layers.LayerNormalization(name="scaled")(x)
    x = layers.Conv2DTranspose(4, 4, strides=2, padding="same", name="wider")(x)
    x = keras.activations.silu(x)
    x = layers.Reshape((-1, 4))(x)
    x = layers.MultiHeadAttention(2, 2, name="attention")(x, x)
    return keras.Model(given, layers.Dense(3, name="head")(x))

x = random.standard_normal((2, 8, 8, 4))
model = built(network, x)
draw(model)
found = subject.inventory(model, [x])
told["configs"] = {each.name: each.config for each in found.layers}
told["order"] = [each.name for each in found.layers]
told["sources"] = [each.source for each in found.layers]
(first,) = subject.forward(model, [x], False)
told["changed"] = {}
for layer, key, value in CHANGES:
    heard = {}
    learned = key in ("momentum", "biased_variance")
    def outcome():
        before = dict(subject.dump(model))
        trainer = subject.trainer(model, Recipe(precision="float64"), None, None, learned)
        subject.forward(model, [x], False, heard.__setitem__)
        if learned:
            trainer.differentiate([x], np.zeros((2, 64), int))
            heard[layer] = dict(subject.dump(model))["norm.running_var"]
            subject.load(model, before)
        return heard[layer].copy()
    start = outcome()
    subject.amend(model, Amendment(what="layer", layer=layer, key=key, value=value))
    arrays[f"{layer} {key}"] = after = outcome()
    arrays[f"{layer} {key} before"] = start
    subject.amend(model, Amendment(what="layer", layer=layer, key=key, value=found.layer(layer).config.get(key)))
    told["changed"][f"{layer} {key}"] = bool(after.shape != start.shape or np.abs(after - start).max() > 1e-9)
    assert (outcome() == start).all(), (layer, key)
assert (subject.forward(model, [x], False)[0] == first).all()
arrays["x"] = x
arrays |= dict(subject.dump(model))
told["refused"] = []
for layer, key in (("head", "epsilon"), ("nothing", "epsilon"), ("wider > activation", "axes"), ("conv", "groups")):
    try:
        subject.amend(model, Amendment(what="layer", layer=layer, key=key, value=1))
    except ValueError as error:
        told["refused"].append(str(error))
"""
CHANGES: list[tuple[str, str, Any]] = [
    ("norm", "epsilon", 1e-5),
    ("norm", "momentum", 0.1),
    ("norm", "biased_variance", False),
    ("conv", "padding", [[1, 1], [1, 1]]),
    ("conv", "stride", [1, 1]),
    ("norm > activation", "function", "relu6"),
    ("padded", "padding", [[0, 2], [0, 2]]),
    ("padded > activation", "function", "gelu_tanh"),
    ("padded > activation > pooling", "counts_padding", True),
    ("padded > activation > pooling", "mode", "max"),
    ("scaled", "epsilon", 1e-5),
    ("wider", "padding", [[0, 2], [0, 2]]),
    ("wider > activation", "function", "relu"),
    ("attention", "scale", 1.0),
]


@pytest.mark.parametrize("backend", BACKENDS)
def test_amendments_change_and_restore(backend: str, tmp_path: Path) -> None:
    arrays, told = ran(f"CHANGES = {CHANGES!r}\n{AMENDMENTS}", backend, tmp_path)
    assert told["changed"] == {f"{layer} {key}": True for layer, key, _ in CHANGES}
    p = arrays.__getitem__
    wanted = convolved(p("x"), p("conv.weight"), p("conv.bias"), 2, [[1, 1], [1, 1]])
    np.testing.assert_allclose(arrays["conv padding"], wanted, rtol=CLOSE, atol=CLOSE)
    assert arrays["conv stride"].shape == (2, 8, 8, 4)
    # 32 values of each channel: the variance's share of the new value grows by 32 / 31.
    new, old = (arrays[f"norm biased_variance{each}"] - 0.99 * p("norm.running_var") for each in ("", " before"))
    np.testing.assert_allclose(new, old * 32 / 31, rtol=1e-9)
    before, most = arrays["norm > activation function before"], arrays["norm > activation function"]
    assert (most == np.minimum(before, 6)).all()
    # At a corner the window has four places of nine.
    pool = "padded > activation > pooling counts_padding"
    np.testing.assert_allclose(arrays[pool][:, 0, 0], arrays[f"{pool} before"][:, 0, 0] * 4 / 9, rtol=CLOSE)
    assert told["configs"]["conv"]["padding"] == [[0, 1], [0, 1]]
    assert told["configs"]["padded"]["padding"] == [[1, 1], [1, 1]]
    assert told["configs"]["wider"]["padding"] == [[1, 1], [1, 1]]
    assert told["configs"]["norm"] == {"epsilon": 1e-3, "momentum": 0.01, "biased_variance": True}
    assert told["configs"]["padded > activation"]["function"] == "gelu"
    assert len(told["refused"]) == 4 and "nothing is a call" in told["refused"][1]


WRITTEN = """
class Block(layers.Layer):
    def __init__(self, width):
        super().__init__()
        self.steps = [layers.Dense(width), layers.Dense(width, activation="tanh")]
        self.inner = keras.Sequential([layers.Dense(width, name="a"), layers.LayerNormalization(name="b")])
    def call(self, x):
        return ops.concatenate([self.inner(self.steps[1](ops.relu(self.steps[0](x)))), x], -1)

class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.block, self.last = Block(4), layers.Dense(2)
        self.unused = layers.Dense(1)
        self.unused.build((None, 3))
        self.rest = layers.Dropout(0.5)
    def call(self, x, more, training=None):
        return {"out": self.rest(self.last(self.block(x) * 2)), "more": more}

x, more = random.standard_normal((3, 4)), random.standard_normal((3, 2))
model = built(lambda: Own(), x, more)
found = subject.inventory(model, [x, more])
told["layers"] = [[each.name, each.kind, each.config.get("function"), each.class_name] for each in found.layers]
told["outputs"], told["sources"] = found.outputs, [each.source for each in found.layers]
random_pair = [subject.forward(model, [x, more], True)[1] for _ in range(2)]
told["silent"] = bool((random_pair[0] == random_pair[1]).all())

def nested():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="one"), layers.ReLU()], name="inner")
    given = keras.Input((4,))
    shared = layers.Dense(4, name="shared")
    return keras.Model(given, shared(inner(shared(given)) + given))

model = built(nested, x)
told["nested"] = [each.name for each in subject.inventory(model, [x]).layers]
from transfer_parity.shared.core.errors import BadInput
from pathlib import Path
told["errors"] = []
for work in (
    lambda: built(lambda: 3, x),
    lambda: built(nested, np.zeros((2, 5))),
    lambda: subject.read_checkpoint(model, Path("nowhere.weights.h5")),
    lambda: subject.read_checkpoint(model, Path("model.pt")),
    lambda: subject.write_checkpoint(model, Path("model.pt")),
):
    try:
        work()
    except BadInput as error:
        told["errors"].append(str(error))
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_models_that_are_classes_and_nested_ones_are_seen(backend: str, tmp_path: Path) -> None:
    _, told = ran(WRITTEN, backend, tmp_path)
    assert told["layers"] == [
        ["block/dense", "dense", None, "Dense"],
        ["block/dense > activation", "activation", "relu", "relu"],
        ["block/dense_1", "dense", None, "Dense"],
        ["block/dense_1 > activation", "activation", "tanh", "tanh"],
        ["block/sequential/a", "dense", None, "Dense"],
        ["block/sequential/b", "layer_norm", None, "LayerNormalization"],
        ["block/sequential/b > concatenation", "merge", "concatenate", "concatenate"],
        ["dense_2", "dense", None, "Dense"],
        ["dense_3", "dense", None, "Dense"],
    ]
    lines = (tmp_path / "program.py").read_text().splitlines()
    number = next(place for place, line in enumerate(lines, 1) if "layers.Dense(width), layers" in line)
    assert told["sources"][0] == told["sources"][2] == f"{tmp_path / 'program.py'}:{number}"
    assert told["outputs"] == [[3, 2], [3, 2]] and told["silent"]
    assert told["nested"] == [
        "shared",
        "inner/one",
        "inner/one > activation",
        "inner/one > activation > sum",
        "shared#2",
    ]
    expected = [
        "the factory returns int",
        "cannot be called with inputs",
        "there is no checkpoint",
        "there is no checkpoint",
        "Keras writes weights as",
    ]
    assert len(told["errors"]) == 5
    for sentence, part in zip(told["errors"], expected, strict=True):
        assert part in sentence and "\n" not in sentence


MODEL = """
import keras
from keras import layers

def build(width=4):
    x = given = keras.Input((8, 8, 3))
    x = layers.Conv2D(width, 3, padding="same", activation="relu", name="conv")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Dropout(0.5)(x)
    x = layers.Flatten()(layers.MaxPooling2D(2)(x))
    return keras.Model(given, layers.Dense(3, name="head")(x))
"""
PAIR = """
[sides.here]
framework = "keras"
factory = "model.py:build"
[sides.there]
framework = "keras"
backend = "torch"
factory = "model.py:build"
[inputs.image]
shape = [8, 8, 3]
kind = "image"
[training]
optimizer = "adam"
weight_decay = 0.01
"""


def test_two_sides_of_keras_climb(tmp_path: Path) -> None:
    """One on TensorFlow, one on PyTorch; float64 leaves them equal to rounding."""
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "pair.toml").write_text(PAIR)
    subject, _ = subject_files.read(tmp_path / "pair.toml")
    examples, weights = tmp_path / "examples.npz", tmp_path / "here" / subject_dump.WEIGHTS
    subject_examples.write(
        examples, subject_examples.with_targets(subject, subject_examples.draw(subject, tmp_path), (4, 3))
    )
    dumps = []
    for side in subject.sides:
        first = side == "here"
        climbs = (SubjectClimb(id="climb", weights=None if first else weights, examples=examples),)
        job = SubjectJob(
            subject=subject, side=side, root=tmp_path, threads=1, examples=examples, describe=first, climbs=climbs
        )
        SubjectTask(job, tmp_path / side, lambda event, _: None).carry_out(lambda event, _: None)
        dumps.append(Dump(tmp_path / side / "climb"))
    assert [each.info.backend for each in dumps] == [None, "torch"]
    for rung in ("preprocessing", "activations", "loss", "gradients", "optimizer", "trajectory", "predictions"):
        labels = dumps[0].labels(rung)
        assert labels == dumps[1].labels(rung) and labels
        for label in labels:
            ours, theirs = (each.read(rung, label) for each in dumps)
            scale = np.abs(ours).max() or 1.0
            assert np.abs(ours - theirs).max() <= 1e-10 * scale, (rung, label)

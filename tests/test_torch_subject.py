"""A model of the user's own in PyTorch's wing: layouts, what is watched, what can be changed, training.

The wing runs in processes of its own, and leaves arrays behind; what they have to be is computed here, with NumPy.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import ROOT
from tests.processes import python
from transfer_parity.shared.contract import artifacts, subject_files
from transfer_parity.shared.contract.inventory import Inventory
from transfer_parity.shared.contract.subject_jobs import SubjectClimb, SubjectJob
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.runtime import subject_dump, subject_examples
from transfer_parity.shared.runtime.subject_dump import Dump
from transfer_parity.shared.runtime.subject_launch import SubjectTask

Arrays = dict[str, NDArray[Any]]

_FRAME = """
import json, sys
import numpy as np
import torch
from torch import nn
from tests.programs import torch_models
from transfer_parity.shared.contract.inventory import Amendment
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.wings import TORCHVISION
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.torch_impl import layouts, subject
answers, texts, random = {}, {}, np.random.default_rng(0)
assert "torch" in subject.configure(TORCHVISION, 1, PRECISION)

def built(make, *inputs):
    model = subject.build(make, lambda: inputs)
    subject.silence(model)
    return model

def drawn(model):
    # Variances are positive.
    arrays = {}
    for name, array in subject.dump(model):
        values = random.uniform(0.5, 1.5, array.shape), 0.5 * random.standard_normal(array.shape)
        arrays[name] = values[0] if name.endswith("_var") else values[1]
    subject.load(model, arrays)
    return arrays

def refused(call):
    try:
        call()
    except (BadInput, ValueError, KeyError) as error:
        return f"{type(error).__name__}: {error}"
    return ""
"""
_END = """
np.savez(sys.argv[1], **answers)
open(sys.argv[2], "w").write(json.dumps(texts))
"""


def run(body: str, folder: Path, precision: str = "float64") -> tuple[Arrays, dict[str, Any]]:
    """Run a program in a process with PyTorch: its arrays and its texts."""
    arrays, texts = folder / "arrays.npz", folder / "texts.json"
    program = _FRAME.replace("PRECISION", repr(precision)) + body + _END
    python(program, arrays, texts)
    with np.load(arrays) as held:
        return {name: held[name] for name in held.files}, json.loads(texts.read_text())


def part(arrays: Arrays, prefix: str) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def close(a: NDArray[Any], b: NDArray[Any], tolerance: float = 1e-12) -> None:
    assert a.shape == b.shape, (a.shape, b.shape)
    assert float(np.abs(a - b).max(initial=0)) <= tolerance * max(1.0, float(np.abs(b).max(initial=0)))


LAYERS = """
tokens, more = random.integers(0, 7, (2, 4)), random.standard_normal((2, 3, 4))
for kind in ("first", "last"):
    model = built(lambda: torch_models.Layers(kind == "first"), tokens, more)
    random = np.random.default_rng(1)
    arrays = drawn(model)
    after = dict(subject.dump(model))
    assert list(after) == list(arrays)
    for name, array in arrays.items():
        answers[f"{kind} given {name}"], answers[f"{kind} after {name}"] = array, after[name]
    texts[kind] = json.loads(subject.inventory(model, [tokens, more]).model_dump_json())
    def hear(name, array):
        answers[f"{kind} heard {name}"] = array
    def hear_inputs(name, several):
        for place, array in enumerate(several):
            answers[f"{kind} input {name} {place}"] = array
    for place, output in enumerate(subject.forward(model, [tokens, more], False, hear)):
        answers[f"{kind} output {place}"] = output
    subject.inputs_of(model, [tokens, more], hear_inputs)
    for layer in subject.inventory(model, [tokens, more]).layers:
        names = [name for name in answers if name.rpartition(" ")[0] == f"{kind} input {layer.name}"]
        found = subject.call(model, layer.name, [answers[name] for name in names]) if names else None
        if found:
            answers[f"{kind} alone {layer.name}"] = found[0]
    answers[f"{kind} training"] = subject.forward(model, [tokens, more], True)[0]
    again = subject.forward(model, [tokens, more], True)[0]
    answers[f"{kind} training again"] = again
    answers[f"{kind} unchanged"] = np.array([np.array_equal(arrays[n], a) for n, a in subject.dump(model)])
model = built(lambda: torch_models.Layers(), tokens, more)
texts["unknown"] = refused(lambda: subject.load(model, {"none.weight": np.zeros(3)}))
texts["shape"] = refused(lambda: subject.load(model, {"out.bias": np.zeros(3)}))
"""


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Arrays, dict[str, Any]]:
    return run(LAYERS, tmp_path_factory.mktemp("layers"))


def inventory_of(texts: dict[str, Any], name: str) -> Inventory:
    return Inventory.model_validate(texts[name])


def test_what_is_loaded_is_dumped(layers: tuple[Arrays, dict[str, Any]]) -> None:
    arrays, _ = layers
    given, after = part(arrays, "first given "), part(arrays, "first after ")
    assert len(given) > 50
    for name, array in given.items():
        np.testing.assert_array_equal(after[name], array, err_msg=name)


def test_shapes_are_canonical(layers: tuple[Arrays, dict[str, Any]]) -> None:
    arrays, _ = layers
    shapes = {name: array.shape for name, array in part(arrays, "first given ").items()}
    # Tied weights are there once.
    assert "tied.weight" not in shapes and "tied.bias" in shapes
    wanted = {
        "model.token": (1, 1, 6),
        "embedding.weight": (7, 6),
        "conv1d.weight": (4, 6, 3),
        "up.weight": (4, 6, 2),
        "depthwise.weight": (12, 1, 3),
        "group.weight": (12,),
        "batch.running_var": (12,),
        "prelu.weight": (12,),
        "narrow.weight": (6, 12),
        "layer.bias": (6,),
        "rms.weight": (6,),
        "attention.query_weight": (6, 6),
        "attention.value_bias": (6,),
        "cross.key_weight": (6, 4),
        "cross.value_weight": (6, 5),
        "cross.output_bias": (6,),
        "lstm.l0.input_weight": (20, 6),
        "lstm.l1_reverse.input_weight": (20, 10),
        "lstm.l1.recurrent_weight": (20, 5),
        "lstm.l0_reverse.bias": (20,),
        "gru.input_weight": (15, 10),
        "gru.bias": (15,),
        "gru.recurrent_bias": (15,),
    }
    assert {name: shapes[name] for name in wanted} == wanted


def test_layers_stand_in_the_order_in_which_they_compute(layers: tuple[Arrays, dict[str, Any]]) -> None:
    _, texts = layers
    found = inventory_of(texts, "first")
    names = [layer.name for layer in found.layers if " > " not in layer.name]
    assert names == [
        *("model", "embedding", "conv1d", "up", "depthwise", "group", "batch", "prelu", "narrow"),
        *("layer", "plain", "rms", "attention", "cross"),
        *("lstm.l0", "lstm.l0_reverse", "lstm.l1", "lstm.l1_reverse", "gru", "out", "tied", "out#2"),
    ]
    assert {layer.name: layer.kind for layer in found.layers}["model"] == "custom"
    assert found.layer("out#2").parameters == {}
    assert found.layer("attention").own_names["query_weight"] == ["attention.in_proj_weight"]
    assert found.layer("gru").own_names["recurrent_bias"] == ["gru.bias_hh_l0"]
    assert found.layer("lstm.l0").own_names["bias"] == ["lstm.bias_ih_l0", "lstm.bias_hh_l0"]
    assert found.layer("conv1d > activation").config == {"function": "relu"}
    assert found.layer("conv1d").config["padding"] == [[2, 2]] and found.layer("conv1d").config["dilation"] == [2]
    assert found.layer("attention").config == {"heads": 2, "scale": 3**-0.5}
    assert found.outputs == [(2, 5)]


def test_every_layer_says_where_it_was_made(layers: tuple[Arrays, dict[str, Any]]) -> None:
    _, texts = layers
    lines = (ROOT / "tests" / "programs" / "torch_models.py").read_text().splitlines()
    for layer in inventory_of(texts, "first").with_parameters:
        # The whole of it is made by a program that no file holds.
        if layer.name != "model":
            path, _, number = str(layer.source).rpartition(":")
            attribute = layer.name.partition(".")[0]
            assert Path(path).name == "torch_models.py" and f"self.{attribute} = nn." in lines[int(number) - 1]


def test_outputs_are_heard_with_channels_last(layers: tuple[Arrays, dict[str, Any]]) -> None:
    arrays, texts = layers
    heard = part(arrays, "first heard ")
    assert heard["conv1d"].shape == heard["conv1d > activation"].shape == (2, 4, 4)
    assert heard["up"].shape == (2, 8, 6) and heard["prelu"].shape == (2, 6, 12)
    found = inventory_of(texts, "first")
    assert {name: array.shape for name, array in heard.items()} == {
        layer.name: layer.output_shape for layer in found.layers if layer.output_shape is not None
    }
    given = part(arrays, "first given ")
    image, kernel = part(arrays, "first input ")["conv1d 0"], given["conv1d.weight"]
    padded = np.pad(image, ((0, 0), (2, 2), (0, 0)))
    terms = [padded[:, 2 * i : 2 * i + 4] @ kernel[:, :, i].T for i in range(3)]
    close(heard["conv1d"], sum(terms) + given["conv1d.bias"])
    close(heard["conv1d > activation"], np.maximum(heard["conv1d"], 0))


def sigmoid(x: NDArray[Any]) -> NDArray[Any]:
    found: NDArray[Any] = 1 / (1 + np.exp(-x))
    return found


def lstm(x: NDArray[Any], weights: Arrays) -> NDArray[Any]:
    """(N, L, in) to the states of all steps (N, L, h); gates i, f, g, o."""
    h = c = np.zeros((len(x), weights["recurrent_weight"].shape[1]))
    found = []
    for step in range(x.shape[1]):
        gates = x[:, step] @ weights["input_weight"].T + h @ weights["recurrent_weight"].T + weights["bias"]
        i, f, g, o = np.split(gates, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        found.append(h)
    return np.stack(found, 1)


def gru(x: NDArray[Any], weights: Arrays) -> NDArray[Any]:
    """The same of a GRU; gates r, z, n, and the reset gate behind the recurrent product."""
    h = np.zeros((len(x), weights["recurrent_weight"].shape[1]))
    found = []
    for step in range(x.shape[1]):
        r, z, n = np.split(x[:, step] @ weights["input_weight"].T + weights["bias"], 3, axis=1)
        hr, hz, hn = np.split(h @ weights["recurrent_weight"].T + weights["recurrent_bias"], 3, axis=1)
        r, z = sigmoid(r + hr), sigmoid(z + hz)
        h = (1 - z) * np.tanh(n + r * hn) + z * h
        found.append(h)
    return np.stack(found, 1)


def attention(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], weights: Arrays, heads: int) -> NDArray[Any]:
    """(N, L, in) each to (N, L, out)."""

    def projected(x: NDArray[Any], role: str) -> NDArray[Any]:
        found = x @ weights[f"{role}_weight"].T + weights[f"{role}_bias"]
        return found.reshape(*found.shape[:2], heads, -1).swapaxes(1, 2)

    one, other, values = projected(q, "query"), projected(k, "key"), projected(v, "value")
    scores = one @ other.swapaxes(2, 3) / np.sqrt(one.shape[-1])
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    found = (scores / scores.sum(-1, keepdims=True)) @ values
    found = found.swapaxes(1, 2).reshape(*q.shape[:2], -1)
    out: NDArray[Any] = found @ weights["output_weight"].T + weights["output_bias"]
    return out


@pytest.mark.parametrize("kind", ["first", "last"])
def test_sequences_are_what_the_formulas_say(layers: tuple[Arrays, dict[str, Any]], kind: str) -> None:
    """Whether the batch or the steps stand in front in torch."""
    arrays, _ = layers
    given, heard, inputs = (part(arrays, f"{kind} {what} ") for what in ("given", "heard", "input"))
    x = inputs["lstm.l0 0" if "lstm.l0 0" in inputs else "lstm 0"]
    for number in range(2):
        forth = lstm(x, part(given, f"lstm.l{number}."))
        back = lstm(x[:, ::-1], part(given, f"lstm.l{number}_reverse."))[:, ::-1]
        x = np.concatenate([forth, back], 2)
    close(heard["lstm.l1"], forth[:, -1])
    close(heard["lstm.l1_reverse"], back[:, 0])
    close(inputs["gru 0"], x)
    close(heard["gru"], gru(x, part(given, "gru."))[:, -1])
    q, k, v = (inputs[f"attention {place}"] for place in range(3))
    close(heard["attention"], attention(q, k, v, part(given, "attention."), 2))
    q, k, v = (inputs[f"cross {place}"] for place in range(3))
    close(heard["cross"], attention(q, k, v, part(given, "cross."), 3))


def test_where_the_batch_stands_changes_nothing(layers: tuple[Arrays, dict[str, Any]]) -> None:
    arrays, _ = layers
    for name, array in part(arrays, "first heard ").items():
        close(part(arrays, "last heard ")[name], array)


@pytest.mark.parametrize("kind", ["first", "last"])
def test_a_layer_alone_does_what_it_does_within(layers: tuple[Arrays, dict[str, Any]], kind: str) -> None:
    arrays, _ = layers
    alone, heard = part(arrays, f"{kind} alone "), part(arrays, f"{kind} heard ")
    some = ["conv1d", "up", "group", "batch", "prelu", "narrow", "attention", "cross", "gru", "embedding", "out#2"]
    assert {*some, "conv1d > activation"} <= set(alone)
    for name, array in alone.items():
        close(array, heard[name])


def test_training_mode_leaves_statistics_and_draws_nothing(layers: tuple[Arrays, dict[str, Any]]) -> None:
    arrays, _ = layers
    assert np.array_equal(arrays["first training"], arrays["first training again"])
    assert not np.allclose(arrays["first training"], arrays["first output 0"])
    assert arrays["first unchanged"].all()


def test_wrong_names_and_shapes_are_errors(layers: tuple[Arrays, dict[str, Any]]) -> None:
    _, texts = layers
    assert texts["unknown"].startswith("KeyError") and texts["shape"] == (
        "ValueError: out.bias has the shape (5,), not (3,)"
    )


CNN = """
images = random.standard_normal((4, 3, 8, 8))
model = built(torch_models.small_cnn, images)
arrays = drawn(model)
# So large that a cap shows, and so small that the forms of GELU do.
subject.load(model, {"bn1.weight": np.full(4, 8.0), "fc1.weight": 0.05 * arrays["fc1.weight"]})
arrays = dict(subject.dump(model))
held = subject.inventory(model, [images])
texts["inventory"] = json.loads(held.model_dump_json())
def output(training=False):
    return subject.forward(model, [images], training)[0]
def learned():
    trainer = subject.trainer(model, Recipe(optimizer="sgd", weight_decay=0.0), None, None, True)
    trainer.differentiate([images], np.array([0, 1, 2, 0]))
    found = dict(subject.dump(model, ["bn1.running_mean", "bn1.running_var"]))
    gradients = dict(trainer.gradients())
    subject.load(model, arrays)
    return found, gradients
def hear(name, array):
    answers[f"heard {name}"] = array
before = output(False)
answers["before"] = subject.forward(model, [images], False, hear)[0]
assert np.array_equal(before, answers["before"])
statistics, gradients = learned()
for name, array in statistics.items():
    answers[f"learned {name}"] = array
CHANGES = [
    ("bn1", "epsilon", 0.1), ("bn1", "momentum", 0.3), ("bn1", "biased_variance", True),
    ("conv1", "padding", [[0, 2], [2, 0]]), ("conv2", "padding", [[0, 1], [0, 1]]), ("conv1", "dilation", [1, 2]),
    ("bn1 > activation", "function", "relu6"), ("bn1 > activation", "function", "silu"),
    ("fc1 > activation", "function", "gelu_tanh"), ("bn2 > sum > activation", "slope", 0.3),
    ("bn2 > sum > activation > pooling", "counts_padding", False),
    ("bn2 > sum > activation > pooling", "mode", "max"),
    ("bn1 > activation > pooling", "mode", "average"),
    ("bn2 > sum > activation > pooling > pooling", "mode", "max"),
    ("bn2 > sum > activation > pooling", "padding", [[0, 2], [0, 2]]),
]
for place, (layer, key, value) in enumerate(CHANGES):
    subject.amend(model, Amendment(what="layer", layer=layer, key=key, value=value))
    try:
        answers[f"change {place}"] = output()
        if layer == "bn1":
            for name, array in learned()[0].items():
                answers[f"change {place} {name}"] = array
        learned()
        texts[f"change {place}"] = ""
    except RuntimeError as error:
        texts[f"change {place}"] = str(error)
    subject.amend(model, Amendment(what="layer", layer=layer, key=key, value=held.layer(layer).config[key]))
    answers[f"restored {place}"] = output()
    now, then = learned()
    answers[f"restored {place} too"] = np.array(
        [np.array_equal(now[n], statistics[n]) for n in now] + [np.array_equal(then[n], gradients[n]) for n in then]
    )
texts["changes"] = CHANGES
texts["inventory again"] = json.loads(subject.inventory(model, [images]).model_dump_json())
for layer, key, value in [("fc1", "epsilon", 1.0), ("none", "epsilon", 1.0), ("bn1 > activation", "function", "what")]:
    texts[f"refused {layer}"] = refused(
        lambda: subject.amend(model, Amendment(what="layer", layer=layer, key=key, value=value))
    )
"""


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Arrays, dict[str, Any]]:
    return run(CNN, tmp_path_factory.mktemp("cnn"))


def test_functions_between_layers_are_named_behind_them(cnn: tuple[Arrays, dict[str, Any]]) -> None:
    arrays, texts = cnn
    found = inventory_of(texts, "inventory")
    assert [layer.name for layer in found.layers] == [
        *("conv1", "bn1", "bn1 > activation", "conv2", "bn2", "bn1 > activation > pooling", "bn2 > sum"),
        *("bn2 > sum > activation", "bn2 > sum > activation > pooling", "bn2 > sum > activation > pooling > pooling"),
        *("fc1", "fc1 > activation", "fc2", "never"),
    ]
    configs = {layer.name: layer.config for layer in found.layers}
    assert configs["bn1 > activation"] == {"function": "relu"}
    assert configs["bn2 > sum > activation"] == {"function": "leaky_relu", "slope": 0.2}
    assert configs["bn1 > activation > pooling"]["kernel"] == [2, 2]
    assert configs["bn2 > sum > activation > pooling"]["counts_padding"] is True
    assert configs["fc1 > activation"] == {"function": "gelu"}
    assert configs["bn1"] == {"epsilon": 1e-5, "momentum": 0.1, "biased_variance": False}
    # A module that pads is none of the layers, but pads for the one behind it.
    assert configs["conv2"]["padding"] == [[1, 0], [1, 0]] and configs["conv2"]["groups"] == 2
    assert found.layer("never").output_shape is None
    assert found.layer("bn1 > activation").class_name == "ReLU"
    lines = (ROOT / "tests" / "programs" / "torch_models.py").read_text().splitlines()
    made = {
        layer.name: lines[int(str(layer.source).rpartition(":")[2]) - 1].strip()
        for layer in found.layers
        if layer.source is not None
    }
    assert made["bn1 > activation"] == "self.act = nn.ReLU(inplace=True)"
    assert made["fc1 > activation"].endswith("self.fc2(functional.gelu(self.fc1(self.drop(y))))")
    assert arrays["heard bn1"].shape == arrays["heard bn1 > activation"].shape == (4, 8, 8, 4)
    # In place: what came before it stays as it was.
    assert (arrays["heard bn1"] < 0).any() and (arrays["heard bn1 > activation"] >= 0).all()
    close(arrays["heard bn2 > sum"], arrays["heard bn2"] + arrays["heard bn1 > activation > pooling"])
    again = inventory_of(texts, "inventory again")
    assert again == found


def test_changes_change_and_are_taken_back(cnn: tuple[Arrays, dict[str, Any]]) -> None:
    arrays, texts = cnn
    for place, (layer, key, value) in enumerate(texts["changes"]):
        what = f"{layer}: {key} = {value}"
        assert not texts[f"change {place}"], what + texts[f"change {place}"]
        same = np.array_equal(arrays[f"change {place}"], arrays["before"])
        assert same == (key in ("momentum", "biased_variance")), what
        assert np.array_equal(arrays[f"restored {place}"], arrays["before"]), what
        assert arrays[f"restored {place} too"].all(), what


def test_running_statistics_follow_what_was_changed(cnn: tuple[Arrays, dict[str, Any]]) -> None:
    arrays, texts = cnn
    changes = [tuple(each[:2]) for each in texts["changes"]]
    x = arrays["heard conv1"].reshape(-1, 4)
    n = len(x)
    learned = arrays["learned bn1.running_var"]
    kept = learned - 0.1 * x.var(0) * n / (n - 1)
    place = changes.index(("bn1", "biased_variance"))
    close(arrays[f"change {place} bn1.running_var"], kept + 0.1 * x.var(0))
    close(arrays[f"change {place} bn1.running_mean"], arrays["learned bn1.running_mean"])
    place = changes.index(("bn1", "momentum"))
    close(arrays[f"change {place} bn1.running_var"], kept / 0.9 * 0.7 + 0.3 * x.var(0) * n / (n - 1))


def test_what_cannot_be_changed_is_said(cnn: tuple[Arrays, dict[str, Any]]) -> None:
    _, texts = cnn
    assert texts["refused fc1"] == "ValueError: fc1 has no epsilon that can be changed to 1.0"
    assert texts["refused none"] == "ValueError: there is no layer none"
    assert "ValueError" in texts["refused bn1 > activation"]


OTHERS = """
from torch.nn import functional as F
x, tokens = random.standard_normal((3, 4, 8)), None
model = built(torch_models.Encoder, x)
drawn(model)
held = subject.inventory(model, [x])
texts["encoder"] = json.loads(held.model_dump_json())
before = subject.forward(model, [x], False)[0]
CHANGES = [("scale", 1.0, "self_attn"), ("axes", [-2, -1], "norm1"), ("axes", [-2], "norm1")]
for key, value, layer in CHANGES:
    layer = f"layer.{layer}"
    subject.amend(model, Amendment(what="layer", layer=layer, key=key, value=value))
    trainer = subject.trainer(model, Recipe(), None, None, True)
    trainer.differentiate([x], np.array([0, 1, 2]))
    assert "layer.self_attn.query_weight" in dict(trainer.gradients())
    changed = subject.forward(model, [x], False)[0]
    def hear(name, array):
        answers[f"encoder {key} {name}"] = array
    subject.forward(model, [x], False, hear)
    subject.amend(model, Amendment(what="layer", layer=layer, key=key, value=held.layer(layer).config[key]))
    assert not np.allclose(changed, before, rtol=1e-6), key
    assert np.array_equal(subject.forward(model, [x], False)[0], before), key
for name, array in subject.dump(model):
    answers[f"encoder given {name}"] = array

images = random.standard_normal((2, 3, 4, 5))
model = built(torch_models.Segmenting, images)
texts["map"] = json.loads(subject.inventory(model, [images]).model_dump_json())
answers["map"] = subject.forward(model, [images], False)[0]
trainer = subject.trainer(model, Recipe(loss="cross_entropy"), None, None, True)
targets = random.integers(0, 2, (2, 4, 5))
answers["map loss"] = np.array(trainer.differentiate([images], targets))
answers["map targets"] = targets
texts["targets"] = refused(lambda: trainer.differentiate([images], targets[:, 0, 0]))
texts["written out"] = refused(
    lambda: subject.amend(model, Amendment(what="layer", layer="conv > activation", key="function", value="relu"))
)

x = random.standard_normal((4, 6))
model = built(torch_models.mlp, x)
texts["mlp"] = json.loads(subject.inventory(model, [x]).model_dump_json())
given = {name: random.standard_normal(array.shape) for name, array in subject.dump(model)}
for name, array in given.items():
    answers[f"step given {name}"] = array
targets = np.array([0, 2, 1, 1])
for optimizer in ("sgd", "adam", "adamw"):
    recipe = Recipe(optimizer=optimizer, momentum=0.9, beta1=0.9, beta2=0.99, epsilon=1e-3, weight_decay=0.1)
    subject.load(model, given)
    trainer = subject.trainer(model, recipe, None, None, False)
    answers[f"{optimizer} loss"] = np.array(trainer.differentiate([x], targets))
    if optimizer == "sgd":
        for name, array in trainer.gradients():
            answers[f"gradient {name}"] = array
    along = {name: np.sin(array) for name, array in given.items()}
    for rate in (0.1, 0.01):
        trainer.update(rate, along)
    for state in trainer.states():
        answers[f"{optimizer} {state.kind} {state.name}"] = state.array
answers["x"], answers["targets"] = x, targets
subject.load(model, given)
trainer = subject.trainer(model, Recipe(), lambda t, o: (o ** 2).sum() + 0 * t.sum(), torch_models.own_optimizer, True)
answers["own loss"] = np.array(trainer.differentiate([x], targets))
answers["outputs"] = subject.forward(model, [x], False)[0]
trainer.update(123.0)
answers["own step"] = dict(subject.dump(model))["2.bias"]

lstm = built(lambda: nn.LSTM(3, 2, batch_first=True), random.standard_normal((2, 4, 3)))
texts["whole"] = list(dict(subject.dump(lstm)))
trainer = subject.trainer(lstm, Recipe(optimizer="sgd", momentum=0.0), lambda t, o: o[0].sum(), None, True)
bias = dict(subject.dump(lstm))["model.bias"]
trainer.differentiate([random.standard_normal((2, 4, 3))], np.array([0, 1]))
gradient = dict(trainer.gradients())["model.bias"]
trainer.update(0.5)
answers["bias"], answers["bias wanted"] = dict(subject.dump(lstm))["model.bias"], bias - 0.5 * gradient

folder = sys.argv[1].rpartition("/")[0]
from pathlib import Path
import pickle
for suffix in (".pt", ".pth", ".safetensors"):
    path = Path(folder) / f"weights{suffix}"
    subject.load(model, given)
    subject.write_checkpoint(model, path)
    subject.load(model, {name: array * 0 for name, array in given.items()})
    subject.read_checkpoint(model, path)
    assert all(np.array_equal(given[name], array) for name, array in subject.dump(model)), suffix
path = Path(folder) / "evil.pt"
class Evil:
    def __reduce__(self):
        return (open, (f"{folder}/was-here", "w"))
torch.save({"a": Evil()}, path)
texts["evil"] = refused(lambda: subject.read_checkpoint(model, path))
texts["absent"] = refused(lambda: subject.read_checkpoint(model, Path(folder) / "none.pt"))
texts["misfit"] = refused(lambda: subject.read_checkpoint(lstm, Path(folder) / "weights.pt"))
texts["no module"] = refused(lambda: subject.build(lambda: 3, lambda: [x]))
texts["no call"] = refused(lambda: subject.build(torch_models.mlp, lambda: [x[:, :4]]))
"""


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> tuple[Arrays, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("others")
    arrays, texts = run(OTHERS, folder)
    texts["was here"] = (folder / "was-here").exists()
    return arrays, texts


def test_an_encoder_does_not_take_its_shortcut(others: tuple[Arrays, dict[str, Any]]) -> None:
    _, texts = others
    names = [layer.name for layer in inventory_of(texts, "encoder").layers]
    inside = ["self_attn", "self_attn > sum", "norm1", "linear1", "linear1 > activation", "linear2", "linear2 > sum"]
    assert names == [*(f"layer.{each}" for each in inside), "layer.norm2", "layer.norm2 > pooling"]


def test_scores_can_be_scaled_otherwise(others: tuple[Arrays, dict[str, Any]]) -> None:
    arrays, _ = others
    weights = part(arrays, "encoder given layer.self_attn.")
    x = np.random.default_rng(0).standard_normal((3, 4, 8))
    # Four features a head: a scale of 1 is that of queries which are twice as large.
    doubled = {name: array * (2 if name.startswith("query") else 1) for name, array in weights.items()}
    close(arrays["encoder scale layer.self_attn"], attention(x, x, x, doubled, 2))


def test_maps_have_their_channels_last(others: tuple[Arrays, dict[str, Any]]) -> None:
    arrays, texts = others
    found = inventory_of(texts, "map")
    assert found.outputs == [(2, 4, 5, 2)] and arrays["map"].shape == (2, 4, 5, 2)
    logits = arrays["map"] - arrays["map"].max(-1, keepdims=True)
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    chosen = np.take_along_axis(chances, arrays["map targets"][..., None], -1)
    close(arrays["map loss"], np.array(-np.log(chosen).mean()))
    assert texts["targets"].startswith("BadInput: cross entropy wants a class for all logits")
    assert [layer.name for layer in found.layers] == ["conv", "conv > activation", "last"]
    assert found.layer("conv > activation").config == {}
    assert "several operations" in texts["written out"]


def test_gradients_are_those_of_the_formula(others: tuple[Arrays, dict[str, Any]]) -> None:
    arrays, texts = others
    weights, x = part(arrays, "step given "), arrays["x"]
    assert [layer.name for layer in inventory_of(texts, "mlp").layers] == ["0", "0 > activation", "2"]

    def loss(changed: Arrays) -> float:
        from scipy.special import erf

        z = x @ changed["0.weight"].T + changed["0.bias"]
        logits = z * (1 + erf(z / np.sqrt(2))) / 2 @ changed["2.weight"].T + changed["2.bias"]
        logits = logits - logits.max(1, keepdims=True)
        chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        return float(-np.log(chances[np.arange(4), arrays["targets"]]).mean())

    close(arrays["sgd loss"], np.array(loss(weights)))
    step = 1e-6
    for name, array in weights.items():
        for place in range(array.size):
            up, down = (array.copy() for _ in range(2))
            up.flat[place] += step
            down.flat[place] -= step
            slope = (loss(weights | {name: up}) - loss(weights | {name: down})) / (2 * step)
            # The central difference is wrong by step squared, and by rounding of the losses over the step.
            assert abs(slope - arrays[f"gradient {name}"].flat[place]) < 1e-8


def sgd(w: NDArray[Any], g: NDArray[Any]) -> Arrays:
    v = np.zeros_like(w)
    for rate in (0.1, 0.01):
        v = 0.9 * v + g + 0.1 * w
        w = w - rate * v
    return {"parameter": w, "momentum": v}


def adam(w: NDArray[Any], g: NDArray[Any], decoupled: bool = False) -> Arrays:
    m, v = np.zeros_like(w), np.zeros_like(w)
    for step, rate in enumerate((0.1, 0.01), 1):
        if decoupled:
            w = w * (1 - rate * 0.1)
        along = g if decoupled else g + 0.1 * w
        m, v = 0.9 * m + 0.1 * along, 0.99 * v + 0.01 * along**2
        w = w - rate * m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.99**step)) + 1e-3)
    return {"parameter": w, "first_moment": m, "second_moment": v}


RULES: dict[str, Callable[[NDArray[Any], NDArray[Any]], Arrays]] = {
    "sgd": sgd,
    "adam": adam,
    "adamw": lambda w, g: adam(w, g, decoupled=True),
}


@pytest.mark.parametrize("optimizer", RULES)
def test_optimizers_hold_what_the_formulas_say(others: tuple[Arrays, dict[str, Any]], optimizer: str) -> None:
    arrays, _ = others
    for name, array in part(arrays, "step given ").items():
        for kind, wanted in RULES[optimizer](array, np.sin(array)).items():
            close(arrays[f"{optimizer} {kind} {name}"], wanted)


def test_the_users_loss_and_optimizer_are_taken(others: tuple[Arrays, dict[str, Any]]) -> None:
    arrays, _ = others
    close(arrays["own loss"], np.array((arrays["outputs"] ** 2).sum()))
    # At its own rate.
    close(arrays["own step"], arrays["step given 2.bias"] - 0.5 * 2 * arrays["outputs"].sum(0))


def test_two_biases_are_one(others: tuple[Arrays, dict[str, Any]]) -> None:
    """Both of torch's would learn, which is twice as much."""
    arrays, texts = others
    assert texts["whole"] == ["model.input_weight", "model.recurrent_weight", "model.bias"]
    close(arrays["bias"], arrays["bias wanted"])


def test_checkpoints_are_data(others: tuple[Arrays, dict[str, Any]]) -> None:
    _, texts = others
    assert texts["evil"].startswith("BadInput") and "cannot be read as weights" in texts["evil"]
    assert not texts["was here"]
    assert "there is no checkpoint" in texts["absent"]
    assert "does not fit the model" in texts["misfit"]
    assert texts["no module"] == "BadInput: the factory returns int; it has to return a torch.nn.Module."
    assert "cannot be called with inputs of shape (4, 4)" in texts["no call"]


ODD = """
x = random.standard_normal((3, 2, 3, 4, 5))
model = built(torch_models.Odd, x)
arrays = drawn(model)
assert all(np.array_equal(arrays[name], array) for name, array in subject.dump(model))
texts["names"] = list(arrays)
held = subject.inventory(model, [x])
texts["odd"] = json.loads(held.model_dump_json())
def hear(name, array):
    answers[f"heard {name}"] = array
before = subject.forward(model, [x], True, hear)
texts["quiet"] = all(np.array_equal(*pair) for pair in zip(before, subject.forward(model, [x], True)))
own = held.layer("up").config["padding"]
for key, value in (("padding", [[0, 0], [1, 1]]), ("stride", [1, 2])):
    if key == "stride":
        subject.amend(model, Amendment(what="layer", layer="up", key="padding", value=[[0, 0], [0, 0]]))
    subject.amend(model, Amendment(what="layer", layer="up", key=key, value=value))
    assert not np.array_equal(before[0], subject.forward(model, [x], True)[0])
    for each in ("stride", "padding"):
        subject.amend(model, Amendment(what="layer", layer="up", key=each, value=held.layer("up").config[each]))
    assert np.array_equal(before[0], subject.forward(model, [x], True)[0])
wrong = Amendment(what="layer", layer="up", key="padding", value=[[0, 3], [1, 1]])
texts["refused"] = refused(lambda: subject.amend(model, wrong))
trainer = subject.trainer(model, Recipe(), lambda t, o: (o[0] ** 2).sum(), None, True)
trainer.differentiate([x], np.array([0, 1, 2]))
texts["gradients"] = [name for name, _ in trainer.gradients()]
"""


def test_what_is_rare_is_described_too(tmp_path: Path) -> None:
    arrays, texts = run(ODD, tmp_path)
    assert texts["quiet"]
    found = inventory_of(texts, "odd")
    layers = {layer.name: layer for layer in found.layers}
    assert layers["conv3d"].output_shape == (3, 2, 3, 4, 4) and layers["conv3d > pooling"].output_shape == (3, 3, 4, 4)
    assert layers["single"].config == {"epsilon": 1e-5, "groups": 4} and layers["single"].kind == "group_norm"
    assert layers["bare"].parameters == {} and layers["bare"].kind == "batch_norm"
    assert layers["up"].config["padding"] == [[1, 0], [1, 0]]
    assert layers["elman"].kind == "custom"
    assert arrays["heard both.l0_reverse#2"].shape == (3, 2) and layers["both.l0#2"].parameters == {}
    assert layers["narrow"].parameters["projection_weight"] == (2, 3)
    modes = [layer.config["mode"] for layer in found.layers if layer.kind == "pooling"]
    assert modes == ["average", "max", "average", "max"]
    assert found.outputs == [(3, 3), (3, 1, 3)]
    assert "up has no padding that can be changed" in texts["refused"]
    assert {"normed.bias", "normed.parametrizations.weight.original1"} <= set(texts["names"])
    assert set(texts["gradients"]) == set(texts["names"])


def test_in_float32_all_is_float32(tmp_path: Path) -> None:
    body = """
x = random.standard_normal((3, 6)).astype("float32")
model = built(torch_models.mlp, x)
subject.load(model, {"0.bias": np.arange(5) / 3})
trainer = subject.trainer(model, Recipe(), None, None, True)
trainer.differentiate([x], np.array([0, 1, 2]))
several = [*dict(subject.dump(model)).values(), *dict(trainer.gradients()).values()]
several += subject.forward(model, [x], False)
texts["types"] = sorted({str(each.dtype) for each in several})
"""
    assert run(body, tmp_path, "float32")[1]["types"] == ["float32"]


PAIR = """
[sides.before]
framework = "torch"
factory = "torch_models.py:{factory}"
{more}

[sides.after]
framework = "torch"
factory = "torch_models.py:{factory}"

[inputs.x]
shape = [{shape}]
{kind}

[training]
optimizer = "adam"
steps = 5
"""


def side(folder: Path, name: str, factory: str, shape: str, **values: Any) -> tuple[Dump, list[tuple[str, Any]]]:
    """What one side writes, and what its process tells."""
    path = ROOT / "tests" / "programs"
    text = PAIR.format(factory=factory, shape=shape, kind=values.pop("kind", ""), more=values.pop("more", ""))
    (folder / "pair.toml").write_text(text, encoding="utf-8")
    subject, _ = subject_files.read(folder / "pair.toml")
    examples = subject_examples.with_targets(subject, subject_examples.draw(subject, path), (4, 3))
    subject_examples.write(folder / "examples.npz", examples)
    climb = SubjectClimb(id="climb", examples=folder / "examples.npz", **values)
    job = SubjectJob(
        subject=subject,
        side=name,
        root=path,
        threads=1,
        examples=folder / "examples.npz",
        describe=True,
        climbs=(climb,),
    )
    heard: list[tuple[str, Any]] = []
    task = SubjectTask(job, folder / name, lambda event, details: None)
    task.carry_out(lambda event, details: heard.append((event, details)))
    return Dump(folder / name / "climb"), heard


def test_a_side_climbs(tmp_path: Path) -> None:
    first, heard = side(tmp_path, "before", "small_cnn", "8, 8, 3", kind='kind = "image"', writes_layer_inputs=True)
    assert [details["refused"] for event, details in heard if event == "climb"] == [None]
    activations = [label.name for label in first.labels("activations")]
    assert activations[:3] == ["conv1", "bn1", "bn1 > activation"]
    assert {label.kind for label in first.labels("optimizer")} == {"first_moment", "second_moment", "parameter"}
    assert {label.phase for label in first.labels("gradients")} == {"frozen", "training"}
    assert (tmp_path / "before" / artifacts.JOB).is_file()
    images = first.read("preprocessing", first.labels("preprocessing")[0])
    assert images.shape == (4, 8, 8, 3)
    # The same model again, in single steps from what was written: every layer puts out the same.
    again, _ = side(
        tmp_path,
        "after",
        "small_cnn",
        "8, 8, 3",
        kind='kind = "image"',
        weights=tmp_path / "before" / subject_dump.WEIGHTS,
        layer_inputs=tmp_path / "before" / "climb" / subject_dump.LAYER_INPUTS,
    )
    labels = again.labels("activations")
    assert {"conv1", "bn2", "fc2", "fc1 > activation", "bn1 > activation > pooling"} <= {label.name for label in labels}
    for label in labels:
        close(again.read("activations", label), first.read("activations", label))


def test_what_draws_in_a_function_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"side before: fc1 > activation is random in training mode"):
        side(tmp_path, "before", "random", "6")
    _, heard = side(tmp_path, "before", "mlp", "6", more="arguments = { width = 7 }")
    assert any(event == "climb" for event, _ in heard)

"""Layers of the user's own: rules for their parameters, and what is said where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests import subjects
from tests.conftest import run_compare
from transfer_parity.shared.contract import artifacts, subject_files
from transfer_parity.shared.contract.inventory import LayerRecord
from transfer_parity.shared.contract.subject import Layout
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.runtime.subject_side import check_layouts
from transfer_parity.shared.subjects import custom_layers, mapping, places

TORCH = """
import torch
from torch import nn

class Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(10, 8))
        self.scales = nn.Parameter(torch.randn(2, 5, 2))

    def forward(self, x):
        scales = self.scales.reshape(10, 2)
        return (x @ self.kernel.T) * scales[:, 0] + scales[:, 1]

class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3)
        self.lstm = nn.LSTM(6, 5, num_layers=2, batch_first=True, bidirectional=True)
        self.heads, self.mixer, self.last = nn.Linear(10, 8), Mixer(), nn.Linear(10, 3)

    def forward(self, x):
        x = torch.relu(self.first(x.flatten(0, 1)))
        x = torch.relu(self.second(x)).mean((2, 3)).reshape(-1, 3, 6)
        _, (state, _) = self.lstm(x)
        return self.last(self.mixer(self.heads(torch.cat([state[-2], state[-1]], -1))))

def preprocess(x):
    return x.transpose(0, 1, 4, 2, 3)

def build():
    return Reader()
"""
KERAS = """
import keras
from keras import layers, ops

class Blend(layers.Layer):
    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 10), name="kernel")
        self.scales = self.add_weight(shape=(2, 10), name="scales")

    def call(self, x):
        return ops.matmul(x, self.kernel) * self.scales[0] + self.scales[1]

def build():
    x = keras.Input((3, 7, 7, 3))
    several = keras.Sequential([layers.Conv2D(6, 3, activation="relu"), layers.GlobalAveragePooling2D()])
    y = layers.TimeDistributed(layers.Conv2D(4, 3, activation="relu"), name="one")(x)
    y = layers.TimeDistributed(several, name="several")(y)
    y = layers.Bidirectional(layers.LSTM(5, return_sequences=True))(y)
    y = layers.Bidirectional(layers.LSTM(5))(y)
    y = layers.EinsumDense("bf,hfk->bhk", output_shape=(2, 4), bias_axes="hk", name="heads")(y)
    y = Blend(name="blend")(layers.Flatten()(y))
    return keras.Model(x, layers.Dense(3, name="last")(y))
"""
PAIR = """
weights = "drawn"
[sides.torch]
factory = "ours.py:build"
preprocess = "ours.py:preprocess"
[sides.keras]
factory = "ported.py:build"
[inputs.x]
shape = [3, 7, 7, 3]
[training]
optimizer = "adam"
"""
RULES = """
[sides.keras.layouts]
"blend.kernel" = { axes = [1, 0] }
"blend.scales" = { axes = [1, 0], shape = [2, 5, 2] }
"""


def custom(name: str, **roles: tuple[int, ...]) -> LayerRecord:
    return subjects.layer(name, "custom", **roles)


def refused(mine: LayerRecord, theirs: LayerRecord, file: str | None = None) -> str:
    both = subjects.inventory([mine]), subjects.inventory([theirs])
    names = mapping.propose(*both, ({}, {}))
    with pytest.raises(BadInput) as error:
        custom_layers.refuse(names, both, ("old", "new"), file)
    return str(error.value)


@pytest.mark.parametrize(
    ("rule", "given", "wanted"),
    [
        (Layout(axes=(1, 0)), (3, 5), (5, 3)),
        (Layout(split=(3, 2, 4), axes=(1, 2, 0), shape=(8, 3)), (3, 8), (8, 3)),
        (Layout(shape=(4, 6)), (24,), (4, 6)),
        (Layout(), (2, 3), (2, 3)),
    ],
)
def test_a_rule_is_undone_to_the_bit(rule: Layout, given: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).standard_normal(given)
    found = rule.apply(array)
    assert found.shape == wanted
    np.testing.assert_array_equal(rule.undo(found, given), array)
    assert sorted(found.reshape(-1)) == sorted(array.reshape(-1))


def test_the_order_of_axes_is_numpys() -> None:
    array = np.arange(24).reshape(2, 3, 4)
    np.testing.assert_array_equal(Layout(axes=(2, 0, 1)).apply(array), array.transpose(2, 0, 1))
    axes = custom_layers.order((2, 3, 4), (4, 2, 3))
    assert axes is not None and array.transpose(axes).shape == (4, 2, 3)
    assert custom_layers.order((2, 3), (2, 4)) is None and custom_layers.order((6,), (2, 3)) is None


def test_the_sentence_has_the_rule_that_would_fit() -> None:
    said = refused(custom("mixer", kernel=(10, 8)), custom("blend", weight=(8, 10)))
    assert said.startswith("side old: mixer (Custom, mixer.py:7) is a layer of your own")
    assert "left over there: blend.weight (8, 10)" in said
    assert '"blend.weight" = { axes = [1, 0] } in [sides.new.layouts]' in said


def test_a_rule_is_the_candidates_where_its_layer_is_of_the_users_own() -> None:
    said = refused(subjects.dense("fc", 8, 10, bias=False), custom("blend", kernel=(10, 4, 2)))
    assert said.startswith("side new: blend")
    assert '"blend.kernel" = { split = [...], axes = [...], shape = [8, 10] } in [sides.new.layouts]' in said


def test_names_alone_go_into_the_map() -> None:
    said = refused(custom("own", scale=(7,)), subjects.norm("norm", 7), "names.toml")
    assert 'if own.scale is norm.weight, put the two into "parameters" of names.toml' in said


def test_another_size_is_taken_out() -> None:
    said = refused(custom("own", scale=(7,)), custom("other", scale=(9,)), "names.toml")
    assert said.endswith(
        'list others in "layers" and "parameters" of names.toml, without it, and it keeps its own weights.'
    )


def test_what_only_one_side_has_is_no_mistake_of_the_map() -> None:
    both = (
        subjects.inventory([subjects.dense("a", 3, 4), custom("own", scale=(7,))]),
        subjects.inventory([subjects.dense("b", 3, 4)]),
    )
    custom_layers.refuse(mapping.propose(*both, ({}, {})), both, ("old", "new"), None)


def test_a_wrong_key_of_a_rule_is_told_with_the_right_ones(tmp_path: Path) -> None:
    path = tmp_path / "pair.toml"
    path.write_text(PAIR + RULES.replace("axes = [1, 0] }", "axis = [1, 0] }", 1), encoding="utf-8")
    with pytest.raises(BadInput, match=r"unknown key 'sides.keras.layouts.blend.kernel.axis'; .*axes"):
        subject_files.read(path)


@pytest.mark.parametrize(
    ("name", "rule", "said"),
    [
        ("blend.scale", Layout(), "layouts: the model has no parameter 'blend.scale'; did you mean 'blend.scales'?"),
        ("blend.scales", Layout(axes=(1, 2)), "layouts: the rule of 'blend.scales' does not fit its shape (2, 10) "),
        ("blend.scales", Layout(split=(3, 7)), "layouts: the rule of 'blend.scales' does not fit its shape (2, 10) "),
        ("blend.scales", Layout(shape=(21,)), "layouts: the rule of 'blend.scales' does not fit its shape (2, 10) "),
    ],
)
def test_a_rule_that_fits_no_parameter_is_refused(name: str, rule: Layout, said: str) -> None:
    with pytest.raises(BadInput) as error:
        check_layouts({name: rule}, {"blend.scales": (2, 10), "last.weight": (3, 10)})
    assert str(error.value).startswith(said)


def test_layers_that_ports_meet_climb_with_the_whole_map_found(tmp_path: Path) -> None:
    """Layers of one's own, of both layers and directions, of every step of a sequence, and by head."""
    (tmp_path / "ours.py").write_text(TORCH, encoding="utf-8")
    (tmp_path / "ported.py").write_text(KERAS, encoding="utf-8")
    path = tmp_path / "pair.toml"
    path.write_text(PAIR + RULES, encoding="utf-8")
    found = run_compare(tmp_path / "out", "parity", path)
    assert found.status == 0, found.errors
    assert "All 9 rungs passed" in found.output
    document = json.loads((tmp_path / "out" / artifacts.PARITY).read_text(encoding="utf-8"))
    assert not document["left_over_reference"] and not document["left_over_candidate"]
    pairs = {each["reference"]: each["candidate"] for each in document["map"]}
    assert (
        pairs["first"] == "one" and pairs["heads"] == "heads" and pairs["lstm.l0_reverse"] == "bidirectional.backward"
    )
    heard = {each["reference"] for each in document["rungs"][2]["arrays"] if each["what"] == "activation"}
    # What several layers do at every step of a sequence is heard as the next layer's input alone.
    assert {"first", "lstm.l0", "lstm.l0_reverse", "lstm.l1", "heads", "mixer", "last"} <= heard
    assert "second" not in heard


def test_an_axis_that_preprocessing_moved_is_found_by_shape_and_then_by_values() -> None:
    mine = np.random.default_rng(0).standard_normal((4, 3, 7, 7, 3))
    assert (places.turned(mine, np.moveaxis(mine, -1, 2)) == mine).all()
    assert (places.turned(mine, np.moveaxis(mine, -1, 1)) == mine).all()
    other = np.zeros((4, 3, 7, 8, 3))
    assert places.turned(mine, other) is other

"""Known differences that could explain a failure: which are tried, in which order, and what a trial says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.subjects import attention, conv, dense, dump, inventory, layer, norm, relu, subject, weights
from transfer_parity.shared.contract import code_lines
from transfer_parity.shared.contract.inventory import Amendment, Inventory
from transfer_parity.shared.contract.rungs import RATES, RUNGS, Array, Label, Rung
from transfer_parity.shared.contract.subject import Subject
from transfer_parity.shared.contract.wings import TENSORFLOW, TORCH
from transfer_parity.shared.runtime.subject_side import SubjectSide
from transfer_parity.shared.subjects import causes, judging, mapping, recognising, weight_changes
from transfer_parity.shared.subjects.causes import Hypothesis
from transfer_parity.shared.subjects.document import ArrayResult, Cause, SubjectRung


def result(name: str, passed: bool = True) -> ArrayResult:
    return ArrayResult(
        label=Label("activation", name),
        what="activation",
        reference=name,
        candidate=f"{name}_",
        max_abs_difference=0.0 if passed else 1.0,
        max_rel_difference=0.0 if passed else 1.0,
        tolerance=1e-9,
        passed=passed,
    )


def rungs(rung: str = "", name: str = "", names: tuple[str, ...] = ("c1", "n1", "c2", "n2", "d")) -> list[SubjectRung]:
    """Nine rungs; from an array of one on everything differs."""
    found, fails = [], False
    for each in RUNGS:
        arrays = []
        for own in names:
            fails = fails or (each == rung and own == name)
            arrays.append(result(own, not fails))
        found.append(SubjectRung(name=each, arrays=arrays, passed=not fails))
    return found


def models(one: dict[str, Any] | None = None, two: dict[str, Any] | None = None) -> tuple[Inventory, Inventory]:
    """``one``, ``two``: configuration of both normalisations on each side."""
    sides = []
    for end, config in (("", one), ("_", two)):
        sides.append(
            inventory(
                [
                    conv(f"c1{end}", 4, 3, config={"padding": [[1, 1], [1, 1]]}),
                    norm(f"n1{end}", 4, config=config or {"epsilon": 1e-3, "momentum": 0.1}),
                    relu(f"n1{end} > relu"),
                    conv(f"c2{end}", 5, 4, config={"padding": [[1, 1], [1, 1]]}),
                    norm(f"n2{end}", 5, config=config or {"epsilon": 1e-3, "momentum": 0.1}),
                    dense(f"d{end}", 3, 5),
                ]
            )
        )
    return sides[0], sides[1]


def tried(
    sides: tuple[Inventory, Inventory], failed: list[SubjectRung], pair: Subject | None = None
) -> list[Hypothesis]:
    names = mapping.propose(*sides, ({}, {}))
    return causes.hypotheses(pair or subject(), names, sides, failed, (weights(sides[0]), weights(sides[1])))


def test_a_difference_of_all_normalisations_is_taken_back_at_once_then_alone() -> None:
    sides = models({"epsilon": 1e-3, "momentum": 0.1}, {"epsilon": 1e-5, "momentum": 0.01})
    found = tried(sides, rungs("activations", "n1"))
    assert [(each.name, len(each.amendments)) for each in found[:5]] == [
        ("epsilon", 2),
        ("momentum", 2),
        ("epsilon and momentum", 4),
        ("epsilon", 1),
        ("momentum", 1),
    ]
    first = found[0]
    assert first.words == "epsilon: 1e-3 in one, 1e-5 in two (2 layers)"
    assert first.amendments[0] == Amendment(what="layer", layer="n1_", key="epsilon", value=1e-3)
    assert first.reference_source == "n1.py:7" and first.candidate_source == "n1_.py:7"
    assert (
        first.mend_reference == "Batch_Norm(..., eps=1e-5)" and first.mend_candidate == "Batch_Norm(..., epsilon=1e-3)"
    )


def test_the_layer_that_diverges_comes_first() -> None:
    one, two = models()
    layers = [each.model_copy() for each in two.layers]
    layers[0] = layers[0].model_copy(update={"config": {"padding": [[0, 2], [0, 2]]}})
    layers[3] = layers[3].model_copy(update={"config": {"padding": [[0, 1], [0, 1]]}})
    for name, place in (("c1", "c1_"), ("c2", "c2_")):
        found = tried((one, inventory(layers)), rungs("activations", name))
        layer_ones = [each for each in found if each.name == "padding"]
        assert layer_ones[0].amendments[0].layer == place


def test_equal_configurations_give_no_hypothesis() -> None:
    same = models({"epsilon": 1e-5}, {"epsilon": float(np.float32(1e-5))})
    assert not [each for each in tried(same, rungs("loss", "n1")) if each.amendments[0].what == "layer"]
    assert tried(models({"epsilon": 1.0}, {"epsilon": 2.0}), rungs()) == []


def test_inputs_are_suspected_only_in_front() -> None:
    pair = subject(inputs={"x": {"shape": [6, 6, 3], "kind": "image"}})
    keys = [each.amendments[0].key for each in tried(models(), rungs("preprocessing", "c1"), pair)]
    assert keys[:2] == ["reversed_channels", "affine"]
    for rung, name in (("activations", "n2"), ("gradients", "c1")):
        assert "input" not in {each.amendments[0].what for each in tried(models(), rungs(rung, name), pair)}
    assert tried(models(), rungs("activations", "c1"), pair)[-1].amendments[0].key == "reversed_channels"
    assert "reversed_channels" not in {
        each.amendments[0].key for each in tried(models(), rungs("preprocessing", "c1"), subject())
    }


def test_training_is_suspected_where_the_reference_has_its_own() -> None:
    sides = {
        "one": {"framework": "torch", "factory": "a:b", "optimizer": "a:o", "loss": "a:l"},
        "two": {"framework": "keras", "factory": "a:b"},
    }
    pair = subject(sides=sides, training={"optimizer": "adam", "epsilon": 1e-7})
    found = tried(models(), rungs("optimizer", "c1"), pair)
    assert ("epsilon", 1e-8) in {(each.amendments[0].key, each.amendments[0].value) for each in found}
    assert {each.amendments[0].what for each in found} == {"training"}
    assert {each.name for each in found} >= {"label smoothing", "epsilon", "weight decay"}
    assert not tried(models(), rungs("optimizer", "c1"))


EPSILON = Hypothesis("epsilon", "epsilon: 1e-3 in one, 1e-5 in two", (), "a.py:1", "b.py:2", "mend a", "mend b")


def test_what_a_trial_says() -> None:
    pair, before = subject(), rungs("activations", "n1")

    def said(after: list[SubjectRung]) -> Cause | None:
        return causes.verdict(EPSILON, before, after, pair)

    everything = said(rungs())
    assert everything is not None and everything.explains == "all"
    assert everything.sentence == ("consistent with epsilon: 1e-3 in one, 1e-5 in two; with it, all nine rungs pass")
    assert (everything.reference_source, everything.mend_candidate) == ("a.py:1", "mend b")
    rung = said(rungs("gradients", "c1"))
    assert rung is not None and rung.explains == "rung"
    assert rung.sentence.endswith("with it, activations pass, and gradients is the first that fails")
    part = said(rungs("activations", "n2"))
    assert part is not None and part.explains == "part" and part.sentence.endswith("only at n2_")
    assert said(rungs("activations", "n1")) is None
    assert said(rungs("activations", "c1")) is None
    assert said(rungs("bytes", "d")) is None


def test_lines_of_code() -> None:
    assert code_lines.line(TENSORFLOW, "BatchNormalization", "momentum", 0.1) == "BatchNormalization(..., momentum=0.9)"
    assert code_lines.line(TORCH, "BatchNorm2d", "momentum", 0.1) == "BatchNorm2d(..., momentum=0.1)"
    assert code_lines.line(TORCH, "GELU", "function", "gelu_tanh") == ('F.gelu(x, approximate="tanh")')
    assert code_lines.line(TENSORFLOW, "ReLU", "function", "relu6") == "activations.relu6(x)"
    assert code_lines.line(TORCH, "Own", "secret", 1) is None
    assert [code_lines.number(value) for value in (1e-3, 1e-5, 0.1, 1.5e-4, 0.0, 3, [1, 2])] == [
        "1e-3",
        "1e-5",
        "0.1",
        "1.5e-4",
        "0.0",
        "3",
        "[1, 2]",
    ]


def test_orders_of_weights() -> None:
    # What a dense layer behind a feature map computes from either order of its values.
    model = inventory([conv("c", 3, 1, output=(2, 4, 5, 3)), dense("d", 7, 60)])
    arrays = weights(model)
    x = np.random.default_rng(1).standard_normal((2, 4, 5, 3))
    wanted = np.moveaxis(x, -1, 1).reshape(2, -1) @ arrays["d.weight"].T
    (first, last) = weight_changes.possible(model.layer("d"), model)
    given = causes.apply_to_weights(last, arrays, model)
    back = causes.apply_to_weights(first, given, model)
    results = {each.value[2]: causes.apply_to_weights(each, arrays, model) for each in (first, last)}
    assert any(np.allclose(x.reshape(2, -1) @ each["d.weight"].T, wanted) for each in results.values())
    assert (back["d.weight"] == arrays["d.weight"]).all() and (given["d.bias"] == arrays["d.bias"]).all()


def test_orders_of_heads_gates_and_kernels() -> None:
    shapes = {"input_weight": (12, 2), "recurrent_weight": (12, 3), "bias": (12,)}
    model = inventory([layer("l", "lstm", **shapes), attention("a", 8, config={"heads": 2}), conv("c", 4, 3)])
    arrays = weights(model)
    swapped = causes.apply_to_weights(
        Amendment(what="weights", layer="l", key="gate_order", value=[0, 2, 1, 3]), arrays, model
    )
    assert (swapped["l.bias"][3:6] == arrays["l.bias"][6:9]).all()
    assert (swapped["a.query_weight"] == arrays["a.query_weight"]).all()
    apart, together = weight_changes.possible(model.layer("a"), model)
    there = causes.apply_to_weights(apart, arrays, model)
    assert (there["a.output_weight"] != arrays["a.output_weight"]).any()
    assert (there["a.value_weight"] == arrays["a.value_weight"]).all()
    assert (causes.apply_to_weights(together, there, model)["a.output_weight"] == arrays["a.output_weight"]).all()
    (turned,) = weight_changes.possible(model.layer("c"), model)
    kernel = causes.apply_to_weights(turned, arrays, model)["c.weight"]
    assert (kernel == arrays["c.weight"].transpose(0, 1, 3, 2)).all() and kernel.flags.c_contiguous
    other = inventory(each.model_copy(update={"name": f"{each.name}_"}) for each in model.layers)
    for name, cause in (("l", "gate order"), ("a", "head order"), ("c", "transposed")):
        found = tried((model, other), rungs("activations", name, ("l", "a", "c")))
        assert found[0].name == cause and found[0].amendments[0].layer == f"{name}_"


def seen(folder: Path, mine: Array, theirs: Array, given: Array | None = None) -> list[Cause]:
    """What is recognised when ``x`` passes and ``y`` differs."""
    model = inventory([dense("x", 3, 3), layer("y", "custom", own=(2,))])
    values = [mine, theirs]
    dumps = []
    for number, array in enumerate(values):
        arrays: dict[Label, Array] = {Label("activation", "x"): given if given is not None else np.ones((2, 2))}
        arrays[Label("activation", "y")] = array
        dumps.append(dump(folder / str(number), "one", model, {"activations": arrays}))
    names = mapping.propose(model, model, ({}, {}))
    pair = subject(until="activations")
    failed = judging.judge(pair, dumps[0], dumps[1], names)
    return recognising.recognise(pair, names, (model, model), failed, (dumps[0], dumps[1]))


@pytest.mark.parametrize(
    ("one", "two", "name"),
    [
        ("gelu", "gelu_tanh", "activation function"),
        ("silu", "hard_swish", "activation function"),
        ("relu6", "relu", "cap"),
        ("nothing", "relu", "relu"),
        ("nothing", "softmax", "softmax"),
    ],
)
def test_functions_are_recognised(one: str, two: str, name: str, tmp_path: Path) -> None:
    x = 8 * np.random.default_rng(0).standard_normal((5, 6))
    functions = recognising.FUNCTIONS
    for turned in (False, True):
        sides = (two, one) if turned else (one, two)
        (cause,) = seen(tmp_path / str(turned), functions[sides[0]](x), functions[sides[1]](x), x)
        assert cause.name == name and cause.explains == "part" and cause.candidate_source == "y.py:7"
        if name == "activation function":
            assert f"{sides[0]} in one, {sides[1]} in two" in cause.sentence
        elif name == "cap":
            assert f"cap: {'two' if turned else 'one'} has" in cause.sentence


def test_what_values_show_else(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((2, 5, 5, 4))
    others = {
        "transposed": x.swapaxes(1, 2),
        "channel order": x[..., [2, 0, 1, 3]],
        "bias": x + np.array([1.0, 2.0, 0.0, 0.5]),
        "scale": 3 * x,
    }
    for name, other in others.items():
        assert [cause.name for cause in seen(tmp_path / name, x, other)] == [name]
    noise = x + 1e-3 * np.random.default_rng(1).standard_normal(x.shape)
    assert seen(tmp_path / "noise", x, noise) == []


def losses(folder: Path, smoothing: tuple[float, float], summed: bool = False) -> list[Cause]:
    random = np.random.default_rng(0)
    logits, targets = random.standard_normal((4, 3)), np.arange(20) % 3
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    entropy, mean = -logs[np.arange(4), targets[:4]].mean(), -logs.mean()
    model = inventory([dense("d", 3, 3)])
    names = mapping.propose(model, model, ({}, {}))
    dumps = []
    for number, part in enumerate(smoothing):
        loss = (1 - part) * entropy + part * mean
        found: dict[Rung, dict[Label, Array]] = {
            "bytes": {Label("batch_labels"): targets},
            "activations": {Label("logits"): logits},
            "loss": {Label("loss", phase="frozen"): np.array([loss * (4 if summed and number else 1)])},
        }
        dumps.append(dump(folder / str(number), "one", model, found))
    pair = subject(until="loss")
    failed = judging.judge(pair, dumps[0], dumps[1], names)
    return recognising.recognise(pair, names, (model, model), failed, (dumps[0], dumps[1]))


def test_losses_tell_smoothing_and_sums(tmp_path: Path) -> None:
    (cause,) = losses(tmp_path / "a", (0.0, 0.1))
    assert cause.sentence == "consistent with label smoothing: smoothing 0 in one, smoothing 0.1 in two"
    (cause,) = losses(tmp_path / "b", (0.0, 0.0), summed=True)
    assert "summed over the batch in two" in cause.sentence
    assert losses(tmp_path / "c", (0.0, 0.0)) == []
    assert losses(tmp_path / "d", (0.0, 0.12345678)) == []


def test_states_tell_epsilon(tmp_path: Path) -> None:
    model = inventory([dense("d", 40, 30, bias=False)])
    names = mapping.propose(model, model, ({}, {}))
    random = np.random.default_rng(0)
    gradients = [10.0 ** random.uniform(-9, 0, (40, 30)) for _ in range(2)]
    dumps = []
    for epsilon in (1e-8, 1e-7):
        first, second, parameter = np.zeros((40, 30)), np.zeros((40, 30)), np.full((40, 30), 0.1)
        arrays: dict[Label, Array] = {}
        for step, gradient in enumerate(gradients, start=1):
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            root = np.sqrt(second / (1 - 0.999**step))
            parameter = parameter - RATES[step - 1] * first / (1 - 0.9**step) / (root + epsilon)
            for kind, array in (("first_moment", first), ("second_moment", second), ("parameter", parameter)):
                arrays[Label(kind, "d.weight", optimizer="adam", step=step)] = array  # type: ignore[arg-type]
        dumps.append(dump(tmp_path / str(epsilon), "one", model, {"optimizer": arrays}))
    pair = subject(until="optimizer", training={"optimizer": "adam"})
    failed = judging.judge(pair, dumps[0], dumps[1], names)
    (cause,) = recognising.recognise(pair, names, (model, model), failed, (dumps[0], dumps[1]))
    assert cause.sentence == "consistent with epsilon of adam: 1e-8 in one, 1e-7 in two"
    same = judging.judge(pair, dumps[0], dumps[0], names)
    assert recognising.recognise(pair, names, (model, model), same, (dumps[0], dumps[0])) == []


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_inputs_are_changed_where_they_are_prepared(framework: str) -> None:
    pair = subject(
        sides={framework: {"factory": "a:b"}, "other": {"framework": "torch", "factory": "a:b"}},
        inputs={"x": {"shape": [2, 2, 3], "kind": "image"}},
    )
    side = SubjectSide.__new__(SubjectSide)
    side.subject, side.side, side.info = pair, pair.sides[framework], pair.sides[framework].wing
    side._preprocess, side.changed_inputs = None, ()
    x = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    plain = side.canonical(side.prepare({"x": x}))[0]
    side.changed_inputs = (
        Amendment(what="input", key="reversed_channels", value=True),
        Amendment(what="input", key="affine", value=[2.0, 1.0]),
    )
    changed = side.canonical(side.prepare({"x": x}))[0]
    assert (changed == 2 * plain[..., ::-1] + 1).all() and changed.dtype == plain.dtype
    assert math.isclose(float(plain.max()), 23)


def test_an_activation_that_only_one_side_has(tmp_path: Path) -> None:
    two = inventory([dense("x", 3, 3), dense("y", 2, 3)])
    one = inventory([dense("x", 3, 3), relu("x > relu"), dense("y", 2, 3)])
    for sides in ((one, two), (two, one)):
        values = np.random.default_rng(0).standard_normal((2, 3, 2))
        dumps = [
            dump(
                tmp_path / f"{len(sides[0].layers)}{number}",
                "one",
                model,
                {"activations": {Label("activation", "x"): np.ones((3, 3)), Label("activation", "y"): values[number]}},
            )
            for number, model in enumerate(sides)
        ]
        names, pair = mapping.propose(*sides, ({}, {})), subject(until="activations")
        failed = judging.judge(pair, dumps[0], dumps[1], names)
        (cause,) = recognising.recognise(pair, names, sides, failed, (dumps[0], dumps[1]))
        has = "one" if sides[0] is one else "two"
        assert f"relu in front of y in {has}, none is seen in" in cause.sentence


def test_a_biased_variance_is_recognised(tmp_path: Path) -> None:
    model = inventory([norm("n", 3, output=(4, 5, 5, 3), config={"momentum": 0.1, "epsilon": 1e-3})])
    names, pair = mapping.propose(model, model, ({}, {})), subject(until="gradients")
    arrays = weights(model)
    variance = np.array([1.0, 2.0, 0.3])
    for factor, wanted in ((100 / 99, ["variance"]), (1.02, [])):
        dumps = [
            dump(
                tmp_path / f"{factor}{number}",
                "one",
                model,
                {
                    "gradients": {
                        Label("statistic", "n.running_var", phase="training"): 0.9 * arrays["n.running_var"]
                        + 0.1 * each
                    }
                },
            )
            for number, each in enumerate((variance, variance * factor))
        ]
        failed = judging.judge(pair, dumps[0], dumps[1], names)
        found = recognising.recognise(pair, names, (model, model), failed, (dumps[0], dumps[1]), (arrays, arrays))
        assert [cause.name for cause in found] == wanted
        assert all("by n in one, by n - 1 in two" in cause.sentence for cause in found)


def test_what_is_frozen_on_one_side_is_told(tmp_path: Path) -> None:
    one = inventory([dense("d", 3, 3)])
    two = inventory([one.layers[0].model_copy(update={"frozen": ["bias"]})])
    label = {role: Label("gradient", f"d.{role}", phase="frozen") for role in ("weight", "bias")}
    gradients = {label["weight"]: np.ones((3, 3)), label["bias"]: np.ones(3)}
    names, pair = mapping.propose(one, two, ({}, {})), subject(until="gradients")
    dumps = [
        dump(tmp_path / "one", "one", one, {"gradients": gradients}),
        dump(tmp_path / "two", "two", two, {"gradients": {label["weight"]: np.ones((3, 3))}}),
    ]
    failed = judging.judge(pair, dumps[0], dumps[1], names)
    (cause,) = recognising.recognise(pair, names, (one, two), failed, (dumps[0], dumps[1]))
    assert cause.sentence == "consistent with frozen: d.bias does not train in two, and its counterpart does"

"""What a rung consists of: labels, their words for people, files, rounding and tolerances."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from transfer_parity.shared.contract import switches
from transfer_parity.shared.contract.climbs import ClimbSpec, WingClimb
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.rungs import OPTIMIZERS, Array, Kind, Label, describe
from transfer_parity.shared.contract.switches import Caught
from transfer_parity.shared.contract.wings import REFERENCE, TENSORFLOW, TORCH
from transfer_parity.shared.parity import climb
from transfer_parity.shared.parity.document import Divergence
from transfer_parity.shared.parity.tolerance import differences, tolerance
from transfer_parity.shared.runtime import rounding, trace_format

#: All that parity.json, the terminal and docs/differences.md may call an array.
SENTENCES = {
    "images": Label("images"),
    "inputs": Label("inputs"),
    "activation": Label("activation", "features.0.0"),
    "logits": Label("logits"),
    "running statistics, frozen": Label("statistic", "features.0.1.running_mean", phase="frozen"),
    "activation, training": Label("activation", "features.0.0", phase="training"),
    "loss, frozen": Label("loss", phase="frozen"),
    "loss, training": Label("loss", phase="training"),
    "gradient, frozen": Label("gradient", "features.0.0.weight", phase="frozen"),
    "gradient, training": Label("gradient", "features.0.0.weight", phase="training"),
    "sgd, step 1: momentum": Label("momentum", "a.weight", optimizer="sgd", step=1),
    "sgd, step 2: momentum": Label("momentum", "a.weight", optimizer="sgd", step=2),
    "sgd, step 2: parameter": Label("parameter", "a.weight", optimizer="sgd", step=2),
    "adam, step 1: first moment": Label("first_moment", "a.weight", optimizer="adam", step=1),
    "adam, step 2: second moment": Label("second_moment", "a.weight", optimizer="adam", step=2),
    "adam, step 1: parameter": Label("parameter", "a.weight", optimizer="adam", step=1),
    "adamw, step 1: first moment": Label("first_moment", "a.weight", optimizer="adamw", step=1),
    "adamw, step 3: second moment": Label("second_moment", "a.weight", optimizer="adamw", step=3),
    "adamw, step 2: parameter": Label("parameter", "a.weight", optimizer="adamw", step=2),
    "labels of the batches": Label("batch_labels"),
    "images of the batches": Label("batch_images"),
    "running statistics, step 1": Label("statistic", "features.0.1.running_var", step=1),
    "losses": Label("losses"),
    "parameter, step 20": Label("parameter", "a.weight", step=20),
    "sizes of the batches, first seed": Label("batch_sizes", run=1),
    "labels of the batches, second seed": Label("batch_labels", run=2),
    "test images in order, first seed": Label("test_images", run=1),
    "output of the frozen stages": Label("frozen_output"),
    "input of the head": Label("head_input"),
    "logits, through the whole network": Label("logits", way="whole"),
    "logits, from the frozen stages' output": Label("logits", way="trainable"),
    "logits by torch's engine fused in float32": Label("logits", engine="fused", precision="float32", wing="torch"),
    "loss, first batch": Label("loss", batch="first"),
    "gradient, last batch of an epoch": Label("gradient", "a.weight", batch="last"),
    "parameter, second seed, step 6": Label("parameter", "a.weight", step=6, run=2),
    "views and partners, first seed": Label("views", run=1),
    "what the objective keeps, second seed, step 20": Label("state", "a.weight", step=20, run=2),
    "how near a choice came to the other one, first seed": Label("closest", run=1),
    "predicted classes": Label("predictions"),
    "accuracy": Label("accuracy"),
    "macro f1": Label("macro_f1"),
    "macro recall": Label("macro_recall"),
    "log loss": Label("log_loss"),
}


def test_words_for_people() -> None:
    assert {sentence: describe(label) for sentence, label in SENTENCES.items()} == {each: each for each in SENTENCES}
    # None is forgotten in the list above.
    assert {label.kind for label in SENTENCES.values()} == set(get_args(Kind))
    assert {label.optimizer for label in SENTENCES.values()} == {None, *OPTIMIZERS}


def test_every_switch_is_caught_by_something_that_has_words() -> None:
    for switch in switches.SWITCHES:
        for caught in switch.caught.values():
            assert describe(caught.label) in SENTENCES


def test_labels_are_in_no_file() -> None:
    """``parity.json`` keeps its keys."""
    label = Label("gradient", "a.bias", phase="frozen")
    words = {"what": describe(label), "neutral": label.name, "tensorflow": None, "torch": label.name}
    found = Divergence.model_validate(words | {"label": label, "max_abs_difference": 1.0, "tolerance": 0.5})
    assert list(found.model_dump()) == ["what", "neutral", "tensorflow", "torch", "max_abs_difference", "tolerance"]


def test_what_catches_a_switch_is_compared_by_field() -> None:
    caught = Caught("optimizer", "momentum", "weight", optimizer="sgd", step=1)
    assert caught.matches(Label("momentum", "features.0.0.weight", optimizer="sgd", step=1))
    for other in (
        Label("momentum", "features.0.0.bias", optimizer="sgd", step=1),
        Label("momentum", "features.0.0.weight", optimizer="sgd", step=2),
        Label("parameter", "features.0.0.weight", optimizer="sgd", step=1),
        Label("momentum", "features.0.0.weight"),
    ):
        assert not caught.matches(other)
    assert Caught("bytes", "images").matches(Label("images"))
    assert not Caught("activations", "activation").matches(Label("activation", "features.0.0"))


def named(kind: Kind, **arrays: Any) -> dict[Label, Array]:
    return {Label(kind, name.replace("__", ".")): np.asarray(array) for name, array in arrays.items()}


def differ(ours: Mapping[Label, Array], theirs: Mapping[Label, Array]) -> list[str]:
    return [each.label.name for each in differences(ours, theirs, lambda label: 1e-6) if each.excess > 1]


def test_the_first_difference_in_order_comes_first() -> None:
    ours = named("activation", a=np.ones(3), b=np.ones(3), c=np.ones(3))
    theirs = named("activation", c=np.ones(3) + 0.1, b=np.ones(3) + 0.1, a=np.ones(3))
    assert differ(ours, theirs) == ["b", "c"]


def test_one_bad_value_among_a_million_is_seen() -> None:
    ours, bad = np.ones(10**6), np.ones(10**6)
    bad[123456] += 1e-5
    assert differ(named("activation", x=ours), named("activation", x=bad)) == ["x"]


@pytest.mark.parametrize("theirs", [np.array([1.0, np.nan]), np.ones(3), None])
def test_what_cannot_be_compared_differs(theirs: np.ndarray | None) -> None:
    other = {} if theirs is None else named("activation", x=theirs)
    (found,) = differences(named("activation", x=np.ones(2)), other, lambda label: 1e-6)
    assert found.excess > 1


def test_what_only_the_other_wing_has_differs() -> None:
    theirs = named("gradient", conv__weight=np.ones(2), conv__bias=np.ones(2))
    assert differ(named("gradient", conv__weight=np.ones(2)), theirs) == ["conv.bias"]


def test_parameters_of_a_module_share_a_scale() -> None:
    """A bias in front of a normalisation has a gradient of nothing but rounding."""
    ours = named("gradient", conv__weight=np.ones(2), conv__bias=np.full(2, 1e-12))
    theirs = named("gradient", conv__weight=np.ones(2), conv__bias=np.full(2, -1e-12))
    assert differ(ours, theirs) == []


def test_a_scale_is_not_shared_by_what_is_not_the_same() -> None:
    label = Label("gradient", "conv.weight", phase="frozen")
    arrays = {label: np.ones(2), Label("gradient", "conv.bias", phase="training"): np.full(2, 4.0)}
    assert rounding.scales(arrays)[label.module] == 1


def test_rounding_is_shared_by_a_group() -> None:
    """The largest change of any layer is what rounding may do to all of them, but not to another phase."""
    frozen = [Label("gradient", name, phase="frozen") for name in ("a.weight", "b.weight")]
    training = Label("gradient", "a.weight", phase="training")
    arrays = {frozen[0]: np.full(2, 2.0), frozen[1]: np.full(2, 4.0), training: np.ones(2)}
    others = {frozen[0]: np.full(2, 2.5), frozen[1]: np.full(2, 4.5), training: np.ones(2)}
    changes = rounding.relative_changes(arrays, others)
    assert changes == {Label("gradient", phase="frozen"): 0.25, Label("gradient", phase="training"): 0.0}


def test_weights_move_by_their_rounding() -> None:
    arrays = {"a.weight": np.ones((8, 16, 3, 3)), "a.bias": np.ones(8)}
    moved = rounding.perturbed(arrays, 0, "float32")
    np.testing.assert_allclose(np.abs(moved["a.weight"] - 1), 12 * 2.0**-24, rtol=1e-6)
    np.testing.assert_allclose(np.abs(moved["a.bias"] - 1), 2.0**-24, rtol=1e-6)
    assert len(np.unique(moved["a.weight"])) == 2


def test_tolerances() -> None:
    large, small = (Recipe(precision=precision) for precision in ("float64", "float32"))
    assert tolerance("bytes", Label("images"), None, large) == 0
    # What a chaotic function may do in float64 ends at the project's promise.
    assert tolerance("activations", Label("activation", "x"), 1.0, large) == 1e-10
    assert tolerance("trajectory", Label("losses"), 1e-12, large) == pytest.approx(8e-12)
    assert tolerance("preprocessing", Label("inputs"), None, large) == 16 * 2.0**-53
    sgd, adam, adamw = (Label("parameter", "x", optimizer=optimizer, step=1) for optimizer in OPTIMIZERS)
    large, small = (recipe.model_copy(update={"weight_decay": 0.01}) for recipe in (large, small))
    assert tolerance("optimizer", sgd, None, large) == 16 * 2.0**-53
    assert tolerance("optimizer", adamw, None, large) == pytest.approx(16e3 * 2.0**-53)
    # The bias correction is float64's in float32, too.
    assert tolerance("optimizer", adamw, None, small) == pytest.approx(16 * 2.0**-24)
    # A gradient that coupled weight decay cancels, divided by epsilon.
    assert tolerance("optimizer", adam, None, small) == pytest.approx(1e4 * 2.0**-24)
    assert tolerance("optimizer", adam, None, large) == pytest.approx(16e3 * 2.0**-53)
    assert tolerance("optimizer", adam, None, Recipe(precision="float32")) == pytest.approx(16 * 2.0**-24)
    # Moments, and parameters that no Adam has touched, have no such excuse.
    moment = Label("second_moment", "x", optimizer="adam", step=1)
    for label in (moment, Label("parameter", "x", step=20)):
        assert tolerance("optimizer", label, None, large) == 16 * 2.0**-53


def test_a_rung_comes_back_in_order(tmp_path: Path) -> None:
    # More than ten, so that numbers as keys would come back in another order than numbers.
    arrays: dict[Label, Array] = {label: np.full((2, 3), n) for n, label in enumerate(SENTENCES.values())}
    arrays[Label("images", "x|y, step 1")] = np.zeros(0, np.uint8)
    trace_format.write(tmp_path, "optimizer", arrays)
    read = trace_format.read(tmp_path, "optimizer")
    assert list(read) == list(arrays)
    for label, array in arrays.items():
        assert read[label].dtype == array.dtype
        np.testing.assert_array_equal(read[label], array)


def test_rounding_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    changes = {Label("loss", phase="frozen"): 1 / 3, Label("loss", phase="training"): math.inf}
    trace_format.write_rounding(tmp_path, {"loss": changes, "gradients": {}})
    assert trace_format.read_rounding(tmp_path) == {"loss": changes, "gradients": {}}


def part(*given: str, **fields: Any) -> WingClimb:
    spec = ClimbSpec(backbone="MobileNetV2", switches=given, **fields)
    nowhere = Path("nowhere")
    return WingClimb(
        id="-".join(given),
        spec=spec,
        recipe=climb.recipe_for(spec, "cpu", 1),
        own_classifier=True,
        classes=10,
        images=nowhere,
        labels=nowhere,
        plan=nowhere,
        pictures=(),
    )


def test_a_wing_knows_its_own_switches_only() -> None:
    spec = ClimbSpec(backbone="MobileNetV2", switches=("torch:dropout", "tensorflow:resizing", "torch:bn_epsilon"))
    assert spec.of_wing(TORCH).switches == ("torch:bn_epsilon", "torch:dropout")
    assert spec.of_wing(TENSORFLOW).switches == ("tensorflow:resizing",)


def test_climbs_that_are_the_same_to_a_wing_are_one() -> None:
    """It goes as far as any of them, and leaves out only what none of them wants."""
    first = part(until="loss", skip=frozenset({"bytes", "loss"}))
    second = part(until="trajectory", skip=frozenset({"loss"})).model_copy(update={"measures_rounding": True})
    one, other = climb.merged([first, part("torch:dropout"), second])
    assert (one.spec.until, one.spec.skip) == ("trajectory", frozenset({"loss"}))
    assert one.measures_rounding
    assert other.spec.switches == ("torch:dropout",)


def test_rounding_is_measured_where_nothing_is_switched() -> None:
    reference = REFERENCE.identifier
    switched, unswitched = part("torch:dropout"), part()
    assert climb.measuring({TENSORFLOW: unswitched, TORCH: unswitched}) == reference
    assert climb.measuring({TENSORFLOW: unswitched, TORCH: switched}) == TENSORFLOW
    assert climb.measuring({TENSORFLOW: switched, TORCH: switched}) == reference

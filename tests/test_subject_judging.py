"""What two sides wrote, compared: in order, against tolerances that come from both sides' rounding."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from tests.subjects import conv, dense, dump, inventory, relu, subject
from transfer_parity.shared.contract.rungs import RUNGS, Array, Label, Rung
from transfer_parity.shared.runtime.subject_dump import Dump
from transfer_parity.shared.subjects import judging, mapping, places
from transfer_parity.shared.subjects.document import SubjectRung
from transfer_parity.shared.subjects.name_map import NameMap

Rungs = dict[Rung, dict[Label, Array]]
ONE = inventory([conv("c", 4, 3), relu("c > relu"), dense("d", 3, 4)])
TWO = inventory([conv("k", 4, 3), relu("k > relu"), dense("e", 3, 4)])
NAMES = mapping.propose(ONE, TWO, ({}, {}))
RENAMED = {"c": "k", "c > relu": "k > relu", "d": "e"}


def climbed(candidate: bool = False) -> Rungs:
    """All rungs of a side."""
    random = np.random.default_rng(0)
    at = (lambda name: RENAMED[name]) if candidate else (lambda name: name)
    normal = random.standard_normal
    return {
        "bytes": {Label("images", "x"): normal((20, 6)), Label("batch_labels"): np.arange(20) % 3},
        "preprocessing": {Label("inputs", "x"): normal((4, 6))},
        "activations": {
            Label("activation", at("c")): normal((4, 5, 5, 4)),
            Label("activation", at("c > relu")): normal((4, 5, 5, 4)),
            Label("activation", at("d")): normal((4, 3)),
            Label("logits"): normal((4, 3)),
        },
        "loss": {Label("loss", phase="frozen"): normal(1)},
        "gradients": {
            Label("gradient", f"{at(layer)}.{role}", phase="training"): normal(shape)
            for layer, role, shape in (("c", "weight", (4, 3, 3, 3)), ("d", "weight", (3, 4)), ("d", "bias", (3,)))
        },
        "optimizer": {Label("parameter", f"{at('d')}.weight", optimizer="sgd", step=1): normal((3, 4))},
        "trajectory": {Label("losses"): normal(20), Label("parameter", f"{at('d')}.weight", step=20): normal((3, 4))},
        "predictions": {Label("logits"): normal((4, 3))},
    }


def judged(
    folder: Path,
    change: Mapping[tuple[Rung, str], float] | None = None,
    theirs: Rungs | None = None,
    names: NameMap = NAMES,
    rounding: tuple[float, float] = (0.0, 0.0),
    **more: object,
) -> list[SubjectRung]:
    """``change``: what is added to the first value of an array of the candidate, by rung and name."""
    theirs = theirs or climbed(True)
    for (rung, name), by in (change or {}).items():
        label = next(each for each in theirs[rung] if each.name == name)
        array = theirs[rung][label] = theirs[rung][label].copy()
        array.reshape(-1)[0] += by
    group = Label("activation")
    dumps = [
        dump(folder / side, side, model, rungs, {"activations": {group: measured}})
        for side, model, rungs, measured in (("one", ONE, climbed(), rounding[0]), ("two", TWO, theirs, rounding[1]))
    ]
    return judging.judge(subject(**more), dumps[0], dumps[1], names)


def first(rungs: list[SubjectRung]) -> tuple[str, str | None, str]:
    rung = next(each for each in rungs if each.first_divergence)
    found = rung.first_divergence
    assert found is not None
    return rung.name, found.candidate, found.what


def test_what_is_equal_passes_all_nine(tmp_path: Path) -> None:
    rungs = judged(tmp_path)
    assert [rung.name for rung in rungs] == list(RUNGS)
    assert all(rung.passed and rung.informative for rung in rungs)
    assert [array.candidate for array in rungs[2].arrays] == ["k", "k > relu", "e", None]


@pytest.mark.parametrize("rung", ["bytes", "preprocessing", "activations", "gradients", "optimizer", "trajectory"])
def test_a_difference_is_found_where_it_is(rung: Rung, tmp_path: Path) -> None:
    name = list(climbed(True)[rung])[-1].name
    rungs = judged(tmp_path, {(rung, name): 1e-5 if name else 1})
    assert first(rungs)[:2] == (rung, name or None)
    assert [each.name for each in rungs if not each.passed] == [rung]


def test_metrics_are_made_of_predictions(tmp_path: Path) -> None:
    rungs = judged(tmp_path, {("predictions", ""): 50.0})
    assert [each.name for each in rungs if not each.passed] == ["predictions", "metrics"]
    assert {array.what for array in rungs[-1].arrays} == {"accuracy", "macro f1", "macro recall", "log loss"}


def test_tolerance_is_the_larger_of_both_sides_rounding(tmp_path: Path) -> None:
    scale = max(float(np.abs(array).max()) for label, array in climbed()["activations"].items() if label.name)
    for number, rounding in enumerate([(1e-13, 1e-12), (1e-12, 1e-13)]):
        rungs = judged(tmp_path / str(number), {("activations", "e"): 7e-12 * scale}, rounding=rounding)
        found = next(each for each in rungs[2].arrays if each.candidate == "e")
        assert found.passed and found.tolerance == pytest.approx(8e-12 * scale)
    assert not judged(tmp_path / "more", {("activations", "e"): 9e-12 * scale}, rounding=(1e-12, 0.0))[2].passed
    # A chaotic function does not excuse everything.
    assert not judged(tmp_path / "chaos", {("activations", "e"): 1e-8}, rounding=(1.0, 1.0))[2].passed


def test_the_user_says_what_is_equal(tmp_path: Path) -> None:
    assert not judged(tmp_path / "a", {("activations", "e"): 1e-4})[2].passed
    assert judged(tmp_path / "b", {("activations", "e"): 1e-4}, equal={"activations": 1e-3})[2].passed


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_never_agrees(value: float, tmp_path: Path) -> None:
    rungs = judged(tmp_path, {("activations", "k"): value}, equal={"activations": 1e30})
    assert first(rungs)[2] == "activation; not finite in two"
    assert rungs[2].arrays[0].max_abs_difference is None


def test_nan_on_both_sides_does_not_agree(tmp_path: Path) -> None:
    assert places.absolute(np.array([np.nan, np.inf]), np.array([np.nan, np.inf])).tolist() == [np.inf, 0.0]


def test_missing_and_misshapen_arrays(tmp_path: Path) -> None:
    theirs = climbed(True)
    del theirs["gradients"][Label("gradient", "e.weight", phase="training")]
    theirs["gradients"][Label("gradient", "e.extra", phase="training")] = np.ones(3)
    theirs["activations"][Label("activation", "e")] = np.ones((4, 4))
    rungs = judged(tmp_path, theirs=theirs)
    wrong = {array.what: array for rung in rungs for array in rung.arrays if not array.passed}
    assert wrong["gradient, training; only one has it"].reference == "d.weight"
    assert wrong["gradient, training; only two has it"].candidate == "e.extra"
    assert wrong["activation; shapes differ"].shapes == [[4, 3], [4, 4]]


def test_functions_that_only_one_library_shows_are_no_difference(tmp_path: Path) -> None:
    theirs = climbed(True)
    del theirs["activations"][Label("activation", "k > relu")]
    names = NAMES.model_copy(update={"entries": []})
    assert judged(tmp_path / "a", theirs=theirs, names=names)[2].passed
    # One that is mapped is missed.
    assert not judged(tmp_path / "b", theirs=theirs)[2].passed


def test_a_rung_that_a_side_did_not_climb(tmp_path: Path) -> None:
    judged(tmp_path)
    (tmp_path / "two" / "predictions" / "labels.json").unlink()
    rungs = judging.judge(subject(), Dump(tmp_path / "one"), Dump(tmp_path / "two"), NAMES)
    assert [rung.name for rung in rungs if not rung.passed] == ["predictions", "metrics"]
    assert "not climbed by two" in rungs[-1].arrays[0].what


def test_place_of_the_first_divergence_and_its_neighbours(tmp_path: Path) -> None:
    rungs = judged(tmp_path, {("activations", "k > relu"): 0.5})
    place = rungs[2].arrays[1].place
    assert place is not None and place.index == [0, 0, 0, 0] and sum(place.counts) == 4 * 5 * 5 * 4
    assert place.channels == [0.5, 0, 0, 0] and place.places[0] == [0.5, 0, 0, 0, 0] and len(place.places) == 5
    assert [each.place is not None for each in rungs[2].arrays] == [True, True, True, False]
    assert not any(each.place for rung in rungs for each in rung.arrays if rung.name != "activations")


def test_places_of_large_arrays_are_taken_together() -> None:
    array = np.zeros((2, 100, 70, 300))
    other = array.copy()
    other[1, 99, 69, 299] = 2
    place = places.of(array, other)
    assert len(place.channels) == 256 and len(place.places) == len(place.places[0]) == 64
    assert place.channels[-1] == place.places[-1][-1] == 2 and place.index == [1, 99, 69, 299]


def test_accepted_differences_pass(tmp_path: Path) -> None:
    judged(tmp_path, {("activations", "e"): 0.1})
    asked = []

    def accepted(rung: Rung, what: str, name: str | None, relative: float) -> str | None:
        asked.append((rung, what, name))
        return "known" if relative < 0.2 else None

    dumps = Dump(tmp_path / "one"), Dump(tmp_path / "two")
    rungs = judging.judge(subject(), *dumps, NAMES, accepted)
    assert asked == [("activations", "activation", "d")]
    assert rungs[2].passed and rungs[2].arrays[2].accepted == "known" and not rungs[2].arrays[2].passed


def test_packed_parameters_are_compared_as_a_whole(tmp_path: Path) -> None:
    one = inventory([dense("qkv", 6, 2)])
    two = inventory([dense(part, 2, 2) for part in ("q", "k", "v")])
    names = mapping.propose(one, two, ({}, {}))
    whole = np.arange(12.0).reshape(6, 2)
    labels = [Label("gradient", f"{part}.weight", phase="frozen") for part in ("q", "k", "v")]
    ours: Rungs = {"gradients": {Label("gradient", "qkv.weight", phase="frozen"): whole}}
    theirs: Rungs = {"gradients": dict(zip(labels, np.split(whole, 3), strict=True))}
    for turned in (False, True):
        mine, others = (theirs, ours) if turned else (ours, theirs)
        sides = (two, one) if turned else (one, two)
        names = mapping.propose(*sides, ({}, {}))
        dumps = [
            dump(tmp_path / f"{turned}{number}", "one", side, rungs)
            for number, (side, rungs) in enumerate(zip(sides, (mine, others), strict=True))
        ]
        (rung,) = [
            each
            for each in judging.judge(subject(until="gradients"), dumps[0], dumps[1], names)
            if each.name == "gradients"
        ]
        assert rung.passed and len(rung.arrays) == 1
    ours["gradients"][Label("gradient", "qkv.weight", phase="frozen")] = whole + 1
    dumps = [dump(tmp_path / "c", "one", one, ours), dump(tmp_path / "d", "two", two, theirs)]
    names = mapping.propose(one, two, ({}, {}))
    assert not judging.judge(subject(until="gradients"), dumps[0], dumps[1], names)[-1].passed


def test_float32_names_the_layer_that_grows_out_of_line(tmp_path: Path) -> None:
    sizes = {Label("activation", "c"): 1e-8, Label("activation", "c > relu"): 1e-8, Label("activation"): 1e-5}
    theirs = climbed(True)
    for name, by in (("k", 1e-5), ("e", 1.0)):
        theirs["activations"][Label("activation", name)] += by
    dumps = [
        dump(tmp_path / "one", "one", ONE, climbed(), {"activations": sizes}),
        dump(tmp_path / "two", "two", TWO, theirs),
    ]
    rungs = judging.judge(subject(precision="float32"), dumps[0], dumps[1], NAMES)
    assert first(rungs)[1] == "k"

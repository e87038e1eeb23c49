"""Accepted differences: a file that may only shrink."""

from __future__ import annotations

from pathlib import Path

import pytest

from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.subjects import baseline
from transfer_parity.shared.subjects.baseline import AcceptedDifference, Baseline
from transfer_parity.shared.subjects.document import ArrayResult, Side, SubjectParity, SubjectRung

SIDE = Side(name="one", framework="x", versions={}, factory="a:b", layers=1, parameters=1)


def parity(**relative: float | None) -> SubjectParity:
    """A climb in which activations of some layers differ by so much; 0 passes."""
    arrays = [
        ArrayResult(
            what="activation",
            reference=name,
            candidate=name,
            max_abs_difference=size,
            max_rel_difference=size,
            tolerance=1e-9,
            passed=size == 0,
        )
        for name, size in relative.items()
    ]
    return SubjectParity(
        created="",
        name="pair",
        reference=SIDE,
        candidate=SIDE,
        weights="one",
        precision="float64",
        seed=0,
        single_step=False,
        map=[],
        left_over_reference=[],
        left_over_candidate=[],
        rungs=[SubjectRung(name="activations", arrays=arrays, passed=False)],
        causes=[],
        passed=False,
    )


def known(name: str, bound: float | None, rung: str = "activations") -> AcceptedDifference:
    return AcceptedDifference.model_validate(
        {"name": name, "rung": rung, "what": "activation", "bound": bound, "reason": "known"}
    )


def test_what_stands_there_is_accepted_up_to_its_bound() -> None:
    why = baseline.accepted(Baseline(accepted=[known("a", 0.1), known("b", None)]))
    assert why("activations", "activation", "a", 0.1) == "known"
    assert why("activations", "activation", "a", 0.11) is None
    assert why("activations", "activation", "a", float("nan")) is None
    assert why("activations", "activation", "b", float("inf")) == "known"
    assert why("activations", "activation", "c", 0.0) is None
    assert why("gradients", "activation", "a", 0.1) is None
    assert why("activations", "activation; shapes differ", "a", 0.1) is None


def test_it_only_shrinks() -> None:
    before = Baseline(accepted=[known("a", 0.1), known("b", 0.1), known("c", 0.1), known("d", 0.1, "gradients")])
    after = baseline.updated(before, parity(a=0.01, b=0.0, new=0.5, c=9.0))
    assert {each.name: each.bound for each in after.accepted} == {"a": 0.02, "c": 0.1, "d": 0.1}


def test_it_grows_when_asked_for() -> None:
    before = Baseline(accepted=[known("a", 0.1)])
    after = baseline.updated(before, parity(a=0.5, new=0.25, lost=None), grows=True)
    assert {each.name: each.bound for each in after.accepted} == {"a": 1.0, "new": 0.5, "lost": None}
    assert {each.name: each.reason for each in after.accepted} == {
        "a": "known",
        "new": baseline.UNEXPLAINED,
        "lost": baseline.UNEXPLAINED,
    }


def test_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "parity" / "baseline.json"
    assert baseline.read(path) == Baseline()
    given = Baseline(accepted=[known("a", 0.1), known("b", None)])
    baseline.write(path, given)
    assert baseline.read(path) == given


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[", "is not valid"),
        ('{"accepted": [{"name": "a"}]}', "accepted.0.rung: Field required"),
        ('{"acepted": []}', "acepted"),
        (Baseline(accepted=[known("a", 1), known("a", 2)]).model_dump_json(), "has activation of a twice"),
        (Baseline(accepted=[known("a", 1)]).model_dump_json().replace("1.0", "-1"), "accepted.0.bound"),
    ],
)
def test_a_wrong_file_is_refused_in_one_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(text)
    with pytest.raises(BadInput) as error:
        baseline.read(path)
    assert sentence in str(error.value) and "\n" not in str(error.value)

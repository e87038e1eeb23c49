"""Climbs of one's own pairs that nobody climbed: documents built by hand, for tests of whatever shows them."""

from __future__ import annotations

from typing import Any

from transfer_parity.shared.contract.rungs import RUNGS, Rung
from transfer_parity.shared.subjects.document import (
    ArrayResult,
    Cause,
    MappedLayer,
    Place,
    Side,
    SubjectParity,
    SubjectRung,
)

LAYERS = ("stem.conv", "stem.norm", "layer1.conv", "layer1.norm", "head")
OTHERS = ("conv2d", "batch_normalization", "conv2d_1", "batch_normalization_1", "dense")
SENTENCE = "consistent with epsilon: 1e-5 in torch, 1e-3 in keras; with it, all nine rungs pass"
MENDS = ("nn.BatchNorm2d(8, eps=1e-3)", "layers.BatchNormalization(epsilon=1e-5)")


def array(name: int, difference: float | None = 1e-15, tolerance: float = 1e-13, **values: Any) -> ArrayResult:
    """One layer's output."""
    found = {
        "what": "activation",
        "reference": LAYERS[name],
        "candidate": OTHERS[name],
        "max_abs_difference": difference,
        "max_rel_difference": difference,
        "tolerance": tolerance,
        "passed": difference is not None and difference <= tolerance,
    }
    return ArrayResult(**{**found, **values})


def rung(name: Rung, *arrays: ArrayResult, **values: Any) -> SubjectRung:
    passed = all(each.passed or each.accepted is not None for each in arrays)
    return SubjectRung(name=name, arrays=list(arrays), **{"passed": passed, **values})


def document(**values: Any) -> SubjectParity:
    """Everything passed."""
    sides = [
        Side(
            name=name,
            framework=name,
            versions={"numpy": "2.1", name: "1.0"},
            factory=f"{name}_model.py:build",
            layers=5,
            parameters=1234,
        )
        for name in ("torch", "keras")
    ]
    layers = [
        MappedLayer(
            reference=mine,
            candidate=other,
            kind="conv",
            certainty="certain",
            reference_source=f"torch_model.py:{number + 10}",
            candidate_source=f"keras_model.py:{number + 20}",
        )
        for number, (mine, other) in enumerate(zip(LAYERS, OTHERS, strict=True))
    ]
    found: dict[str, Any] = {
        "created": "2026-01-02T03:04:05+00:00",
        "name": "small",
        "reference": sides[0],
        "candidate": sides[1],
        "weights": "torch",
        "precision": "float64",
        "seed": 0,
        "single_step": False,
        "map": layers,
        "left_over_reference": [],
        "left_over_candidate": [],
        "rungs": [rung(name, *map(array, range(len(LAYERS)))) for name in RUNGS],
        "causes": [],
        **values,
    }
    found.setdefault("passed", all(each.passed for each in found["rungs"]))
    return SubjectParity(**found)


PLACE = Place(
    index=[0, 1, 2, 3],
    reference=0.5,
    candidate=0.499,
    edges=[1e-16, 1e-12, 1e-8, 1e-4],
    counts=[10, 20, 100, 300, 2],
    channels=[1e-4, 0.0, None, 1e-3],
    places=[[1e-4, 0.0, 1e-6], [None, 1e-3, 1e-5]],
)


def differing(**values: Any) -> SubjectParity:
    """The first normalisation differs, and what follows; the two rungs below passed."""
    arrays = [array(0), array(1, 1e-3, place=PLACE), array(2, 2e-3), array(3, 5e-4), array(4, 1e-2)]
    rungs = [rung(name, *(map(array, range(2)) if name in RUNGS[:2] else arrays)) for name in RUNGS]
    cause = Cause(
        name="epsilon",
        sentence=SENTENCE,
        explains="all",
        reference_source="torch_model.py:11",
        candidate_source="keras_model.py:21",
        mend_reference=MENDS[0],
        mend_candidate=MENDS[1],
    )
    return document(**{"rungs": rungs, "causes": [cause], "tried": 12, **values})

"""Where rounding decides for which class a test image counts: nothing is said of the logits that follow from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.test_recipe_ladder import subject
from transfer_parity.shared.contract import recipe_files
from transfer_parity.shared.contract.plan import Plan
from transfer_parity.shared.contract.rungs import Label
from transfer_parity.shared.contract.wings import TENSORFLOW, TORCH, WINGS
from transfer_parity.shared.evaluation import agreement, closed_forms, computation
from transfer_parity.shared.evaluation.agreement import Paired, Side
from transfer_parity.shared.evaluation.computation import Rounding
from transfer_parity.shared.parity.recipe_judging import RecipeComparison
from transfer_parity.shared.runtime import closed_form, trace_format

Array = np.ndarray[Any, Any]


def test_how_clearly_each_query_counts_for_a_class() -> None:
    """Class means at 0 and 180 degrees: a query at an angle leads by twice its cosine."""
    features, labels = np.array([[1.0, 0], [-1, 0]]), np.array([0, 1])
    angles = np.radians([60, 240, 91, 271])
    queries = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = closed_forms.prototypes(features, labels, 2, queries, scale=5).nearest
    assert found is not None and found[:, 0].tolist() == [0, 1, 1, 0]
    assert found[:, 1] == pytest.approx(10 * np.abs(np.cos(angles)))
    assert closed_forms.nearest_mean(features, labels, 2).nearest is None


def test_blocks_of_rows_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    given = random.normal(size=(12, 5)), np.arange(12) % 3, 3, random.normal(size=(10, 5))
    whole = closed_forms.prototypes(*given).nearest
    monkeypatch.setattr(closed_forms, "_ROWS", 4)
    parts = closed_forms.prototypes(*given).nearest
    assert whole is not None and parts is not None
    np.testing.assert_allclose(parts, whole, atol=1e-14)


@pytest.mark.parametrize(("strategy", "gives"), [("prototypes", True), ("nearest_mean", False), ("ridge", False)])
def test_only_what_gives_test_images_to_classes_says_so(strategy: str, gives: bool) -> None:
    values = {"solver": "ridge"} if strategy == "ridge" else {"strategy": strategy}
    recipe = recipe_files.validated(
        {"backbone": "MobileNetV3Small", "weights": "random", "control": False, **values}, ""
    )
    none: Any = np.zeros((0, 0), np.int64)
    drawn = Plan(np.arange(6), np.arange(6, 10), none, np.zeros(0), none, none)
    features = np.random.default_rng(0).normal(size=(10, 4))
    found = closed_form.fit(recipe, features, drawn, np.arange(10) % 2, 2)
    assert (found.nearest is not None) == gives and "head.output.weight" in found.head


def nearest(*given: tuple[int, float]) -> Array:
    return np.array(given, np.float64)


FIRST = nearest((0, 1e-6), (1, 0.5), (2, 0.3))


@pytest.mark.parametrize(
    ("second", "chance"),
    [
        # The same classes, however near another was.
        (FIRST, False),
        (nearest((1, 1e-6), (1, 0.5), (2, 0.3)), True),
        # Another image, which no rounding gave away.
        (nearest((0, 1e-6), (0, 0.1), (2, 0.3)), False),
        (nearest((1, 1e-6), (0, 0.1), (2, 0.3)), False),
        # It led by much in one computation.
        (nearest((1, 1e-2), (1, 0.5), (2, 0.3)), False),
        (None, False),
        (FIRST[:2], False),
    ],
)
def test_a_tie_excuses_what_it_decided(second: Array | None, chance: bool) -> None:
    assert computation.tied(FIRST, second, 1e-6) == computation.tied(second, FIRST, 1e-6) == chance


@pytest.mark.parametrize(
    ("given", "verdict"),
    [((1, 1e-6), "identical"), ((0, 1e-6), "different computation"), ((1, 0.1), "different computation")],
)
def test_the_verdict_rests_on_predictions_then(given: tuple[int, float], verdict: str) -> None:
    """Logits that differ by a hundredth; an image in one of two classes, or in the same one, or clearly in another."""
    logits = np.random.default_rng(0).normal(size=(40, 3)) + 3 * np.eye(3)[np.arange(40) % 3]
    counted = nearest(*((each % 3, 0.5) for each in range(40)))
    other = counted.copy()
    counted[0], other[0] = (0, 1e-6), given
    sides = Side(logits, np.zeros(0), "a", counted), Side(logits + 0.01 * (logits > 2), np.zeros(0), "a", other)
    pair = Paired(0, np.arange(40) % 3, *sides)
    found, differences = agreement.agree([pair], 0.01, rounding=Rounding(trained_logits=1e-6, safety=8.0, few=1e-7))
    assert agreement.judge(found, differences, 0.01, (WINGS[0], WINGS[1]))[0] == verdict


@pytest.mark.parametrize(
    ("lead", "moved", "outcomes"),
    [
        (1.0, 0.0, ((True, True), (True, True))),
        (1.0, 0.1, ((False, True), (False, True))),
        # Nothing can be told: neither of the head nor of what it predicts.
        (1e-12, 0.1, ((False, False), (False, False))),
        # What agrees has passed, tie or none.
        (1e-12, 0.0, ((True, True), (True, True))),
    ],
)
def test_the_ladder_leaves_a_tie_to_another_seed(
    lead: float, moved: float, outcomes: tuple[tuple[bool, bool], ...], photos: Path, tmp_path: Path
) -> None:
    folders = {}
    for wing, away in ((TORCH, 0.0), (TENSORFLOW, moved)):
        folders[wing] = tmp_path / wing
        folders[wing].mkdir()
        runs: Mapping[int, float] = {1: away, 2: 0.0}
        head = {Label("parameter", "head.output.weight", run=run): np.eye(3) + each for run, each in runs.items()}
        closest = {Label("closest", run=run): np.array([lead, math.inf]) for run in runs}
        logits = {Label("logits", run=run): 9 * np.eye(3)[np.arange(15) % 3] + each for run, each in runs.items()}
        trace_format.write(folders[wing], "fit", head | closest)
        trace_format.write(folders[wing], "predictions", logits)
        trace_format.write_names(folders[wing], {})
        trace_format.write_rounding(folders[wing], {})
    one = subject(photos, solver="ridge")
    comparison = RecipeComparison(one, one.recipe, folders, {}, TENSORFLOW)
    comparison.names_of_rungs = ("fit", "predictions")
    found = list(comparison.rungs())
    assert tuple((each.passed, each.informative) for each in found) == outcomes
    assert all((each.first_divergence is not None) == (not each.passed and each.informative) for each in found)

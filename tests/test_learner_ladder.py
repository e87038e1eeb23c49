"""The ladder of what learns from base classes: what is climbed, and that matched wings pass every rung of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Command
from transfer_parity import compare
from transfer_parity.shared.contract import learners
from transfer_parity.shared.contract.jobs import Execution
from transfer_parity.shared.contract.learning_plan import LearningPlan
from transfer_parity.shared.contract.plan import Plan
from transfer_parity.shared.contract.rungs import RECIPE_RUNGS
from transfer_parity.shared.contract.wings import REFERENCE, TORCH
from transfer_parity.shared.parity import learner_climb
from transfer_parity.shared.parity.learner_climb import LEARNERS, SHOTS, WAYS, LearnerSubject
from transfer_parity.shared.zoo.lookup import find_pair

SMALLEST = find_pair("MobileNetV3Small")
CLIMB = ("parity", "--backbone", SMALLEST.name, "--threads", 1, "--method")


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> list[LearnerSubject]:
    work, base = tmp_path_factory.mktemp("work"), {"precision": "float64", "image_size": 32}
    meaning = (REFERENCE.library,)
    given = (SMALLEST, tuple(LEARNERS), meaning, None, work, base, (), range(1), lambda *_: None)
    return list(learner_climb.of_defaults(*given))


def test_each_step_is_given_base_images_and_novel_ones_are_judged(subjects: list[LearnerSubject]) -> None:
    assert [each.strategy for each in subjects] == list(LEARNERS)
    for each in subjects:
        assert each.steps >= 20 and each.head is None
        seeds = [run.seed for run in each.runs]
        assert seeds == [0, 1]
        for number, run in enumerate(each.runs, start=1):
            plan, drawn, labels = each.inputs.plans[run.shots, run.seed], each.drawn[run.seed], each.inputs.data.labels
            assert not set(labels[plan.train]) & set(labels[plan.test])
            assert len(drawn.base) == each.steps * learner_climb.SETTINGS.tasks
            assert drawn.pairs.shape[:2] == (each.steps, learner_climb.SETTINGS.pairs)
            assert drawn.base.support.shape[1] == drawn.novel.support.shape[1] == WAYS * SHOTS
            asked = labels[plan.test][drawn.novel.queries]
            mine = each.tested(number).reshape(asked.shape)
            assert all(len(set(zip(*pair, strict=True))) == WAYS for pair in zip(asked, mine, strict=True))
        # Other seeds, other classes or tasks.
        assert not np.array_equal(each.drawn[0].pairs, each.drawn[1].pairs)


def test_a_wing_is_given_what_was_drawn(subjects: list[LearnerSubject], tmp_path: Path) -> None:
    one = subjects[0]
    climb = one.climb(TORCH, 3, tmp_path, Execution(threads=1, precision="float64"), single=False)
    assert climb.learner is not None and climb.learner.method == "anil"
    assert climb.job.recipe.optimizer == "adam" and climb.job.recipe.epsilon == learners.ADAM_EPSILON
    for run, name in zip(climb.job.runs, climb.learner.plans, strict=True):
        read = LearningPlan.load(tmp_path / climb.id / name)
        np.testing.assert_array_equal(read.base.queries, one.drawn[run.seed].base.queries)
        np.testing.assert_array_equal(
            Plan.load(tmp_path / climb.id / run.plan).train, one.inputs.plans[run.shots, run.seed].train
        )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--method", "anil", "--switch", "torch:adam_epsilon"], "anil is climbed without switches; leave out one"),
        (["--method", "anill"], "--strategies anill: there is no such name; did you mean 'anil'?"),
    ],
)
def test_bad_input(arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["parity", "--backbone", SMALLEST.name, *arguments, "--output-dir", str(tmp_path / "out")]
    assert compare.main(given) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())


def climbed(command: Command, *arguments: object) -> list[dict[str, Any]]:
    outcome = command(*CLIMB, *arguments)
    assert outcome.status == 0, outcome.output + outcome.errors
    assert "passed all 10 rungs" in outcome.output
    found: list[dict[str, Any]] = json.loads((outcome.folder / "parity.json").read_text(encoding="utf-8"))["pairs"]
    assert all([rung["name"] for rung in each["rungs"]] == list(RECIPE_RUNGS) for each in found)
    assert all(each["head"] is None and each["steps"] == 20 for each in found)
    return found


def test_wings_pass_in_float32(command: Command) -> None:
    (found,) = climbed(command, "anil", "--precision", "float32", "--image-size", 32)
    assert found["strategy"] == "anil"


@pytest.mark.slow
def test_wings_pass_in_float64(command: Command) -> None:
    """The project's promise: 1e-8 behind 20 steps, of the second order included."""
    found = climbed(command, *LEARNERS, "--seeds", 3)
    assert [each["strategy"] for each in found] == [*LEARNERS] * 3
    for each in found:
        rungs = {rung["name"]: rung for rung in each["rungs"]}
        assert all(rungs[name]["max_rel_difference"] <= 1e-8 for name in ("gradients", "trajectory", "predictions"))

"""The judge of the exercises: whose code runs, whose word counts, and what passes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_exercises import FIRST, Captured, contents, each_exercise, edit_something_else, mend, result_of
from transfer_parity import compare
from transfer_parity.shared.contract.artifacts import EXERCISE_LOG
from transfer_parity.shared.contract.climbs import ClimbSpec
from transfer_parity.shared.contract.rungs import RUNGS, Label
from transfer_parity.shared.contract.wings import IDENTIFIERS, REFERENCE, WINGS
from transfer_parity.shared.core.errors import BadInput, WorkerFailed
from transfer_parity.shared.exercises import checking, judging, working_folder
from transfer_parity.shared.exercises.catalogue import BY_NAME, EXERCISES
from transfer_parity.shared.exercises.exercise import READ, Exercise
from transfer_parity.shared.exercises.judging import CopyFailed, Judged
from transfer_parity.shared.parity import climb
from transfer_parity.shared.parity.document import PairResult
from transfer_parity.shared.parity.judging import Comparison
from transfer_parity.shared.parity.recipe_climb import RecipeSubject
from transfer_parity.shared.runtime import launch, trace_format

one_of_each_wing = pytest.mark.parametrize("exercise", [FIRST, BY_NAME["forgetful"]], ids=lambda each: each.folder)


@one_of_each_wing
def test_the_copy_runs_and_everything_else_is_the_project(exercise: Exercise, tmp_path: Path) -> None:
    folder = working_folder.start(exercise, tmp_path / "mine")
    (folder.code / "mine.py").write_text("", encoding="utf-8")
    wing = judging._assembled(exercise, folder.code, tmp_path / "code")
    names = [each.package for each in WINGS]
    mine = f"transfer_parity.{exercise.folder}"
    modules = [f"{mine}.{Path(name).stem}" for name in (*READ, "mine.py", "trace.py")]
    others = ["transfer_parity.shared.runtime.worker"]
    others += [f"{name}.training" for name in names if name != mine]
    asked = f"import importlib.util as u; print(*(u.find_spec(n).origin for n in {modules + others!r}), sep='\\n')"
    environment = {"PYTHONPATH": judging._in_front(tmp_path / "code")}
    finished = subprocess.run(
        [sys.executable, "-P", "-c", asked], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    found = [Path(line).resolve() for line in finished.stdout.splitlines()]
    assert [each.parent for each in found[: len(modules)]] == [wing.resolve()] * len(modules)
    assert all(each.is_relative_to(ROOT) for each in found[len(modules) :])
    for name in READ:
        assert (wing / name).read_bytes() == (folder.code / name).read_bytes()
    assert (wing / "trace.py").read_bytes() == (ROOT / exercise.folder / "trace.py").read_bytes()


def test_what_is_no_file_in_a_copy_is_left_alone(tmp_path: Path) -> None:
    """Such as the lock of an editor in which a file is open and changed."""
    folder = working_folder.start(FIRST, tmp_path / "mine")
    (folder.code / ".#head.py").symlink_to("somebody@somewhere.4711:1")
    (folder.code / "notes.py").mkdir()
    wing = judging._assembled(FIRST, folder.code, tmp_path / "code")
    assert not [place.name for place in wing.iterdir() if place.name in (".#head.py", "notes.py")]


def test_an_instrument_in_a_copy_is_refused(tmp_path: Path) -> None:
    folder = working_folder.start(FIRST, tmp_path / "mine")
    (folder.code / "trace.py").write_text("", encoding="utf-8")
    with pytest.raises(BadInput, match=r"trace\.py is one of the judge's instruments"):
        judging.climb(FIRST, folder.code, 1, lambda what, done, total: None)


def test_no_folder_is_used_where_python_would_not_find_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The project's own wing would be judged in its place, and pass."""
    folder = working_folder.start(FIRST, tmp_path / "mine")
    (tmp_path / f"a{os.pathsep}b").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / f"a{os.pathsep}b"))
    monkeypatch.setattr(judging._ExerciseLadder, "climb", lambda ladder, specs: [result_of(9)])
    with pytest.raises(BadInput, match="where Python finds no packages; set TMPDIR to another one"):
        climbed(FIRST, folder.code)


def test_whose_process_ended_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    folder = working_folder.start(FIRST, tmp_path / "mine")
    ended = [FIRST.framework, next(each for each in IDENTIFIERS if each != FIRST.framework)]

    def run(ladder: judging._ExerciseLadder, *given: object) -> None:
        place = Path(ladder.more["PYTHONPATH"].partition(":")[0]) / "transfer_parity" / FIRST.folder / "backbone.py"
        raise WorkerFailed(
            "it failed.", ended[0], f'File "{place}", line 3\nFile "{place.with_name("trace.py")}", line 4'
        )

    monkeypatch.setattr(judging._ExerciseLadder, "climb", run)
    assert compare.main(["exercise", "check", str(folder.path)]) == 1
    told = capsys.readouterr().out
    assert "Your copy does not run: it failed." in told
    assert f'File "{folder.code / "backbone.py"}", line 3' in told
    assert f'File "{ROOT / FIRST.folder / "trace.py"}", line 4' in told
    ended.reverse()
    assert compare.main(["exercise", "check", str(folder.path)]) == 3
    assert working_folder.open_(folder.path).standing.checks == 0
    with pytest.raises(CopyFailed):
        ended.reverse()
        judging.climb(FIRST, folder.code, 1, lambda what, done, total: None)


@one_of_each_wing
def test_the_wing_that_nobody_touched_says_what_rounding_explains(exercise: Exercise, tmp_path: Path) -> None:
    """A copy that computed nonsense could otherwise allow itself every difference."""
    ladder = judging._ExerciseLadder(tmp_path, 1, lambda what, done, total: None, exercise.framework, {})
    assert ladder.trusted is not None and ladder.trusted != exercise.framework
    spec = exercise.spec.model_copy(update={"until": "bytes"})
    climbs = climb.prepare(spec, climb.recipe_for(spec, "cpu", 1), tmp_path, ladder.trusted)
    assert [name for name, each in climbs.items() if each.measures_rounding] == [ladder.trusted]
    for name, each in climbs.items():
        (tmp_path / name / each.id).mkdir(parents=True)
        trace_format.write_names(tmp_path / name / each.id, {})
    label = Label("logits")
    trace_format.write_rounding(tmp_path / ladder.trusted / climbs[ladder.trusted].id, {"predictions": {label: 0.5}})
    other = next(name for name in IDENTIFIERS if name != REFERENCE.identifier)
    assert Comparison(spec, climbs, other, tmp_path).rounding == {"predictions": {label: 0.5}}


def test_so_it_does_where_a_recipe_is_climbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for the reference's own copy, where no wing is switched."""
    exercise = next(each for each in EXERCISES if each.framework == REFERENCE.identifier)
    subjects = list(judging._partial(exercise, tmp_path, lambda what, done, total: None))
    assert [each.unswitched for each in subjects] == [REFERENCE.identifier]
    ladder = judging._ExerciseLadder(tmp_path, 1, lambda what, done, total: None, exercise.framework, {})
    trusted: list[str] = []

    def some(ladder: object, subjects: list[RecipeSubject], precision: str, work: Path) -> list[PairResult]:
        trusted.extend(each.unswitched for each in subjects)
        return []

    monkeypatch.setattr(judging._ExerciseLadder, "_some", some)
    ladder.climb_recipes(subjects, "float64")
    assert trusted == [ladder.trusted]


def climbed(exercise: Exercise, copy: Path, spec: ClimbSpec | None = None) -> Judged:
    return judging.climb(exercise, copy, None, lambda what, done, total: None, spec)


def test_a_fault_is_found_and_its_mending_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With both frameworks, up to the rung that is promised; nothing is left in the cache or in the folder."""
    monkeypatch.setenv("TRANSFER_PARITY_CACHE", str(tmp_path / "cache"))
    folder = working_folder.start(FIRST, tmp_path / "mine")
    spec = FIRST.spec.model_copy(update={"until": FIRST.rung})
    edit_something_else(folder.code)
    before = contents(folder.path)
    found = climbed(FIRST, folder.code, spec)
    failed = found.result.first_failure
    assert failed is not None and failed.name == FIRST.rung and failed.first_divergence is not None
    assert failed.first_divergence.neutral == "features.0.1"
    assert found.passed == 2 and not found.result.passed
    assert contents(folder.path) == before and not (tmp_path / "cache").exists()
    mend(FIRST, folder.code)
    place = folder.code / "network.py"
    text = place.read_text(encoding="utf-8")
    place.write_text(text.replace("    x = images.to(", '    print("here I am")\n    x = images.to('), encoding="utf-8")
    mended = climbed(FIRST, folder.code, spec)
    assert mended.result.passed and mended.passed == 3
    assert "here I am" in mended.printed


@pytest.mark.slow
@each_exercise
def test_every_fault_fails_where_it_says_and_its_mending_passes(exercise: Exercise, tmp_path: Path) -> None:
    """An edit that has nothing to do with it does not help; whatever is quiet may stay."""
    folder = working_folder.start(exercise, tmp_path / "mine")
    edit_something_else(folder.code)
    found = climbed(exercise, folder.code).result
    failed = found.first_failure
    assert failed is not None and failed.name == exercise.rung and not found.passed
    mend(exercise, folder.code)
    judged = climbed(exercise, folder.code)
    assert judged.solved and judged.partial is not None and len(judged.partial.rungs) > len(RUNGS)


@pytest.mark.slow
def test_a_mending_that_holds_only_where_every_layer_trains_does_not_pass(tmp_path: Path) -> None:
    exercise = BY_NAME["restless"]
    folder = working_folder.start(exercise, tmp_path / "mine")
    place = folder.code / exercise.fault.file
    text = place.read_text(encoding="utf-8")
    start = text.index("module.train(any(", text.index(exercise.fault.new))
    end = text.index("\n", start)
    place.write_text(f"{text[:start]}module.train(batch_norm_trains){text[end:]}", encoding="utf-8")
    judged = climbed(exercise, folder.code)
    assert judged.result.passed and not judged.solved
    assert judged.partial is not None
    failed = judged.partial.first_failure
    assert failed is not None and failed.name == "loss"


def test_a_copy_that_ends_its_process_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To Python, exit() is success; nothing is written then."""
    folder = working_folder.start(FIRST, tmp_path / "mine")
    ends, waits = "import sys; print('so far', file=sys.stderr); exit()", "import time; time.sleep(60)"
    programs = {framework: ends if framework == FIRST.framework else waits for framework in IDENTIFIERS}
    monkeypatch.setattr(launch, "command", lambda framework, *given: [sys.executable, "-c", programs[framework]])
    with pytest.raises(CopyFailed, match="ended with exit status 0 before its work was done") as caught:
        climbed(FIRST, folder.code)
    assert caught.value.last_words == "so far"
    with pytest.raises(CopyFailed):
        checking.check(folder, lambda folder: climbed(FIRST, folder.code))
    assert (folder.path / EXERCISE_LOG).read_text(encoding="utf-8") == "so far\n"

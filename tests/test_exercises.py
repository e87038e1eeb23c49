"""Exercises: what is planted, what lies in a learner's folder, and what is told."""

from __future__ import annotations

import ast
import errno
import io
import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from transfer_parity import compare
from transfer_parity.shared.contract.artifacts import EXERCISE, EXERCISE_LOG, EXERCISE_TEXT
from transfer_parity.shared.contract.rungs import RUNGS
from transfer_parity.shared.contract.wings import IDENTIFIERS
from transfer_parity.shared.core import code, files
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.exercises import catalogue, checking, judging, working_folder
from transfer_parity.shared.exercises.catalogue import BY_NAME, EXERCISES
from transfer_parity.shared.exercises.exercise import READ, Exercise
from transfer_parity.shared.exercises.judging import Judged
from transfer_parity.shared.exercises.working_folder import WorkingFolder
from transfer_parity.shared.parity.document import Divergence, PairResult, RungResult
from transfer_parity.shared.report import exercise as report
from transfer_parity.shared.report.console import WIDTH, Console

Captured = pytest.CaptureFixture[str]
each_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda each: each.name)
FIRST = BY_NAME["third-digit"]


def mend(exercise: Exercise, folder: Path) -> None:
    """What a learner does who has found the fault; what was left out to keep it quiet stays left out."""
    place = folder / exercise.fault.file
    text = place.read_text(encoding="utf-8")
    assert text.count(exercise.fault.new) == 1
    place.write_text(text.replace(exercise.fault.new, exercise.fault.old), encoding="utf-8")


def edit_something_else(folder: Path) -> None:
    """An edit that has nothing to do with any fault."""
    place = folder / "head.py"
    place.write_text(place.read_text(encoding="utf-8") + "\n\nUNRELATED = 1\n", encoding="utf-8")


def result_of(passed: int) -> PairResult:
    """A climb whose lowest rungs pass."""
    rungs = []
    for place, name in enumerate(RUNGS):
        found = Divergence(
            what="activation",
            neutral="features.0.1",
            tensorflow="bn_Conv1",
            torch="features.0.1",
            max_abs_difference=1e-3,
            tolerance=1e-9,
        )
        right = place < passed
        values = {"max_abs_difference": 0.0 if right else 1e-3, "tolerance": 1e-9, "max_rel_difference": 0.0}
        rungs.append(RungResult(name=name, arrays=1, passed=right, first_divergence=None if right else found, **values))
    common = {"backbone": "MobileNetV2", "semantics": "keras", "precision": "float64", "weights": "random"}
    more = {"switches": [], "seed": 0, "image_size": 44, "max_loss_difference": 0.0}
    return PairResult(**common, **more, rungs=rungs, passed=passed == len(RUNGS))


def saying(passed: int, printed: str = "") -> checking.Climb:
    """A climb in which so many rungs pass, without a framework."""
    return lambda folder: Judged(result_of(passed), printed)


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``judge(2, 5)``: the next climbs pass so many rungs, without a framework."""

    def says(*passed: int, printed: str = "") -> None:
        left = list(passed)
        monkeypatch.setattr(judging, "climb", lambda *given: Judged(result_of(left.pop(0)), printed))

    return says


# ----- the catalogue -----


def test_there_are_ten_at_least_from_easy_to_hard() -> None:
    assert len(BY_NAME) == len(EXERCISES) >= 10
    assert [each.grade for each in EXERCISES] == sorted(each.grade for each in EXERCISES)
    assert {each.grade for each in EXERCISES} == {1, 2, 3}
    for framework in IDENTIFIERS:
        assert sum(each.framework == framework for each in EXERCISES) >= 5
    assert len({each.rung for each in EXERCISES}) >= 6
    assert len({each.lesson for each in EXERCISES}) >= 6


@each_exercise
def test_everything_is_told_about_it(exercise: Exercise) -> None:
    assert exercise.rung in RUNGS and 1 <= exercise.lesson <= 10
    assert len(exercise.name) <= 11 and exercise.name.replace("-", "").isalpha()
    assert len(set(exercise.hints)) == 3 and all(exercise.hints)
    assert exercise.symptom and exercise.why
    assert {edit.file for edit in exercise.edits} <= set(READ)


@each_exercise
def test_what_is_planted_has_its_place(exercise: Exercise) -> None:
    """The fault changes what the file computes, and nothing else that is planted does."""
    for edit in exercise.edits:
        text = (ROOT / exercise.folder / edit.file).read_text(encoding="utf-8")
        assert text.count(edit.old) == 1
        before, after = (ast.parse(each) for each in (text, text.replace(edit.old, edit.new)))
        changes = ast.dump(without_docstrings(before)) != ast.dump(without_docstrings(after))
        assert changes == (edit is exercise.fault)


def without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return tree


@each_exercise
def test_the_mended_copy_computes_what_the_project_computes(exercise: Exercise, tmp_path: Path) -> None:
    folder = working_folder.start(exercise, tmp_path / "mine")
    mend(exercise, folder.code)
    for name in READ:
        ours, theirs = (place / name for place in (ROOT / exercise.folder, folder.code))
        trees = [without_docstrings(ast.parse(place.read_text(encoding="utf-8"))) for place in (ours, theirs)]
        assert ast.dump(trees[0]) == ast.dump(trees[1])


@each_exercise
def test_no_solution_lies_in_the_working_folder(exercise: Exercise, tmp_path: Path) -> None:
    folder = working_folder.start(exercise, tmp_path / "mine")
    mended = {line.strip() for line in exercise.fault.old.splitlines()}
    mended -= {line.strip() for line in exercise.fault.new.splitlines()}
    for place in filter(Path.is_file, folder.path.rglob("*")):
        text = place.read_text(encoding="utf-8")
        assert exercise.fault.old not in text
        if place.suffix != ".py":
            assert not [line for line in mended if len(line) > 8 and line in text], place
            assert exercise.fault.file not in text or place.name == EXERCISE
    assert not {line for line in mended if len(line) > 8 and any(line in hint for hint in exercise.hints)}
    assert exercise.symptom in " ".join((folder.path / EXERCISE_TEXT).read_text(encoding="utf-8").split())


def test_a_text_that_is_gone_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / FIRST.folder).mkdir()
    for name in READ:
        (tmp_path / FIRST.folder / name).write_text("# nothing\n", encoding="utf-8")
    monkeypatch.setattr(code, "ROOT", tmp_path)
    with pytest.raises(ValueError, match="0 times, not once"):
        working_folder.start(FIRST, tmp_path / "mine")


@each_exercise
def test_the_documents_list_it(exercise: Exercise) -> None:
    facts = (f"`{exercise.name}`", exercise.grade, exercise.wing.short, exercise.rung, f"{exercise.lesson:02d}")
    row = " | ".join(map(str, (*facts, exercise.symptom)))
    assert f"\n| {row} |\n" in (ROOT / "docs" / "exercises.md").read_text(encoding="utf-8")
    lines = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8").splitlines()
    assert [line[2:4] for line in lines if line.startswith("|") and facts[0] in line] == [facts[-1]]


# ----- the folder of a learner -----


def contents(folder: Path) -> dict[str, bytes]:
    return {str(place.relative_to(folder)): place.read_bytes() for place in folder.rglob("*") if place.is_file()}


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(BadInput, match="not empty and holds no exercise"):
        working_folder.start(FIRST, tmp_path / "mine")
    with pytest.raises(BadInput, match="is no folder"):
        working_folder.start(FIRST, tmp_path / "mine" / "thesis.txt")
    assert contents(tmp_path / "mine") == {"thesis.txt": b"mine"}


def test_work_is_replaced_only_if_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    fresh = contents(working_folder.start(FIRST, folder).path)
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    working_folder.start(FIRST, folder)
    edit_something_else(folder / FIRST.folder)
    with pytest.raises(BadInput, match=r"holds work on third-digit \(torch_impl/head.py\).*--again"):
        working_folder.start(FIRST, folder)
    with pytest.raises(BadInput, match="holds the exercise third-digit; name another folder for company"):
        working_folder.start(BY_NAME["company"], folder, again=True)
    assert b"UNRELATED" in contents(folder)[f"{FIRST.folder}/head.py"]
    working_folder.start(FIRST, folder, again=True)
    assert contents(folder) == {**fresh, "notes.txt": b"mine"}


def test_what_start_never_wrote_is_not_replaced(tmp_path: Path) -> None:
    folder = working_folder.start(FIRST, tmp_path / "mine")
    listed = {name: digest for name, digest in folder.standing.files.items() if name != EXERCISE_TEXT}
    folder.note(files=listed)
    with pytest.raises(BadInput, match=r"README\.md is not of this exercise"):
        working_folder.start(FIRST, folder.path, again=True)
    outside = tmp_path / "outside"
    (folder.path / FIRST.folder).rename(outside)
    (folder.path / FIRST.folder).symlink_to(outside)
    with pytest.raises(BadInput, match="is a link"):
        working_folder.start(FIRST, folder.path, again=True)


def test_an_interrupted_start_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("transfer_parity.shared.core.files.sha256", lambda path: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            working_folder.start(FIRST, tmp_path / "mine")
    (tmp_path / "mine" / FIRST.folder / "head.py").unlink()
    assert not working_folder.start(FIRST, tmp_path / "mine").changed()


def test_a_folder_with_a_blank_in_its_name_is_checked_as_it_is_told(
    tmp_path: Path, judge: Callable[..., None], capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert compare.main(["exercise", "start", "third-digit", "my folder"]) == 0
    command = capsys.readouterr().out.splitlines()[-1].removeprefix("Check: compare.py ")
    assert f"`python compare.py {command}`" in Path("my folder", EXERCISE_TEXT).read_text(encoding="utf-8")
    judge(9)
    assert compare.main(shlex.split(command)) == 0


def test_a_start_for_which_the_disk_has_no_room_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it had written by then."""
    write = files.write_whole
    for room in range(len(READ) + 2):
        left = room

        def write_while_there_is_room(path: Path, text: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            write(path, text)

        with monkeypatch.context() as patch:
            patch.setattr(files, "write_whole", write_while_there_is_room)
            with pytest.raises(BadInput, match="cannot be written"):
                working_folder.start(FIRST, tmp_path / str(room))
        assert not working_folder.start(FIRST, tmp_path / str(room)).changed()


def test_what_is_no_exercise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="holds no exercise"):
        working_folder.open_(tmp_path)
    folder = working_folder.start(FIRST, tmp_path / "mine").path
    told = (folder / EXERCISE).read_bytes()
    changes: tuple[dict[str, object], ...] = ({"exercise": "../x"}, {"hints": -9}, {"best": 99}, {"checks": -1})
    edited = [json.dumps({**json.loads(told), **change}).encode() for change in changes]
    for damaged in (b"", b"[]", b"\xff", *edited):
        (folder / EXERCISE).write_bytes(damaged)
        with pytest.raises(BadInput, match="is damaged or of another version"):
            working_folder.open_(folder)
    (folder / EXERCISE).write_bytes(told)
    (folder / FIRST.folder / "head.py").rename(folder / "head.py")
    with pytest.raises(BadInput, match=r"head\.py is missing"):
        working_folder.open_(folder)
    monkeypatch.setattr(code, "digest", lambda *packages: "another")
    with pytest.raises(BadInput, match="another version of transfer-parity"):
        working_folder.open_(folder)


def test_the_folder_that_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="no exercise lies here"):
        working_folder.chosen(None)
    one = working_folder.start(FIRST, working_folder.HOME / "one").path
    assert working_folder.chosen(None) == one
    working_folder.start(FIRST, working_folder.HOME / "two")
    with pytest.raises(BadInput, match="2 exercises lie in exercises; name one of them: exercises/one, exercises/two"):
        working_folder.chosen(None)
    monkeypatch.chdir(one)
    assert working_folder.chosen(None) == Path()


# ----- hints -----


def test_hints_come_one_by_one_where_nothing_is_gained(tmp_path: Path) -> None:
    folder = working_folder.start(FIRST, tmp_path / "mine")
    given = []
    for passed in (2, 2, 4, 4, 3, 4):
        found = checking.check(folder, saying(passed))
        given.append((found.before, found.hint and (found.hint.number, found.hint.text)))
        # Kept on disk, not in this object.
        folder = working_folder.open_(folder.path)
    hints = FIRST.hints
    assert given == [
        (None, None),
        (2, (1, hints[0])),
        (2, None),
        (4, (2, hints[1])),
        (4, (3, hints[2])),
        (4, (3, None)),
    ]
    assert folder.standing.checks == 6 and not folder.standing.solved
    assert checking.next_hint(folder).text is None


def test_a_hint_that_is_asked_for_while_a_check_climbs_counts(tmp_path: Path) -> None:
    def climb(folder: WorkingFolder) -> Judged:
        assert checking.next_hint(working_folder.open_(folder.path)).number == 1
        return Judged(result_of(2), "")

    folder = working_folder.start(FIRST, tmp_path / "mine")
    checking.check(folder, saying(2))
    hint = checking.check(folder, climb).hint
    assert hint is not None and hint.number == 2


def test_what_fails_only_where_the_last_stage_trains_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    folder = working_folder.start(FIRST, tmp_path / "mine")
    found = [Judged(result_of(9), "", result_of(3)), Judged(result_of(9), "", result_of(9))]
    monkeypatch.setattr(judging, "climb", lambda *given: found.pop(0))
    assert compare.main(["exercise", "check", str(folder.path)]) == 1
    told = " ".join(capsys.readouterr().out.split())
    assert "All 9 rungs pass, in which every layer trains. If only the last stage does:" in told
    assert f"First divergence, at rung '{RUNGS[3]}'" in told and FIRST.why not in told
    assert not working_folder.open_(folder.path).standing.solved
    assert compare.main(["exercise", "check", str(folder.path)]) == 0
    assert "also if only its last stage trains." in " ".join(capsys.readouterr().out.split())


def test_the_command_from_start_to_solved(
    tmp_path: Path, judge: Callable[..., None], capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def say(*arguments: str) -> tuple[int, str]:
        status = compare.main(["exercise", *arguments])
        told = capsys.readouterr()
        lines = (told.out + told.err).splitlines()
        assert max(map(len, lines), default=0) <= WIDTH or status == 2
        return status, " ".join((told.out + told.err).split())

    status, told = say("list")
    assert not status and all(each.name in told and each.symptom in told for each in EXERCISES)
    assert say()[1] == told
    status, told = say("start", "third-digit")
    assert not status and "exercises/third-digit/README.md" in told
    judge(2, 2, 9, printed="hello\n")
    status, told = say("check")
    assert status == 1 and "2 of 9 rungs pass from below." in told and "Hint" not in told
    assert "First divergence, at rung 'bytes'" not in told and "at rung 'activations': activation" in told
    assert (Path("exercises/third-digit") / EXERCISE_LOG).read_text(encoding="utf-8") == "hello\n"
    status, told = say("check", "exercises/third-digit")
    assert status == 1 and f"Hint 1 of 3: {FIRST.hints[0]}" in told
    assert say("check", "--hint") == (0, f"Hint 2 of 3: {FIRST.hints[1]}")
    status, told = say("check")
    assert not status and "All 9 rungs pass" in told and FIRST.why in told
    assert json.loads(Path("exercises/third-digit", EXERCISE).read_text())["solved"]
    status, told = say("solution", "third-digit")
    assert not status and "+module.eps = spec.batch_norm.epsilon" in told and "-module.eps = 1e-5" in told


def test_progress_is_told_and_a_log_of_ones_own_is_kept(tmp_path: Path) -> None:
    folder = working_folder.start(FIRST, tmp_path / "mine")
    (folder.path / EXERCISE_LOG).write_text("mine", encoding="utf-8")
    found = [checking.check(folder, saying(passed, "printed")) for passed in (3, 5, 4)]
    told = [shown(each) for each in found]
    assert (folder.path / EXERCISE_LOG).read_text(encoding="utf-8") == "mine"
    assert "3 of 9 rungs pass from below." in told[0]
    assert "5 of 9 rungs pass from below, 2 more than at best before." in told[1]
    assert "4 of 9 rungs pass from below, 1 fewer than at best before." in told[2]


@pytest.mark.parametrize("passed", [9, 2])
def test_a_check_is_told_where_it_cannot_be_noted(
    passed: int, tmp_path: Path, judge: Callable[..., None], capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = working_folder.start(FIRST, tmp_path / "mine")
    folder.note(best=2)

    def write(path: Path, text: str) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(files, "write_whole", write)
    judge(passed)
    assert compare.main(["exercise", "check", str(folder.path)]) == (passed < 9)
    told = capsys.readouterr()
    assert f"{passed} rungs pass" in told.out or f"{passed} of 9 rungs pass" in told.out
    assert (
        told.err.strip()
        == f"{folder.path} cannot be written (Read-only file system), so this check is not noted there."
    )


def shown(checked: checking.Checked) -> str:
    stream = io.StringIO()
    report.show_checked(checked, Console(file=stream, width=WIDTH))
    return " ".join(stream.getvalue().split())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["start"], "exercise start needs a name: washed-out, third-digit"),
        (["solution"], "exercise solution needs a name"),
        (["start", "third-digi"], "there is no exercise 'third-digi'; did you mean 'third-digit'?"),
        (["solution", "nonsense"], "there is no exercise 'nonsense'; choose from washed-out"),
        (["list", "x"], "exercise list takes no name, not 1"),
        (["start", "a", "b", "c"], "exercise start takes 2 names, not 3"),
        (["start", "third-digit", "--hint"], "--hint is for exercise check"),
        (["check", "--again"], "--again is for exercise start"),
        (["check", "--threads", "0"], "--threads 0 is too small"),
        (["check", "nowhere"], "nowhere holds no exercise"),
        (["mend"], "invalid choice: 'mend'"),
    ],
)
def test_bad_input_is_a_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert compare.main(["exercise", *arguments]) == 2
    told = capsys.readouterr()
    assert sentence in told.err and len(told.err.strip().splitlines()) == 1 and not told.out
    assert not list(tmp_path.iterdir())


def test_a_name_is_found() -> None:
    assert catalogue.find("company") is BY_NAME["company"]

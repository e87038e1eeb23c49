"""Output folders: what is the user's stays, earlier results stay until there are new ones, and one run has a folder."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.conftest import CLASSES, ROOT, Command, write_images
from tests.fakes import FakeWorkers
from tests.killed import killed_within
from transfer_parity import compare
from transfer_parity.shared.core import files, kept, lifeline, scratch, signals
from transfer_parity.shared.core.errors import BadInput, WorkerFailed
from transfer_parity.shared.core.manifest import facts_of
from transfer_parity.shared.core.run_folder import HIDDEN, claimed

SMALLEST = ("--weights", "random", "--image-size", "32", "--shots", "1", "2", "--seeds", "2", "--epochs", "1")
TINY = (*SMALLEST, "--no-control")
PROBE = (*TINY, "--frameworks", "torch")
STUDY = ("study", *SMALLEST, "--strategies", "linear_probe", "--jobs", "1", "--frameworks", "torch")


def contents(folder: Path) -> dict[str, bytes]:
    """All files but those that runs need for themselves."""
    found = (path for path in folder.rglob("*") if path.is_file() and HIDDEN not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def leftovers(folder: Path) -> list[str]:
    """What no run may leave in its hidden folder."""
    names = [path.name for path in (folder / HIDDEN).iterdir()]
    return [name for name in names if name not in ("manifest.json", "lock", "finished")]


def written(folder: Path, names: dict[str, str], *, complete: bool = True) -> None:
    """Let a run write some files."""
    with claimed(folder) as run:
        for name, text in names.items():
            (run.stage / name).parent.mkdir(parents=True, exist_ok=True)
            (run.stage / name).write_text(text)
        run.commit(complete)


# What is the user's.


def test_images_are_never_deleted(inside: Command, tmp_path: Path, workers: FakeWorkers) -> None:
    """Classes named like folders of results, in the output folder itself."""
    photos = write_images(tmp_path / "out", dict.fromkeys(("models", "logits", "tensorboard"), 4))
    before = contents(photos)
    outcome = inside("--data", photos, *PROBE)
    assert outcome.status == 2
    assert "lies in the folder of the images" in outcome.errors
    assert contents(photos) == before
    assert workers.runs == []


@pytest.mark.parametrize("command", [(), ("study",), ("attribute",), ("rank",), ("episodes",)])
@pytest.mark.parametrize(
    ("data", "output"), [("photos", "photos/circle/out"), ("out/photos", "out"), ("linked", "photos/square")]
)
def test_data_and_results_lie_apart(
    command: tuple[str, ...],
    data: str,
    output: str,
    tmp_path: Path,
    workers: FakeWorkers,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_images(tmp_path / "photos", dict.fromkeys(CLASSES, 4))
    write_images(tmp_path / "out" / "photos", dict.fromkeys(CLASSES, 4))
    (tmp_path / "linked").mkdir()
    for name in CLASSES:
        (tmp_path / "linked" / name).symlink_to(tmp_path / "photos" / name)
    before = contents(tmp_path)
    folders = ("--output-dir", str(tmp_path / output), "--cache-dir", str(tmp_path / "cache"))
    assert compare.main([*command, "--data", str(tmp_path / data), *folders]) == 2
    errors = capsys.readouterr().err
    assert len(errors.strip().splitlines()) == 1
    assert "choose another --output-dir." in errors
    assert contents(tmp_path) == before


#: Files where the commands would write theirs, and files that only lie beside.
IN_THE_WAY = (
    ((), "comparison.json"),
    ((), "recipe.toml"),
    ((), "logits/torch-untrained-shots2-seed1.npy"),
    ((), "models/torch.safetensors"),
    ((), "torch-worker.log"),
    (("study",), "report.html"),
    (("study",), "curves.png"),
    (("attribute",), "attribution.md"),
    (("rank",), "rank.json"),
    (("episodes",), "episodes.json"),
    (("rank", "--train"), "trained/1-VGG16/comparison.json"),
    (("parity",), "parity.json"),
)


@pytest.mark.parametrize(("command", "name"), IN_THE_WAY, ids=lambda value: "-".join(value) if value else "compare")
def test_a_file_in_the_way_is_named_before_anything_is_computed(
    command: tuple[str, ...],
    name: str,
    photos: Path,
    tmp_path: Path,
    workers: FakeWorkers,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mine = tmp_path / "out" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    folders = ("--output-dir", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache"))
    given = () if command == ("parity",) else ("--data", str(photos))
    options = PROBE if not command else ()
    assert compare.main([*command, *given, *options, *folders]) == 2
    errors = capsys.readouterr().err
    assert str(mine) in errors and "is not of an earlier run" in errors
    assert len(errors.strip().splitlines()) == 1
    assert contents(tmp_path / "out") == {name: b"mine"}
    assert not (tmp_path / "cache").exists()
    assert workers.runs == []


BESIDE = ("models/mine.txt", "tensorboard/notes", "my-worker.log", "logits/mine.npy", "cells/mine", "trained/mine")


@pytest.mark.parametrize("given", [PROBE, STUDY], ids=["compare", "study"])
def test_files_beside_results_stay(given: tuple[str, ...], photos: Path, tmp_path: Path, workers: FakeWorkers) -> None:
    for name in BESIDE:
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text(name)
    folders = ["--data", str(photos), "--output-dir", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache")]
    for more in (["--tensorboard"], []):
        assert compare.main([*given, *more, *folders]) in (0, 1)
        assert {name: contents(tmp_path / "out")[name] for name in BESIDE} == {name: name.encode() for name in BESIDE}
    # Of the first run: it was ours.
    assert [name for name in contents(tmp_path / "out") if name.startswith("tensorboard")] == ["tensorboard/notes"]
    assert leftovers(tmp_path / "out") == []


def test_a_link_or_a_file_in_place_of_a_folder(inside: Command, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "logits").symlink_to(photos)
    before = contents(photos)
    refused = inside("--data", photos, *PROBE)
    assert refused.status == 2
    assert "logits is not a folder of an earlier run" in refused.errors
    assert contents(photos) == before


def test_what_was_changed_by_hand_is_not_replaced(tmp_path: Path) -> None:
    written(tmp_path / "out", {"a": "old", "b/c": "old"})
    (tmp_path / "out" / "a").write_text("mine")
    with pytest.raises(BadInput, match="a has changed since a run wrote it"), claimed(tmp_path / "out", ["a"]):
        pass
    # It stays where a run no longer writes it, too.
    written(tmp_path / "out", {"d": "new"})
    assert contents(tmp_path / "out") == {"a": b"mine", "d": b"new"}
    assert not (tmp_path / "out" / "b").exists()


@pytest.mark.parametrize("text", ["", "[]", '{"files": {"x": 3}, "complete": true}', "\x00" * 50])
def test_with_a_damaged_manifest_everything_is_the_user_s(text: str, tmp_path: Path) -> None:
    written(tmp_path / "out", {"a": "old"})
    (tmp_path / "out" / HIDDEN / "manifest.json").write_text(text)
    with pytest.raises(BadInput, match="a is not of an earlier run"), claimed(tmp_path / "out", ["a"]):
        pass
    written(tmp_path / "out", {"b": "new"})
    assert contents(tmp_path / "out") == {"a": b"old", "b": b"new"}


@pytest.mark.parametrize("name", ["../precious", "/precious", "x/../../precious"])
def test_a_manifest_leads_nowhere_else(name: str, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    written(tmp_path / "out", {"a": "old"})
    manifest = tmp_path / "out" / HIDDEN / "manifest.json"
    found = json.loads(manifest.read_text())
    found["files"][name.replace("/precious", str(precious)) if name[0] == "/" else name] = facts_of(precious)
    manifest.write_text(json.dumps(found))
    written(tmp_path / "out", {"b": "new"})
    assert precious.read_text() == "mine"


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="a is not of an earlier run"), claimed(tmp_path, ["a"]) as run:
        (run.stage / "a").write_text("new")
        (tmp_path / "a").write_text("mine")
        run.commit()
    assert contents(tmp_path) == {"a": b"mine"}


# Earlier results.


@pytest.mark.parametrize("given", [PROBE, STUDY], ids=["compare", "study"])
@pytest.mark.parametrize("ending", [None, KeyboardInterrupt(), signals.Ended(signal.SIGTERM), BadInput("no.")])
def test_a_failure_leaves_earlier_results_and_what_is_finished(
    given: tuple[str, ...],
    ending: BaseException | None,
    photos: Path,
    tmp_path: Path,
    workers: FakeWorkers,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folders = ["--data", str(photos), "--output-dir", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache")]
    assert compare.main([*given, *folders]) in (0, 1)
    before = contents(tmp_path / "out")
    workers.runs.clear()
    workers.lives, workers.ending = 3, ending
    longer = [*given, "--epochs", "2", *folders]
    status = compare.main(longer)
    assert (
        status
        == {WorkerFailed: 3, KeyboardInterrupt: 130, signals.Ended: 143, BadInput: 2}[
            type(ending) if ending else WorkerFailed
        ]
    )
    assert "still holds the complete results of an earlier run" in " ".join(capsys.readouterr().err.split())
    after = {name: data for name, data in contents(tmp_path / "out").items() if name in before}
    assert after == before
    assert leftovers(tmp_path / "out") == []
    # The same command takes up what is finished.
    workers.lives = None
    assert compare.main(longer) in (0, 1)
    assert len(workers.runs) == len(set(workers.runs)) == 4
    assert contents(tmp_path / "out") != before


def test_taken_up_is_the_same_and_says_so(photos: Path, tmp_path: Path, workers: FakeWorkers) -> None:
    def run(name: str) -> tuple[int, dict[str, object]]:
        folders = ["--output-dir", str(tmp_path / name), "--cache-dir", str(tmp_path / "cache")]
        # A check that is missing asks for its run again, and these workers never do one.
        status = compare.main(["--data", str(photos), *TINY, "--no-check", *folders])
        return status, json.loads((tmp_path / name / "comparison.json").read_text())

    _, whole = run("whole")
    workers.runs.clear()
    for lives in (2, 3, 7):
        workers.lives = lives
        assert run("parts")[0] == 3
    workers.lives = None
    status, parts = run("parts")
    assert status in (0, 1)
    assert len(workers.runs) == len(set(workers.runs)) == 8
    for key in ("runs", "agreement", "verdict", "verdict_sentence"):
        assert parts[key] == whole[key]
    logits = {name: data for name, data in contents(tmp_path / "whole").items() if name.startswith("logits")}
    assert logits and logits.items() <= contents(tmp_path / "parts").items()
    assert [each["taken_up"] for each in parts["repeats"]] == [3, 3]  # type: ignore[attr-defined]
    # When it is complete, the same command does everything anew.
    assert not (tmp_path / "parts" / HIDDEN / "finished").exists()
    workers.runs.clear()
    run("parts")
    assert len(workers.runs) == 8


def test_other_settings_take_nothing_up(inside: Command, photos: Path, workers: FakeWorkers) -> None:
    workers.lives = 3
    assert inside("--data", photos, *PROBE).status == 3
    workers.lives = None
    workers.runs.clear()
    assert inside("--data", photos, *PROBE, "--learning-rate", "0.5").status == 0
    assert len(workers.runs) == 4


def test_a_damaged_finished_run_is_done_again(
    inside: Command, photos: Path, tmp_path: Path, workers: FakeWorkers
) -> None:
    workers.lives = 3
    assert inside("--data", photos, *PROBE).status == 3
    (logits, *_) = sorted((tmp_path / "out" / HIDDEN / "finished").rglob("logits.npy"))
    # Not in place: the results hold the same file under another name.
    data = bytearray(logits.read_bytes())
    data[-9] ^= 1
    logits.unlink()
    logits.write_bytes(data)
    kept.forget()
    workers.lives = None
    workers.runs.clear()
    outcome = inside("--data", photos, *PROBE)
    assert outcome.status == 0
    assert outcome.errors.count("is damaged; it is computed again") == 1
    assert len(workers.runs) == 2


@pytest.mark.parametrize("moment", range(1, 11))
def test_a_kill_within_a_commit_mixes_nothing(moment: int, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    written(folder, {"a": "old", "b/c": "old", "gone/d": "old", "e": "old"})
    (folder / "b" / "mine").write_text("mine")
    process = multiprocessing.get_context("spawn").Process(target=killed_within, args=(folder, f"any {moment}"))
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    with claimed(folder, ["a", "b/c", "new", "e"]):
        pass
    old = {"a": b"old", "b/c": b"old", "gone/d": b"old", "e": b"old", "b/mine": b"mine"}
    new = {"a": b"new", "b/c": b"new", "new": b"new", "b/mine": b"mine"}
    assert contents(folder) in (old, new)
    assert leftovers(folder) == []
    written(folder, {"a": "last"})
    assert contents(folder) == {"a": b"last", "b/mine": b"mine"}


def test_a_file_that_is_written_whole_takes_nobody_s_place(tmp_path: Path) -> None:
    """Neither while it is written, nor if that fails."""
    (tmp_path / "a.json.part").write_text("mine")
    (tmp_path / "other").write_text("mine")
    (tmp_path / "a.json.2.part").symlink_to(tmp_path / "other")
    (tmp_path / "a.json.3.part").symlink_to(tmp_path / "nowhere")
    before = contents(tmp_path)
    with pytest.raises(UnicodeEncodeError):
        files.write_whole(tmp_path / "a.json", "text \ud800")
    assert contents(tmp_path) == before
    files.write_whole(tmp_path / "a.json", "text")
    assert contents(tmp_path) == {**before, "a.json": b"text"} and (tmp_path / "a.json.2.part").is_symlink()


def test_an_incomplete_result_gives_way(tmp_path: Path) -> None:
    written(tmp_path, {"a": "1"}, complete=False)
    written(tmp_path, {"b": "2"}, complete=False)
    assert contents(tmp_path) == {"b": b"2"}
    written(tmp_path, {"c": "3"})
    written(tmp_path, {"d": "4"}, complete=False)
    assert contents(tmp_path) == {"c": b"3"}
    # Nothing at all replaces nothing.
    written(tmp_path, {}, complete=True)
    assert contents(tmp_path) == {"c": b"3"}


# One run at a time.


def test_a_second_run_is_told_who_has_the_folder(inside: Command, photos: Path, tmp_path: Path) -> None:
    for given in (PROBE, STUDY):
        with claimed(tmp_path / "out"):
            refused = inside(*given, "--data", photos)
            assert refused.status == 2
            assert f"is in use by another run (process {os.getpid()} of " in refused.errors
            assert ", since 20" in refused.errors
    with claimed(tmp_path / "out"):
        pass


HOLD = """
import sys, time
from pathlib import Path
from transfer_parity.shared.core.run_folder import claimed
with claimed(Path(sys.argv[1])) as run, run.work("torch-") as work:
    (run.stage / "half").touch()
    print(work, flush=True)
    time.sleep(60)
"""


def test_a_killed_run_has_nothing_any_more(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert Path(process.stdout.readline().strip()).is_dir()
        with pytest.raises(BadInput, match=f"process {process.pid} of"), claimed(tmp_path):
            pass
        process.kill()
    with claimed(tmp_path) as run:
        assert list(run.stage.iterdir()) == []
    assert leftovers(tmp_path) == []


# Processes and their temporary folders.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_end_like_an_interrupt(number: int) -> None:
    # Whoever starts the tests may have had them ignore some.
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, usual)
    try:
        with pytest.raises(KeyboardInterrupt) as caught, signals.like_an_interrupt():
            os.kill(os.getpid(), number)
            time.sleep(5)
        assert signals.exit_status(caught.value) == 128 + number
        assert signal.getsignal(number) == usual
    finally:
        signal.signal(number, before)


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.like_an_interrupt():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


CHILD = """
import os, time
from transfer_parity.shared.core import lifeline
{tie}
print(os.getpid(), flush=True)
time.sleep(60)
"""
PARENT = """
import os, subprocess, sys, time
from transfer_parity.shared.core import lifeline
command = [sys.executable, "-c", {child!r}]
subprocess.Popen({wrap}, stdin={stdin}, env=os.environ | lifeline.environment())
time.sleep(60)
"""
WAYS = {
    "kernel": ("lifeline.tie()", "command", "lifeline.STDIN"),
    "pipe": ("import threading; threading.Thread(target=lifeline.watch, args=(0,)).start()", "command", "-1"),
    "wrapped": ("", "lifeline.tied(command)", "lifeline.STDIN"),
}


@pytest.mark.parametrize("way", WAYS)
def test_no_process_outlives_its_parent(way: str) -> None:
    tie, wrap, stdin = WAYS[way]
    program = PARENT.format(child=CHILD.format(tie=tie), wrap=wrap, stdin=stdin)
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        parent.wait()
        psutil.wait_procs([child], timeout=5)
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_parent_that_has_died_before() -> None:
    program = "from transfer_parity.shared.core import lifeline; lifeline.tie()"
    environment = os.environ | {lifeline.PARENT: "1"}
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=False).returncode == 1


def test_temporary_folders_of_the_dead_are_removed(tmp_path: Path) -> None:
    program = (
        "import os, sys, signal; from pathlib import Path; from transfer_parity.shared.core import scratch\n"
        "with scratch.folder('mine-', Path(sys.argv[1])) as made:\n"
        "    (made / 'x').touch()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, check=False)
    assert len(list(tmp_path.glob("mine-*"))) == 1
    others = tmp_path / "mine-of-somebody-else"
    others.mkdir()
    (others / "x").touch()
    with scratch.folder("mine-", tmp_path) as first, scratch.folder("mine-", tmp_path) as second:
        assert sorted(tmp_path.glob("mine-*")) == sorted([first, second, others])
    assert list(tmp_path.glob("mine-*")) == [others]
    shutil.rmtree(others)

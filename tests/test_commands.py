"""Commands: how they are found, completed and listed; the cache, and tables of runs."""

from __future__ import annotations

import csv
import importlib
import importlib.machinery
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
import types
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import FakeWorkers
from tests.test_study import OPTIONS
from transfer_parity import compare
from transfer_parity.shared.commands.completion import PROGRAMS, SHELLS, offered
from transfer_parity.shared.commands.table import COMMANDS, DEFAULT
from transfer_parity.shared.contract import artifacts
from transfer_parity.shared.core import cache_contents, notices
from transfer_parity.shared.core.cache import USERS, Cache, in_use, used
from transfer_parity.shared.experiments import run_table

Captured = pytest.CaptureFixture[str]


def error_of(arguments: list[str], capsys: Captured) -> str:
    assert compare.main(arguments) == 2
    return " ".join(capsys.readouterr().err.split())


# ----- finding commands -----


def test_help_begins_with_the_commands(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ending:
        compare.main(["--help"])
    assert ending.value.code == 0
    text = capsys.readouterr().out
    _, usage, listed, *_ = re.split(r"(?m)^(?=usage|commands|positional)", text)
    assert "COMMAND" in usage
    rows = {
        line.split()[0]: line for line in listed.splitlines() if line.startswith("  ") and line.split()[0] in COMMANDS
    }
    # One line each, in the order of the table.
    assert list(rows) == list(COMMANDS)
    for name, line in COMMANDS.items():
        assert rows[name].split(maxsplit=1)[1] == line


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_module(name: str) -> None:
    """The table is all that the one door knows."""
    module = importlib.import_module(f"transfer_parity.shared.commands.{name}")
    assert name == DEFAULT or module.build_parser().prog == f"compare.py {name}"
    assert callable(module.run)
    assert len(COMMANDS[name]) <= 65


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["partiy"], "parity"),
        (["stduy", "--mode", "both"], "study"),
        (["convertt", "a.h5", "b.pth"], "convert"),
        (["flower"], "flowers"),
        (["cahce", "--max-size", "2GB"], "cache"),
    ],
)
def test_a_misspelt_command_is_suggested(given: list[str], meant: str, capsys: Captured) -> None:
    assert f"{given[0]!r}; did you mean {meant!r}?" in error_of(given, capsys)


def test_nonsense_lists_commands_and_recipes(capsys: Captured) -> None:
    said = error_of(["NONSENSE123"], capsys)
    assert all(name in said for name in (*COMMANDS, "flowers", "scratch"))


def test_the_default_can_be_named(photos: Path, tmp_path: Path, workers: FakeWorkers) -> None:
    folders = ["--output-dir", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache")]
    given = ["--data", str(photos), *map(str, OPTIONS), "--no-control", *folders]
    assert compare.main(["compare", *given]) in (0, 1)
    assert (tmp_path / "out" / artifacts.COMPARISON).is_file()


# ----- completion -----


def completed(*words: str) -> list[str]:
    script = SHELLS["bash"](offered()) + f'COMP_WORDS=("$@"); COMP_CWORD={len(words) - 1}; _transfer_parity\n'
    script += 'printf "%s\\n" "${COMPREPLY[@]}"\n'
    ran = subprocess.run(["bash", "-c", script, "bash", *words], capture_output=True, text=True, check=True)
    assert not ran.stderr
    return ran.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "offers"),
    [
        (["st"], ["study"]),
        (["--strat"], ["--strategy"]),
        (["--strategy", "fin"], ["finetune"]),
        (["study", "--mode", ""], ["matched", "as-shipped", "both"]),
        (["parity", "--backbone", "ResNet15"], ["ResNet152"]),
        (["completion", ""], list(SHELLS)),
        (["study", "--strateg"], ["--strategies"]),
        (["convert", "--classifier", "re"], ["required"]),
        (["explain", "GradientT"], ["GradientTape"]),
        (["explain", "--language", ""], ["en", "zh"]),
    ],
)
def test_bash_completes(words: list[str], offers: list[str]) -> None:
    assert completed("transfer-parity", *words) == offers


@pytest.mark.parametrize("shell", SHELLS)
def test_every_option_is_completed(shell: str, capsys: Captured) -> None:
    assert compare.main(["completion", shell]) == 0
    text = capsys.readouterr().out
    for name, each in offered().items():
        assert name in text
        for option in each.options:
            assert (f"-l {option[2:]} " if shell == "fish" else option) in text
    assert all(program in text for program in PROGRAMS)
    if shutil.which(shell) is not None:
        assert subprocess.run([shell, "-n"], input=text, text=True, check=False).returncode == 0


def test_an_unknown_shell(capsys: Captured) -> None:
    assert "bash" in error_of(["completion", "cmd"], capsys)


# ----- the cache -----


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Entries of 1000 bytes each, used so many days ago."""
    cache = Cache(tmp_path / "cache")
    cache.folder("locks")
    for kind, name, days in [
        ("features", "old", 90),
        ("pixels", "older", 100),
        ("weights", "ResNet50-keras.safetensors", 200),
        ("pixels", "new", 1),
        ("assets", "flowers", 50),
    ]:
        path = cache.folder(kind) / name
        if path.suffix:
            path.write_bytes(b"x" * 1000)
            path.with_name(f"{name}.checksums.json").write_text("{}")
        else:
            path.mkdir()
            (path / "data").write_bytes(b"x" * 1000)
        then = time.time() - days * 86_400
        os.utime(path, (then, then))
    return cache


def kept(cache: Cache) -> set[str]:
    return {entry.path.name for entry in cache_contents.entries(cache)}


def test_the_cache_is_listed_by_kind(cache: Cache, capsys: Captured) -> None:
    assert compare.main(["cache", "--cache-dir", str(cache.root), "--entries"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"pixels \(decoded images\) +2 +2 kB", text)
    assert re.search(r"all +5 +5 kB", text)
    assert all(name in text for name in ("older", "new", "ResNet50-keras.safetensors"))
    assert "checksums" not in text
    # A path is never broken into lines.
    assert max(len(line) for line in text.splitlines() if not line.startswith("Cache: ")) <= 80


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--older-than", "95"], {"old", "new", "flowers"}),
        (["--older-than", "95", "--kind", "pixels"], {"old", "new", "flowers", "ResNet50-keras.safetensors"}),
        (["--max-size", "2kB"], {"flowers", "new"}),
        (["--max-size", "0"], set()),
        (["--max-size", "2kB", "--dry-run"], {"old", "older", "new", "flowers", "ResNet50-keras.safetensors"}),
    ],
)
def test_pruning(options: list[str], left: set[str], cache: Cache, capsys: Captured) -> None:
    assert compare.main(["cache", "--cache-dir", str(cache.root), *options]) == 0
    assert kept(cache) == left
    said = capsys.readouterr().out
    assert ("Would remove 3 of 5" if "--dry-run" in options else "Removed") in said
    if "ResNet50-keras.safetensors" not in left:
        assert list((cache.root / "weights").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--max-size", "much"], "--max-size much is no size; give one such as 500MB or 2GB."),
        (["--max-size", "-1"], "--max-size"),
        (["--older-than", "soon"], "--older-than soon is no number of days; give one such as 30."),
        (["--older-than", "nan"], "--older-than nan is no number of days"),
        (["--dry-run"], "give --older-than DAYS or --max-size SIZE with it."),
        (["--kind", "pixel"], "pixel"),
    ],
)
def test_wrong_limits(options: list[str], sentence: str, cache: Cache, capsys: Captured) -> None:
    assert sentence in error_of(["cache", "--cache-dir", str(cache.root), *options], capsys)
    assert len(kept(cache)) == 5


def test_what_is_used_counts_as_used_and_stays(cache: Cache) -> None:
    entry = cache.root / "pixels" / "older"
    used(entry)
    assert in_use(cache.root) == {entry}
    found = cache_contents.entries(cache)
    assert found[-1].path == entry
    assert found[-1].in_use
    assert entry not in {each.path for each in cache_contents.to_prune(found, None, 0)}
    # A process that has ended uses nothing.
    (cache.root / USERS / str(os.getpid())).rename(cache.root / USERS / "99999999")
    assert in_use(cache.root) == set()
    assert not list((cache.root / USERS).iterdir())


def test_reading_a_file_keeps_its_time(cache: Cache) -> None:
    """Whoever looks for changes by the time of the last one must not be misled."""
    path = cache.root / "weights" / "ResNet50-keras.safetensors"
    before = path.stat().st_mtime_ns
    used(path)
    assert path.stat().st_mtime_ns == before
    assert cache_contents.entries(cache)[-1].path == path


def test_what_lies_in_no_cache_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "weights.pth"
    path.parent.mkdir(parents=True)
    path.touch()
    used(path)
    assert {each.name for each in tmp_path.rglob("*")} == {"a", "b", "weights.pth"}


Disk = namedtuple("Disk", ["total", "used", "free"])


@pytest.mark.parametrize(
    ("free", "needed", "left"),
    [
        # 5 % of the disk are 5000 bytes.
        (10_000, 1000, {"old", "older", "new"}),
        (5000, 500, {"old", "new"}),
        (4500, 1000, {"new"}),
        # What was fetched stays however full the disk is, and so does what is needed now.
        (0, 10**6, set()),
    ],
)
def test_a_disk_that_is_nearly_full(
    free: int, needed: int, left: set[str], cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(100_000, 100_000 - free, free))
    said: list[str] = []
    with notices.heard(said.append):
        cache_contents.make_room(cache, needed)
    assert kept(cache) == left | {"flowers", "ResNet50-keras.safetensors"}
    assert len(said) == (left != {"old", "older", "new"})
    assert all("nearly full" in each and "computed again" in each for each in said)


# ----- tables of runs -----


@pytest.fixture
def results(photos: Path, tmp_path: Path, workers: FakeWorkers) -> Path:
    """A comparison, a study, and something damaged."""
    root = tmp_path / "results"
    common = ["--data", str(photos), *map(str, OPTIONS), "--cache-dir", str(tmp_path / "cache")]
    table = ["--csv", str(tmp_path / "table.csv")]
    assert compare.main([*common, "--no-control", *table, "--output-dir", str(root / "one")]) in (0, 1)
    study = ["study", *common, "--strategies", "linear_probe", *table, "--output-dir", str(root / "two" / "deep")]
    assert compare.main(study) in (0, 1)
    (root / "three").mkdir()
    (root / "three" / artifacts.PARITY).write_text('{"created": "2020')
    return root


def test_all_results_in_a_table(results: Path, tmp_path: Path, capsys: Captured) -> None:
    capsys.readouterr()
    assert compare.main(["runs", str(results)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert all(word in text for word in ("one", "two/deep", "three", "damaged", "compare:", "study:"))
    assert {each.command for each in run_table.find(results)} == {"compare", "study", "parity"}


def test_a_line_for_every_run(results: Path, tmp_path: Path, capsys: Captured) -> None:
    """Lines of later commands follow those of earlier ones, under one heading."""
    with (tmp_path / "table.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    comparison = json.loads((results / "one" / artifacts.COMPARISON).read_text())
    study = json.loads((results / "two" / "deep" / artifacts.STUDY).read_text())
    assert len(lines) == len(comparison["runs"]) + len(study["results"])
    for line, run in zip(lines, [*comparison["runs"], *study["results"]], strict=True):
        assert float(line["accuracy"]) == run["accuracy"]
        assert (line["framework"], line["seed"]) == (run["framework"], str(run["seed"]))
        assert line["backbone"] == "MobileNetV2"
    # The same from the folder.
    assert compare.main(["runs", str(results), "--csv", str(tmp_path / "again.csv")]) == 0
    again = (tmp_path / "again.csv").read_text().splitlines()
    assert sorted(again) == sorted((tmp_path / "table.csv").read_text().splitlines())


@pytest.mark.parametrize(
    ("content", "sentence"),
    [("a,b\n1,2\n", "has other columns than a table of runs"), (b"\xff\xfe\x00", "it is no text"), (None, "no folder")],
)
def test_a_table_of_something_else(
    content: str | bytes | None, sentence: str, photos: Path, tmp_path: Path, capsys: Captured
) -> None:
    """It is seen before anything is computed, and stays as it is."""
    path = tmp_path / "table.csv" if content is not None else tmp_path / "nowhere" / "table.csv"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for command in ([], ["study"]):
        said = error_of(
            [*command, "--data", str(photos), "--csv", str(path), "--output-dir", str(tmp_path / "o")], capsys
        )
        assert sentence in said
    assert not (tmp_path / "o").exists()
    assert content is None or path.read_bytes() == (content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize(("folder", "sentence"), [("nowhere", "there is no folder"), (".", "holds no results")])
def test_no_results(folder: str, sentence: str, tmp_path: Path, capsys: Captured) -> None:
    assert sentence in error_of(["runs", str(tmp_path / folder)], capsys)


class FakeMlflow(types.ModuleType):
    """What of MLflow is called."""

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.runs: list[dict[str, Any]] = []
        self.__spec__ = importlib.machinery.ModuleSpec("mlflow", None)

    def set_experiment(self, name: str) -> None:
        self.experiment = name

    def start_run(self, run_name: str) -> FakeMlflow:
        self.runs.append({"name": run_name, "metrics": []})
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, *ending: object) -> None: ...

    def log_params(self, values: dict[str, Any]) -> None:
        self.runs[-1]["params"] = values

    def log_metrics(self, values: dict[str, float], step: int | None = None) -> None:
        self.runs[-1]["metrics"].append((step, values))


def test_mlflow(photos: Path, tmp_path: Path, workers: FakeWorkers, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = FakeMlflow()
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    folders = ["--output-dir", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache")]
    given = ["--data", str(photos), *map(str, OPTIONS), "--no-control", "--mlflow", *folders]
    assert compare.main(given) in (0, 1)
    assert mlflow.experiment == "transfer-parity"
    document = json.loads((tmp_path / "out" / artifacts.COMPARISON).read_text())
    assert len(mlflow.runs) == len(document["runs"])
    for found, run in zip(mlflow.runs, document["runs"], strict=True):
        step, values = found["metrics"][0]
        assert step is None
        assert values["test/accuracy"] == run["accuracy"]
        assert found["params"]["framework"] == run["framework"]
        steps = found["metrics"][1:]
        assert steps
        assert [values["training/loss"] for _, values in steps] == run["losses"][: len(steps)]


def test_without_mlflow(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for command in ([], ["study"]):
        said = error_of([*command, "--data", str(photos), "--mlflow", "--output-dir", str(tmp_path / "o")], capsys)
        assert "pip install mlflow, or leave the option out." in said

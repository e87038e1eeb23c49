"""Every measurement is a process of its own, started fresh. Here they are started, and what they say is read."""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transfer_parity.shared.contract import wings
from transfer_parity.shared.core.errors import DIFFERENT_OR_INCONCLUSIVE, IDENTICAL_OR_EQUIVALENT, WorkerFailed
from transfer_parity.shared.runtime import launch

HERE = Path(__file__).resolve().parent
#: Package of each framework's wing.
WINGS: dict[str, str] = {wing.identifier: wing.package for wing in wings.WINGS}


def timed(
    script: Path,
    *arguments: object,
    environment: Mapping[str, str] | None = None,
    accepted: tuple[int, ...] = (0,),
) -> tuple[float, str]:
    """Run a Python script. Returns its seconds from start to end, and what it printed.

    Raises:
        WorkerFailed: it did not end with an accepted status.
    """
    command = [sys.executable, str(script), *map(str, arguments)]
    began = time.perf_counter()
    finished = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - began
    if finished.returncode not in accepted:
        last = [line for text in (finished.stdout, finished.stderr) for line in text.strip().splitlines()[-12:]]
        shown = " ".join([script.name, *map(str, arguments)])
        how = f"exit status {finished.returncode}"
        if finished.returncode < 0:
            how = signal.Signals(-finished.returncode).name
        raise WorkerFailed(f"{shown} failed with {how}.", script.stem, "\n".join(last))
    return seconds, finished.stdout


def bare(script: str, *arguments: object, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run one of the scripts beside this file. Returns what it says in its last line, and its wall seconds."""
    seconds, output = timed(HERE / script, *arguments, environment=environment)
    return {**json.loads(output.strip().splitlines()[-1]), "wall_seconds": seconds}


def as_worker(threads: int) -> dict[str, str]:
    """The environment in which this project's workers run."""
    return launch.environment(threads)


class Outcome:
    """What a run of ``compare.py`` left behind: the only place that knows the keys of ``comparison.json``.

    Attributes:
        seconds: from the start of the process to its end.
        document: all of ``comparison.json``.
    """

    def __init__(self, seconds: float, document: dict[str, Any]) -> None:
        self.seconds, self.document = seconds, document

    def phases(self, framework: str, *names: str) -> float:
        """Seconds that a worker spent in some phases together."""
        phases = self.document["workers"][framework]["phases"]
        return float(sum(phases.get(name, 0.0) for name in names))

    def step(self, framework: str, phase: str, key: str) -> float:
        """Of the batches of a phase: ``count``, ``first``, ``median``, ``p95``, ``images_per_second``."""
        return float(self.document["workers"][framework]["steps"][phase][key])

    def peak_memory_bytes(self, framework: str) -> int:
        """Largest resident memory of a worker."""
        return int(self.document["workers"][framework]["peak_memory_bytes"])

    def engine(self, framework: str) -> str:
        """How the worker ran its backbone over many images."""
        return str(self.document["workers"][framework]["engine"])

    def engine_reason(self, framework: str) -> str:
        """Why it ran it like that."""
        return str(self.document["workers"][framework]["engine_reason"])

    def accuracy(self, framework: str) -> float:
        """Mean over the recipe's own runs, without its control's."""
        runs = [run for run in self.document["runs"] if run["framework"] == framework]
        return float(statistics.mean(run["accuracy"] for run in runs))


def compare(cache: Path, *options: object) -> Outcome:
    """Run ``compare.py`` with a cache folder; its results are read and thrown away.

    Raises:
        WorkerFailed: it failed.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        given = [*options, "--cache-dir", cache, "--output-dir", folder]
        # Whether the frameworks agree is not what is measured.
        accepted = (IDENTICAL_OR_EQUIVALENT, DIFFERENT_OR_INCONCLUSIVE)
        seconds, _ = timed(launch.ROOT / "compare.py", *given, accepted=accepted)
        return Outcome(seconds, json.loads((Path(folder) / "comparison.json").read_text(encoding="utf-8")))


def convert(cache: Path, source: object, destination: Path, *options: object) -> Path:
    """A checkpoint in another format, made by ``compare.py convert`` unless it is there already."""
    if not destination.is_file():
        timed(launch.ROOT / "compare.py", "convert", source, destination, *options, "--cache-dir", cache)
    return destination

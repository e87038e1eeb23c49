"""Benchmarks of what a run costs besides arithmetic: memory, and the time to get going."""

from __future__ import annotations

from pathlib import Path

from benchmarks import pictures
from benchmarks.processes import HERE, as_worker, compare, timed
from benchmarks.records import Row
from benchmarks.turns import FRAMEWORKS, Setting, in_turns, row
from transfer_parity.shared.core import machine

FEW, MANY = 2_000, 20_000


def memory(setting: Setting) -> list[Row]:
    """Peak memory of a worker when the data set is ten times as large."""
    return [_memory(setting, each) for each in FRAMEWORKS]


def _memory(setting: Setting, framework: str) -> Row:
    few, many = pictures.many(setting.folder, FEW), pictures.many(setting.folder, MANY)

    def peak(data: Path) -> tuple[float, None]:
        options: list[object] = ["--data", data, "--frameworks", framework, "--no-control", "--no-cache"]
        options += ["--shots", 2, "--seeds", 1, "--epochs", 1, "--weights", "random", "--image-size", 64]
        return compare(setting.cache, *options).peak_memory_bytes(framework) / 2**20, None

    pairs = in_turns(setting, f"memory, {framework}", lambda: peak(many), lambda: peak(few))
    return row(
        pairs,
        "cost",
        what=f"peak memory of a worker, {MANY:,} images",
        framework=framework,
        quantity="MiB",
        reference=f"{FEW:,} images",
        target=1.1,
    )


def start(setting: Setting) -> list[Row]:
    """The default command with everything cached against two processes that only import and build."""

    def ours() -> tuple[float, None]:
        return compare(setting.cache).seconds, None

    def theirs() -> tuple[float, None]:
        environment = as_worker(machine.available_cores())
        return sum(timed(HERE / "import_only.py", each, environment=environment)[0] for each in FRAMEWORKS), None

    # Fetches, decodes and stores what the timed runs find.
    ours()
    pairs = in_turns(setting, "start", ours, theirs)
    return [
        row(
            pairs,
            "cost",
            what="the default command with everything cached",
            framework=None,
            quantity="s",
            reference="importing both frameworks and building MobileNetV2",
            target=2.0,
        )
    ]

"""What the benchmarks found, as a JSON file from which the document is made."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import statistics
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from transfer_parity.shared.core import machine

#: The quantity of a row that counts how often something came out right.
TRIALS = "trials"
PACKAGES = ("tensorflow", "keras", "torch", "torchvision", "numpy", "pillow")


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Row(_Document):
    """One thing measured against another, pair by pair.

    Attributes:
        what: what was measured, in words.
        framework: whose, or None for both together.
        quantity: of ``ours`` and ``theirs``, with its unit.
        reference: what ours is compared with.
        ours: one value for each pair.
        theirs: the same of the reference.
        ratios: pair by pair; how many times better ours is, or what it costs.
        target: of the median of the ratios.
        bound: whether the ratio has to be at least or at most the target.
        others_share: part of all cores' time that other processes took, for each pair (0 to 1).
        requirements: what must hold besides, in words, and whether it does.
        notes: what a reader should know.
    """

    what: str
    framework: str | None
    quantity: str
    reference: str
    ours: list[float]
    theirs: list[float]
    ratios: list[float]
    target: float
    bound: Literal["at least", "at most"]
    others_share: list[float]
    requirements: dict[str, bool] = {}
    notes: list[str] = []

    @property
    def median(self) -> float:
        """Of the ratios."""
        return statistics.median(self.ratios)

    @property
    def reached(self) -> bool:
        """Whether the median reaches the target and everything else holds."""
        good = self.median >= self.target if self.bound == "at least" else self.median <= self.target
        return good and all(self.requirements.values())

    @property
    def disturbed(self) -> int:
        """Number of pairs during which others took a noticeable part of the machine."""
        return sum(share > machine.DISTURBED for share in self.others_share)


class Machine(_Document):
    """What a benchmark ran on."""

    cpu: str
    cores: int
    memory_bytes: int
    platform: str
    python: str
    versions: dict[str, str]


class Record(_Document):
    """One benchmark, as it was run last."""

    date: str
    seconds: float
    load_average_before: float | None
    machine: Machine
    rows: list[Row]


class Records(_Document):
    """All benchmarks by name."""

    benchmarks: dict[str, Record] = {}

    @classmethod
    def read(cls, path: Path) -> Records:
        """What the file holds; nothing if it is not there."""
        return cls.model_validate_json(path.read_text(encoding="utf-8")) if path.is_file() else cls()

    def write(self, path: Path) -> None:
        """Replace the file as a whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        temporary.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        temporary.replace(path)


def this_machine() -> Machine:
    """The machine that this runs on."""
    return Machine(
        cpu=machine.cpu_name(),
        cores=machine.available_cores(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        platform=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
    )


def now() -> str:
    """The date and time, UTC, to the minute."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M")

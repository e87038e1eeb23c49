"""Clocks: how long each phase took, and whether the machine was disturbed while it ran."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class Phases:
    """Seconds by phase. The device is synchronised before every reading, so that queued work is not missed.

    Attributes:
        seconds: by phase, each the sum of all its stretches.
    """

    def __init__(self, synchronize: Callable[[], None] = lambda: None) -> None:
        self.seconds: dict[str, float] = {}
        self._synchronize = synchronize

    def add(self, phase: str, seconds: float) -> None:
        """Count seconds that were measured elsewhere."""
        self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds

    @contextmanager
    def measure(self, phase: str) -> Iterator[Stretch]:
        """Measure a block and count it; the stretch tells its seconds afterwards."""
        stretch = Stretch()
        self._synchronize()
        began = time.perf_counter()
        yield stretch
        self._synchronize()
        stretch.seconds = time.perf_counter() - began
        self.add(phase, stretch.seconds)


class Stretch:
    """One measured block. ``seconds`` is 0 until it has ended."""

    seconds: float = 0.0


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far.

    Linux's getrusage would count what the parent held when it started this process, so the kernel's own mark comes
    first. getrusage counts kilobytes, on macOS bytes.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        marks = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        if marks:
            return int(marks[0].split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def cpu_seconds() -> float:
    """Processor time of this process over all its threads, user and system."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def involuntary_context_switches() -> int:
    """How often this process had to give up a core."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def available_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

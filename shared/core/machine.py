"""The machine: its cores and memory, what this process took of them, and what others did meanwhile."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import platform
import sys
import time
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

import psutil

try:
    import resource
except ImportError:
    # Windows has none; psutil knows the same there, in coarser ticks.
    resource = None  # type: ignore[assignment]

#: Part of all cores' time that others may take before a measurement counts as disturbed. Background services of a quiet
#: machine stay below 2 %.
DISTURBED = 0.05
#: Whether the system adds up the processor time of finished child processes.
COUNTS_CHILDREN = os.name != "nt"


class Watch:
    """What this process and all others do on the cores that it may use, from now on."""

    def __init__(self) -> None:
        self._wall, self._own, self._all = time.perf_counter(), _all_cpu_seconds(), _busy_seconds()

    def others_share(self, child_seconds: float = 0.0) -> float:
        """Part of the cores' time that went to others (0 to 1): other processes, other virtual machines.

        Args:
            child_seconds: processor time of the processes that this one started and that have ended since, for systems
                that do not count it.
        """
        wall = time.perf_counter() - self._wall
        own, everything = _all_cpu_seconds() - self._own, _busy_seconds() - self._all
        own += 0.0 if COUNTS_CHILDREN else child_seconds
        return min(1.0, max(0.0, everything - own) / max(wall * len(_cores()), 1e-9))


def available_memory() -> int:
    """Bytes that a program can have before others have to make room."""
    return int(psutil.virtual_memory().available)


def _cores() -> list[Any]:
    """Processor times of the cores that this process may run on: what happens on others does not disturb it."""
    cores = psutil.cpu_times(percpu=True)
    allowed = _affinity() or range(len(cores))
    # Where some are switched off the numbers of the others are not their places.
    return [cores[number] for number in allowed] if max(allowed) < len(cores) else cores


def _affinity() -> Collection[int]:
    """Numbers of the cores that this process may run on; empty where the system does not tell."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    process = psutil.Process()
    return list(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else []


def _busy_seconds() -> float:
    """Processor time of those cores that somebody used, all together; stolen time is somebody's, too."""
    idle = ("idle", "iowait", "guest", "guest_nice")
    return float(sum(sum(times) - sum(getattr(times, name, 0.0) for name in idle) for times in _cores()))


def _all_cpu_seconds() -> float:
    """Processor time of this process and the finished ones that it started."""
    if resource is None:
        times = psutil.Process().cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return cpu_seconds() + children.ru_utime + children.ru_stime


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far.

    Linux's getrusage would count what the parent held when it started this process, so the kernel's own mark comes
    first. getrusage counts kilobytes, on macOS bytes. Windows has no getrusage, but a mark of its own.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        marks = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        if marks:
            return int(marks[0].split()[1]) * 1024
    if resource is None:
        memory = psutil.Process().memory_info()
        return int(getattr(memory, "peak_wset", memory.rss))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def cpu_seconds() -> float:
    """Processor time of this process over all its threads, user and system."""
    if resource is None:
        times = psutil.Process().cpu_times()
        return float(times.user + times.system)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def involuntary_context_switches() -> int:
    """How often this process had to give up a core; 0 where the system does not count that."""
    if resource is None:
        return int(psutil.Process().num_ctx_switches().involuntary)
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


@functools.cache
def available_cores() -> int:
    """Cores that this process may run on: as many as its affinity and a container's quota leave to it.

    Where nothing restricts it they are physical ones, since arithmetic gains nothing from two threads on one core.
    """
    import joblib

    # Where it cannot tell physical cores from others it says so at length, and counts them all.
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return int(joblib.cpu_count(only_physical_cores=True))


def load_average() -> float | None:
    """Processes that wanted a core over the last minute, or None where the system does not count them."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def cpu_name() -> str:
    """The processor in words."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )

"""The machine: its cores and memory, what this process took of them, and what others did meanwhile."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from pathlib import Path

import psutil

#: Part of all cores' time that others may take before a measurement counts as disturbed. Background services of a quiet
#: machine stay below 2 %.
DISTURBED = 0.05


class Watch:
    """What this process and all others do on the machine from now on."""

    def __init__(self) -> None:
        self._wall, self._own, self._all = time.perf_counter(), _all_cpu_seconds(), _busy_seconds()

    def others_share(self) -> float:
        """Part of the available cores' time that went to others (0 to 1): other processes, other virtual machines."""
        wall = time.perf_counter() - self._wall
        own, everything = _all_cpu_seconds() - self._own, _busy_seconds() - self._all
        return min(1.0, max(0.0, everything - own) / max(wall * (psutil.cpu_count() or 1), 1e-9))


def _busy_seconds() -> float:
    """Processor time of the whole machine that somebody used, all cores together; stolen time is somebody's, too."""
    times = psutil.cpu_times()
    idle = sum(getattr(times, name, 0.0) for name in ("idle", "iowait", "guest", "guest_nice"))
    return float(sum(times) - idle)


def _all_cpu_seconds() -> float:
    """Processor time of this process and the finished ones that it started."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return cpu_seconds() + children.ru_utime + children.ru_stime


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

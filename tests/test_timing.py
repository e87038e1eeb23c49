from __future__ import annotations

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from tests.conftest import ROOT
from transfer_parity.shared.core import clocks, machine


def test_phases_add_up_and_wait_for_the_device() -> None:
    calls: list[str] = []
    phases = clocks.Phases(lambda: calls.append("synchronized"))
    for _ in range(2):
        with phases.measure("training") as stretch:
            calls.append("work")
            time.sleep(0.01)
        assert stretch.seconds >= 0.01
    assert phases.seconds["training"] >= 0.02
    # Before the clock is read at both ends.
    assert calls == ["synchronized", "work", "synchronized"] * 2


def test_peak_memory_is_the_process_s_own_and_not_its_parent_s() -> None:
    ballast = np.ones(60_000_000)
    program = "from transfer_parity.shared.core import machine; print(machine.peak_memory_bytes())"
    child = int(subprocess.check_output([sys.executable, "-c", program], cwd=ROOT))
    assert child < ballast.nbytes < machine.peak_memory_bytes()


def test_the_first_step_of_a_run_is_told_apart() -> None:
    steps = clocks.Steps()
    assert steps.times is None
    for seconds in ((0.2, 0.01, 0.02), (0.1, 0.01)):
        steps.begin()
        for each in seconds:
            time.sleep(each)
            steps.mark(4)
    times = steps.times
    assert times is not None
    # The second run's first step is neither: it may trace again, or not.
    assert times.first >= 0.2
    assert times.count == 4
    assert 0.01 <= times.median <= times.p95 < 0.1
    # 12 images in the steady state; with the first steps in it, it would be 50 a second.
    assert times.images_per_second > 100


def test_what_happens_between_steps_does_not_count() -> None:
    steps = clocks.Steps()
    steps.begin()
    steps.mark(1)
    time.sleep(0.2)
    steps.resume()
    steps.mark(1)
    assert steps.times is not None
    assert steps.times.median < 0.1


def test_a_single_step_has_a_rate() -> None:
    steps = clocks.Steps()
    steps.begin()
    time.sleep(0.01)
    steps.mark(4)
    assert steps.times is not None
    assert steps.times.images_per_second == pytest.approx(4 / steps.times.first)


def test_a_busy_neighbour_is_noticed() -> None:
    program = "import time\nend = time.time() + 20\nwhile time.time() < end: pass"
    with subprocess.Popen([sys.executable, "-c", program]) as neighbour:
        watch = machine.Watch()
        time.sleep(1.5)
        share = watch.others_share()
        neighbour.kill()
    assert share > machine.DISTURBED


def test_own_work_is_no_disturbance() -> None:
    """Compared with the machine's whole use, so that the test holds on a busy machine, too."""
    watch = machine.Watch()
    began = time.process_time()
    while time.process_time() - began < 1.0:
        pass
    busy = machine._busy_seconds() - watch._all
    wall = time.perf_counter() - watch._wall
    assert watch.others_share() * wall * len(machine._cores()) < busy - 0.9


def test_only_the_cores_that_one_may_use_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A neighbour on other cores disturbs nobody; one on ours is not hidden by many idle cores elsewhere."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 2}, raising=False)
    cores = [SimpleNamespace(idle=float(number)) for number in range(4)]
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: cores)
    assert machine._cores() == cores[1:3]


def test_without_resource_psutil_tells_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows."""
    before = machine.cpu_seconds(), machine._all_cpu_seconds(), machine.peak_memory_bytes()
    monkeypatch.setattr(machine, "resource", None)
    monkeypatch.setattr(machine, "Path", lambda name: SimpleNamespace(is_file=lambda: False))
    assert machine.cpu_seconds() == pytest.approx(before[0], abs=0.1)
    assert machine._all_cpu_seconds() == pytest.approx(before[1], abs=0.2)
    # Without the system's mark it is what the process holds now.
    assert 0 < machine.peak_memory_bytes() <= 1.1 * before[2]
    assert machine.involuntary_context_switches() >= 0


def test_without_an_affinity_all_cores_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(psutil, "Process", SimpleNamespace)
    assert len(machine._cores()) == psutil.cpu_count()


def test_children_that_no_system_counts_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = machine.Watch()
    monkeypatch.setattr(machine, "_all_cpu_seconds", lambda: watch._own)
    monkeypatch.setattr(machine, "_busy_seconds", lambda: watch._all + 10.0)
    assert watch.others_share(10.0) > 0.9
    monkeypatch.setattr(machine, "COUNTS_CHILDREN", False)
    assert watch.others_share(10.0) == 0.0


def test_a_quota_limits_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    machine.available_cores.cache_clear()
    try:
        assert machine.available_cores() == 1
    finally:
        machine.available_cores.cache_clear()

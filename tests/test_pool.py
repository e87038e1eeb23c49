"""Several processes at the same time: order, limits, and an end for all when one fails."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from transfer_parity.shared.contract.jobs import DataSetJob, Execution, Job
from transfer_parity.shared.contract.recipe import Framework
from transfer_parity.shared.contract.results import WorkerResult
from transfer_parity.shared.core.errors import WorkerFailed
from transfer_parity.shared.runtime import launch
from transfer_parity.shared.runtime.pool import Task, WorkerPool

JOB = DataSetJob(execution=Execution(threads=1), name="any")


def tasks(*frameworks: Framework) -> list[Task]:
    return [
        Task(framework, JOB, Path(f"{number}"), lambda event, details: None)
        for number, framework in enumerate(frameworks)
    ]


def result(wall_seconds: float) -> WorkerResult:
    return WorkerResult(
        versions={},
        device="CPU",
        phases={},
        cpu_seconds=0,
        wall_seconds=wall_seconds,
        involuntary_context_switches=0,
        others_share=0,
        peak_memory_bytes=0,
    )


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_results_come_in_order_and_no_more_run_than_may(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, running, most = threading.Lock(), 0, 0

    def run(framework: str, job: Job, folder: Path, listen: launch.Listener) -> WorkerResult:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        # The later ones end first.
        time.sleep(0.02 * (5 - int(folder.name)))
        with lock:
            running -= 1
        return result(float(folder.name))

    monkeypatch.setattr(launch, "run", run)
    five: list[Framework] = ["torch"] * 5
    found = WorkerPool(at_once).run(tasks(*five))
    assert [each.wall_seconds for each in found] == [0, 1, 2, 3, 4]
    assert most == at_once


def test_one_failure_ends_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    other, started = subprocess.Popen(["sleep", "60"]), threading.Event()
    begun: list[str] = []

    def run(framework: str, job: Job, folder: Path, listen: launch.Listener) -> WorkerResult:
        begun.append(folder.name)
        if framework == "torch":
            started.wait()
            raise WorkerFailed("no memory left.", framework)
        listen("started", {"pid": other.pid})
        started.set()
        raise WorkerFailed(f"status {other.wait()}.", framework)

    monkeypatch.setattr(launch, "run", run)
    with pytest.raises(WorkerFailed, match="no memory left"):
        WorkerPool(2).run(tasks("tensorflow", "torch", "torch", "torch"))
    assert other.wait() == -signal.SIGKILL
    # Those that were waiting never began.
    assert len(begun) <= 3

"""Several framework processes at the same time: if one fails, or the user interrupts, the others end too."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import psutil

from transfer_parity.shared.contract.jobs import Job
from transfer_parity.shared.contract.recipe import Framework
from transfer_parity.shared.contract.results import WorkerResult
from transfer_parity.shared.runtime import launch


@dataclass(frozen=True)
class Task:
    """What one process is to do; see ``launch.run``."""

    framework: Framework
    job: Job
    folder: Path
    listen: launch.Listener

    def carry_out(self, listen: launch.Listener) -> WorkerResult:
        """Run the process; see ``launch.run``."""
        return launch.run(self.framework, self.job, self.folder, listen)


Outcome = TypeVar("Outcome", covariant=True)


class AnyTask(Protocol[Outcome]):
    """What a pool carries out: a process to start, and who listens to it."""

    @property
    def listen(self) -> launch.Listener:
        """Hears the process's events."""

    def carry_out(self, listen: launch.Listener) -> Outcome:
        """Run the process and wait for it; ``listen`` hears its events, its start among them."""


class WorkerPool:
    """Carries out tasks, a number of them at once, in the order in which they are given."""

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self._processes: dict[int, int] = {}
        self._stopping = threading.Event()

    def run(self, tasks: Sequence[AnyTask[Outcome]]) -> list[Outcome]:
        """Wait for all of them. Results come in the order of the tasks.

        Raises:
            BadInput, WorkerFailed: as ``launch.run`` does; what the other tasks had not finished is given up.
        """
        with ThreadPoolExecutor(self.at_once) as pool:
            futures = [pool.submit(self._carry_out, number, task) for number, task in enumerate(tasks)]
            try:
                done, unfinished = wait(futures, return_when=FIRST_EXCEPTION)
            except BaseException:
                self._stop(futures)
                raise
            if unfinished:
                self._stop(futures)
                next(future for future in futures if future in done and future.exception()).result()
            return [future.result() for future in futures]

    def _carry_out(self, number: int, task: AnyTask[Outcome]) -> Outcome:
        def listen(event: str, details: dict[str, Any]) -> None:
            if event == "started":
                self._processes[number] = details["pid"]
            if self._stopping.is_set():
                raise CancelledError
            task.listen(event, details)

        try:
            return task.carry_out(listen)
        finally:
            self._processes.pop(number, None)

    def _stop(self, futures: Sequence[Future[Any]]) -> None:
        self._stopping.set()
        for future in futures:
            future.cancel()
        for process in list(self._processes.values()):
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(process).kill()

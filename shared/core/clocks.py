"""Clocks: how long each phase and each step took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from pydantic import BaseModel, ConfigDict


def fastest(work: Callable[[], object], repeats: int = 5) -> float:
    """Seconds of the fastest of some repetitions; the first one may include what is done only once."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


class Stretch:
    """One measured block. ``seconds`` is 0 until it has ended."""

    seconds: float = 0.0


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


class StepTimes(BaseModel):
    """How long the steps of one phase took, a step being one batch.

    Attributes:
        count: number of steps.
        first: seconds of the first step, in which a framework may trace, compile and reserve memory; of several runs
            in one process, the first run's.
        median: seconds of a step in the steady state, which is all steps but the first of each run.
        p95: 95th percentile of the same.
        images_per_second: over the steady state, or over the only step if there is but one.
    """

    model_config = ConfigDict(extra="forbid")

    count: int
    first: float
    median: float
    p95: float
    images_per_second: float


class Steps:
    """A stopwatch that is pressed after every step. The device is synchronised before every reading."""

    def __init__(self, synchronize: Callable[[], None] = lambda: None) -> None:
        self._synchronize = synchronize
        self._first: float | None = None
        self._first_images = 0
        self._seconds: list[float] = []
        self._images = 0
        self._began = 0.0
        self._is_first = True

    def begin(self) -> None:
        """A run of steps begins; its first one will not count as steady state."""
        self._synchronize()
        self._began, self._is_first = time.perf_counter(), True

    def resume(self) -> None:
        """What happened since the last mark belongs to no step."""
        self._began = time.perf_counter()

    def mark(self, images: int) -> None:
        """A step over so many images has ended, and the next begins."""
        self._synchronize()
        now = time.perf_counter()
        if not self._is_first:
            self._seconds.append(now - self._began)
            self._images += images
        elif self._first is None:
            self._first, self._first_images = now - self._began, images
        self._began, self._is_first = now, False

    @property
    def times(self) -> StepTimes | None:
        """What was measured, or None before the first step."""
        if self._first is None:
            return None
        steady = self._seconds or [self._first]
        images = self._images if self._seconds else self._first_images
        return StepTimes(
            count=len(self._seconds) + 1,
            first=self._first,
            median=float(np.median(steady)),
            p95=float(np.percentile(steady, 95)),
            images_per_second=images / max(sum(steady), 1e-9),
        )

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from shared import timing
from shared.worker import Rate
from tests.conftest import ROOT


def test_phases_add_up_and_wait_for_the_device() -> None:
    calls: list[str] = []
    phases = timing.Phases(lambda: calls.append("synchronized"))
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
    program = "from shared import timing; print(timing.peak_memory_bytes())"
    child = int(subprocess.check_output([sys.executable, "-c", program], cwd=ROOT))
    assert child < ballast.nbytes < timing.peak_memory_bytes()


def test_the_first_batch_does_not_count_in_a_rate() -> None:
    def outputs() -> Iterator[np.ndarray[Any, Any]]:
        time.sleep(0.2)
        yield np.zeros(4)
        time.sleep(0.01)
        yield np.zeros(4)

    rate = Rate()
    assert [len(output) for output in rate.watch(outputs())] == [4, 4]
    # Eight images in 0.21 s would be 38 a second.
    assert rate.per_second > 4 / 0.2


def test_a_single_batch_has_a_rate() -> None:
    rate = Rate()
    list(rate.watch(iter([np.zeros(4)])))
    assert rate.per_second > 0

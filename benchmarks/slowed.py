"""torch's worker, everything it does taking a tenth longer: ``python -m benchmarks.slowed JOB_FOLDER``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from transfer_parity.shared.contract.wing import Array, Part
from transfer_parity.shared.runtime.start import SPAWNED_AT
from transfer_parity.shared.runtime.worker import main
from transfer_parity.torch_impl import inference, network, training
from transfer_parity.torch_impl.network import Network
from transfer_parity.torch_impl.wing import WING

#: What is added to all that is done.
PART = 0.1


def _and_a_tenth(work: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    result = work()
    time.sleep(PART * (time.perf_counter() - began))
    return result


def _slower(module: Any, **functions: Any) -> Any:
    """A module in which some functions are replaced."""
    return SimpleNamespace(**{**vars(module), **functions})


def infer(network: Network, part: Part, batches: Iterable[Array], engine: str | None = None) -> Iterator[Array]:
    """Outputs, with a rest after each."""
    outputs = inference.infer(network, part, batches, engine)
    while (output := _and_a_tenth(lambda: next(outputs, None))) is not None:
        yield output


SLOWED = replace(
    WING,
    network=_slower(network, build=lambda spec: _and_a_tenth(lambda: network.build(spec))),
    inference=_slower(inference, infer=infer),
    training=_slower(training, train=lambda *given: _and_a_tenth(lambda: training.train(*given))),
)

if __name__ == "__main__":
    # What it took to get here, too.
    time.sleep(PART * (time.monotonic() - float(os.environ[SPAWNED_AT])))
    main(SLOWED)

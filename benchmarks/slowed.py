"""torch's worker, everything it does taking a tenth longer: ``python -m benchmarks.slowed JOB_FOLDER``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from transfer_parity.shared.contract.spec import ModelSpec
from transfer_parity.shared.contract.wing import Array, Part
from transfer_parity.shared.runtime.start import SPAWNED_AT
from transfer_parity.shared.runtime.worker import main
from transfer_parity.torch_impl import Implementation
from transfer_parity.torch_impl.network import Network

#: What is added to all that is done.
PART = 0.1


def _and_a_tenth(work: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    result = work()
    time.sleep(PART * (time.perf_counter() - began))
    return result


class Slowed(Implementation):
    """torch's wing, a tenth slower."""

    def build(self, spec: ModelSpec) -> Network:
        """A network, after a rest."""
        network: Network = _and_a_tenth(lambda: super(Slowed, self).build(spec))
        return network

    def infer(
        self, network: Network, part: Part, batches: Iterable[Array], engine: str | None = None
    ) -> Iterator[Array]:
        """Outputs, with a rest after each."""
        outputs = super().infer(network, part, batches, engine)
        while (output := _and_a_tenth(lambda: next(outputs, None))) is not None:
            yield output

    def train(self, *arguments: Any) -> list[float]:
        """Losses, after a rest."""
        losses: list[float] = _and_a_tenth(lambda: super(Slowed, self).train(*arguments))
        return losses


if __name__ == "__main__":
    # What it took to get here, too.
    time.sleep(PART * (time.time() - float(os.environ[SPAWNED_AT])))
    main(Slowed())

"""Passes of a network over many images in inference mode: batch by batch, under a stopwatch, by a chosen engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from transfer_parity.shared.contract import engines
from transfer_parity.shared.contract.batches import augmented
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.wing import Array, Part, Wing
from transfer_parity.shared.core import clocks
from transfer_parity.shared.core.arrays import Rows
from transfer_parity.shared.runtime.events import Events, Kind


class Passes:
    """Puts images or features through parts of one network.

    Attributes:
        recipe: of the job.
        threads: of the framework.
        steps: a stopwatch for each phase that consists of batches.
        choice: how the last pass over many images ran, and why.
        multiply_adds: of the layers that the pass led through, for one image, once a pass was made.
        ceiling: multiply-adds a second of a large matrix product, once a pass was made.
    """

    def __init__(self, wing: Wing, network: Any, recipe: Recipe, threads: int, events: Events) -> None:
        self.wing, self.network, self.events = wing, network, events
        self.recipe, self.threads = recipe, threads
        self.steps: dict[str, clocks.Steps] = {}
        self.choice: engines.Choice | None = None
        self.multiply_adds: int | None = None
        self.ceiling: float | None = None

    def stopwatch(self, phase: str) -> clocks.Steps:
        """The one of a phase; all passes of the phase share it."""
        return self.steps.setdefault(phase, clocks.Steps(self.wing.device.synchronize))

    def batches(self, inputs: Rows | Array, indices: Array, label: str, kind: Kind) -> Iterator[Array]:
        """The chosen inputs in batches; images come out as their centre crop. ``label`` is for people."""
        step = self.recipe.inference_batch_size
        advance = self.events.progress(label, len(indices), kind)
        for start in range(0, len(indices), step):
            chosen = indices[start : start + step]
            batch = inputs[chosen]
            yield augmented(batch, self.recipe.size, None, None) if batch.dtype == np.uint8 else batch
            advance(len(chosen))

    def outputs(self, phase: str, part: Part, batches: Iterable[Array], engine: str | None) -> Iterator[Array]:
        """Outputs of a part, batch by batch, under the stopwatch of a phase."""
        steps = self.stopwatch(phase)
        steps.begin()
        for output in self.wing.inference.infer(self.network, part, batches, engine):
            steps.mark(len(output))
            yield output
            # Writing an output down is no part of the next step.
            steps.resume()

    def logits(self, part: Part, inputs: Rows | Array, indices: Array, label: str, engine: str | None = None) -> Array:
        """What a part that ends in the head puts out for the chosen inputs, (n, classes)."""
        batches = self.batches(inputs, indices, label, "inference")
        return np.concatenate(list(self.outputs("inference", part, batches, engine)))

    def engine(self, part: Part, images: int) -> engines.Choice:
        """The one for a pass of so many images. It follows from them, the part, the threads and the recipe alone.

        Takes a while the first time, so it belongs in no phase.
        """
        if self.multiply_adds is None or self.ceiling is None:
            self.multiply_adds = self.wing.inference.multiply_adds(self.network, part)
            # What people compare images a second with; nothing is decided by a clock.
            self.ceiling = self.wing.inference.matrix_product_rate(self.network)
        offered = self.wing.inference.engines(self.network, part)
        if self.recipe.engine == "plain":
            offered = offered[:1]
        self.choice = engines.choose(offered, images * self.multiply_adds, self.threads)
        return self.choice

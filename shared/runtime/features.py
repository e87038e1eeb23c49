"""Outputs of the frozen stages: computed once for each image, and kept for all runs that ask for them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transfer_parity.shared.contract import engines, plan
from transfer_parity.shared.contract.jobs import JobOfRuns, RunSpec
from transfer_parity.shared.contract.spec import ModelSpec
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.core import clocks
from transfer_parity.shared.core.arrays import Rows
from transfer_parity.shared.runtime import feature_key
from transfer_parity.shared.runtime.feature_store import Store
from transfer_parity.shared.runtime.passes import Passes

#: Images after which what was computed is safe from an interruption.
COMMIT_EVERY = 2048


@dataclass(frozen=True)
class Extracted:
    """What the frozen stages put out.

    Attributes:
        outputs: by image, with those that were asked for.
        seconds: that computing them took now; next to none of those that were kept.
        alone: seconds that all of them would have taken, had nothing been kept, at the speed at which those in the
            store were computed.
    """

    outputs: Rows
    seconds: float
    alone: float


class FrozenFeatures:
    """What the frozen stages of a job's network put out for its images.

    Attributes:
        passes: of that network.
        images: all of them, as the wing sees them, uint8 (N, S, S, 3).
    """

    def __init__(self, passes: Passes, phases: clocks.Phases, job: JobOfRuns, spec: ModelSpec, images: Rows) -> None:
        self.passes, self.phases, self.job, self.spec, self.images = passes, phases, job, spec, images

    @contextmanager
    def of(self, runs: Sequence[RunSpec], folder: Path, weights_digest: str) -> Iterator[Extracted]:
        """Outputs by image, with those that any of the runs needs, and the seconds that computing them takes.

        Choosing an engine is not among the seconds: it happens once, not for each image.

        Args:
            runs: on the backbone that the network holds.
            folder: of the job, with the plans of the runs; without a store the outputs lie there until the end.
            weights_digest: of that backbone.
        """
        if self.job.data.features is not None:
            # Another encoder has done all of that.
            yield Extracted(Rows(self.job.data.features), 0.0, 0.0)
            return
        needed = np.unique(np.concatenate([part for run in runs for part in plan.images(folder / run.plan)]))
        with tempfile.TemporaryDirectory(dir=folder) as forgotten:
            root = self.job.store if self.job.store is not None else Path(forgotten)
            key = feature_key.of_features(self.passes.wing, self.job, self.spec, weights_digest)
            with Store(root, key, len(self.images)).opened() as store:
                missing, engine = store.missing(needed), ""
                if len(missing):
                    # For the whole set, whoever asks for whatever part of it first: all outputs of a store come from
                    # one engine, and a recipe finds the same one before an interruption and after it.
                    choice = self.passes.engine("frozen", len(self.images))
                    engine = choice.name
                    store.note({"engine": engine, "reason": choice.reason})
                elif "engine" in store.facts:
                    # No pass is made, and what the heads train on comes from that one.
                    reason = f"kept from an earlier run; {store.facts['reason']}"
                    self.passes.choice = engines.Choice(store.facts["engine"], reason)
                with self.phases.measure("features") as extraction:
                    if len(missing):
                        self._compute(store, missing, f"features {runs[0].id}", engine)
                if len(missing):
                    spent = store.facts.get("seconds", 0.0) + extraction.seconds
                    store.note({"seconds": spent, "computed": store.facts.get("computed", 0) + len(missing)})
                outputs, facts = store.outputs(), store.facts
            alone = extraction.seconds
            if len(missing) < len(needed) and facts.get("computed"):
                alone = facts["seconds"] * len(needed) / facts["computed"]
            yield Extracted(outputs, extraction.seconds, alone)

    def _compute(self, store: Store, missing: Array, label: str, engine: str) -> None:
        """Put images through the frozen stages and store what comes out."""
        done = kept = 0
        batches = self.passes.batches(self.images, missing, label, "features")
        for output in self.passes.outputs("features", "frozen", batches, engine):
            store.write(missing[done : done + len(output)], output)
            done += len(output)
            if done - kept >= COMMIT_EVERY:
                store.commit(missing[kept:done])
                kept = done
        store.commit(missing[kept:])

"""The runs of a recipe, followed from within for its ladder: the very code that trains, and what its steps were given.

Nothing is written: what a run comes to is kept, to be compared with the other wing's. Both runs use one process, one
network and whatever the wing keeps from run to run, as those of a comparison do.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from transfer_parity.shared.checkpoints.initialisation import draw_trained_looking_weights
from transfer_parity.shared.contract.batches import Batch, training_batches
from transfer_parity.shared.contract.jobs import RecipeClimb, RunSpec
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.plan import Plan
from transfer_parity.shared.contract.wing import Array, Part, Wing
from transfer_parity.shared.core import clocks
from transfer_parity.shared.runtime.built_network import BuiltNetwork, built, trained_names
from transfer_parity.shared.runtime.events import Events
from transfer_parity.shared.runtime.rounding import perturbed
from transfer_parity.shared.runtime.sampling import fingerprints, sample
from transfer_parity.shared.runtime.short_climb import UNITS
from transfer_parity.shared.runtime.train import RunLoop
from transfer_parity.shared.runtime.unlabelled import Views


@dataclass
class Followed:
    """What became of a run.

    Attributes:
        plan: that it followed, with what the wing has drawn itself.
        labels: of the batches of all steps that ended, one after the other.
        sizes: of those batches.
        images: a fingerprint of each image of those batches, as it was augmented.
        statistics: running ones after the first step, if they learn.
        losses: of every step.
        logits: of the test images, (n, classes).
        parameters: samples of all parameters and running statistics in the end.
        first_head: samples of the head that it began with, if that was fitted.
        views: a fingerprint of each view of an unlabelled image, step by step.
        state: samples of what its objective keeps from step to step, in the end.
        nearest: to which class a closed form gave each test image, and how clearly, (n, 2), if it did.
    """

    plan: Plan
    labels: list[Array] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    images: list[Array] = field(default_factory=list)
    statistics: dict[str, Array] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    logits: Array = field(default_factory=lambda: np.zeros((0, 0)))
    parameters: dict[str, Array] = field(default_factory=dict)
    first_head: dict[str, Array] = field(default_factory=dict)
    views: list[Array] = field(default_factory=list)
    state: dict[str, Array] = field(default_factory=dict)
    nearest: Array | None = None


class FollowedRuns(RunLoop):
    """Does the runs of a climb's job, as they are or with every first weight moved by its rounding.

    Attributes:
        moved: whether weights are moved now.
        found: what became of each run, by its name.
    """

    def __init__(self, wing: Wing, climb: RecipeClimb, folder: Path, events: Events) -> None:
        self.climb, self.moved = climb, False
        self.found: dict[str, Followed] = {}
        super().__init__(wing, climb.job, folder, events, clocks.Phases(wing.device.synchronize))

    @property
    def first(self) -> RunSpec:
        """The run whose weights and batches all rungs take."""
        return self.job.runs[0]

    @property
    def part(self) -> Part:
        """What of the network trains."""
        return "trainable" if self.built.spec.frozen_stages else "all"

    @property
    def trainable(self) -> frozenset[str]:
        """Neutral names of what trains."""
        return trained_names(self.recipe, self.backbone_shapes, self.head_shapes)

    def follow(self, moved: bool = False) -> list[Followed]:
        """Do all runs."""
        self.moved, self.found = moved, {}
        self.do_runs()
        self.moved = False
        return [self.found[run.id] for run in self.job.runs]

    def weights(self) -> dict[str, Array]:
        """All first weights of the first run, by neutral name."""
        return {**self._backbone_arrays(self.first), **self._drawn(self.head_shapes, self.first)}

    def plan(self) -> Plan:
        """What the first run follows."""
        return self._plan(self.first)

    def move(self, arrays: dict[str, Array], precision: str | None = None) -> dict[str, Array]:
        """Weights moved by their rounding; without a precision by that of the recipe."""
        return perturbed(arrays, self.first.seed, precision or self.recipe.precision, UNITS)

    def _build(self) -> BuiltNetwork:
        if self.climb.semantics is None:
            return super()._build()
        metadata = Metadata(backbone=self.recipe.backbone, semantics=self.climb.semantics)
        found = built(self.wing, self.job, metadata)
        return replace(found, pretrained=draw_trained_looking_weights(found.backbone_shapes, self.first.seed))

    def _given(self, arrays: dict[str, Array]) -> dict[str, Array]:
        return self.move(arrays) if self.moved else arrays

    def _plan(self, run: RunSpec) -> Plan:
        drawn = super()._plan(run)
        self.found.setdefault(run.id, Followed(drawn))
        return drawn

    def _fit_head(self, run: RunSpec, drawn: Plan) -> float:
        seconds = super()._fit_head(run, drawn)
        self.found[run.id].first_head = {name: sample(array) for name, array in self.fitted.items()}
        return seconds

    def _stepped(self, run: RunSpec, batch: Batch) -> None:
        found = self.found[run.id]
        found.labels.append(batch.labels)
        found.sizes.append(len(batch.labels))
        if batch.inputs.dtype == np.uint8:
            found.images.append(fingerprints(batch.inputs))
            found.views += _fingerprints(batch)
        if len(found.sizes) == 1 and self.recipe.batch_norm_trains:
            learning = [name for name in self.backbone_shapes if name.rpartition(".")[2].startswith("running_")]
            # A copy: torch hands out views of what training goes on changing.
            found.statistics = {name: a.copy() for name, a in self.wing.weights.dump(self.network, learning).items()}

    def _trained(self, run: RunSpec) -> None:
        found = self.found[run.id]
        found.parameters = {name: sample(array) for name, array in self.wing.weights.dump(self.network).items()}
        if self.recipe.closed_form is None:
            found.state = {name: sample(array) for name, array in self.wing.training.state(self.network).items()}

    def _finish(self, run: RunSpec, logits: Array, losses: list[float], *details: Any) -> None:
        found = self.found[run.id]
        found.logits, found.losses, found.nearest = logits, losses, self.nearest
        if not losses:
            self._trained(run)
        if not found.images and losses:
            # What trains was given features: these are the images that they belong to.
            data = (self.images, self.labels, self.recipe.size)
            more = Views(self.recipe, self.images, found.plan).step
            batches = list(training_batches(found.plan, self.recipe.batch_size, *data, more))
            found.images = [fingerprints(batch.inputs) for batch in batches]
            found.views = [each for batch in batches for each in _fingerprints(batch)]


def _fingerprints(batch: Batch) -> list[Array]:
    """Of the images in a step's other streams."""
    return [fingerprints(array) for array in batch.more.values() if array.dtype == np.uint8]

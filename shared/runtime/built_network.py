"""The network of a job of runs, built from its recipe and its checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from transfer_parity.shared.checkpoints import neutral
from transfer_parity.shared.contract.jobs import JobOfRuns
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.spec import ModelSpec, model_spec
from transfer_parity.shared.contract.wing import Array, Wing
from transfer_parity.shared.core.arrays import Rows
from transfer_parity.shared.zoo.pair import HEAD


@dataclass(frozen=True)
class BuiltNetwork:
    """The network of a job, which all of its runs share.

    Attributes:
        spec: what it was built from.
        network: the wing's own type.
        shapes: of all parameters and running statistics, by neutral name.
        pretrained: arrays of the checkpoint's backbone, by neutral name; empty without one.
        metadata: of the checkpoint.
    """

    spec: ModelSpec
    network: Any
    shapes: dict[str, tuple[int, ...]]
    pretrained: dict[str, Array]
    metadata: Metadata | None

    @property
    def head_shapes(self) -> dict[str, tuple[int, ...]]:
        """Those of the head."""
        return {name: shape for name, shape in self.shapes.items() if name.startswith(HEAD)}

    @property
    def backbone_shapes(self) -> dict[str, tuple[int, ...]]:
        """All others."""
        return {name: shape for name, shape in self.shapes.items() if not name.startswith(HEAD)}


def built(wing: Wing, job: JobOfRuns, metadata: Metadata | None = None) -> BuiltNetwork:
    """Read the checkpoint of a job, if it has one, and build its network; weights are still to be loaded.

    ``metadata``: of weights that come from elsewhere, where the job has no checkpoint.
    """
    pretrained: dict[str, Array] = {}
    if job.checkpoint is not None:
        arrays, metadata = neutral.load(job.checkpoint)
        pretrained = {name: array for name, array in arrays.items() if not job.recipe.pair.in_classifier(name)}
    given = int(Rows(job.data.features).shape[1]) if job.data.features is not None else None
    classes, switches = len(job.data.classes), frozenset(job.switches)
    spec = model_spec(job.recipe, metadata, classes, switches=switches, given=given, tasks=job.data.tasks)
    network = wing.network.build(spec)
    return BuiltNetwork(spec, network, wing.weights.shapes(network), pretrained, metadata)


def trained_names(recipe: Recipe, backbone: Mapping[str, tuple[int, ...]], head: Collection[str]) -> frozenset[str]:
    """Neutral names of what trains: the head, and what the strategy names of the backbone.

    Args:
        recipe: its strategy.
        backbone: shapes of all its parameters and statistics, by neutral name.
        head: names of its parameters.
    """
    return recipe.method.trained(recipe, backbone) | set(head)

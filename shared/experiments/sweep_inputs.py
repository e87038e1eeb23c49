"""What a sweep starts from, and what it leaves behind cell by cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from transfer_parity.shared.contract.jobs import RunSpec
from transfer_parity.shared.contract.recipe import Recipe, Shots
from transfer_parity.shared.data.folders import Dataset
from transfer_parity.shared.experiments import digests
from transfer_parity.shared.experiments.arms import Arm
from transfer_parity.shared.runtime.prepare import Plans


@dataclass(frozen=True)
class StrategyInputs:
    """What all arms of a strategy share.

    Attributes:
        recipe: matched.
        data: its images and their classes; behind all others the unlabelled ones of its folder.
        pixels: its images in the cache, (N, S, S, 3).
        plans: by number of shots and seed.
        rates: of runs that have another one than the recipe's, likewise; their plans follow it.
    """

    recipe: Recipe
    data: Dataset
    pixels: Path
    plans: Plans
    rates: Mapping[tuple[Shots, int], float] = field(default_factory=dict)


@dataclass(frozen=True)
class ArmInputs:
    """An arm with what it needs.

    Attributes:
        checkpoint: neutral checkpoint, or None where all weights are drawn.
        digest: of everything that the numbers of its cells depend on.
    """

    arm: Arm
    checkpoint: Path | None
    digest: str


@dataclass(frozen=True)
class SweepInputs:
    """What a sweep starts from.

    Attributes:
        strategies: by name, in order.
        arms: in order.
        threads: of each process.
        versions: of the distributions that are installed.
        load: processes that wanted a core before the start, or None where the system does not count them.
    """

    strategies: Mapping[str, StrategyInputs]
    arms: tuple[ArmInputs, ...]
    threads: int
    versions: dict[str, str]
    load: float | None

    @cached_property
    def data(self) -> Dataset:
        """The labelled images and their classes, which all strategies share under the same numbers."""
        found = next(iter(self.strategies.values())).data
        return found if found.labelled.all() else found.only(found.labelled)

    def digest(self, arm: Arm, checkpoint: Path | None, more: Mapping[str, Any] | None = None) -> str:
        """Of everything that the numbers of an arm's cells depend on.

        Args:
            arm: of one of the strategies.
            checkpoint: its weights, or None where all are drawn.
            more: JSON values that matter besides.
        """
        made, strategy = arm.configuration, self.strategies[arm.key.strategy]
        given = (arm.key.framework, made.recipe, made.switches, checkpoint, strategy.pixels)
        return digests.of_runs(*given, strategy.data.division, self.threads, self.versions, more)


@dataclass(frozen=True)
class FinishedCell:
    """A finished cell and the folder that holds it."""

    arm: Arm
    run: RunSpec
    folder: Path

"""A learning rate for each arm, by one rule: the least log loss on training images that were held out.

Two arms that are compared at one rate may differ because that rate suits one of them. Here each side gets its own, from
the same grid and by the same rule, and no test image has a say in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from transfer_parity.shared.contract import plan, results
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.evaluation import metrics
from transfer_parity.shared.experiments.arms import Arm, ArmKey, at_rate
from transfer_parity.shared.experiments.attribution_document import ChosenRate
from transfer_parity.shared.experiments.study_document import Edge
from transfer_parity.shared.experiments.sweep import Sweep
from transfer_parity.shared.experiments.sweep_inputs import FinishedCell
from transfer_parity.shared.runtime.prepare import Plans

#: The grid, as multiples of the recipe's rate.
FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)


@dataclass(frozen=True)
class Choice:
    """The rate of one arm.

    Attributes:
        rates: of the grid, ascending.
        losses: mean log loss on the images held out, by rate; infinite if the logits of a run are not finite.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def rate(self) -> float:
        """That with the least loss; the smallest of several."""
        return self.rates[self.losses.index(min(self.losses))]

    @property
    def log_losses(self) -> list[float | None]:
        """The losses for a document; None if a run diverged."""
        return [loss if math.isfinite(loss) else None for loss in self.losses]

    @property
    def edge(self) -> Edge | None:
        """At which edge of the grid it lies: beyond it there may be a better one."""
        return "lowest" if self.rate == self.rates[0] else "highest" if self.rate == self.rates[-1] else None


Choices = Mapping[ArmKey, Choice]


def grid(recipe: Recipe, factors: Iterable[float]) -> tuple[float, ...]:
    """The rates to try, ascending; none if nothing is trained in steps."""
    if recipe.closed_form is not None:
        return ()
    rate = recipe.learning_rate
    # 3 times 1e-4 is 0.0003, not 0.00030000000000000003: rates are for people, too.
    return tuple(sorted({rate if factor == 1 else float(f"{rate * factor:.6g}") for factor in factors}))


def plans(sweep: Sweep) -> dict[str, Plans]:
    """By strategy, plans that hold out part of the training images and judge on them; no run of a single shot has any.

    Strategies that have no rate to choose, or whose runs have too few images, are not there.
    """
    found: dict[str, Plans] = {}
    for name, strategy in sweep.inputs.strategies.items():
        drawn = {
            key: plan.draw_validation(strategy.recipe, sweep.data.labels, each, key[1])
            for key, each in strategy.plans.items()
        }
        usable = {key: each for key, each in drawn.items() if each is not None}
        if usable and strategy.recipe.closed_form is None:
            found[name] = usable
    return found


def held_out(arms: Sequence[Arm], factors: Iterable[float]) -> list[Arm]:
    """Each arm at each rate of its grid, judged on what is held out."""
    chosen = tuple(factors)
    return [at_rate(arm, rate, held_out=True) for arm in arms for rate in grid(arm.configuration.recipe, chosen)]


def judged(sweep: Sweep, cell: FinishedCell) -> NDArray[np.int64]:
    """Indices of the images on which a cell is judged."""
    return sweep.inputs.strategies[cell.arm.key.strategy].plans[cell.run.shots, cell.run.seed].test


def log_loss(sweep: Sweep, cell: FinishedCell) -> float:
    """Of a finished cell, on the images on which it is judged; infinite if its logits are not finite."""
    logits, labels = results.finished(cell.folder).logits, sweep.data.labels[judged(sweep, cell)]
    found = metrics.evaluate(logits, labels, sweep.data.task_sizes).log_loss
    return math.inf if found is None else found


def choices(sweeps: Iterable[Sweep]) -> dict[ArmKey, Choice]:
    """The rate of each arm all of whose cells on held-out images are finished, by the arm at the recipe's rate."""
    losses: dict[ArmKey, dict[float, list[float]]] = {}
    expected: dict[ArmKey, int] = {}
    for sweep in sweeps:
        for arm in sweep.arms:
            base = replace(arm.key, rate=None, held_out=False)
            expected[base] = expected.get(base, 0) + len(sweep.inputs.strategies[arm.key.strategy].plans)
        for cell in sweep.finished():
            key = cell.arm.key
            by_rate = losses.setdefault(replace(key, rate=None, held_out=False), {})
            rate = cell.arm.configuration.recipe.learning_rate
            by_rate.setdefault(rate, []).append(log_loss(sweep, cell))
    chosen = {}
    for key, by_rate in losses.items():
        if sum(map(len, by_rate.values())) == expected[key]:
            rates = tuple(sorted(by_rate))
            chosen[key] = Choice(rates, tuple(float(np.mean(by_rate[rate])) for rate in rates))
    return chosen


def described(key: ArmKey, choice: Choice) -> ChosenRate:
    """A choice for the document."""
    return ChosenRate(
        framework=key.framework,
        arm=" + ".join(each.name for each in (key.default, key.second) if each) or key.mode,
        rates=list(choice.rates),
        log_losses=choice.log_losses,
        rate=choice.rate,
        edge=choice.edge,
    )

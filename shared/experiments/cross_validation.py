"""A learning rate for each run, by cross-validation inside its own training images: no test image has a say.

The rule is that of ``tuning``: the least log loss on what is held out, the smaller of equal ones. Here every training
image is held out once, and every run chooses for itself: the training images of one seed are test images of another.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from transfer_parity.shared.contract import plan
from transfer_parity.shared.contract.plan import Plan
from transfer_parity.shared.contract.recipe import Framework, Shots
from transfer_parity.shared.contract.splits import FOLDS
from transfer_parity.shared.contract.wings import REFERENCE
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.experiments import tuning
from transfer_parity.shared.experiments.conditions import in_steps
from transfer_parity.shared.experiments.study_document import RunRate, Tuning
from transfer_parity.shared.experiments.sweep import Sweep
from transfer_parity.shared.experiments.tuning import Choice

#: A run: strategy, number of shots, seed.
RunKey = tuple[str, Shots, int]


def chooser(frameworks: Sequence[Framework]) -> Framework:
    """Whose runs choose the rates, which are then those of all frameworks: what both do alike is done once."""
    return REFERENCE.identifier if REFERENCE.identifier in frameworks else frameworks[0]


def reasons(sweep: Sweep) -> dict[str, str]:
    """By strategy, why some or all of its runs keep the recipe's rate; empty where none does."""
    found = {}
    for name, strategy in sweep.inputs.strategies.items():
        if not in_steps(strategy.recipe):
            found[name] = "nothing is trained in steps"
            continue
        few = [str(shots) for (shots, seed), each in strategy.plans.items() if not _parts(sweep, name, each, seed)]
        if few:
            found[name] = f"fewer than {FOLDS} training images of a class with {', '.join(dict.fromkeys(few))} shots"
    return found


def _parts(sweep: Sweep, name: str, drawn: Plan, seed: int) -> list[Plan]:
    return plan.draw_folds(sweep.recipes[name], sweep.data.labels, drawn, seed)


def prepared(sweep: Sweep, factors: Iterable[float], strategies: Collection[str] | None = None) -> list[Sweep]:
    """The sweeps that choose: one for each part that is held out, of all matched arms of one framework at every rate.

    Args:
        sweep: what is to be tuned.
        factors: the grid, as multiples of the recipe's rate.
        strategies: which are tuned; all by default.

    Raises:
        BadInput: there is no run whose rate could be chosen.
    """
    grid, by_fold = tuple(factors), [dict[str, dict[tuple[Shots, int], Plan]]() for _ in range(FOLDS)]
    for name, strategy in sweep.inputs.strategies.items():
        if not in_steps(strategy.recipe) or (strategies is not None and name not in strategies):
            continue
        for key, each in strategy.plans.items():
            for fold, drawn in zip(by_fold, _parts(sweep, name, each, key[1]), strict=False):
                fold.setdefault(name, {})[key] = drawn
    if not by_fold[0]:
        raise BadInput(
            f"--tune needs at least {FOLDS} training images of each class, and a strategy that is trained in steps; "
            f"give --shots {FOLDS} or more, or leave it out."
        )
    framework = chooser(sweep.common.frameworks)
    arms = [
        arm
        for arm in sweep.arms
        if (arm.key.framework, arm.key.mode) == (framework, "matched") and arm.key.strategy in by_fold[0]
    ]
    return [
        sweep.further(
            tuning.held_out(arms, grid), plans, f"cells that choose rates, part {number}", f"fold {number} of {FOLDS}"
        )
        for number, plans in enumerate(by_fold, start=1)
    ]


def choices(folds: Iterable[Sweep]) -> dict[RunKey, Choice]:
    """The rate of every run whose cells on held-out images are all finished, by mean log loss of all its images."""
    losses: dict[RunKey, dict[float, list[tuple[float, int]]]] = {}
    expected: dict[RunKey, int] = {}
    for sweep in folds:
        for arm in sweep.arms:
            for shots, seed in sweep.inputs.strategies[arm.key.strategy].plans:
                run = (arm.key.strategy, shots, seed)
                expected[run] = expected.get(run, 0) + 1
        for cell in sweep.finished():
            key = (cell.arm.key.strategy, cell.run.shots, cell.run.seed)
            by_rate = losses.setdefault(key, {})
            rate = cell.arm.configuration.recipe.learning_rate
            by_rate.setdefault(rate, []).append((tuning.log_loss(sweep, cell), len(tuning.judged(sweep, cell))))
    chosen = {}
    for key, by_rate in losses.items():
        if sum(map(len, by_rate.values())) == expected[key]:
            rates = tuple(sorted(by_rate))
            chosen[key] = Choice(rates, tuple(_mean(by_rate[rate]) for rate in rates))
    return chosen


def _mean(parts: Sequence[tuple[float, int]]) -> float:
    """Over all images that were held out."""
    losses, images = zip(*parts, strict=True)
    return float(np.average(losses, weights=images))


def described(sweep: Sweep, chosen: Mapping[RunKey, Choice]) -> Tuning:
    """The choices for the document."""
    rates = [
        RunRate(
            strategy=strategy,
            shots=shots,
            seed=seed,
            rates=list(choice.rates),
            log_losses=choice.log_losses,
            rate=choice.rate,
            edge=choice.edge,
        )
        for (strategy, shots, seed), choice in chosen.items()
    ]
    return Tuning(folds=FOLDS, framework=chooser(sweep.common.frameworks), rates=rates, kept=reasons(sweep))


def tuned(sweep: Sweep, chosen: Mapping[RunKey, Choice]) -> Sweep:
    """The sweep with the chosen rates."""
    rates: dict[str, dict[tuple[Shots, int], float]] = {}
    for (strategy, shots, seed), choice in chosen.items():
        rates.setdefault(strategy, {})[shots, seed] = choice.rate
    return sweep.at_rates(rates)

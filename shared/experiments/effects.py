"""Effects of defaults, of pairs of them, and of all: from the predictions of finished cells, paired by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from transfer_parity.shared.contract.framework_defaults import Default, Mode
from transfer_parity.shared.contract.recipe import Framework, Recipe
from transfer_parity.shared.contract.wings import compared
from transfer_parity.shared.evaluation import significance
from transfer_parity.shared.experiments import attributed_cells, points
from transfer_parity.shared.experiments.arms import ArmKey
from transfer_parity.shared.experiments.attributed_cells import Predictions
from transfer_parity.shared.experiments.attribution_document import (
    AtChosenRates,
    Effect,
    Gap,
    Interaction,
    Measured,
    Together,
)
from transfer_parity.shared.experiments.study_document import Estimate
from transfer_parity.shared.experiments.tuning import Choices


@dataclass(frozen=True)
class Cells:
    """The finished cells of a strategy, all at the recipe's rate or each arm at its own.

    Attributes:
        defaults: all of the strategy.
        found: by arm, those of other rates and strategies among them.
        choices: the rate of each arm, by the arm at the recipe's rate; None: the recipe's.
    """

    strategy: str
    recipe: Recipe
    defaults: Sequence[Default]
    found: Mapping[ArmKey, Predictions]
    choices: Choices | None = None

    def at(self, choices: Choices) -> Cells:
        """The same at chosen rates."""
        return replace(self, choices=choices)

    def matched(self, framework: Framework) -> Predictions:
        """Of a framework that follows no default."""
        return self.of(ArmKey(framework, self.strategy))

    def single(self, default: Default) -> Predictions:
        """Of a framework that follows one."""
        return self.of(_single(self.strategy, default))

    def pair(self, one: Default, other: Default) -> Predictions:
        """Of a framework that follows two."""
        return self.of(_pair(self.strategy, one, other))

    def of(self, key: ArmKey) -> Predictions:
        """Of an arm, which is named by its key at the recipe's rate; empty if its rate is not chosen yet."""
        if self.choices is None:
            return self.found.get(key, {})
        if key not in self.choices:
            return {}
        rate = self.choices[key].rate
        return self.found.get(key if rate == self.recipe.learning_rate else replace(key, rate=rate), {})

    def rate(self, key: ArmKey) -> float:
        """The rate at which an arm is taken."""
        return self.choices[key].rate if self.choices is not None else self.recipe.learning_rate

    def side(self, mode: Mode = "matched") -> dict[Framework, Predictions]:
        """Of all frameworks, matched or as shipped."""
        return {each: self.of(ArmKey(each, self.strategy, mode)) for each in self.recipe.frameworks}

    def accuracy(self, mode: Mode = "matched") -> dict[Framework, Estimate]:
        """Of all frameworks, matched or as shipped."""
        return attributed_cells.accuracies(self.side(mode), self.recipe)


def _single(strategy: str, default: Default) -> ArmKey:
    return ArmKey(default.framework, strategy, "one default", default)


def _pair(strategy: str, one: Default, other: Default) -> ArmKey:
    return ArmKey(one.framework, strategy, "two defaults", one, other)


def effects(tried: Sequence[Default], cells: Cells, tuned: Cells | None) -> list[Effect]:
    """What single defaults do, the largest first, with p-values that are corrected for their number.

    Args:
        tried: those that are asked for.
        cells: at the recipe's rate.
        tuned: at chosen rates, if there are any.
    """
    plain = _measured(tried, cells)
    own = _measured(tried, tuned) if tuned else {}
    found = []
    for default, measured in plain.items():
        at_chosen = None
        if tuned and default in own:
            key, base = _single(tuned.strategy, default), ArmKey(default.framework, tuned.strategy)
            at_chosen = AtChosenRates(rate=tuned.rate(key), matched_rate=tuned.rate(base), **own[default].model_dump())
        effect = Effect(
            framework=default.framework,
            name=default.name,
            summary=default.summary,
            native=default.native,
            tuned=at_chosen,
            **measured.model_dump(),
        )
        found.append(effect)
    return sorted(found, key=lambda each: -abs(each.best.accuracy.mean))


def _measured(tried: Sequence[Default], cells: Cells) -> dict[Default, Measured]:
    """By default, corrected for their number."""
    found = {
        default: measured
        for default in tried
        if (measured := attributed_cells.measured(cells.single(default), cells.matched(default.framework)))
    }
    corrected = significance.holm([each.p_value for each in found.values() if each.p_value is not None])
    return {
        default: each.model_copy(update={"p_value": p})
        for (default, each), p in zip(found.items(), corrected, strict=True)
    }


def interactions(pairs: Sequence[tuple[Default, Default]], cells: Cells, tuned: Cells | None) -> list[Interaction]:
    """What pairs of defaults do beyond the sum of both, the largest first. Arguments as those of ``effects``."""
    plain, own = _together(pairs, cells), _together(pairs, tuned) if tuned else {}
    found = [
        Interaction(
            framework=one.framework,
            names=(one.name, other.name),
            native=one.native and other.native,
            tuned=own.get((one, other)),
            **together.model_dump(),
        )
        for (one, other), together in plain.items()
    ]
    return sorted(found, key=lambda each: -abs((each.tuned or each).interaction.mean))


def _together(pairs: Sequence[tuple[Default, Default]], cells: Cells) -> dict[tuple[Default, Default], Together]:
    found: dict[tuple[Default, Default], Together] = {}
    p_values: list[float] = []
    for one, other in pairs:
        both, without = cells.pair(one, other), cells.matched(one.framework)
        beyond = attributed_cells.interaction(both, (cells.single(one), cells.single(other)), without)
        if beyond is not None:
            change = attributed_cells.differences(both, without)
            found[one, other] = Together(
                seeds=len(change),
                accuracy=points.estimate(list(change.values())),
                interaction=_beyond([float(value) for value in beyond[0]]),
                p_value=None,
            )
            p_values.append(beyond[1])
    return {
        pair: each.model_copy(update={"p_value": p})
        for (pair, each), p in zip(found.items(), significance.holm(p_values), strict=True)
    }


def _beyond(values: Sequence[float]) -> Estimate:
    """A mean of differences of differences, which may exceed what one difference can: its interval is not cut off."""
    halves = points.estimate([value / 2 for value in values])
    interval = halves.interval and (2 * halves.interval[0], 2 * halves.interval[1])
    return Estimate(mean=float(np.mean(values)), interval=interval)


def gap(cells: Cells, tried: Sequence[Default], pairs: Sequence[tuple[Default, Default]]) -> Gap | None:
    """What is between two frameworks, and how much of it single defaults and pairs of them explain.

    None unless there are two and everything is finished: interrupted, arms may have finished other shots of the same
    seeds, which nobody may subtract from one another.
    """
    recipe, native = cells.recipe, [default for default in cells.defaults if default.native]
    before, after = cells.side(), cells.side("as shipped")
    single = {default: cells.single(default) for default in native}
    planned = {(str(shots), seed) for shots in recipe.shots for seed in recipe.seed_list}
    arms = [*before.values(), *after.values(), *single.values()]
    two = compared(before)
    if two is None or not set(native) <= set(tried) or any(arm.keys() != planned for arm in arms):
        return None
    first, second = (wing.identifier for wing in two)
    signs = {first: 1, second: -1}
    matched_gap, shipped_gap = (attributed_cells.differences(each[first], each[second]) for each in (before, after))
    seeds = sorted(matched_gap)
    alone = [
        (signs[default.framework], attributed_cells.differences(single[default], before[default.framework]))
        for default in native
        if default.framework in signs
    ]
    explained = {seed: sum(sign * each[seed] for sign, each in alone) for seed in seeds}
    rest = {seed: shipped_gap[seed] - matched_gap[seed] - explained[seed] for seed in seeds}
    together = _of_pairs(cells, pairs, signs, before, single)

    def over_seeds(values: Mapping[int, float]) -> Estimate:
        return points.estimate([values[seed] for seed in seeds])

    return Gap(
        matched=over_seeds(matched_gap),
        shipped=over_seeds(shipped_gap),
        explained=over_seeds(explained),
        rest=over_seeds(rest),
        pairs=over_seeds(together) if together else None,
        rest_of_pairs=over_seeds({seed: rest[seed] - together[seed] for seed in seeds}) if together else None,
    )


def _of_pairs(
    cells: Cells,
    pairs: Sequence[tuple[Default, Default]],
    signs: Mapping[Framework, int],
    before: Mapping[Framework, Predictions],
    single: Mapping[Default, Predictions],
) -> dict[int, float]:
    """Interactions of native pairs by seed, added up; nothing if there are none, or not all are finished."""
    added: dict[int, float] = {}
    for one, other in pairs:
        if not (one.native and other.native) or one.framework not in signs:
            continue
        beyond = attributed_cells.interaction(
            cells.pair(one, other), (single[one], single[other]), before[one.framework]
        )
        if beyond is None:
            return {}
        for seed, value in zip(cells.recipe.seed_list, beyond[0], strict=True):
            added[seed] = added.get(seed, 0.0) + signs[one.framework] * float(value)
    return added

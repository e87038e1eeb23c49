"""What a study advises: which strategy is best where tests can tell, which is cheapest, and which learned nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from transfer_parity.shared.contract.recipe import Framework, Recipe, Shots
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.evaluation import agreement, ordering
from transfer_parity.shared.evaluation.ordering import SeedRun
from transfer_parity.shared.experiments.comparison_document import AtChance, Outcome, at_chance
from transfer_parity.shared.experiments.study_document import Cheapest, Result, Tied

#: A strategy is as good as the best if it comes within one point of it.
AS_GOOD = 0.01


@dataclass(frozen=True)
class MeasuredCell:
    """A finished cell with what was made of it.

    Attributes:
        result: as the document has it.
        side: for the comparison of frameworks.
        labels: true classes of the test images, (N,), or (N, T) of several tasks.
        images: the test images, as indices of the data set, (N,); of several tasks (A,), as often as an image has known
            labels, since answers about one image are no images of their own.
        correct: which of them it recognises, (N,), or which of these answers are right, (A,).
    """

    result: Result
    side: agreement.Side
    labels: Array
    images: Array
    correct: Array


def cheapest(cells: Sequence[MeasuredCell], common: Recipe, apart: Collection[str] = ()) -> Iterator[Cheapest]:
    """By number of shots; needs two strategies to choose from, on seeds that all of them have finished.

    Args:
        cells: of one mode.
        common: what their recipes have in common; accuracies and seconds are means over its frameworks.
        apart: strategies that are not to choose from: those that see the test images answer another question, how well
            a whole set is classified together.
    """
    cells = [cell for cell in cells if cell.result.strategy not in apart]
    by_shots: dict[Shots, dict[str, dict[int, list[MeasuredCell]]]] = {}
    for cell in cells:
        each = cell.result
        by_shots.setdefault(each.shots, {}).setdefault(each.strategy, {}).setdefault(each.seed, []).append(cell)
    for shots in common.shots:
        whole = {
            strategy: {seed: found for seed, found in seeds.items() if len(found) == len(common.frameworks)}
            for strategy, seeds in by_shots.get(shots, {}).items()
        }
        whole = {strategy: seeds for strategy, seeds in whole.items() if seeds}
        shared = sorted(set.intersection(*(set(seeds) for seeds in whole.values()))) if whole else []
        if len(whole) >= 2 and shared:
            yield _cheapest(shots, {name: [seeds[seed] for seed in shared] for name, seeds in whole.items()})


def _cheapest(shots: Shots, found: Mapping[str, Sequence[Sequence[MeasuredCell]]]) -> Cheapest:
    """Of the cells by strategy and seed, all frameworks' cells of a seed together."""
    runs = {name: [mean_run(cells) for cells in seeds] for name, seeds in found.items()}
    seconds = {
        name: float(np.mean([cell.result.seconds for cells in seeds for cell in cells]))
        for name, seeds in found.items()
    }
    accuracy = {name: float(np.mean([run.correct.mean() for run in each])) for name, each in runs.items()}
    best, ties = ordering.tied_with_best(runs)
    as_good = [name for name in accuracy if accuracy[name] >= accuracy[best] - AS_GOOD]
    return Cheapest(
        shots=shots,
        best=best,
        cheapest=min(as_good, key=lambda name: seconds[name]),
        tied=[
            Tied(strategy=tie.strategy, behind=tie.behind, p_value=tie.p_value, seeds_to_tell_apart=tie.seeds)
            for tie in ties
        ],
        seconds=seconds,
        seeds=len(runs[best]),
    )


def mean_run(cells: Sequence[MeasuredCell]) -> SeedRun:
    """One seed, mean over its frameworks."""
    return SeedRun(cells[0].result.seed, cells[0].images, np.mean([cell.correct for cell in cells], axis=0))


def no_better_than_chance(cells: Sequence[MeasuredCell]) -> Iterator[AtChance]:
    """Frameworks, strategies and numbers of shots that are no better than a guess.

    Args:
        cells: of one mode.
    """
    groups: dict[tuple[Framework, str, Shots], list[Outcome]] = {}
    for cell in cells:
        key = (cell.result.framework, cell.result.strategy, cell.result.shots)
        groups.setdefault(key, []).append(Outcome(cell.result, cell.side.losses, cell.labels))
    for key, outcomes in groups.items():
        if found := at_chance(*key, outcomes):
            yield found

"""In which order the strategies of a study stand, and which of them can be told apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from transfer_parity.shared.contract.recipe import Recipe, Shots
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.evaluation import ordering, ranks, significance
from transfer_parity.shared.evaluation.ordering import SeedRun
from transfer_parity.shared.experiments import advice
from transfer_parity.shared.experiments.advice import MeasuredCell
from transfer_parity.shared.experiments.study_document import Order, PairTest

#: By strategy, what each block (a number of shots and a seed) came to, mean over frameworks.
Blocks = dict[str, dict[tuple[Shots, int], SeedRun]]


def order(cells: Sequence[MeasuredCell], common: Recipe) -> Order | None:
    """The order of the strategies over the blocks that all of them have finished; None if there is nothing to compare.

    Args:
        cells: of one mode.
        common: what their recipes have in common.
    """
    whole = _blocks(cells, common)
    if len(whole) < 2:
        return None
    shared = set.intersection(*(set(each) for each in whole.values()))
    keys = [(shots, seed) for shots in common.shots for seed in common.seed_list if (shots, seed) in shared]
    if not keys:
        return None
    runs = {name: [each[key] for key in keys] for name, each in whole.items()}
    scores = np.array([[run.correct.mean() for run in each] for each in runs.values()]).T
    facts = {
        "seeds": len({seed for _, seed in keys}),
        "shots": list(dict.fromkeys(shots for shots, _ in keys)),
    }
    return ordered(list(runs), scores, facts, lambda better, worse: ordering.paired(runs[better], runs[worse]).p_value)


def ordered(
    names: Sequence[str], scores: Array, facts: Mapping[str, Any], p_value: Callable[[str, str], float]
) -> Order:
    """Ranks, and which of them differ.

    Args:
        names: of the strategies.
        scores: accuracies, (blocks, strategies).
        facts: what the order says of its blocks.
        p_value: of a paired test of two strategies, where there are too few blocks for ranks.
    """
    found = ranks.friedman(scores)
    mean_ranks = dict(sorted(zip(names, found.mean_ranks.tolist(), strict=True), key=lambda each: each[1]))
    accuracies = dict(zip(names, scores.mean(axis=0).tolist(), strict=True))
    by_friedman = len(scores) >= ranks.FEWEST_BLOCKS and len(names) >= ranks.FEWEST_STRATEGIES
    pairs = (
        _by_ranks(mean_ranks, found.p_value, len(scores)) if by_friedman else _by_pairs(mean_ranks, accuracies, p_value)
    )
    return Order(
        test="friedman" if by_friedman else "paired",
        blocks=len(scores),
        mean_ranks=mean_ranks,
        accuracies={name: accuracies[name] for name in mean_ranks},
        statistic=found.statistic if by_friedman else None,
        p_value=found.p_value if by_friedman else None,
        critical_difference=ranks.critical_difference(len(names), len(scores)) if by_friedman else None,
        pairs=pairs,
        groups=ranks.groups(list(mean_ranks), [{each.better, each.worse} for each in pairs if each.told_apart]),
        **facts,
    )


def _blocks(cells: Sequence[MeasuredCell], common: Recipe) -> Blocks:
    together: dict[str, dict[tuple[Shots, int], list[MeasuredCell]]] = {}
    for cell in cells:
        each = cell.result
        together.setdefault(each.strategy, {}).setdefault((each.shots, each.seed), []).append(cell)
    return {
        strategy: {key: advice.mean_run(found) for key, found in blocks.items() if len(found) == len(common.frameworks)}
        for strategy, blocks in together.items()
    }


def _by_ranks(mean_ranks: Mapping[str, float], p_value: float, blocks: int) -> list[PairTest]:
    """Nemenyi's test of all pairs. Where Friedman's finds no difference at all, no pair is told apart."""
    found = []
    for better, worse in combinations(mean_ranks, 2):
        difference = mean_ranks[worse] - mean_ranks[better]
        own = ranks.nemenyi(difference, len(mean_ranks), blocks)
        apart = p_value < significance.ALPHA and own < significance.ALPHA
        found.append(PairTest(better=better, worse=worse, rank_difference=difference, p_value=own, told_apart=apart))
    return found


def _by_pairs(
    mean_ranks: Mapping[str, float], accuracies: Mapping[str, float], p_value: Callable[[str, str], float]
) -> list[PairTest]:
    """Paired tests of all pairs, corrected for their number (Holm); the better one has the higher mean accuracy."""
    pairs = [(a, b) if accuracies[a] >= accuracies[b] else (b, a) for a, b in combinations(mean_ranks, 2)]
    corrected = significance.holm([p_value(better, worse) for better, worse in pairs])
    return [
        PairTest(
            better=better,
            worse=worse,
            rank_difference=mean_ranks[worse] - mean_ranks[better],
            p_value=corrected_p,
            told_apart=corrected_p < significance.ALPHA,
        )
        for (better, worse), corrected_p in zip(pairs, corrected, strict=True)
    ]

"""An order of several strategies by their ranks: Friedman's test, and Nemenyi's critical difference (Demsar, 2006).

Demsar, Statistical comparisons of classifiers over multiple data sets, Journal of Machine Learning Research 7,
sections 3.2.2 and 3.2.3.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.evaluation import significance

#: Fewer blocks are too few for the chi-square distribution that Friedman's test relies on.
FEWEST_BLOCKS = 10
#: Of strategies, for the same reason: two are a matter for a paired test.
FEWEST_STRATEGIES = 3


@dataclass(frozen=True)
class Friedman:
    """Friedman's test of whether strategies differ at all.

    Attributes:
        mean_ranks: 1 is the best; those that are equal share the mean of their ranks, (strategies,).
        statistic: chi-square, corrected for ties.
        p_value: of k - 1 degrees of freedom.
    """

    mean_ranks: Array
    statistic: float
    p_value: float


def friedman(scores: Array) -> Friedman:
    """Do strategies differ, by their ranks within blocks?

    Args:
        scores: accuracy of each strategy in each block, (blocks, strategies); the higher the better.
    """
    blocks, strategies = scores.shape
    greater = (scores[:, None, :] > scores[:, :, None]).sum(axis=2)
    equal = (scores[:, None, :] == scores[:, :, None]).sum(axis=2)
    ranks = greater + (equal + 1) / 2
    # t equal ones take t (t² - 1) off; each of them counts here, so a t-th of it.
    ties = float((equal.astype(np.float64) ** 2 - 1).sum())
    whole = blocks * strategies * (strategies**2 - 1)
    mean_ranks = ranks.mean(axis=0)
    if ties == whole:
        return Friedman(mean_ranks, 0.0, 1.0)
    spread = float(((mean_ranks - (strategies + 1) / 2) ** 2).sum())
    statistic = 12 * blocks * spread / (strategies * (strategies + 1)) / (1 - ties / whole)
    from scipy import special

    return Friedman(mean_ranks, statistic, float(special.chdtrc(strategies - 1, statistic)))


def critical_difference(strategies: int, blocks: int, level: float = significance.ALPHA) -> float:
    """Nemenyi's: mean ranks that are so far apart differ, with a chance of ``level`` that any pair does by luck alone.

    q sqrt(k (k + 1) / (6 N)), where q is the studentized range of k groups and infinitely many degrees of freedom,
    divided by the square root of 2.
    """
    return float(_range().ppf(1 - level, strategies, math.inf)) / math.sqrt(2) * _step(strategies, blocks)


def nemenyi(difference: float, strategies: int, blocks: int) -> float:
    """p-value of a difference of two mean ranks, corrected for all pairs."""
    return float(_range().sf(abs(difference) * math.sqrt(2) / _step(strategies, blocks), strategies, math.inf))


def _step(strategies: int, blocks: int) -> float:
    return math.sqrt(strategies * (strategies + 1) / (6 * blocks))


def _range() -> Any:
    """SciPy's distribution of the studentized range, which takes most of a second to import."""
    from scipy.stats import studentized_range

    return studentized_range


def groups(names: Sequence[str], apart: Collection[Set[str]]) -> list[list[str]]:
    """The largest sets of strategies of which no two are told apart, each in the order of ``names``.

    Args:
        names: all strategies, the best first.
        apart: pairs that are told apart.

    Returns:
        Sets of two or more, that of the best strategy first; none where all are told apart.
    """
    told = {frozenset(pair) for pair in apart}
    tied = {
        name: {other for other in names if other != name and frozenset((name, other)) not in told} for name in names
    }
    found: list[list[str]] = []
    _extend([], list(names), [], tied, found)
    place = {name: number for number, name in enumerate(names)}
    whole = [sorted(each, key=place.__getitem__) for each in found if len(each) > 1]
    return sorted(whole, key=lambda each: [place[name] for name in each])


def _extend(
    chosen: list[str], open_: list[str], done: list[str], tied: Mapping[str, Set[str]], found: list[list[str]]
) -> None:
    """All largest sets that hold the chosen ones and none of those that are done (Bron and Kerbosch, 1973)."""
    if not open_ and not done:
        found.append(chosen)
    for name in list(open_):
        near = tied[name]
        _extend([*chosen, name], [x for x in open_ if x in near], [x for x in done if x in near], tied, found)
        open_.remove(name)
        done.append(name)

"""In which order strategies stand, in sentences and as a table."""

from __future__ import annotations

from transfer_parity.shared.core.text import joined
from transfer_parity.shared.experiments.study_document import Order
from transfer_parity.shared.report.console import amount
from transfer_parity.shared.report.markdown import table


def sentences(order: Order) -> list[str]:
    """Who stands where, and who cannot be told apart."""
    names = ", ".join(f"{name} {rank:.1f}" for name, rank in order.mean_ranks.items())
    over = f"{order.blocks} block{'' if order.blocks == 1 else 's'} ({blocks(order)})"
    lines = [f"Order by mean rank over {over}: {names}."]
    if order.test == "friedman" and order.p_value is not None:
        told = "not all alike" if order.p_value < 0.05 else "no difference found"
        rule = (
            f"Friedman's test: {told} (p = {_p(order.p_value)}). Ranks that are {order.critical_difference:.2f} apart"
        )
        rule += " differ (Nemenyi's critical difference, 5 %)"
    else:
        over = "data sets" if order.data else "seeds and images"
        rule = f"Too few blocks for Friedman's test: paired tests over {over}, corrected for all pairs (Holm)"
    if order.left_out:
        lines.insert(0, f"Left out: {joined(order.left_out)} (not these strategies, or not with the same shots).")
    return [*lines, f"{rule}; {_told_apart(order)}."]


def _told_apart(order: Order) -> str:
    if not order.groups:
        return "all are told apart"
    return f"not told apart: {'; '.join(joined(group) for group in order.groups)}"


def blocks(order: Order) -> str:
    """Of what the blocks are."""
    if order.data:
        return f"{joined(order.data)}, {len(order.shots)} number{'' if len(order.shots) == 1 else 's'} of shots"
    seeds = f"{order.seeds} seed{'' if order.seeds == 1 else 's'}"
    return f"{seeds} x {len(order.shots)} numbers of shots" if len(order.shots) > 1 else f"{seeds}, {_shots(order)}"


def _shots(order: Order) -> str:
    return amount(order.shots[0])


def _p(value: float) -> str:
    return f"{value:.2g}" if value >= 1e-4 else f"{value:.0e}"


def markdown(order: Order) -> str:
    """A table of strategies: mean rank, mean accuracy, and from which of the others each is not told apart."""
    return table(["strategy", "mean rank", "mean accuracy, %", "not told apart from"], rows(order))


def rows(order: Order) -> list[list[str]]:
    """What the table holds."""
    found = []
    for name, rank in order.mean_ranks.items():
        tied = {
            other
            for each in order.pairs
            if not each.told_apart and name in (each.better, each.worse)
            for other in (each.better, each.worse)
            if other != name
        }
        ordered = [other for other in order.mean_ranks if other in tied]
        found.append([name, f"{rank:.2f}", f"{100 * order.accuracies[name]:.1f}", ", ".join(ordered)])
    return found


def caption(order: Order) -> str:
    """How to read the diagram."""
    if order.test == "friedman":
        how = "A bar joins strategies that are no more than the critical difference apart (Friedman and Nemenyi, 5 %)."
    else:
        how = "A bar joins strategies, marked on it, of which paired tests tell no two apart (Holm, 5 %)."
    return f"Mean ranks over {order.blocks} blocks ({blocks(order)}); 1 is the best. {how}"


def alternative(order: Order) -> str:
    """The diagram in words."""
    return f"Critical-difference diagram. {' '.join(sentences(order))}"

"""Is it rounding? One cell of an inconclusive study again in float64, in which rounding is a billion times smaller."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from transfer_parity.shared.contract import artifacts
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.contract.wings import compared
from transfer_parity.shared.core.arrays import largest_difference
from transfer_parity.shared.core.errors import WorkerFailed
from transfer_parity.shared.evaluation import metrics
from transfer_parity.shared.experiments.study_document import Judgement, Result, RoundingCheck, StudyDocument
from transfer_parity.shared.experiments.sweep import Sweep


def carry_out(sweep: Sweep, document: StudyDocument) -> RoundingCheck | None:
    """Do the cell again whose predictions part most, of the combination whose logits do. It is kept as all cells are.

    Args:
        sweep: finished.
        document: what came of it.

    Returns:
        None if there is nothing to check: the study is not matched, not inconclusive, not in float32, diverged, or its
        network is not trained in steps; or if it fails, since the study itself has not.
    """
    two, doubtful = compared(sweep.common.frameworks), [each for each in document.judgements if _in_doubt(sweep, each)]
    if two is None or document.modes[0] != "matched" or document.verdict != "inconclusive" or not doubtful:
        return None
    judgement = max(doubtful, key=lambda each: each.agreement.max_abs_logit_difference or 0.0)
    key = (judgement.mode, judgement.strategy, judgement.shots)
    by_seed: dict[int, list[Result]] = {}
    for each in document.results:
        if (each.mode, each.strategy, each.shots) == key:
            by_seed.setdefault(each.seed, []).append(each)
    logits = {
        seed: [np.load(sweep.folder / each.folder / artifacts.LOGITS, allow_pickle=False) for each in found]
        for seed, found in by_seed.items()
        if len(found) == len(two)
    }
    tasks = sweep.data.task_sizes
    seed = max(logits, key=lambda seed: parted(logits[seed], tasks)[0])
    again = sweep.one_cell(judgement.strategy, judgement.shots, seed, "float64")
    try:
        again.run()
    except WorkerFailed:
        return None
    precise = [np.load(cell.folder / artifacts.LOGITS, allow_pickle=False) for cell in again.finished()]
    difference, before = (float(largest_difference(*each)) for each in (precise, logits[seed]))
    apart, count = parted(precise, tasks)
    return RoundingCheck(
        strategy=judgement.strategy,
        shots=judgement.shots,
        seed=seed,
        predictions_compared=count,
        predictions_identical=count - apart,
        max_abs_logit_difference=difference,
        max_abs_logit_difference_before=before,
        settled=apart == 0 and difference < before,
    )


def _in_doubt(sweep: Sweep, judgement: Judgement) -> bool:
    recipe = sweep.recipes[judgement.strategy]
    return (
        judgement.mode == "matched"
        and judgement.verdict == "inconclusive"
        and not judgement.agreement.diverged
        and judgement.agreement.max_abs_logit_difference is not None
        and recipe.precision == "float32"
        and recipe.closed_form is None
    )


def parted(logits: Sequence[Array], tasks: Sequence[int] = ()) -> tuple[int, int]:
    """How many predictions two frameworks do not share, and how many there are: with several tasks one for each."""
    ours, theirs = (metrics.predictions(each, tasks) for each in logits)
    return int((ours != theirs).sum()), ours.size

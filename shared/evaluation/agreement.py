"""How far the frameworks agree over paired runs, and the verdict that follows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from pydantic import Field

from transfer_parity.shared.contract.recipe import Shots
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.contract.wings import WingInfo
from transfer_parity.shared.core.arrays import largest_difference
from transfer_parity.shared.core.document import Document
from transfer_parity.shared.core.errors import DIFFERENT_OR_INCONCLUSIVE, IDENTICAL_OR_EQUIVALENT
from transfer_parity.shared.evaluation import computation, divergence, metrics, significance
from transfer_parity.shared.evaluation.computation import FirstDifference, Rounding
from transfer_parity.shared.evaluation.divergence import Divergence

Verdict = Literal["identical", "equivalent", "different computation", "different", "inconclusive", "not compared"]
#: Those that say that it makes no difference which framework is used.
AGREEING: tuple[Verdict, ...] = ("identical", "equivalent")
#: Those that say that the frameworks differ.
DIFFERING: tuple[Verdict, ...] = ("different computation", "different")


class Agreement(Document):
    """How far the frameworks agree over the runs that both have done."""

    predictions_compared: int
    predictions_identical: int
    max_abs_logit_difference: float | None = Field(description="null if infinite, or nothing was compared")
    max_abs_loss_difference: float | None
    initial_weights_identical: bool
    accuracy_difference: float | None = Field(description="tensorflow minus torch, mean over runs")
    accuracy_difference_interval: tuple[float, float] | None = Field(description="95 % confidence interval, or null")
    seeds_to_settle: int | None = Field(
        description="if inconclusive: about so many seeds would settle it, with a chance of 80 %; or null"
    )
    diverged: dict[Divergence, int] = Field(
        {},
        description="runs of any framework whose training diverged, compared or not, by what shows it (see "
        "shared/evaluation/divergence.py); their agreement says nothing",
    )
    first_difference: FirstDifference | None = Field(
        None, description="matched runs: the first thing that rounding does not explain; null if there is none"
    )
    copies: int = Field(
        0, description="matched pairs of runs whose logits agree to the bit, as two frameworks' do not by themselves"
    )


@dataclass(frozen=True)
class Side:
    """What one framework made of a run: test logits (N, classes), losses of all steps, digest of the first weights.

    ``nearest``: of a transductive strategy, class and lead of each test image (``closed_forms.CosineHead``).
    """

    logits: Array
    losses: Array
    weights_digest: str
    nearest: Array | None = None


@dataclass(frozen=True)
class Paired:
    """One run as two frameworks did it: the same training images, seed and test images.

    Attributes:
        seed: of the run.
        labels: true classes of the test images, (N,); of several tasks (N, T), as ``metrics.evaluate`` takes them.
        first: of the framework that differences are taken from.
        second: of the one that is subtracted.
        shots: training images a class, or all.
        tasks: number of classes of each task, if there are several.
    """

    seed: int
    labels: Array
    first: Side
    second: Side
    shots: Shots = "all"
    tasks: tuple[int, ...] = ()

    def of_task(self, task: int) -> Paired:
        """The same with the answers to one task alone; labels that are not known stay -1."""
        own, before = self.labels[:, task], sum(self.tasks[:task])
        first, second = (
            replace(each, logits=metrics.parts(each.logits, self.tasks)[task]) for each in (self.first, self.second)
        )
        return Paired(self.seed, np.where(own < 0, own, own - before), first, second, self.shots)


def agree(
    pairs: Iterable[Paired],
    margin: float,
    diverged: Iterable[Divergence | None] = (),
    rounding: Rounding | None = None,
) -> tuple[Agreement, Array]:
    """How far the frameworks agree, and the paired accuracy differences that the verdict rests on.

    With several seeds a difference is one seed's, averaged over its numbers of shots; with one seed, one image's.

    Args:
        pairs: taken one by one, since their logits may be large.
        margin: accuracy difference that counts as equivalent.
        diverged: for every run of every framework, also those without a partner, how its training diverged, if it did.
        rounding: how far it may part matched runs; None of runs that need not compute the same.
    """
    compared = identical = copies = numbers = 0
    found: list[FirstDifference] = []
    logit_difference, loss_difference, same_weights = 0.0, 0.0, True
    by_seed: dict[int, list[float]] = {}
    by_image: dict[int, list[Array]] = {}
    for pair in pairs:
        labels, first, second = pair.labels, pair.first, pair.second
        ours, theirs = (metrics.predictions(each.logits, pair.tasks) for each in (first, second))
        compared += ours.size
        identical += int(((ours == theirs) & (ours != metrics.NO_PREDICTION)).sum())
        # Logits that are not finite agree with nothing, not even with each other.
        finite = np.isfinite(first.logits).all() and np.isfinite(second.logits).all()
        difference = largest_difference(first.logits, second.logits) if finite else math.inf
        logit_difference = max(logit_difference, difference)
        steps = len(first.losses), len(second.losses)
        parted = largest_difference(first.losses, second.losses) if steps[0] == steps[1] else math.inf
        loss_difference = max(loss_difference, parted)
        same_weights &= first.weights_digest == second.weights_digest
        if rounding is not None and finite:
            digests, losses = (first.weights_digest, second.weights_digest), (first.losses, second.losses)
            outcome = ((first.logits, second.logits), rounding, (first.nearest, second.nearest))
            each = computation.first_difference((pair.shots, pair.seed), digests, losses, *outcome)
            if each is not None:
                where = {} if each == rounding.failed else {"shots": pair.shots, "seed": pair.seed}
                found.append(each.model_copy(update=where))
            alike = computation.copied(first.logits, second.logits) if rounding.moves_logits else 0
            copies, numbers = copies + bool(alike), numbers + alike
        # Whatever is true where it is not known, both are compared and neither is judged.
        known = labels >= 0
        advantage = (ours == labels)[known].astype(float) - (theirs == labels)[known]
        by_image.setdefault(pair.seed, []).append(advantage)
        by_seed.setdefault(pair.seed, []).append(float(advantage.mean()))
    differences = of_seeds = np.array([np.mean(values) for values in by_seed.values()])
    # With one seed, or several that happen to differ alike (not at all, although predictions do, among them), seeds
    # say nothing about spread; images do.
    if len(by_seed) == 1 or (identical < compared and np.ptp(differences) == 0):
        differences = np.concatenate([np.mean(values, axis=0) for values in by_image.values()])
    summary = significance.paired_difference(differences, margin) if compared else None
    bounded = summary is not None and all(math.isfinite(bound) for bound in summary.interval)
    agreement = Agreement(
        predictions_compared=compared,
        predictions_identical=identical,
        max_abs_logit_difference=logit_difference if compared and math.isfinite(logit_difference) else None,
        max_abs_loss_difference=loss_difference if compared and math.isfinite(loss_difference) else None,
        initial_weights_identical=same_weights and compared > 0,
        accuracy_difference=summary.mean if summary else None,
        accuracy_difference_interval=summary.interval if summary and bounded else None,
        seeds_to_settle=significance.seeds_to_settle(of_seeds, margin)
        if summary and summary.outcome == "inconclusive"
        else None,
        diverged=dict(Counter(kind for kind in diverged if kind is not None)),
        first_difference=min(found, key=lambda each: computation.ORDER.index(each.what), default=None),
        copies=copies if numbers >= computation.BITS else 0,
    )
    return agreement, differences


def exit_status(verdict: Verdict) -> int:
    """0 if nothing speaks against agreement, also because nothing was compared; 1 otherwise."""
    good = verdict in AGREEING or verdict == "not compared"
    return IDENTICAL_OR_EQUIVALENT if good else DIFFERENT_OR_INCONCLUSIVE


def _diverged(agreement: Agreement, both: bool) -> str:
    runs, reasons = sum(agreement.diverged.values()), [divergence.in_words(kind) for kind in agreement.diverged]
    how_many = "1 run" if runs == 1 else f"{runs} runs"
    same = f" and the same predictions ({agreement.predictions_identical} of {agreement.predictions_compared}) say"
    return (
        f"Inconclusive: training diverged in {how_many} ({'; '.join(reasons)}){same if both else ', which says'} "
        "nothing. Lower the learning rate."
    )


def _what_differs(found: FirstDifference, ladder: str) -> str:
    """The first difference, and the command that finds out why, as sentences."""
    return f"{found.sentence}. `compare.py parity {ladder}` finds out why."


def judge(
    agreement: Agreement,
    differences: Array,
    margin: float,
    two: tuple[WingInfo, WingInfo] | None,
    ladder: str = "RECIPE",
) -> tuple[Verdict, str]:
    """The verdict and its sentence.

    Args:
        agreement: over the recipe's own runs, not its control's.
        differences: paired accuracy differences, the first wing's minus the second's.
        margin: accuracy difference that counts as equivalent.
        two: the wings, or None if only one ran.
        ladder: arguments of the ladder that finds out why the frameworks do not compute the same.
    """
    compared, identical = agreement.predictions_compared, agreement.predictions_identical
    both = bool(compared) and two is not None
    if agreement.diverged and (agreement.max_abs_logit_difference is not None or not both):
        # Whether one framework ran or two, and however well they agree.
        return "inconclusive", _diverged(agreement, both)
    if not compared or two is None:
        return "not compared", "Not compared: there are no runs that both frameworks have finished."
    logits = agreement.max_abs_logit_difference
    if logits is None:
        return "inconclusive", (
            f"Inconclusive: logits are not all finite, so training diverged; {identical} of {compared} predictions are "
            "the same. Lower the learning rate."
        )
    how_close = f"largest logit difference {logits:.1e}"
    if agreement.copies:
        return "inconclusive", (
            f"Inconclusive: the logits of {agreement.copies} pair{'s' if agreement.copies > 1 else ''} of runs agree "
            "to the last bit, which two frameworks that round by themselves do not: one may be a copy of the other."
        )
    differs = agreement.first_difference
    found = significance.paired_difference(differences, margin)
    if differs is not None and (identical == compared or found.outcome != "different"):
        return "different computation", (
            f"Different computation: {identical} of {compared} test predictions are the same ({how_close}), but the "
            f"frameworks do not compute the same: {_what_differs(differs, ladder)}"
        )
    if identical == compared:
        return "identical", f"Identical: both frameworks make the same {compared} test predictions ({how_close})."
    low, high = (100 * bound for bound in found.equivalence_interval)
    first, second = two
    numbers = (
        f"accuracy differs by {100 * found.mean:+.2f} points, {first.short} minus {second.identifier} "
        f"(90% interval {low:+.2f} to {high:+.2f}, margin {100 * margin:g}), "
        f"and {identical} of {compared} test predictions are the same ({how_close})."
    )
    if found.outcome == "inconclusive" and agreement.seeds_to_settle is not None:
        numbers += f" About {agreement.seeds_to_settle} seeds would settle it."
    if differs is not None:
        numbers += f" The first difference: {_what_differs(differs, ladder)}"
    return found.outcome, f"{found.outcome.capitalize()}: {numbers}"

"""Which framework is faster here: ratios of paired repeats, and a verdict only where the interval excludes 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from transfer_parity.shared.contract import wings
from transfer_parity.shared.contract.results import PHASES, WorkerResult
from transfer_parity.shared.contract.wings import Framework, WingInfo
from transfer_parity.shared.core import machine
from transfer_parity.shared.core.document import Document
from transfer_parity.shared.evaluation import significance

# The faster framework, or why there is none to name.
if TYPE_CHECKING:
    SpeedVerdict = str
else:
    SpeedVerdict = Literal[*wings.IDENTIFIERS, "no difference found", "not compared"]

#: With fewer pairs than this every interval includes 1, whatever was measured.
FEWEST = 5
_TOO_FEW = f"--repeats {FEWEST} or more would do it"
#: What a verdict is about.
EXTENT = "start to last logits"
#: A difference that one would want to know of.
NOTEWORTHY = 1.1


class Ratio(Document):
    """How many times as long one of two took as the other, over paired repeats."""

    what: str = Field(description="a phase, or all: all of them together, from the start to the last logits")
    repeats: int
    median: float = Field(description="of the ratios, TensorFlow's seconds by torch's unless something else is said")
    interval: tuple[float, float] = Field(description="95 % bootstrap confidence interval of their geometric mean")
    repeats_to_find: int | None = Field(
        None, description="repeats that would find a difference of 10 % in 9 of 10 cases, as these scatter"
    )


class Repeat(Document):
    """One framework's process of one repeat."""

    framework: Framework
    runtime: str
    precision: str
    number: int = Field(description="counts from 0; both frameworks of a pair have the same")
    disturbed: str | None = Field(description="why this repeat does not count, or null")
    taken_up: int = Field(
        0, description="runs that an interrupted process had finished before; the seconds are those of the others"
    )
    worker: WorkerResult

    @classmethod
    def of(cls, framework: Framework, runtime: str, precision: str, number: int, worker: WorkerResult) -> Repeat:
        """A repeat, with what its worker says about being disturbed."""
        reason = disturbance(worker)
        return cls(
            framework=framework, runtime=runtime, precision=precision, number=number, disturbed=reason, worker=worker
        )


class Speed(Document):
    """What the repeats say."""

    ratios: list[Ratio]
    verdict: SpeedVerdict
    sentence: str


def disturbance(worker: WorkerResult) -> str | None:
    """Why a process was not alone on the machine, or None."""
    if worker.others_share > machine.DISTURBED:
        return f"others used {100 * worker.others_share:.0f} % of the cores"
    return None


def compare(repeats: Sequence[Repeat]) -> Speed:
    """Ratios by phase, and the verdict on all phases together.

    Args:
        repeats: of the frameworks under one runtime profile. Pairs with a disturbed half do not count.
    """
    two = wings.compared({repeat.framework for repeat in repeats})
    if two is None:
        return _not_compared(_TOO_FEW)
    found = {(repeat.number, repeat.framework): repeat for repeat in repeats}
    keys = [[(number, wing.identifier) for wing in two] for number in dict.fromkeys(each.number for each in repeats)]
    both = [(found[one], found[other]) for one, other in keys if one in found and other in found]
    whole = [(one.worker, other.worker) for one, other in both if not (one.disturbed or other.disturbed)]
    if reason := _obstacle(len(both), whole, two):
        return _not_compared(reason)
    ratios = [
        _ratio(what, whole)
        for what in ("all", *PHASES)
        if all(_seconds(worker, what) > 0 for pair in whole for worker in pair)
    ]
    return Speed(ratios=ratios, verdict=_verdict(ratios[0], two), sentence=_sentence(ratios[0], two))


def _not_compared(reason: str) -> Speed:
    return Speed(ratios=[], verdict="not compared", sentence=f"Speed: not compared; {reason}.")


def against(repeats: Sequence[Repeat], others: Sequence[Repeat]) -> Ratio | None:
    """One framework's seconds under one runtime by those under another, all phases.

    Args:
        repeats: of one framework under the one runtime or precision.
        others: of the same framework under the other.

    Returns:
        None with fewer than two pairs that were left alone.
    """
    quiet = {other.number: other.worker for other in others if not other.disturbed}
    pairs = [(each.worker, quiet[each.number]) for each in repeats if not each.disturbed and each.number in quiet]
    return _ratio("all", pairs) if len(pairs) > 1 else None


def _obstacle(
    measured: int, undisturbed: Sequence[tuple[WorkerResult, WorkerResult]], two: tuple[WingInfo, WingInfo]
) -> str | None:
    """Why a number of pairs, of which some were left alone, cannot be compared."""
    first, second = two
    for one, other in undisturbed:
        if one.device != other.device:
            return f"{first.short} ran on {one.device}, {second.short} on {other.device}; --device cpu would do it"
    if len(undisturbed) >= 2:
        return None
    if measured < 2:
        return _TOO_FEW
    return f"others used the cores in {measured - len(undisturbed)} of {measured} repeats; run it when they are done"


def _seconds(worker: WorkerResult, what: str) -> float:
    """Of a phase, or of all; 0 for a phase that the process did not have."""
    return sum(worker.phases.values()) if what == "all" else worker.phases.get(what, 0.0)


def _ratio(what: str, pairs: Sequence[tuple[WorkerResult, WorkerResult]]) -> Ratio:
    values = np.array([_seconds(one, what) / _seconds(other, what) for one, other in pairs])
    return Ratio(
        what=what,
        repeats=len(values),
        median=float(np.median(values)),
        interval=significance.ratio_interval(values),
        repeats_to_find=significance.repeats_to_find(values, NOTEWORTHY),
    )


def _verdict(ratio: Ratio, two: tuple[WingInfo, WingInfo]) -> SpeedVerdict:
    low, high = ratio.interval
    if ratio.repeats < FEWEST or low <= 1 <= high:
        return "no difference found"
    first, second = two
    return second.identifier if low > 1 else first.identifier


def _sentence(ratio: Ratio, two: tuple[WingInfo, WingInfo]) -> str:
    first, second = two
    low, high = ratio.interval
    verdict = _verdict(ratio, two)
    if verdict == second.identifier:
        numbers = f"{ratio.median:.2f} times (95% interval {low:.2f} to {high:.2f})"
        return f"Speed: {second.short} is faster here by {numbers}, {EXTENT}, over {ratio.repeats} paired repeats."
    if verdict == first.identifier:
        numbers = f"{1 / ratio.median:.2f} times (95% interval {1 / high:.2f} to {1 / low:.2f})"
        return f"Speed: {first.short} is faster here by {numbers}, {EXTENT}, over {ratio.repeats} paired repeats."
    more = "" if ratio.repeats >= FEWEST else f"; a verdict needs {FEWEST} undisturbed repeats"
    if not more and ratio.repeats_to_find is not None and ratio.repeats_to_find > ratio.repeats:
        more = f"; to find a difference of {NOTEWORTHY - 1:.0%} takes about {ratio.repeats_to_find}"
    return (
        f"Speed: no difference found; {first.short} takes {ratio.median:.2f} times as long as {second.short} "
        f"(95% interval {low:.2f} to {high:.2f}), {EXTENT}, over {ratio.repeats} paired repeats{more}."
    )

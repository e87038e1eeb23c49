"""Which framework is faster here: ratios of paired repeats, and a verdict only where the interval excludes 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from transfer_parity.shared.contract.recipe import Framework
from transfer_parity.shared.contract.results import PHASES, WorkerResult
from transfer_parity.shared.core import machine
from transfer_parity.shared.evaluation import significance

SpeedVerdict = Literal["tensorflow", "torch", "no difference found", "not compared"]
TITLES: dict[Framework, str] = {"tensorflow": "TensorFlow", "torch": "PyTorch"}
#: With fewer pairs than this every interval includes 1, whatever was measured.
FEWEST = 5
#: What a verdict is about.
EXTENT = "start to last logits"
#: A difference that one would want to know of.
NOTEWORTHY = 1.1


class Ratio(BaseModel):
    """How many times as long one of two took as the other, over paired repeats."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: str = Field(description="a phase, or all: all of them together, from the start to the last logits")
    repeats: int
    median: float = Field(description="of the ratios, TensorFlow's seconds by torch's unless something else is said")
    interval: tuple[float, float] = Field(description="95 % bootstrap confidence interval of their geometric mean")
    repeats_to_find: int | None = Field(
        None, description="repeats that would find a difference of 10 % in 9 of 10 cases, as these scatter"
    )


class Repeat(BaseModel):
    """One framework's process of one repeat."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    framework: Framework
    runtime: str
    precision: str
    number: int = Field(description="counts from 0; both frameworks of a pair have the same")
    disturbed: str | None = Field(description="why this repeat does not count, or null")
    worker: WorkerResult

    @classmethod
    def of(cls, framework: Framework, runtime: str, precision: str, number: int, worker: WorkerResult) -> Repeat:
        """A repeat, with what its worker says about being disturbed."""
        told = disturbance(worker)
        return cls(
            framework=framework, runtime=runtime, precision=precision, number=number, disturbed=told, worker=worker
        )


class Speed(BaseModel):
    """What the repeats say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
        repeats: of both frameworks under one runtime profile. Pairs with a disturbed half do not count.
    """
    pairs: dict[int, dict[Framework, Repeat]] = {}
    for repeat in repeats:
        pairs.setdefault(repeat.number, {})[repeat.framework] = repeat
    both = [pair for pair in pairs.values() if len(pair) == 2]
    whole = [
        (pair["tensorflow"].worker, pair["torch"].worker)
        for pair in both
        if not any(repeat.disturbed for repeat in pair.values())
    ]
    if reason := _obstacle(len(both), whole):
        return Speed(ratios=[], verdict="not compared", sentence=f"Speed: not compared; {reason}.")
    ratios = [
        _ratio(what, whole)
        for what in ("all", *PHASES)
        if all(_seconds(worker, what) > 0 for pair in whole for worker in pair)
    ]
    return Speed(ratios=ratios, verdict=_verdict(ratios[0]), sentence=_sentence(ratios[0]))


def against(repeats: Sequence[Repeat], others: Sequence[Repeat]) -> Ratio | None:
    """One framework's seconds in one way by its seconds in another, all phases; None with fewer than two quiet pairs.

    Args:
        repeats: of one framework in the one way.
        others: of the same framework in the other way.
    """
    quiet = {other.number: other.worker for other in others if not other.disturbed}
    pairs = [(each.worker, quiet[each.number]) for each in repeats if not each.disturbed and each.number in quiet]
    return _ratio("all", pairs) if len(pairs) > 1 else None


def _obstacle(measured: int, undisturbed: Sequence[tuple[WorkerResult, WorkerResult]]) -> str | None:
    """Why a number of pairs, of which some were left alone, cannot be compared."""
    for tensorflow, torch in undisturbed:
        if tensorflow.device != torch.device:
            return f"TensorFlow ran on {tensorflow.device}, PyTorch on {torch.device}; --device cpu would do it"
    if len(undisturbed) >= 2:
        return None
    if measured < 2:
        return f"--repeats {FEWEST} or more would do it"
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


def _verdict(ratio: Ratio) -> SpeedVerdict:
    low, high = ratio.interval
    if ratio.repeats < FEWEST or low <= 1 <= high:
        return "no difference found"
    return "torch" if low > 1 else "tensorflow"


def _sentence(ratio: Ratio) -> str:
    low, high = ratio.interval
    verdict = _verdict(ratio)
    if verdict == "torch":
        numbers = f"{ratio.median:.2f} times (95% interval {low:.2f} to {high:.2f})"
        return f"Speed: PyTorch is faster here by {numbers}, {EXTENT}, over {ratio.repeats} paired repeats."
    if verdict == "tensorflow":
        numbers = f"{1 / ratio.median:.2f} times (95% interval {1 / high:.2f} to {1 / low:.2f})"
        return f"Speed: TensorFlow is faster here by {numbers}, {EXTENT}, over {ratio.repeats} paired repeats."
    more = "" if ratio.repeats >= FEWEST else f"; a verdict needs {FEWEST} undisturbed repeats"
    if not more and ratio.repeats_to_find is not None and ratio.repeats_to_find > ratio.repeats:
        more = f"; to find a difference of {NOTEWORTHY - 1:.0%} takes about {ratio.repeats_to_find}"
    return (
        f"Speed: no difference found; TensorFlow takes {ratio.median:.2f} times as long as PyTorch "
        f"(95% interval {low:.2f} to {high:.2f}), {EXTENT}, over {ratio.repeats} paired repeats{more}."
    )

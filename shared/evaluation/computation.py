"""Do two frameworks compute the same? Their first difference that rounding does not explain.

How far rounding may part two runs is measured (``shared/runtime/short_climb.py``): one framework's run with all weights
moved by their rounding. By step k its losses have parted by c(k), the largest so far, relative to the first loss. So
rounding grows by g(k) = c(k) / c(0). Another run on the same backbone (another seed, other images) has the same growth
only roughly. For those an exponent twice as large is allowed for: ``c(k) g(k)``. Behind the last measured step nothing
is known. Where the bound is as large as what it bounds, nothing can be told. Of what cannot be
told nothing is said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from pydantic import Field

from transfer_parity.shared.contract.recipe import Shots
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.core.arrays import finite
from transfer_parity.shared.core.document import Document

#: What differs, in the order in which it is computed.
What = Literal["weights", "forward", "loss", "gradients", "parameters", "steps", "losses", "logits"]
ORDER: tuple[What, ...] = ("weights", "forward", "loss", "gradients", "parameters", "steps", "losses", "logits")
#: Two computations that round differently agree in a number by chance; in so many different numbers they do not: half
#: of all numbers would be 2^-30.
BITS = 30


class FirstDifference(Document):
    """The first thing of a matched pair of runs that differs by more than rounding."""

    what: What
    name: str | None = Field(None, description="neutral name of the layer or parameter, where it belongs to one")
    shots: Shots | None = Field(None, description="of the run; null if a check of a few images and steps found it")
    seed: int | None = None
    step: int | None = Field(None, description="from 0, if it is a loss")
    difference: float | None = Field(None, description="absolute; null where there is no number, or it is not finite")
    tolerance: float | None = Field(None, description="absolute: what rounding may make of it")

    @property
    def sentence(self) -> str:
        """What it is, in words."""
        run = "" if self.seed is None else f" (seed {self.seed}, shots {self.shots})"
        name = f" of {self.name}" if self.name else ""
        words: dict[What, str] = {
            "weights": f"the first weights differ{run}",
            "forward": f"the outputs{name} of the first weights differ",
            "loss": "the loss of the first batch differs",
            "gradients": f"the gradients{name} of the first batch differ",
            "parameters": f"the parameters{name} after the first steps differ",
            "steps": f"the numbers of training steps differ{run}",
            "losses": f"the losses part at step {(self.step or 0) + 1}{run}",
            "logits": f"the test logits differ{run}",
        }
        if self.tolerance is None:
            return words[self.what]
        by = "not finite" if self.difference is None else f"{self.difference:.1e}"
        return f"{words[self.what]} by {by}, where rounding explains {self.tolerance:.1e}"


@dataclass(frozen=True)
class Rounding:
    """How far rounding may part two runs of a matched recipe.

    Attributes:
        losses: by step, relative to the first loss: what moving the weights by their rounding changed, as far as that
            was measured.
        trained_logits: relative to the largest, of the trained ones; None if not measured.
        safety: what a measured change is multiplied by.
        few: relative rounding of a few operations, below which nothing counts.
        failed: what the check of a few images and steps found.
        measured: shots and seed of the run that it was measured in; None for every run.
        seeds: of the runs on the same backbone; None for all.
    """

    losses: Sequence[float] = ()
    trained_logits: float | None = None
    safety: float = 1.0
    few: float = 0.0
    failed: FirstDifference | None = None
    measured: tuple[Shots, int] | None = None
    seeds: frozenset[int] | None = None
    #: Largest change so far, by step.
    _curve: Array = field(init=False, repr=False, compare=False, default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        changes = np.maximum(np.asarray(self.losses, dtype=np.float64), self.few / self.safety)
        object.__setattr__(self, "_curve", np.maximum.accumulate(changes) if len(changes) else changes)

    def growth(self, step: int) -> float:
        """By what rounding has grown from the first steps until this one, from 0."""
        curve = self._curve
        return max(float(curve[step] / curve[0]), 1.0) if step < len(curve) else math.inf

    @property
    def moves_logits(self) -> bool:
        """Whether trained logits that agree to the bit say anything: not where moved weights left every bit alone."""
        return self.trained_logits != 0

    def of_run(self, shots: Shots, seed: int) -> Rounding:
        """What is known of one run."""
        if self.seeds is not None and seed not in self.seeds:
            return Rounding(safety=self.safety, few=self.few, failed=self.failed)
        return replace(self, measured=None) if self.measured == (shots, seed) else self

    def of_losses(self, steps: int) -> Array:
        """By how much the loss of every step may differ, relative to the first; infinite if nothing is known."""
        curve = self._curve
        if not len(curve):
            return np.full(steps, math.inf)
        allowed = np.full(steps, math.inf)
        known = min(steps, len(curve))
        allowed[:known] = self.safety * curve[:known]
        if self.measured is not None:
            allowed[:known] *= [self.growth(step) for step in range(known)]
        return allowed

    def of_logits(self, steps: int) -> float:
        """By how much the logits may differ after so many steps, relative to the largest; infinite if unknown."""
        if self.trained_logits is None:
            return math.inf
        growth = self.growth(steps - 1) if steps and self.measured is not None else 1.0
        return self.safety * max(self.trained_logits, self.few / self.safety) * growth


def first_difference(
    run: tuple[Shots, int],
    digests: tuple[str, str],
    losses: tuple[Array, Array],
    logits: tuple[Array, Array],
    rounding: Rounding,
    nearest: tuple[Array | None, Array | None] = (None, None),
) -> FirstDifference | None:
    """What differs first in one matched pair of runs by more than rounding; without shots and seed.

    Args:
        run: shots and seed of both.
        digests: of the first weights of both frameworks.
        losses: of all their steps, (steps,).
        logits: of the test images, (N, classes).
        rounding: measured for this recipe.
        nearest: of a transductive strategy, class and lead of each test image (``closed_forms.CosineHead``).
    """
    if digests[0] != digests[1]:
        return FirstDifference(what="weights")
    ours, theirs = losses
    rounding = rounding.of_run(*run)
    if rounding.failed is not None:
        return rounding.failed
    if len(ours) != len(theirs):
        return FirstDifference(what="steps", difference=abs(len(ours) - len(theirs)))
    if len(ours):
        size = float(np.abs(ours[0])) or 1.0
        allowed = size * rounding.of_losses(len(ours))
        with np.errstate(invalid="ignore"):
            apart = np.abs(ours - theirs)
        # A bound as large as the loss itself tells nothing.
        beyond = np.flatnonzero((apart > allowed) & (allowed < size))
        if len(beyond):
            step = int(beyond[0])
            return FirstDifference(
                what="losses", step=step, difference=finite(float(apart[step])), tolerance=float(allowed[step])
            )
    size = float(np.abs(logits[0]).max(initial=0)) or 1.0
    allowed_logits = size * rounding.of_logits(len(ours))
    known = allowed_logits < size and not tied(*nearest, allowed_logits)
    if logits[0].shape == logits[1].shape and known:
        apart_logits = float(np.abs(logits[0].astype(np.float64) - logits[1]).max(initial=0))
        if apart_logits > allowed_logits:
            return FirstDifference(what="logits", difference=finite(apart_logits), tolerance=allowed_logits)
    return None


def tied(ours: Array | None, theirs: Array | None, moved: float) -> bool:
    """Whether rounding may have given a test image to another class, so that nothing is known of what followed.

    Each of two logits may move by so much. An image that led by more in either computation is none that rounding gave
    away: then all count.

    Args:
        ours: class and lead of each test image, (N, 2); None where none was given to any.
        theirs: likewise.
        moved: by how much rounding may move a logit.
    """
    if ours is None or theirs is None or ours.shape != theirs.shape:
        return False
    apart = ours[:, 0] != theirs[:, 0]
    return bool(apart.any() and max(each[apart, 1].max() for each in (ours, theirs)) <= 2 * moved)


def copied(ours: Array, theirs: Array) -> int:
    """In how many different numbers two arrays agree to the bit, if they agree in all; otherwise 0."""
    return len(np.unique(ours)) if ours.shape == theirs.shape and bool((ours == theirs).all()) else 0

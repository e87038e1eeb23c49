"""Has training diverged? What two frameworks make of numbers that mean nothing any more says nothing about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

#: How it shows: values that are not finite, logits without a digit behind the point, or a loss that has grown.
Divergence = Literal["not finite", "logits", "loss"]
#: 1 / u of float32: neighbouring numbers are further than 1 apart there.
LARGEST_LOGIT = 2.0**24
#: So many times the loss of a classifier that knows nothing, at the end of training.
WORSE = 10.0
#: Part of the steps that are the end of training.
END = 0.1


def found(logits: NDArray[Any], losses: NDArray[Any], tasks: Sequence[int] = ()) -> Divergence | None:
    """How it shows that the training of a run has diverged, or None if it has not.

    **Logits** have an absolute rounding error of at least u times their size, u = 2^-24 in float32. From 1/u on, a
    single rounding moves a logit by 1 and so the odds of its class by a factor e: no probability can be told from
    another, and no digit of the logits is the model's own. A network whose loss is r times that of a classifier that
    knows nothing, before anything was trained, has logits of about r times the usual size (its features are large,
    as those of networks without normalisation may be), which is no divergence: the bound is r times as high.

    **Losses**: a classifier of C classes that knows nothing has a cross-entropy of ln C nats, and one that was just
    drawn has about the loss of the first step. Training is to make that smaller. It has diverged where the median loss
    of the last tenth of its steps (at least one) is ten times the larger of the two: on images that it has trained
    on, it gives the true class less than the tenth power of the probability of a guess. Spikes on the way do not count.

    Args:
        logits: of the test images, (N, classes).
        losses: of all training steps in order, (steps,); none where nothing is trained in steps.
        tasks: number of classes of each, if there are several, whose losses are summed.
    """
    if not (np.isfinite(logits).all() and np.isfinite(losses).all()):
        return "not finite"
    guess = float(np.log(np.maximum(tasks or logits.shape[1], 2)).sum())
    first = max(guess, float(losses[0])) if len(losses) else guess
    if len(losses):
        last = losses[-max(1, round(END * len(losses))) :]
        if float(np.median(last)) > WORSE * first:
            return "loss"
    if logits.size and float(np.abs(logits).max()) > LARGEST_LOGIT * first / guess:
        return "logits"
    return None


def in_words(kind: Divergence) -> str:
    """What shows it, as a part of a sentence."""
    words: dict[Divergence, str] = {
        "not finite": "logits or losses are not all finite",
        "logits": f"logits are beyond {LARGEST_LOGIT:.0e}, where float32 has no digits behind the point",
        "loss": f"the loss ended at more than {WORSE:g} times what it began with",
    }
    return words[kind]

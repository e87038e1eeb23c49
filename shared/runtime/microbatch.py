"""How many images a network takes at a time so that their feature maps stay in the processor's cache."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

#: Bytes of feature maps that are worked on at a time: half of a last-level cache of 32 MiB, since weights pass through
#: it, too.
CACHE_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Step:
    """One operation of a network.

    Attributes:
        working: bytes of all maps that are there while it computes, for one image.
        leaving: bytes of its output if nothing else is needed behind it, else None.
    """

    working: int
    leaving: int | None


@dataclass(frozen=True)
class Stretch:
    """Operations that follow each other.

    Attributes:
        start: index of the first one.
        stop: index behind the last one, whose output is the only thing needed further on.
        microbatch: number of images that they take at a time, a power of two.
    """

    start: int
    stop: int
    microbatch: int


def stretches(steps: Sequence[Step], cache_bytes: int = CACHE_BYTES) -> list[Stretch]:
    """Where to cut a network whose feature maps shrink on the way through it, so that later parts take more images.

    Args:
        steps: all operations in their order, at least one.
        cache_bytes: of the maps that are needed at a time.

    Returns:
        Stretches that cover all operations, each with larger microbatches than the one before.
    """
    fitting = [_power_of_two(cache_bytes // max(1, step.working)) for step in steps]
    # What is taken together stays together.
    fitting = list(itertools.accumulate(reversed(fitting), min))[::-1]
    rises = [index + 1 for index, (here, after) in enumerate(itertools.pairwise(fitting)) if here < after]
    found, start = [], 0
    for rise, following in itertools.pairwise([*rises, len(steps)]):
        # Putting microbatches together is a copy: where there is least to copy, even if that is a little later.
        sizes = {end: size for end in range(rise, following) if (size := steps[end - 1].leaving) is not None}
        if sizes:
            end = min(sizes, key=sizes.__getitem__)
            found.append(Stretch(start, end, fitting[start]))
            start = end
    return [*found, Stretch(start, len(steps), fitting[start])]


def _power_of_two(limit: int) -> int:
    """The largest one that is not above a limit, and at least 1."""
    return 1 << max(0, limit.bit_length() - 1)

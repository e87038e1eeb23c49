"""Engines: how a network can be run in inference mode, and which of them pays for its set-up.

What is chosen follows from the work alone, never from how fast a machine is at the moment: two engines round in other
ways, and a recipe that is carried out again must give the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Multiply-adds a second and thread of a large float32 matrix product. Measured like the numbers below. A machine that
#: is twice as fast needs twice the work before set-up pays, so a wrong choice costs it less than that set-up.
RATE = 48e9
#: Part of the machine's rate of matrix products that a network reaches as it is, about: one that waits for memory, and
#: one that does little else than products of matrices. Measured on two cores; docs/speed.md says on which.
DEPTHWISE_EFFICIENCY, DENSE_EFFICIENCY = 0.35, 0.85


@dataclass(frozen=True)
class Engine:
    """How a network can be run in inference mode.

    Attributes:
        name: the field's word for it.
        setup_seconds: what it takes to prepare it, about.
        speedup: how much faster it is than the network as it is, about.
        efficiency: part of the machine's rate of matrix products that the network as it is reaches, about.
    """

    name: str
    setup_seconds: float = 0.0
    speedup: float = 1.0
    efficiency: float = DEPTHWISE_EFFICIENCY


@dataclass(frozen=True)
class Choice:
    """The engine of one pass.

    Attributes:
        name: of the engine.
        reason: why, in a few words.
    """

    name: str
    reason: str


def efficiency(depthwise: bool) -> float:
    """Part of the machine's rate of matrix products that a network reaches, with depthwise convolutions or without."""
    return DEPTHWISE_EFFICIENCY if depthwise else DENSE_EFFICIENCY


def choose(engines: Sequence[Engine], multiply_adds: float, threads: int) -> Choice:
    """The engine with which a pass should end first, by constants: the same work always gets the same one.

    Args:
        engines: at least one; the first is the network as it is.
        multiply_adds: of the whole pass.
        threads: of the framework.
    """
    plain = engines[0]
    seconds = multiply_adds / (plain.efficiency * RATE * threads)
    best = min(engines, key=lambda engine: engine.setup_seconds + seconds / engine.speedup)
    if len(engines) == 1:
        return Choice(best.name, "the only way here")
    if best is plain:
        next_best = min(engines[1:], key=lambda engine: engine.setup_seconds)
        return Choice(
            best.name, f"{seconds:.1f} s of work do not pay for {next_best.setup_seconds:.1f} s of {next_best.name}"
        )
    saved = seconds - seconds / best.speedup
    return Choice(best.name, f"saves about {saved:.1f} of {seconds:.1f} s for {best.setup_seconds:.1f} s of set-up")

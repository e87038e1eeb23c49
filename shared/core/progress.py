"""How a piece of work says how far it is, and a forecast of how long the whole of it will still take."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

#: Called with a description, the bytes that have arrived and the bytes expected.
Progress = Callable[[str, int, int], None]

#: Seconds of guessed work that a measured rate has to outweigh.
TRUST = 0.5
#: Of the time by which something takes longer than expected, the part that it is now expected to go on for.
OVERRUN = 0.25
#: How much of what was seen of one program, as an exponent, is expected of another.
ALIKE = 0.5


@dataclass(frozen=True)
class Part:
    """A stretch of work that takes one process a while.

    Attributes:
        kind: parts of one kind turn out longer or shorter than guessed by about the same factor.
        guess: seconds, before anything was measured.
        whose: which program does the work; one may be quicker than the other.
        silent: nothing is heard of it before the next part has begun.
    """

    kind: str
    guess: float
    whose: str = ""
    silent: bool = False


@dataclass
class _Lane:
    """Parts that one process does one after the other, and how far it is."""

    parts: list[Part]
    at: int = 0
    fraction: float = 0.0
    #: When something was last heard of it; None before it has begun.
    heard: float | None = None


@dataclass
class _Measured:
    seconds: float = 0.0
    guess: float = 0.0


@dataclass
class Forecast:
    """What a command has still to do, in parts whose costs are guessed in advance and measured as they are done.

    Safe to use from several threads.

    Attributes:
        clock: gives seconds; never runs backwards.
    """

    clock: Callable[[], float] = time.monotonic
    _lanes: dict[str, _Lane] = field(default_factory=dict)
    _measured: dict[tuple[str, str], _Measured] = field(default_factory=dict)
    _at_once: int = 1
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def plan(self, lanes: Mapping[str, Sequence[Part]], at_once: int = 1) -> None:
        """There is this to do, besides what is already planned.

        Args:
            lanes: by name, the parts of each process, in order. One of a name that is known replaces that.
            at_once: how many processes run at the same time.
        """
        with self._lock:
            self._at_once = max(1, at_once)
            self._lanes |= {name: _Lane(list(parts)) for name, parts in lanes.items()}

    def begin(self, lane: str) -> None:
        """A process starts."""
        with self._lock:
            if (found := self._lanes.get(lane)) is not None:
                found.heard = self.clock()

    def advance(self, lane: str, kind: str, fraction: float) -> None:
        """A process is so far with the next part of a kind, 0 to 1. Parts that it has passed over took no time."""
        with self._lock:
            found = self._lanes.get(lane)
            if found is not None and (place := _next(found, kind, fraction)) is not None:
                self._move(found, place, fraction)

    def end(self, lane: str) -> None:
        """A process has ended, and with it all that it had to do."""
        with self._lock:
            if (found := self._lanes.get(lane)) is None:
                return
            left = [(part, 1.0) for part in found.parts[found.at :]]
            if left:
                left[0] = (left[0][0], 1 - found.fraction)
            guess = sum(part.guess * fraction for part, fraction in left)
            if found.heard is not None and guess > 0:
                factor = (self.clock() - found.heard) / guess
                for part, fraction in left:
                    self._measure(part, part.guess * fraction * factor, fraction)
            found.at = len(found.parts)

    def forget(self) -> None:
        """What was planned and has not begun is planned no more."""
        with self._lock:
            self._lanes = {name: lane for name, lane in self._lanes.items() if lane.heard is not None}

    def remaining(self) -> float | None:
        """Seconds until everything is done that is planned, or None if nothing is."""
        with self._lock:
            if not self._lanes:
                return None
            overdue = [each for lane in self._lanes.values() if (each := self._overdue(lane)) is not None]
            left = [self._left(lane, overdue) for lane in self._lanes.values()]
            return max(max(left), sum(left) / self._at_once)

    def _move(self, lane: _Lane, place: int, fraction: float) -> None:
        now = self.clock()
        began, lane.heard = lane.heard, now
        between = lane.parts[lane.at + 1 : place]
        quiet = next((part for part in between if part.silent), None)
        if began is None:
            # Nobody said when it began, so nothing can be learnt from the time.
            between = []
        elif place == lane.at:
            self._measure(lane.parts[place], now - began, fraction - lane.fraction)
        elif lane.fraction < 1:
            self._measure(lane.parts[lane.at], now - began, 1 - lane.fraction)
        elif quiet is not None:
            self._measure(quiet, now - began, 1)
        else:
            self._measure(lane.parts[place], now - began, fraction)
        for part in between:
            if not part.silent:
                self._measure(part, 0, 1)
        lane.at, lane.fraction = place, fraction

    def _measure(self, part: Part, seconds: float, fraction: float) -> None:
        measured = self._measured.setdefault((part.whose, part.kind), _Measured())
        measured.seconds += seconds
        measured.guess += part.guess * max(0.0, fraction)

    def _overdue(self, lane: _Lane) -> _Measured | None:
        """What is known of a part that takes longer than guessed before it has ended: at least so much."""
        if lane.heard is None or lane.at >= len(lane.parts) or lane.fraction >= 1:
            return None
        passed, guess = self.clock() - lane.heard, lane.parts[lane.at].guess * (1 - lane.fraction)
        return _Measured(passed, guess) if passed > guess else None

    def _factor(self, part: Part, overdue: Sequence[_Measured]) -> float:
        """How much longer than guessed a part is expected to take: as its kind did here, else elsewhere, else all."""
        of_kind = {key: each for key, each in self._measured.items() if key[1] == part.kind}
        factor = _shrunk([*self._measured.values(), *overdue], 1.0)
        factor = _shrunk(of_kind.values(), factor)
        # One program may be quick where another one is slow.
        return _shrunk((each for key, each in of_kind.items() if key[0] == part.whose), math.pow(factor, ALIKE))

    def _left(self, lane: _Lane, overdue: Sequence[_Measured]) -> float:
        """Seconds that a process will still take."""
        left = [part.guess * self._factor(part, overdue) for part in lane.parts[lane.at :]]
        if not left:
            return 0.0
        current = left[0] * (1 - lane.fraction)
        if lane.heard is not None:
            passed = self.clock() - lane.heard
            rest = current + sum(left[1:])
            # Whatever comes next may be what is being waited for.
            waiting = current if lane.fraction < 1 else left[1] if len(left) > 1 else 0.0
            return max(rest - min(passed, waiting), 0.0) + OVERRUN * max(0.0, passed - waiting) * (waiting > 0)
        return current + sum(left[1:])


def _shrunk(found: Iterable[_Measured], factor: float) -> float:
    """The ratio of seconds to guesses, which outweighs what was expected before the more, the more it rests on."""
    seconds, guess = TRUST * factor, TRUST
    for each in found:
        seconds, guess = seconds + each.seconds, guess + each.guess
    return seconds / guess


def _next(lane: _Lane, kind: str, fraction: float) -> int | None:
    """The place of the part of a kind that is so far: the current one unless it was farther, else one behind it."""
    for place in range(lane.at, len(lane.parts)):
        if lane.parts[place].kind == kind and (place > lane.at or fraction >= lane.fraction):
            return place
    return None


class Meter:
    """A ``Progress`` that also foresees the whole.

    Attributes:
        forecast: of everything that the command does.
    """

    def __init__(self, show: Progress, forecast: Forecast) -> None:
        self.show, self.forecast = show, forecast

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show how far one thing is."""
        self.show(what, done, total)

    def aside(self) -> AbstractContextManager[None]:
        """Within this block something else may be printed."""
        return nullcontext()


def forecast_of(progress: Progress) -> Forecast:
    """The forecast behind a progress; one that nobody reads if there is none."""
    return progress.forecast if isinstance(progress, Meter) else Forecast()


def labelled(progress: Progress, label: str) -> Progress:
    """The same, with a label in front of every description."""

    def show(what: str, done: int, total: int) -> None:
        progress(f"{label}, {what}", done, total)

    return Meter(show, progress.forecast) if isinstance(progress, Meter) else show

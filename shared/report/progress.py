"""How far a command is: a bar on a terminal, else lines; with the time that the whole command will still take."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

from transfer_parity.shared.core.progress import Forecast, Meter

#: Seconds between looks at the clock, and between lines where there is no terminal.
TICK, LINE_EVERY = 1.0, 30.0


@contextmanager
def progress(console: Console) -> Iterator[Meter]:
    """What shows how far the work is, until the end of the block; nothing of a bar is left behind."""
    display = _Bar(console) if console.is_terminal else _Lines(console)
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(TICK):
            display.tick()

    thread = threading.Thread(target=tick, daemon=True)
    display.start()
    thread.start()
    try:
        yield display
    finally:
        stop.set()
        thread.join()
        display.stop()


class _Display(Meter):
    """Remembers what was told last, and how much of everything is done by the clock."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(self._told, Forecast(clock))
        self.console, self.clock = console, clock
        self.began = clock()
        self.what, self.done, self.total = "starting", 0, 0
        self._lock = threading.RLock()

    def _told(self, what: str, done: int, total: int) -> None:
        with self._lock:
            is_new = what != self.what
            self.what, self.done, self.total = what, done, total
            self.heard(is_new)

    @property
    def part(self) -> float | None:
        """How much is done, 0 to 1: of the whole by the clock where that is foreseen, else of what is being done."""
        left = self.forecast.remaining()
        if left is not None:
            passed = self.clock() - self.began
            return passed / max(passed + left, 1e-9)
        return self.done / self.total if self.total else None

    def heard(self, is_new: bool) -> None:
        """Something was told."""

    def tick(self) -> None:
        """Some time has passed."""

    def start(self) -> None:
        """Begin to show."""

    def stop(self) -> None:
        """Show nothing any more."""


class _Bar(_Display):
    """One line that changes in place."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TextColumn("{task.fields[left]}", markup=False),
        )
        # Results go to standard output as they are, and not through this console.
        self._bars = Progress(*columns, console=console, transient=True, redirect_stdout=False)
        self._task = self._bars.add_task("starting", total=None, left="")

    def heard(self, is_new: bool) -> None:
        if is_new:
            self.tick()

    def tick(self) -> None:
        with self._lock:
            part, left = self.part, self.forecast.remaining()
            self._bars.update(
                self._task,
                description=plain(self.what),
                completed=part or 0,
                total=None if part is None else 1,
                left="" if left is None else f"{duration(left)} left",
            )

    def start(self) -> None:
        self._bars.start()

    def stop(self) -> None:
        self._bars.stop()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Within this block the line is not there."""
        self._bars.stop()
        try:
            yield
        finally:
            self._bars.start()


class _Lines(_Display):
    """One line for each new thing, at most one a second, since a log keeps them all; and one at least every while."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(console, clock)
        self._printed = clock()
        self._line = ""

    def heard(self, is_new: bool) -> None:
        if self.what != self._line and (not self._line or self.clock() - self._printed > 1):
            self._print(self.what)

    def tick(self) -> None:
        with self._lock:
            if self.clock() - self._printed >= LINE_EVERY:
                part, left = self.part, self.forecast.remaining()
                so_far = "" if part is None else f", {part:.0%}"
                self._print(f"{self.what}{so_far}" + ("" if left is None else f", about {duration(left)} left"))

    def _print(self, text: str) -> None:
        self._line, self._printed = self.what, self.clock()
        self.console.print(plain(text), markup=False, highlight=False, soft_wrap=True)


def plain(text: str) -> str:
    """Without what a terminal would act on; names of files and classes can hold anything."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def duration(seconds: float) -> str:
    """For people: no more digits than an estimate has."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"

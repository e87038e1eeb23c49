"""A request to end, from wherever it comes, ends a command like Ctrl-C: workers stop, and what is finished is kept."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

#: As far as the system has them: kill and shutdown, a terminal that closes.
_NAMES = ("SIGTERM", "SIGHUP")
#: Exit status after Ctrl-C; after another signal it is 128 and the signal's number, as shells have it.
INTERRUPTED = 130


class Ended(KeyboardInterrupt):
    """A signal other than Ctrl-C has asked for the end.

    Attributes:
        exit_status: that tells which.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_status = 128 + number


@contextlib.contextmanager
def like_an_interrupt() -> Iterator[None]:
    """Within this block SIGTERM and SIGHUP raise ``Ended`` in the main thread, the first time.

    A signal that is ignored stays ignored, as under nohup. Elsewhere than in the main thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = [number for name in _NAMES if (number := getattr(signal, name, None)) is not None]
    before = {number: signal.getsignal(number) for number in signals}

    def end(number: int, frame: FrameType | None) -> None:
        # Once is enough: what is finished is being put in order now.
        for each in chosen:
            signal.signal(each, signal.SIG_IGN)
        raise Ended(number)

    chosen = [number for number in signals if before[number] == signal.SIG_DFL]
    for number in chosen:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in chosen:
            signal.signal(number, before[number])


def exit_status(error: KeyboardInterrupt) -> int:
    """Of a command that was interrupted."""
    return error.exit_status if isinstance(error, Ended) else INTERRUPTED

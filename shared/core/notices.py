"""What a run has to tell people beside its results: one sentence each, and each of them once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Where nobody listens, as in a program that uses this as a library, Python writes warnings to standard error.
_LOG = logging.getLogger("transfer_parity")


def say(sentence: str) -> None:
    """Tell whoever listens. Threads may do so at the same time."""
    _LOG.warning("%s", sentence)


@contextmanager
def heard(listen: Callable[[str], object]) -> Iterator[None]:
    """Within this block a function hears the sentences; what is said again is heard once."""
    handler = _Once(listen)
    propagated, _LOG.propagate = _LOG.propagate, False
    _LOG.addHandler(handler)
    try:
        yield
    finally:
        _LOG.removeHandler(handler)
        _LOG.propagate = propagated


class _Once(logging.Handler):
    def __init__(self, listen: Callable[[str], object]) -> None:
        super().__init__()
        self._listen = listen
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        sentence = record.getMessage()
        # A handler's lock is held here.
        if sentence not in self._said:
            self._said.add(sentence)
            self._listen(sentence)

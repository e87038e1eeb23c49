"""Standard output and standard error that nothing can spoil: closed, full, or of an encoding without our characters."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO


class Stream:
    """Passes text on until that fails, and forgets the rest: what was computed matters more than who reads of it.

    Attributes:
        failure: why nothing more can be written, or None. That a reader has gone is no failure.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.failure: OSError | None = None
        # Otherwise a locale decides whether a plus-minus sign ends the program.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Write, or forget."""
        with self._guarded() as stream:
            stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Hand on what has been collected."""
        with self._guarded() as stream:
            stream.flush()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        """Of the stream behind this one."""
        if self._stream is None:
            raise io.UnsupportedOperation("it is closed")
        return self._stream.fileno()

    @property
    def encoding(self) -> str:
        """Of the stream behind this one."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def __getattr__(self, name: str) -> Any:
        # Whatever else somebody asks of a stream, such as its buffer.
        return getattr(self.__dict__["_stream"], name)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[TextIO]:
        try:
            yield io.StringIO() if self._stream is None else self._stream
        except (OSError, ValueError) as error:
            # ValueError: somebody has closed it.
            if isinstance(error, OSError) and error.errno != errno.EPIPE:
                self.failure = error
            self._give_up()

    def _give_up(self) -> None:
        """Python itself would complain at the end about what it could not write."""
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
        self._stream = None


@contextlib.contextmanager
def guarded() -> Iterator[Stream]:
    """Within this block both streams are such; gives the one of standard output. All is written at the end of it."""
    before = sys.stdout, sys.stderr
    output, errors = Stream(sys.stdout), Stream(sys.stderr)
    sys.stdout, sys.stderr = output, errors
    try:
        yield output
    finally:
        output.flush()
        errors.flush()
        sys.stdout, sys.stderr = before

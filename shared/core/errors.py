"""The ways in which a command can fail, and the exit status of each."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

IDENTICAL_OR_EQUIVALENT = 0
DIFFERENT_OR_INCONCLUSIVE = 1
BAD_INPUT = 2
WORKER_FAILED = 3
#: Of a mistake in this program, as <sysexits.h> has it.
DEFECT = 70


class BadInput(Exception):
    """Something the user gave cannot be used. The message is one sentence that says what to do."""

    exit_status = BAD_INPUT


class WorkerFailed(Exception):
    """A framework's process ended without finishing its job.

    Attributes:
        framework: whose process it was.
        last_words: the end of what it wrote to its error output.
    """

    exit_status = WORKER_FAILED

    def __init__(self, message: str, framework: str, last_words: str = "") -> None:
        super().__init__(message)
        self.framework = framework
        self.last_words = last_words


def normalised(name: str) -> str:
    """A name without case, dashes, underscores and dots, so that ``mobilenet_v2`` finds ``MobileNetV2``."""
    return "".join(character for character in name.lower() if character.isalnum())


def did_you_mean(given: str, valid: Iterable[str]) -> str:
    """A clause that suggests the nearest valid name, or lists all of them if none is near.

    Returns:
        ``"did you mean 'x'?"`` or ``"choose from a, b, c"``, without leading space.
    """
    names = list(valid)
    near = nearest(given, names)
    return f"did you mean {near!r}?" if near is not None else "choose from " + ", ".join(names)


def nearest(given: str, valid: Iterable[str]) -> str | None:
    """The valid name that is most like a given one, or None if none is like it."""
    by_key = {normalised(name): name for name in valid}
    near = difflib.get_close_matches(normalised(given), by_key, n=1, cutoff=0.6)
    return by_key[near[0]] if near else None

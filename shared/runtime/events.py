"""What a framework's process tells the parent: how far the work is."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any, Literal

#: Work whose steps take about as long as each other, in any run.
Kind = Literal["features", "training", "inference", "explaining"]


class Events:
    """Tells the parent how far the work is, as JSON lines."""

    def __init__(self) -> None:
        # Frameworks print to standard output as they please. Keep the real one for events, hand them standard error.
        self._stream = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)

    def tell(self, event: str, **details: Any) -> None:
        """Write one event."""
        self._stream.write(json.dumps({"event": event, **details}) + "\n")

    def progress(self, phase: str, total: int, kind: Kind | None = None) -> Callable[[int], None]:
        """A function that counts steps of a phase and tells the parent at most ten times a second.

        Args:
            phase: for people.
            total: number of steps.
            kind: for forecasts; phases of one kind take as long a step.
        """
        done, told = 0, 0.0

        def advance(steps: int = 1) -> None:
            nonlocal done, told
            done += steps
            if done >= total or time.monotonic() - told > 0.1:
                told = time.monotonic()
                self.tell("progress", phase=phase, kind=kind, done=done, total=total)

        return advance

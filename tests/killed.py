"""What a process does that a test kills: a module of its own, which that process can import by its name."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from transfer_parity.shared.core.run_folder import claimed


def killed_within(folder: Path, moment: str) -> None:
    """What a process does that is killed at a moment of its commit."""
    moves = 0
    replace, unlink = Path.replace, Path.unlink

    def counted(action: Callable[..., object], kind: str) -> Callable[..., object]:
        def act(*arguments: object, **options: object) -> object:
            nonlocal moves
            moves += 1
            if f"{kind} {moves}" == moment or f"any {moves}" == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            return action(*arguments, **options)

        return act

    with claimed(folder) as run:
        for name in ("a", "b/c", "new"):
            (run.stage / name).parent.mkdir(parents=True, exist_ok=True)
            (run.stage / name).write_text("new")
        Path.replace, Path.unlink = counted(replace, "replace"), counted(unlink, "unlink")  # type: ignore[method-assign,assignment]
        run.commit()
    os._exit(0)

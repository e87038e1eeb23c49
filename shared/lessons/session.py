"""A process that stays alive over a notebook, and what the notebook asks of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.contract.wings import WINGS, WingInfo
from transfer_parity.shared.core import scratch
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.lessons import cell_process
from transfer_parity.shared.runtime import installed, launch

#: Called with "stdout" or "stderr", and with what a cell prints there, as soon as it does.
Printer = Callable[[str, str], None]
#: Seconds that an interrupted cell has to end.
PATIENCE = 5
#: What the process itself, and libraries that are no Python, write.
LOG = "errors.log"
#: Lines of it that are shown when the process has died.
LAST_WORDS = 3
#: Lessons compute on the CPU unless the user says otherwise, so that their numbers are the same everywhere.
DEVICES = {"CUDA_VISIBLE_DEVICES": "-1"}


class CellFailed(Exception):
    """A cell raised something; the message is its traceback."""


class SessionEnded(Exception):
    """The process of the cells is gone; the message is one sentence that says what to do.

    Attributes:
        last_words: what it wrote last to its error output.
    """

    def __init__(self, message: str, last_words: str) -> None:
        super().__init__(message)
        self.last_words = last_words


@dataclass(frozen=True)
class Outcome:
    """What came of a cell.

    Attributes:
        value: ``repr`` of its last line, if that is an expression whose value is not None.
        arrays: those that were asked for, by name.
    """

    value: str | None
    arrays: dict[str, Array]


class Session:
    """One process, which starts with the first cell; what a cell defines, the next one finds."""

    def __init__(self, title: str, absent: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> None:
        """A session that is called ``title`` in sentences, and in which the packages ``absent`` cannot be imported."""
        self.title, self._absent = title, tuple(absent)
        self._environment = dict(os.environ if environment is None else environment)
        self._process: subprocess.Popen[str] | None = None
        self._open = contextlib.ExitStack()
        self._folder = Path()
        self._cells = 0

    def run(
        self, code: str, show: Printer, inputs: Mapping[str, Array] | None = None, outputs: Sequence[str] = ()
    ) -> Outcome:
        """Run a cell and wait for it.

        Args:
            code: of the cell.
            show: gets what it prints.
            inputs: arrays that it finds under their names.
            outputs: names of what is handed back as arrays.

        Raises:
            CellFailed: it raised something.
            BadInput: what is to be handed over is no array.
            SessionEnded: the process died.
        """
        self._start()
        self._cells += 1
        given = {name: self._folder / f"{self._cells}-in-{name}.npy" for name in inputs or {}}
        wanted = {name: self._folder / f"{self._cells}-out-{name}.npy" for name in outputs}
        request = {"code": code, "number": self._cells, "inputs": _paths(given), "outputs": _paths(wanted)}
        try:
            for name, array in (inputs or {}).items():
                np.save(given[name], array, allow_pickle=False)
            value = self._carried_out(request, show)
            arrays = {name: np.load(path, allow_pickle=False) for name, path in wanted.items()}
        finally:
            # Also of a cell that failed: arrays may be large, and people try again.
            for path in (*given.values(), *wanted.values()):
                path.unlink(missing_ok=True)
        return Outcome(value, arrays)

    def _carried_out(self, request: Mapping[str, Any], show: Printer) -> str | None:
        """``repr`` of the last line of a cell."""
        try:
            self._ask(request)
            return self._follow(show)
        except KeyboardInterrupt:
            self._interrupt(show)
            raise
        except (CellFailed, BadInput, SessionEnded):
            raise
        except BaseException:
            # The cell still runs, and the next one must not hear what this one says.
            self.close()
            raise

    def close(self) -> None:
        """End the process. The next cell starts a new one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()
        self._open.close()
        self._cells = 0

    def _start(self) -> None:
        if self._process is not None:
            return
        self._folder = self._open.enter_context(scratch.folder("transfer-parity-lesson-"))
        errors = self._open.enter_context((self._folder / LOG).open("wb"))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", cell_process.__name__, *self._absent],
            env=self._environment | {"PYTHONIOENCODING": "utf-8", "TMPDIR": str(self._folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
            # An interruption reaches it by way of this process alone.
            start_new_session=True,
        )

    def _ask(self, request: Mapping[str, Any]) -> None:
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def _follow(self, show: Printer) -> str | None:
        """Hear what a cell does until it is done. Returns ``repr`` of its last line."""
        assert self._process is not None and self._process.stdout is not None
        value: str | None = None
        trouble: Exception | None = None
        for line in self._process.stdout:
            event: dict[str, Any] = json.loads(line)
            match event["event"]:
                case "output":
                    show(event["stream"], event["text"])
                case "value":
                    value = event["text"]
                case "failed":
                    trouble = CellFailed(event["text"])
                case "refused":
                    trouble = BadInput(event["text"])
                case "done":
                    if trouble is not None:
                        raise trouble
                    return value
        raise self._ended()

    def _interrupt(self, show: Printer) -> None:
        """Stop the cell; if it does not listen, the process. Whoever interrupts again is waiting for the same."""
        assert self._process is not None
        process = self._process
        process.send_signal(signal.SIGINT)
        deadline = threading.Timer(PATIENCE, process.kill)
        deadline.start()
        done = False
        try:
            while not done:
                # No JSON is what is left of a line that an interruption has cut.
                with contextlib.suppress(KeyboardInterrupt, json.JSONDecodeError):
                    with contextlib.suppress(CellFailed, BadInput, SessionEnded):
                        self._follow(show)
                    done = True
        finally:
            deadline.cancel()
            if not done:
                self.close()

    def _ended(self) -> SessionEnded:
        """What to say of a process that is gone."""
        assert self._process is not None
        status = self._process.wait()
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
        written = (self._folder / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        self.close()
        return SessionEnded(
            f"the process of {self.title} {how}, and what its cells had made is gone; run them again from the first, "
            "which starts a new one.",
            "\n".join(written[-LAST_WORDS:]),
        )


def of_wing(wing: WingInfo) -> Session:
    """A session for the cells of a wing's framework; the other frameworks cannot be imported there.

    Raises:
        BadInput: the framework is not installed.
    """
    installed.make_sure_of([wing.identifier])
    # One thread: enough for what lessons compute, and two would wait for each other on a busy machine.
    environment = DEVICES | launch.environment(threads=1)
    if wing.backend_variable:
        environment[wing.backend_variable] = wing.backends[0]
    others = [package for each in WINGS if each is not wing for package in each.packages]
    return Session(f"%%{wing.identifier}", others, environment)


def _paths(files: Mapping[str, Path]) -> dict[str, str]:
    return {name: str(path) for name, path in files.items()}

"""Programs of tests in processes of their own, since pytest's imports no framework."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import ROOT
from transfer_parity.shared.contract.wings import KERAS
from transfer_parity.shared.runtime import start

#: Imports Keras as a worker does: without what it only finds, and without a collection of garbage on the way.
_KERAS_FIRST = f"""
import gc
from {start.__name__} import end_imports, hide_extras
gc.disable()
hide_extras()
import {KERAS.package}, keras
end_imports()
"""


def python(program: str, *arguments: object) -> str:
    """Run a program, with this project on its path. Returns what it prints."""
    first = _KERAS_FIRST if KERAS.package.rpartition(".")[2] in program else ""
    command = [sys.executable, "-c", first + program, *map(str, arguments)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-4000:]
    return finished.stdout


def last_line(program: str, *arguments: object) -> str:
    """The last line that a program prints."""
    return python(program, *arguments).splitlines()[-1]

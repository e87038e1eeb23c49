"""Starts a wing's worker: ``python -m transfer_parity.shared.runtime.start WING JOB_FOLDER [--as-installed]``.

A framework's import makes some hundred thousand Python objects that stay. The garbage collector would look through them
again and again while they become more, which takes a fifth of the time that the import takes.
"""

from __future__ import annotations

import gc
import os
import runpy
import sys
import time

from transfer_parity.shared.core import lifeline

#: Set by the launcher: when it started this process, by ``time.monotonic()``, which all processes of a machine share
#: and which nobody sets back.
SPAWNED_AT = "TRANSFER_PARITY_SPAWNED_AT"
#: Leaves Python as it is.
AS_INSTALLED = "--as-installed"


def main() -> None:
    """Run a package as a program, with the collector off; ``collect_again`` ends that.

    A package or a library that cannot be imported is one sentence on standard error, and an exit status of 1.
    """
    lifeline.tie()
    if AS_INSTALLED in sys.argv:
        sys.argv.remove(AS_INSTALLED)
    else:
        gc.disable()
    wing = sys.argv.pop(1)
    try:
        runpy.run_module(wing, run_name="__main__", alter_sys=True)
    except ImportError as error:
        sys.exit(f"{wing} cannot be imported: {error}")


def seconds_since() -> float:
    """Seconds since the launcher started this process; 0 if nobody says when that was."""
    now = time.monotonic()
    # A clock of this process alone, which some system may have, could be behind.
    return max(0.0, now - float(os.environ.get(SPAWNED_AT, now)))


def collect_again() -> None:
    """Collect garbage again, but none among what has been imported."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


if __name__ == "__main__":
    main()

"""Starts a wing's worker: ``python -m transfer_parity.shared.runtime.start WING JOB_FOLDER [OPTIONS]``.

A framework's import makes some hundred thousand Python objects that stay. The garbage collector would look through them
again and again while they become more, which takes a fifth of the time that the import takes.

A library may also import what it does not need but finds: Keras imports scikit-learn, matplotlib, pandas and IPython
for its wrappers and plots, which takes a third of its own time. Of these this project itself needs two, for its own
tables and plots. Seconds of a framework's start should not tell of that, so they are out of sight until its import has
ended.
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
#: Hides what a library imports only because it is there. Nothing that a worker runs needs it by way of the library.
WITHOUT_EXTRAS = "--without-extras"
EXTRAS = ("IPython", "matplotlib", "pandas", "sklearn")


def main() -> None:
    """Run a package as a program, with the collector off and the extras hidden; ``end_imports`` ends both.

    A package or a library that cannot be imported is one sentence on standard error, and an exit status of 1.
    """
    lifeline.tie()
    if AS_INSTALLED in sys.argv:
        sys.argv.remove(AS_INSTALLED)
    else:
        gc.disable()
    if WITHOUT_EXTRAS in sys.argv:
        sys.argv.remove(WITHOUT_EXTRAS)
        hide_extras()
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


def hide_extras() -> None:
    """Nothing finds the extras until ``end_imports``: what is None among the modules cannot be imported."""
    sys.modules.update(dict.fromkeys(EXTRAS))  # type: ignore[arg-type]


def end_imports() -> None:
    """Whatever is installed can be imported again; garbage is collected, but none among what has been imported."""
    for name in EXTRAS:
        if sys.modules.get(name, sys) is None:
            del sys.modules[name]
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


if __name__ == "__main__":
    main()

"""No process outlives the one that started it: not even if that is killed, and cannot say so any more."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

#: Set by whoever starts a process: its own number.
PARENT = "TRANSFER_PARITY_PARENT"
_LINUX = sys.platform.startswith("linux")
#: What the standard input of a process has to be: where the kernel does not tell, the end of a pipe does.
STDIN = subprocess.DEVNULL if _LINUX else subprocess.PIPE
#: From Linux's <sys/prctl.h>: the signal that a process gets when the thread that started it ends.
_PR_SET_PDEATHSIG = 1


def environment() -> dict[str, str]:
    """What a process that is started from here has to find in its environment."""
    return {PARENT: str(os.getpid())}


def tie() -> None:
    """End this process with the one that started it."""
    if not _LINUX:
        threading.Thread(target=watch, args=(sys.stdin.fileno(),), daemon=True).start()
        return
    _ask_the_kernel()
    # It may have ended before the kernel was asked.
    if os.environ.get(PARENT, "") not in ("", str(os.getppid())):
        os._exit(1)


def tied(command: list[str]) -> list[str]:
    """A command that ends with this process, where the kernel sees to it; elsewhere as it is."""
    return [sys.executable, "-P", "-m", __name__, *command] if _LINUX else command


def watch(descriptor: int) -> None:
    """Wait for the end of a pipe whose other end the parent alone holds, then end this process."""
    with contextlib.suppress(OSError):
        while os.read(descriptor, 1):
            pass
    os._exit(1)


def _ask_the_kernel() -> None:
    # Here, since the parent has no use for it.
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    tie()
    # The kernel keeps its promise to whatever this process becomes.
    os.execvp(sys.argv[1], sys.argv[1:])

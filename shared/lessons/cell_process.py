"""The process in which the cells of one framework run: ``python -P -m transfer_parity.shared.lessons.cell_process``.

It reads requests as JSON lines from standard input and tells what happens as JSON lines on standard output. What a cell
defines stays for the next one. Everything ends with standard input.
"""

from __future__ import annotations

import ast
import io
import json
import linecache
import os
import queue
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, TextIO

import numpy as np

#: Of the made-up file that a cell is to Python; no real file's name begins so.
CELL = "<cell "
#: Kinds of NumPy's types that a file holds without pickle: numbers, truth values and text.
PLAIN = "biufcUS"
#: Calls that a traceback shows: those of a function that calls itself without end are a thousand.
MOST = 12
#: In names of types of numbers that frameworks have and NumPy has not.
FOREIGN = ("bfloat16", "float8", "float4")


class _Events:
    """Tells the notebook's process what happens."""

    def __init__(self) -> None:
        # Libraries print to standard output as they please. Keep the real one for events, hand them standard error.
        self._stream = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
        os.dup2(2, 1)
        self._lock = threading.Lock()

    def tell(self, event: str, **details: str) -> None:
        with self._lock:
            self._stream.write(json.dumps({"event": event, **details}) + "\n")


class _Stream(io.TextIOBase):
    """Standard output or standard error of the cells: what is written there is an event."""

    def __init__(self, events: _Events, name: str) -> None:
        self._events, self._name = events, name

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if text:
            self._events.tell("output", stream=self._name, text=text)
        return len(text)


class _Without:
    """Finds modules as another finder does, but not those of some packages.

    They are not there, then. None in ``sys.modules`` would be simpler, and a module to those that look there (SciPy).
    """

    def __init__(self, finder: Any, packages: list[str]) -> None:
        self._finder, self._packages = finder, packages

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        return None if name.partition(".")[0] in self._packages else self._finder.find_spec(name, path, target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)


class _Refused(Exception):
    """An array cannot be handed over; the message says why."""


def main(absent: list[str]) -> None:
    """Run cells until standard input ends.

    Args:
        absent: packages that no cell can import: two frameworks in one process can crash.
    """
    events, namespace = _Events(), {"__name__": "__main__"}
    sys.stdout, sys.stderr = _Stream(events, "stdout"), _Stream(events, "stderr")
    sys.meta_path[:] = [_Without(finder, absent) for finder in sys.meta_path]
    requests: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_read, args=(_taken_input(), requests), daemon=True).start()
    # Cells have nobody to ask, and exit() closes what it finds here.
    sys.stdin = io.StringIO()
    # An interruption is meant for a cell, never for the time between two of them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    events.tell("ready")
    while True:
        request = requests.get()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            _carry_out(request, namespace, events)
        except _Refused as refusal:
            events.tell("refused", text=str(refusal))
        except BaseException as error:
            # Whatever a cell raises, exit() included, the next one finds what the earlier ones have made.
            events.tell("failed", text=_told(error, absent), name=type(error).__name__)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        events.tell("done")


def _taken_input() -> TextIO:
    """Standard input, which the programs that a cell starts do not get: they would wait for requests, and take them."""
    taken = os.fdopen(os.dup(0), encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    return taken


def _read(lines: TextIO, requests: queue.Queue[dict[str, Any]]) -> None:
    """Pass requests on. A thread of its own: it notices the notebook's end even while a cell runs."""
    for line in lines:
        requests.put(json.loads(line))
    os._exit(0)


def _carry_out(request: dict[str, Any], namespace: dict[str, Any], events: _Events) -> None:
    for name, path in request["inputs"].items():
        namespace[name] = np.load(path, allow_pickle=False)
    value = evaluate(request["code"], f"{CELL}{request['number']}>", namespace)
    if value is not None:
        events.tell("value", text=repr(value))
    for name, path in request["outputs"].items():
        if name not in namespace:
            raise _Refused(f"the cell has made no {name}, which -o asks for; assign it, or mend the name.")
        np.save(Path(path), _plain(name, namespace[name]), allow_pickle=False)


def evaluate(code: str, filename: str, namespace: dict[str, Any]) -> Any:
    """Run a cell. Returns the value of its last line if that is an expression, else None.

    Args:
        code: of the cell.
        filename: that its lines have in tracebacks.
        namespace: of its variables.
    """
    # For the lines of tracebacks.
    linecache.cache[filename] = (len(code), None, code.splitlines(keepends=True), filename)
    tree = ast.parse(code, filename)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, filename, "exec", dont_inherit=True), namespace)
    if last is None:
        return None
    assert isinstance(last, ast.Expr)
    return eval(compile(ast.Expression(last.value), filename, "eval", dont_inherit=True), namespace)


def _plain(name: str, value: Any) -> np.ndarray[Any, Any]:
    """An array of a value: of a tensor, a variable, a number, a list of them."""
    # What is part of a graph of gradients has to be asked for its numbers.
    value = value.detach().cpu() if hasattr(value, "detach") else value
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        array = np.asarray(None)
    if array.dtype.kind not in PLAIN:
        own = str(getattr(value, "dtype", ""))
        if any(kind in own for kind in FOREIGN):
            raise _Refused(f"{name} has the type {own}, which NumPy's files do not know; hand over a copy in float32.")
        raise _Refused(
            f"{name} is a {type(value).__name__} that is no array of numbers; hand over its arrays one by one."
        )
    return array


def _told(error: BaseException, absent: list[str]) -> str:
    """A traceback of the cells' lines, and of the line of a library in which it ends."""
    # The first frames are those of this file: main, _carry_out, evaluate.
    frames = [] if _is_spelling(error) else traceback.extract_tb(error.__traceback__)[3:]
    lines, skipped = [], 0
    for index, frame in enumerate(frames):
        if frame.filename.startswith(CELL) or index == len(frames) - 1:
            lines += [f"  ... {skipped} calls inside of libraries\n"] if skipped else []
            lines += traceback.format_list([frame])
            skipped = 0
        else:
            skipped += 1
    if len(lines) > MOST:
        half = MOST // 2
        lines[half:-half] = [f"  ... and so on, {len(lines) - 2 * half} times\n"]
    lines = ["Traceback (most recent call last):\n", *lines] if lines else []
    lines += traceback.format_exception_only(error)
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in absent:
        lines.append("Each framework has a process of its own: this import belongs into a cell of the other kind.\n")
    return "".join(lines)


def _is_spelling(error: BaseException) -> bool:
    """Whether a cell is no Python: then no line of it was carried out."""
    return isinstance(error, SyntaxError) and (error.filename or "").startswith(CELL)


if __name__ == "__main__":
    main(sys.argv[1:])

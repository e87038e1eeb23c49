"""Cells of a notebook that run in a framework's own process: ``%load_ext transfer_parity.shared.lessons.magics``.

A cell that begins with ``%%`` and the name of a framework, ``%%torch -i images -o logits``, runs in that framework's
process, which stays alive over the notebook. ``-i`` hands arrays of the notebook in, ``-o`` hands arrays back. The
notebook's own process imports no framework.
"""

from __future__ import annotations

import argparse
import atexit
import shlex
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol

import numpy as np

from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.contract.wings import WINGS
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.lessons import session
from transfer_parity.shared.lessons.cell_process import PLAIN
from transfer_parity.shared.lessons.session import CellFailed, Printer, Session, SessionEnded


class Notebook(Protocol):
    """What is needed of IPython's shell."""

    user_ns: dict[str, Any]

    def register_magic_function(self, func: Any, magic_kind: str, magic_name: str) -> None:
        """Make a function a magic."""


class CellError(Exception):
    """What went wrong in a cell, as the notebook shows it: without the calls that led to the cell."""

    def _render_traceback_(self) -> list[str]:
        # IPython asks exceptions for this.
        return str(self).splitlines()


class Value:
    """The value of a cell's last line, which lives in another process; here is what it looks like."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


class Cells:
    """The sessions of a notebook, one for each framework, and the names that they share with it."""

    def __init__(self, namespace: dict[str, Any], sessions: Mapping[str, Callable[[], Session]]) -> None:
        """Cells over a notebook's variables.

        Args:
            namespace: the notebook's variables.
            sessions: what makes the session of each magic, by its name.
        """
        self._namespace, self._makers = namespace, sessions
        self._sessions: dict[str, Session] = {}

    def run(self, name: str, line: str, code: str, show: Printer | None = None) -> Value | None:
        """Run a cell in the process of a magic.

        Args:
            name: of the magic.
            line: what stands behind its name.
            code: the lines below.
            show: gets what it prints, in place of this process's output.

        Raises:
            CellError: it failed, or what was asked for cannot be done.
        """
        try:
            given = _options(name, line)
            inputs = {each: _array(each, self._namespace) for each in given.inputs}
            if name not in self._sessions:
                self._sessions[name] = self._makers[name]()
            outcome = self._sessions[name].run(code, show or _print, inputs, given.outputs)
        except CellFailed as failure:
            raise CellError(str(failure).rstrip()) from None
        except SessionEnded as end:
            raise CellError(f"{end.last_words}\nerror: {end}".strip()) from None
        except BadInput as error:
            raise CellError(f"error: {error}") from None
        self._namespace.update(outcome.arrays)
        return None if outcome.value is None else Value(outcome.value)

    def close(self) -> None:
        """End all processes."""
        for each in self._sessions.values():
            each.close()


def load_ipython_extension(ipython: Notebook) -> None:
    """Add a cell magic for every framework. IPython calls this on ``%load_ext``."""
    cells = Cells(ipython.user_ns, {wing.identifier: _maker(wing) for wing in WINGS})
    atexit.register(cells.close)
    for wing in WINGS:
        ipython.register_magic_function(_magic(cells, wing.identifier), "cell", wing.identifier)


def _maker(wing: Any) -> Callable[[], Session]:
    return lambda: session.of_wing(wing)


def _magic(cells: Cells, name: str) -> Callable[[str, str], Value | None]:
    def magic(line: str, cell: str) -> Value | None:
        return cells.run(name, line, cell)

    magic.__doc__ = (
        f"Run the cell in the process of %%{name}.\n\n"
        "-i NAME ...: arrays of the notebook that the cell is to find.\n"
        "-o NAME ...: what the cell makes that the notebook is to find, as NumPy arrays."
    )
    return magic


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say it in one sentence instead of ending the process."""
        raise BadInput(f"{self.prog}: {message}; it takes -i NAME ... and -o NAME ... alone.")


def _options(name: str, line: str) -> argparse.Namespace:
    parser = _Parser(prog=f"%%{name}", add_help=False, allow_abbrev=False)
    parser.add_argument("-i", dest="inputs", nargs="+", action="extend", default=[])
    parser.add_argument("-o", dest="outputs", nargs="+", action="extend", default=[])
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        parser.error(str(error))
    given = parser.parse_args(words)
    for each in (*given.inputs, *given.outputs):
        if not each.isidentifier():
            raise BadInput(f"%%{name}: {each} is no name of a variable; separate names by spaces.")
    return given


def _array(name: str, namespace: Mapping[str, Any]) -> Array:
    if name not in namespace:
        raise BadInput(f"the notebook has no {name}, which -i is to hand over; make it in a cell above.")
    try:
        array = np.asarray(namespace[name], order="C")
    except (TypeError, ValueError):
        array = np.asarray(None)
    if array.dtype.kind not in PLAIN:
        raise BadInput(f"{name} is a {type(namespace[name]).__name__}, no array of numbers, which alone -i hands over.")
    return array


def _print(stream: str, text: str) -> None:
    print(text, end="", file=getattr(sys, stream), flush=True)

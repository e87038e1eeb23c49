"""The one door: ``python compare.py [COMMAND] [options]``. Hands on to the command that is asked for."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

from transfer_parity.shared.commands.table import COMMANDS, DEFAULT
from transfer_parity.shared.core import disk, notices, signals, streams
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BAD_INPUT, DEFECT, WORKER_FAILED, BadInput, WorkerFailed
from transfer_parity.shared.core.text import brief, is_name
from transfer_parity.shared.report.console import WIDTH, Console


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    with streams.guarded() as output:
        errors = Console(stderr=True, width=WIDTH if not sys.stderr.isatty() else None)
        status = _run(given, errors)
        output.flush()
        if output.failure is not None:
            reason = output.failure.strerror or output.failure
            told = f"error: standard output cannot be written ({reason}); results are kept."
            errors.print(told, style="red", soft_wrap=True)
            return max(status, BAD_INPUT)
        return status


def _run(given: list[str], errors: Console) -> int:
    """Run one command, and say in a sentence what went wrong. Returns the exit status."""
    complain = partial(errors.print, style="red", highlight=False, soft_wrap=True)
    try:
        _check_names(given)
        name, rest = (given[0], given[1:]) if given and given[0] in COMMANDS else (DEFAULT, given)
        command = importlib.import_module(f"transfer_parity.shared.commands.{name}")
        hear = partial(errors.print, style="yellow", highlight=False, soft_wrap=True)
        with signals.like_an_interrupt(), notices.heard(hear):
            return int(command.run(rest, errors))
    except BadInput as error:
        complain(f"error: {error}")
        return error.exit_status
    except OSError as error:
        # A folder that cannot be read, a read-only cache, a full disk: what no room could foresee.
        place = f"{error.filename}: " if error.filename else ""
        anything = f"{place}{error.strerror or error}; make it accessible and run again."
        complain(f"error: {disk.complaint(error, _written_to(given)) or anything}")
        return BAD_INPUT
    except WorkerFailed as error:
        complain(f"error: {error}")
        if error.last_words:
            errors.print("Its last words:")
            errors.print(error.last_words, highlight=False, soft_wrap=True)
        return error.exit_status
    except MemoryError:
        complain("error: there is not enough memory; lower --seeds, --epochs, --batch-size or --image-size.")
        return WORKER_FAILED
    except KeyboardInterrupt as error:
        errors.print("interrupted; what was finished has been kept", style="yellow")
        return signals.exit_status(error)
    except Exception:
        # Nothing that a command does not foresee may pass for "different", which is what Python's own 1 would mean.
        errors.print(traceback.format_exc(), highlight=False, soft_wrap=True)
        complain("error: this is a mistake in transfer-parity; please report it with the lines above.")
        return DEFECT


def _check_names(given: list[str]) -> None:
    """Refuse names that no JSON file can hold, before anything is computed under them.

    Raises:
        BadInput: an argument or the current folder has such a name.
    """
    for argument in given:
        if not is_name(argument):
            raise BadInput(
                f"{brief(argument)} is not UTF-8 text without NUL; rename the file or folder, or link to it."
            )
    try:
        here = os.getcwd()  # noqa: PTH109
    except OSError:
        raise BadInput("the current folder does not exist any more; change to another one.") from None
    if not is_name(here):
        raise BadInput(f"the current folder {here} is not named in UTF-8; start from another one, or rename it.")


def _written_to(given: list[str]) -> list[Path]:
    """Folders that a command may have been writing to, those that were given first."""
    words = [part for argument in given for part in argument.split("=", 1)]
    chosen = {option: Path(value) for option, value in pairwise(words) if option.startswith("--")}
    found = [chosen[option] for option in ("--output-dir", "--cache-dir") if option in chosen]
    with contextlib.suppress(BadInput):
        found.append(Cache().root)
    return [*found, Path("results")]


if __name__ == "__main__":
    sys.exit(main())

"""The one door: ``python compare.py [RECIPE.toml] [options]``. Hands on to the command that is asked for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from rich.console import Console

from transfer_parity.shared.core.errors import BAD_INPUT, BadInput, WorkerFailed
from transfer_parity.shared.report import console

#: ``python compare.py NAME ...``, each a module of ``shared.commands``, like the comparison itself. Only the one that
#: is asked for is imported: plots and pages would cost every command a second.
COMMANDS = ("attribute", "convert", "parity", "rank", "study", "zoo")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status."""
    errors = Console(stderr=True, width=console.WIDTH if not sys.stderr.isatty() else None)
    try:
        given = sys.argv[1:] if arguments is None else list(arguments)
        name, rest = (given[0], given[1:]) if given and given[0] in COMMANDS else ("compare", given)
        command = importlib.import_module(f"transfer_parity.shared.commands.{name}")
        return int(command.run(rest, errors))
    except BadInput as error:
        errors.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return error.exit_status
    except OSError as error:
        # A folder that cannot be read, a read-only cache, a full disk: what no room could foresee.
        place = f"{error.filename}: " if error.filename else ""
        errors.print(
            f"error: {place}{error.strerror or error}; make it accessible and run again.", style="red", markup=False
        )
        return BAD_INPUT
    except WorkerFailed as error:
        errors.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        if error.last_words:
            errors.print("Its last words:", markup=False)
            errors.print(error.last_words, markup=False, highlight=False, soft_wrap=True)
        return error.exit_status
    except KeyboardInterrupt:
        errors.print("interrupted; what was finished has been kept", style="yellow")
        return 130


if __name__ == "__main__":
    sys.exit(main())

"""Paths as people write them."""

from __future__ import annotations

from pathlib import Path

from transfer_parity.shared.core import text
from transfer_parity.shared.core.errors import BadInput


def expanded(given: str | Path) -> Path:
    """A path with the home folder in place of ``~`` or ``~user``.

    Raises:
        BadInput: there is no such user, or no file can have this name.
    """
    if not text.is_name(str(given)):
        raise BadInput(f"{text.brief(str(given))} is no path that can be used here; give one in UTF-8 without NUL.")
    try:
        return Path(given).expanduser()
    except RuntimeError:
        raise BadInput(f"{given}: the home folder of that user is not known; give the path in full.") from None

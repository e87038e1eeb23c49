"""How a piece of work says how far it is."""

from __future__ import annotations

from collections.abc import Callable

#: Called with a description, the bytes that have arrived and the bytes expected.
Progress = Callable[[str, int, int], None]

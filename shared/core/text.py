"""Text from elsewhere (names of files, classes and tensors, messages of libraries) as a terminal may show it."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: What a terminal acts on instead of showing it: control characters, line separators, changes of direction, what takes
#: no room, and halves of surrogate pairs, which stand for the bytes of a name that is not UTF-8.
_ACTS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
#: Where ``os.fsdecode`` keeps the bytes 0x80 to 0xff that it cannot decode (PEP 383).
_UNDECODED = range(0xDC80, 0xDD00)


def printable(text: str, lines: bool = False) -> str:
    """The same with escapes such as ``\\x1b`` in place of what a terminal would act on; it can always be encoded.

    Args:
        text: to be shown.
        lines: whether line breaks and tabs stay.
    """
    return _ACTS.sub(lambda found: found[0] if lines and found[0] in "\n\t" else _escaped(found[0]), text)


def is_name(text: str) -> bool:
    """Whether text can be a name in a file of JSON and a path: it is valid Unicode and has no NUL."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def brief(value: object, most: int = 60) -> str:
    """``repr`` of a value that somebody gave, printable and not long."""
    try:
        shown = printable(repr(value))
    except (ValueError, RecursionError):
        # Python writes no whole number of more than a few thousand digits, and nothing that is nested without end.
        shown = f"a very long {type(value).__name__}"
    return shown if len(shown) <= most else f"{shown[: most // 2]}...{shown[-most // 4 :]}"


def joined(names: Sequence[str]) -> str:
    """Words as a sentence lists them: ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _escaped(character: str) -> str:
    code = ord(character)
    if code in _UNDECODED:
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

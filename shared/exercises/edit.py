"""A fault as text: one text of a file in place of another, for exercises and for the tests' planted mistakes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Edit:
    """One text in place of another, which occurs exactly once in its file (relative to the folder it is applied in)."""

    file: str
    old: str
    new: str

    def apply(self, root: Path) -> None:
        """Make the change in a copy of the project, or of a wing.

        Raises:
            ValueError: the text occurs another number of times.
        """
        path = root / self.file
        text = path.read_text(encoding="utf-8")
        if (count := text.count(self.old)) != 1:
            raise ValueError(f"{self.file} has {count} times, not once: {self.old!r}")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")

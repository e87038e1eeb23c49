"""What all results have in common that are written as JSON."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from transfer_parity.shared.core import files


class Document(BaseModel):
    """A result, or part of one; never changed, and nothing in it that is not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def save(self, path: Path) -> None:
        """Write the document. It appears whole or not at all."""
        files.write_whole(path, self.model_dump_json(indent=1) + "\n")

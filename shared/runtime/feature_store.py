"""Outputs of a frozen part of a network, computed once for each image and kept for all runs that ask for them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from transfer_parity.shared.core.arrays import Rows


class Store:
    """One output for each of N images, of those that were computed so far.

    Lies in a folder of its own, named after a digest of everything that the outputs depend on: weights, pixels,
    settings, versions, code. Nothing in it is ever changed, only added; a folder may be deleted at any time.

    Attributes:
        facts: what was noted when the first outputs were computed, as JSON values.
        present: which images have an output, bool (N,).
    """

    def __init__(self, root: Path, key: dict[str, Any], images: int) -> None:
        text = json.dumps(key, sort_keys=True)
        self.folder = root / hashlib.sha256(text.encode()).hexdigest()[:32]
        self.images = images
        self.facts: dict[str, Any] = {}
        self.present: NDArray[np.bool_] = np.zeros(images, dtype=bool)
        self.folder.mkdir(parents=True, exist_ok=True)
        # For people who wonder what a folder is for.
        (self.folder / "key.json").write_text(text, encoding="utf-8")

    @contextmanager
    def opened(self) -> Iterator[Store]:
        """Keep other processes from computing the same at the same time."""
        with FileLock(self.folder / "lock"):
            self.present = self._present()
            facts = self.folder / "facts.json"
            if self.present.any() and facts.is_file():
                self.facts = json.loads(facts.read_text(encoding="utf-8"))
            yield self

    def note(self, facts: dict[str, Any]) -> None:
        """Remember facts about the outputs."""
        self.facts = {**self.facts, **facts}
        temporary = self.folder / "facts.part"
        temporary.write_text(json.dumps(self.facts), encoding="utf-8")
        temporary.replace(self.folder / "facts.json")

    def missing(self, needed: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of the needed images that have no output yet."""
        return needed[~self.present[needed]]

    def _present(self) -> NDArray[np.bool_]:
        path = self.folder / "present.npy"
        try:
            present = np.load(path, allow_pickle=False)
            if len(self.outputs()) == len(present) == self.images:
                return np.asarray(present, dtype=bool)
        except (OSError, ValueError, EOFError):
            pass
        # Nothing there, or damaged: it can be computed again.
        for each in (path, self.folder / "outputs.npy"):
            each.unlink(missing_ok=True)
        return np.zeros(self.images, dtype=bool)

    def write(self, indices: NDArray[np.int64], outputs: NDArray[Any]) -> None:
        """Add the outputs (n, ...) of some images. They count as computed once ``commit`` was called."""
        path = self.folder / "outputs.npy"
        rows = Rows(path) if path.is_file() else Rows.create(path, (self.images, *outputs.shape[1:]), outputs.dtype)
        rows[indices] = outputs

    def commit(self, indices: NDArray[np.int64]) -> None:
        """What was written for these images is complete."""
        self.present[indices] = True
        temporary = self.folder / "present.part.npy"
        np.save(temporary, self.present)
        temporary.replace(self.folder / "present.npy")

    def outputs(self) -> Rows:
        """All outputs by image; those of images that were never asked for are zero."""
        return Rows(self.folder / "outputs.npy")

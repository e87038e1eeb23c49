"""What a method learns from, and what it is judged on, as one file of arrays that both frameworks read."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from transfer_parity.shared.contract.episodes import Episodes, Indices


@dataclass(frozen=True)
class LearningPlan:
    """Of one method and one number of shots.

    Attributes:
        base: episodes of base classes, those of all steps one after the other; indices are rows of the base features.
        pairs: of base images for every step, int64 (steps, pairs, 2); empty where nothing learns from pairs.
        novel: episodes to be judged on; indices are rows of the novel features.
    """

    base: Episodes
    pairs: Indices
    novel: Episodes

    def save(self, path: Path) -> None:
        """Write all arrays into one ``.npz`` file."""
        sides = {f"{side}_{each.name}": getattr(getattr(self, side), each.name) for side in _SIDES for each in _FIELDS}
        np.savez(path, **{"pairs": self.pairs, **sides})

    @classmethod
    def load(cls, path: Path) -> LearningPlan:
        """Read what ``save`` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            base, novel = (
                Episodes(int(arrays[f"{side}_ways"]), *(arrays[f"{side}_{each.name}"] for each in _FIELDS[1:]))
                for side in _SIDES
            )
            return cls(base, arrays["pairs"], novel)


_SIDES = ("base", "novel")
#: The number of ways first.
_FIELDS = fields(Episodes)

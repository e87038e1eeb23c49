"""What earlier runs left under a folder, and the lines of a table that has one for every training run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from transfer_parity.shared.contract import artifacts

#: Documents by the command that writes them.
DOCUMENTS = {
    artifacts.COMPARISON: "compare",
    artifacts.STUDY: "study",
    artifacts.ATTRIBUTION: "attribute",
    artifacts.RANKING: "rank",
    artifacts.EPISODES: "episodes",
    artifacts.PARITY: "parity",
}
#: Of a recipe and of a training run, what a line says of it.
RECIPE_COLUMNS = ("name", "data", "backbone", "weights", "image_size", "precision")
RUN_COLUMNS = (
    *("strategy", "mode", "pretrained", "framework", "shots", "seed", "training_images", "test_images"),
    *("accuracy", "macro_f1", "macro_recall", "macro_precision", "log_loss", "calibration_error", "seconds"),
)
#: Of a whole line.
COLUMNS = ("created", "command", "folder", *RECIPE_COLUMNS, *RUN_COLUMNS, "verdict")


@dataclass(frozen=True)
class Found:
    """One command's results.

    Attributes:
        folder: that holds them.
        command: which command made them.
        document: as it was read, of any version.
        trouble: why it could not be read, or nothing.
    """

    folder: Path
    command: str
    document: Mapping[str, Any] = field(default_factory=dict)
    trouble: str = ""

    @property
    def created(self) -> str:
        """Date and time, ISO 8601, as far as it is known."""
        return str(self.document.get("created", ""))

    @property
    def subject(self) -> str:
        """Data, backbone and strategies, as far as the document names them."""
        recipe = self._recipe
        of_pairs = [str(each.get("backbone", "")) for each in _items(self.document, "pairs", "ranking")]
        strategies = [str(each.get("strategy", "")) for each in _items(self.document, "runs", "results")]
        parts = (
            # A pair of one's own has a name.
            [str(recipe.get("data", self.document.get("data", self.document.get("name", ""))))],
            [str(recipe.get("backbone", ""))] if recipe else of_pairs[:1],
            [f"and {len(set(of_pairs)) - 1} more"] if len(set(of_pairs)) > 1 else [],
            list(dict.fromkeys(strategies))[:1] if len(set(strategies)) < 2 else [f"{len(set(strategies))} strategies"],
        )
        return ", ".join(word for part in parts for word in part if word)

    @property
    def accuracy(self) -> dict[str, float]:
        """Mean over the runs with transfer, by framework: of all of them, whatever their shots."""
        by_framework: dict[str, list[float]] = {}
        runs = _items(self.document, "runs", "results")
        transferred = [run for run in runs if run.get("pretrained", run.get("strategy") != "scratch")] or runs
        for run in transferred:
            if isinstance(value := run.get("accuracy"), int | float):
                by_framework.setdefault(str(run.get("framework", "")), []).append(value)
        return {framework: float(np.mean(values)) for framework, values in by_framework.items()}

    @property
    def verdict(self) -> str:
        """The word, or whether the ladder was climbed, or the best backbone."""
        if self.trouble:
            return self.trouble
        if "passed" in self.document:
            return "passed" if self.document["passed"] else "failed"
        if ranking := _items(self.document, "ranking"):
            return f"best: {ranking[0].get('backbone', '')}"
        return str(self.document.get("verdict", ""))

    def lines(self) -> Iterator[dict[str, Any]]:
        """One for every training run, by column; what a document does not say is missing."""
        common = {"created": self.created, "command": self.command, "folder": str(self.folder)}
        recipe = self._recipe
        common |= {key: recipe[key] for key in RECIPE_COLUMNS if recipe.get(key) is not None}
        for run in _items(self.document, "runs", "results"):
            own = {key: run[key] for key in RUN_COLUMNS if run.get(key) is not None}
            if "seconds" not in own and isinstance(phases := run.get("phases"), dict):
                own["seconds"] = sum(phases.get(phase, 0.0) for phase in ("features", "training", "inference"))
            yield {**common, **own, "verdict": self.verdict}

    @property
    def _recipe(self) -> Mapping[str, Any]:
        recipe = self.document.get("recipe", {})
        if not recipe and isinstance(recipes := self.document.get("recipes"), dict):
            # Of a study, by strategy: they share what is shown of them.
            recipe = next(iter(recipes.values()), {})
        return recipe if isinstance(recipe, dict) else {}


def find(root: Path) -> list[Found]:
    """All results below a folder, oldest first. Cells and hidden folders hold parts of results, and are left out."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name != artifacts.CELLS and not name.startswith("."))
        found += [_read(Path(folder) / name, command) for name, command in DOCUMENTS.items() if name in names]
    return sorted(found, key=lambda each: each.created)


def _read(path: Path, command: str) -> Found:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is damaged"
        return Found(path.parent, command, trouble=f"{path.name}: {reason}")
    if not isinstance(document, dict):
        return Found(path.parent, command, trouble=f"{path.name}: is damaged")
    return Found(path.parent, command, document)


def _items(document: Mapping[str, Any], *keys: str) -> list[Mapping[str, Any]]:
    """The entries of the first of some lists that a document has."""
    for key in keys:
        if isinstance(items := document.get(key), list) and items:
            return [item for item in items if isinstance(item, dict)]
    return []

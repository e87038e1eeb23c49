"""What earlier comparisons say about the accuracy of trained backbones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from transfer_parity.shared.contract import artifacts
from transfer_parity.shared.contract.recipe import WEIGHT_ORIGINS, Framework, Shots
from transfer_parity.shared.core import paths
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.data.folders import Dataset
from transfer_parity.shared.experiments.comparison_document import Comparison, Run


def accuracies(
    folders: Sequence[Path], data: Dataset, framework: Framework, shots: Shots
) -> dict[tuple[str, str], float]:
    """Mean test accuracy by backbone and weights, from earlier comparisons on the same data.

    Runs of this framework and this number of shots count, or else those of the other framework and the most shots.

    Raises:
        BadInput: a folder holds no comparison, or one on other data, or one by another recipe than the first.
    """
    found: dict[tuple[str, str], list[float]] = {}
    kinds: dict[str, Path] = {}
    for folder in folders:
        document = _read(folder)
        if document.classes != list(data.classes) or document.images + len(document.skipped_files) != len(data):
            raise BadInput(
                f"--results {folder}: a comparison on other images ({document.recipe.data}, {document.images} of "
                f"{len(document.classes)} classes), which says nothing about these {len(data)}; leave it out."
            )
        if document.recipe.image_features is not None:
            raise BadInput(
                f"--results {folder}: a comparison on given features says nothing of backbones; leave it out."
            )
        runs = _counting(document, framework, shots)
        if not runs:
            continue
        kinds.setdefault(f"{document.recipe.strategy} with shots {runs[0].shots}", folder)
        key = (document.recipe.backbone, identity(document.recipe.weights))
        found.setdefault(key, []).extend(run.accuracy for run in runs)
    if len(kinds) > 1:
        (one, first), (other, second), *_ = kinds.items()
        raise BadInput(f"--results: {first} is {one}, {second} {other}; give comparisons by one recipe.")
    return {key: float(np.mean(values)) for key, values in found.items()}


def _counting(document: Comparison, framework: Framework, shots: Shots) -> list[Run]:
    """The runs whose accuracy counts, the control's excepted."""
    runs = [run for run in document.runs if run.pretrained == (document.checkpoint is not None)]
    runs = [run for run in runs if run.framework == framework] or runs
    most = max((run.shots for run in runs), key=lambda k: float("inf") if k == "all" else k, default=shots)
    return [run for run in runs if run.shots == shots] or [run for run in runs if run.shots == most]


def _read(folder: Path) -> Comparison:
    path = folder / artifacts.COMPARISON
    try:
        return Comparison.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise BadInput(
            f"--results {folder}: there is no {artifacts.COMPARISON} to read; give folders of earlier runs."
        ) from None
    except ValidationError:
        raise BadInput(f"{path} is damaged or of another version; run the comparison again.") from None


def identity(weights: str) -> str:
    """Weights in a form in which the same file has the same name."""
    return weights if weights in WEIGHT_ORIGINS else str(paths.expanded(weights).resolve())

"""Heads without steps: what a strategy or a solver computes from frozen features, as parameters of a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transfer_parity.shared.contract.jobs import JobOfRuns
from transfer_parity.shared.contract.plan import Plan
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.core.arrays import Rows
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.evaluation import closed_forms
from transfer_parity.shared.evaluation.closed_forms import CacheHead, CosineHead
from transfer_parity.shared.runtime import ridge
from transfer_parity.shared.zoo.pair import HEAD

Array = NDArray[Any]


@dataclass(frozen=True)
class Fitted:
    """What fits a head without steps.

    Attributes:
        head: by neutral name, float64.
        nearest: to which class each test image was given, and how clearly, as ``CosineHead`` has it; None where none is
            given to any.
    """

    head: dict[str, Array]
    nearest: Array | None = None


def of_job(job: JobOfRuns, labels: Array, drawn: Plan, features: Rows | Array) -> Fitted:
    """The head of a run of a job. Arguments as those of ``fit``."""
    text = np.load(job.data.text, allow_pickle=False) if job.data.text is not None else None
    return fit(job.recipe, features, drawn, labels, len(job.data.classes), text)


def fit(
    recipe: Recipe, features: Rows | Array, drawn: Plan, labels: Array, classes: int, text: Array | None = None
) -> Fitted:
    """The head of a run.

    Args:
        recipe: with a closed form.
        features: of all images, (N, d).
        drawn: the run's plan. Labels of its training images count; of test images a transductive strategy reads the
            features.
        labels: classes of all images, (N,).
        classes: number of them.
        text: a vector for each class, (classes, d), for strategies that compare with text.

    Raises:
        BadInput: there are more training images than the cache has room for.
    """
    if text is not None and recipe.closed_form == "zero_shot":
        return Fitted(of_cosines(closed_forms.zero_shot(text, recipe.logit_scale)))
    if text is not None and recipe.closed_form == "tip_adapter":
        if len(drawn.train) > recipe.head_units:
            raise BadInput(
                f"tip_adapter keeps every training image, and {len(drawn.train)} are more than head_units "
                f"{recipe.head_units}; give --head-units {len(drawn.train)}, or fewer shots."
            )
        factors = (recipe.logit_scale, recipe.cache_alpha, recipe.cache_beta)
        cached = closed_forms.tip_adapter(features[drawn.train], labels[drawn.train], text, *factors)
        return Fitted(of_cache(cached, recipe.head_units))
    if recipe.closed_form == "ridge":
        return Fitted(dict(ridge.fit(features, drawn.train, labels, classes, recipe.ridge_penalty)))
    data = (_Chosen(features, drawn.train), labels[drawn.train], classes)
    if recipe.closed_form == "prototypes":
        found = closed_forms.prototypes(*data, _Chosen(features, drawn.test), recipe.logit_scale)
        return Fitted(of_cosines(found), found.nearest)
    return Fitted(of_cosines(closed_forms.nearest_mean(*data, recipe.logit_scale)))


def of_cosines(head: CosineHead) -> dict[str, Array]:
    """Parameters of the "cosine" head: rows of its dense layer are as long as the logits' scale."""
    return {
        f"{HEAD}centre.running_mean": head.mean,
        f"{HEAD}centre.running_var": np.ones_like(head.mean),
        f"{HEAD}output.weight": head.scale * closed_forms.unit(head.prototypes),
    }


def of_cache(head: CacheHead, room: int) -> dict[str, Array]:
    """Parameters of the "cache" head; what no image fills adds nothing.

    exp(-beta (1 - f F')) is exp of a dense layer with weight beta F and bias -beta.
    """
    unfilled = ((0, room - len(head.keys)), (0, 0))
    return {
        **of_cosines(closed_forms.zero_shot(head.text, head.scale)),
        f"{HEAD}cache.weight": np.pad(head.beta * closed_forms.unit(head.keys), unfilled),
        f"{HEAD}cache.bias": np.full(room, -head.beta),
        f"{HEAD}values.weight": np.pad(head.alpha * head.values, unfilled).T,
    }


class _Chosen:
    """Some rows of a table, read when they are asked for."""

    def __init__(self, rows: Rows | Array, chosen: NDArray[np.int64]) -> None:
        self._rows, self._chosen = rows, chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, rows: slice) -> Array:
        return self._rows[self._chosen[rows]]

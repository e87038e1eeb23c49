"""Heads that are fitted before a run's first step: probe first, then fine-tune (Kumar et al., 2022)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from transfer_parity.shared.contract import plan
from transfer_parity.shared.contract.batches import augmented, training_batches
from transfer_parity.shared.contract.plan import Plan
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.wing import Array, Wing
from transfer_parity.shared.core.arrays import Rows
from transfer_parity.shared.runtime import ridge
from transfer_parity.shared.zoo.pair import HEAD

#: What a trained probe has as the recipe's default, which is that of ``linear_probe``, whatever trains afterwards.
OF_A_PROBE = ("optimizer", "learning_rate", "momentum", "weight_decay", "schedule", "warmup_epochs", "epochs")


def probe_of(recipe: Recipe) -> Recipe:
    """The recipe of the probe: the same images, loss and batch size, and the rate and budget of a linear probe."""
    usual = {key: Recipe.model_fields[key].default for key in OF_A_PROBE}
    return recipe.model_copy(update={**usual, "strategy": "linear_probe", "flip": False, "crop": False})


def fit(
    wing: Wing, network: Any, recipe: Recipe, images: Rows, labels: Array, drawn: Plan, seed: int, classes: int
) -> dict[str, Array]:
    """The head that the strategy begins with, by neutral name; of a trained probe it is on the network, too.

    Args:
        wing: whose network it is.
        network: with the run's first weights; a probe begins on the head that it has.
        recipe: of a strategy whose first head is fitted.
        images: all of the data set, uint8 (N, S, S, 3).
        labels: of all images, (N,).
        drawn: what the run follows; its training images are those of the fit, as their centre crops.
        seed: of the run; orders the images of a probe.
        classes: number of them.
    """
    features = np.concatenate(list(wing.inference.infer(network, "features", _batches(recipe, images, drawn.train))))
    own, chosen = labels[drawn.train], np.arange(len(drawn.train))
    if recipe.method.first_head(recipe) == "ridge":
        return dict(ridge.fit(features, chosen, own, classes, recipe.ridge_penalty))
    probe = probe_of(recipe)
    followed = plan.draw_on_all(probe, len(chosen), seed)
    batches = training_batches(followed, probe.batch_size, features, own, size=None)
    names = frozenset(name for name in wing.weights.shapes(network) if name.startswith(HEAD))
    wing.training.train(network, "head", names, False, probe, batches, lambda: None)
    # A copy: a wing may hand out views of what training goes on changing.
    return {name: array.copy() for name, array in wing.weights.dump(network, names).items()}


def _batches(recipe: Recipe, images: Rows, chosen: Array) -> Iterator[Array]:
    step = recipe.inference_batch_size
    for start in range(0, len(chosen), step):
        yield augmented(images[chosen[start : start + step]], recipe.size, None, None)

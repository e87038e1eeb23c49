"""Everything random or time-varying but the weights: subsets, batch order, flips, crops, learning rates.

Drawn once, in NumPy, before either framework starts. Every draw has its own stream, keyed by the seed and by what it is
for (``shared.core.random``), so that changing one thing (more epochs, another head) leaves all others as they were.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transfer_parity.shared.contract.recipe import Recipe, Shots
from transfer_parity.shared.contract.splits import folds, hold_out, split
from transfer_parity.shared.core import machine
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.core.random import generator
from transfer_parity.shared.data.views import DRAWS

#: Of the schedule "step": after so many epochs the rate is this part of what it was.
STEP_EPOCHS, STEP_FACTOR = 7, 0.1


@dataclass(frozen=True)
class Plan:
    """What a recipe and a seed determine.

    Attributes:
        train: indices of the training images, int64 (n,).
        test: indices of the test images, int64 (m,).
        order: for every epoch a permutation of ``range(n)``, int64 (epochs, n).
        learning_rates: of every step, float64 (steps,).
        flips: whether the image in this place of ``order`` is mirrored, bool (epochs, n); empty without ``flip``.
        crops: upper left corner of its crop in pixels, int64 (epochs, n, 2) as (y, x); empty without ``crop``.
        partners: index of the partner of each image in ``order``, int64 (epochs, n); empty where none has one.
        unlabelled: indices of the unlabelled images, int64 (u,); empty where the strategy takes none, as all below.
        unlabelled_order: places of every step's images in ``unlabelled``, int64 (steps, b).
        unlabelled_views: which view of each, int64 (steps, b).
        view_draws: what the weak views, and the strong ones are made of (``shared.data.views``), float64 (2, u, views,
            DRAWS).
    """

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    order: NDArray[np.int64]
    learning_rates: NDArray[np.float64]
    flips: NDArray[np.bool_]
    crops: NDArray[np.int64]
    partners: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    unlabelled: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    unlabelled_order: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    unlabelled_views: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    view_draws: NDArray[np.float64] = field(default_factory=lambda: np.zeros((2, 0, 0, DRAWS)))

    def save(self, path: Path) -> None:
        """Write all arrays into one ``.npz`` file."""
        np.savez(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Read what ``save`` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{field.name: arrays[field.name] for field in fields(cls)})


def images(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices (train, test) of a plan that ``Plan.save`` wrote, without reading the rest of it."""
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["train"], arrays["test"]


def draw_all(
    recipe: Recipe, labels: NDArray[np.int64], is_test: NDArray[np.bool_] | None, classes: list[str]
) -> dict[tuple[Shots, int], Plan]:
    """The plans of all runs, by number of shots and seed. Arguments as in ``draw``; so are errors, but for memory."""
    _check_memory(recipe, len(labels), len(classes))
    return {
        (shots, seed): draw(recipe, labels, is_test, classes, seed, shots)
        for shots in recipe.shots
        for seed in recipe.seed_list
    }


def _check_memory(recipe: Recipe, images: int, classes: int) -> None:
    """Refuse plans that would fill the memory before anything starts.

    Raises:
        BadInput: they would take most of what is free.
    """
    shown = [images if shots == "all" else min(images, shots * classes) for shots in recipe.shots]
    # Bytes for an image in an epoch, as in Plan: its place, its flip and crop, and its part of a step's rate.
    each = 8 + recipe.flip + 16 * recipe.crop + 8 / recipe.batch_size
    views, with_views, where = 0, "", "lower --epochs, --seeds or --shots"
    if recipe.method.takes_unlabelled:
        # Place and view of the unlabelled images of a step, and what all views are made of; at most all images are.
        each += 16 * recipe.unlabeled_ratio
        views = 2 * 8 * DRAWS * recipe.views * images * recipe.seeds * len(recipe.shots)
        with_views = f", with {recipe.views} views of each unlabelled image,"
        where = "lower --views, --epochs, --seeds or --shots"
    needed = each * recipe.epochs * recipe.seeds * sum(shown) + views
    if needed > 0.8 * (free := machine.available_memory()):
        raise BadInput(
            f"the orders of {recipe.epochs} epochs and {recipe.seeds} seeds{with_views} would take "
            f"{needed / 2**30:.0f} GiB of memory, of which {free / 2**30:.0f} are free; {where}."
        )


def draw(
    recipe: Recipe,
    labels: NDArray[np.int64],
    is_test: NDArray[np.bool_] | None,
    classes: list[str],
    seed: int,
    shots: Shots,
) -> Plan:
    """The plan of one run. Arguments and errors as in ``split``, and one for a batch of a single image."""
    train, test = split(recipe, labels, is_test, classes, seed, shots)
    return _following(recipe, seed, train, test, _pool(recipe, labels, train, test), labels)


def _pool(
    recipe: Recipe, labels: NDArray[np.int64], train: NDArray[np.int64], test: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Indices of the unlabelled images of a run; none where the strategy takes none.

    Those of the recipe's folder, which have no label. Without one, those beyond the shots that nobody is tested on; and
    where every such image is labelled, those without their labels.

    Raises:
        BadInput: there are none, since every other image is a test image.
    """
    if not recipe.method.takes_unlabelled:
        return np.zeros(0, np.int64)
    given = np.flatnonzero(labels < 0)
    found = given if len(given) else np.setdiff1d(np.arange(len(labels)), np.concatenate([train, test]))
    if not len(found) and "all" not in recipe.shots:
        raise BadInput(
            f"strategy {recipe.strategy} takes unlabelled images, and beyond the shots every image is a test image; "
            "give --unlabeled FOLDER, or all among the --shots to test on a part of each class."
        )
    return found if len(found) else train


def draw_validation(recipe: Recipe, labels: NDArray[np.int64], drawn: Plan, seed: int) -> Plan | None:
    """The plan of a run that is judged on some of its own training images, which it then does not train on.

    A rate that is chosen in such runs has seen no test image.

    Args:
        recipe: as in ``draw``.
        labels: as in ``draw``.
        drawn: the plan of the run itself.
        seed: repetition.

    Returns:
        None if no class has an image to spare.
    """
    kept, held_out = hold_out(drawn.train, labels, seed, _batch(recipe))
    return (
        _following(recipe, seed, kept, held_out, drawn.unlabelled, labels) if len(held_out) and len(kept) > 1 else None
    )


def draw_folds(recipe: Recipe, labels: NDArray[np.int64], drawn: Plan, seed: int) -> list[Plan]:
    """The plans of cross-validation inside the training images of a run: each of these is judged once. As above.

    Returns:
        None at all if a class has fewer images than there are parts (``splits.FOLDS``).
    """
    return [
        _following(recipe, seed, kept, held_out, drawn.unlabelled, labels)
        for kept, held_out in folds(drawn.train, labels, seed, _batch(recipe))
    ]


def _batch(recipe: Recipe) -> int:
    """Where normalisation may follow the batches, no batch may have a single image."""
    return recipe.batch_size if recipe.pair.batch_norm else 0


def draw_on_all(
    recipe: Recipe, images: int, seed: int, unlabelled: int = 0, labels: NDArray[np.int64] | None = None
) -> Plan:
    """The plan of a run that trains on every image, for a model to be used: what it tests on says nothing.

    Args:
        recipe: as in ``draw``.
        images: number of labelled ones, N.
        seed: repetition.
        unlabelled: number of those that come after them.
        labels: class index of every image, where the strategy takes pairs.

    Raises:
        BadInput: a batch would have a single image, or the plan would fill the memory.
    """
    _check_memory(recipe.model_copy(update={"shots": ("all",), "seeds": 1}), images, 0)
    pool = images + np.arange(unlabelled) if unlabelled else np.arange(images)
    return _following(recipe, seed, np.arange(images), np.arange(images), pool, labels)


def at_rate(recipe: Recipe, drawn: Plan, rate: float) -> Plan:
    """The plan as it would have been drawn for another learning rate: the same images in the same order.

    Args:
        recipe: that the plan was drawn for.
        drawn: the plan.
        rate: the peak learning rate.
    """
    steps_per_epoch = math.ceil(len(drawn.train) / recipe.batch_size)
    return replace(drawn, learning_rates=schedule(recipe.model_copy(update={"learning_rate": rate}), steps_per_epoch))


def _following(
    recipe: Recipe,
    seed: int,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    unlabelled: NDArray[np.int64],
    labels: NDArray[np.int64] | None,
) -> Plan:
    """The plan of a run on these images."""
    n, epochs = len(train), recipe.epochs
    if recipe.batch_norm_trains:
        check_batches(recipe, n)
    order = np.stack([generator(seed, "order", epoch).permutation(n) for epoch in range(epochs)])
    flips = np.zeros((0, n), dtype=bool)
    crops = np.zeros((0, n, 2), dtype=np.int64)
    if recipe.flip:
        flips = generator(seed, "flips").random((epochs, n)) < 0.5
    if recipe.crop:
        crops = generator(seed, "crops").integers(0, recipe.resize_to - recipe.size + 1, (epochs, n, 2))
    steps_per_epoch = math.ceil(n / recipe.batch_size)
    if recipe.method.takes_pairs and labels is not None:
        partners = np.stack([_partners(train[each], labels, seed, epoch) for epoch, each in enumerate(order)])
    else:
        partners = np.zeros((0, 0), np.int64)
    drawn = Plan(train, test, order, schedule(recipe, steps_per_epoch), flips, crops, partners)
    return _with_views(recipe, seed, drawn, unlabelled) if recipe.method.takes_unlabelled else drawn


def _partners(images: NDArray[np.int64], labels: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
    """A partner for each image, every other one of the same class; never itself, so a class of one has only others."""
    random = generator(seed, "partners", epoch)
    own = labels[images]
    found = []
    for place, image in enumerate(images):
        alike = images[(own == own[place]) & (images != image)]
        others = images[own != own[place]]
        found.append(random.choice(alike if place % 2 == 0 and len(alike) else others))
    return np.array(found, dtype=np.int64)


def _with_views(recipe: Recipe, seed: int, drawn: Plan, unlabelled: NDArray[np.int64]) -> Plan:
    """A plan with the unlabelled images of each step, each of which comes once before any comes again, and views."""
    steps, n = len(drawn.learning_rates), len(unlabelled)
    batch = min(recipe.batch_size * recipe.unlabeled_ratio, n)
    rounds = math.ceil(steps * batch / n)
    order = np.concatenate([generator(seed, "unlabelled", number).permutation(n) for number in range(rounds)])
    return replace(
        drawn,
        unlabelled=unlabelled,
        unlabelled_order=order[: steps * batch].reshape(steps, batch),
        unlabelled_views=generator(seed, "unlabelled views").integers(0, recipe.views, (steps, batch)),
        view_draws=generator(seed, "views").random((2, n, recipe.views, DRAWS)),
    )


def check_batches(recipe: Recipe, n: int) -> None:
    """Make sure that normalisation in training mode gets along with n training images.

    Raises:
        BadInput: a batch would have one image.
    """
    if recipe.pair.batch_norm and (n % recipe.batch_size == 1 or recipe.batch_size == 1):
        raise BadInput(
            f"with batch_size {recipe.batch_size} the last of {n} training images would be a batch of its own, and "
            "normalisation cannot estimate a variance from one; choose another --batch-size."
        )


def schedule(recipe: Recipe, steps_per_epoch: int) -> NDArray[np.float64]:
    """Learning rate of every step, float64 (epochs * steps_per_epoch,).

    Linear warm-up over ``warmup_epochs``, then constant, half a cosine to zero (Loshchilov and Hutter, SGDR, 2017,
    equation 5, without restarts), or a tenth after every seven epochs, counted from the start (torch's ``StepLR`` as
    PyTorch's tutorial on transfer learning sets it).
    """
    steps = recipe.epochs * steps_per_epoch
    warmup = min(round(recipe.warmup_epochs * steps_per_epoch), steps)
    step = np.arange(steps, dtype=np.float64)
    rates = np.full(steps, recipe.learning_rate)
    if recipe.schedule == "cosine":
        rates *= 0.5 * (1 + np.cos(np.pi * np.clip((step - warmup) / max(steps - warmup, 1), 0, 1)))
    if recipe.schedule == "step":
        rates *= STEP_FACTOR ** (step // steps_per_epoch // STEP_EPOCHS)
    rates[:warmup] = recipe.learning_rate * (step[:warmup] + 1) / max(warmup, 1)
    return rates

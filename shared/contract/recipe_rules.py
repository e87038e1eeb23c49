"""Which fields of a recipe go together: what a person is told about the first that do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer_parity.shared.core.errors import BadInput

if TYPE_CHECKING:
    from transfer_parity.shared.contract.recipe import Recipe

#: The smallest number of float32 that is not denormal: processors may round what is smaller to 0.
SMALLEST = 2.0**-126


def problem(recipe: Recipe) -> str | None:
    """What is wrong with the fields of a recipe together, each of which is valid; None if nothing is."""
    if recipe.solver == "ridge" and (not recipe.method.solvable or recipe.head != "linear"):
        return "solver ridge is for a linear head on frozen features: strategy linear_probe, head linear"
    if recipe.solver == "ridge" and (recipe.flip or recipe.crop):
        return "flip and crop need images in every step, and solver ridge has no steps; use optimizer"
    if recipe.method.head is not None and recipe.head != "linear":
        return f"strategy {recipe.strategy} has a head of its own; leave head {recipe.head} out"
    if recipe.method.text and recipe.text_features is None:
        return f"strategy {recipe.strategy} compares with text; give --text-features FILE.npy (text_features)"
    if recipe.image_features is not None and (refused := _without_images(recipe)) is not None:
        return refused
    if recipe.method.solution is not None and (recipe.flip or recipe.crop):
        return f"flip and crop need images in every step, and strategy {recipe.strategy} has no steps; leave them out"
    if recipe.method.first_head(recipe) == "ridge" and recipe.head != "linear":
        return f"first_head ridge is for a linear head; with head {recipe.head} give first_head probe"
    if recipe.method.only_normalisations and not recipe.pair.normalises:
        return f"strategy {recipe.strategy} trains normalisations, and {recipe.backbone} has none; choose another"
    if not recipe.method.takes_tasks and (recipe.labels is not None or recipe.tasks):
        return f"labels and tasks belong to strategy multi_task; leave them out with strategy {recipe.strategy}"
    if recipe.method.takes_tasks and recipe.loss != "cross_entropy":
        return f"strategy {recipe.strategy} sums cross entropies; leave loss {recipe.loss} out"
    if recipe.method.takes_pairs and (recipe.loss != "cross_entropy" or recipe.label_smoothing):
        return f"strategy {recipe.strategy} has the contrastive loss of pairs; leave loss and label_smoothing out"
    if recipe.precision != "float64" and recipe.epsilon < SMALLEST:
        return (
            f"epsilon {recipe.epsilon:g} is below float32's smallest normal number, 1.2e-38, and may count as 0; "
            "give more, or precision float64"
        )
    if recipe.loss == "mse" and recipe.label_smoothing:
        return "label_smoothing belongs to loss cross_entropy; leave it 0 with mse"
    if recipe.resize is not None and recipe.resize < recipe.size:
        return f"resize {recipe.resize} is smaller than image_size {recipe.size}; give at least {recipe.size}"
    if recipe.size < recipe.pair.smallest_image:
        return f"image_size {recipe.size} is too small for {recipe.backbone}; give {recipe.pair.smallest_image}"
    if recipe.method.pretrained and recipe.weights == "random" and recipe.control:
        return "weights random is the control itself; add --no-control (control = false)"
    if isinstance(recipe.finetune_stages, int) and recipe.finetune_stages > len(recipe.pair.stages):
        return (
            f"finetune_stages {recipe.finetune_stages} is more than the {len(recipe.pair.stages)} stages of "
            f"{recipe.backbone}; give fewer, or all"
        )
    if isinstance(recipe.finetune_stages, int) and recipe.finetune_stages < recipe.method.least_stages:
        return f"finetune_stages = {recipe.finetune_stages} is not valid: give 1 or more stages, or all"
    if recipe.method.takes_unlabelled and not recipe.freeze_batch_norm:
        return (
            f"with strategy {recipe.strategy} normalisation stays as it is, since a batch of labelled and unlabelled "
            "images has other statistics than either; leave freeze_batch_norm true"
        )
    if recipe.method.takes_pairs and (recipe.flip or recipe.crop or not recipe.freeze_batch_norm):
        return f"strategy {recipe.strategy} takes pairs as they are; leave flip and crop false, freeze_batch_norm true"
    return None


def needs_images(recipe: Recipe, who: str) -> None:
    """Refuse features in place of images where images go through a backbone.

    Args:
        recipe: that somebody gave.
        who: puts images through it, for the message.

    Raises:
        BadInput: the recipe has image_features.
    """
    if recipe.image_features is not None:
        raise BadInput(
            f"{who} puts images through a backbone, and image_features {recipe.image_features} has what came out of "
            "one; leave image_features out."
        )


def needs_one_task(recipe: Recipe, claim: str, instead: str) -> None:
    """Refuse several tasks where each image has one class.

    Args:
        recipe: that somebody gave.
        claim: who does what with one task, or with one class an image; the message begins with it.
        instead: what there is to do about it.

    Raises:
        BadInput: the recipe's strategy has several tasks.
    """
    if recipe.method.takes_tasks:
        raise BadInput(f"{claim}, and strategy {recipe.strategy} has several; {instead}.")


def _without_images(recipe: Recipe) -> str | None:
    """Why a recipe cannot do with features in place of images; None if it can."""
    given = "image_features has what came out of one"
    if not recipe.only_head_trains or not recipe.method.pretrained:
        return (
            f"strategy {recipe.strategy} trains a backbone, and {given}; leave image_features out, or choose a "
            "strategy that trains a head alone"
        )
    if recipe.method.takes_unlabelled:
        return f"strategy {recipe.strategy} takes views of images, which image_features has not; leave it out"
    if recipe.flip or recipe.crop:
        return "flip and crop need images in every step, which image_features has not; leave them out"
    if recipe.head == "conv":
        return "head conv works on feature maps, and image_features has vectors; give head linear or mlp"
    if recipe.control:
        return f"the control runs on an untrained backbone, and {given}; add --no-control (control = false)"
    return None

"""The classifier to build: what a recipe and its checkpoint's semantics determine about a model."""

from __future__ import annotations

import json
from dataclasses import dataclass

from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.methods import HeadKind as HeadKind
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.wings import REFERENCE, of_library, other
from transfer_parity.shared.zoo.pair import HEAD, PREPROCESSING, Aspect, BatchNorm, Pair, Preprocessing, Semantics


@dataclass(frozen=True)
class ModelSpec:
    """A classifier to build: backbone, pooling if the head wants it, head; or a head alone, for given features.

    Attributes:
        image_size: side of the square input in pixels.
        resize: shorter side in pixels to which an image is resized before that square is cut out.
        batch_norm: epsilon and momentum of every normalisation in the backbone.
        head: the recipe's, its strategy's, or "imagenet": the architecture's own classifier, as both libraries ship it.
        frozen_stages: how many of the first stages are the part "frozen"; the others and the head are "trainable". With
            0 there are no such parts.
        given: length of the features that take the place of a backbone's, so that there is none; else None.
        switches: what this wing is to do as the other framework does it (see ``shared.contract.switches``).
        tasks: number of classes of each task, whose logits stand side by side; none where there is but one task.
    """

    pair: Pair
    semantics: Semantics
    batch_norm: BatchNorm
    preprocessing: Preprocessing
    image_size: int
    resize: int
    head: HeadKind
    head_units: int
    classes: int
    frozen_stages: int = 0
    given: int | None = None
    switches: frozenset[str] = frozenset()
    tasks: tuple[int, ...] = ()

    def meaning(self, aspect: Aspect) -> Semantics:
        """Whose meaning of an aspect this model has: its checkpoint's, or the other one's if it is switched."""
        return meaning(self.semantics, aspect, self.switches)

    def in_classifier(self, name: str) -> bool:
        """Whether a parameter belongs to what stands behind the backbone: the project's head, or the original one."""
        return name.startswith(HEAD) or self.pair.in_classifier(name)

    @property
    def pooled(self) -> bool:
        """Whether the head works on globally averaged features (N, C), not on the feature map."""
        return self.head != "conv"


def meaning(semantics: Semantics, aspect: Aspect, switches: frozenset[str]) -> Semantics:
    """Whose meaning of an aspect a model has: that of its semantics, or the other library's if it is switched."""
    if aspect in switches:
        return other(of_library(semantics)).library
    return semantics


def frozen_stages(recipe: Recipe, switches: frozenset[str]) -> int:
    """How many of the first stages put out the same for an image in every step, in a wing with these switches."""
    # Normalisations that follow the batch put out something else in every step.
    return 0 if "frozen_batch_norm" in switches else recipe.frozen_stages


def model_spec(
    recipe: Recipe,
    metadata: Metadata | None,
    classes: int,
    head: HeadKind | None = None,
    switches: frozenset[str] = frozenset(),
    given: int | None = None,
    tasks: tuple[int, ...] = (),
) -> ModelSpec:
    """The classifier that a recipe asks for, under the semantics of its checkpoint (the reference's without one).

    Args:
        recipe: its backbone, sizes, head and preprocessing are used.
        metadata: of the checkpoint.
        classes: number of them.
        head: if not the recipe's.
        switches: those of this wing.
        given: length of features that another encoder has made of the images.
        tasks: number of classes of each task, if there are several; in all, as many as there are classes.
    """
    semantics: Semantics = metadata.semantics if metadata else REFERENCE.library
    pair = recipe.pair
    epsilon = pair.batch_norm.get(meaning(semantics, "bn_epsilon", switches), BatchNorm()).epsilon
    if metadata and metadata.batch_norm_epsilon is not None and "bn_epsilon" not in switches:
        epsilon = metadata.batch_norm_epsilon
    momentum = pair.batch_norm.get(meaning(semantics, "bn_momentum", switches), BatchNorm()).momentum
    preprocessing: str = recipe.preprocessing
    if preprocessing == "auto":
        preprocessing = pair.preprocessing[meaning(semantics, "preprocessing", switches)]
    return ModelSpec(
        pair=pair,
        semantics=semantics,
        batch_norm=BatchNorm(epsilon, momentum),
        preprocessing=PREPROCESSING[preprocessing],
        image_size=recipe.size,
        resize=recipe.resize_to,
        head=head or recipe.head_kind,
        head_units=recipe.head_units,
        classes=classes,
        frozen_stages=0 if head == "imagenet" else frozen_stages(recipe, switches),
        given=given,
        switches=switches,
        tasks=tasks,
    )


def describe(recipe: Recipe, metadata: Metadata | None, classes: tuple[str, ...]) -> dict[str, str]:
    """What a kept model must say about itself so that it can be built again (see ``checkpoints.kept_model``)."""
    description = {"recipe": recipe.model_dump_json(), "classes": json.dumps(classes)}
    return description | ({"checkpoint": metadata.model_dump_json()} if metadata else {})

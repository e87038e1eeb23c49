"""The recipe: everything a person chooses. Read from TOML, overridden from the command line, frozen afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli_w
from pydantic import field_validator, model_validator

from transfer_parity.shared.contract import recipe_rules
from transfer_parity.shared.contract.methods import METHODS, ClosedForm, HeadKind, Method
from transfer_parity.shared.contract.options import Options
from transfer_parity.shared.contract.recipe_fields import RecipeFields
from transfer_parity.shared.contract.recipe_fields import Shots as Shots
from transfer_parity.shared.contract.wings import IDENTIFIERS, libraries
from transfer_parity.shared.contract.wings import Framework as Framework
from transfer_parity.shared.core import paths
from transfer_parity.shared.core.errors import did_you_mean
from transfer_parity.shared.core.text import is_name
from transfer_parity.shared.zoo.lookup import find_pair
from transfer_parity.shared.zoo.pair import Pair

WEIGHT_ORIGINS = (*libraries(), "random")


class Recipe(RecipeFields):
    """One transfer-learning recipe: fields that go together, and what follows from them."""

    @field_validator("data", "weights", "unlabeled", "labels", "text_features", "image_features")
    @classmethod
    def _can_be_a_path(cls, value: str | None) -> str | None:
        if value is not None and not is_name(value):
            raise ValueError("no file can have this name; give text in UTF-8 without NUL")
        return value

    @field_validator("shots", "tasks", "frameworks", mode="before")
    @classmethod
    def _one_value_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int | str) else value

    @field_validator("shots")
    @classmethod
    def _shots_are_counts(cls, value: tuple[Shots, ...]) -> tuple[Shots, ...]:
        if not value:
            raise ValueError("give at least one number of images a class, or all")
        if any(isinstance(k, int) and k < 1 for k in value):
            raise ValueError("a number of images a class is at least 1")
        return tuple(sorted(set(value), key=lambda k: float("inf") if k == "all" else float(k)))

    @field_validator("frameworks")
    @classmethod
    def _each_framework_once(cls, value: tuple[Framework, ...]) -> tuple[Framework, ...]:
        if not value:
            raise ValueError(f"name at least one of {', '.join(IDENTIFIERS)}")
        return tuple(dict.fromkeys(value))

    @field_validator("tasks")
    @classmethod
    def _each_task_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(value))

    @field_validator("finetune_stages")
    @classmethod
    def _stages_are_counts(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 0:
            raise ValueError("give 1 or more stages, or all")
        return value

    @field_validator("backbone")
    @classmethod
    def _canonical_backbone(cls, value: str) -> str:
        return find_pair(value).name

    @field_validator("weights")
    @classmethod
    def _known_weights(cls, value: str) -> str:
        if value.lower() in WEIGHT_ORIGINS:
            return value.lower()
        if not Path(value).suffix and not paths.expanded(value).exists():
            raise ValueError(f"there is no such file; {did_you_mean(value, WEIGHT_ORIGINS)}")
        return value

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Recipe:
        problem = recipe_rules.problem(self)
        if problem is not None:
            raise ValueError(problem)
        return self

    @property
    def pair(self) -> Pair:
        """The architecture, as both libraries have it."""
        return find_pair(self.backbone)

    @property
    def method(self) -> Method:
        """What its strategy is."""
        return METHODS[self.strategy]

    @property
    def head_kind(self) -> HeadKind:
        """The classifier to build: its strategy's own, or the one that it names."""
        return self.method.head or self.head

    @property
    def size(self) -> int:
        """Side of the square input in pixels."""
        return self.image_size or self.pair.image_size

    @property
    def resize_to(self) -> int:
        """Shorter side in pixels to which an image is resized before it is cropped."""
        return self.resize or round(self.size * 256 / 224)

    @property
    def stored_size(self) -> int:
        """Side in pixels of the images as they are decoded: larger than the input where crops are drawn from them."""
        return self.resize_to if self.crop else self.size

    @property
    def frozen_stages(self) -> int:
        """How many of the first stages put out the same for an image in every step, so that once is enough."""
        return 0 if self.flip or self.crop else self.first_trained_stage

    @property
    def first_trained_stage(self) -> int:
        """Index of the first stage that trains; the number of stages if only the head does."""
        return self.method.first_trained_stage(self)

    @property
    def only_head_trains(self) -> bool:
        """Whether no stage of the backbone trains."""
        return self.first_trained_stage == len(self.pair.stages)

    @property
    def batch_norm_trains(self) -> bool:
        """Whether normalisation uses and learns the statistics of the batch. If not, all of it stays as it is."""
        return self.method.batch_norm_trains(self)

    @property
    def closed_form(self) -> ClosedForm | None:
        """What fits the head in place of steps; None where there are steps."""
        return self.method.closed_form(self)

    @property
    def pretrained(self) -> bool:
        """Whether the recipe itself (not its control) begins on weights that were trained before."""
        return self.method.pretrained and self.weights != "random"

    def rate_factor(self, name: str) -> float:
        """Of the learning rate, for the parameter of this neutral name: smaller the further it is from the head."""
        return self.method.rate_factor(self, name)

    @property
    def seed_list(self) -> range:
        """The seeds, in order."""
        return range(self.first_seed, self.first_seed + self.seeds)

    def given(self) -> dict[str, Any]:
        """Keys and plain values, without those that are None, as TOML can say them."""
        return {key: value for key, value in self.model_dump(mode="json").items() if value is not None}

    def as_toml(self) -> str:
        """A file that ``read`` reads again."""
        return tomli_w.dumps(self.given())


#: Which field is an option of which command, and what depends on it: from the metadata of the fields.
OPTIONS = Options(Recipe.model_fields)

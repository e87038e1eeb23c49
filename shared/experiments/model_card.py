"""What there is to say about a model that was trained to be used: ``model-card.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from transfer_parity.shared.contract import artifacts
from transfer_parity.shared.contract.recipe import Recipe, Shots
from transfer_parity.shared.contract.wings import Framework
from transfer_parity.shared.core.document import Document
from transfer_parity.shared.core.errors import BadInput


class Estimate(Document):
    """How well models of the same recipe recognise images that they were not trained on."""

    source: str = Field(description="the run that measured it, a folder")
    shots: Shots = Field(description="training images a class in that run, or all")
    seeds: int
    training_images: int
    test_images: int
    accuracy: dict[Framework, float] = Field(description="mean over seeds, 0 to 1")
    interval: dict[Framework, tuple[float, float] | None] = Field(
        description="95 % interval for new images of the same kind; None if there is but one seed"
    )


class ModelFile(Document):
    """The file of one framework."""

    file: str = Field(description="relative to the card")
    sha256: str
    initial_weights_digest: str = Field(description="of all weights before the first step; equal in both frameworks")
    versions: dict[str, str]


class ModelCard(Document):
    """All of ``model-card.json``."""

    schema_version: Literal[1] = 1
    created: str = Field(description="ISO 8601, UTC")
    recipe: Recipe
    checkpoint: dict[str, str | float | None] | None = Field(
        description="what the pretrained weights say about themselves; None where all weights were drawn"
    )
    checkpoint_sha256: str | None
    data: str = Field(description="name of the data set, or of its folder")
    data_sha256: str = Field(description="of the decoded images, in order")
    images: dict[str, int] = Field(description="training images by class, in the order of the logits")
    skipped_files: list[str]
    models: dict[Framework, ModelFile]
    same_predictions: int | None = Field(description="training images of which the frameworks say the same")
    estimate: Estimate | None

    @property
    def classes(self) -> list[str]:
        """In the order of the logits."""
        return list(self.images)


def read(path: Path) -> ModelCard:
    """Read a card.

    Raises:
        BadInput: it cannot be read, or is of another version.
    """
    try:
        return ModelCard.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.errors()[0]["msg"]
        raise BadInput(
            f"{path} is no model card of this version ({reason}); name the file in {artifacts.MODELS}/ to use the "
            "model without its card."
        ) from None

"""The recipe: everything a person chooses. Read from TOML, overridden from the command line, frozen afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from transfer_parity.shared.contract.options import Command, Group, Option, Options
from transfer_parity.shared.contract.wings import IDENTIFIERS, REFERENCE, libraries
from transfer_parity.shared.contract.wings import Framework as Framework
from transfer_parity.shared.core import paths
from transfer_parity.shared.core.errors import did_you_mean
from transfer_parity.shared.core.text import is_name
from transfer_parity.shared.zoo.lookup import find_pair
from transfer_parity.shared.zoo.pair import Pair

Shots = int | Literal["all"]
#: The smallest number of float32 that is not denormal: processors may round what is smaller to 0.
SMALLEST = 2.0**-126
WEIGHT_ORIGINS = (*libraries(), "random")

# Which commands besides the default one offer a field, and a long heading.
STUDY: frozenset[Command] = frozenset({"study"})
ATTRIBUTE: frozenset[Command] = frozenset({"attribute"})
SWEEPS = STUDY | ATTRIBUTE
EVERYWHERE: frozenset[Command] = SWEEPS | {"rank"}
PREPROCESSING: Group = "preprocessing and augmentation"


class Recipe(BaseModel):
    """One transfer-learning recipe. Every field is a key of the TOML file and an option of the command line."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    name: Annotated[
        str,
        Option("comparison", SWEEPS, behind={"study": "threads", "attribute": "threads"}, common=True),
    ] = Field(
        "transfer", pattern=r"^[\w.-]+$", max_length=100, description="name of the run; part of the results folder"
    )

    # Data
    data: Annotated[str, Option("data", EVERYWHERE, common=True)] = Field(
        "flowers",
        min_length=1,
        description="flowers, cifar10, chest_xrays, solar_cells, torchvision:NAME, keras:NAME, or a folder of images "
        "(class/image, or train/ and test/)",
    )
    shots: Annotated[tuple[Shots, ...], Option("data", EVERYWHERE, common=True)] = Field(
        (5,), description="labelled images a class to train on; several numbers, or all"
    )
    seeds: Annotated[int, Option("data", SWEEPS, common=True)] = Field(
        5, ge=1, le=10_000, description="number of repetitions, each with its own subset, order and initial head"
    )
    first_seed: Annotated[int, Option("data", EVERYWHERE, common=True)] = Field(
        0, ge=0, lt=2**31, description="the first seed; the others follow it"
    )
    test_fraction: Annotated[float, Option("data", EVERYWHERE, common=True)] = Field(
        0.2, gt=0, lt=1, description="part of each class held out when shots is all and the folder has no test set"
    )
    skip_unreadable: Annotated[bool, Option("data", EVERYWHERE, common=True)] = Field(
        False, description="go on without the image files that cannot be read"
    )

    # Model
    backbone: Annotated[str, Option("model", SWEEPS, common=True)] = Field(
        "MobileNetV2", description="architecture, in Keras's or torchvision's spelling"
    )
    weights: Annotated[str, Option("model", SWEEPS, common=True)] = Field(
        REFERENCE.library, description="torchvision, keras, random, or a checkpoint file"
    )
    strategy: Annotated[Literal["linear_probe", "finetune", "scratch"], Option("model")] = Field(
        "linear_probe", description="train the head only, the last stages too, or everything from random weights"
    )
    finetune_stages: Annotated[int | Literal["all"], Option("model")] = Field(
        1, description="how many of the last stages finetune trains, or all"
    )
    freeze_batch_norm: Annotated[bool, Option("model", ATTRIBUTE, behind={"attribute": "precision"})] = Field(
        True, description="finetune: keep batch normalisation in inference mode, unchanged"
    )
    head: Annotated[Literal["linear", "mlp", "conv"], Option("model")] = Field(
        "linear", description="classifier on top of the backbone"
    )
    solver: Annotated[Literal["optimizer", "ridge"], Option("model")] = Field(
        "optimizer", description="how a linear head on frozen features is fitted: in steps, or in closed form"
    )
    ridge_penalty: Annotated[float, Option("model")] = Field(
        1.0, gt=0, description="weight of the squared norm of the head's weights (ridge)"
    )
    head_units: Annotated[int, Option("model", behind={"compare": "head"})] = Field(
        256, ge=1, le=2**16, description="width of the hidden layer of the mlp and conv heads"
    )

    # Preprocessing and augmentation
    image_size: Annotated[int | None, Option(PREPROCESSING, EVERYWHERE)] = Field(
        None, ge=32, le=4096, description="side of the input in pixels (default: the backbone's own)"
    )
    resize: Annotated[int | None, Option(PREPROCESSING)] = Field(
        None, ge=32, le=2**14, description="shorter side before the crop, in pixels (default: 256/224 of image_size)"
    )
    preprocessing: Annotated[
        Literal["auto", "imagenet", "caffe", "symmetric", "symmetric_128"], Option(PREPROCESSING)
    ] = Field("auto", description="how pixels become inputs (auto: as the checkpoint was trained)")
    flip: Annotated[bool, Option(PREPROCESSING, ATTRIBUTE, behind={"attribute": "weight_decay"})] = Field(
        False, description="augment training images with horizontal flips, drawn in the plan"
    )
    crop: Annotated[bool, Option(PREPROCESSING)] = Field(
        False, description="augment training images with crops, drawn in the plan"
    )

    # Training
    loss: Annotated[Literal["cross_entropy", "mse"], Option("training")] = Field(
        "cross_entropy", description="training loss"
    )
    label_smoothing: Annotated[float, Option("training")] = Field(
        0.0, ge=0, lt=1, description="probability spread over all classes (cross_entropy)"
    )
    optimizer: Annotated[Literal["sgd", "adam", "adamw"], Option("training", ATTRIBUTE)] = Field(
        "adam", description="optimizer, with torch's meaning on both sides"
    )
    learning_rate: Annotated[float, Option("training", ATTRIBUTE)] = Field(1e-3, gt=0, description="peak learning rate")
    momentum: Annotated[float, Option("training")] = Field(0.9, ge=0, lt=1, description="momentum of sgd")
    beta1: Annotated[float, Option("training")] = Field(0.9, ge=0, lt=1, description="decay of adam's first moment")
    beta2: Annotated[float, Option("training")] = Field(0.999, ge=0, lt=1, description="decay of adam's second moment")
    epsilon: Annotated[float, Option("training")] = Field(
        1e-8, gt=0, description="adam's epsilon, added after bias correction"
    )
    weight_decay: Annotated[float, Option("training", ATTRIBUTE, behind={"attribute": "schedule"})] = Field(
        0.0, ge=0, description="coupled (L2) for sgd and adam, decoupled for adamw"
    )
    schedule: Annotated[Literal["constant", "cosine", "step"], Option("training", ATTRIBUTE)] = Field(
        "constant", description="learning rate schedule (step: a tenth of it after every 7 epochs)"
    )
    warmup_epochs: Annotated[float, Option("training")] = Field(
        0.0, ge=0, le=10**6, description="epochs of linear warm-up at the beginning"
    )
    epochs: Annotated[int, Option("training", SWEEPS)] = Field(
        100, ge=1, le=10**6, description="passes over the training images"
    )
    batch_size: Annotated[int, Option("training", SWEEPS)] = Field(
        32, ge=1, le=2**16, description="training images a step"
    )

    # Comparison
    precision: Annotated[Literal["float32", "float64", "bfloat16"], Option("comparison", SWEEPS)] = Field(
        "float32",
        description="floating-point type of the arithmetic; bfloat16: the backbone's, and float32 runs beside it",
    )
    frameworks: Annotated[tuple[Framework, ...], Option("comparison", STUDY, common=True)] = Field(
        IDENTIFIERS, description="which wings run"
    )
    control: Annotated[bool, Option("comparison", fixed=False)] = Field(
        True, description="also run the recipe on an untrained backbone"
    )
    runtime: Annotated[Literal["tuned", "stock", "both"], Option("speed", fixed="tuned")] = Field(
        "tuned", description="tuned: as fast as each framework can here; stock: as installed; both: side by side"
    )
    repeats: Annotated[int, Option("speed", fixed=1)] = Field(
        1, ge=1, le=1000, description="how often each framework does the work, in turns, to compare speed"
    )
    engine: Annotated[Literal["auto", "plain"], Option("speed", behind={"compare": "runtime"}, fixed="plain")] = Field(
        "auto", description="passes over many images by what pays for its set-up, or plain: as the network is"
    )
    cache: Annotated[bool, Option("speed", fixed=True)] = Field(
        True, description="use what frozen layers put out in earlier runs; --no-cache starts cold"
    )
    margin: Annotated[float, Option("comparison", STUDY, common=True)] = Field(
        0.01, gt=0, lt=1, description="accuracy difference that counts as equivalent"
    )
    inference_batch_size: Annotated[int, Option("comparison")] = Field(
        32, ge=1, le=2**16, description="images a batch when nothing trains"
    )
    check: Annotated[bool, Option("comparison", fixed=False)] = Field(
        True, description="measure on one batch what rounding explains; --no-check leaves it out"
    )
    device: Annotated[Literal["auto", "cpu"], Option("comparison", EVERYWHERE, common=True)] = Field(
        "auto", description="auto uses a GPU where the framework sees one"
    )
    threads: Annotated[int | None, Option("comparison", EVERYWHERE, common=True)] = Field(
        None, ge=1, le=1024, description="threads of each framework (default: the cores it may use)"
    )

    @field_validator("data", "weights")
    @classmethod
    def _can_be_a_path(cls, value: str) -> str:
        if not is_name(value):
            raise ValueError("no file can have this name; give text in UTF-8 without NUL")
        return value

    @field_validator("shots", mode="before")
    @classmethod
    def _one_number_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int | str) else value

    @field_validator("shots")
    @classmethod
    def _shots_are_counts(cls, value: tuple[Shots, ...]) -> tuple[Shots, ...]:
        if not value:
            raise ValueError("give at least one number of images a class, or all")
        if any(isinstance(k, int) and k < 1 for k in value):
            raise ValueError("a number of images a class is at least 1")
        return tuple(sorted(set(value), key=lambda k: float("inf") if k == "all" else float(k)))

    @field_validator("frameworks", mode="before")
    @classmethod
    def _one_framework_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("frameworks")
    @classmethod
    def _each_framework_once(cls, value: tuple[Framework, ...]) -> tuple[Framework, ...]:
        if not value:
            raise ValueError(f"name at least one of {', '.join(IDENTIFIERS)}")
        return tuple(dict.fromkeys(value))

    @field_validator("finetune_stages")
    @classmethod
    def _stages_are_counts(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
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
        if self.solver == "ridge" and (self.strategy != "linear_probe" or self.head != "linear"):
            raise ValueError("solver ridge is for a linear head on frozen features: strategy linear_probe, head linear")
        if self.solver == "ridge" and (self.flip or self.crop):
            raise ValueError("flip and crop need images in every step, and solver ridge has no steps; use optimizer")
        if self.precision != "float64" and self.epsilon < SMALLEST:
            raise ValueError(
                f"epsilon {self.epsilon:g} is below float32's smallest normal number, 1.2e-38, and may count as 0; "
                "give more, or precision float64"
            )
        if self.loss == "mse" and self.label_smoothing:
            raise ValueError("label_smoothing belongs to loss cross_entropy; leave it 0 with mse")
        if self.resize is not None and self.resize < self.size:
            raise ValueError(f"resize {self.resize} is smaller than image_size {self.size}; give at least {self.size}")
        if self.size < self.pair.smallest_image:
            raise ValueError(
                f"image_size {self.size} is too small for {self.backbone}; give {self.pair.smallest_image}"
            )
        if self.strategy != "scratch" and self.weights == "random" and self.control:
            raise ValueError("weights random is the control itself; add --no-control (control = false)")
        if isinstance(self.finetune_stages, int) and self.finetune_stages > len(self.pair.stages):
            raise ValueError(
                f"finetune_stages {self.finetune_stages} is more than the {len(self.pair.stages)} stages of "
                f"{self.backbone}; give fewer, or all"
            )
        return self

    @property
    def pair(self) -> Pair:
        """The architecture, as both libraries have it."""
        return find_pair(self.backbone)

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
        if self.strategy == "linear_probe":
            return len(self.pair.stages)
        if self.strategy == "scratch" or self.finetune_stages == "all":
            return 0
        return len(self.pair.stages) - self.finetune_stages

    @property
    def batch_norm_trains(self) -> bool:
        """Whether normalisation uses and learns the statistics of the batch. If not, all of it stays as it is."""
        return self.strategy == "scratch" or (self.strategy == "finetune" and not self.freeze_batch_norm)

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

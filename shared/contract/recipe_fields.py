"""The keys of a recipe: their types, defaults and descriptions, and which commands offer them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from transfer_parity.shared.contract.methods import SUMMARY, Strategy
from transfer_parity.shared.contract.options import Command, Group, Option
from transfer_parity.shared.contract.wings import IDENTIFIERS, REFERENCE, Framework

Shots = int | Literal["all"]

# Which commands besides the default one offer a field, and a long heading.
STUDY: frozenset[Command] = frozenset({"study"})
ATTRIBUTE: frozenset[Command] = frozenset({"attribute"})
SWEEPS = STUDY | ATTRIBUTE
EVERYWHERE: frozenset[Command] = SWEEPS | {"rank"}
PREPROCESSING: Group = "preprocessing and augmentation"


class RecipeFields(BaseModel):
    """The fields of a recipe, each by itself. Every one is a key of the TOML file and an option of the command line."""

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

    unlabeled: Annotated[str | None, Option("data")] = Field(
        None, description="folder of unlabelled images, for strategies that take them (default: those beyond the shots)"
    )
    labels: Annotated[str | None, Option("data", STUDY, common=True)] = Field(
        None, description="multi_task: CSV file with a column for each task (default: labels.csv in the folder)"
    )
    tasks: Annotated[tuple[str, ...], Option("data", STUDY, common=True)] = Field(
        (), description="multi_task: columns of that file which are tasks (default: all of them)"
    )

    # Model
    backbone: Annotated[str, Option("model", SWEEPS, common=True)] = Field(
        "MobileNetV2", description="architecture, in Keras's or torchvision's spelling"
    )
    weights: Annotated[str, Option("model", SWEEPS, common=True)] = Field(
        REFERENCE.library, description="torchvision, keras, random, or a checkpoint file"
    )
    strategy: Annotated[Strategy, Option("model")] = Field("linear_probe", description=SUMMARY)
    finetune_stages: Annotated[int | Literal["all"], Option("model")] = Field(
        1, description="how many of the last stages finetune, lp_ft and norm_only train, or all"
    )
    freeze_batch_norm: Annotated[bool, Option("model", ATTRIBUTE, behind={"attribute": "precision"})] = Field(
        True, description="finetune, lp_ft: keep batch normalisation in inference mode, unchanged"
    )
    head: Annotated[Literal["linear", "mlp", "conv"], Option("model")] = Field(
        "linear", description="classifier on top of the backbone"
    )
    solver: Annotated[Literal["optimizer", "ridge"], Option("model")] = Field(
        "optimizer", description="how a linear head on frozen features is fitted: in steps, or in closed form"
    )
    first_head: Annotated[Literal["ridge", "probe"], Option("model")] = Field(
        "ridge", description="lp_ft: how the head is fitted before the first step: in closed form, or as a probe trains"
    )
    ridge_penalty: Annotated[float, Option("model")] = Field(
        1.0, gt=0, description="weight of the squared norm of the head's weights (ridge)"
    )
    logit_scale: Annotated[float, Option("model")] = Field(
        10.0,
        gt=0,
        description="factor of logits that are cosines (nearest_mean, prototypes, zero_shot)",
    )
    text_features: Annotated[str | None, Option("model", STUDY)] = Field(
        None, description="zero_shot, tip_adapter: .npy file with a vector for each class, of a text encoder"
    )
    image_features: Annotated[str | None, Option("model", STUDY)] = Field(
        None,
        description=".npz or .npy file with a vector for each image, of any encoder; a head is fitted to them, and no "
        "backbone runs",
    )
    cache_alpha: Annotated[float, Option("model")] = Field(
        1.0, ge=0, description="tip_adapter: how much the cache of labelled images counts"
    )
    cache_beta: Annotated[float, Option("model")] = Field(
        5.5, gt=0, description="tip_adapter: how fast an image in the cache counts less with its distance"
    )
    head_units: Annotated[int, Option("model", behind={"compare": "head"})] = Field(
        256,
        ge=1,
        le=2**16,
        description="width of the hidden layer of the mlp and conv heads; room in tip_adapter's cache",
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
    stage_rate_decay: Annotated[float, Option("training")] = Field(
        1.0, gt=0, le=1, description="factor of the learning rate for each stage further from the head"
    )
    batch_size: Annotated[int, Option("training", SWEEPS)] = Field(
        32, ge=1, le=2**16, description="training images a step"
    )

    # Unlabelled images
    unlabeled_ratio: Annotated[int, Option("training")] = Field(
        1, ge=1, le=64, description="unlabelled images a step, for each labelled one of a full batch"
    )
    unlabeled_weight: Annotated[float, Option("training")] = Field(
        1.0, ge=0, description="weight of the loss of unlabelled images"
    )
    threshold: Annotated[float, Option("training")] = Field(
        0.95, ge=0, le=1, description="pseudo_label, fixmatch: probability from which on a class counts as a label"
    )
    label_temperature: Annotated[float, Option("training")] = Field(
        0.0, ge=0, le=100, description="pseudo_label, fixmatch: 0 for the surest class as the label, else probabilities"
    )
    teacher_decay: Annotated[float, Option("training")] = Field(
        0.99, ge=0, lt=1, description="mean_teacher: what an average of weights keeps of itself in a step"
    )
    pair_margin: Annotated[float, Option("training")] = Field(
        1.0, gt=0, description="siamese: distance from which on images of two classes are far enough apart"
    )
    views: Annotated[int, Option("training")] = Field(
        4, ge=1, le=256, description="stored weak and strong views of each unlabelled image"
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

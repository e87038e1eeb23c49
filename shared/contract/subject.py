"""A pair of one's own: two models that the ladder climbs, what goes into them, and how they are trained.

Everything a person chooses stands in one TOML file (``pair.toml``) or in keyword arguments. The user's factories run in
their framework's process only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from transfer_parity.shared.contract import wings
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.rungs import OPTIMIZERS, RUNGS, Optimizer, Rung
from transfer_parity.shared.contract.wings import WINGS, WingInfo
from transfer_parity.shared.core.errors import did_you_mean

#: Where weights come from, besides the name of a side.
DRAWN, OWN = "drawn", "own"
#: Batches of training examples: the trajectory goes through them again and again. One more is never trained on.
BATCHES = 4


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


class Input(_Part):
    """One input of both models."""

    shape: tuple[int, ...] = Field(description="of one example, without the batch; images as (height, width, channels)")
    kind: Literal["image", "values", "tokens"] = Field(
        "values", description="image: bytes from 0 to 255; values: normal numbers; tokens: whole numbers"
    )
    below: int = Field(256, ge=1, description="tokens are drawn from 0 to this number less one")
    channels_last: bool = Field(
        False,
        description="whether the last axis is channels, which a framework that wants them first gets moved; images' is",
    )

    @field_validator("shape")
    @classmethod
    def _is_positive(cls, shape: tuple[int, ...]) -> tuple[int, ...]:
        if any(size < 1 for size in shape):
            raise ValueError("every size is at least 1")
        return shape

    @property
    def moves_channels(self) -> bool:
        """Whether channels are moved for a framework that wants them first."""
        return (self.channels_last or self.kind == "image") and len(self.shape) > 1


class Layout(_Part):
    """A rule for a parameter that no rule of ours fits: how its array becomes the one that the other side has.

    It is read in one shape, its axes are put into another order, and it is written in another shape; a step that is not
    given changes nothing. Gradients and what an optimizer holds follow the same rule.
    """

    split: tuple[int, ...] | None = Field(None, description="shape that it is read in, of as many values")
    axes: tuple[int, ...] | None = Field(None, description="order of the axes, as numpy.transpose takes it")
    shape: tuple[int, ...] | None = Field(None, description="shape that it is written in")

    def apply(self, array: NDArray[Any]) -> NDArray[Any]:
        """The other side's array of this one's.

        Raises:
            ValueError: shapes or axes do not fit the array.
        """
        if self.split is not None:
            array = array.reshape(self.split)
        if self.axes is not None:
            array = array.transpose(self.axes)
        return array if self.shape is None else array.reshape(self.shape)

    def undo(self, array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """This side's array, which has that shape, of the other's."""
        split = shape if self.split is None else self.split
        if self.axes is not None:
            array = array.reshape([split[axis] for axis in self.axes]).transpose(np.argsort(self.axes))
        return array.reshape(shape)


#: Leaves an array as it is.
AS_IT_IS = Layout()


class Side(_Part):
    """One of the two models."""

    framework: str = Field(description="torch, keras or tensorflow; the table's own name where that is one of them")
    factory: str = Field(description="package.module:function or path/to/file.py:function; returns the model")
    arguments: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the factory")
    preprocess: str | None = Field(
        None, description="function from the inputs' arrays, in order, to what the model gets; default: cast, and move"
    )
    loss: str | None = Field(None, description="function of (targets, outputs) in place of [training]'s loss")
    optimizer: str | None = Field(
        None, description="function of the model that returns its optimizer, in place of ours"
    )
    layouts: dict[str, Layout] = Field(
        default_factory=dict, description="by parameter, layer.role: how its array becomes the other side's"
    )
    checkpoint: Path | None = Field(None, description="of this framework; loaded into the model once it is built")
    backend: str | None = Field(None, description="of Keras: tensorflow or torch")
    python: Path | None = Field(None, description="interpreter of an environment of its own")

    @model_validator(mode="after")
    def _is_possible(self) -> Side:
        names = {package: each for each in WINGS for package in each.packages}
        if self.framework not in names:
            raise ValueError(f"framework {self.framework!r}: {did_you_mean(self.framework, names)}")
        backends = names[self.framework].backends
        if self.backend is not None and self.backend not in backends:
            offered = did_you_mean(self.backend, backends) if backends else "this framework has none; leave it out"
            raise ValueError(f"backend {self.backend!r}: {offered}")
        if ":" not in self.factory:
            raise ValueError(f"factory {self.factory!r} is not package.module:function or file.py:function")
        return self

    @property
    def wing(self) -> WingInfo:
        """Whose process builds it."""
        return next(each for each in WINGS if self.framework in each.packages)


class Training(_Part):
    """The loss, and the steps that both models are trained for."""

    loss: Literal["cross_entropy", "mse"] = Field(
        "cross_entropy", description="of logits and classes, or of outputs and targets, averaged over the batch"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    optimizer: Optimizer = Field("sgd", description=", ".join(OPTIMIZERS))
    learning_rate: float = Field(1e-3, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.999, ge=0, lt=1)
    epsilon: float = Field(1e-7, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    steps: int = Field(20, ge=3, le=10_000, description="of the trajectory")
    batch: int = Field(4, ge=2, description="examples in each step")
    training_mode: bool = Field(True, description="whether normalisations are in training mode while it trains")


class Subject(_Part):
    """A pair of one's own."""

    name: str = Field("pair", pattern=r"^[\w.-]+$", max_length=100)
    sides: dict[str, Side] = Field(description="two of them; the first is the reference")
    inputs: dict[str, Input] = Field(description="in the order in which the models take them")
    examples: Path | None = Field(
        None, description=".npz of real inputs by name, and perhaps 'targets'; by default all are drawn"
    )
    weights: str = Field(
        "",
        description="whose weights both get: a side's name, drawn, or own (each keeps its own); default: the first's",
    )
    training: Training = Field(default_factory=Training)
    precision: Literal["float64", "float32"] = "float64"
    seed: int = Field(0, ge=0, lt=2**31)
    until: Rung = Field("metrics", description="the last rung")
    map: Path | None = Field(None, description="file of the map of names; proposed, and written, where it is not there")
    equal: dict[Rung, float] = Field(
        default_factory=dict, description="by rung, what counts as equal, relative; default: derived from rounding"
    )
    single_step: bool = Field(False, description="whether every layer gets the reference's input")

    @model_validator(mode="before")
    @classmethod
    def _fills_in(cls, values: Any) -> Any:
        """A side that is called like a framework is of that framework."""
        if isinstance(values, Mapping) and isinstance(values.get("sides"), Mapping):
            names = {package for each in WINGS for package in each.packages}
            sides = {
                name: {"framework": name, **side} if isinstance(side, Mapping) and name in names else side
                for name, side in values["sides"].items()
            }
            return {**values, "sides": sides}
        return values

    @model_validator(mode="after")
    def _is_possible(self) -> Subject:
        if len(self.sides) != 2:
            raise ValueError(f"sides: there are {len(self.sides)}, and have to be two")
        if not self.inputs:
            raise ValueError("inputs: there is none; describe each, e.g. [inputs.x] with its shape")
        if any(not name or any(letter in name for letter in "/\\:\0") for name in self.sides):
            raise ValueError("sides: a name holds none of / \\ :")
        valid = (*self.sides, DRAWN, OWN)
        if self.weights and self.weights not in valid:
            raise ValueError(f"weights {self.weights!r}: {did_you_mean(self.weights, valid)}")
        return self

    @property
    def reference(self) -> str:
        """Name of the side that differences are relative to, and whose names a map is ordered by."""
        return next(iter(self.sides))

    @property
    def candidate(self) -> str:
        """Name of the other side."""
        return list(self.sides)[1]

    @property
    def origin(self) -> str:
        """Whose weights both get: a side's name, ``DRAWN`` or ``OWN``."""
        return self.weights or self.reference

    @property
    def recipe(self) -> Recipe:
        """The training's constants as the wings' optimizers and losses take them."""
        chosen = self.training
        return Recipe(
            name=self.name,
            strategy="finetune",
            control=False,
            loss=chosen.loss,
            label_smoothing=chosen.label_smoothing,
            optimizer=chosen.optimizer,
            learning_rate=chosen.learning_rate,
            momentum=chosen.momentum,
            beta1=chosen.beta1,
            beta2=chosen.beta2,
            epsilon=chosen.epsilon,
            weight_decay=chosen.weight_decay,
            batch_size=chosen.batch,
            precision=self.precision,
        )

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """From the lowest to the last."""
        return RUNGS[: RUNGS.index(self.until) + 1]

    @property
    def digest(self) -> str:
        """Of what both sides must have in common, 16 digits: all but the sides themselves and what judges them."""
        shared = self.model_dump(mode="json", exclude={"sides", "map", "equal", "until", "single_step", "examples"})
        return hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()[:16]


def wing_of(subject: Subject, side: str) -> WingInfo:
    """Whose process builds a side."""
    return wings.wing(subject.sides[side].wing.identifier)

"""The rungs of the parity ladder, and the labels of the arrays that each consists of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from numpy.typing import NDArray

Array = NDArray[Any]
Rung = Literal[
    "bytes", "preprocessing", "activations", "loss", "gradients", "optimizer", "trajectory", "predictions", "metrics"
]
RUNGS: tuple[Rung, ...] = (
    "bytes",
    "preprocessing",
    "activations",
    "loss",
    "gradients",
    "optimizer",
    "trajectory",
    "predictions",
    "metrics",
)
#: Those that a worker writes; the last is made of the one before it.
DUMPED = RUNGS[:-1]

#: What an optimizer holds for each parameter, and the parameter itself.
StateKind = Literal["momentum", "first_moment", "second_moment", "parameter"]
#: What the last rung compares.
Metric = Literal["accuracy", "macro_f1", "macro_recall", "log_loss"]
#: What an array is. "loss" is one number, "losses" are those of all steps of the trajectory.
Kind = Literal[
    "images",
    "inputs",
    "activation",
    "logits",
    "loss",
    "gradient",
    "statistic",
    "batch_labels",
    "batch_images",
    "losses",
    "predictions",
    StateKind,
    Metric,
]
#: Whole numbers, which have no rounding.
WHOLE: frozenset[Kind] = frozenset({"images", "batch_labels", "batch_images"})
#: Whether normalisations were frozen or in training mode.
Phase = Literal["frozen", "training"]
Optimizer = Literal["sgd", "adam", "adamw"]
OPTIMIZERS: tuple[Optimizer, ...] = ("sgd", "adam", "adamw")

#: Learning rates of the steps of each optimizer along given gradients: they change from step to step.
RATES = (1e-2, 3e-3, 1e-2)
#: What one unit of rounding is, relative to a value.
UNIT = {"float64": 2.0**-53, "float32": 2.0**-24}


@dataclass(frozen=True)
class Label:
    """What an array of a rung is.

    Attributes:
        kind: what its values are.
        name: neutral name of the layer or parameter, or an empty string if it belongs to none.
        phase: of the pass that it comes from, where there is one of each.
        optimizer: whose step it comes from, at the optimizer rung.
        step: after how many steps of training.
    """

    kind: Kind
    name: str = ""
    phase: Phase | None = None
    optimizer: Optimizer | None = None
    step: int | None = None

    @property
    def group(self) -> Label:
        """What shares a measured rounding: the same thing of every layer and parameter."""
        return replace(self, name="")

    @property
    def module(self) -> Label:
        """What shares a scale: the parameters of one module are sums over the same output gradients.

        Rounding in such a sum does not shrink when its terms cancel. A bias in front of a normalisation has a gradient
        of zero, of which nothing but rounding is left; measured against itself it would always be wrong.
        """
        return replace(self, name=self.name.rpartition(".")[0])


#: Kinds whose words for people are not their name.
_WORDS: dict[Kind, str] = {
    "statistic": "running statistics",
    "batch_labels": "labels of the batches",
    "batch_images": "images of the batches",
    "predictions": "predicted classes",
}


def describe(label: Label) -> str:
    """What an array is, in words for people, e.g. "gradient, training"; without the name. Nothing is read out of it."""
    words = _WORDS.get(label.kind, label.kind.replace("_", " "))
    if label.optimizer is not None:
        return f"{label.optimizer}, step {label.step}: {words}"
    if label.phase is not None:
        return f"{words}, {label.phase}"
    return words if label.step is None else f"{words}, step {label.step}"

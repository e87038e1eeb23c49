"""The rungs of the parity ladder, and the labels of the arrays that each consists of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from numpy.typing import NDArray

from transfer_parity.shared.contract.wings import Framework

Array = NDArray[Any]
Rung = Literal[
    "bytes",
    "preprocessing",
    "activations",
    "engines",
    "loss",
    "gradients",
    "optimizer",
    "fit",
    "trajectory",
    "predictions",
    "metrics",
]
#: Of a pair, as both libraries have it.
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
#: Of what a recipe runs, and of one whose head is fitted in closed form, which has no steps.
RECIPE_RUNGS: tuple[Rung, ...] = (*RUNGS[:3], "engines", *RUNGS[3:])
#: Of one whose head is fitted before the first step.
FITTED_RUNGS: tuple[Rung, ...] = (*RECIPE_RUNGS[:-3], "fit", *RECIPE_RUNGS[-3:])
RIDGE_RUNGS: tuple[Rung, ...] = (*RUNGS[:3], "engines", "fit", *RUNGS[-2:])

#: What an optimizer holds for each parameter, and the parameter itself.
StateKind = Literal["momentum", "first_moment", "second_moment", "parameter", "statistic"]
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
    "batch_sizes",
    "batch_labels",
    "batch_images",
    "test_images",
    "views",
    "state",
    "closest",
    "frozen_output",
    "head_input",
    "losses",
    "predictions",
    StateKind,
    Metric,
]
#: Whole numbers, which have no rounding.
WHOLE: frozenset[Kind] = frozenset({"images", "batch_sizes", "batch_labels", "batch_images", "views", "test_images"})
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
        run: of a recipe, which one of its two: the second follows in the same process.
        batch: of a recipe, which one: the first, or the last of an epoch, which may be small.
        engine: that a pass ran with.
        precision: of that engine's arithmetic.
        wing: whose array it is, where one wing is compared with itself.
        way: of a recipe's logits: through the whole network, or through what trains, from the frozen stages' output.
    """

    kind: Kind
    name: str = ""
    phase: Phase | None = None
    optimizer: Optimizer | None = None
    step: int | None = None
    run: int | None = None
    batch: Literal["first", "last"] | None = None
    engine: str | None = None
    precision: str | None = None
    wing: Framework | None = None
    way: Literal["whole", "trainable"] | None = None

    @property
    def group(self) -> Label:
        """What shares a measured rounding: the same thing of every layer and parameter, and of every batch."""
        return replace(self, name="", batch=None)

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
    "batch_sizes": "sizes of the batches",
    "batch_labels": "labels of the batches",
    "batch_images": "images of the batches",
    "test_images": "test images in order",
    "views": "views and partners",
    "state": "what the objective keeps",
    "closest": "how near a choice came to the other one",
    "frozen_output": "output of the frozen stages",
    "head_input": "input of the head",
    "predictions": "predicted classes",
}


#: Words for fields of a label, which stand behind its kind.
_RUNS = {1: "first seed", 2: "second seed"}
_BATCHES = {"first": "first batch", "last": "last batch of an epoch"}
_WAYS = {"whole": "through the whole network", "trainable": "from the frozen stages' output"}


def describe(label: Label) -> str:
    """What an array is, in words for people, e.g. "gradient, training"; without the name. Nothing is read out of it."""
    words = _WORDS.get(label.kind, label.kind.replace("_", " "))
    if label.optimizer is not None:
        return f"{label.optimizer}, step {label.step}: {words}"
    if label.engine is not None:
        return f"{words} by {label.wing}'s engine {label.engine} in {label.precision}"
    more = [
        label.phase,
        _WAYS.get(label.way or ""),
        _BATCHES.get(label.batch or ""),
        _RUNS.get(label.run or 0),
        f"step {label.step}" if label.step is not None and label.phase is None else None,
    ]
    return ", ".join([words, *(each for each in more if each is not None)])

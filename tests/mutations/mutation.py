"""What a planted mistake is, and the few scenarios in which they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from transfer_parity.shared.exercises.edit import Edit as Edit

#: A wing, or both of them through what they share.
Side = Literal["tensorflow", "torch", "both"]
#: Who can notice a mistake.
Tool = Literal["comparison", "ladder", "recipe ladder", "tests"]
TOOLS: tuple[Tool, ...] = ("comparison", "ladder", "recipe ladder", "tests")


@dataclass(frozen=True)
class Scenario:
    """The smallest work in which a mistake does something.

    Attributes:
        recipe: of the comparison and of the recipe's ladder, as TOML, without the data; None if there is none.
        ladder: options of ``compare.py parity``; None if the plain ladder has nothing of it.
        edits: of the copy that carries it out, with a mistake and without.
    """

    recipe: str | None
    ladder: tuple[str, ...] | None
    edits: tuple[Edit, ...] = ()


@dataclass(frozen=True)
class Mutation:
    """A mistake.

    Attributes:
        id: of it.
        side: that makes it.
        edit: that plants it.
        mistake: what is wrong, in a sentence.
        scenario: name of the one that runs it; None if tests alone can see it.
        named: patterns (``fnmatch``) of what names it exactly, each "tool: what it says".
        tests: files or names of tests that are expected to fail where no ladder or comparison is.
        changes: whether a matched run computes something else with it.
    """

    id: str
    side: Side
    edit: Edit
    mistake: str
    scenario: str | None = None
    named: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    changes: bool = True


def in_wing(prefix: str, side: Side) -> Callable[..., Mutation]:
    """What makes mistakes of one wing, whose ids begin with ``prefix``."""

    def planted(
        name: str, file: str, old: str, new: str, mistake: str, scenario: str | None, *named: str, **more: Any
    ) -> Mutation:
        return Mutation(f"{prefix}-{name}", side, Edit(file, old, new), mistake, scenario, named, **more)

    return planted


def _recipe(**values: object) -> str:
    """A recipe of a few drawn pictures in two classes and a random backbone."""
    common: dict[str, object] = {
        "weights": "random",
        "control": False,
        "image_size": 64,
        "shots": [5],
        "seeds": 2,
        "batch_size": 4,
        "threads": 1,
    }
    return "".join(f"{key} = {_toml(value)}\n" for key, value in (common | values).items())


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')


_CLIMB = ("--precision", "float64", "--backbone")

#: Ten training images in batches of four leave a small last batch in every epoch.
SCENARIOS: dict[str, Scenario] = {
    # A hidden layer on frozen features, Adam with an epsilon that matters in float32, smoothed labels.
    "probe": Scenario(
        _recipe(backbone="MobileNetV3Small", head="mlp", epsilon=1e-3, label_smoothing=0.1, epochs=6),
        (*_CLIMB, "MobileNetV3Small", "--semantics", "torchvision"),
    ),
    # A convolutional head on feature maps, squared errors, decoupled weight decay, channels in the other order.
    "maps": Scenario(
        _recipe(
            backbone="MobileNetV2",
            head="conv",
            head_units=16,
            loss="mse",
            optimizer="adamw",
            weight_decay=0.1,
            preprocessing="caffe",
            epochs=4,
        ),
        (*_CLIMB, "MobileNetV2", "--semantics", "torchvision"),
    ),
    # Frozen first stages, a trained last one whose normalisations stay as they are.
    "tail": Scenario(
        _recipe(
            backbone="MobileNetV2",
            strategy="finetune",
            optimizer="sgd",
            learning_rate=0.003,
            weight_decay=0.1,
            seeds=1,
            epochs=3,
        ),
        None,
    ),
    # Everything trains from random weights: normalisations learn, images are cropped and mirrored, the rate changes. In
    # float64, since float32's rounding moves predictions of so short a training.
    "scratch": Scenario(
        _recipe(
            backbone="MobileNetV2",
            strategy="scratch",
            optimizer="sgd",
            learning_rate=0.001,
            precision="float64",
            weight_decay=0.1,
            schedule="cosine",
            warmup_epochs=1,
            flip=True,
            crop=True,
            seeds=1,
            epochs=2,
        ),
        (*_CLIMB, "MobileNetV2", "--semantics", "torchvision"),
    ),
    # As "probe", with engines whose preparation costs nothing, so that they pay for a few images. The ladder climbs
    # with weights that look trained: of untrained ones all folded biases are zero.
    "fused": Scenario(
        _recipe(backbone="MobileNetV3Small", seeds=1, epochs=3),
        ("--strategies", "linear_probe", "--backbone", "MobileNetV3Small"),
        (
            Edit(
                "tf_impl/inference.py",
                "FUSED_SETUP_SECONDS, FUSED_SPEEDUP = 1.0,",
                "FUSED_SETUP_SECONDS, FUSED_SPEEDUP = 0.0,",
            ),
            Edit(
                "torch_impl/inference.py",
                "FUSED_SETUP_SECONDS, FUSED_SPEEDUP = 0.3,",
                "FUSED_SETUP_SECONDS, FUSED_SPEEDUP = 0.0,",
            ),
        ),
    ),
    # Strategies whose loss, or whose choice of what trains, is their own; and what learns from base classes.
    **{
        name: Scenario(None, ("--method", method, "--backbone", "MobileNetV3Small", "--threads", "1"))
        for name, method in {
            "labels": "pseudo_label",
            "teacher": "mean_teacher",
            "pairs": "siamese",
            "norms": "norm_only",
            "tasks": "anil",
        }.items()
    },
    # Three tasks, whose labels are known of some images alone.
    "several": Scenario(None, ("--strategies", "multi_task", "--backbone", "MobileNetV3Small")),
    # What only weights with Keras's semantics use in the torch wing.
    "keras": Scenario(None, (*_CLIMB, "MobileNetV2", "--semantics", "keras")),
    # Layer scales, GELU and layer normalisation.
    "convnext": Scenario(None, (*_CLIMB, "ConvNeXtTiny", "--semantics", "torchvision", "--image-size", "32")),
}

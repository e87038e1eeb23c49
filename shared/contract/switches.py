"""Known differences between the frameworks, each of which can be turned on in one wing.

A switch gives one wing the other framework's native behaviour in one point and leaves everything else matched. The
parity ladder must then fail, at the rung and with the kind of name that stand here: this is how the ladder itself is
tested, and how ``docs/differences.md`` measures what each difference does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.rungs import Kind, Label, Optimizer, Phase, Rung
from transfer_parity.shared.contract.wings import IDENTIFIERS, KERAS, TENSORFLOW, TORCH, TORCHVISION, Framework
from transfer_parity.shared.core.errors import BadInput, did_you_mean
from transfer_parity.shared.zoo.pair import Aspect, Pair, Semantics
from transfer_parity.shared.zoo.pairs import PAIRS


@dataclass(frozen=True)
class Caught:
    """Where the ladder catches a switch: the first array that differs.

    Attributes:
        rung: the first that fails.
        kind: of the array.
        name: how the neutral name of the layer or parameter ends; empty if the array belongs to none.
        phase, optimizer, step: of the array's label.
    """

    rung: Rung
    kind: Kind
    name: str = ""
    phase: Phase | None = None
    optimizer: Optimizer | None = None
    step: int | None = None

    @property
    def label(self) -> Label:
        """Label of the array, but for the beginning of its name."""
        return Label(self.kind, self.name, self.phase, self.optimizer, self.step)

    def matches(self, label: Label) -> bool:
        """Whether an array is the one that the ladder should name."""
        named = label.name.endswith(self.name) if self.name else not label.name
        return named and label.group == self.label.group


@dataclass(frozen=True)
class Switch:
    """One difference.

    Attributes:
        name: stands behind the framework and a colon on the command line.
        summary: what the wing does, in a few words.
        caught: by framework; a framework that is not listed does not have the switch.
        example: backbone and semantics on which it is tried.
        concerns: whether it makes a difference to a pair.
        only_float64: too small for float32 to show.
        native: frameworks that do so by themselves when nobody tells them otherwise; matched runs tell them.
        counts: whether it makes a difference to what a recipe trains.
    """

    name: str
    summary: str
    caught: dict[Framework, Caught] = field(hash=False)
    example: tuple[str, Semantics] = ("MobileNetV2", TORCHVISION.library)
    concerns: Callable[[Pair], bool] = lambda pair: True
    only_float64: bool = False
    native: tuple[Framework, ...] = ()
    counts: Callable[[Recipe], bool] = lambda recipe: True


def _everywhere(caught: Caught) -> dict[Framework, Caught]:
    """A switch that every wing has, and that is caught at the same place."""
    return dict.fromkeys(IDENTIFIERS, caught)


def _aspect(name: Aspect) -> Callable[[Pair], bool]:
    return lambda pair: name in pair.aspects


def _families(*families: str) -> Callable[[Pair], bool]:
    return lambda pair: pair.family in families


def _normalises(pair: Pair) -> bool:
    return bool(pair.batch_norm)


def _in_steps(recipe: Recipe) -> bool:
    return recipe.closed_form is None


def _with(*optimizers: str) -> Callable[[Recipe], bool]:
    return lambda recipe: recipe.optimizer in optimizers and _in_steps(recipe)


def _changes_rate(recipe: Recipe) -> bool:
    return recipe.momentum > 0 and (recipe.schedule != "constant" or recipe.warmup_epochs > 0)


#: In the order of the rungs that catch them.
SWITCHES: tuple[Switch, ...] = (
    Switch(
        "jpeg_decoding",
        "decodes JPEG files itself instead of with Pillow",
        {TENSORFLOW: Caught("bytes", "images")},
        native=(TENSORFLOW,),
    ),
    Switch(
        "resizing",
        "squashes to a square without antialiasing",
        _everywhere(Caught("bytes", "images")),
        native=(TENSORFLOW,),
    ),
    Switch(
        "preprocessing",
        "normalises pixels as the other library's weights want it",
        _everywhere(Caught("preprocessing", "inputs")),
        concerns=_aspect("preprocessing"),
        counts=lambda recipe: recipe.preprocessing == "auto",
    ),
    Switch(
        "resnet_stride",
        "halves the image in the other convolution of a block",
        _everywhere(Caught("activations", "activation", "layer2.0.conv1")),
        ("ResNet50", TORCHVISION.library),
        _aspect("resnet_stride"),
    ),
    Switch(
        "conv_bias",
        "has no biases in front of normalisations, where the weights have them",
        _everywhere(Caught("activations", "activation", "conv1")),
        ("ResNet50", KERAS.library),
        _aspect("conv_bias"),
    ),
    Switch(
        "same_padding",
        "pads strided convolutions as the other library does",
        _everywhere(Caught("activations", "activation", "features.0.0")),
        concerns=_aspect("same_padding"),
    ),
    Switch(
        "bn_epsilon",
        "adds the other library's epsilon to variances",
        _everywhere(Caught("activations", "activation", "features.0.1")),
        concerns=_aspect("bn_epsilon"),
    ),
    Switch(
        "bn_scale",
        "normalises without a scale, where the weights have one",
        _everywhere(Caught("activations", "activation", "Conv2d_1a_3x3.bn")),
        ("InceptionV3", TORCHVISION.library),
        _aspect("bn_scale"),
    ),
    Switch(
        "average_pooling",
        "counts padded zeros in means the other way",
        _everywhere(Caught("activations", "activation", "activation > pooling > pooling")),
        ("InceptionV3", TORCHVISION.library),
        _aspect("average_pooling"),
    ),
    Switch(
        "gelu",
        "uses tf.nn.gelu, whose 1/sqrt(2) is a float32",
        {TENSORFLOW: Caught("activations", "activation", "features.1.0.block.3 > activation")},
        ("ConvNeXtTiny", TORCHVISION.library),
        _families("ConvNeXt"),
        only_float64=True,
        native=(TENSORFLOW,),
    ),
    Switch(
        "flatten_order",
        "flattens feature maps in the other order in front of the first dense layer",
        _everywhere(Caught("activations", "activation", "classifier.0")),
        ("VGG16", TORCHVISION.library),
        _families("VGG"),
        # The project's own heads flatten nothing.
        counts=lambda recipe: False,
    ),
    Switch(
        "initialisation",
        "draws the classifier's weights with its own initialiser",
        _everywhere(Caught("activations", "activation", "classifier.1")),
        native=IDENTIFIERS,
        counts=lambda recipe: _in_steps(recipe) or recipe.weights == "random",
    ),
    Switch(
        "frozen_batch_norm",
        "freezes the parameters of normalisations but leaves them in training mode",
        _everywhere(Caught("loss", "statistic", "features.0.1.running_mean", phase="frozen")),
        concerns=_normalises,
        native=(TORCH,),
        counts=lambda recipe: not recipe.batch_norm_trains and _in_steps(recipe),
    ),
    Switch(
        "dropout",
        "keeps its own dropout and stochastic depth",
        _everywhere(Caught("loss", "activation", "classifier.3", phase="training")),
        ("MobileNetV3Small", TORCHVISION.library),
        _families("MobileNetV3", "EfficientNet", "EfficientNetV2"),
        native=IDENTIFIERS,
        # Dropout stands in the architecture's classifier, which the project's head replaces; MobileNetV3 has nothing
        # else. Stochastic depth is on where normalisations train.
        counts=lambda recipe: recipe.batch_norm_trains and recipe.pair.family != "MobileNetV3",
    ),
    Switch(
        "hard_sigmoid",
        "uses nn.Hardsigmoid, whose gradient is float32's 1/6",
        {TORCH: Caught("gradients", "gradient", ".fc2.bias", phase="frozen")},
        ("MobileNetV3Small", TORCHVISION.library),
        _families("MobileNetV3"),
        only_float64=True,
        native=(TORCH,),
        counts=lambda recipe: not recipe.only_head_trains,
    ),
    Switch(
        "norm_only_frozen",
        "freezes normalisations with their scales and shifts, as trainable = False does",
        {TENSORFLOW: Caught("gradients", "gradient", "features.18.1.bias", phase="frozen")},
        concerns=_normalises,
        counts=lambda recipe: recipe.method.only_normalisations,
    ),
    Switch(
        "sgd_momentum",
        "lets the momentum hold the learning rate",
        {
            TENSORFLOW: Caught("optimizer", "momentum", "weight", optimizer="sgd", step=1),
            # At its first step torch's state cannot show what happens when the rate changes.
            TORCH: Caught("optimizer", "momentum", "weight", optimizer="sgd", step=2),
        },
        native=(TENSORFLOW,),
        counts=lambda recipe: _with("sgd")(recipe) and _changes_rate(recipe),
    ),
    Switch(
        "weight_decay",
        "decouples weight decay from the gradient in every optimizer",
        _everywhere(Caught("optimizer", "momentum", "weight", optimizer="sgd", step=1)),
        native=(TENSORFLOW,),
        counts=lambda recipe: _with("sgd", "adam")(recipe) and recipe.weight_decay > 0,
    ),
    Switch(
        "adam_epsilon",
        "adds Adam's epsilon before the bias correction",
        _everywhere(Caught("optimizer", "parameter", "weight", optimizer="adam", step=1)),
        native=(TENSORFLOW,),
        counts=_with("adam", "adamw"),
    ),
    Switch(
        "adam_betas",
        "casts Adam's betas by way of float32",
        {TENSORFLOW: Caught("optimizer", "first_moment", "weight", optimizer="adam", step=1)},
        only_float64=True,
        native=(TENSORFLOW,),
        counts=_with("adam", "adamw"),
    ),
    Switch(
        "data_order",
        "shuffles with its own generator",
        _everywhere(Caught("trajectory", "batch_labels")),
        native=IDENTIFIERS,
        counts=_in_steps,
    ),
    Switch(
        "augmentation",
        "flips with its own generator",
        _everywhere(Caught("trajectory", "batch_images")),
        native=IDENTIFIERS,
        counts=lambda recipe: recipe.flip,
    ),
    Switch(
        "bn_momentum",
        "weighs new running statistics as the other library does",
        _everywhere(Caught("trajectory", "statistic", "features.0.1.running_mean", step=1)),
        concerns=_aspect("bn_momentum"),
        counts=lambda recipe: recipe.batch_norm_trains,
    ),
    Switch(
        "bn_running_variance",
        "counts the other variance, biased or unbiased, into the running variance",
        _everywhere(Caught("trajectory", "statistic", "features.0.1.running_var", step=1)),
        concerns=_normalises,
        native=(TENSORFLOW,),
        counts=lambda recipe: recipe.batch_norm_trains,
    ),
)
BY_NAME = {switch.name: switch for switch in SWITCHES}


def all_names() -> list[str]:
    """Every switch as it is written on the command line."""
    return [f"{framework}:{switch.name}" for switch in SWITCHES for framework in switch.caught]


def find(given: str) -> tuple[Framework, Switch]:
    """The wing and the switch that "wing:name" means.

    Raises:
        BadInput: there is none.
    """
    framework, _, name = given.partition(":")
    for known in IDENTIFIERS:
        if framework == known and name in BY_NAME and known in BY_NAME[name].caught:
            return known, BY_NAME[name]
    # A known name at another wing is nearer than any spelling.
    others = [f"{known}:{name}" for known in BY_NAME[name].caught] if name in BY_NAME else all_names()
    raise BadInput(f"--switch {given}: there is no such switch; {did_you_mean(given, others)}")


def of(framework: Framework, given: Iterable[str]) -> frozenset[str]:
    """Names of the switches of one wing among all that were given."""
    return frozenset(switch.name for wing, switch in map(find, given) if wing == framework)


def of_passes(names: Iterable[str]) -> frozenset[str]:
    """Those among switches of one wing that change what its frozen layers put out for an image."""
    found = (BY_NAME[name] for name in names)
    return frozenset(
        switch.name
        for switch in found
        if any(caught.rung in ("bytes", "preprocessing", "activations") for caught in switch.caught.values())
        # It is the head that is drawn anew, or weights whose digest says so.
        and switch.name != "initialisation"
    )


def check(given: Iterable[str], pair: Pair, precision: str) -> None:
    """Check that switches can make a difference.

    Raises:
        BadInput: one of them cannot, to this pair or in this precision.
    """
    for each in given:
        _, switch = find(each)
        if not switch.concerns(pair):
            concerned = [other.name for other in PAIRS if switch.concerns(other)]
            raise BadInput(f"--switch {each} makes no difference to {pair.name}; try it on {', '.join(concerned[:4])}.")
        if switch.only_float64 and precision != "float64":
            raise BadInput(f"--switch {each} is smaller than float32's rounding; add --precision float64.")

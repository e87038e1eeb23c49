"""What there is to say about one architecture of the two libraries, and about one convention of preprocessing.

Neutral parameter names are torchvision's (``layer1.0.conv1.weight``). ``Pair.neutral_module`` translates the name of a
Keras layer; parameters that only one library has (a convolution's bias, a scale) simply appear or do not appear under
the *semantics* that a checkpoint was trained with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Semantics = Literal["torchvision", "keras"]

#: What the two libraries mean differently about a model. Each is a property of the function, not of its weights.
Aspect = Literal[
    "preprocessing",
    "resnet_stride",
    "conv_bias",
    "same_padding",
    "average_pooling",
    "bn_scale",
    "bn_epsilon",
    "bn_momentum",
]

#: Stands before the parameter names of the classifier that this project puts on a backbone.
HEAD = "head."


@dataclass(frozen=True)
class Preprocessing:
    """How uint8 pixels become network inputs: ``(pixel / divide_by - mean) / std``, in this order of operations.

    Attributes:
        channels: order of the colour channels that the network expects; images are stored as RGB.
        divide_by: first divisor.
        mean: per channel, in the network's channel order.
        std: per channel, in the network's channel order.
    """

    channels: Literal["RGB", "BGR"]
    divide_by: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


#: The conventions of the field. Means and deviations are those of keras.applications.imagenet_utils and of
#: torchvision.transforms._presets.ImageClassification. Where Keras preprocesses inside the model (EfficientNet,
#: ConvNeXt, MobileNetV3), its layers are left out of the backbone and named here instead, so that it happens once.
PREPROCESSING = {
    "imagenet": Preprocessing("RGB", 255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": Preprocessing("BGR", 1.0, (103.939, 116.779, 123.68), (1.0, 1.0, 1.0)),
    "symmetric": Preprocessing("RGB", 127.5, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
    # keras.applications.efficientnet_v2 divides by 128 and not by half of 255, so that white is 0.992.
    "symmetric_128": Preprocessing("RGB", 128.0, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
}


@dataclass(frozen=True)
class BatchNorm:
    """Batch normalisation as one library configures it for one architecture.

    Attributes:
        epsilon: added to the variance.
        momentum: weight of the NEW value in the running statistics (torch's meaning; Keras's is one minus this).
    """

    epsilon: float = 1e-5
    momentum: float = 0.1


@dataclass(frozen=True)
class Pair:
    """One architecture, as both libraries have it.

    Attributes:
        name: the class in ``keras.applications``.
        torchvision_name: the builder in ``torchvision.models``.
        parameters: number of weights and running statistics of the backbone, as torchvision has it.
        channels: of the last feature map, before pooling.
        stages: for fine-tuning, from input to output; each is a tuple of neutral module names.
        classifier: neutral module names of the ImageNet classifier, which a backbone leaves out.
        neutral_module: neutral name of a Keras layer, or None for a layer without parameters of its own.
        batch_norm: by semantics.
        preprocessing: key of PREPROCESSING by semantics.
        image_size: side in pixels of the images that Keras builds it for; torchvision's, too, except for EfficientNetB2
            (torchvision evaluates at 288).
        smallest_image: least side in pixels that both libraries accept.
        structure: aspects of the model's structure (not its numbers) in which the libraries differ.
        without_shortcut: neutral names of blocks that keep their channels but halve the resolution, and so have none.
    """

    name: str
    torchvision_name: str
    family: str
    parameters: int
    channels: int
    stages: tuple[tuple[str, ...], ...]
    classifier: tuple[str, ...]
    neutral_module: Callable[[str], str | None]
    batch_norm: dict[Semantics, BatchNorm] = field(hash=False)
    preprocessing: dict[Semantics, str] = field(hash=False)
    image_size: int = 224
    smallest_image: int = 32
    structure: tuple[Aspect, ...] = ()
    without_shortcut: tuple[str, ...] = ()

    @property
    def normalises(self) -> bool:
        """Whether it has normalisations, by the batch or by the layer."""
        return bool(self.batch_norm) or self.family == "ConvNeXt"

    @property
    def flattened(self) -> str | None:
        """The weight whose inputs are a flattened feature map: (C, H, W) in torch, (H, W, C) in Keras."""
        return "classifier.0.weight" if self.family == "VGG" else None

    @property
    def aspects(self) -> tuple[Aspect, ...]:
        """Everything in which the libraries differ about this architecture, and which a wing adapts."""
        found: list[Aspect] = list(self.structure)
        if len({each.epsilon for each in self.batch_norm.values()}) > 1:
            found.append("bn_epsilon")
        if len({each.momentum for each in self.batch_norm.values()}) > 1:
            found.append("bn_momentum")
        if len(set(self.preprocessing.values())) > 1:
            found.append("preprocessing")
        return tuple(found)

    def stage_of(self, neutral_name: str) -> int | None:
        """Index of the stage that a parameter belongs to, or None for the ImageNet classifier and the head."""
        for index, modules in enumerate(self.stages):
            if any(neutral_name.startswith(module + ".") for module in modules):
                return index
        return None

    def in_classifier(self, neutral_name: str) -> bool:
        """Whether a parameter belongs to the ImageNet classifier."""
        return any(neutral_name.startswith(module + ".") for module in self.classifier)

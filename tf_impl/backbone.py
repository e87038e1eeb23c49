"""The stock architectures of keras.applications, adapted to the semantics that a checkpoint was trained under.

Keras cannot edit a functional model in place, so each adaptation clones the stock model: ``configure`` may change a
layer's configuration, ``connect`` may put a layer in front of it. The result consists of stock layers only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

from transfer_parity.shared.contract.spec import ModelSpec
from transfer_parity.shared.zoo.pair import Pair
from transfer_parity.tf_impl import internals

_Config = dict[str, Any]


def stock(
    pair: Pair, image_size: int, classifier: bool = False, classes: int = 1000, imagenet: bool = False
) -> keras.Model:
    """The model as keras.applications builds it.

    Args:
        pair: the architecture.
        image_size: side of the square RGB images in pixels.
        classifier: whether it ends in logits; by default it ends in the last feature map.
        classes: of the classifier.
        imagenet: with Keras's own ImageNet weights, which are downloaded; by default with random ones.
    """
    # Layers without names of their own are numbered per process; start at zero, so that the numbers mean something.
    policy = keras.config.dtype_policy()
    keras.utils.clear_session(free_memory=False)
    # The session's state, which was just cleared, includes the policy.
    keras.config.set_dtype_policy(policy)
    builder = getattr(keras.applications, pair.name)
    options: dict[str, Any] = {"classifier_activation": None, "classes": classes} if classifier else {}
    if pair.family in _PREPROCESSES and not imagenet:
        options["include_preprocessing"] = False
    model = builder(
        weights="imagenet" if imagenet else None,
        include_top=classifier,
        input_shape=(image_size, image_size, 3),
        **options,
    )
    if pair.family == "ConvNeXt" and not classifier:
        # Without its top, Keras moves the classifier's LayerNormalization in front of the pooling. The backbone ends
        # before it, as it does in torchvision and in Keras's full model.
        model = keras.Model(model.input, model.layers[-1].input, name=model.name)
    return model


def build(spec: ModelSpec) -> keras.Model:
    """Images (N, S, S, 3), preprocessed, to the last feature map (N, H, W, C), under the checkpoint's semantics.

    With head "imagenet" the result ends in the architecture's own logits (N, classes).
    """
    model = stock(spec.pair, spec.image_size, classifier=spec.head == "imagenet", classes=spec.classes)
    adaptations = [_TORCHVISION[each] for each in spec.pair.structure if spec.meaning(each) == "torchvision"]
    own_gelu = "gelu" in spec.switches
    activations: dict[str, Callable[..., Any]] = {}
    left_out = tuple(kind for kind in _LEFT_OUT if not (kind is layers.Dropout and "dropout" in spec.switches))

    def clone(layer: keras.Operation) -> keras.Operation:
        if isinstance(layer, layers.Conv2D) and layer.groups > 1:
            layer = _depthwise(layer)
        config = layer.get_config()
        for configure, _ in adaptations:
            config = configure(layer, config)
        if isinstance(layer, layers.BatchNormalization):
            # torch weighs the new value, Keras the old one.
            # differs: bn_epsilon, bn_momentum
            config |= {"epsilon": spec.batch_norm.epsilon, "momentum": 1 - spec.batch_norm.momentum}
        if isinstance(layer, layers.Conv2D | layers.Dense) and layer.activation is not keras.activations.linear:
            # As a layer of its own, as torch has it: then the convolution itself can be watched.
            activations[layer.name] = layer.activation
            config["activation"] = "linear"
        # The stock model was built in Keras's default type when it was configured, which is the recipe's precision.
        return layer.__class__.from_config(config)

    def call(layer: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, left_out):
            return args[0]
        if isinstance(layer, keras.Sequential):
            # ConvNeXt's stem and downsampling are models of their own; in one flat graph every layer can be watched.
            (x,) = args
            for inner in layer.layers:
                x = call(clone(inner), x)
            return x
        if isinstance(layer, layers.Activation) and layer.activation is keras.activations.gelu and not own_gelu:
            return _gelu(*args)
        for _, insert in adaptations:
            args = insert(layer, *args)
        output = layer(*args, **kwargs)
        if layer.name in activations:
            output = layers.Activation(activations[layer.name], name=f"{layer.name}_activation")(output)
        return output

    return keras.models.clone_model(model, clone_function=clone, call_function=call)


def cut(model: keras.Model, pair: Pair, frozen_stages: int) -> tuple[keras.Model, keras.Model]:
    """A model in two: the frozen stages, and everything behind them.

    Every path from the image to the output leads through one tensor there. Of several such tensors it is the smallest.
    """
    nodes = internals.nodes_of(model)
    last_use: dict[int, float] = {}
    for index, node in enumerate(nodes):
        last_use.update((id(tensor), index) for tensor in node.input_tensors)
    stages = [pair.stage_of(f"{pair.neutral_module(node.operation.name) or ''}.") for node in nodes]
    begin = max(index for index, stage in enumerate(stages) if stage is not None and stage < frozen_stages)
    end = min(index for index, stage in enumerate(stages) if stage is not None and stage >= frozen_stages)
    candidates = []
    for index in range(begin, end):
        made = (tensor for node in nodes[: index + 1] for tensor in node.outputs)
        crossing = [tensor for tensor in made if last_use.get(id(tensor), -1) > index]
        if len(crossing) == 1:
            candidates += crossing
    middle = min(reversed(candidates), key=lambda tensor: math.prod(tensor.shape[1:]))
    return keras.Model(model.input, middle, name="frozen"), keras.Model(middle, model.output, name="trainable")


#: Families that preprocess inside the model unless told otherwise. EfficientNet does so whatever it is told.
_PREPROCESSES = {"MobileNetV3", "EfficientNetV2", "ConvNeXt"}

#: Layers of the stock models that no backbone has: preprocessing is ``Network.normalise``'s, and a matched run leaves
#: nothing to a framework's random generator (Keras's stochastic depth is a Dropout of whole images).
_LEFT_OUT = (layers.Rescaling, layers.Normalization, layers.Dropout)


def _depthwise(layer: layers.Conv2D) -> layers.DepthwiseConv2D:
    """The same convolution as the layer made for it.

    ConvNeXt's is written as a Conv2D with as many groups as channels, for which Keras on a CPU falls back on XLA, tens
    of times slower than DepthwiseConv2D.
    """
    assert layer.groups == layer.filters
    return layers.DepthwiseConv2D(layer.kernel_size, padding=layer.padding, name=layer.name)


def _gelu(x: keras.KerasTensor) -> keras.KerasTensor:
    """The exact GELU, x times the normal distribution's cumulative function (Hendrycks and Gimpel, 2016).

    tf.nn.gelu is the same but for its factor 1/sqrt(2), which it rounds to float32 even where everything else is
    float64: an error of 5e-9.
    """
    return 0.5 * x * (1.0 + ops.erf(x * math.sqrt(0.5)))


def _nothing(layer: keras.Operation, *args: Any) -> tuple[Any, ...]:
    """Puts nothing in front of a layer."""
    return args


def _pad_symmetrically(layer: keras.Layer, config: _Config) -> _Config:
    """At stride 2 Keras pads bottom and right first; torch pads all sides alike, whatever the image's size."""
    if isinstance(layer, layers.ZeroPadding2D):
        # Stands before a strided depthwise convolution: ((0, 1), (0, 1)) for even sizes becomes ((1, 1), (1, 1)).
        most = max(max(side) for side in config["padding"])
        return config | {"padding": ((most, most), (most, most))}
    if _is_convolution(layer) and max(config["strides"]) > 1 and config["padding"] == "same":
        return config | {"padding": "valid"}
    return config


def _insert_padding(layer: keras.Layer, *args: Any) -> tuple[Any, ...]:
    """The padding in front of a convolution that ``_pad_symmetrically`` or ``_move_stride`` made "valid"."""
    if not _is_convolution(layer) or max(layer.strides) == 1 or max(layer.kernel_size) == 1:
        return args
    (inputs,) = args
    # The stock model may have a padding layer in front already.
    if not isinstance(internals.maker(inputs), layers.ZeroPadding2D):
        inputs = layers.ZeroPadding2D(layer.kernel_size[0] // 2, name=f"{layer.name}_pad")(inputs)
    return (inputs,)


def _is_convolution(layer: keras.Layer) -> bool:
    return isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D)


def _move_stride(layer: keras.Layer, config: _Config) -> _Config:
    """torchvision's ResNet halves the image in the 3x3 convolution ("v1.5"), Keras in the 1x1 before it."""
    name = config["name"]
    if name.endswith("_block1_1_conv"):
        return config | {"strides": (1, 1)}
    if name.endswith("_block1_2_conv") and not name.startswith("conv2"):
        return config | {"strides": (2, 2), "padding": "valid"}
    return config


def _without_bias(layer: keras.Layer, config: _Config) -> _Config:
    """The normalisation behind each convolution has a shift, so torchvision leaves the biases out."""
    return config | {"use_bias": False} if _is_convolution(layer) else config


def _with_scale(layer: keras.Layer, config: _Config) -> _Config:
    """torchvision's normalisation in InceptionV3 has a scale."""
    return config | {"scale": True} if isinstance(layer, layers.BatchNormalization) else config


def _count_zeros(layer: keras.Layer, config: _Config) -> _Config:
    """torchvision's average pooling in InceptionV3 counts the padded zeros, which "same" leaves out of the mean."""
    return config | {"padding": "valid"} if isinstance(layer, layers.AveragePooling2D) else config


def _insert_zeros(layer: keras.Layer, *args: Any) -> tuple[Any, ...]:
    """Zeros around the input of an average pooling that ``_count_zeros`` made "valid"."""
    if isinstance(layer, layers.AveragePooling2D):
        return (layers.ZeroPadding2D(1, name=f"{layer.name}_pad")(*args),)
    return args


_Configure = Callable[[keras.Layer, _Config], _Config]
_Insert = Callable[..., tuple[Any, ...]]

#: What it takes to give the stock Keras model torchvision's meaning of one aspect of its structure.
_TORCHVISION: dict[str, tuple[_Configure, _Insert]] = {
    "same_padding": (_pad_symmetrically, _insert_padding),
    "resnet_stride": (_move_stride, _insert_padding),
    "conv_bias": (_without_bias, _nothing),
    "bn_scale": (_with_scale, _nothing),
    "average_pooling": (_count_zeros, _insert_zeros),
}

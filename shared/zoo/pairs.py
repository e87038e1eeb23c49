"""The table of pairs. What the two libraries configure differently stands here as numbers, not as code."""

from __future__ import annotations

from typing import Any

from transfer_parity.shared.zoo import keras_mobile_names, keras_names
from transfer_parity.shared.zoo.pair import BatchNorm, Pair


def _features(*stages: tuple[int, int]) -> tuple[tuple[str, ...], ...]:
    """Stages of a model whose convolutional part is one numbered sequence, from the first to the last index of each."""
    return tuple(tuple(f"features.{index}" for index in range(first, last + 1)) for first, last in stages)


_RESNET: dict[str, Any] = {
    "family": "ResNet",
    "structure": ("resnet_stride", "conv_bias"),
    "channels": 2048,
    "stages": (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",)),
    "classifier": ("fc",),
    "neutral_module": keras_names.resnet,
    # keras.applications.resnet writes 1.001e-5 into every BatchNormalization.
    "batch_norm": {"torchvision": BatchNorm(1e-5, 0.1), "keras": BatchNorm(1.001e-5, 0.01)},
    "preprocessing": {"torchvision": "imagenet", "keras": "caffe"},
}

_MOBILENET_V2: dict[str, Any] = {
    "family": "MobileNetV2",
    "structure": ("same_padding",),
    "channels": 1280,
    # One stage for each resolution; the last holds the 7x7 blocks and the final 1x1 convolution.
    "stages": _features((0, 1), (2, 3), (4, 6), (7, 13), (14, 18)),
    "classifier": ("classifier",),
    "neutral_module": keras_mobile_names.mobilenet_v2,
    "batch_norm": {"torchvision": BatchNorm(1e-5, 0.1), "keras": BatchNorm(1e-3, 0.001)},
    "preprocessing": {"torchvision": "imagenet", "keras": "symmetric"},
}

_INCEPTION_V3: dict[str, Any] = {
    "family": "InceptionV3",
    "structure": ("average_pooling", "bn_scale"),
    "channels": 2048,
    "stages": (
        ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"),
        ("Conv2d_3b_1x1", "Conv2d_4a_3x3"),
        ("Mixed_5b", "Mixed_5c", "Mixed_5d"),
        ("Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
        ("Mixed_7a", "Mixed_7b", "Mixed_7c"),
    ),
    "classifier": ("fc",),
    "neutral_module": keras_names.inception_v3,
    "batch_norm": {"torchvision": BatchNorm(1e-3, 0.1), "keras": BatchNorm(1e-3, 0.01)},
    # torchvision's ImageNet weights come with transform_input=True, which turns its mean/std inputs back into [-1, 1]:
    # the same function as "symmetric" without the detour.
    "preprocessing": {"torchvision": "symmetric", "keras": "symmetric"},
    "image_size": 299,
    "smallest_image": 75,
}

_VGG: dict[str, Any] = {
    "family": "VGG",
    "channels": 512,
    "classifier": ("classifier",),
    "batch_norm": {},
    "preprocessing": {"torchvision": "imagenet", "keras": "caffe"},
}

_DENSENET: dict[str, Any] = {
    "family": "DenseNet",
    # A transition halves the resolution with its last layer, so it belongs to the block before it.
    "stages": (
        ("features.conv0", "features.norm0"),
        ("features.denseblock1", "features.transition1"),
        ("features.denseblock2", "features.transition2"),
        ("features.denseblock3", "features.transition3"),
        ("features.denseblock4", "features.norm5"),
    ),
    "classifier": ("classifier",),
    "neutral_module": keras_names.densenet,
    # keras.applications.densenet writes 1.001e-5 into every BatchNormalization, as its ResNet does.
    "batch_norm": {"torchvision": BatchNorm(1e-5, 0.1), "keras": BatchNorm(1.001e-5, 0.01)},
    "preprocessing": {"torchvision": "imagenet", "keras": "imagenet"},
}

_MOBILENET_V3: dict[str, Any] = {
    "family": "MobileNetV3",
    "structure": ("same_padding",),
    # Everything behind the pooling: a dense layer in torchvision, a 1x1 convolution in Keras, and the logits.
    "classifier": ("classifier",),
    "batch_norm": {"torchvision": BatchNorm(1e-3, 0.01), "keras": BatchNorm(1e-3, 0.001)},
    "preprocessing": {"torchvision": "imagenet", "keras": "symmetric"},
}

_EFFICIENTNET: dict[str, Any] = {
    "family": "EfficientNet",
    "structure": ("same_padding",),
    "stages": _features((0, 1), (2, 2), (3, 3), (4, 5), (6, 8)),
    "classifier": ("classifier",),
    "neutral_module": keras_mobile_names.efficientnet,
    # Keras divides by sqrt(0.229) twice, once as "variance" and once by a Rescaling in front of its ImageNet weights.
    "preprocessing": {"torchvision": "imagenet", "keras": "imagenet"},
}

#: torchvision took B0 to B4 from one porter and B5 to B7 from another, who kept TensorFlow's numbers.
_EFFICIENTNET_B0_TO_B4: Any = {"torchvision": BatchNorm(1e-5, 0.1), "keras": BatchNorm(1e-3, 0.01)}
_EFFICIENTNET_B5_TO_B7: Any = {"torchvision": BatchNorm(1e-3, 0.01), "keras": BatchNorm(1e-3, 0.01)}

_EFFICIENTNET_V2: dict[str, Any] = {
    "family": "EfficientNetV2",
    "structure": ("same_padding",),
    "channels": 1280,
    "classifier": ("classifier",),
    "batch_norm": {"torchvision": BatchNorm(1e-3, 0.1), "keras": BatchNorm(1e-3, 0.1)},
    "smallest_image": 33,
}

_CONVNEXT: dict[str, Any] = {
    "family": "ConvNeXt",
    "stages": _features((0, 1), (2, 3), (4, 5), (6, 7)),
    # The last LayerNorm stands behind the pooling in torchvision and in Keras's full model, so it belongs to the
    # classifier; Keras without its top puts it on the feature map instead, which is another function.
    "classifier": ("classifier",),
    "neutral_module": keras_names.convnext,
    "batch_norm": {},
    "preprocessing": {"torchvision": "imagenet", "keras": "imagenet"},
}

_VGG16 = (2, 2, 3, 3, 3)
_VGG19 = (2, 2, 4, 4, 4)

PAIRS: tuple[Pair, ...] = (
    Pair(
        "VGG16",
        "vgg16",
        parameters=14_714_688,
        stages=keras_names.vgg_stages(_VGG16),
        neutral_module=keras_names.vgg(_VGG16),
        **_VGG,
    ),
    Pair(
        "VGG19",
        "vgg19",
        parameters=20_024_384,
        stages=keras_names.vgg_stages(_VGG19),
        neutral_module=keras_names.vgg(_VGG19),
        **_VGG,
    ),
    Pair("ResNet50", "resnet50", parameters=23_561_152, **_RESNET),
    Pair("ResNet101", "resnet101", parameters=42_605_504, **_RESNET),
    Pair("ResNet152", "resnet152", parameters=58_295_232, **_RESNET),
    Pair("InceptionV3", "inception_v3", parameters=21_820_000, **_INCEPTION_V3),
    Pair("DenseNet121", "densenet121", parameters=7_037_504, channels=1024, **_DENSENET),
    Pair("DenseNet169", "densenet169", parameters=12_642_880, channels=1664, **_DENSENET),
    Pair("DenseNet201", "densenet201", parameters=18_321_984, channels=1920, **_DENSENET),
    Pair("MobileNetV2", "mobilenet_v2", parameters=2_257_984, **_MOBILENET_V2),
    Pair(
        "MobileNetV3Small",
        "mobilenet_v3_small",
        parameters=939_120,
        channels=576,
        stages=_features((0, 0), (1, 1), (2, 3), (4, 8), (9, 12)),
        neutral_module=keras_mobile_names.mobilenet_v3(11, frozenset({0, 3, 4, 5, 6, 7, 8, 9, 10})),
        without_shortcut=("features.1",),
        **_MOBILENET_V3,
    ),
    Pair(
        "MobileNetV3Large",
        "mobilenet_v3_large",
        parameters=2_996_352,
        channels=960,
        stages=_features((0, 1), (2, 3), (4, 6), (7, 12), (13, 16)),
        neutral_module=keras_mobile_names.mobilenet_v3(15, frozenset({3, 4, 5, 10, 11, 12, 13, 14})),
        **_MOBILENET_V3,
    ),
    *(
        Pair(
            f"EfficientNetB{number}",
            f"efficientnet_b{number}",
            parameters=parameters,
            channels=channels,
            image_size=image_size,
            batch_norm=_EFFICIENTNET_B0_TO_B4 if number < 5 else _EFFICIENTNET_B5_TO_B7,
            **_EFFICIENTNET,
        )
        # torchvision's own sizes, except for B2: torchvision evaluates at 288, Keras was built for 260.
        for number, (parameters, channels, image_size) in enumerate(
            (
                (4_049_564, 1280, 224),
                (6_575_232, 1280, 240),
                (7_768_562, 1408, 260),
                (10_783_528, 1536, 300),
                (17_673_816, 1792, 380),
                (28_513_520, 2048, 456),
                (40_960_136, 2304, 528),
                (64_097_680, 2560, 600),
            )
        )
    ),
    Pair(
        "EfficientNetV2S",
        "efficientnet_v2_s",
        parameters=20_331_360,
        stages=_features((0, 1), (2, 2), (3, 3), (4, 5), (6, 7)),
        neutral_module=keras_mobile_names.efficientnet_v2(6),
        preprocessing={"torchvision": "imagenet", "keras": "symmetric_128"},
        image_size=384,
        **_EFFICIENTNET_V2,
    ),
    Pair(
        "EfficientNetV2M",
        "efficientnet_v2_m",
        parameters=53_150_388,
        stages=_features((0, 1), (2, 2), (3, 3), (4, 5), (6, 8)),
        neutral_module=keras_mobile_names.efficientnet_v2(7),
        preprocessing={"torchvision": "imagenet", "keras": "symmetric_128"},
        image_size=480,
        **_EFFICIENTNET_V2,
    ),
    Pair(
        "EfficientNetV2L",
        "efficientnet_v2_l",
        parameters=117_746_848,
        stages=_features((0, 1), (2, 2), (3, 3), (4, 5), (6, 8)),
        neutral_module=keras_mobile_names.efficientnet_v2(7),
        # torchvision's L alone was ported from TensorFlow: mean and deviation 0.5, which is [-1, 1].
        preprocessing={"torchvision": "symmetric", "keras": "symmetric_128"},
        image_size=480,
        **_EFFICIENTNET_V2,
    ),
    Pair("ConvNeXtTiny", "convnext_tiny", parameters=27_818_592, channels=768, **_CONVNEXT),
    Pair("ConvNeXtSmall", "convnext_small", parameters=49_453_152, channels=768, **_CONVNEXT),
    Pair("ConvNeXtBase", "convnext_base", parameters=87_564_416, channels=1024, **_CONVNEXT),
    Pair("ConvNeXtLarge", "convnext_large", parameters=196_227_264, channels=1536, **_CONVNEXT),
)

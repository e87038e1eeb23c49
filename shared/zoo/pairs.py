"""The table of pairs. What the two libraries configure differently stands here as numbers, not as code."""

from __future__ import annotations

from shared.zoo import names
from shared.zoo.pair import BatchNorm, Pair

_RESNET = dict(
    family="ResNet",
    channels=2048,
    stages=(("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",)),
    classifier=("fc",),
    neutral_module=names.resnet,
    # keras.applications.resnet writes 1.001e-5 into every BatchNormalization.
    batch_norm={"torchvision": BatchNorm(1e-5, 0.1), "keras": BatchNorm(1.001e-5, 0.01)},
    preprocessing={"torchvision": "imagenet", "keras": "caffe"},
    zero_scale=r"layer\d\.\d+\.bn3\.weight",
)

_MOBILENET_V2 = dict(
    family="MobileNetV2",
    channels=1280,
    # One stage for each resolution; the last holds the 7x7 blocks and the final 1x1 convolution.
    stages=tuple(
        tuple(f"features.{index}" for index in range(first, last + 1))
        for first, last in ((0, 1), (2, 3), (4, 6), (7, 13), (14, 18))
    ),
    classifier=("classifier",),
    neutral_module=names.mobilenet_v2,
    batch_norm={"torchvision": BatchNorm(1e-5, 0.1), "keras": BatchNorm(1e-3, 0.001)},
    preprocessing={"torchvision": "imagenet", "keras": "symmetric"},
    # Only the blocks that have a shortcut: those that change resolution or width have none.
    zero_scale=r"features\.(3|5|6|8|9|10|12|13|15|16)\.conv\.3\.weight",
)

_INCEPTION_V3 = dict(
    family="InceptionV3",
    channels=2048,
    stages=(
        ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"),
        ("Conv2d_3b_1x1", "Conv2d_4a_3x3"),
        ("Mixed_5b", "Mixed_5c", "Mixed_5d"),
        ("Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
        ("Mixed_7a", "Mixed_7b", "Mixed_7c"),
    ),
    classifier=("fc",),
    neutral_module=names.inception_v3,
    batch_norm={"torchvision": BatchNorm(1e-3, 0.1), "keras": BatchNorm(1e-3, 0.01)},
    # torchvision's ImageNet weights come with transform_input=True, which turns its mean/std inputs back into [-1, 1]:
    # the same function as "symmetric" without the detour.
    preprocessing={"torchvision": "symmetric", "keras": "symmetric"},
    image_size=299,
    smallest_image=75,
)

_VGG = dict(
    family="VGG",
    channels=512,
    classifier=("classifier",),
    batch_norm={},
    preprocessing={"torchvision": "imagenet", "keras": "caffe"},
)

PAIRS: tuple[Pair, ...] = (
    Pair(
        name="VGG16",
        torchvision_name="vgg16",
        stages=names.vgg_stages((2, 2, 3, 3, 3)),
        neutral_module=names.vgg((2, 2, 3, 3, 3)),
        **_VGG,
    ),
    Pair(name="ResNet50", torchvision_name="resnet50", **_RESNET),
    Pair(name="InceptionV3", torchvision_name="inception_v3", **_INCEPTION_V3),
    Pair(name="MobileNetV2", torchvision_name="mobilenet_v2", **_MOBILENET_V2),
)

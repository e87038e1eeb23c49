"""Names of Keras layers, translated to the neutral (torchvision's) module names, family by family.

Each function takes the name of a Keras layer and returns the neutral module name, or None for a layer that holds no
parameters (padding, activation, addition).
"""

from __future__ import annotations

import re
from collections.abc import Callable


def resnet(layer: str) -> str | None:
    """``conv3_block1_2_bn`` is ``layer2.0.bn2``; part 0 is the shortcut. Also the names of Keras before 2.3."""
    fixed = {
        "conv1_conv": "conv1",
        "conv1_bn": "bn1",
        "predictions": "fc",
        "conv1": "conv1",
        "bn_conv1": "bn1",
        "fc1000": "fc",
    }
    if layer in fixed:
        return fixed[layer]
    match = re.fullmatch(r"conv(\d)_block(\d+)_(\d)_(conv|bn)", layer)
    if match:
        stage, block, part, kind = int(match[1]) - 1, int(match[2]) - 1, int(match[3]), match[4]
        return f"layer{stage}.{block}.{_resnet_part(part, kind)}"
    # res3a_branch2b, bn3a_branch1: stage 3, block a, second convolution (2b) or shortcut (1).
    match = re.fullmatch(r"(res|bn)(\d)([a-z])_branch(1|2a|2b|2c)", layer)
    if match:
        stage, block = int(match[2]) - 1, ord(match[3]) - ord("a")
        part = {"1": 0, "2a": 1, "2b": 2, "2c": 3}[match[4]]
        return f"layer{stage}.{block}.{_resnet_part(part, 'conv' if match[1] == 'res' else 'bn')}"
    return None


def _resnet_part(part: int, kind: str) -> str:
    if part == 0:
        return "downsample.0" if kind == "conv" else "downsample.1"
    return f"{kind}{part}"


def _vgg_positions(convolutions: tuple[int, ...]) -> dict[tuple[int, int], int]:
    """Index in torchvision's ``features`` of convolution (block, number): each brings a ReLU, each block a pooling."""
    positions = {}
    index = 0
    for block, count in enumerate(convolutions, start=1):
        for number in range(1, count + 1):
            positions[block, number] = index
            index += 2
        index += 1
    return positions


def vgg(convolutions: tuple[int, ...]) -> Callable[[str], str | None]:
    """Translator for a VGG with so many convolutions in each block: ``block2_conv1`` is ``features.5``."""
    positions = _vgg_positions(convolutions)

    def translate(layer: str) -> str | None:
        fixed = {"fc1": "classifier.0", "fc2": "classifier.3", "predictions": "classifier.6"}
        match = re.fullmatch(r"block(\d)_conv(\d)", layer)
        return f"features.{positions[int(match[1]), int(match[2])]}" if match else fixed.get(layer)

    return translate


def vgg_stages(convolutions: tuple[int, ...]) -> tuple[tuple[str, ...], ...]:
    """One stage for each block between two poolings."""
    positions = _vgg_positions(convolutions)
    return tuple(
        tuple(f"features.{index}" for (owner, _), index in positions.items() if owner == block)
        for block in range(1, len(convolutions) + 1)
    )


def _inception_v3_units() -> list[str]:
    """The 94 convolutions in the order in which keras.applications.inception_v3 creates them.

    Keras gives them no names (``conv2d``, ``conv2d_1``, ...), so the order is the only correspondence there is.
    """
    units = ["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"]
    branches_of = {
        "5bcd": "branch1x1 branch5x5_1 branch5x5_2 branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3 branch_pool",
        "6a": "branch3x3 branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3",
        "6bcde": "branch1x1 branch7x7_1 branch7x7_2 branch7x7_3 branch7x7dbl_1 branch7x7dbl_2 branch7x7dbl_3 "
        "branch7x7dbl_4 branch7x7dbl_5 branch_pool",
        "7a": "branch3x3_1 branch3x3_2 branch7x7x3_1 branch7x7x3_2 branch7x7x3_3 branch7x7x3_4",
        "7bc": "branch1x1 branch3x3_1 branch3x3_2a branch3x3_2b branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3a "
        "branch3x3dbl_3b branch_pool",
    }
    for blocks, branches in branches_of.items():
        for block in blocks[1:]:
            units.extend(f"Mixed_{blocks[0]}{block}.{branch}" for branch in branches.split())
    return units


_INCEPTION_V3_UNITS = _inception_v3_units()


def inception_v3(layer: str) -> str | None:
    """``conv2d_4`` is the fifth convolution that Keras creates, ``batch_normalization_4`` what normalises it."""
    if layer == "predictions":
        return "fc"
    match = re.fullmatch(r"(conv2d|batch_normalization)(?:_(\d+))?", layer)
    if match and int(match[2] or 0) < len(_INCEPTION_V3_UNITS):
        return f"{_INCEPTION_V3_UNITS[int(match[2] or 0)]}.{'conv' if match[1] == 'conv2d' else 'bn'}"
    return None


def densenet(layer: str) -> str | None:
    """``conv3_block2_1_bn`` is ``features.denseblock2.denselayer2.norm2``; ``pool3_conv`` the transition behind."""
    fixed = {
        "conv1_conv": "features.conv0",
        "conv1_bn": "features.norm0",
        "bn": "features.norm5",
        "predictions": "classifier",
    }
    if layer in fixed:
        return fixed[layer]
    match = re.fullmatch(r"pool(\d)_(bn|conv)", layer)
    if match:
        return f"features.transition{int(match[1]) - 1}.{'norm' if match[2] == 'bn' else 'conv'}"
    parts = {"0_bn": "norm1", "1_conv": "conv1", "1_bn": "norm2", "2_conv": "conv2"}
    match = re.fullmatch(r"conv(\d)_block(\d+)_(\w+)", layer)
    if match and match[3] in parts:
        return f"features.denseblock{int(match[1]) - 1}.denselayer{match[2]}.{parts[match[3]]}"
    return None


def convnext(layer: str) -> str | None:
    """``convnext_tiny_stage_1_block_2_layernorm`` is ``features.3.2.block.2``: stages are odd, downsampling is even."""
    layer = re.sub(r"^convnext_(tiny|small|base|large)_", "", layer)
    fixed = {
        "stem_conv": "features.0.0",
        "stem_layernorm": "features.0.1",
        "head_layernorm": "classifier.0",
        "head_dense": "classifier.2",
        # The same normalisation in a model that Keras built without its top: there it stands before the pooling.
        "layer_normalization": "classifier.0",
    }
    if layer in fixed:
        return fixed[layer]
    match = re.fullmatch(r"downsampling_(layernorm|conv)_(\d)", layer)
    if match:
        return f"features.{2 * int(match[2]) + 2}.{0 if match[1] == 'layernorm' else 1}"
    parts = {
        "depthwise_conv": "block.0",
        "layernorm": "block.2",
        "pointwise_conv_1": "block.3",
        "pointwise_conv_2": "block.5",
        # A parameter of the block itself, not a module in it.
        "layer_scale": "layer_scale",
    }
    match = re.fullmatch(r"stage_(\d)_block_(\d+)_(\w+)", layer)
    if match and match[3] in parts:
        return f"features.{2 * int(match[1]) + 1}.{match[2]}.{parts[match[3]]}"
    return None

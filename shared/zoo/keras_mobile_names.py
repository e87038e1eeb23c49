"""Names of Keras layers, translated to the neutral (torchvision's) module names: the families of inverted residuals.

As in ``keras_names``, each function takes the name of a Keras layer and returns the neutral module name, or None for a
layer that holds no parameters. torchvision numbers the parts of a block by position, so in a block that does not
expand, or has no squeeze-and-excitation, the parts behind it stand one place earlier.
"""

from __future__ import annotations

import re
from collections.abc import Callable


def mobilenet_v2(layer: str) -> str | None:
    """``block_3_project_BN`` is ``features.4.conv.3``: Keras counts from the second block, torch from the stem."""
    fixed = {
        "Conv1": "features.0.0",
        "bn_Conv1": "features.0.1",
        "Conv_1": "features.18.0",
        "Conv_1_bn": "features.18.1",
        "predictions": "classifier.1",
        # The first block does not expand, so its parts stand one place earlier.
        "expanded_conv_depthwise": "features.1.conv.0.0",
        "expanded_conv_depthwise_BN": "features.1.conv.0.1",
        "expanded_conv_project": "features.1.conv.1",
        "expanded_conv_project_BN": "features.1.conv.2",
    }
    if layer in fixed:
        return fixed[layer]
    parts = {
        "expand": "0.0",
        "expand_BN": "0.1",
        "depthwise": "1.0",
        "depthwise_BN": "1.1",
        "project": "2",
        "project_BN": "3",
    }
    match = re.fullmatch(r"block_(\d+)_(\w+)", layer)
    if match and match[2] in parts:
        return f"features.{int(match[1]) + 1}.conv.{parts[match[2]]}"
    return None


def mobilenet_v3(blocks: int, squeezed: frozenset[int]) -> Callable[[str], str | None]:
    """Translator for a MobileNetV3: ``expanded_conv_3_project`` is ``features.4.block.3.0`` if block 3 squeezes.

    Args:
        blocks: how many there are.
        squeezed: indices of those with squeeze-and-excitation.
    """
    fixed = {
        "conv": "features.0.0",
        "conv_bn": "features.0.1",
        "conv_1": f"features.{blocks + 1}.0",
        "conv_1_bn": f"features.{blocks + 1}.1",
        # Convolutions behind the pooling, which are dense layers in torchvision.
        "conv_2": "classifier.0",
        "logits": "classifier.3",
    }

    def translate(layer: str) -> str | None:
        # Keras leaves the number of block 0 out.
        match = re.fullmatch(r"expanded_conv(?:_(\d+))?_(\D\w*)", layer)
        if not match:
            return fixed.get(layer)
        block = int(match[1] or 0)
        expand = 1 if block else 0
        project = expand + (2 if block in squeezed else 1)
        parts = {
            "expand": "0.0",
            "expand_bn": "0.1",
            "depthwise": f"{expand}.0",
            "depthwise_bn": f"{expand}.1",
            "squeeze_excite_conv": f"{expand + 1}.fc1",
            "squeeze_excite_conv_1": f"{expand + 1}.fc2",
            "project": f"{project}.0",
            "project_bn": f"{project}.1",
        }
        return f"features.{block + 1}.block.{parts[match[2]]}" if match[2] in parts else None

    return translate


#: Places of the parts of a block in EfficientNet 1 and 2. The first calls a layer ``dwconv``, the second ``dwconv2``.
_MBCONV = {
    "expand_conv": "0.0",
    "expand_bn": "0.1",
    "dwconv": "1.0",
    "dwconv2": "1.0",
    "bn": "1.1",
    "se_reduce": "2.fc1",
    "se_expand": "2.fc2",
    "project_conv": "3.0",
    "project_bn": "3.1",
}
_MBCONV_UNEXPANDED = {
    "dwconv": "0.0",
    "bn": "0.1",
    "se_reduce": "1.fc1",
    "se_expand": "1.fc2",
    "project_conv": "2.0",
    "project_bn": "2.1",
}
_FUSED = {"expand_conv": "0.0", "expand_bn": "0.1", "project_conv": "1.0", "project_bn": "1.1"}
#: A single convolution does both.
_FUSED_UNEXPANDED = {"project_conv": "0.0", "project_bn": "0.1"}


def _efficientnet(stages: tuple[dict[str, str], ...]) -> Callable[[str], str | None]:
    """Translator for stages whose blocks have these parts: ``block2b_expand_bn`` is ``features.2.1.block.0.1``."""
    last = len(stages) + 1
    fixed = {
        "stem_conv": "features.0.0",
        "stem_bn": "features.0.1",
        "top_conv": f"features.{last}.0",
        "top_bn": f"features.{last}.1",
        "predictions": "classifier.1",
    }

    def translate(layer: str) -> str | None:
        match = re.fullmatch(r"block(\d)([a-z])_(\w+)", layer)
        if not match:
            return fixed.get(layer)
        place = stages[int(match[1]) - 1].get(match[3])
        return f"features.{match[1]}.{ord(match[2]) - ord('a')}.block.{place}" if place else None

    return translate


#: EfficientNet-B0 to B7: seven stages, of which the first does not expand.
efficientnet = _efficientnet((_MBCONV_UNEXPANDED, *[_MBCONV] * 6))


def efficientnet_v2(stages: int) -> Callable[[str], str | None]:
    """Translator for an EfficientNetV2 with so many stages: three of fused blocks, the rest as in EfficientNet."""
    return _efficientnet((_FUSED_UNEXPANDED, _FUSED, _FUSED, *[_MBCONV] * (stages - 3)))

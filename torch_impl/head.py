"""The classifiers on top of a backbone: linear, one hidden layer, convolutional."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from torch import nn


def build(kind: Literal["linear", "mlp", "conv"], input_shape: tuple[int, ...], units: int, classes: int) -> nn.Module:
    """The head's input to logits (N, classes), in the recipe's type, also where the backbone computes in a smaller one.

    Args:
        kind: of head.
        input_shape: of one image's features: (C,), or (H, W, C) for the convolutional head.
        units: of the hidden layer, if there is one.
        classes: number of logits.
    """
    # torch's layers know their input by its channels alone.
    channels = input_shape[-1]
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if kind == "mlp":
        parts |= {"hidden": nn.Linear(channels, units), "relu": nn.ReLU()}
    if kind == "conv":
        parts |= {"conv": nn.Conv2d(channels, units, 3, padding=1), "relu": nn.ReLU()}
        parts |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    parts["output"] = nn.Linear(channels if kind == "linear" else units, classes)
    return nn.Sequential(parts)

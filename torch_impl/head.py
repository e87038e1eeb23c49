"""The classifiers on top of a backbone: linear, one hidden layer, convolutional, by cosine."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from transfer_parity.shared.contract.spec import HeadKind


def build(kind: HeadKind, input_shape: tuple[int, ...], units: int, classes: int) -> nn.Module:
    """The head's input to logits (N, classes), in the recipe's type, also where the backbone computes in a smaller one.

    Args:
        kind: of head.
        input_shape: of one image's features: (C,), or (H, W, C) for the convolutional head.
        units: of the hidden layer, if there is one; images that the cache of a "cache" head has room for.
        classes: number of logits.
    """
    # torch's layers know their input by its channels alone.
    channels = input_shape[-1]
    if kind == "cache":
        return _CacheHead(channels, units, classes)
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if kind == "mlp":
        parts |= {"hidden": nn.Linear(channels, units), "relu": nn.ReLU()}
    if kind == "conv":
        parts |= {"conv": nn.Conv2d(channels, units, 3, padding=1), "relu": nn.ReLU()}
        parts |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    if kind == "cosine":
        parts |= {"centre": _centre(channels), "unit": _Unit(), "output": nn.Linear(channels, classes, bias=False)}
        return nn.Sequential(parts)
    parts["output"] = nn.Linear(channels if kind == "linear" else units, classes)
    return nn.Sequential(parts)


class _CacheHead(nn.Module):
    """Cosines with the rows of ``output``, and what the images in the cache that are near add to them."""

    def __init__(self, channels: int, units: int, classes: int) -> None:
        super().__init__()
        self.centre, self.unit = _centre(channels), _Unit()
        self.output = nn.Linear(channels, classes, bias=False)
        self.cache = nn.Linear(channels, units)
        self.values = nn.Linear(units, classes, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        x = self.unit(self.centre(features))
        logits: Tensor = self.output(x) + self.values(torch.exp(self.cache(x)))
        return logits


class _Unit(nn.Module):
    """Vectors (N, C), each divided by its length. torch has no module for it.

    Its epsilon is the smallest length, as in Keras's ``UnitNormalization``; in ``tf.math.l2_normalize`` it is the
    smallest square of one.
    """

    def forward(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors, dim=1, eps=1e-12)


def _centre(channels: int) -> nn.BatchNorm1d:
    """Subtracts a mean, which is its running one: divided by a running variance of 1, to which nothing is added."""
    return nn.BatchNorm1d(channels, eps=0.0, affine=False)

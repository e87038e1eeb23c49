"""torchvision's MobileNetV2 of the same width, brought to compute what Keras's does.

Left alone the two differ in four things: padding at stride 2, epsilon, momentum, and which variance is remembered.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F


class BiasedVariance(nn.BatchNorm2d):
    """Remembers the batch's variance as Keras does; torch's own is n / (n - 1) times that, of n values."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W), to the same shape."""
        if not self.training:
            return super().forward(x)
        y = F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)
        with torch.no_grad():
            variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance, self.momentum)
        return y


class PaddedLater(nn.Conv2d):
    """A convolution of stride 2 that pads at the bottom and right only, as TensorFlow does where sizes are even."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H / 2, W / 2)."""
        return super().forward(F.pad(x, (0, 1, 0, 1)))


def build(classes: int = 10) -> nn.Module:
    """The factory that pair.toml names. Keras has no dropout in front of its classifier."""
    # Keras's momentum of 0.999 is the weight of the old statistic, torch's that of the new one.
    norm = partial(BiasedVariance, eps=1e-3, momentum=0.001)
    model = torchvision.models.mobilenet_v2(width_mult=0.35, num_classes=classes, dropout=0.0, norm_layer=norm)
    for block in model.modules():
        if isinstance(block, nn.Sequential):
            for name, conv in block.named_children():
                if isinstance(conv, nn.Conv2d) and conv.stride == (2, 2):
                    setattr(block, name, pad_later(conv))
    return model


def pad_later(conv: nn.Conv2d) -> nn.Conv2d:
    """The same convolution with the other padding."""
    return PaddedLater(conv.in_channels, conv.out_channels, 3, stride=2, groups=conv.groups, bias=False)


def preprocess(images: np.ndarray) -> np.ndarray:
    """Bytes (N, H, W, 3) to [-1, 1], channels first."""
    return (images / 127.5 - 1).transpose(0, 3, 1, 2)

"""A small residual network, as somebody wrote it in PyTorch: this is the side that is ported."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Bottleneck(nn.Module):
    """Narrow, look around, widen again; and a shortcut around all three. The stride is in the 3x3 convolution."""

    def __init__(self, inputs: int, width: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(inputs, width, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.spatial = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.expand = nn.Conv2d(width, outputs, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        y = F.relu6(self.norm1(self.reduce(x)))
        y = F.relu6(self.norm2(self.spatial(y)))
        return F.relu6(self.norm3(self.expand(y)) + self.shortcut(x))


class ResidualNet(nn.Module):
    """For images of 16 pixels."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(
            Bottleneck(16, 8, 16), Bottleneck(16, 8, 16), Bottleneck(16, 12, 32, stride=2), Bottleneck(32, 12, 32)
        )
        self.pool = nn.AvgPool2d(4)
        self.classifier = nn.Linear(32 * 2 * 2, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 16, 16) to logits (N, classes)."""
        x = self.blocks(F.relu6(self.stem_norm(self.stem(x))))
        return self.classifier(torch.flatten(self.pool(x), 1))  # 32 channels, each with its 2 x 2 places


def build(classes: int = 7) -> nn.Module:
    """The factory that pair.toml names."""
    return ResidualNet(classes)


def preprocess(images: np.ndarray) -> np.ndarray:
    """Bytes (N, H, W, 3) to what the model gets, (N, 3, H, W)."""
    return ((images / 255 - MEAN) / DEVIATION).transpose(0, 3, 1, 2)

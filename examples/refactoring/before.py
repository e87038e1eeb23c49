"""A classifier of signals as it grew: every layer by hand, activations as functions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SignalNet(nn.Module):
    """For signals of four channels."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(4, 24, 5, padding=2)
        self.gn1 = nn.GroupNorm(4, 24)
        self.conv2 = nn.Conv1d(24, 24, 5, stride=2, padding=2, groups=4)
        self.gn2 = nn.GroupNorm(4, 24)
        self.conv3 = nn.Conv1d(24, 24, 1)
        self.fc1 = nn.Linear(24, 24)
        self.fc2 = nn.Linear(24, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 4, samples) to logits (N, classes)."""
        x = F.silu(self.gn1(self.conv1(x)))
        x = F.silu(self.gn2(self.conv2(x)))
        x = x + self.conv3(x)
        x = x.mean(-1)
        x = F.relu(self.fc1(x))
        return self.fc2(x)


def build(classes: int = 5) -> nn.Module:
    """The factory that pair.toml names."""
    return SignalNet(classes)


def optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW without decay of biases and normalisations."""
    decayed = [value for value in model.parameters() if value.ndim > 1]
    others = [value for value in model.parameters() if value.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1e-3, eps=1e-8)

"""The same classifier, tidied up: stages, and modules in place of functions. It should compute what it did before."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Stage(nn.Sequential):
    """Convolution, normalisation, activation."""

    def __init__(self, inputs: int, channels: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv1d(inputs, channels, 5, stride, padding=2, groups=groups), nn.GroupNorm(4, channels), nn.SiLU()
        )


class Residual(nn.Module):
    """Adds what some layers make of the input to the input."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape that the layers keep."""
        return x + self.layers(x)


class SignalClassifier(nn.Module):
    """For signals of four channels."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            Stage(4, channels),
            Stage(channels, channels, stride=2, groups=4),
            Residual(nn.Conv1d(channels, channels, 1)),
        )
        self.pool = nn.AdaptiveAvgPool1d(1)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, classes))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 4, samples) to logits (N, classes)."""
        return self.head(self.pool(self.features(x)))


def build(classes: int = 5) -> nn.Module:
    """The factory that pair.toml names."""
    return SignalClassifier(24, classes)


def optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW without decay of biases and normalisations."""
    groups: dict[float, list[nn.Parameter]] = {0.05: [], 0.0: []}
    for value in model.parameters():
        groups[0.05 if value.ndim > 1 else 0.0].append(value)
    each = [{"params": params, "weight_decay": decay} for decay, params in groups.items()]
    return torch.optim.AdamW(each, lr=1e-3, eps=1e-8)

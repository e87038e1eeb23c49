"""The same vision transformer in PyTorch. Each comment marks a place where ports go wrong."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ClassToken(nn.Module):
    """One learned token in front of all others."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        """(N, tokens, width) to (N, 1 + tokens, width)."""
        return torch.cat([self.token.expand(len(x), -1, -1), x], 1)


class PositionEmbedding(nn.Module):
    """Adds a learned vector to every place."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(1, tokens, width))

    def forward(self, x: Tensor) -> Tensor:
        """(N, tokens, width)."""
        return x + self.table


class Attention(nn.Module):
    """Self-attention written out."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """(N, tokens, width), to the same shape."""
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        # Scores are divided by the root of a head's size, which is this function's default.
        mixed = F.scaled_dot_product_attention(q, k, v)
        # Heads lie one behind the other: (N, heads, tokens, size) to (N, tokens, heads * size).
        return self.out(mixed.transpose(1, 2).flatten(2))


class LibraryAttention(nn.MultiheadAttention):
    """Self-attention as torch offers it: queries, keys and values from one packed weight."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, tokens, width), to the same shape."""
        return super().forward(x, x, x, need_weights=False)[0]


class Encoder(nn.Module):
    """A block."""

    def __init__(self, width: int, heads: int, by_hand: bool) -> None:
        super().__init__()
        # Keras has 1e-3 by default, torch 1e-5, and papers 1e-6.
        self.ln_1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads) if by_hand else LibraryAttention(width, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(N, tokens, width), to the same shape."""
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class VisionTransformer(nn.Module):
    """For images of 16 pixels, in 16 patches."""

    def __init__(self, width: int, heads: int, classes: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, width, 4, 4)
        self.cls = ClassToken(width)
        self.pos = PositionEmbedding(17, width)
        self.encoder = nn.Sequential(Encoder(width, heads, by_hand=False), Encoder(width, heads, by_hand=True))
        self.ln = nn.LayerNorm(width, eps=1e-6)
        self.fc = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 16, 16) to logits (N, classes)."""
        # Row by row, as Keras's Reshape has them: (N, width, 4, 4) to (N, 16, width).
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = self.encoder(self.pos(self.cls(x)))
        return self.fc(self.ln(x)[:, 0])


def build(width: int = 16, heads: int = 4, classes: int = 6) -> nn.Module:
    """The factory that pair.toml names."""
    return VisionTransformer(width, heads, classes)


def preprocess(images: np.ndarray) -> np.ndarray:
    """Bytes (N, H, W, 3) to [-1, 1], channels first."""
    return (images / 127.5 - 1).transpose(0, 3, 1, 2)

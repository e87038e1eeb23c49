"""A classifier of sequences of vectors, in PyTorch."""

from __future__ import annotations

from torch import Tensor, nn


class SequenceClassifier(nn.Module):
    """Normalises every vector, reads the sequence twice, and decides by where the second reading ends."""

    def __init__(self, features: int, hidden: int, classes: int, cell: str) -> None:
        super().__init__()
        kind = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.norm = nn.LayerNorm(features)
        self.reader = kind(features, hidden, batch_first=True)
        self.second_reader = kind(hidden, hidden, batch_first=True)
        self.decide = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, steps, features) to logits (N, classes)."""
        x, _ = self.reader(self.norm(x))
        x, _ = self.second_reader(x)
        return self.decide(x[:, -1])


def build(features: int = 12, hidden: int = 16, classes: int = 5, cell: str = "lstm") -> nn.Module:
    """The factory that pair.toml names."""
    return SequenceClassifier(features, hidden, classes, cell)

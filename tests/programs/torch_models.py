"""Models of PyTorch that tests of a pair of one's own build, in a process of their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class SmallCNN(nn.Module):
    """Modules and functions, a residual sum, a padding and a pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.pad = nn.ZeroPad2d((1, 0, 1, 0))
        self.conv2 = nn.Conv2d(4, 4, 3, stride=2, groups=2)
        self.bn2 = nn.BatchNorm2d(4)
        self.pool = nn.AvgPool2d(3, 2, padding=1)
        self.drop = nn.Dropout(0.5)
        self.fc1 = nn.Linear(4, 6)
        self.fc2 = nn.Linear(6, 3)
        self.never = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 8, 8) to logits (N, 3)."""
        x = self.act(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(self.pad(x)))
        y = functional.leaky_relu(y + functional.max_pool2d(x, 2), 0.2)
        y = self.pool(y).mean((2, 3))
        found: Tensor = self.fc2(functional.gelu(self.fc1(self.drop(y))))
        return found


class Layers(nn.Module):
    """One of each kind that holds parameters, on (N, L, 6)."""

    def __init__(self, first: bool = True) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 6))
        self.embedding = nn.Embedding(7, 6)
        self.conv1d = nn.Conv1d(6, 4, 3, padding="same", dilation=2)
        self.up = nn.ConvTranspose1d(4, 6, 2, stride=2)
        self.depthwise = nn.Conv1d(6, 12, 3, groups=6)
        self.group = nn.GroupNorm(3, 12)
        self.batch = nn.BatchNorm1d(12)
        self.prelu = nn.PReLU(12)
        self.narrow = nn.Linear(12, 6, bias=False)
        self.layer = nn.LayerNorm(6)
        self.plain = nn.LayerNorm(6, elementwise_affine=False)
        self.rms = nn.RMSNorm(6)
        self.attention = nn.MultiheadAttention(6, 2, dropout=0.3, batch_first=first)
        self.cross = nn.MultiheadAttention(6, 3, kdim=4, vdim=5, batch_first=True)
        self.lstm = nn.LSTM(6, 5, num_layers=2, bidirectional=True, dropout=0.2, batch_first=first)
        self.gru = nn.GRU(10, 5, batch_first=True)
        self.out = nn.Linear(5, 5)
        self.tied = nn.Linear(5, 5)
        self.tied.weight = self.out.weight

    def forward(self, tokens: Tensor, more: Tensor) -> Tensor:
        """Whole numbers (N, L) and values (N, M, 4) to (N, 5)."""
        x = self.embedding(tokens).transpose(1, 2)
        x = self.depthwise(self.up(torch.relu(self.conv1d(x))))
        x = self.prelu(self.batch(self.group(x))).permute(0, 2, 1)
        x = self.rms(self.plain(self.layer(self.narrow(x) + self.token)))
        time = x if self.attention.batch_first else x.transpose(0, 1)
        time = self.attention(time, time, time, need_weights=False)[0]
        x = time if self.attention.batch_first else time.transpose(0, 1)
        x = x + self.cross(x, more, functional.pad(more, (0, 1)))[0]
        time = x if self.lstm.batch_first else x.transpose(0, 1)
        time = self.lstm(time)[0]
        x = time if self.lstm.batch_first else time.transpose(0, 1)
        x, _ = self.gru(x)
        x = self.tied(torch.tanh(self.out(x[:, -1])))
        found: Tensor = self.out(x)
        return found


class Encoder(nn.Module):
    """torch's own layer, which computes in one call where it may."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, 8) to (N, 8)."""
        found: Tensor = self.layer(x).mean(1)
        return found


class Swish(nn.Module):
    """Written out."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x * torch.sigmoid(x)


class Segmenting(nn.Module):
    """Puts out a map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.swish = Swish()
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 2, H, W)."""
        found: Tensor = self.last(self.swish(self.conv(x)))
        return found


class DropPath(nn.Module):
    """As other libraries have it: of no class of torch's."""

    def __init__(self) -> None:
        super().__init__()
        self.drop_prob = 0.9

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) with some examples zero."""
        if not self.training or not self.drop_prob:
            return x
        return x * torch.bernoulli(torch.full((len(x), *[1] * (x.ndim - 1)), 1 - self.drop_prob))


class Odd(nn.Module):
    """What is rare, on (N, 2, 3, 4, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(2, 4, 2, bias=False)
        self.up = nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, output_padding=1)
        self.single = nn.InstanceNorm2d(4, affine=True)
        self.bare = nn.BatchNorm2d(4, affine=False, track_running_stats=False)
        self.path = DropPath()
        self.both = nn.LSTM(4, 2, bidirectional=True, batch_first=True)
        self.narrow = nn.LSTM(4, 3, proj_size=2, batch_first=True)
        self.elman = nn.RNN(2, 3, batch_first=True)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
        self.pools = nn.ModuleList([nn.MaxPool1d(2), nn.AvgPool1d(2), nn.AdaptiveMaxPool1d(1)])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """To classes, and the shape of what came in between."""
        x = self.conv3d(x).mean(2)
        x = self.path(self.bare(self.single(self.up(x))))
        x = x.flatten(2).transpose(1, 2)
        x = self.both(self.both(x)[0])[0]
        x = self.elman(self.narrow(x)[0])[0].mT
        for pool in self.pools:
            x = pool(x)
        return {"classes": self.normed(x.squeeze(2)), "again": x}


class Random(nn.Module):
    """Draws in a function, which nothing can switch off."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 6) to (N, 3)."""
        found: Tensor = self.fc2(functional.dropout(self.fc1(x), 0.5, self.training))
        return found


def small_cnn() -> nn.Module:
    return SmallCNN()


def mlp(width: int = 5) -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, width),
        nn.GELU(),
        nn.Linear(width, 3),
    )


def random() -> nn.Module:
    return Random()


def own_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.5)

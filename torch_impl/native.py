"""What PyTorch does by itself where nobody tells it otherwise: reading images, shuffling, flipping, first weights.

Matched runs use none of this. It is what a switch turns on, and what a run "as shipped" consists of.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.data.images import decode
from transfer_parity.shared.zoo.pair import HEAD
from transfer_parity.torch_impl import head
from transfer_parity.torch_impl.network import Network


def seed(network: Network, value: int) -> None:
    """Seed torch's own generator, which all layers share."""
    torch.manual_seed(value)


def decode_jpeg(path: Path) -> Array:
    """A JPEG file as torchvision's data sets decode it: RGB pixels (h, w, 3), uint8. With Pillow, as this project."""
    return np.array(decode(path))


def squash(pixels: Array, size: int) -> Array:  # differs: resizing
    """An image (h, w, 3) resized to (size, size, 3), as interpolate does by default: without antialiasing."""
    image = torch.from_numpy(pixels).movedim(-1, 0)[None].float()
    small = F.interpolate(image, (size, size), mode="bilinear", align_corners=False, antialias=False)
    return small[0].movedim(0, -1).round().clamp(0, 255).byte().numpy()


def shuffled_order(images: int, epochs: int) -> Array:  # differs: data_order
    """Places of the training images in the order of every epoch, int64 (epochs, images): DataLoader's shuffling."""
    loader = DataLoader(TensorDataset(torch.arange(images)), batch_size=images, shuffle=True)
    return np.stack([next(iter(loader))[0].numpy() for _ in range(epochs)])


def random_flips(images: int, epochs: int) -> Array:  # differs: augmentation
    """Which images RandomHorizontalFlip mirrors in every epoch, bool (epochs, images)."""
    flip = v2.RandomHorizontalFlip()
    # A picture of one dark and one bright pixel shows whether it was turned over.
    probe = torch.tensor([[[0, 1]]], dtype=torch.uint8)
    turned = [bool(flip(probe)[0, 0, 0]) for _ in range(epochs * images)]
    return np.array(turned).reshape(epochs, images)


def initial_weights(network: Network, names: Collection[str]) -> dict[str, Array]:  # differs: initialisation
    """The named parameters and statistics as torchvision's constructors draw them.

    Linear layers start from a uniform distribution over +-1/sqrt(inputs), biases included; what an architecture draws
    for its convolutions stands in its constructor.
    """
    spec = network.spec
    state: dict[str, torch.Tensor] = {}
    if spec.head != "imagenet":
        own_head = head.build(spec.head, (spec.pair.channels,), spec.head_units, spec.classes)
        state |= {HEAD + name: tensor for name, tensor in own_head.state_dict().items()}
    if any(name not in state for name in names):
        options: dict[str, Any] = {"num_classes": spec.classes}
        if spec.pair.family == "InceptionV3":
            options |= {"aux_logits": False, "init_weights": True}
        model = torchvision.models.get_model(spec.pair.torchvision_name, weights=None, **options)
        state |= model.state_dict()
    return {name: state[name].numpy() for name in names if name in state}

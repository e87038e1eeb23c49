"""A backbone and a head, connected; and the preprocessing in front of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared.contract import Array, ModelSpec, Part
from shared.zoo import Preprocessing
from torch_impl import backbone, head


class Network(nn.Module):
    """The parts of a classifier.

    Attributes:
        models: "features" maps preprocessed images to the head's input, "head" that to logits, "all" images to logits.
            With the architecture's own classifier there is only "all".
    """

    def __init__(self, spec: ModelSpec, device: torch.device) -> None:
        super().__init__()
        self.spec, self.device = spec, device
        self.features = nn.Sequential(backbone.build(spec))
        self.head: nn.Module = nn.Identity()
        if spec.head != "imagenet":
            if spec.pooled:
                self.features.extend((nn.AdaptiveAvgPool2d(1), nn.Flatten()))
            self.head = head.build(spec.head, spec.pair.channels, spec.head_units, spec.classes)
        # NHWC in memory, which oneDNN and tensor cores prefer; the meaning of the dimensions stays NCHW.
        self.to(device, torch.get_default_dtype()).to(memory_format=torch.channels_last)
        self.eval()
        self.models: dict[Part, nn.Module] = {"all": nn.Sequential(self.features, self.head)}
        if spec.head != "imagenet":
            self.models |= {"features": self.features, "head": self.head}

    def prepare(self, part: Part, inputs: Array) -> Tensor:
        """Inputs of a part on the device, in the recipe's floating-point type; images are normalised on the way."""
        x = torch.from_numpy(inputs).to(self.device)
        if part != "head":
            return normalise(x, self.spec.preprocessing, torch.get_default_dtype())
        # Features are stored as (N, H, W, C) on both sides.
        x = x.to(torch.get_default_dtype())
        return x.movedim(-1, 1) if x.ndim == 4 else x


def normalise(images: Tensor, preprocessing: Preprocessing, dtype: torch.dtype) -> Tensor:
    """uint8 RGB images (N, H, W, 3) to network inputs (N, 3, H, W). The order of operations is the contract's."""
    x = images.to(dtype)
    if preprocessing.channels == "BGR":
        x = x.flip(-1)
    mean, std = (
        torch.tensor(values, dtype=dtype, device=x.device) for values in (preprocessing.mean, preprocessing.std)
    )
    return ((x / preprocessing.divide_by - mean) / std).movedim(-1, 1)

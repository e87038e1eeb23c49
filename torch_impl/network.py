"""A backbone and a head, connected; and the preprocessing in front of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from transfer_parity.shared.contract.spec import ModelSpec
from transfer_parity.shared.contract.wing import Array, Part
from transfer_parity.shared.zoo.pair import Preprocessing
from transfer_parity.torch_impl import backbone, head


class Network(nn.Module):
    """The parts of a classifier.

    Attributes:
        models: "features" maps preprocessed images to the head's input, "head" that to logits, "all" images to logits.
            "trunk" ends behind the frozen stages and "tail" begins there. With the architecture's own classifier there
            is only "all".
        reduced: type of the backbone's arithmetic where it is not that of the weights, or None.
        stock: whether everything else about its execution is left as it is when torch is installed.
    """

    def __init__(
        self, spec: ModelSpec, device: torch.device, reduced: torch.dtype | None = None, stock: bool = False
    ) -> None:
        super().__init__()
        self.spec, self.device, self.reduced, self.stock = spec, device, reduced, stock
        body = backbone.build(spec)
        self.features = nn.Sequential(body)
        self.head: nn.Module = nn.Identity()
        if spec.head != "imagenet":
            if spec.pooled:
                self.features.extend((nn.AdaptiveAvgPool2d(1), nn.Flatten()))
            self.head = head.build(spec.head, spec.pair.channels, spec.head_units, spec.classes)
        self.to(device, torch.get_default_dtype())
        if not stock:
            # NHWC in memory, which oneDNN and tensor cores prefer; the meaning of the dimensions stays NCHW.
            self.to(memory_format=torch.channels_last)
        self.eval()
        self.models: dict[Part, nn.Module] = {"all": nn.Sequential(Reduced(self.features, reduced), self.head)}
        if spec.head != "imagenet":
            self.models |= {"features": Reduced(self.features, reduced), "head": self.head}
        if spec.frozen_stages == len(spec.pair.stages):
            self.models |= {"trunk": self.models["features"], "tail": self.head}
        elif spec.frozen_stages:
            trunk = [unit for stage, unit in body.units if stage < spec.frozen_stages]
            rest = [unit for stage, unit in body.units if stage >= spec.frozen_stages]
            behind = nn.Sequential(*rest, *list(self.features)[1:])
            self.models["trunk"] = Reduced(nn.Sequential(*trunk), reduced)
            self.models["tail"] = nn.Sequential(Reduced(behind, reduced), self.head)

    def prepare(self, part: Part, inputs: Array) -> Tensor:
        """Inputs of a part on the device, in the recipe's floating-point type; images are normalised on the way."""
        x = torch.from_numpy(inputs).to(self.device)
        if part in ("head", "tail"):
            # Features are stored as (N, H, W, C) on both sides.
            x = x.to(torch.get_default_dtype())
            x = x.movedim(-1, 1) if x.ndim == 4 else x
        else:
            x = normalise(x, self.spec.preprocessing, torch.get_default_dtype())
        # What was NHWC in memory stays so, unless torch is to be as its users get their images: NCHW.
        return x.contiguous() if self.stock else x


class Reduced(nn.Module):
    """A part of the backbone, in the reduced type if there is one; what leaves it is of the recipe's type again."""

    def __init__(self, inner: nn.Module, reduced: torch.dtype | None) -> None:
        super().__init__()
        self.inner, self.reduced = inner, reduced

    def forward(self, x: Tensor) -> Tensor:
        """Any input of the part to its output."""
        if self.reduced is None:
            return self.inner(x)
        # The weights stay as they are: autocast chooses for each operation whether the smaller type is safe.
        with torch.autocast(x.device.type, self.reduced):
            return self.inner(x).to(torch.get_default_dtype())


def normalise(images: Tensor, preprocessing: Preprocessing, dtype: torch.dtype) -> Tensor:
    """uint8 RGB images (N, H, W, 3) to network inputs (N, 3, H, W). The order of operations is the contract's."""
    x = images.to(dtype, copy=True)
    if preprocessing.channels == "BGR":
        x = x.flip(-1)
    # In place, and whole rows at a time: three values would be too short a dimension for vector instructions.
    width = x.shape[2]
    mean, std = (
        torch.tensor(values, dtype=dtype, device=x.device).repeat(width)
        for values in (preprocessing.mean, preprocessing.std)
    )
    rows = x.flatten(2).div_(preprocessing.divide_by).sub_(mean).div_(std)
    return rows.unflatten(2, (width, 3)).movedim(-1, 1)

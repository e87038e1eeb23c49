"""A backbone and a head, connected; and the preprocessing in front of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from transfer_parity.shared.contract.spec import ModelSpec
from transfer_parity.shared.contract.wing import Part
from transfer_parity.shared.zoo.pair import Preprocessing
from transfer_parity.torch_impl import backbone, device, head
from transfer_parity.torch_impl.internals import Reduced


class Network(nn.Module):
    """The parts of a classifier.

    Attributes:
        models: "features" maps preprocessed images to the head's input, "head" that to logits, "all" images to logits.
            "frozen" ends behind the frozen stages and "trainable" begins there. With the architecture's own classifier
            there is only "all"; for given features the head is all that there is.
        reduced: type of the backbone's arithmetic where it is not that of the weights, or None.
        objective: of the latest training.
        stock: whether everything else about its execution is left as it is when torch is installed.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        settings = device.settings()
        self.spec, self.device, self.stock = spec, settings.device, settings.stock
        self.reduced = settings.reduced
        self.objective: Any = None
        self.features = nn.Sequential()
        self.head: nn.Module = nn.Identity()
        if spec.given is None:
            self.features.append(backbone.build(spec))
        if spec.head != "imagenet":
            if spec.given is None and spec.pooled:
                self.features.extend((nn.AdaptiveAvgPool2d(1), nn.Flatten()))
            length = spec.pair.channels if spec.given is None else spec.given
            self.head = head.build(spec.head, (length,), spec.head_units, spec.classes)
        self.to(self.device, torch.get_default_dtype())
        if not self.stock:
            # NHWC in memory, which oneDNN and tensor cores prefer; the meaning of the dimensions stays NCHW.
            self.to(memory_format=torch.channels_last)
        self.eval()
        self.models: dict[Part, nn.Module] = {}
        if spec.given is not None:
            self.models |= dict.fromkeys(("head", "trainable", "all"), self.head)
        else:
            self._connect(spec)

    def _connect(self, spec: ModelSpec) -> None:
        """The parts of a backbone and a head."""
        reduced = self.reduced
        self.models["all"] = nn.Sequential(Reduced(self.features, reduced), self.head)
        if spec.head != "imagenet":
            self.models |= {"features": Reduced(self.features, reduced), "head": self.head}
        if spec.frozen_stages == len(spec.pair.stages):
            self.models |= {"frozen": self.models["features"], "trainable": self.head}
        elif spec.frozen_stages:
            frozen, rest = backbone.cut(self.features[0], spec.pair, spec.frozen_stages)
            behind = nn.Sequential(rest, *list(self.features)[1:])
            self.models |= {
                "frozen": Reduced(frozen, reduced),
                "trainable": nn.Sequential(Reduced(behind, reduced), self.head),
            }

    def prepare(self, part: Part, inputs: Tensor) -> Tensor:
        """Inputs of a part in the recipe's floating-point type, on the device; images are normalised on the way."""
        x = inputs.to(self.device)
        if part in ("head", "trainable"):
            # Features are stored as (N, H, W, C) on both sides.
            x = x.to(torch.get_default_dtype())
            x = x.movedim(-1, 1) if x.ndim == 4 else x
        else:
            x = normalise(x, self.spec.preprocessing)  # differs: preprocessing
        # What was NHWC in memory stays so, unless torch is to be as its users get their images: NCHW.
        return x.contiguous() if self.stock else x


def build(spec: ModelSpec) -> Network:
    """A network whose weights are still to be loaded."""
    return Network(spec)


def normalise(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """uint8 RGB images (N, H, W, 3) to network inputs (N, 3, H, W). The order of operations is the contract's."""
    dtype = torch.get_default_dtype()
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

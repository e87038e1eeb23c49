"""A network made of fewer and larger operations, for inference on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental import optimization
from torch.nn import functional as F

#: What oneDNN computes on a convolution's result before it leaves the cache: its name for it, and the arguments.
ACTIVATIONS: dict[Any, tuple[str, list[float]]] = {
    nn.ReLU: ("relu", []),
    F.relu: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.Hardswish: ("hardswish", []),
    nn.SiLU: ("swish", []),
}
#: Pixels of so many images at a time that feature maps stay in the cache: eight of 224 pixels.
PIXELS = 8 * 224 * 224


def fuse(model: nn.Module, activations: bool) -> nn.Module:
    """A copy of a network in inference mode, which computes the same function of images (N, C, H, W).

    Args:
        model: can be traced by ``torch.fx``.
        activations: also compute activations within the convolution before them, in float32, where torch has oneDNN.

    Returns:
        A module in which each convolution's weights include the normalisation behind it.
    """
    fused = optimization.fuse(model).to(memory_format=torch.channels_last)
    assert isinstance(fused, fx.GraphModule)
    if not activations or not torch.backends.mkldnn.is_available():
        return fused
    modules = dict(fused.named_modules())
    for node in fused.graph.nodes:
        convolution = modules[node.target] if node.op == "call_module" else None
        # A hook pads in front of the convolution; a subclass computes in another way.
        if type(convolution) is not nn.Conv2d or convolution._forward_pre_hooks or convolution.padding_mode != "zeros":
            continue
        follower = _only_activation(node, modules)
        name, arguments = ("none", []) if follower is None else ACTIVATIONS[_kind(follower, modules)]
        parent, _, child = node.target.rpartition(".")
        setattr(fused.get_submodule(parent), child, ActivatedConv2d(convolution, name, arguments))
        if follower is not None:
            follower.replace_all_uses_with(node)
            fused.graph.erase_node(follower)
    fused.recompile()
    return Pieces(fused)


def _kind(node: fx.Node, modules: dict[str, nn.Module]) -> Any:
    """What a node computes: the class of its module, or a function."""
    return type(modules[str(node.target)]) if node.op == "call_module" else node.target


def _only_activation(node: fx.Node, modules: dict[str, nn.Module]) -> fx.Node | None:
    """The activation behind a convolution, if nothing else uses what the convolution puts out."""
    users = list(node.users)
    if len(users) == 1 and users[0].op in ("call_module", "call_function") and _kind(users[0], modules) in ACTIVATIONS:
        return users[0]
    return None


class ActivatedConv2d(nn.Module):
    """A convolution and the activation behind it as one operation of oneDNN: the one that inductor uses, too."""

    def __init__(self, convolution: nn.Conv2d, activation: str, arguments: list[float]) -> None:
        super().__init__()
        assert not isinstance(convolution.padding, str)
        self.geometry: tuple[Any, ...] = (
            *(list(each) for each in (convolution.padding, convolution.stride, convolution.dilation)),
            convolution.groups,
        )
        self.activation, self.arguments = activation, arguments
        self.weight = convolution.weight.detach()
        self.bias = None if convolution.bias is None else convolution.bias.detach()
        self.packed: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the activated (N, channels, height, width)."""
        if self.packed is None:
            # In the order in which oneDNN wants them for inputs of this size, once instead of in every pass.
            self.packed = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *self.geometry, list(x.shape))
        return torch.ops.mkldnn._convolution_pointwise(
            x, self.packed, self.bias, *self.geometry, self.activation, self.arguments, ""
        )


class Pieces(nn.Module):
    """A network that takes its batch in pieces."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to what the network makes of it."""
        pieces = x.split(max(1, PIXELS // (x.shape[-1] * x.shape[-2])))
        return torch.cat([self.inner(piece) for piece in pieces])

"""A network made of fewer and larger operations, for inference on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental import optimization
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional as F

from transfer_parity.shared.runtime import microbatch

#: What oneDNN computes on a convolution's result before it leaves the cache: its name for it, and the arguments.
ACTIVATIONS: dict[Any, tuple[str, list[float]]] = {
    nn.ReLU: ("relu", []),
    F.relu: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.Hardswish: ("hardswish", []),
    nn.SiLU: ("swish", []),
}


def fuse(model: nn.Module, activations: bool) -> nn.Module:
    """A copy of a network in inference mode, which computes the same function of images (N, C, H, W).

    Args:
        model: can be traced by ``torch.fx``.
        activations: also compute activations within the convolution before them, in float32, where torch has oneDNN.

    Returns:
        A module in which each convolution's weights include the normalisation behind it. With depthwise convolutions,
        which wait for memory rather than for arithmetic, it takes a batch in pieces.
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
    return Pieces(fused) if has_depthwise(model) else fused


def has_depthwise(model: nn.Module) -> bool:
    """Whether a network has convolutions in groups of channels."""
    return any(isinstance(each, nn.Conv2d) and each.groups > 1 for each in model.modules())


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
        self.packed_for = 0

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the activated (N, channels, height, width)."""
        if self.packed is None or len(x) > self.packed_for:
            # In the order in which oneDNN wants them for inputs of this size, once instead of in every pass.
            self.packed = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *self.geometry, list(x.shape))
            self.packed_for = len(x)
        return torch.ops.mkldnn._convolution_pointwise(
            x, self.packed, self.bias, *self.geometry, self.activation, self.arguments, ""
        )


class Pieces(nn.Module):
    """A network in sections: feature maps shrink on the way through it, so later sections take more images at a time.

    Args:
        inner: with one input and one output, in both of which the images are the first dimension.
    """

    def __init__(self, inner: fx.GraphModule) -> None:
        super().__init__()
        self.inner = inner
        self.sections: list[Section] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) to what the network makes of it. The first batch settles the sections: all have images alike."""
        if self.sections is None:
            self.sections = cut(self.inner, x[:1])
        for section in self.sections:
            x = section(x)
        return x


class Section(nn.Module):
    """A stretch of a network with one input and one output, which takes so many images at a time."""

    def __init__(self, inner: nn.Module, piece: int) -> None:
        super().__init__()
        self.inner, self.piece = inner, piece

    def forward(self, x: Tensor) -> Tensor:
        """A whole batch (N, ...), piece by piece."""
        if len(x) <= self.piece:
            return self.inner(x)
        return torch.cat([self.inner(piece) for piece in x.split(self.piece)])


def cut(network: fx.GraphModule, image: Tensor, cache_bytes: int = microbatch.CACHE_BYTES) -> list[Section]:
    """Sections of a network, in order, each with pieces as large as the cache allows.

    Args:
        network: with one input and one output.
        image: an input of one image (1, ...).
        cache_bytes: of the feature maps that are needed at a time.
    """
    ShapeProp(network).propagate(image)
    source, *nodes = (node for node in network.graph.nodes if node.op != "get_attr")
    sections = []
    for stretch in microbatch.stretches(_steps(source, nodes), cache_bytes):
        inside = nodes[stretch.start : stretch.stop]
        sections.append(Section(_between(network, source, inside), stretch.piece))
        source = inside[-1]
    return sections


def _steps(source: fx.Node, nodes: Sequence[fx.Node]) -> list[microbatch.Step]:
    """What each operation needs; the last of the nodes is the graph's output."""
    last_use = {used: index for index, node in enumerate(nodes) for used in node.all_input_nodes}
    needed, steps = {source}, []
    for index, node in enumerate(nodes[:-1]):
        working = _bytes(node) + sum(map(_bytes, needed))
        needed = {each for each in (*needed, node) if last_use.get(each, -1) > index}
        steps.append(microbatch.Step(working, _bytes(node) if needed == {node} else None))
    return steps


def _bytes(node: fx.Node) -> int:
    """Size of an operation's output; 0 if that is no tensor."""
    about = node.meta.get("tensor_meta")
    return about.shape.numel() * about.dtype.itemsize if about is not None else 0


def _between(network: fx.GraphModule, source: fx.Node, nodes: Sequence[fx.Node]) -> fx.GraphModule:
    """The part of a network from one of its values to the output of the last of some operations."""
    graph = fx.Graph()
    copies = {source: graph.placeholder("x")}

    def copy(node: fx.Node) -> fx.Node:
        if node not in copies:
            copies[node] = graph.node_copy(node, copy)
        return copies[node]

    # In their order. A constant is copied when an operation asks for it.
    graph.output([copy(node) for node in nodes][-1])
    return fx.GraphModule(network, graph)

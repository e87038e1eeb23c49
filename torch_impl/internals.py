"""Private interfaces of torch, each with the reason why no public one will do, and what has no like in Keras.

The one file whose names differ from the other wing's. Everywhere else torch is used as its documentation describes it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental import optimization
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional as F

from transfer_parity.shared.runtime import microbatch
from transfer_parity.shared.runtime.canonical import together

#: torchvision's DenseNet files are older than its names: ``denselayer1.norm.1`` is ``denselayer1.norm1`` today.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")


def present_name(key: str) -> str:
    """torchvision's present name of a parameter. torchvision renames within a private function of its DenseNet."""
    return _OLD_DENSENET.sub(r"\1\2.", key)


def replaced(module: nn.Module, forward: Callable[..., Any] | None) -> None:
    """Put a function of (module, inputs) in place of one module's own forward pass; None: its class's again.

    A module looks its ``forward`` up on itself before its class, which torch's own tools rely on and nothing documents.
    """
    if forward is None:
        module.__dict__.pop("forward", None)
    else:
        module.__dict__["forward"] = partial(forward, module)


@contextmanager
def with_parameters(module: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Let one module compute with tensors that depend on its parameters, so that those still get their gradients.

    ``torch.func.functional_call`` would call the module, and its hooks, once more.
    """
    before = {name: module._parameters[name] for name in values}
    module._parameters.update(values)  # type: ignore[arg-type]
    try:
        yield
    finally:
        module._parameters.update(before)


@dataclass(frozen=True)
class Call:
    """What puts out a layer or an entry.

    Attributes:
        module: that is it, or that called the function.
        func: torch's function; None of a layer, and of what works on several tensors.
        args: its arguments; tensors are left out of what is kept.
        kwargs: its named arguments.
        config: what the inventory says of it.
        padding: zeros around its input, by axis.
        operations: how many calls make it up.
        channel: the axis of its input's channels; None: the last one.
    """

    module: nn.Module | None
    func: Any = None
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    padding: tuple[tuple[int, int], ...] = ()
    operations: int = 1
    channel: int | None = None


def batch_first(module: nn.Module) -> bool:
    """Whether sequences have the batch in front, which some of torch's layers expect behind their steps."""
    return not isinstance(module, nn.LSTM | nn.GRU | nn.MultiheadAttention) or bool(module.batch_first)


def added_padding(before: tuple[tuple[int, int], ...], args: Any, kwargs: Any) -> tuple[tuple[int, int], ...]:
    """Padding with zeros of (N, C, *places), as [before, after] by axis of places; nothing of other kinds."""
    pads = args[1] if len(args) > 1 else kwargs.get("pad", ())
    mode = kwargs.get("mode", args[2] if len(args) > 2 else "constant")
    value = kwargs.get("value", args[3] if len(args) > 3 else None)
    if mode != "constant" or value:
        return ()
    pairs = [(pads[i], pads[i + 1]) for i in range(0, len(pads), 2)][::-1]
    return tuple((int(a), int(b)) for a, b in together(before, pairs))


#: What is computed in place of calls of a model's functions, by the name of their entry; see subject_amendments.py.
#: Each gets the function, its arguments and its named arguments.
CHANGES: WeakKeyDictionary[nn.Module, dict[str, Callable[..., Tensor]]] = WeakKeyDictionary()

#: Of models whose inventory was made, which axis of each output has its channels; None: the last one.
OUTPUTS: WeakKeyDictionary[nn.Module, list[int | None]] = WeakKeyDictionary()


def canonical_outputs(model: nn.Module, outputs: Sequence[Tensor]) -> list[Tensor]:
    """Outputs of a model whose inventory was made, with their channels last, where Keras has them anyway."""
    channels = OUTPUTS.get(model, [None] * len(outputs))
    pairs = zip(outputs, channels, strict=False)
    return [each if channel is None else each.movedim(channel, -1) for each, channel in pairs]


#: torch's functions by what they do to values, for ``subject_watch.py``; the same one is often there three times.
#: What moves values without changing them.
MOVES = {
    *(F.pad, F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout),
    *(torch.flatten, Tensor.flatten, torch.reshape, Tensor.reshape, Tensor.view, Tensor.contiguous),
    *(torch.unsqueeze, Tensor.unsqueeze, torch.squeeze, Tensor.squeeze, torch.unflatten, Tensor.unflatten),
    *(torch.select, Tensor.select, torch.narrow, Tensor.narrow, Tensor.__getitem__, torch.index_select),
    *(Tensor.expand, Tensor.expand_as, Tensor.repeat, torch.tile, Tensor.tile, torch.roll, Tensor.roll),
    *(Tensor.to, Tensor.type, Tensor.type_as, Tensor.float, Tensor.double, Tensor.cpu, Tensor.detach),
    *(torch.clone, Tensor.clone, Tensor.index_select, torch.flip, Tensor.flip, F.unfold, F.pixel_shuffle),
    *(torch.chunk, Tensor.chunk, torch.split, Tensor.split, torch.unbind, Tensor.unbind),
}
#: What draws, unless its rate is zero or it is told that nothing is trained.
_DROPS = {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout}
#: What puts axes into another order.
PERMUTES = {
    *(torch.permute, Tensor.permute, torch.transpose, Tensor.transpose, torch.movedim, Tensor.movedim),
    *(torch.swapaxes, Tensor.swapaxes, torch.swapdims, Tensor.swapdims, torch.moveaxis, Tensor.moveaxis),
    *(torch.t, Tensor.t, Tensor.T.__get__, Tensor.mT.__get__),  # type: ignore[attr-defined]
}


def draws(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call is one of dropout's that draws. In torch it is one function with or without its module."""
    if func not in _DROPS:
        return False
    rate = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
    return bool(rate and kwargs.get("training", args[2] if len(args) > 2 else True))


#: What depends on the shape of a tensor alone.
CONSTANTS = {
    *(torch.ones_like, torch.zeros_like, torch.full_like, torch.empty_like, torch.rand_like, torch.randn_like),
    *(Tensor.new_zeros, Tensor.new_ones, Tensor.new_full, Tensor.new_empty, Tensor.new_tensor),
}
POOLS = {
    *(F.max_pool1d, F.max_pool2d, F.max_pool3d, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d),
    *(torch.max_pool1d, torch.max_pool2d, torch.max_pool3d, torch.avg_pool1d),
    *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d, torch.adaptive_avg_pool1d),
    *(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d),
    *(torch.mean, Tensor.mean, torch.amax, Tensor.amax),
}
#: Names of functions that are part of many others.
ARITHMETIC = {"add", "radd", "iadd", "sub", "rsub", "isub", "mul", "rmul", "imul", "div", "truediv", "pow", "square"}
JOINS = {torch.cat, torch.concat, torch.concatenate, torch.stack}
MULTIPLIES = {
    *(torch.mul, Tensor.mul, Tensor.mul_, Tensor.__mul__, Tensor.__rmul__, Tensor.__imul__),
    *(torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm, torch.einsum),
    F.scaled_dot_product_attention,
}
SCALES = MULTIPLIES | {torch.div, Tensor.div, Tensor.div_, Tensor.__truediv__}


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


def fold(model: nn.Module) -> fx.GraphModule:
    """A copy in inference mode in which each convolution's weights include the normalisation behind it.

    torch has it under ``experimental`` only, and in ``torch.ao`` together with quantisation.
    """
    if any(hasattr(module, "stands_for") for module in model.modules()):
        # torch folds and traces no class but its own.
        model = copy.deepcopy(model)
        for module in model.modules():
            if hasattr(module, "stands_for"):
                object.__setattr__(module, "__class__", module.stands_for)
    fused = optimization.fuse(model)
    assert isinstance(fused, fx.GraphModule)
    return fused


def has_hook(module: nn.Module) -> bool:
    """Whether something happens in front of a module's forward pass. Hooks can be registered, but not be asked for."""
    return bool(module._forward_pre_hooks)


class ActivatedConv2d(nn.Module):
    """A convolution and the activation behind it as one operation of oneDNN.

    The one that inductor, torch's compiler, puts into the code that it generates: there is no public call of it.
    """

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


class Sections(nn.Module):
    """A network in sections: feature maps shrink on the way through it, so later sections take more images at a time.

    Args:
        inner: with one input and one output, in both of which the images are the first dimension.
        cache_bytes: of the feature maps that are needed at a time.
    """

    def __init__(self, inner: fx.GraphModule, cache_bytes: int = microbatch.CACHE_BYTES) -> None:
        super().__init__()
        self.inner, self.cache_bytes = inner, cache_bytes
        self.sections: list[Section] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) to what the network makes of it. The first batch settles the sections: all have images alike."""
        if self.sections is None:
            self.sections = cut(self.inner, x[:1], self.cache_bytes)
        for section in self.sections:
            x = section(x)
        return x


class Section(nn.Module):
    """A stretch of a network with one input and one output, which takes so many images at a time."""

    def __init__(self, inner: nn.Module, microbatch: int) -> None:
        super().__init__()
        self.inner, self.microbatch = inner, microbatch

    def forward(self, x: Tensor) -> Tensor:
        """A whole batch (N, ...), some images after the other."""
        if len(x) <= self.microbatch:
            return self.inner(x)
        return torch.cat([self.inner(some) for some in x.split(self.microbatch)])


def cut(network: fx.GraphModule, image: Tensor, cache_bytes: int) -> list[Section]:
    """Sections of a network, in order, each with microbatches as large as the cache allows.

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
        sections.append(Section(_between(network, source, inside), stretch.microbatch))
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

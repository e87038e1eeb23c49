"""A network made of fewer and larger operations, for inference on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from transfer_parity.torch_impl.internals import ActivatedConv2d, Reduced, Sections, fold, has_hook

#: What oneDNN computes on a convolution's result before it leaves the cache: its name for it, and the arguments.
_ACTIVATIONS: dict[Any, tuple[str, list[float]]] = {
    nn.ReLU: ("relu", []),
    F.relu: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.Hardswish: ("hardswish", []),
    nn.SiLU: ("swish", []),
}


def fuse(model: nn.Module) -> nn.Module:
    """A copy of a part of a network, which computes the same function in inference mode.

    Args:
        model: can be traced by ``torch.fx``, but for what computes in a reduced type; its weights are copied as they
            are now.

    Returns:
        A module in which each convolution's weights include the normalisation behind it. In float32 it also computes
        activations within the convolution before them, where torch has oneDNN, and takes a batch in microbatches if it
        has depthwise convolutions, which wait for memory rather than for arithmetic.
    """
    if isinstance(model, Reduced):
        # autocast stays around the traced module: it cannot be traced itself, and does not know fused operations.
        inner = fuse(model.inner) if model.reduced is None else _folded(model.inner)
        return Reduced(inner, model.reduced)
    if isinstance(model, nn.Sequential) and any(isinstance(child, Reduced) for child in model):
        return nn.Sequential(*(fuse(child) if isinstance(child, Reduced) else child for child in model))
    folded = _folded(model)
    if not torch.backends.mkldnn.is_available() or torch.get_default_dtype() == torch.float64:
        # oneDNN has no float64.
        return folded
    _join_activations(folded)
    return Sections(folded) if has_depthwise(model) else folded


def has_depthwise(model: nn.Module) -> bool:
    """Whether a network has depthwise convolutions."""
    return any(isinstance(each, nn.Conv2d) and each.groups > 1 for each in model.modules())


def _folded(model: nn.Module) -> fx.GraphModule:
    return fold(model).to(memory_format=torch.channels_last)


def _join_activations(network: fx.GraphModule) -> None:
    """Replace every plain convolution by one that computes the activation behind it, too, if there is one."""
    modules = dict(network.named_modules())
    for node in network.graph.nodes:
        convolution = modules[node.target] if node.op == "call_module" else None
        # A hook pads in front of the convolution; a subclass computes in another way.
        if type(convolution) is not nn.Conv2d or has_hook(convolution) or convolution.padding_mode != "zeros":
            continue
        follower = _only_activation(node, modules)
        name, arguments = ("none", []) if follower is None else _ACTIVATIONS[_kind(follower, modules)]
        parent, _, child = node.target.rpartition(".")
        setattr(network.get_submodule(parent), child, ActivatedConv2d(convolution, name, arguments))
        if follower is not None:
            follower.replace_all_uses_with(node)
            network.graph.erase_node(follower)
    network.recompile()


def _kind(node: fx.Node, modules: dict[str, nn.Module]) -> Any:
    """What a node computes: the class of its module, or a function."""
    return type(modules[str(node.target)]) if node.op == "call_module" else node.target


def _only_activation(node: fx.Node, modules: dict[str, nn.Module]) -> fx.Node | None:
    """The activation behind a convolution, if nothing else uses what the convolution puts out."""
    users = list(node.users)
    if len(users) == 1 and users[0].op in ("call_module", "call_function") and _kind(users[0], modules) in _ACTIVATIONS:
        return users[0]
    return None

"""What the layers of a user's own model are (``shared/contract/inventory.py``), and which of them are looked at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from transfer_parity.shared.contract.inventory import Kind

#: What a layer's parameters stand under in a model that holds some itself.
ROOT = "model"
#: Normalisations by the statistics of the batch, and by those of single channels.
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
#: Normalisations are layers, whether they hold parameters or not.
_NORMS = (*_BATCH_NORMS, *_INSTANCE_NORMS, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_DROPS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_KINDS: tuple[tuple[tuple[type[nn.Module], ...], Kind], ...] = (
    ((nn.Linear,), "dense"),
    ((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), "conv_transpose"),
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d), "conv"),
    (_BATCH_NORMS, "batch_norm"),
    ((nn.LayerNorm,), "layer_norm"),
    ((nn.GroupNorm, *_INSTANCE_NORMS), "group_norm"),
    ((nn.RMSNorm,), "rms_norm"),
    ((nn.Embedding,), "embedding"),
    ((nn.LSTM,), "lstm"),
    ((nn.GRU,), "gru"),
    ((nn.MultiheadAttention,), "attention"),
    ((nn.PReLU,), "prelu"),
    (_DROPS, "dropout"),
    ((nn.Flatten, nn.Unflatten, nn.Identity, nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d), "shape"),
)
#: Layers whose inside is not looked into.
_WHOLE = (nn.LSTM, nn.GRU, nn.MultiheadAttention)


def kind_of(layer: Any) -> Kind:
    """What a module is."""
    for types, kind in _KINDS:
        if isinstance(layer, types):
            return kind
    name = type(layer).__name__
    if type(layer).__module__.startswith("torch.nn.modules.activation"):
        return "activation"
    if "Pool" in name:
        return "pooling"
    return "custom" if any(True for _ in layer.parameters(recurse=False)) else "other"


def is_whole(layer: Any) -> bool:
    """Whether a layer's inside is not looked into."""
    return isinstance(layer, _WHOLE)


def layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Modules that hold parameters of their own, and those that are not looked into, by name."""
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module in inside:
            continue
        if is_whole(module):
            inside.update(each for each in module.modules() if each is not module)
            yield name or ROOT, module
        elif isinstance(module, _NORMS) or any(True for _ in module.parameters(recurse=False)):
            yield name or ROOT, module


def recurrent_names(name: str, layer: Any) -> list[str]:
    """Names of the layers within one, and of their directions, in the order in which they compute."""
    ways = ("", "_reverse") if layer.bidirectional else ("",)
    if layer.num_layers == 1 and not layer.bidirectional:
        return [name]
    return [f"{name}.l{number}{way}" for number in range(layer.num_layers) for way in ways]

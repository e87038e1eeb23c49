"""Layers of a user's own model: where they were made, what they put out, and each of them alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from transfer_parity.shared.contract.inventory import SPATIAL, LayerRecord
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.runtime.canonical import covered
from transfer_parity.shared.runtime.entries import flattened
from transfer_parity.shared.runtime.user_code import calling_line
from transfer_parity.torch_impl import layer_kinds
from transfer_parity.torch_impl.internals import batch_first
from transfer_parity.torch_impl.layouts import Held
from transfer_parity.torch_impl.subject_config import config_of

#: Where layers were made, "file:line".
SOURCES: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
#: Of models whose inventory was made, what puts out each layer and entry, by its name.
PUT_OUT_BY: WeakKeyDictionary[nn.Module, dict[str, Any]] = WeakKeyDictionary()
#: Zeros that another layer puts around what a layer is given, by axis.
SURROUNDED: WeakKeyDictionary[Any, tuple[tuple[int, int], ...]] = WeakKeyDictionary()


class Remembering:
    """While it is open, every module that is made has its place in the user's code remembered."""

    def __enter__(self) -> Remembering:
        self._before = before = nn.Module.__init__

        def remembering(module: nn.Module, *arguments: Any, **named: Any) -> None:
            before(module, *arguments, **named)
            place = calling_line(torch.__file__, module)
            if place is not None:
                SOURCES[module] = place

        nn.Module.__init__ = remembering  # type: ignore[assignment, method-assign]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        nn.Module.__init__ = self._before  # type: ignore[method-assign]


def tensors(output: Any) -> list[Tensor]:
    """All tensors in what a model or layer returns, in order."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        output = list(output.values())
    return [tensor for each in output for tensor in tensors(each)] if isinstance(output, list | tuple) else []


def holds_layers(layer: Any) -> bool:
    """Whether a layer consists of others."""
    return any(True for _ in layer.children())


def put_out(name: str, layer: Any, output: Any) -> list[tuple[str, Tensor]]:
    """Names of layers within one, and what they put out: of a sequence the state behind all of it.

    Args:
        name: of the layer.
        layer: one with parameters.
        output: all that it returned.
    """
    if isinstance(layer, nn.LSTM | nn.GRU):
        # Of every layer and direction: (layers * directions, b, h); a state behind all of it says the same of each.
        states = tensors(output[1])[0]
        return list(zip(layer_kinds.recurrent_names(name, layer), states, strict=True))
    first = next(each for each in tensors(output) if each.is_floating_point())
    return [(name, first if batch_first(layer) or first.ndim < 3 else first.transpose(0, 1))]


def records_of(
    name: str, layer: Any, held: Mapping[str, Sequence[Held]], shape: Sequence[int] = ()
) -> list[LayerRecord]:
    """What the inventory says of a layer, or of the layers within one.

    Args:
        name: of the layer.
        layer: one with parameters.
        held: parameters by the name of their layer.
        shape: of what it was given, with the batch; torch's own layers do not depend on it.
    """
    names = layer_kinds.recurrent_names(name, layer) if isinstance(layer, nn.LSTM | nn.GRU) else [name]
    return [_record(each, layer, held.get(each, ())) for each in names]


def completed(
    model: nn.Module, records: Mapping[str, LayerRecord], held: Mapping[str, Sequence[Held]]
) -> list[LayerRecord]:
    """Records of what was heard, in that order, and of layers that were not."""
    found = dict(records)
    for name, layer in layer_kinds.layers(model):
        for each in records_of(name, layer, held):
            found.setdefault(each.name, each)
    return list(found.values())


def _record(name: str, layer: nn.Module, held: Sequence[Held]) -> LayerRecord:
    return LayerRecord(
        name=name,
        kind=layer_kinds.kind_of(layer),
        class_name=type(layer).__name__,
        config=config_of(layer),
        parameters={each.role: each.shape for each in held},
        own_names={each.role: each.own_names for each in held},
        frozen=[each.role for each in held if not each.trains and not each.statistic],
        source=SOURCES.get(layer),
    )


def modules_of(model: nn.Module) -> dict[str, Any]:
    """What puts out each layer and entry, by its name, of a model whose inventory was made."""
    return PUT_OUT_BY.get(model, {})


def surrounded(layer: Any) -> tuple[tuple[int, int], ...]:
    """The zeros that another layer puts around what a layer is given, by axis; nothing where there are none."""
    return SURROUNDED.get(layer, ())


def alone(model: nn.Module, name: str, inputs: Sequence[Tensor]) -> list[Array] | None:
    """A layer alone, in inference mode, with canonical inputs, to its canonical output; None where it cannot be."""
    call = modules_of(model).get(name)
    module = dict(layer_kinds.layers(model)).get(name.partition("#")[0])
    if call is None or (module is None and (call.func is None or call.operations > 1)):
        return None
    kind = layer_kinds.kind_of(module) if module is not None else "other"
    channel = 1 if kind in SPATIAL else call.channel
    if module is not None and layer_kinds.kind_of(module) in ("conv", "conv_transpose"):
        inputs = [torch.from_numpy(covered(each.numpy(), surrounded(module))) for each in inputs]
    moved = [each.movedim(-1, channel) if channel is not None and each.ndim > 2 else each for each in inputs]
    if module is not None and not batch_first(module):
        moved = [each.transpose(0, 1) if each.ndim == 3 else each for each in moved]
    if isinstance(module, nn.MultiheadAttention) and len(moved) == 1:
        moved *= 3
    model.eval()
    try:
        with torch.no_grad():
            found = module(*moved) if module is not None else call.func(moved[0], *call.args[1:], **call.kwargs)
    except (RuntimeError, TypeError, ValueError, IndexError):
        return None
    output = put_out(name, module, found)[-1][1] if module is not None else tensors(found)[0]
    if channel is not None and output.ndim > 2:
        output = output.movedim(channel, -1)
    array = output.cpu().numpy().copy()
    return [flattened(array) if module is None else array]

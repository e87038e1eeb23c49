"""What a user's own model computes, in order: its layers, and the functions between them.

Layers are modules with parameters. Everything between them is seen as the calls of torch's functions that it is, and
named after the layer behind which it stands (``shared/runtime/entries.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from transfer_parity.shared.contract.inventory import SPATIAL, Inventory, Kind, LayerRecord
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.runtime.canonical import together, uncovered
from transfer_parity.shared.runtime.entries import BEHIND, INPUT, Entries, Value, flattened
from transfer_parity.shared.runtime.user_code import calling_line
from transfer_parity.torch_impl import layer_kinds, layouts, subject_layers
from transfer_parity.torch_impl.internals import (
    ARITHMETIC,
    CHANGES,
    CONSTANTS,
    JOINS,
    MOVES,
    MULTIPLIES,
    OUTPUTS,
    PERMUTES,
    POOLS,
    SCALES,
    Call,
    added_padding,
    batch_first,
    canonical_outputs,
    draws,
)
from transfer_parity.torch_impl.subject_config import function_config

#: Hears the name of a layer or entry, and its canonical output.
Hear = Callable[[str, Array], None]


@dataclass(frozen=True)
class _Seen:
    """What a tensor holds.

    Attributes:
        value: of which layer or entry.
        channel: the axis of its channels; None: the last one.
        padding: by which zeros it was surrounded, [[before, after], ...] by axis, since the last layer.
    """

    value: Value
    channel: int | None = None
    padding: tuple[tuple[int, int], ...] = ()


class _Watching(TorchFunctionMode):
    """Hears what every layer and entry puts out while a model computes.

    Attributes:
        records: of what was heard, by name, in the order in which it was computed first.
        calls: what puts it out.
        parameters: of each layer, by its name.
    """

    def __init__(self, model: nn.Module, hear: Hear | None, hear_inputs: Callable[[str, list[Array]], None] | None):
        super().__init__()
        self._model, self._hear, self._hear_inputs = model, hear, hear_inputs
        self.records: dict[str, LayerRecord] = {}
        self.calls: dict[str, Call] = {}
        self._changes = CHANGES.get(model, {})
        self._entries, self.known, self._silent = Entries(), WeakIdKeyDictionary(), 0
        self._times: Counter[str] = Counter()
        self._inside: list[nn.Module] = []
        self._given: list[tuple[nn.Module, list[_Seen]]] = []
        self._names = {module: name for name, module in layer_kinds.layers(model)}
        self.parameters: dict[str, list[layouts.Held]] = {}
        for each in layouts.held(model):
            self.parameters.setdefault(each.layer, []).append(each)
        self._hooks: list[Any] = []
        for module in model.modules():
            if module in self._names:
                if not subject_layers.holds_layers(module) or layer_kinds.is_whole(module):
                    self._hooks.append(module.register_forward_pre_hook(self._before, with_kwargs=True))
                    self._hooks.append(module.register_forward_hook(self._behind))
                else:
                    self._hooks.append(module.register_forward_pre_hook(self._around))
            elif not subject_layers.holds_layers(module):
                self._hooks.append(module.register_forward_pre_hook(self._enter))
                self._hooks.append(module.register_forward_hook(self._leave))

    def begin(self, inputs: Sequence[Tensor]) -> None:
        """Say what the inputs are."""
        for each in inputs:
            self.known[each] = _Seen(INPUT, 1 if each.ndim > 3 else None)

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        for hook in self._hooks:
            hook.remove()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Carry out a call of torch's, or what was put in its place, and hear what it puts out."""
        kwargs = kwargs or {}
        if self._silent or func in CONSTANTS:
            return func(*args, **kwargs)
        given = [
            each
            for argument in (*args, *kwargs.values())
            for each in (argument if isinstance(argument, list | tuple) else [argument])
            if isinstance(each, Tensor)
        ]
        inputs = [self.known[each] for each in given if each in self.known]
        if not inputs or (_is_property(func) and func not in PERMUTES):
            output = func(*args, **kwargs)
            for each in subject_layers.tensors(output) if inputs else ():
                self.known[each] = inputs[0]
            return output
        values = [each.value for each in inputs]
        moves = (func in MOVES or func in PERMUTES) and not draws(func, args, kwargs)
        value = None
        if func in POOLS:
            value = self._entries.pooling(values[0])
        elif not moves and func not in JOINS and len({each.source for each in values}) == 1:
            value = self._entries.function(values, func in MULTIPLIES, func in SCALES)
        change = self._changes.get(value.entry) if value is not None else None
        output = func(*args, **kwargs) if change is None else change(func, args, kwargs)
        outputs = [each for each in subject_layers.tensors(output) if each.is_floating_point()]
        if moves or len(outputs) > 1:
            self._move(func, args, kwargs, given[0], inputs[0], outputs)
        elif outputs:
            if value is None:
                joins = func in JOINS
                value = (
                    self._entries.concatenation(values)
                    if joins
                    else self._entries.function(values, func in MULTIPLIES, func in SCALES)
                )
            self._entry(
                Call(self._inside[-1] if self._inside else None, func, args, kwargs),
                value,
                given[0],
                inputs[0],
                outputs[0],
            )
        return output

    def _move(self, func: Any, args: Any, kwargs: Any, given: Tensor, seen: _Seen, outputs: Sequence[Tensor]) -> None:
        """Values that stay what they are, elsewhere."""
        padding = added_padding(seen.padding, args, kwargs) if func is F.pad else ()
        for each in outputs:
            channel = seen.channel
            if func in PERMUTES:
                # Every axis of the probe has a size of its own.
                probe = torch.empty(tuple(range(2, given.ndim + 2)), device="meta")
                last = given.ndim - 1 if channel is None else channel
                channel = list(func(probe, *args[1:], **kwargs).shape).index(last + 2)
                channel = None if channel == each.ndim - 1 else channel
            else:
                channel = _kept(channel, given, each)
            self.known[each] = _Seen(seen.value, channel, padding)

    def _entry(self, call: Call, value: Value, given: Tensor, seen: _Seen, output: Tensor) -> None:
        """A function between layers."""
        channel = _kept(seen.channel, given, output)
        if value.does is None:
            # A concatenation of one, or arithmetic behind a pooling.
            self.known[output] = _Seen(value, channel)
            return
        kind: Kind = "activation" if value.does == "activation" else "pooling" if value.does == "pooling" else "merge"
        before, module = self.calls.get(value.entry), call.module
        config = function_config(call, tuple(given.shape), seen.padding)
        # Arithmetic: several operations are one entry.
        same = before is not None
        if before is not None and kind == "pooling":
            config = dict(before.config)
        elif before is not None and config.get("function") in ARITHMETIC:
            # Its last operation says nothing about what all of them are together.
            config = {}
        given_as = [*call.args, *call.kwargs.values()]
        alone = sum(isinstance(each, Tensor) for each in given_as) == 1 and call.args and call.args[0] is given
        self.calls[value.entry] = Call(
            *(module, call.func if alone else None, [None, *call.args[1:]] if alone else ()),
            *(call.kwargs if alone else {}, config, seen.padding),
            operations=before.operations + 1 if before is not None else 1,
            channel=seen.channel,
        )
        if self._hear_inputs is not None and not same and kind != "merge":
            self._hear_inputs(value.entry, [self._canonical(given, behind=True)])
        record = LayerRecord(
            name=value.entry,
            kind=kind,
            class_name=type(module).__name__ if module is not None else str(getattr(call.func, "__name__", call.func)),
            config=config,
            source=subject_layers.SOURCES.get(module) if module is not None else calling_line(torch.__file__),
        )
        self._tell(record, output, _Seen(value, channel))

    def _tell(self, record: LayerRecord, output: Tensor, seen: _Seen) -> None:
        """Remember what a tensor is, and hand it on."""
        self.known[output] = seen
        array = self._canonical(output, BEHIND in record.name)
        self.records[record.name] = record.model_copy(update={"output_shape": tuple(array.shape)})
        if self._hear is not None:
            self._hear(record.name, array)

    def _canonical(self, tensor: Tensor, behind: bool = False) -> Array:
        """A tensor with its channels last. ``behind``: of an entry, which may have lost its places."""
        self._silent += 1
        seen = self.known.get(tensor)
        value = tensor.detach()
        if seen is not None and seen.channel is not None:
            value = value.movedim(seen.channel, -1)
        array: Array = value.cpu().numpy()
        if self._hear is not None or self._hear_inputs is not None:
            # What comes behind it may work in place.
            array = array.copy()
        self._silent -= 1
        return flattened(array) if behind else array

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        self._inside.append(module)

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._inside.pop()

    def _around(self, module: nn.Module, inputs: Any) -> None:
        """A module of layers that holds parameters, too: they are used somewhere between its layers."""
        for layer in subject_layers.records_of(self._names[module], module, self.parameters):
            self.records.setdefault(layer.name, layer)

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = subject_layers.tensors([*args, *kwargs.values()])
        self._given.append((module, [self.known[each] for each in given if each in self.known]))
        if self._hear_inputs is not None and not self._silent:
            # What another module puts around it counts as this one's padding.
            pads = layer_kinds.kind_of(module) in ("conv", "conv_transpose")
            padded = [self.known[each].padding if pads and each in self.known else () for each in given]
            arrays = [uncovered(self._canonical(each), around) for each, around in zip(given, padded, strict=True)]
            if not batch_first(module):
                arrays = [array.swapaxes(0, 1) if array.ndim == 3 else array for array in arrays]
            self._hear_inputs(self._again(self._names[module], self._times[self._names[module]]), arrays)
        self._silent += 1

    def _behind(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        _, known = self._given.pop()
        self._silent -= 1
        outputs = [each for each in subject_layers.tensors(output) if each.is_floating_point()]
        if self._silent or not outputs:
            return
        name, kind = self._names[module], layer_kinds.kind_of(module)
        number, self._times[name] = self._times[name], self._times[name] + 1
        names = [self._again(each.name, number) for each in subject_layers.records_of(name, module, self.parameters)]
        value = self._entries.layer(names[-1], [each.value for each in known])
        before = known[0] if known else _Seen(INPUT)
        for each in subject_layers.records_of(name, module, self.parameters):
            config = dict(each.config)
            if before.padding and "padding" in config:
                config["padding"] = together(before.padding, config["padding"])
            parameters = {} if number else each.parameters
            record = each.model_copy(
                update={"name": self._again(each.name, number), "config": config, "parameters": parameters}
            )
            self.records.setdefault(record.name, record)
            self.calls[record.name] = Call(module, config=config, channel=before.channel)
        subject_layers.SURROUNDED[module] = before.padding
        for extra in subject_layers.tensors(output):
            self.known[extra] = _Seen(value)
        channel = 1 if kind in SPATIAL else before.channel if kind in ("custom", "prelu", "layer_norm") else None
        first = outputs[0]
        seen = _Seen(value, channel if channel is not None and channel < first.ndim - 1 else None)
        self._silent += 1
        several = subject_layers.put_out(name, module, output)
        self._silent -= 1
        for each_name, tensor in several:
            self._tell(self.records[self._again(each_name, number)], tensor, seen)
        self.known[first] = seen

    @staticmethod
    def _again(name: str, number: int) -> str:
        """Name of a layer that was called before: so many times."""
        return f"{name}#{number + 1}" if number else name


def _kept(channel: int | None, given: Tensor, output: Tensor) -> int | None:
    """The axis of an output's channels where axes behind them may have become fewer or more."""
    same = output.ndim > 2 and channel == 1 and output.shape[:2] == given.shape[:2]
    return channel if same or output.ndim == given.ndim else None


def _is_property(func: Any) -> bool:
    """Whether a tensor is only asked for one of its properties, or given one."""
    return getattr(func, "__name__", "") in ("__get__", "__set__")


def watched(
    model: nn.Module,
    inputs: Sequence[Tensor],
    training: bool,
    hear: Hear | None,
    hear_inputs: Callable[[str, list[Array]], None] | None = None,
    grad: bool = False,
) -> tuple[list[Tensor], _Watching]:
    """Put inputs through a model, and hear every layer and entry.

    Args:
        model: whose mode is left as ``training`` says.
        inputs: tensors in the order of the model's arguments.
        training: whether layers are in training mode.
        hear: gets what they put out.
        hear_inputs: gets what layers are given.
        grad: whether the outputs' gradients will be asked for.

    Returns:
        The outputs, and what was watched.
    """
    model.train(training)
    watching = _Watching(model, hear, hear_inputs)
    with nullcontext() if grad else torch.no_grad(), watching:
        watching.begin(inputs)
        output = model(*inputs)
    return subject_layers.tensors(output), watching


def called(model: nn.Module, inputs: Sequence[Tensor], training: bool) -> Any:
    """What a model returns. Where functions of it were changed it is watched, so that they are."""
    if CHANGES.get(model):
        outputs, _ = watched(model, inputs, training, None, grad=torch.is_grad_enabled())
        return outputs
    model.train(training)
    return model(*inputs)


def inventory(model: nn.Module, inputs: Sequence[Tensor]) -> Inventory:
    """Every layer and entry in the order in which they compute, and layers that never do."""
    outputs, watching = watched(model, inputs, False, None)
    subject_layers.PUT_OUT_BY[model] = watching.calls
    OUTPUTS[model] = [seen.channel if (seen := watching.known.get(each)) is not None else None for each in outputs]
    return Inventory(
        layers=subject_layers.completed(model, watching.records, watching.parameters),
        outputs=[tuple(each.shape) for each in canonical_outputs(model, outputs)],
    )

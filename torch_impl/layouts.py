"""The canonical layout of a user's own model: what each of its parameters is, and how it is read and written.

The layout is that of ``shared/contract/inventory.py``, which is torch's own for most layers. What torch packs (the
projections of an attention) is taken apart, and its two biases of an LSTM, which are only ever added, are one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from transfer_parity.shared.contract.subject import AS_IT_IS, Layout
from transfer_parity.shared.contract.wing import Array
from transfer_parity.torch_impl.layer_kinds import kind_of, layers, recurrent_names

#: The user's own rules for parameters of such models, by name.
RULES: WeakKeyDictionary[nn.Module, Mapping[str, Layout]] = WeakKeyDictionary()


@dataclass
class Held:
    """One canonical parameter or statistic.

    Attributes:
        name: ``layer.role``.
        layer: name of its layer.
        role: what it is there.
        trains: whether its gradient is asked for.
        own_names: torch's.
        variable: that holds it.
        rows: of the variable, where it holds more than this.
        second: another one that is added to it, and does not train.
        statistic: whether it is a running one.
        layout: the user's own rule.
    """

    name: str
    layer: str
    role: str
    trains: bool
    own_names: list[str]
    variable: Tensor = field(repr=False)
    rows: slice | None = None
    second: Tensor | None = field(default=None, repr=False)
    statistic: bool = False
    layout: Layout = AS_IT_IS

    @property
    def shape(self) -> tuple[int, ...]:
        """Canonical."""
        return self.layout.apply(np.empty(tuple(self._part(self.variable).shape), np.bool_)).shape

    def read(self) -> Array:
        """A copy of the values, canonical."""
        value = self.to_canonical(self.variable)
        return value if self.second is None else value + self.to_canonical(self.second)

    def write(self, array: Array) -> None:
        """Set the values.

        Raises:
            ValueError: the shape does not fit.
        """
        if self.shape != array.shape:
            raise ValueError(f"{self.name} has the shape {self.shape}, not {array.shape}")
        with torch.no_grad():
            self._part(self.variable).copy_(self._laid_back(array))
            if self.second is not None:
                self.second.zero_()

    def to_canonical(self, value: Any) -> Array:
        """This parameter's part of what has the shape of the variable (a gradient, a state), as an array of its own."""
        return self.layout.apply(self._part(value).detach().cpu().numpy()).copy()

    def from_canonical(self, array: Array, before: Any) -> Any:
        """What has the shape of the variable, with this parameter's part from an array and the rest as before."""
        found = before.detach().clone()
        self._part(found).copy_(self._laid_back(array))
        return found

    def _laid_back(self, array: Array) -> Tensor:
        shape = tuple(self._part(self.variable).shape)
        return torch.from_numpy(np.ascontiguousarray(self.layout.undo(array, shape)))

    def _part(self, tensor: Tensor) -> Tensor:
        return tensor if self.rows is None else tensor[self.rows]


def held(model: nn.Module) -> list[Held]:
    """Every parameter and running statistic of a model, each once, in the order in which the modules were made."""
    rules = RULES.get(model, {})
    found: list[Held] = []
    seen: set[tuple[int, int]] = set()
    for name, module in layers(model):
        for each in _of_layer(name, module):
            # Weights may be tied: they belong to the first module that holds them.
            place = (id(each.variable), each.rows.start if each.rows else 0)
            if place not in seen:
                seen.add(place)
                each.layout = rules.get(each.name, AS_IT_IS)
                found.append(each)
    return found


def _of_layer(name: str, module: nn.Module) -> Iterator[Held]:
    if isinstance(module, nn.LSTM | nn.GRU):
        yield from _of_recurrent(name, module)
    elif isinstance(module, nn.MultiheadAttention):
        yield from _of_attention(name, module)
    else:
        for role, parameter in module.named_parameters(recurse=False):
            yield _held(name, role, parameter, f"{name}.{role}")
        if kind_of(module) in ("batch_norm", "group_norm") and hasattr(module, "running_mean"):
            for role in ("running_mean", "running_var"):
                statistic = getattr(module, role)
                if statistic is not None:
                    yield Held(f"{name}.{role}", name, role, False, [f"{name}.{role}"], statistic, statistic=True)


def _held(layer: str, role: str, variable: Tensor, own: str, rows: slice | None = None) -> Held:
    return Held(f"{layer}.{role}", layer, role, variable.requires_grad, [own], variable, rows)


def _of_recurrent(name: str, module: nn.LSTM | nn.GRU) -> Iterator[Held]:
    ways = ("", "_reverse") if module.bidirectional else ("",)
    suffixes = [f"_l{number}{way}" for number in range(module.num_layers) for way in ways]
    for layer, suffix in zip(recurrent_names(name, module), suffixes, strict=True):
        for role, own in (("input_weight", "weight_ih"), ("recurrent_weight", "weight_hh")):
            yield _held(layer, role, getattr(module, own + suffix), f"{name}.{own}{suffix}")
        if module.proj_size:
            yield _held(layer, "projection_weight", getattr(module, f"weight_hr{suffix}"), f"{name}.weight_hr{suffix}")
        if not module.bias:
            continue
        first, second = (f"{own}{suffix}" for own in ("bias_ih", "bias_hh"))
        if isinstance(module, nn.LSTM):
            both = _held(layer, "bias", getattr(module, first), f"{name}.{first}")
            both.second = getattr(module, second)
            both.own_names.append(f"{name}.{second}")
            yield both
        else:
            yield _held(layer, "bias", getattr(module, first), f"{name}.{first}")
            yield _held(layer, "recurrent_bias", getattr(module, second), f"{name}.{second}")


def _of_attention(name: str, module: nn.MultiheadAttention) -> Iterator[Held]:
    width = module.embed_dim
    for number, role in enumerate(("query", "key", "value")):
        rows = slice(number * width, (number + 1) * width)
        if module.in_proj_weight is not None:
            yield _held(name, f"{role}_weight", module.in_proj_weight, f"{name}.in_proj_weight", rows)
        else:
            own = f"{role[0]}_proj_weight"
            yield _held(name, f"{role}_weight", getattr(module, own), f"{name}.{own}")
        if module.in_proj_bias is not None:
            yield _held(name, f"{role}_bias", module.in_proj_bias, f"{name}.in_proj_bias", rows)
    for role in ("weight", "bias"):
        variable = getattr(module.out_proj, role)
        if variable is not None:
            yield _held(name, f"output_{role}", variable, f"{name}.out_proj.{role}")
    for role in ("bias_k", "bias_v"):
        variable = getattr(module, role)
        if variable is not None:
            yield _held(name, role, variable, f"{name}.{role}")

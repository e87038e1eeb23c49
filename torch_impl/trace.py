"""Activations, gradients and optimizer state for the parity ladder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from transfer_parity.shared.contract.batches import Batch
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.rungs import StateKind
from transfer_parity.shared.contract.wing import Array, Part
from transfer_parity.shared.contract.wing_values import Differentiated, State
from transfer_parity.shared.runtime.entries import BEHIND, INPUT, Entries, Value, flattened
from transfer_parity.shared.zoo.pair import HEAD
from transfer_parity.torch_impl.episodes import Learner
from transfer_parity.torch_impl.network import Network
from transfer_parity.torch_impl.training import Trainer
from transfer_parity.torch_impl.weights import parameters


def names(network: Network) -> dict[str, str]:
    """The framework's own name of every layer and parameter, by neutral name: the neutral names are torchvision's."""
    found = [each.name for each in parameters(network)] + list(_layers(network))
    return {name: name for name in found}


def preprocess(network: Network, images: Array) -> Array:
    """uint8 images (b, S, S, 3) as the network gets them, (b, S, S, 3)."""
    return network.prepare("all", torch.from_numpy(images)).movedim(1, -1).cpu().numpy()


#: What moves values without changing them, or (dropout) is none of the function's.
_MOVES = {F.pad, F.dropout, torch.flatten, Tensor.flatten, Tensor.reshape, Tensor.view, Tensor.contiguous, Tensor.to}
_MOVES |= {torch.permute, Tensor.permute, Tensor.__getitem__, Tensor.detach}
#: What depends on the shape of a tensor alone.
_CONSTANTS = {torch.ones_like, torch.zeros_like}
_PERMUTES = {torch.permute, Tensor.permute}
_POOLS = {
    *(F.max_pool2d, torch.max_pool2d, F.avg_pool2d),
    *(F.adaptive_avg_pool2d, torch.adaptive_avg_pool1d, F.adaptive_max_pool2d),
}
_JOINS = {torch.cat, torch.concat}
_MULTIPLIES = {torch.mul, Tensor.mul, Tensor.mul_, Tensor.__mul__, Tensor.__rmul__, Tensor.__imul__}
_SCALES = _MULTIPLIES | {torch.div, Tensor.div, Tensor.div_, Tensor.__truediv__}


def structure(network: Network) -> list[str]:
    """Names of all that ``activations`` finds, in the order of the forward pass."""
    side = network.spec.image_size
    return list(activations(network, np.zeros((1, side, side, 3), np.uint8)))


def _layers(network: Network) -> dict[str, nn.Module]:
    """Every module that holds parameters of its own, by neutral name, in the order in which it was made."""
    found: dict[str, nn.Module] = {}
    for prefix, part in (("", network.features), (HEAD, network.head)):
        for name, module in part.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d | nn.BatchNorm1d | nn.LayerNorm):
                found[prefix + name.removeprefix("0.model.")] = module
    return found


@dataclass
class _Tensor:
    """What a tensor holds, and whether its channels come first in it."""

    value: Value
    channels_first: bool


class _Watch(TorchFunctionMode):
    """Writes down what every layer and entry puts out while a network computes; see ``shared/runtime/entries.py``.

    Layers are modules, and everything between them is seen as the calls of torch's functions that it is.

    Attributes:
        seen: arrays by name, in the order of the forward pass.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.seen: dict[str, Array] = {}
        self._network, self._entries = network, Entries()
        # As long as they live: an id may be given to another tensor afterwards. What works in place keeps its tensor.
        self._known: Any = WeakIdKeyDictionary()
        #: Above 0 within a layer, or outside of the network.
        self._silent = 1
        layers = _layers(network)
        self._hooks: list[Any] = [
            network.features.register_forward_pre_hook(self._begin),
            network.head.register_forward_hook(self._end),
        ]
        for name, module in layers.items():
            # Behind the hook that pads, which is none of the layer's own.
            self._hooks.append(module.register_forward_pre_hook(self._enter))
            self._hooks.append(module.register_forward_hook(self._leave(name)))
        inside = {id(parameter) for module in layers.values() for parameter in module.parameters()}
        self._scales = {id(each.variable): each.name for each in parameters(network) if id(each.variable) not in inside}

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        for hook in self._hooks:
            hook.remove()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Carry out a call of torch's, and write down what it puts out."""
        output = func(*args, **kwargs or {})
        if not self._silent and isinstance(output, Tensor) and func not in _CONSTANTS:
            # A concatenation gets its tensors in a list.
            given = [
                each for argument in args for each in (argument if isinstance(argument, list | tuple) else [argument])
            ]
            inputs = [self._known[each] for each in given if isinstance(each, Tensor) and each in self._known]
            if inputs:
                self._follow(func, given, inputs, output)
        return output

    def _follow(self, func: Any, given: list[Any], inputs: list[_Tensor], output: Tensor) -> None:
        values, first = [each.value for each in inputs], inputs[0].channels_first
        scale = next((self._scales[id(each)] for each in given if id(each) in self._scales), None)
        foreign = any(isinstance(each, Tensor) and each not in self._known for each in given)
        if func in _MOVES or (foreign and scale is None and func in _MULTIPLIES):
            # The last: stochastic depth, which draws what it multiplies with.
            self._known[output] = _Tensor(values[0], first != (func in _PERMUTES))
            return
        if scale is not None:
            value = self._entries.layer(scale, values)
        elif func in _POOLS:
            value = self._entries.pooling(values[0])
        elif func in _JOINS:
            value = self._entries.concatenation(values)
        else:
            value = self._entries.function(values, func in _MULTIPLIES, func in _SCALES)
        self._write_down(output, value, first)

    def _write_down(self, output: Tensor, value: Value, channels_first: bool) -> None:
        self._known[output] = _Tensor(value, channels_first)
        self._silent += 1
        # A copy: what comes behind it may work in place.
        tensor = output.detach().movedim(1, -1) if channels_first and output.ndim == 4 else output.detach()
        array = tensor.cpu().numpy().copy()
        self._silent -= 1
        behind = self._network.spec.in_classifier(f"{value.entry}.") or BEHIND in value.entry
        self.seen[value.entry] = flattened(array) if behind else array

    def _begin(self, module: nn.Module, inputs: tuple[Tensor]) -> None:
        self._known[inputs[0]] = _Tensor(INPUT, channels_first=True)
        self._silent = 0

    def _end(self, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        self._silent = 1

    def _enter(self, module: nn.Module, inputs: tuple[Tensor]) -> None:
        self._silent += 1

    def _leave(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            self._silent -= 1
            # What no operation that is known has made counts as an input of the network.
            given = self._known.get(inputs[0], _Tensor(INPUT, channels_first=True))
            self._write_down(output, self._entries.layer(name, [given.value]), given.channels_first)

        return hook


def activations(network: Network, images: Array) -> dict[str, Array]:
    """Outputs of every layer and entry, in inference mode, in the order of the forward pass."""
    network.eval()
    with torch.inference_mode(), _Watch(network) as watch:
        network.models["all"](network.prepare("all", torch.from_numpy(images)))
    return watch.seen


def differentiate(network: Network, recipe: Recipe, batch: Batch, batch_norm_trains: bool) -> Differentiated:
    """One forward and backward pass with all parameters trainable."""
    everything = frozenset(each.name for each in parameters(network))
    trainer = Trainer(network, "all", everything, batch_norm_trains, recipe)
    with _Watch(network) as watch:
        loss, gradients = trainer.differentiate(trainer.streams(batch))
    named = {
        each.name: each.to_neutral(gradient.cpu().numpy().copy())
        for each, gradient in zip(trainer.parameters, gradients, strict=True)
    }
    trainer.optimizer.zero_grad()
    return Differentiated(watch.seen, float(loss), named)


def gradients(
    network: Network,
    part: Part,
    trainable: frozenset[str],
    batch_norm_trains: bool,
    recipe: Recipe,
    batch: Batch,
) -> tuple[float, dict[str, Array]]:
    """Loss of a batch and its gradients by the named parameters, as a step of training has them."""
    trainer = Trainer(network, part, trainable, batch_norm_trains, recipe)
    loss, found = trainer.differentiate(trainer.streams(batch))
    named = {
        each.name: each.to_neutral(gradient.cpu().numpy().copy())
        for each, gradient in zip(trainer.parameters, found, strict=True)
    }
    return float(loss), named


#: torch's name of an optimizer's state to the contract's.
_STATES: dict[str, StateKind] = {
    "momentum_buffer": "momentum",
    "exp_avg": "first_moment",
    "exp_avg_sq": "second_moment",
}


def optimize_learner(
    learner: Learner,
    gradients: Iterable[Mapping[str, Array]],
    rates: Sequence[float],
    sample: Callable[[Array], Array],
) -> Iterator[list[State]]:
    """Steps of a learner's optimizer from a fresh state along given gradients."""
    named = [(name, variable, np.asarray) for name, variable in learner.variables.items()]
    for given, rate in zip(gradients, rates, strict=True):
        learner.update(given, rate)
        yield _states(learner.optimizer, named, sample)


def optimize(
    network: Network,
    recipe: Recipe,
    gradients: Iterable[Mapping[str, Array]],
    rates: Sequence[float],
    sample: Callable[[Array], Array],
    trainable: frozenset[str] | None = None,
) -> Iterator[list[State]]:
    """Steps of the recipe's optimizer from a fresh state along given gradients."""
    everything = frozenset(each.name for each in parameters(network))
    trainer = Trainer(network, "all", everything if trainable is None else trainable, False, recipe)
    named = [(each.name, each.variable, each.to_neutral) for each in trainer.parameters]
    for given, rate in zip(gradients, rates, strict=True):
        trainer.update([torch.from_numpy(given[each.name]).to(each.variable) for each in trainer.parameters], rate)
        yield _states(trainer.optimizer, named, sample)
    trainer.optimizer.zero_grad()


def _states(
    optimizer: torch.optim.Optimizer,
    named: Sequence[tuple[str, Tensor, Callable[[Array], Array]]],
    sample: Callable[[Array], Array],
) -> list[State]:
    """What an optimizer holds for some variables, each with its neutral name and the way to torch's layout."""
    found = []
    for key, what in _STATES.items():
        for name, variable, to_neutral in named:
            value = optimizer.state[variable].get(key)
            if value is not None:
                found.append(State(what, name, sample(to_neutral(value.detach().cpu().numpy()))))
    for name, variable, to_neutral in named:
        found.append(State("parameter", name, sample(to_neutral(variable.detach().cpu().numpy()))))
    return found

"""Activations, gradients and optimizer state for the parity ladder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from transfer_parity.shared.contract.batches import Batch
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.rungs import StateKind
from transfer_parity.shared.contract.wing import Array, Differentiated, State
from transfer_parity.shared.zoo.pair import HEAD
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


def _layers(network: Network) -> dict[str, nn.Module]:
    """Every module that holds parameters of its own, by neutral name, in the order in which it was made."""
    found: dict[str, nn.Module] = {}
    for prefix, part in (("", network.features), (HEAD, network.head)):
        for name, module in part.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d | nn.LayerNorm):
                found[prefix + name.removeprefix("0.model.")] = module
    return found


def _watch(network: Network, seen: dict[str, Array]) -> list[Any]:
    """Hooks that write down what every layer puts out. Returns them for removal."""

    def hook(name: str, behind_pooling: bool, channels_first: bool) -> Any:
        def write_down(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            # A copy: the activation behind it may work in place.
            value = output.detach().movedim(1, -1) if channels_first and output.ndim == 4 else output.detach()
            array = value.cpu().numpy().copy()
            seen[name] = array.reshape(len(array), -1) if behind_pooling else array

        return write_down

    return [
        # ConvNeXt's blocks work on (b, H, W, C) between two permutations: there nn.Linear and nn.LayerNorm do.
        module.register_forward_hook(
            hook(name, network.spec.in_classifier(name), type(module) not in (nn.Linear, nn.LayerNorm))
        )
        for name, module in _layers(network).items()
    ]


def activations(network: Network, images: Array) -> dict[str, Array]:
    """Outputs of every layer that holds parameters, in inference mode, in the order of the forward pass."""
    seen: dict[str, Array] = {}
    network.eval()
    hooks = _watch(network, seen)
    with torch.inference_mode():
        network.models["all"](network.prepare("all", torch.from_numpy(images)))
    for hook in hooks:
        hook.remove()
    return seen


def differentiate(network: Network, recipe: Recipe, batch: Batch, batch_norm_trains: bool) -> Differentiated:
    """One forward and backward pass with all parameters trainable."""
    everything = frozenset(each.name for each in parameters(network))
    trainer = Trainer(network, "all", everything, batch_norm_trains, recipe)
    seen: dict[str, Array] = {}
    hooks = _watch(network, seen)
    loss, gradients = trainer.differentiate(torch.from_numpy(batch.inputs), torch.from_numpy(batch.labels))
    for hook in hooks:
        hook.remove()
    named = {
        each.name: each.to_neutral(gradient.cpu().numpy().copy())
        for each, gradient in zip(trainer.parameters, gradients, strict=True)
    }
    trainer.optimizer.zero_grad()
    return Differentiated(seen, float(loss), named)


#: torch's name of an optimizer's state to the contract's.
_STATES: dict[str, StateKind] = {
    "momentum_buffer": "momentum",
    "exp_avg": "first_moment",
    "exp_avg_sq": "second_moment",
}


def optimize(
    network: Network,
    recipe: Recipe,
    gradients: Iterable[Mapping[str, Array]],
    rates: Sequence[float],
    sample: Callable[[Array], Array],
) -> Iterator[list[State]]:
    """Steps of the recipe's optimizer from a fresh state along given gradients."""
    everything = frozenset(each.name for each in parameters(network))
    trainer = Trainer(network, "all", everything, False, recipe)
    for given, rate in zip(gradients, rates, strict=True):
        trainer.update([torch.from_numpy(given[each.name]).to(each.variable) for each in trainer.parameters], rate)
        yield _states(trainer, sample)
    trainer.optimizer.zero_grad()


def _states(trainer: Trainer, sample: Callable[[Array], Array]) -> list[State]:
    found = []
    for key, what in _STATES.items():
        for each in trainer.parameters:
            value = trainer.optimizer.state[each.variable].get(key)
            if value is not None:
                found.append(State(what, each.name, sample(each.to_neutral(value.detach().cpu().numpy()))))
    for each in trainer.parameters:
        found.append(State("parameter", each.name, sample(each.to_neutral(each.variable.detach().cpu().numpy()))))
    return found

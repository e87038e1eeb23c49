"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from torchvision.ops import StochasticDepth

from transfer_parity.shared.contract.batches import Batch
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.wing import Array, Part
from transfer_parity.torch_impl.network import Network
from transfer_parity.torch_impl.objectives import build_objective
from transfer_parity.torch_impl.optimizers import build_optimizer
from transfer_parity.torch_impl.weights import parameters


class Trainer:
    """A training step with its optimizer."""

    def __init__(
        self, network: Network, part: Part, trainable: frozenset[str], batch_norm_trains: bool, recipe: Recipe
    ) -> None:
        self.network, self.part, self.recipe = network, part, recipe
        self.switches = network.spec.switches
        self.model = network.models[part]
        everything = [each for each in parameters(network) if isinstance(each.variable, nn.Parameter)]
        for each in everything:
            each.variable.requires_grad_(each.name in trainable)
        self.parameters = [each for each in everything if each.variable.requires_grad]
        self.variables = [each.variable for each in self.parameters if isinstance(each.variable, nn.Parameter)]
        factors = [recipe.rate_factor(each.name) for each in self.parameters]
        self.optimizer = build_optimizer(recipe, self.variables, self.switches, factors)
        self.objective = build_objective(network, recipe, self.parameters, self._forward)
        self.steps = 0
        # In torch requires_grad says nothing about the statistics: a normalisation that is not in training mode is
        # frozen, one that is learns them, whatever its parameters do.
        network.eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d) and batch_norm_trains:
                # differs: frozen_batch_norm
                module.train(any(parameter.requires_grad for parameter in module.parameters()))
            if isinstance(module, nn.BatchNorm2d) and "frozen_batch_norm" in self.switches:
                # torch's pitfall: a frozen normalisation still follows the mode of the whole model.
                module.train()
            if isinstance(module, nn.Dropout | StochasticDepth) and "dropout" in self.switches:
                module.train(batch_norm_trains)

    def step(self, batch: Batch) -> Tensor:
        """One optimizer step. Returns the loss before it, as a scalar tensor."""
        loss, gradients = self.differentiate(self.streams(batch))
        self.update(gradients, batch.learning_rate)
        self.objective.after_step()
        return loss

    def streams(self, batch: Batch) -> dict[str, Tensor]:
        """All that a step is given, as tensors."""
        return {name: torch.from_numpy(array) for name, array in batch.streams.items()}

    def _forward(self, inputs: Tensor) -> Tensor:
        return self.model(self.network.prepare(self.part, inputs))

    def differentiate(self, streams: Mapping[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Loss of a batch, and its gradients by each of ``variables``; running statistics learn on the way."""
        hooks = self._counting_biased_variance() if "bn_running_variance" in self.switches else []
        loss = self.objective.loss(streams)
        for hook in hooks:
            hook.remove()
        self.optimizer.zero_grad()
        loss.backward()
        return loss.detach(), [variable.grad for variable in self.variables if variable.grad is not None]

    def update(self, gradients: list[Tensor], learning_rate: Tensor | float) -> None:
        """One step of the optimizer along the gradients."""
        rate = float(learning_rate)
        for variable, gradient in zip(self.variables, gradients, strict=True):
            variable.grad = gradient
        self.steps += 1
        for group in self.optimizer.param_groups:
            if self.switches:
                self._as_keras(group, rate * group["factor"])
            group["lr"] = rate * group["factor"]
        self.optimizer.step()

    def _as_keras(self, group: dict[str, Any], learning_rate: float) -> None:
        """Give torch's optimizer Keras's meaning of what is switched on."""
        if "adam_epsilon" in self.switches and "betas" in group:
            # Keras adds epsilon before the bias correction: the same as torch's with this epsilon.
            group["eps"] = self.recipe.epsilon / math.sqrt(1 - self.recipe.beta2**self.steps)
        if "weight_decay" in self.switches and self.recipe.optimizer != "adamw":
            with torch.no_grad():
                for variable in group["params"]:
                    variable.mul_(1 - learning_rate * self.recipe.weight_decay)
        if "sgd_momentum" in self.switches:
            # Keras's velocity holds the rate of its time: torch's does if it is rescaled whenever the rate changes.
            for state in map(self.optimizer.state.__getitem__, group["params"]):
                if state.get("momentum_buffer") is not None:
                    state["momentum_buffer"].mul_(group["lr"] / learning_rate)

    def _counting_biased_variance(self) -> list[RemovableHandle]:
        """Hooks that correct each running variance once torch has updated it. Returns them for removal."""
        learning = [each for each in self.network.modules() if isinstance(each, nn.BatchNorm2d) and each.training]
        return [each.register_forward_pre_hook(_remember_variance) for each in learning] + [
            each.register_forward_hook(_count_biased_variance) for each in learning
        ]


def _remember_variance(module: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
    """Keep what the running variance was, for ``_count_biased_variance``."""
    assert module.running_var is not None
    module.register_buffer("old_variance", module.running_var.clone(), persistent=False)


def _count_biased_variance(module: nn.BatchNorm2d, inputs: tuple[Tensor], output: Tensor) -> None:
    """Correct a running variance that torch just updated: Keras counts the biased variance, (n - 1)/n of torch's.

    Args:
        module: whose ``running_var`` is ``(1 - momentum) * old + momentum * sample variance``.
        inputs: of the layer, (b, C, H, W).
        output: of the layer.
    """
    assert module.running_var is not None and module.momentum is not None
    n = inputs[0].numel() / inputs[0].shape[1]
    kept = (1 - module.momentum) * module.get_buffer("old_variance")
    with torch.no_grad():
        # Behind autograd's back: the backward pass does not need what it thinks it has saved.
        module.running_var.data.copy_(kept + (module.running_var - kept) * (n - 1) / n)


def train(
    network: Network,
    part: Part,
    trainable: frozenset[str],
    batch_norm_trains: bool,
    recipe: Recipe,
    batches: Iterable[Batch],
    on_step: Callable[[], None],
) -> list[float]:
    """Train the named parameters on the batches, from a fresh optimizer state.

    Args:
        network: whose weights are loaded.
        part: "head" if the batches hold features, "all" if they hold images.
        trainable: neutral names; everything else stays as it is.
        batch_norm_trains: whether normalisation layers among them use and learn the statistics of the batch.
        recipe: its loss and optimizer.
        batches: in order; each brings its learning rate.
        on_step: called after every step.

    Returns:
        The loss of every step, before its update.
    """
    trainer = Trainer(network, part, trainable, batch_norm_trains, recipe)
    network.objective = trainer.objective
    trainer.objective.begin()
    losses = []
    for batch in batches:
        losses.append(trainer.step(batch))
        on_step()
    return [float(loss) for loss in losses]


def state(network: Network) -> dict[str, Array]:
    """What the objective of the latest training keeps from step to step, by neutral name, in torch's layout."""
    return network.objective.state() if network.objective is not None else {}

"""Losses, optimizers and the training loop.

Where the two libraries use one word for two things, torch's meaning is the reference, so this wing uses torch's own
classes as they are; ``tf_impl/training.py`` says what differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shared.contract import Part
from shared.plan import Batch
from shared.recipe import Recipe
from torch_impl.network import Network
from torch_impl.weights import parameters


def build_optimizer(recipe: Recipe, variables: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The recipe's optimizer. Its learning rate is set anew in every step."""
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            variables, recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
    # torch couples weight decay with the gradient in Adam and decouples it in AdamW.
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(
        variables,
        recipe.learning_rate,
        betas=(recipe.beta1, recipe.beta2),
        eps=recipe.epsilon,
        weight_decay=recipe.weight_decay,
    )


def build_loss(recipe: Recipe) -> Callable[[Tensor, Tensor], Tensor]:
    """The recipe's loss of one-hot targets (b, classes) and logits (b, classes), averaged over the batch."""
    if recipe.loss == "mse":
        return lambda targets, logits: F.mse_loss(logits, targets)
    return lambda targets, logits: F.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)


class Trainer:
    """A training step with its optimizer."""

    def __init__(
        self, network: Network, part: Part, trainable: frozenset[str], batch_norm_trains: bool, recipe: Recipe
    ) -> None:
        self.network, self.part = network, part
        self.model = network.models[part]
        self.loss = build_loss(recipe)
        self.variables: list[nn.Parameter] = []
        for name, tensor in parameters(network):
            if isinstance(tensor, nn.Parameter):
                tensor.requires_grad_(name in trainable)
                if tensor.requires_grad:
                    self.variables.append(tensor)
        self.optimizer = build_optimizer(recipe, self.variables)
        # In torch requires_grad says nothing about the statistics: a normalisation that is not in training mode is
        # frozen, one that is learns them, whatever its parameters do.
        network.eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d) and batch_norm_trains:
                module.train(any(parameter.requires_grad for parameter in module.parameters()))

    def step(self, batch: Batch) -> Tensor:
        """One optimizer step. Returns the loss before it, as a scalar tensor."""
        labels = torch.from_numpy(batch.labels).to(self.network.device)
        targets = F.one_hot(labels, self.network.spec.classes).to(torch.get_default_dtype())
        loss = self.loss(targets, self.model(self.network.prepare(self.part, batch.inputs)))
        self.optimizer.zero_grad()
        loss.backward()
        for group in self.optimizer.param_groups:
            group["lr"] = batch.learning_rate
        self.optimizer.step()
        return loss.detach()


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
    losses = []
    for batch in batches:
        losses.append(trainer.step(batch))
        on_step()
    return [float(loss) for loss in losses]

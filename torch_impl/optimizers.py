"""Losses and optimizers.

Where the two libraries use one word for two things, torch's meaning is the reference, so this wing uses torch's own
classes as they are; ``tf_impl/optimizers.py`` says what differs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from transfer_parity.shared.contract.recipe import Recipe


def build_optimizer(
    recipe: Recipe,
    variables: list[nn.Parameter],
    switches: frozenset[str] = frozenset(),
    factors: Sequence[float] | None = None,
) -> torch.optim.Optimizer:
    """The recipe's optimizer of some variables. Its learning rate is set anew in every step.

    ``factors``: of the rate, by variable. In torch those that share one are a group of parameters, which holds it.
    """
    factors = [1.0] * len(variables) if factors is None else factors
    groups: list[dict[str, Any]] = [
        {"params": [each for each, own in zip(variables, factors, strict=True) if own == factor], "factor": factor}
        for factor in dict.fromkeys(factors)
    ]
    coupled = 0.0 if "weight_decay" in switches else recipe.weight_decay
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, recipe.learning_rate, momentum=recipe.momentum, weight_decay=coupled)
    # torch couples weight decay with the gradient in Adam and decouples it in AdamW.
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(
        groups,
        recipe.learning_rate,
        betas=(recipe.beta1, recipe.beta2),
        eps=recipe.epsilon,  # differs: adam_epsilon
        weight_decay=recipe.weight_decay if recipe.optimizer == "adamw" else coupled,  # differs: weight_decay
    )


def build_loss(recipe: Recipe) -> Callable[[Tensor, Tensor], Tensor]:
    """The recipe's loss of one-hot targets (b, classes) and logits (b, classes), averaged over the batch."""
    if recipe.loss == "mse":
        return lambda targets, logits: F.mse_loss(logits, targets)
    return lambda targets, logits: F.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)

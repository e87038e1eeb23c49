"""Heads, losses and optimizers as textbooks and papers write them, in NumPy. No code of the project's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Weights = dict[str, Array]


def forward(head: str, weights: Weights, features: Array) -> tuple[Array, Weights]:
    """Logits (n, K) of features (n, C), or (n, H, W, C) with the convolutional head; and what ``backward`` needs."""
    hidden, kept = features, {"inputs": features}
    if head == "mlp":
        before = features @ weights["head.hidden.weight"].T + weights["head.hidden.bias"]
        hidden = np.maximum(before, 0)
        kept["before"] = before
    if head == "conv":
        padded = np.pad(features, ((0, 0), (1, 1), (1, 1), (0, 0)))
        # (n, H, W, C, 3, 3)
        kept["windows"] = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        before = np.einsum("nhwcij,ucij->nhwu", kept["windows"], weights["head.conv.weight"])
        kept["before"] = before + weights["head.conv.bias"]
        hidden = np.maximum(kept["before"], 0).mean(axis=(1, 2))
    kept["hidden"] = hidden
    return hidden @ weights["head.output.weight"].T + weights["head.output.bias"], kept


def backward(head: str, weights: Weights, kept: Weights, slope: Array) -> Weights:
    """Gradients by every weight, given that by the logits (n, K): the chain rule."""
    found = {"head.output.weight": slope.T @ kept["hidden"], "head.output.bias": slope.sum(axis=0)}
    back = slope @ weights["head.output.weight"]
    if head == "mlp":
        back = back * (kept["before"] > 0)
        found |= {"head.hidden.weight": back.T @ kept["inputs"], "head.hidden.bias": back.sum(axis=0)}
    if head == "conv":
        _, height, width, _ = kept["before"].shape
        back = back[:, None, None, :] / (height * width) * (kept["before"] > 0)
        found["head.conv.weight"] = np.einsum("nhwu,nhwcij->ucij", back, kept["windows"])
        found["head.conv.bias"] = back.sum(axis=(0, 1, 2))
    return found


def probabilities(logits: Array) -> Array:
    """Softmax (n, K)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def loss(kind: str, smoothing: float, logits: Array, labels: Array) -> tuple[float, Array]:
    """Loss and its gradient by the logits.

    Cross entropy with smoothing e: the target of the right class is 1 - e + e/K, of every other e/K (Szegedy et al.,
    Rethinking the Inception architecture, 2016, section 7); the mean over images. MSE: the mean over images and classes
    of the squared difference to one-hot targets.
    """
    images, classes = logits.shape
    targets = np.eye(classes, dtype=logits.dtype)[labels]
    if kind == "mse":
        return float(np.mean((logits - targets) ** 2)), 2 * (logits - targets) / (images * classes)
    targets = (1 - smoothing) * targets + smoothing / classes
    shifted = logits - logits.max(axis=1, keepdims=True)
    logarithms = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-(targets * logarithms).sum() / images), (probabilities(logits) - targets) / images


@dataclass(frozen=True)
class Rule:
    """An optimizer with its constants, in the words of the recipe.

    Attributes:
        keras: the switches of docs/differences.md whose formula is Keras's: "weight_decay", "sgd_momentum",
            "adam_epsilon".
    """

    optimizer: str
    momentum: float = 0.9
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    keras: frozenset[str] = frozenset()


class Optimizer:
    """A rule at work on some weights.

    SGD: v = m v + g, w = w - lr v, with g including the decay (L2). Adam: Kingma and Ba (2015), algorithm 1. AdamW:
    Loshchilov and Hutter (2019), algorithm 2, with the rate as the decay's factor, as in all libraries.
    """

    def __init__(self, rule: Rule) -> None:
        self.rule, self.step = rule, 0
        self.first: Weights = {}
        self.second: Weights = {}

    def update(self, weights: Weights, gradients: Weights, rate: float) -> Weights:
        """The weights behind one step."""
        rule = self.rule
        self.step += 1
        moved = {}
        for name, weight in weights.items():
            real = weight.dtype.type
            gradient, decay = gradients[name], real(rule.weight_decay)
            if rule.optimizer == "adamw" or "weight_decay" in rule.keras:
                weight = weight - real(rate) * decay * weight
            else:
                gradient = gradient + decay * weight
            first, second = (each.get(name, np.zeros_like(weight)) for each in (self.first, self.second))
            if rule.optimizer == "sgd":
                holds_rate = "sgd_momentum" in rule.keras
                first = real(rule.momentum) * first + (real(rate) * gradient if holds_rate else gradient)
                step = first if holds_rate else real(rate) * first
            else:
                beta1, beta2 = real(rule.beta1), real(rule.beta2)
                first = beta1 * first + (1 - beta1) * gradient
                second = beta2 * second + (1 - beta2) * gradient**2
                # Differences of nearly equal numbers: in float32 they show what rounding in them does.
                mean, square = first / (1 - beta1**self.step), second / (1 - beta2**self.step)
                epsilon = real(rule.epsilon)
                if "adam_epsilon" in rule.keras:
                    # The paper's shorter form: epsilon is added before the correction.
                    epsilon = epsilon / np.sqrt(1 - beta2**self.step)
                step = real(rate) * mean / (np.sqrt(square) + epsilon)
            self.first[name], self.second[name] = first, second
            moved[name] = weight - step
        return moved


def train(
    head: str, rule: Rule, kind: str, smoothing: float, weights: Weights, batches: Sequence[tuple[Array, Array, float]]
) -> tuple[Array, Weights]:
    """Losses of all steps and the last weights, in the weights' type. Batches are (features, labels, rate)."""
    optimizer, losses = Optimizer(rule), []
    for features, labels, rate in batches:
        logits, kept = forward(head, weights, features)
        value, slope = loss(kind, smoothing, logits, labels)
        losses.append(value)
        weights = optimizer.update(weights, backward(head, weights, kept, slope), rate)
    return np.array(losses), weights


def rates(peak: float, steps: int, warmup: int, cosine: bool) -> Iterator[float]:
    """Linear warm-up (Goyal et al., 2017, section 2.2), then the peak or half a cosine (SGDR, 2017, equation 5)."""
    for step in range(steps):
        if step < warmup:
            yield peak * (step + 1) / warmup
        elif cosine:
            yield peak * (1 + np.cos(np.pi * (step - warmup) / (steps - warmup))) / 2
        else:
            yield peak


def as_type(weights: Mapping[str, Array], dtype: type) -> Weights:
    """The same arrays in another floating-point type."""
    return {name: array.astype(dtype) for name, array in weights.items()}

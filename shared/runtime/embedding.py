"""Classes of an embedding: each is where the mean of its training images is."""

from __future__ import annotations

from typing import Any

import numpy as np

from transfer_parity.shared.contract.wing import Array, Wing
from transfer_parity.shared.zoo.pair import HEAD

WEIGHT, BIAS = f"{HEAD}output.weight", f"{HEAD}output.bias"


def place_classes(wing: Wing, network: Any, embedded: Array, labels: Array) -> None:
    """Make a classifier of a network whose head embeds; ``classifier`` says how."""
    layer = wing.weights.dump(network, (WEIGHT, BIAS))
    wing.weights.load(network, classifier(embedded, labels, layer[WEIGHT], layer[BIAS]))


def classifier(embedded: Array, labels: Array, weight: Array, bias: Array) -> dict[str, Array]:
    """The last layer of the head that takes an image for the class whose mean is nearest in an embedding.

    -|e - c|^2 is 2 c.e - |c|^2 but for what all classes have in common, and e = W x + b: so the logits 2 c.e - |c|^2
    are those of a layer with the weights 2 C W and the biases 2 C b - |c|^2, and softmax of them is that of -|e - c|^2.

    Args:
        embedded: outputs of that layer for the training images, (n, k).
        labels: their classes, (n,), every one of the k among them.
        weight: of the layer, (k, d).
        bias: of the layer, (k,).

    Returns:
        Its new weight and bias, by neutral name.
    """
    rows = embedded.astype(np.float64)
    means = np.stack([rows[labels == each].mean(axis=0) for each in range(len(weight))])
    lengths = np.square(means).sum(axis=1)
    return {WEIGHT: 2 * means @ weight.astype(np.float64), BIAS: 2 * means @ bias.astype(np.float64) - lengths}

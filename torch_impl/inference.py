"""Batched features and logits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from shared.contract import Array, Part
from torch_impl.network import Network


def infer(network: Network, part: Part, batches: Iterable[Array]) -> Iterator[Array]:
    """Outputs for each batch of inputs, in inference mode, as arrays of the recipe's floating-point type.

    Args:
        network: whose weights are loaded.
        part: "features" or "all" take uint8 images (b, S, S, 3), "head" takes features.
        batches: of any size, also of different sizes.
    """
    network.eval()
    model = network.models[part]
    for batch in batches:
        with torch.inference_mode():
            output = model(network.prepare(part, batch))
            # Feature maps leave as (N, H, W, C), as TensorFlow has them.
            yield (output.movedim(1, -1) if output.ndim == 4 else output).cpu().numpy()

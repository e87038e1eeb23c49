"""Batched features and logits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import tensorflow as tf

from shared.contract import Array, Part
from tf_impl.network import Network


def infer(network: Network, part: Part, batches: Iterable[Array]) -> Iterator[Array]:
    """Outputs for each batch of inputs, in inference mode, as arrays of the recipe's floating-point type.

    Args:
        network: whose weights are loaded.
        part: "features" or "all" take uint8 images (b, S, S, 3), "head" takes features.
        batches: of any size, also of different sizes.
    """
    for batch in batches:
        forward = network.forwards.get(part) or _compile(network, part, batch)
        yield forward(tf.convert_to_tensor(batch)).numpy()


def _compile(network: Network, part: Part, example: Array) -> tf.types.experimental.PolymorphicFunction:
    """A graph of preprocessing and forward pass. Its batch size stays open: a small last batch is not traced again."""
    model = network.models[part]
    signature = [tf.TensorSpec((None, *example.shape[1:]), example.dtype)]

    @tf.function(input_signature=signature)
    def forward(inputs: tf.Tensor) -> tf.Tensor:
        return model(network.prepare(part, inputs), training=False)

    network.forwards[part] = forward
    return forward

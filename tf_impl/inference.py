"""Batched features and logits, and the ways to run a forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import keras
import tensorflow as tf
from keras import layers

from transfer_parity.shared.contract.engines import Engine, efficiency
from transfer_parity.shared.contract.wing import Array, Part
from transfer_parity.shared.core.clocks import fastest
from transfer_parity.tf_impl.fusion import fuse, has_depthwise
from transfer_parity.tf_impl.internals import layers_of
from transfer_parity.tf_impl.network import Network

#: Measured on two cores; docs/speed.md says on which.
FUSED_SETUP_SECONDS, FUSED_SPEEDUP = 1.0, 1.35


def engines(network: Network, part: Part, in_float64: bool = False) -> tuple[Engine, ...]:
    """The ways to run a part in inference mode here; the first is the network as it is.

    Args:
        network: whose.
        part: of it.
        in_float64: whether to name those, too, that are not offered in float64 and yet compute in it.
    """
    depthwise = has_depthwise(network.models[part])
    graph = Engine("graph", efficiency=efficiency(depthwise))
    exact = keras.config.floatx() == "float64"
    if network.stock or (exact and not in_float64) or tf.config.get_visible_devices("GPU"):
        # float64 is for finding differences, and on a GPU none of this has been measured.
        return (graph,)
    # Without depthwise convolutions nearly all of the time is spent in products of matrices whatever is done.
    return (graph, Engine("fused", FUSED_SETUP_SECONDS, FUSED_SPEEDUP if depthwise else 1.08))


def infer(network: Network, part: Part, batches: Iterable[Array], engine: str | None = None) -> Iterator[Array]:
    """Outputs for each batch of inputs, in inference mode, as arrays of the recipe's floating-point type.

    Args:
        network: whose weights are loaded.
        part: "features", "frozen" or "all" take uint8 images (b, S, S, 3), "head" and "trainable" what these put out.
        batches: of any size, also of different sizes.
        engine: the name of one of ``engines``; prepared anew for every call, since weights change between calls.
    """
    forward: Callable[[tf.Tensor], tf.Tensor] | None = None
    for batch in batches:
        if forward is None:
            forward = _graph(network, part, batch, fused=engine == "fused")
        yield forward(tf.convert_to_tensor(batch)).numpy()


def _graph(network: Network, part: Part, example: Array, fused: bool) -> tf.types.experimental.PolymorphicFunction:
    """A graph of preprocessing and forward pass. Its batch size stays open: a small last batch is not traced again."""
    if not fused and part in network.forwards:
        return network.forwards[part]
    model = fuse(network.models[part]) if fused else network.models[part]
    signature = [tf.TensorSpec((None, *example.shape[1:]), example.dtype)]

    @tf.function(input_signature=signature)
    def forward(inputs: tf.Tensor) -> tf.Tensor:
        # What leaves a backbone that computes in a smaller type is of the recipe's type again.
        return tf.cast(model(network.prepare(part, inputs), training=False), keras.config.floatx())

    if not fused:
        network.forwards[part] = forward
    return forward


def multiply_adds(network: Network, part: Part) -> int:
    """Multiplications with weights in the convolutions and dense layers of a part that takes images, for one image."""
    total = 0
    for layer in layers_of(network.models[part]):
        if isinstance(layer, layers.DepthwiseConv2D | layers.Conv2D | layers.Dense):
            # Every weight is used once at every place of the output; the last dimension is in the weight's shape.
            places = tf.TensorShape(layer.output.shape[1:-1]).num_elements()
            total += places * tf.TensorShape(layer.weights[0].shape).num_elements()
    return total


def matrix_product_rate(network: Network, size: int = 1536) -> float:
    """Multiply-adds a second of a square matrix product, the fastest of some; the machine's ceiling for TensorFlow."""
    a = tf.ones((size, size), keras.config.dtype_policy().compute_dtype)
    # The sum's value is there only when the device has done its work.
    return size**3 / fastest(lambda: tf.reduce_sum(a @ a).numpy())

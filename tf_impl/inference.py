"""Batched features and logits, and the ways to run a forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import keras
import tensorflow as tf
from keras import layers
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from shared.contract import Array, Part
from shared.engines import Engine
from shared.timing import fastest
from tf_impl.network import Network

#: Measured on two cores; docs/speed.md says on which. Freezing turns variables into constants, so that TensorFlow
#: computes each normalisation into the convolution before it. Large constants take long to fold.
FROZEN_SPEEDUP = 1.25
FROZEN_SETUP_SECONDS, FROZEN_SETUP_SECONDS_PER_MB = 0.8, 0.05


def engines(network: Network, part: Part) -> tuple[Engine, ...]:
    """The ways to run a part in inference mode here; the first is the network as it is."""
    graph = Engine("graph")
    exact = keras.config.floatx() == "float64"
    if network.stock or exact or tf.config.get_visible_devices("GPU"):
        # float64 is for finding differences, and on a GPU none of this has been measured.
        return (graph,)
    megabytes = 4e-6 * network.models[part].count_params()
    depthwise = any(isinstance(layer, layers.DepthwiseConv2D) for layer in network.models[part].layers)
    setup = FROZEN_SETUP_SECONDS + FROZEN_SETUP_SECONDS_PER_MB * megabytes
    # Without depthwise convolutions nearly all of the time is spent in products of matrices either way.
    return (graph, Engine("frozen", setup, FROZEN_SPEEDUP if depthwise else 1.08))


def infer(network: Network, part: Part, batches: Iterable[Array], engine: str | None = None) -> Iterator[Array]:
    """Outputs for each batch of inputs, in inference mode, as arrays of the recipe's floating-point type.

    Args:
        network: whose weights are loaded.
        part: "features", "trunk" or "all" take uint8 images (b, S, S, 3), "head" and "tail" what these put out.
        batches: of any size, also of different sizes.
        engine: the name of one of ``engines``; prepared anew for every call, since weights change between calls.
    """
    forward: Callable[[tf.Tensor], tf.Tensor] | None = None
    for batch in batches:
        if forward is None:
            forward = _graph(network, part, batch)
            if engine == "frozen":
                forward = _frozen(forward)
        yield forward(tf.convert_to_tensor(batch)).numpy()


def _graph(network: Network, part: Part, example: Array) -> tf.types.experimental.PolymorphicFunction:
    """A graph of preprocessing and forward pass. Its batch size stays open: a small last batch is not traced again."""
    if part in network.forwards:
        return network.forwards[part]
    model = network.models[part]
    signature = [tf.TensorSpec((None, *example.shape[1:]), example.dtype)]

    @tf.function(input_signature=signature)
    def forward(inputs: tf.Tensor) -> tf.Tensor:
        # What leaves a backbone that computes in a smaller type is of the recipe's type again.
        return tf.cast(model(network.prepare(part, inputs), training=False), keras.config.floatx())

    network.forwards[part] = forward
    return forward


def _frozen(graph: tf.types.experimental.PolymorphicFunction) -> Callable[[tf.Tensor], tf.Tensor]:
    """The same graph with the variables' present values as constants."""
    function = convert_variables_to_constants_v2(graph.get_concrete_function())

    def forward(inputs: tf.Tensor) -> tf.Tensor:
        (output,) = function(inputs)
        return output

    return forward


def multiply_adds(network: Network, part: Part) -> int:
    """Multiplications with weights in the convolutions and dense layers of a part that takes images, for one image."""
    total = 0
    for layer in network.models[part]._flatten_layers(include_self=False, recursive=True):
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

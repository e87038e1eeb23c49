"""What TensorFlow does by itself where nobody tells it otherwise: reading images, shuffling, flipping, first weights.

Matched runs use none of this. It is what a switch turns on, and what a run "as shipped" consists of.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from transfer_parity.shared.checkpoints.layout import LAYER_SCALE
from transfer_parity.shared.contract.wing import Array
from transfer_parity.tf_impl.internals import layers_of
from transfer_parity.tf_impl.network import Network
from transfer_parity.tf_impl.weights import Parameter, parameters


def seed(network: Network, value: int) -> None:
    """Seed Keras's and TensorFlow's own generators, and those that a network's layers (dropout) keep to themselves."""
    keras.utils.set_random_seed(value)
    for number, layer in enumerate(layers_of(network.models["all"])):
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            generator.state.assign([value * 10_000 + number, 0])


def decode_jpeg(path: Path) -> Array:  # differs: jpeg_decoding
    """A JPEG file as tf.io decodes it: RGB pixels (h, w, 3), uint8. Its orientation tag is ignored."""
    return tf.io.decode_jpeg(path.read_bytes(), channels=3).numpy()


def squash(pixels: Array, size: int) -> Array:  # differs: resizing
    """An image (h, w, 3) resized to (size, size, 3), as tf.image.resize does by default: without antialiasing."""
    small = tf.image.resize(pixels.astype(np.float32), (size, size), method="bilinear", antialias=False)
    return tf.cast(tf.clip_by_value(tf.round(small), 0, 255), tf.uint8).numpy()


def shuffled_order(images: int, epochs: int) -> Array:  # differs: data_order
    """Places of the training images in the order of every epoch, int64 (epochs, images): tf.data's shuffling."""
    shuffled = tf.data.Dataset.range(images).shuffle(images)
    return np.stack([np.fromiter(shuffled.as_numpy_iterator(), np.int64, images) for _ in range(epochs)])


def random_flips(images: int, epochs: int) -> Array:  # differs: augmentation
    """Which images tf.image.random_flip_left_right mirrors in every epoch, bool (epochs, images)."""
    # A picture of one dark and one bright pixel shows whether it was turned over.
    probes = tf.tile(tf.constant([[[[0], [1]]]], tf.uint8), (epochs * images, 1, 1, 1))
    turned = tf.image.random_flip_left_right(probes).numpy()[:, 0, 0, 0]
    return turned.astype(bool).reshape(epochs, images)


def initial_weights(network: Network, names: Collection[str]) -> dict[str, Array]:  # differs: initialisation
    """The named parameters and statistics as the initialisers of their Keras layers draw them.

    Dense and convolutional kernels start from Glorot's uniform distribution, biases from zero.
    """
    return {each.name: each.to_neutral(_drawn(each)) for each in parameters(network) if each.name in names}


def _drawn(parameter: Parameter) -> Array:
    kind, layer, variable = parameter.kind, parameter.layer, parameter.variable
    if kind == LAYER_SCALE:
        return np.full(variable.shape, layer.init_values, variable.dtype)
    word = "depthwise" if kind == "kernel" and isinstance(layer, layers.DepthwiseConv2D) else kind
    # An initialiser without a seed draws one when it is made, and the same values ever after: so a new one.
    initialiser = getattr(layer, f"{word}_initializer")
    fresh = initialiser.__class__.from_config(initialiser.get_config())
    return np.array(fresh(variable.shape, variable.dtype))

"""What TensorFlow does by itself where nobody tells it otherwise: reading images, shuffling, flipping, first weights.

Matched runs use none of this. It is what a switch turns on, and what a run "as shipped" consists of.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from PIL import Image

from transfer_parity.shared.checkpoints.layout import LAYER_SCALE
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.data.images import decode, fit, is_jpeg
from transfer_parity.shared.runtime.native_behaviour import READING
from transfer_parity.tf_impl.network import Network
from transfer_parity.tf_impl.weights import parameters, to_neutral


def seed(network: Network, value: int) -> None:
    """Seed Keras's and TensorFlow's own generators, and those that a network's layers (dropout) keep to themselves."""
    keras.utils.set_random_seed(value)
    for number, layer in enumerate(network.models["all"]._flatten_layers(include_self=False, recursive=True)):
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            generator.state.assign([value * 10_000 + number, 0])


def own_images(pictures: Sequence[Path], images: Array, resize: int, switches: frozenset[str]) -> Array:
    """The images (N, S, S, 3), with what is switched on done by TensorFlow itself.

    Args:
        pictures: the files that they were read from.
        images: as transfer_parity.shared.data.images read them.
        resize: shorter side to which they were resized.
        switches: "jpeg_decoding": decode JPEG files with TensorFlow's own decoder, then as usual; "resizing": squash to
            a square without antialiasing.
    """
    if not switches & READING:
        return images
    size = images.shape[1]
    changed = []
    for path in pictures:
        if "jpeg_decoding" in switches and is_jpeg(path):
            pixels = tf.io.decode_jpeg(path.read_bytes(), channels=3).numpy()
        else:
            pixels = np.array(decode(path))
        if "resizing" in switches:
            small = tf.image.resize(pixels.astype(np.float32), (size, size), method="bilinear", antialias=False)
            changed.append(tf.cast(tf.clip_by_value(tf.round(small), 0, 255), tf.uint8).numpy())
        else:
            changed.append(fit(Image.fromarray(pixels), resize, size))
    return np.stack(changed)


def own_order(images: int, epochs: int) -> Array:
    """Places of the training images in the order of every epoch, int64 (epochs, images): tf.data's shuffling."""
    shuffled = tf.data.Dataset.range(images).shuffle(images)
    return np.stack([np.fromiter(shuffled.as_numpy_iterator(), np.int64, images) for _ in range(epochs)])


def own_flips(images: int, epochs: int) -> Array:
    """Which images tf.image.random_flip_left_right mirrors in every epoch, bool (epochs, images)."""
    # A picture of one dark and one bright pixel shows whether it was turned over.
    probes = tf.tile(tf.constant([[[[0], [1]]]], tf.uint8), (epochs * images, 1, 1, 1))
    turned = tf.image.random_flip_left_right(probes).numpy()[:, 0, 0, 0]
    return turned.astype(bool).reshape(epochs, images)


def own_weights(network: Network, names: Collection[str]) -> dict[str, Array]:
    """The named parameters and statistics as the initialisers of their Keras layers draw them.

    Dense and convolutional kernels start from Glorot's uniform distribution, biases from zero.
    """
    spec = network.spec
    return {
        name: to_neutral(name, kind, layer, _drawn(kind, layer, variable), spec.pair, spec.switches)
        for name, kind, layer, variable in parameters(network.models["all"], spec.pair)
        if name in names
    }


def _drawn(kind: str, layer: keras.Layer, variable: keras.Variable) -> Array:
    if kind == LAYER_SCALE:
        return np.full(variable.shape, layer.init_values, variable.dtype)
    word = "depthwise" if kind == "kernel" and isinstance(layer, layers.DepthwiseConv2D) else kind
    # An initialiser without a seed draws one when it is made, and the same values ever after: so a new one.
    initialiser = getattr(layer, f"{word}_initializer")
    fresh = initialiser.__class__.from_config(initialiser.get_config())
    return np.array(fresh(variable.shape, variable.dtype))

"""The classifiers on top of a backbone: linear, one hidden layer, convolutional, by cosine."""

from __future__ import annotations

import keras
from keras import layers

from transfer_parity.shared.contract.spec import HeadKind


def build(kind: HeadKind, input_shape: tuple[int, ...], units: int, classes: int) -> keras.Model:
    """The head's input to logits (N, classes), in the recipe's type, also where the backbone computes in a smaller one.

    Args:
        kind: of head.
        input_shape: of one image's features: (C,), or (H, W, C) for the convolutional head.
        units: of the hidden layer, if there is one; images that the cache of a "cache" head has room for.
        classes: number of logits.
    """
    dtype = keras.config.floatx()
    inputs = x = keras.Input(input_shape, dtype=dtype)
    if kind == "mlp":
        x = layers.Dense(units, dtype=dtype, name="head.hidden")(x)
        # A layer of its own, as torch has it: then the dense layer itself can be watched.
        x = layers.ReLU(dtype=dtype, name="head.relu")(x)
    if kind == "conv":
        x = layers.Conv2D(units, 3, padding="same", dtype=dtype, name="head.conv")(x)
        x = layers.ReLU(dtype=dtype, name="head.relu")(x)
        x = layers.GlobalAveragePooling2D(dtype=dtype)(x)
    if kind in ("cosine", "cache"):
        x = _unit(_centre(x, dtype), dtype)
        logits = layers.Dense(classes, use_bias=False, dtype=dtype, name="head.output")(x)
        if kind == "cache":
            x = layers.Dense(units, dtype=dtype, name="head.cache")(x)
            x = layers.Activation("exponential", dtype=dtype, name="head.exponential")(x)
            x = layers.Dense(classes, use_bias=False, dtype=dtype, name="head.values")(x)
            logits = layers.Add(dtype=dtype, name="head.sum")([logits, x])
        return keras.Model(inputs, logits, name="head")
    return keras.Model(inputs, layers.Dense(classes, dtype=dtype, name="head.output")(x), name="head")


def _unit(vectors: keras.KerasTensor, dtype: str) -> keras.KerasTensor:
    """Vectors (N, C), each divided by its length.

    The layer's epsilon, 1e-12, is the smallest length, as in torch's ``normalize``; in ``tf.math.l2_normalize`` it is
    the smallest square of one.
    """
    return layers.UnitNormalization(axis=-1, dtype=dtype, name="head.unit")(vectors)


def _centre(features: keras.KerasTensor, dtype: str) -> keras.KerasTensor:
    """Subtracts a mean, which is the moving one: divided by a moving variance of 1, to which nothing is added.

    A layer of Keras's own, so that a kept model is read without this project.
    """
    centre = layers.BatchNormalization(center=False, scale=False, epsilon=0.0, dtype=dtype, name="head.centre")
    return centre(features)

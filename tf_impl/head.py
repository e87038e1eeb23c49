"""The classifiers on top of a backbone: linear, one hidden layer, convolutional."""

from __future__ import annotations

from typing import Literal

import keras
from keras import layers


def build(
    kind: Literal["linear", "mlp", "conv"], input_shape: tuple[int, ...], units: int, classes: int
) -> keras.Model:
    """The head's input to logits (N, classes), in the recipe's type, also where the backbone computes in a smaller one.

    Args:
        kind: of head.
        input_shape: of one image's features: (C,), or (H, W, C) for the convolutional head.
        units: of the hidden layer, if there is one.
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
    return keras.Model(inputs, layers.Dense(classes, dtype=dtype, name="head.output")(x), name="head")

"""The classifiers on top of a backbone: linear, one hidden layer, convolutional."""

from __future__ import annotations

from typing import Literal

import keras
from keras import layers


def build(
    kind: Literal["linear", "mlp", "conv"], input_shape: tuple[int, ...], units: int, classes: int
) -> keras.Model:
    """The head's input, without the batch dimension in ``input_shape``, to logits (N, classes)."""
    inputs = x = keras.Input(input_shape)
    if kind == "mlp":
        x = layers.Dense(units, activation="relu", name="head.hidden")(x)
    if kind == "conv":
        x = layers.Conv2D(units, 3, padding="same", activation="relu", name="head.conv")(x)
        x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes, name="head.output")(x), name="head")

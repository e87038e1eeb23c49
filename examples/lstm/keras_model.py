"""The same classifier in Keras."""

from __future__ import annotations

import keras
from keras import layers


def build(steps=12, features=12, hidden=16, classes=5, cell="lstm"):
    """The factory that pair.toml names."""
    # Both have gates in the order input, forget, candidate, output. torch adds two biases, which the map sums up. Of a
    # GRU only reset_after=True, Keras's default, computes what torch does.
    kind = {"lstm": layers.LSTM, "gru": layers.GRU}[cell]
    sequence = keras.Input((steps, features))
    # Over the features of each step, as torch does; Keras's own epsilon is 1e-3.
    x = layers.LayerNormalization(axis=-1, epsilon=1e-5, name="scaled")(sequence)
    x = kind(hidden, return_sequences=True, name="recurrent_1")(x)
    x = kind(hidden, name="recurrent_2")(x)
    return keras.Model(sequence, layers.Dense(classes, name="logits")(x))

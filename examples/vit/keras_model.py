"""A small vision transformer in Keras: this is the side that is ported."""

from __future__ import annotations

import math

import keras
from keras import layers, ops


def gelu(x):
    """Exact, in the precision of x. keras.activations.gelu has 1/sqrt(2) as a float32 whatever x is."""
    return 0.5 * x * (1 + ops.erf(x / math.sqrt(2)))


class ClassToken(layers.Layer):
    """One learned token in front of all others."""

    def build(self, shape):
        """Make the token, (1, 1, width)."""
        self.token = self.add_weight(name="token", shape=(1, 1, shape[-1]))

    def call(self, x):
        """(N, tokens, width) to (N, 1 + tokens, width)."""
        return ops.concatenate([ops.repeat(self.token, ops.shape(x)[0], 0), x], 1)


class PositionEmbedding(layers.Layer):
    """Adds a learned vector to every place."""

    def build(self, shape):
        """Make the table, (1, tokens, width)."""
        self.table = self.add_weight(name="table", shape=(1, *shape[1:]))

    def call(self, x):
        """(N, tokens, width)."""
        return x + self.table


def attend(x, heads, name):
    """Self-attention written out: dense layers for queries, keys and values, softmax, and a dense layer."""
    _, tokens, width = x.shape
    size = width // heads

    def split(role):
        y = layers.Reshape((tokens, heads, size))(layers.Dense(width, name=f"{name}_{role}")(x))
        return ops.transpose(y, (0, 2, 1, 3))

    query, key, value = split("query"), split("key"), split("value")
    scores = query @ ops.transpose(key, (0, 1, 3, 2)) / math.sqrt(size)
    mixed = ops.transpose(ops.softmax(scores) @ value, (0, 2, 1, 3))
    return layers.Dense(width, name=f"{name}_output")(layers.Reshape((tokens, width))(mixed))


def encoder(x, heads, name, by_hand):
    """A block: attention, then two dense layers, each behind a normalisation and beside a shortcut."""
    width = x.shape[-1]
    y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm1")(x)
    if by_hand:
        y = attend(y, heads, f"{name}_attention")
    else:
        y = layers.MultiHeadAttention(heads, width // heads, name=f"{name}_attention")(y, y)
    x = layers.Add(name=f"{name}_add1")([x, y])
    y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm2")(x)
    y = layers.Dense(2 * width, name=f"{name}_wide")(y)
    y = layers.Activation(gelu, name=f"{name}_gelu")(y)
    y = layers.Dense(width, name=f"{name}_narrow")(y)
    return layers.Add(name=f"{name}_add2")([x, y])


def build(width=16, heads=4, classes=6):
    """The factory that pair.toml names: images of 16 pixels in 16 patches."""
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(width, 4, 4, name="patches")(image)
    x = layers.Reshape((16, width), name="tokens")(x)
    x = PositionEmbedding(name="positions")(ClassToken(name="class_token")(x))
    x = encoder(x, heads, "block1", by_hand=False)
    x = encoder(x, heads, "block2", by_hand=True)
    x = layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    return keras.Model(image, layers.Dense(classes, name="head")(x[:, 0]))


def preprocess(images):
    """Bytes (N, H, W, 3) to [-1, 1]."""
    return images / 127.5 - 1

"""The same network in Keras. Each comment marks a place where the two libraries, left alone, differ."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class SampleVariance(layers.BatchNormalization):
    """Remembers the variance as torch does: times n / (n - 1), n being the values that it is taken of."""

    def call(self, inputs, training=None, mask=None):
        """Normalise; in training, learn."""
        kept = self.moving_variance * self.momentum
        outputs = super().call(inputs, training=training, mask=mask)
        if training and self.trainable:
            n = ops.cast(ops.size(inputs) // inputs.shape[-1], kept.dtype)
            self.moving_variance.assign(kept + (self.moving_variance - kept) * n / (n - 1))
        return outputs


def norm(name):
    """A normalisation with torch's constants; Keras's own are epsilon=1e-3 and momentum=0.99."""
    # Keras's momentum is the weight of the old statistic, torch's (0.1) that of the new one.
    return SampleVariance(epsilon=1e-5, momentum=0.9, name=name)


def conv(filters, size, name, strides=1):
    """A convolution that pads nothing."""
    return layers.Conv2D(filters, size, strides, padding="valid", use_bias=False, name=name)


def bottleneck(x, width, filters, name, strides=1):
    """The block of the paper: 1x1, 3x3, 1x1, and the shortcut."""
    y = layers.ReLU(6, name=f"{name}_relu_a")(norm(f"{name}_norm_a")(conv(width, 1, f"{name}_conv_a")(x)))
    # padding="same" with a stride pads at the bottom and right only; torch pads on all sides.
    y = layers.ZeroPadding2D(1, name=f"{name}_pad")(y)
    y = conv(width, 3, f"{name}_conv_b", strides)(y)
    y = layers.ReLU(6, name=f"{name}_relu_b")(norm(f"{name}_norm_b")(y))
    y = norm(f"{name}_norm_c")(conv(filters, 1, f"{name}_conv_c")(y))
    if strides != 1 or x.shape[-1] != filters:
        x = norm(f"{name}_norm_skip")(conv(filters, 1, f"{name}_conv_skip", strides)(x))
    return layers.ReLU(6, name=f"{name}_relu_out")(layers.Add(name=f"{name}_add")([y, x]))


def build(classes=7):
    """The factory that pair.toml names."""
    image = keras.Input((16, 16, 3))
    # At stride 1 "same" pads on all sides, like torch's padding=1.
    x = layers.Conv2D(16, 3, padding="same", use_bias=False, name="entry_conv")(image)
    x = layers.ReLU(6, name="entry_relu")(norm("entry_norm")(x))
    x = bottleneck(x, 8, 16, "one")
    x = bottleneck(x, 8, 16, "two")
    x = bottleneck(x, 12, 32, "three", strides=2)
    x = bottleneck(x, 12, 32, "four")
    x = layers.AveragePooling2D(4, name="pool")(x)
    # torch flattens (channels, rows, columns), so the dense layer's weights are in that order.
    x = layers.Permute((3, 1, 2), name="channels_first")(x)
    x = layers.Flatten(name="flatten")(x)
    # Logits: the loss takes the softmax.
    return keras.Model(image, layers.Dense(classes, name="scores")(x))


def preprocess(images: np.ndarray) -> np.ndarray:
    """Bytes (N, H, W, 3) to what the model gets; channels stay last."""
    return (images / 255 - MEAN) / DEVIATION

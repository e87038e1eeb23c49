"""Keras's MobileNetV2, narrowed to 0.35 of its width: this is the side that is ported."""

from __future__ import annotations

import keras


def build(classes=10):
    """As shipped, but for logits in place of the softmax, which the loss takes."""
    return keras.applications.MobileNetV2(
        input_shape=(64, 64, 3), alpha=0.35, weights=None, classes=classes, classifier_activation=None
    )


def preprocess(images):
    """Bytes (N, H, W, 3) to [-1, 1]: what keras.applications.mobilenet_v2.preprocess_input does, in float64."""
    return images / 127.5 - 1

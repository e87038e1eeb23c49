"""Import one framework as its wing does, build MobileNetV2 with it, and end: the least that a run has to wait for."""

from __future__ import annotations

import os
import sys


def torch() -> None:
    """What the torch wing imports."""
    import torch  # noqa: F401
    import torchvision

    torchvision.models.mobilenet_v2(weights=None)


def tensorflow() -> None:
    """What the TensorFlow wing imports."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import h5py  # noqa: F401
    import keras
    import tensorflow  # noqa: F401

    keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(224, 224, 3))


if __name__ == "__main__":
    {"torch": torch, "tensorflow": tensorflow}[sys.argv[1]]()

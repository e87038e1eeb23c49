"""Features of many images with keras.applications, as a user writes it: ``model.predict``, as installed.

The last line of its output is JSON: ``images_per_second``, from the median of several whole calls, after one to warm
up. A call counts from the uint8 array of all images to the array of all features.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def build(name: str, weights: Path | None, size: int) -> keras.Model:
    """Pixels to features: preprocessing as a layer, the backbone, global average pooling."""
    if weights is not None:
        backbone = keras.models.load_model(weights, compile=False)
    else:
        backbone = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(size, size, 3))
    inputs = keras.Input((size, size, 3), dtype="uint8")
    x = layers.Rescaling(
        [1 / (255 * std) for std in STD], offset=[-mean / std for mean, std in zip(MEAN, STD, strict=True)]
    )(inputs)
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(backbone(x)))


def main() -> None:
    """One call to warm up, then the timed ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="uint8 array (N, S, S, 3), .npy")
    parser.add_argument("backbone", choices=("MobileNetV2", "ResNet50"))
    parser.add_argument("batch_size", type=int)
    parser.add_argument(
        "--weights", type=Path, help="the backbone without classifier, .keras, for torchvision's preprocessing"
    )
    parser.add_argument("--features", type=Path, help="keep the features here, .npy")
    parser.add_argument("--calls", type=int, default=3, help="timed calls of predict")
    parser.add_argument("--first", type=int, help="take no more than so many images")
    options = parser.parse_args()
    images = np.load(options.images, mmap_mode="r")[: options.first].copy()
    model = build(options.backbone, options.weights, images.shape[1])
    outputs = model.predict(images, batch_size=options.batch_size, verbose=0)
    seconds = []
    for _ in range(options.calls):
        began = time.perf_counter()
        outputs = model.predict(images, batch_size=options.batch_size, verbose=0)
        seconds.append(time.perf_counter() - began)
    if options.features is not None:
        np.save(options.features, outputs)
    print(json.dumps({"images_per_second": len(images) / statistics.median(seconds), "calls": options.calls}))


if __name__ == "__main__":
    main()

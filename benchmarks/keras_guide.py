"""The frozen-backbone recipe as users of Keras's transfer-learning guide write it.

image_dataset_from_directory with prefetch, a frozen keras.applications.MobileNetV2 called in inference mode, a flip as
a layer, global average pooling, dropout, a dense layer, Adam, and model.fit with validation data. As installed.

Weights, if any, come from a file:

    .weights.h5  numbers for keras.applications.MobileNetV2(include_top=False): Keras's own weights
    .keras       the whole backbone: what ``compare.py convert torchvision FILE.keras --backbone MobileNetV2
                 --classifier none`` writes

torchvision's weights belong to another padding and epsilon than the plain Keras class has, which no attribute of it
changes, so they come as a ``.keras`` file. It consists of Keras's own layers, and costs what the plain class costs.

The last line of its output is JSON:

    seconds        since the process began to run this file
    accuracy       of the model that the recipe ends with, on the validation images: here the last epoch's
    best_accuracy  of the best epoch
"""

from __future__ import annotations

import time

STARTED = time.time()

import argparse  # noqa: E402
import json  # noqa: E402
from pathlib import Path  # noqa: E402

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras import layers  # noqa: E402

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def backbone(weights: Path | None, size: int) -> keras.Model:
    """MobileNetV2 up to its last feature map, frozen."""
    if weights is not None and weights.suffix == ".keras":
        model = keras.models.load_model(weights, compile=False)
    else:
        model = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(size, size, 3))
        if weights is not None:
            model.load_weights(weights)
    model.trainable = False
    return model


def preprocessing(kind: str) -> layers.Layer:
    """Pixels 0 to 255 as the weights want them."""
    if kind == "symmetric":
        return layers.Rescaling(1 / 127.5, offset=-1)
    return layers.Rescaling(
        [1 / (255 * std) for std in STD], offset=[-mean / std for mean, std in zip(MEAN, STD, strict=True)]
    )


def main() -> None:
    """Run the recipe once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with train/class/image and test/class/image")
    parser.add_argument("--weights", type=Path, help=".keras or .weights.h5 (default: random weights)")
    parser.add_argument(
        "--preprocessing",
        choices=("symmetric", "imagenet"),
        help="what the weights were trained with: Keras's [-1, 1] or torchvision's mean and standard deviation "
        "(default: imagenet for a .keras file, symmetric otherwise)",
    )
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args()
    whole = options.weights is not None and options.weights.suffix == ".keras"
    size = options.image_size

    parts = {
        part: keras.utils.image_dataset_from_directory(
            options.data / part, image_size=(size, size), batch_size=options.batch_size, shuffle=part == "train"
        )
        for part in ("train", "test")
    }
    classes = len(parts["train"].class_names)
    train, validation = (parts[part].prefetch(tf.data.AUTOTUNE) for part in ("train", "test"))

    inputs = keras.Input((size, size, 3))
    x = layers.RandomFlip("horizontal")(inputs)
    x = preprocessing(options.preprocessing or ("imagenet" if whole else "symmetric"))(x)
    x = backbone(options.weights, size)(x, training=False)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2)(x)
    model = keras.Model(inputs, layers.Dense(classes)(x))
    model.compile(
        optimizer=keras.optimizers.Adam(),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = model.fit(train, epochs=options.epochs, validation_data=validation, verbose=2)
    accuracies = history.history["val_accuracy"]
    print(
        json.dumps({"seconds": time.time() - STARTED, "accuracy": accuracies[-1], "best_accuracy": max(accuracies)}),
        flush=True,
    )


if __name__ == "__main__":
    main()

"""A backbone and a head, connected; and the preprocessing in front of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from transfer_parity.shared.contract.spec import ModelSpec
from transfer_parity.shared.contract.wing import Part
from transfer_parity.shared.zoo.pair import Preprocessing
from transfer_parity.tf_impl import backbone, device, head


class Network:
    """The parts of a classifier as Keras models that share their layers.

    Attributes:
        models: "features" maps preprocessed images to the head's input, "head" that to logits, "all" images to logits.
            "frozen" ends behind the frozen stages and "trainable" begins there. With the architecture's own classifier
            there is only "all"; for given features the head is all that there is.
        stock: whether everything about its execution is left as it is when TensorFlow is installed.
        objective: of the latest training.
        forwards: compiled forward passes by part.
        trainers: training steps by what they train and how.
        explainer: compiled pass for class-activation maps. All three are kept: a second seed does not trace them again.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.spec, self.stock = spec, device.settings().stock
        self.models: dict[Part, keras.Model] = {}
        if spec.given is not None:
            classifier = head.build(spec.head, (spec.given,), spec.head_units, spec.classes)
            self.models |= dict.fromkeys(("head", "trainable", "all"), classifier)
        else:
            self._connect(spec)
        self.forwards: dict[Part, Callable[[tf.Tensor], tf.Tensor]] = {}
        self.trainers: dict[Any, Any] = {}
        self.objective: Any = None
        self.explainer: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]] | None = None

    def _connect(self, spec: ModelSpec) -> None:
        """The parts of a backbone and a head."""
        features = backbone.build(spec)
        if spec.head == "imagenet":
            self.models["all"] = features
        else:
            if spec.pooled:
                # Named after what it does, as in keras.applications with pooling="avg".
                output = layers.GlobalAveragePooling2D(name="avg_pool")(features.output)
                features = keras.Model(features.input, output, name=features.name)
            classifier = head.build(spec.head, features.output.shape[1:], spec.head_units, spec.classes)
            whole = keras.Model(features.input, classifier(features.output), name="classifier")
            self.models |= {"features": features, "head": classifier, "all": whole}
            if spec.frozen_stages == len(spec.pair.stages):
                self.models |= {"frozen": features, "trainable": classifier}
            elif spec.frozen_stages:
                frozen, trainable = backbone.cut(whole, spec.pair, spec.frozen_stages)
                self.models |= {"frozen": frozen, "trainable": trainable}

    def prepare(self, part: Part, inputs: tf.Tensor) -> tf.Tensor:
        """Inputs of a part in the recipe's floating-point type; images are normalised on the way."""
        if part in ("head", "trainable"):
            return tf.cast(inputs, keras.config.floatx())
        return normalise(inputs, self.spec.preprocessing)  # differs: preprocessing


def build(spec: ModelSpec) -> Network:
    """A network whose weights are still to be loaded."""
    return Network(spec)


def normalise(images: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """uint8 RGB images (N, H, W, 3) to network inputs (N, H, W, 3). The order of operations is the contract's."""
    dtype = keras.config.floatx()
    x = tf.cast(images, dtype)
    if preprocessing.channels == "BGR":
        x = tf.reverse(x, axis=[-1])
    return (x / preprocessing.divide_by - tf.constant(preprocessing.mean, dtype)) / tf.constant(
        preprocessing.std, dtype
    )

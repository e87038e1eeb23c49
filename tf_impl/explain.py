"""The last feature map and what a class's logit owes to it: for maps, see ``shared.evaluation.gradcam``."""

from __future__ import annotations

import keras
import tensorflow as tf

from transfer_parity.shared.contract.wing import Array
from transfer_parity.tf_impl.network import Network


def class_gradients(network: Network, images: Array, classes: Array) -> tuple[Array, Array]:
    """The backbone's last feature map, and the gradient of each image's class logit with respect to it.

    In inference mode: normalisations frozen, nothing dropped.

    Args:
        network: whose weights are loaded, with one of the recipe's heads.
        images: uint8 (b, S, S, 3).
        classes: index of the class to explain for each image, int64 (b,).

    Returns:
        Activations and gradients in the recipe's floating-point type, both (b, h, w, c). The feature map is what global
        average pooling receives, or the convolutional head.

    Raises:
        ValueError: the network ends in the architecture's own classifier.
    """
    if network.explainer is None:
        backbone, rest = _halves(network)
        signature = [tf.TensorSpec((None, *images.shape[1:]), images.dtype), tf.TensorSpec((None,), tf.int64)]

        # Compiled: a Keras model that runs eagerly keeps the output of every layer until it is done.
        @tf.function(input_signature=signature)
        def explainer(images: tf.Tensor, classes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            activations = backbone(network.prepare("all", images), training=False)
            # What leaves a backbone that computes in a smaller type is of the recipe's type again.
            activations = tf.cast(activations, keras.config.floatx())
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(activations)
                logits = rest(activations, training=False)
                # Images do not depend on each other, so the gradient of the sum holds each one's own.
                chosen = tf.reduce_sum(tf.gather(logits, classes, batch_dims=1))
            return activations, tape.gradient(chosen, activations)

        network.explainer = explainer
    activations, gradients = network.explainer(tf.convert_to_tensor(images), tf.convert_to_tensor(classes))
    return activations.numpy(), gradients.numpy()


def _halves(network: Network) -> tuple[keras.Model, keras.Model]:
    """Preprocessed images to the last feature map, and that to logits."""
    if network.spec.head == "imagenet":
        raise ValueError("class-activation maps need one of the recipe's heads, not the architecture's own classifier")
    features, whole = network.models["features"], network.models["all"]
    last = features.layers[-1].input if network.spec.pooled else features.output
    return keras.Model(features.input, last, name="backbone"), keras.Model(last, whole.output, name="rest")

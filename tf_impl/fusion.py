"""A network made of fewer and larger operations, for inference."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from transfer_parity.shared.contract.wing import Array
from transfer_parity.tf_impl import internals


def fuse(model: keras.Model) -> keras.Model:
    """A copy of a part of a network, which computes the same function in inference mode.

    Args:
        model: of Keras's own layers; its weights are copied as they are now.

    Returns:
        A model in which each convolution's weights include the normalisation behind it. TensorFlow's graph optimiser
        then computes the convolution, its bias and the activation behind it as one operation.
    """
    folded = _normalised_convolutions(model)
    gone = set(folded.values())

    copies: dict[str, keras.Operation] = {}

    def clone(layer: keras.Operation) -> keras.Operation:
        if layer in gone:
            return layer
        config = layer.get_config()
        if layer in folded:
            # Without drawing weights that are replaced at once.
            zeros = "depthwise_initializer" if isinstance(layer, layers.DepthwiseConv2D) else "kernel_initializer"
            config |= {"use_bias": True, zeros: "zeros"}
        copies[layer.name] = layer.__class__.from_config(config)
        return copies[layer.name]

    def call(layer: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        return args[0] if layer in gone else layer(*args, **kwargs)

    fused = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for layer in model.layers:
        if layer in folded:
            copies[layer.name].set_weights(_fold(layer, folded[layer]))
        elif layer not in gone and layer.weights:
            copies[layer.name].set_weights(layer.get_weights())
    return fused


def has_depthwise(model: keras.Model) -> bool:
    """Whether a network has depthwise convolutions."""
    return any(isinstance(layer, layers.DepthwiseConv2D) for layer in model.layers)


def _normalised_convolutions(model: keras.Model) -> dict[keras.Layer, layers.BatchNormalization]:
    """The convolutions whose output is normalised and used for nothing else, each with its normalisation."""
    nodes = internals.nodes_of(model)
    used = [id(tensor) for node in nodes for tensor in node.input_tensors] + [id(tensor) for tensor in model.outputs]
    made = {id(tensor): node.operation for node in nodes for tensor in node.outputs}
    found = {}
    for node in nodes:
        if isinstance(node.operation, layers.BatchNormalization):
            (tensor,) = node.input_tensors
            source = made.get(id(tensor))
            if (
                isinstance(source, layers.Conv2D | layers.DepthwiseConv2D)
                and source.activation is keras.activations.linear
                and used.count(id(tensor)) == 1
            ):
                found[source] = node.operation
    return found


def _fold(convolution: keras.Layer, normalisation: layers.BatchNormalization) -> list[Array]:
    """Kernel and bias of the convolution with the normalisation computed into them."""
    mean, variance = _array(normalisation.moving_mean), _array(normalisation.moving_variance)
    factor = 1 / np.sqrt(variance + normalisation.epsilon)
    if normalisation.scale:
        factor *= _array(normalisation.gamma)
    bias = _array(convolution.bias) if convolution.use_bias else 0.0
    shift = _array(normalisation.beta) if normalisation.center else 0.0
    kernel = _array(convolution.kernel)
    # A depthwise kernel ends in (channels, multiplier), any other in its output channels.
    depthwise = isinstance(convolution, layers.DepthwiseConv2D)
    scaled = kernel * (factor.reshape(kernel.shape[2:]) if depthwise else factor)
    return [scaled, (bias - mean) * factor + shift]


def _array(variable: Any) -> Array:
    return np.asarray(ops.convert_to_numpy(variable))

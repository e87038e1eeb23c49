"""What the layers of a user's own model are (``shared/contract/inventory.py``), and which of them are looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import keras
from keras import layers as kl

from transfer_parity.shared.contract.inventory import Kind
from transfer_parity.tf_impl.internals import einsum_letters, layers_of, own_weights, within

#: What a layer's parameters stand under in a model that holds some itself.
ROOT = "model"
_CONVS = (kl.Conv1D, kl.Conv2D, kl.Conv3D)
_TRANSPOSES = (kl.Conv1DTranspose, kl.Conv2DTranspose, kl.Conv3DTranspose)
_DEPTHWISE = (kl.DepthwiseConv1D, kl.DepthwiseConv2D)
_SEPARABLE = (kl.SeparableConv1D, kl.SeparableConv2D)
_DROPS = (
    *(kl.Dropout, kl.SpatialDropout1D, kl.SpatialDropout2D, kl.SpatialDropout3D),
    *(kl.GaussianDropout, kl.GaussianNoise, kl.AlphaDropout),
)
_SHAPES = (
    *(kl.Flatten, kl.Reshape, kl.Permute, kl.RepeatVector, kl.Identity),
    *(kl.ZeroPadding1D, kl.ZeroPadding2D, kl.ZeroPadding3D, kl.Cropping1D, kl.Cropping2D, kl.Cropping3D),
)
_KINDS: tuple[tuple[tuple[type, ...], Kind], ...] = (
    ((kl.Dense,), "dense"),
    # Transposed ones are subclasses of nothing here, depthwise ones neither.
    (_TRANSPOSES, "conv_transpose"),
    ((*_CONVS, *_DEPTHWISE, *_SEPARABLE), "conv"),
    ((kl.BatchNormalization,), "batch_norm"),
    ((kl.LayerNormalization,), "layer_norm"),
    ((kl.GroupNormalization,), "group_norm"),
    ((kl.RMSNormalization,), "rms_norm"),
    ((kl.Embedding,), "embedding"),
    ((kl.LSTM,), "lstm"),
    ((kl.MultiHeadAttention,), "attention"),
    ((kl.PReLU,), "prelu"),
    (_DROPS, "dropout"),
    (_SHAPES, "shape"),
    ((kl.Activation, kl.ReLU, kl.LeakyReLU, kl.ELU, kl.Softmax), "activation"),
    ((kl.Concatenate, kl.Add, kl.Subtract, kl.Multiply, kl.Average, kl.Maximum, kl.Minimum, kl.Dot), "merge"),
)
#: Layers whose inside is not looked into.
_WHOLE = (kl.RNN, kl.Bidirectional, kl.MultiHeadAttention, *_SEPARABLE)


def kind_of(layer: Any) -> Kind:
    """What a layer is."""
    layer = within(layer)
    if isinstance(layer, kl.GRU):
        # Otherwise its gates use the old state in another way, which torch does not have.
        return "gru" if layer.reset_after else "custom"
    for types, kind in _KINDS:
        if isinstance(layer, types):
            return kind
    if isinstance(layer, kl.EinsumDense):
        return "dense" if einsum_letters(layer) is not None else "custom"
    if "Pooling" in type(layer).__name__:
        return "pooling"
    return "custom" if isinstance(layer, keras.Layer) and own_weights(layer) else "other"


def is_whole(layer: Any) -> bool:
    """Whether a layer's inside is not looked into."""
    return isinstance(layer, _WHOLE) or within(layer) is not layer


def layers(model: keras.Model) -> Iterator[tuple[str, Any]]:
    """Layers that hold parameters of their own, and those that are not looked into, by name."""
    inside: set[int] = set()
    names: Counter[str] = Counter()
    for layer in [model, *layers_of(model)]:
        if id(layer) in inside:
            continue
        if is_whole(layer):
            inside.update(id(each) for each in layers_of(layer))
        elif not own_weights(layer):
            continue
        name = ROOT if layer is model else _name_of(layer, model)
        names[name] += 1
        yield (f"{name}_{names[name]}" if names[name] > 1 else name), layer


def _name_of(layer: Any, model: keras.Model) -> str:
    path = str(layer.path or layer.name)
    return path.removeprefix(f"{model.name}/")


def recurrent_names(name: str, layer: Any) -> list[str]:
    """Names of the layers within one, and of their directions, in the order in which they compute."""
    if isinstance(layer, kl.Bidirectional):
        return [f"{name}.forward", f"{name}.backward"]
    if isinstance(layer, _SEPARABLE):
        return [f"{name}.depthwise", f"{name}.pointwise"]
    return [name]

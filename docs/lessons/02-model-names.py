# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2. A model and its names
#
# You will build one small network twice, see what each framework calls its parts, and move all weights across by name.
# About 15 minutes. Lesson 1 explains the `%%` cells, the transpositions, and what wings and switches are.
#
# ## The same network
#
# | in words | Keras | torch |
# |---|---|---|
# | a model, a layer | `keras.Model`, a graph of layers; `Layer` with a `call` | `nn.Module` with a `forward`: both |
# | number of input channels | from the input, when it is built | written down in each layer, in front of the others |
# | a convolution without bias | `Conv2D(8, 3, use_bias=False)` | `Conv2d(3, 8, 3, bias=False)` |
# | mean over all places | `GlobalAveragePooling2D()` | `AdaptiveAvgPool2d(1)`, `Flatten()` |
# | normalisation of maps, of vectors | `BatchNormalization()` | `BatchNorm2d(8)`, `BatchNorm1d(8)`: of 8 channels |
# | last layer | often with `activation="softmax"` | logits; the loss has the softmax |
#
# A kernel of torch is asked for as (in, out, size). `AdaptiveAvgPool2d(1)` averages to 1x1 places, which `Flatten`
# drops.

# %%
# %load_ext transfer_parity.shared.lessons.magics
import numpy as np

from transfer_parity.shared.core.arrays import largest_difference

images = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype(np.float32)

# %%
# %%tensorflow -o names_keras shapes_keras trainable_keras
import keras
from keras import layers

keras.utils.set_random_seed(0)
model_keras = keras.Sequential(
    [
        keras.Input((16, 16, 3)),
        layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv"),
        layers.BatchNormalization(name="bn"),
        layers.ReLU(),
        layers.GlobalAveragePooling2D(),
        layers.Dense(5, name="head"),
    ]
)
names_keras = [weight.path for weight in model_keras.weights]
shapes_keras = [str(tuple(weight.shape)) for weight in model_keras.weights]
trainable_keras = [weight.path for weight in model_keras.trainable_weights]
print("\n".join(f"{name:32}{shape}" for name, shape in zip(names_keras, shapes_keras, strict=True)))

# %%
# %%torch -o names_torch shapes_torch trainable_torch
from collections import OrderedDict

import torch
from torch import nn

torch.manual_seed(0)
model_torch = nn.Sequential(
    OrderedDict(  # its keys begin the names of the weights, which would be 0, 1, ... otherwise
        conv=nn.Conv2d(3, 8, 3, padding=1, bias=False),
        bn=nn.BatchNorm2d(8),
        relu=nn.ReLU(),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        head=nn.Linear(8, 5),
    )
)
names_torch = list(model_torch.state_dict())
shapes_torch = [str(tuple(tensor.shape)) for tensor in model_torch.state_dict().values()]
trainable_torch = [name for name, _ in model_torch.named_parameters()]
print("\n".join(f"{name:32}{shape}" for name, shape in zip(names_torch, shapes_torch, strict=True)))

# %% [markdown]
# ## What is called what
#
# | in words | Keras | torch |
# |---|---|---|
# | weights of a convolution or dense layer | `kernel` | `weight` |
# | scale and shift of a normalisation | `gamma`, `beta` | `weight`, `bias` |
# | running statistics | `moving_mean`, `moving_variance` | `running_mean`, `running_var` |
# | number of batches seen | - | `num_batches_tracked` |
# | what training changes | `trainable_weights` | `parameters()`; with names: `named_parameters()` |
# | what it does not change by gradients | `non_trainable_weights` | `buffers()` |
# | everything | `weights`: a list, in order | `state_dict()`: a dictionary, by name |
#
# In Keras a path begins with the model's name; here that is `sequential/`. `weight` is three things in torch: the
# kernel of a convolution, that of a dense layer, and the scale of a normalisation: the kind of layer tells which. (All
# of it before anything is frozen: lesson 3.)

# %%
assert len(trainable_keras) == len(trainable_torch) == 5  # two kernels, scale, shift, one bias
buffers = set(names_torch) - set(trainable_torch)
assert buffers == {"bn.running_mean", "bn.running_var", "bn.num_batches_tracked"}
assert len(names_torch) == len(names_keras) + 1  # the counter of batches, which Keras does not keep

# %% [markdown]
# ## Moving the weights
#
# A rule for each kind of weight is enough: a name, and a transposition, from torch to Keras this time, so lesson 1's
# backwards. In torch `no_grad()` says that no gradient is wanted (lesson 4), a trailing `_` changes a tensor in place,
# `normal_` takes mean and deviation, and `eval()` is `training=False` until further notice (lesson 6).

# %%
# %%torch -o conv_weight bn_weight bn_bias bn_mean bn_var head_weight head_bias
with torch.no_grad():
    # Statistics that look trained: with zeros and ones, a mistake about them would not show.
    model_torch.bn.running_mean.normal_(0, 0.5)
    model_torch.bn.running_var.uniform_(0.001, 0.1)
state = model_torch.state_dict()
conv_weight, bn_weight, bn_bias = state["conv.weight"], state["bn.weight"], state["bn.bias"]
bn_mean, bn_var = state["bn.running_mean"], state["bn.running_var"]
head_weight, head_bias = state["head.weight"], state["head.bias"]

# %%
# %%tensorflow -i images conv_weight bn_weight bn_bias bn_mean bn_var head_weight head_bias -o logits_keras
translated = {
    "conv/kernel": conv_weight.transpose(2, 3, 1, 0),
    "bn/gamma": bn_weight,
    "bn/beta": bn_bias,
    "bn/moving_mean": bn_mean,
    "bn/moving_variance": bn_var,
    "head/kernel": head_weight.T,
    "head/bias": head_bias,
}
for weight in model_keras.weights:
    weight.assign(translated.pop(weight.path.split("/", 1)[1]))
assert not translated, "an array has found no place"
logits_keras = model_keras(images, training=False)

# %%
# %%torch -i images -o logits_torch epsilon_torch
model_torch.eval()
with torch.no_grad():
    logits_torch = model_torch(torch.tensor(images).permute(0, 3, 1, 2))
epsilon_torch = model_torch.bn.eps

# %%
# %%tensorflow -o epsilon_keras
epsilon_keras = model_keras.get_layer("bn").epsilon

# %%
difference = largest_difference(logits_keras, logits_torch)
print(f"largest logit {abs(logits_torch).max():.1e}, largest difference {difference:.1e}")
print(f"epsilon {float(epsilon_keras)} in Keras, {float(epsilon_torch)} in torch")
assert difference > 1e-2  # far more than rounding

# %% [markdown]
# Every array found its place, and yet the logits differ: **what is no weight does not travel with the weights.** A
# normalisation divides by `sqrt(variance + epsilon)`; Keras's default is 1e-3, torch's 1e-5. Where a variance is 0.001,
# as in an almost dead channel, torch's normalised values are 1.4 times as large. (`bn_epsilon` in
# `docs/differences.md`.)

# %%
assert (float(epsilon_keras), float(epsilon_torch)) == (1e-3, 1e-5)
factor = np.sqrt((0.001 + 1e-3) / (0.001 + 1e-5))
print(f"factor {factor:.2f}")
assert round(factor, 1) == 1.4

# %%
# %%tensorflow -i images -o logits_keras
model_keras.get_layer("bn").epsilon = 1e-5  # fine here; what fit or predict has traced would keep the old value
logits_keras = model_keras(images, training=False)

# %%
difference = largest_difference(logits_keras, logits_torch)
print(f"largest difference {difference:.1e}")
assert difference < 1e-5  # rounding of float32

# %% [markdown]
# ## Padding does not travel either
#
# For a 3x3 kernel at stride 1, `padding="same"` and `padding=1` are one thing. At stride 2 they are two. TensorFlow
# pads just enough for `ceil(size / stride)` outputs, and puts an odd pixel at the right and the bottom; torch pads all
# sides alike. On an image of even size Keras's first window begins at the first pixel, torch's one pixel earlier, in
# the padding; the shapes are the same.

# %%
# %%tensorflow -i images conv_weight -o strided_keras
strided_keras = keras.ops.conv(images, conv_weight.transpose(2, 3, 1, 0), strides=2, padding="same")

# %%
# %%torch -i images -o strided_torch padded_torch
from torch.nn import functional as F

x, weight = torch.tensor(images).permute(0, 3, 1, 2), model_torch.conv.weight
strided_torch = F.conv2d(x, weight, stride=2, padding=1)
padded_torch = F.conv2d(F.pad(x, (0, 1, 0, 1)), weight, stride=2)  # left, right, top, bottom; conv2d pads nothing

# %%
assert strided_keras.shape == (4, 8, 8, 8) and strided_torch.shape == (4, 8, 8, 8)
shifted = largest_difference(strided_keras, strided_torch.transpose(0, 2, 3, 1))
mended = largest_difference(strided_keras, padded_torch.transpose(0, 2, 3, 1))
print(f"padding=1 {shifted:.1e}, one pixel at the right and bottom {mended:.1e}")
assert shifted > 0.1
assert mended < 1e-5

# %% [markdown]
# This is the switch `same_padding`. MobileNets and EfficientNets in Keras pad in TensorFlow's way, so weights that were
# trained by one library need the other's model to be changed: `_pad_symmetrically` in `tf_impl/backbone.py` and
# `_pad_same` in `torch_impl/backbone.py` do so.
#
# ## Names of the stock models
#
# `keras.applications` and `torchvision.models` give the same layers other names. This project translates between them
# without importing either library, by common ("neutral") names, which are torchvision's: `features.2.conv.0.0` is part
# 0 of part 0 of `conv` in part 2 of `features`.

# %%
from transfer_parity.shared.zoo.lookup import find_pair

pair = find_pair("MobileNetV2")
for keras_name in ("Conv1", "bn_Conv1", "block_1_expand", "block_1_depthwise", "Conv_1", "predictions"):
    print(f"{keras_name:20}{pair.neutral_module(keras_name)}")
assert pair.neutral_module("Conv1") == "features.0.0"
assert pair.neutral_module("predictions") == "classifier.1"

# %% [markdown]
# **In the wings**: `parameters` in both `weights.py` walks over a network and gives each array its neutral name.
# Keras's goes layer by layer and asks what kind a weight is, torch's reads `state_dict()`. `load` and `dump` below it
# do the same in both.
#
# ## Exercises
#
# 1. How many numbers does the network hold? Count them by `model_keras.count_params()` and by
#    `sum(each.numel() for each in model_torch.parameters())`. Explain the difference of 16.
# 2. In the `%%tensorflow` cell that assigns the weights, swap `bn/gamma` and `bn/moving_variance`. Which check notices?
# 3. Build torch's model anew with `stem` in place of `conv`, and `load_state_dict(state)` into it. What does it say,
#    and what would Keras's `set_weights` have said?
#
# <details><summary>Answers</summary>
#
# 1. 293 and 277: `count_params` includes the running mean and variance of 8 channels, which are buffers in torch.
# 2. No check of shapes, since both are (8,), and not the first comparison, which expects a difference: only
#    `difference < 1e-5` at the end.
# 3. A RuntimeError: `stem.weight` is missing, `conv.weight` unexpected. `set_weights` takes a list, so it would not
#    have noticed.
#
# </details>
#
# Then find a planted mistake: `python compare.py exercise list` shows the exercises of lesson 2.

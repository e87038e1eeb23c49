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
# # 3. Freezing, and what it does to normalisation
#
# "Freeze the backbone, train a new head" is the first recipe of both frameworks' tutorials, and the two tutorials do
# not compute the same. You will see where they part, and how to make them agree. About 15 minutes. (Lesson 1 explains
# the `%%` cells, wings, switches and the ladder.)
#
# | in words | Keras | torch |
# |---|---|---|
# | a layer's weights are not to be trained | `layer.trainable = False` | `parameter.requires_grad_(False)` |
# | it uses its running statistics | the same line, for a normalisation | `module.eval()` |
# | mode of one call | `model(x, training=True)` | - |
# | mode that stays | - | `model.train()`, `model.eval()` |
#
# One word in Keras, two in torch. A batch normalisation has two kinds of content: scale and shift, which **gradients**
# move, and running mean and variance, which **looking at batches** moves. `requires_grad` concerns the first kind only.

# %%
# %load_ext transfer_parity.shared.lessons.magics
import numpy as np

from transfer_parity.shared.core.arrays import largest_difference

random = np.random.default_rng(0)
# Features of another data set than the one of the running statistics, as in transfer learning: mean 2, deviation 3.
features = (2 + 3 * random.normal(size=(32, 8))).astype(np.float32)

# %% [markdown]
# ## Freezing as the tutorials do
#
# Both normalisations start with running mean 0 and variance 1, and with the same epsilon.

# %%
# %%tensorflow -i features -o frozen_keras mean_keras
import keras
import tensorflow as tf
from keras import layers

norm_keras = layers.BatchNormalization(epsilon=1e-5)
norm_keras.build(features.shape)  # a Keras layer makes its weights as soon as it knows the shape
norm_keras.trainable = False
frozen_keras = norm_keras(features, training=True)
mean_keras = norm_keras.moving_mean

# %%
# %%torch -i features -o frozen_torch mean_torch
from collections import OrderedDict

import torch
from torch import nn

norm_torch = nn.BatchNorm1d(8)
for parameter in norm_torch.parameters():
    parameter.requires_grad_(False)
norm_torch.train()  # as a training loop does with the whole model
frozen_torch = norm_torch(torch.tensor(features))
mean_torch = norm_torch.running_mean

# %%
print(f"outputs differ by {largest_difference(frozen_keras, frozen_torch):.1f}")
print("running mean, Keras:", mean_keras.round(2))
print("running mean, torch:", mean_torch.round(2))
assert largest_difference(frozen_keras, features) < 1e-4  # mean 0, variance 1: Keras left the features as they are
assert abs(frozen_torch.mean()) < 1e-5 and abs(frozen_torch.std() - 1) < 1e-3  # torch normalised by the batch
assert (mean_keras == 0).all()
assert (np.abs(mean_torch) > 0.01).all()  # "frozen", and moved

# %% [markdown]
# In Keras, `trainable = False` on a batch normalisation also means **inference mode**, whatever `training` says. In
# torch a frozen normalisation in training mode goes on normalising by the batch, and goes on learning statistics: the
# frozen backbone is another function after every step. This is the switch `frozen_batch_norm`; the ladder
# catches it as soon as it compares losses.
#
# ## Freezing so that it means the same
#
# In torch, say the second thing, too.

# %%
# %%torch -i features -o frozen_torch mean_torch
norm_torch = nn.BatchNorm1d(8)
norm_torch.requires_grad_(False)
norm_torch.eval()  # and again after every model.train(), which sets the mode of all that is inside
frozen_torch = norm_torch(torch.tensor(features))
mean_torch = norm_torch.running_mean

# %%
difference = largest_difference(frozen_keras, frozen_torch)
print(f"outputs differ by {difference:.1e}")
assert difference < 1e-5  # rounding
assert (mean_torch == 0).all()

# %% [markdown]
# ## A mode that comes back
#
# `model.train()` is recursive: called at the start of each epoch, it undoes the `eval()` of the frozen part. Loops that
# mean it write `model.train(); backbone.eval()`, or override `train` in the module.

# %%
# %%torch -o modes
model = nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 3))
model[0].requires_grad_(False).eval()
before = model[0].training
model.train()
modes = [before, model[0].training]
print("normalisation in training mode, before and after model.train():", modes)

# %%
assert modes.tolist() == [False, True]

# %% [markdown]
# ## What gets a gradient
#
# Frozen weights get none in either framework. Keras drops them from `trainable_variables`; in torch their `.grad` stays
# `None`, and an optimizer passes them over. Both still compute gradients **through** a frozen layer, to whatever lies
# in front of it.

# %%
# %%tensorflow -i features -o trained_keras through_keras
first, norm, head = layers.Dense(8), layers.BatchNormalization(), layers.Dense(3)
model_keras = keras.Sequential([keras.Input((8,)), first, norm, head])
norm.trainable = False
with tf.GradientTape() as tape:
    loss = tf.reduce_mean(model_keras(features, training=True) ** 2)
gradients = tape.gradient(loss, model_keras.trainable_variables)
trained_keras = [variable.path.split("/")[-1] for variable in model_keras.trainable_variables]
through_keras = tf.reduce_max(tf.abs(gradients[0])) > 0
print(len(gradients), "gradients:", trained_keras)

# %%
# %%torch -i features -o trained_torch through_torch
model_torch = nn.Sequential(OrderedDict(first=nn.Linear(8, 8), norm=nn.BatchNorm1d(8), head=nn.Linear(8, 3)))
model_torch.norm.requires_grad_(False).eval()
(model_torch(torch.tensor(features)) ** 2).mean().backward()
trained_torch = [name for name, parameter in model_torch.named_parameters() if parameter.grad is not None]
through_torch = model_torch.first.weight.grad.abs().max() > 0
print(len(trained_torch), "gradients:", trained_torch)

# %%
assert len(trained_keras) == len(trained_torch) == 4
assert through_keras and through_torch

# %% [markdown]
# ## Training scale and shift on statistics that stay
#
# With few labels one sometimes trains only scales and shifts, on the statistics of ImageNet (strategy `norm_only`).
# In torch that is `eval()` with `requires_grad=True`. In Keras `trainable = False` would take the scale away, too; so
# the layer stays trainable and is **called** with `training=False`.

# %%
# %%tensorflow -i features -o gradient_keras moved_keras
norm = layers.BatchNormalization(epsilon=1e-5)
norm.build(features.shape)
with tf.GradientTape() as tape:
    loss = tf.reduce_mean(norm(features, training=False) ** 2)
gradient_keras = tape.gradient(loss, norm.gamma)
moved_keras = norm.moving_mean

# %%
# %%torch -i features -o gradient_torch moved_torch
norm = nn.BatchNorm1d(8).eval()
(norm(torch.tensor(features)) ** 2).mean().backward()
gradient_torch = norm.weight.grad
moved_torch = norm.running_mean

# %%
difference = largest_difference(gradient_keras, gradient_torch)
print(f"gradients of the scales differ by {difference:.1e}, the largest is {np.abs(gradient_torch).max():.1f}")
assert difference < 1e-5 and np.abs(gradient_torch).min() > 1
assert (moved_keras == 0).all() and (moved_torch == 0).all()

# %% [markdown]
# **In the wings**: `Trainer.__init__` in both `training.py`. Keras's sets `layer.trainable` for each normalisation;
# torch's calls `requires_grad_` for each parameter and `train()` or `eval()` for each normalisation.
#
# ## Exercises
#
# 1. In the torch cell of the first section, call the frozen normalisation 50 times in training mode. Towards which
#    value does its running mean go? Predict it first.
# 2. In Keras, freeze `model_keras` as a whole (`model_keras.trainable = False`) and call it with `training=True`. Does
#    a `Dropout` layer inside still drop?
# 3. Train `model_torch` with `torch.optim.SGD(..., momentum=0.9)` for a step, then set `requires_grad_(False)` on
#    `head` **without** `zero_grad()`, and step again. Does `head` move?
#
# <details><summary>Answers</summary>
#
# 1. Towards the mean of the batch, near 2: after 50 steps at momentum 0.1 only 0.9^50, half a per cent, of the old 0 is
#    left.
# 2. Yes. Only a batch normalisation takes `trainable = False` for inference mode.
# 3. Yes: its `.grad` is still there, and so is its momentum. `requires_grad_(False)` stops new gradients, not the
#    optimizer. `zero_grad()` makes `.grad` None, and then it stays.
#
# </details>
#
# The ladder shows the same mistake in a real network:
# `python compare.py parity --backbone MobileNetV2 --semantics torchvision --switch torch:frozen_batch_norm`.
# Then find a planted mistake: `python compare.py exercise list` shows the exercises of lesson 3.

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
# # 3. 冻结，以及它对归一化的影响
#
# “冻结主干，训练新的分类头”是两个框架教程里的第一个做法，而两份教程算的并不是同一件事。你会看到它们在哪里分开，以及怎样让它们一致。约 15 分钟。（第 1 课解释了 `%%` 单元格、两翼、开关和阶梯。）
#
# | 说法 | Keras | torch |
# |---|---|---|
# | 某一层的权重不训练 | `layer.trainable = False` | `parameter.requires_grad_(False)` |
# | 它使用滑动统计量 | 对归一化来说，就是同一行 | `module.eval()` |
# | 一次调用的模式 | `model(x, training=True)` | - |
# | 一直保持的模式 | - | `model.train()`、`model.eval()` |
#
# Keras 用一个词，torch 用两个词。批归一化里有两类内容：缩放与平移，由**梯度**改变；滑动均值与滑动方差，由**看到的批次**改变。 `requires_grad` 只管第一类。

# %%
# %load_ext transfer_parity.shared.lessons.magics
import numpy as np

from transfer_parity.shared.core.arrays import largest_difference

random = np.random.default_rng(0)
# Features of another data set than the one of the running statistics, as in transfer learning: mean 2, deviation 3.
features = (2 + 3 * random.normal(size=(32, 8))).astype(np.float32)

# %% [markdown]
# ## 按教程的做法冻结
#
# 两个归一化层都从滑动均值 0、滑动方差 1 开始，epsilon 也相同。

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
# 在 Keras 里，对批归一化设 `trainable = False` 同时也意味着**推理模式**，不论 `training` 怎么说。在 torch 里，处于训练模式的冻结归一化层仍然按批次归一化，仍然学习统计量：被冻结的主干在每一步之后都是另一个函数。这就是开关 `frozen_batch_norm`；阶梯一比较损失就能发现它。
#
# ## 冻结，并且含义相同
#
# 在 torch 里，把第二件事也说出来。

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
# ## 会自己回来的模式
#
# `model.train()` 是递归的：每个 epoch 开头调用它，就会撤销冻结部分的 `eval()`。真要冻结的训练循环会写 `model.train(); backbone.eval()`，或者在模块里重写 `train`。

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
# ## 谁会得到梯度
#
# 在两个框架里，冻结的权重都得不到梯度。Keras 把它们从 `trainable_variables` 中去掉；在 torch 里它们的 `.grad` 一直是 `None`，优化器会跳过。两者仍然会**穿过**冻结的层计算梯度，传给它前面的部分。

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
# ## 统计量不动，训练缩放与平移
#
# 标签很少时，有时只训练缩放与平移，统计量保持 ImageNet 的（策略 `norm_only`）。在 torch 里，这就是 `eval()` 加上 `requires_grad=True`。在 Keras 里，`trainable = False` 会把缩放也一起去掉；所以让这一层保持可训练，而在**调用**时写 `training=False`。

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
# **在两翼中**：两个 `training.py` 里的 `Trainer.__init__`。Keras 的那一份为每个归一化层设置 `layer.trainable`；torch 的那一份为每个参数调用 `requires_grad_`，为每个归一化层调用 `train()` 或 `eval()`。
#
# ## 练习
#
# 1. 在第一节的 torch 单元格里，让冻结的归一化层在训练模式下运行 50 次。它的滑动均值会趋向哪个值？先预测。
# 2. 在 Keras 里，冻结整个 `model_keras`（`model_keras.trainable = False`），再以 `training=True` 调用。里面的 `Dropout` 层还会丢弃吗？
# 3. 用 `torch.optim.SGD(..., momentum=0.9)` 训练 `model_torch` 一步，然后对 `head` 设 `requires_grad_(False)`，**不**调用 `zero_grad()`，再走一步。`head` 会动吗？
#
# <details><summary>答案</summary>
#
# 1. 趋向批次的均值，约为 2：动量为 0.1 时，50 步之后旧值 0 只剩 0.9^50，即千分之五。
# 2. 会。只有批归一化把 `trainable = False` 当作推理模式。
# 3. 会：它的 `.grad` 还在，动量也还在。`requires_grad_(False)` 阻止的是新的梯度，不是优化器。`zero_grad()` 会把 `.grad` 变成 None，之后它才不动。
#
# </details>
#
# 阶梯在真实网络里演示同样的错误：`python compare.py parity --backbone MobileNetV2 --semantics torchvision --switch torch:frozen_batch_norm`。然后去找一个人为植入的错误：`python compare.py exercise list` 列出第 3 课的练习。

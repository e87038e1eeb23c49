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
# # 6. 训练模式与滑动统计量
#
# 你什么也不训练，却会改变一个模型：只因为看了几批数据。你会用 NumPy 预测两个框架的滑动统计量，误差在 1e-5 以内。约 15 分钟。（第 1 课解释了 `%%` 单元格、两翼和开关。）
#
# | 说法 | Keras | torch |
# |---|---|---|
# | 训练模式是 | 调用的参数：`model(x, training=True)` | 模块的状态：`model.train()` |
# | 由谁选择 | `fit` 用 True，`evaluate` 和 `predict` 用 False | 自己的循环：`train()`、`eval()` |
# | 刚构造好的模型 | 做推理：`model(x)` | 处于**训练**模式 |
# | 动量是谁的权重 | **旧**值的，0.99 | **新**值的，0.1 |
# | 记住的方差 | 批次方差，除以 n | 批次方差，除以 n - 1 |
# | 归一化用的方差 | 除以 n | 除以 n |

# %%
# %load_ext transfer_parity.shared.lessons.magics
import numpy as np

from transfer_parity.shared.core.arrays import largest_difference

random = np.random.default_rng(0)
batches = (2 + 3 * random.normal(size=(10, 4, 5))).astype(np.float32)  # ten batches of four examples, five channels

# %% [markdown]
# ## 没有人选过的模式
#
# Dropout 能显示模式：要么原样放过这些 1，要么把它们变成 0 和 2。

# %%
# %%tensorflow -o fresh_keras training_keras
import keras
import numpy as np
from keras import layers

dropout = layers.Dropout(0.5)
fresh_keras = np.unique(dropout(np.ones((1, 1000), np.float32)))
training_keras = np.unique(dropout(np.ones((1, 1000), np.float32), training=True))

# %%
# %%torch -o fresh_torch inferring_torch
import torch
from torch import nn

dropout = nn.Dropout(0.5)
fresh_torch = dropout(torch.ones(1, 1000)).unique()
inferring_torch = dropout.eval()(torch.ones(1, 1000)).unique()

# %%
print("Keras, fresh:", fresh_keras, " called for training:", training_keras)
print("torch, fresh:", fresh_torch, " after eval():", inferring_torch)
assert fresh_keras.tolist() == [1] and training_keras.tolist() == [0, 2]
assert fresh_torch.tolist() == [0, 2] and inferring_torch.tolist() == [1]

# %% [markdown]
# 所以“我加载了模型就调用”在 Keras 里是推理，在 torch 里是训练。从 Keras 来的人会忘记 `model.eval()`；从 torch 来的人会忘记，自己写的训练循环必须说 `training=True`。（Keras 的图像增强层是例外：`RandomFlip` 之类的层默认就起作用，除非写 `training=False`。）
#
# ## 十个批次，没有梯度
#
# 除了 epsilon（第 2 课），两个层都保持出厂设置。

# %%
# %%tensorflow -i batches -o mean_keras variance_keras output_keras
norm = layers.BatchNormalization(epsilon=1e-5)
for batch in batches:
    output_keras = norm(batch, training=True)
mean_keras, variance_keras = norm.moving_mean, norm.moving_variance

# %%
# %%torch -i batches -o mean_torch variance_torch output_torch
norm = nn.BatchNorm1d(5)  # fresh, so in training mode
for batch in batches:
    output_torch = norm(torch.tensor(batch))
mean_torch, variance_torch = norm.running_mean, norm.running_var

# %%
print("mean      Keras", mean_keras.round(3), "torch", mean_torch.round(3))
print("variance  Keras", variance_keras.round(3), "torch", variance_torch.round(3))
print(f"outputs in training mode differ by {largest_difference(output_keras, output_torch):.1e}")
assert largest_difference(output_keras, output_torch) < 1e-5  # normalised by the batch in the same way ...
assert largest_difference(variance_keras, variance_torch) > 1  # ... and something else is remembered

# %% [markdown]
# 在训练模式下谁也不会发现。统计量要到训练之后的推理才显露出来：如果验证准确率不同而训练损失相同，先看这里。
#
# ## 预测
#
# 两边都从均值 0、方差 1 开始。

# %%


def remembered(momentum_of_old, correction):
    """Running mean and variance after all batches, in float64."""
    mean, variance = np.zeros(5), np.ones(5)
    for batch in batches.astype(np.float64):
        mean = momentum_of_old * mean + (1 - momentum_of_old) * batch.mean(axis=0)
        variance = momentum_of_old * variance + (1 - momentum_of_old) * batch.var(axis=0) * correction
    return mean, variance


n = 4  # values that a channel has in a batch: examples times places
keras_predicted, torch_predicted = remembered(0.99, 1), remembered(0.9, n / (n - 1))
for found, predicted in ((mean_keras, keras_predicted[0]), (variance_keras, keras_predicted[1])):
    assert largest_difference(found, predicted) < 1e-5
for found, predicted in ((mean_torch, torch_predicted[0]), (variance_torch, torch_predicted[1])):
    assert largest_difference(found, predicted) < 1e-5
print("Keras and torch as predicted")

# %% [markdown]
# ## 起点还剩多少
#
# k 个批次之后，最初的值还剩 `momentum_of_old ** k`：十批之后，Keras 剩 90 %，torch 剩 35 %。所以，带 ImageNet 权重的模型微调十批之后，在 Keras 里归一化仍主要按 ImageNet 的统计量进行（MobileNetV2 和 V3 在那里的动量是 0.999，还剩 99 %），在 torch 里则主要按新图像的统计量进行。两者都没有错。

# %%
left_keras, left_torch = 0.99**10, 0.9**10
print(f"left of the start: {left_keras:.0%} in Keras, {left_torch:.0%} in torch")
assert (round(left_keras, 2), round(left_torch, 2)) == (0.90, 0.35)
print(f"what a batch of {n} values adds to the variance, at one momentum: {n / (n - 1):.2f} times as much in torch")
assert round(n / (n - 1), 2) == 1.33

# %% [markdown]
# ## 让它们一致
#
# 动量只是写法问题：Keras 的 0.9 就是 torch 的 0.1（开关 `bn_momentum`）。方差（`bn_running_variance`）在两边都不能设置，只能在每批之后修正；`tf_impl/training.py` 里的 `_count_sample_variance` 就是做这件事的。

# %%
# %%tensorflow -i batches -o alike_keras
norm = layers.BatchNormalization(epsilon=1e-5, momentum=0.9)
norm.build((None, 5))
for batch in batches:
    kept = 0.9 * norm.moving_variance.numpy()
    norm(batch, training=True)
    learnt = norm.moving_variance.numpy() - kept  # a tenth of the batch's variance, divided by n
    norm.moving_variance.assign(kept + learnt * len(batch) / (len(batch) - 1))
alike_keras = norm(batches[0], training=False)

# %%
# %%torch -i batches -o alike_torch
alike_torch = norm.eval()(torch.tensor(batches[0]))  # the layer of the ten batches above; eval() returns it

# %%
difference = largest_difference(alike_keras, alike_torch)
print(f"outputs in inference mode differ by {difference:.1e}")
assert difference < 1e-5

# %% [markdown]
# ## 只有一个样本的批次
#
# 一个值没有方差。torch 拒绝每个通道只有一个值的批次，也就是一个没有位置的样本；一张有 4x4 个位置的图像有 16 个值，可以通过。Keras 把那一个值归一化为零，继续前进。

# %%
# %%tensorflow -o single_keras
single_keras = layers.BatchNormalization()(np.full((1, 5), 7, np.float32), training=True)

# %%
# %%torch -o refusal_torch
try:
    nn.BatchNorm1d(5)(torch.full((1, 5), 7.0))
    refusal_torch = "none"
except ValueError as error:
    refusal_torch = str(error)
print(refusal_torch)

# %%
assert (single_keras == 0).all()
assert "more than 1 value per channel" in str(refusal_torch)

# %% [markdown]
# 所以 torch 的 `DataLoader`（第 8 课）常要写 `drop_last=True`，丢掉较小的最后一批；`tf.data` 的写法是 `batch(..., drop_remainder=True)`。
#
# **在两翼中**：`tf_impl/training.py` 的 `_count_sample_variance` 与 `torch_impl/training.py` 的 `_count_biased_variance` 互为逆运算。`tf_impl/backbone.py` 的 `clone` 写的是 `1 - momentum`，因为配方里是 torch 的动量。
#
# ## 练习
#
# 1. MobileNetV2 每批看 32 张图像；它的第一个归一化层有 112x112 个位置。动量相同时，一批给方差增加的量在那里相差多少倍？若网络最后的特征图只有一个位置，又相差多少倍？
# 2. `free = nn.BatchNorm1d(5, momentum=None)` 是允许的。把十个批次喂给它，看看滑动均值是什么。
# 3. 按默认设置，Keras 要多少批之后起点才只剩 1 %？torch 呢？
#
# <details><summary>答案</summary>
#
# 1. n / (n - 1)，n = 32 x 112 x 112 = 401 408：1.0000025。只有一个位置时 n 是 32：32 / 31 = 1.032。
# 2. 迄今所有批次的普通平均，方差则是各批方差（除以 n - 1）的平均：累积平均，Keras 里没有对应的东西。
# 3. log(0.01) / log(0.99) = 458.2，所以是 459；log(0.01) / log(0.9) = 43.7，所以是 44。
#
# </details>
#
# 然后去找一个人为植入的错误：`python compare.py exercise list` 列出第 6 课的练习。

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
# # 7. 保存与加载
#
# 你会在每个框架里保存一个模型，途中丢失一些东西，最后用一个两边都能读的文件把权重搬过去。约 15 分钟。（第 1 课解释了 `%%` 单元格、两翼、开关和阶梯。）
#
# | 说法 | Keras | torch |
# |---|---|---|
# | 模型和权重在一个文件里 | `model.save("m.keras")` | 不是习惯：模型由代码构造 |
# | 只有权重 | `model.save_weights("m.weights.h5")` | `torch.save(model.state_dict(), "m.pt")` |
# | 靠什么找到它们 | 层的种类，和它在同类中的序号 | 名字 |
# | 对不上的 | 形状不同时报错 | 报错；`strict=False` 时返回清单 |
# | 优化器的状态 | 两种文件里都有，只要模型已编译 | `optimizer.state_dict()`，由你自己保存 |
# | 陌生人的文件 | `.keras` 是数据；其中的函数会被拒绝 | `.pt` 是 pickle：`weights_only=True` |

# %%
# %load_ext transfer_parity.shared.lessons.magics
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from transfer_parity.shared.core.arrays import largest_difference

folder = tempfile.mkdtemp(prefix="lesson-")
random = np.random.default_rng(0)
inputs = random.normal(size=(16, 6)).astype(np.float32)
targets = random.normal(size=(16, 6)).astype(np.float32)

# %% [markdown]
# ## 按顺序，还是按名字
#
# 两个形状相同的层。在 Keras 里，权重列表换了顺序；在 torch 里，其中一个层改了名字。

# %%
# %%tensorflow -i inputs -o before_keras after_keras
import keras
from keras import layers

keras.utils.set_random_seed(0)
first, second = layers.Dense(6, name="first"), layers.Dense(6, activation="relu", name="second")
model = keras.Sequential([keras.Input((6,)), first, second])
before_keras = model(inputs)

# A list that was put in another order, by another version of the code or by a sort.
other = keras.models.clone_model(model)
other.set_weights(model.get_weights()[2:] + model.get_weights()[:2])
after_keras = other(inputs)

# %%
# %%torch -i inputs folder -o said_torch
from collections import OrderedDict

import torch
from torch import nn

torch.manual_seed(0)
folder = str(folder)  # -i makes arrays of everything
model = nn.Sequential(OrderedDict(first=nn.Linear(6, 6), second=nn.Linear(6, 6)))
torch.save(model.state_dict(), f"{folder}/model.pt")

renamed = nn.Sequential(OrderedDict(one=nn.Linear(6, 6), second=nn.Linear(6, 6)))
try:
    renamed.load_state_dict(torch.load(f"{folder}/model.pt", weights_only=True))
    said_torch = "nothing"
except RuntimeError as error:
    said_torch = str(error)
print(said_torch)

# %%
assert largest_difference(before_keras, after_keras) > 0.1  # no error, another function
assert "Missing key" in str(said_torch) and "Unexpected key" in str(said_torch)

# %% [markdown]
# 一列数组里没有任何东西能发现错误，名字可以。但 `strict=False` 会关掉这项检查，缺失的部分就保持随机权重：请把 `load_state_dict` 返回的内容打印出来。

# %%
# %%torch -o missing_torch
found = renamed.load_state_dict(torch.load(f"{folder}/model.pt", weights_only=True), strict=False)
print(found)
missing_torch = found.missing_keys

# %%
assert missing_torch.tolist() == ["one.weight", "one.bias"]

# %% [markdown]
# ## 被忘记的：优化器
#
# 从文件继续训练，与从未停下是否相同？有动量时，只有速度也一并恢复才相同。这里的网络是线性的，损失是均方误差。

# %%
# %%tensorflow -i inputs targets folder -o straight_keras resumed_keras weights_only_keras built_keras warned_keras
import warnings

folder = str(folder)


def fresh():
    """The model, as it is before training."""
    model = keras.Sequential([keras.Input((6,)), layers.Dense(6, kernel_initializer="ones")])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")  # an optimizer, and the loss: the mean square
    return model


def train(model):
    """Three steps with all examples."""
    for _ in range(3):
        model.train_on_batch(inputs, targets)  # forward pass, gradients, update


straight = fresh()
train(straight)
straight.save(f"{folder}/model.keras")
straight.save_weights(f"{folder}/model.weights.h5")
train(straight)

resumed = keras.models.load_model(f"{folder}/model.keras")
train(resumed)

weights_only = fresh()
with warnings.catch_warnings(record=True) as heard:
    weights_only.load_weights(f"{folder}/model.weights.h5")
warned_keras = str(heard[0].message).partition(",")[0]
print(warned_keras)

built_first = fresh()
built_first.optimizer.build(built_first.trainable_variables)
built_first.load_weights(f"{folder}/model.weights.h5")

train(weights_only)
train(built_first)
straight_keras, resumed_keras = straight.get_weights()[0], resumed.get_weights()[0]
weights_only_keras, built_keras = weights_only.get_weights()[0], built_first.get_weights()[0]

# %%
# %%torch -i inputs targets -o straight_torch resumed_torch weights_only_torch
from torch.nn import functional as F


def fresh():
    """The model, as it is before training, and its optimizer."""
    model = nn.Linear(6, 6)
    nn.init.ones_(model.weight)
    nn.init.zeros_(model.bias)
    return model, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)


def train(model, optimizer):
    """Three steps with all examples."""
    for _ in range(3):
        optimizer.zero_grad()
        F.mse_loss(model(torch.tensor(inputs)), torch.tensor(targets)).backward()
        optimizer.step()


model, optimizer = fresh()
train(model, optimizer)
torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, f"{folder}/both.pt")
train(model, optimizer)
straight_torch = model.weight

saved = torch.load(f"{folder}/both.pt", weights_only=True)
model, optimizer = fresh()
model.load_state_dict(saved["model"])
optimizer.load_state_dict(saved["optimizer"])
train(model, optimizer)
resumed_torch = model.weight

model, optimizer = fresh()
model.load_state_dict(saved["model"])
train(model, optimizer)
weights_only_torch = model.weight

# %%
print(f"Keras: .keras {largest_difference(straight_keras, resumed_keras):.1e}", end=", ")
print(f".weights.h5 {largest_difference(straight_keras, weights_only_keras):.1e}", end=", ")
print(f"with the optimizer built first {largest_difference(straight_keras, built_keras):.1e}")
print(f"torch: both {largest_difference(straight_torch, resumed_torch):.1e}", end=", ")
print(f"weights alone {largest_difference(straight_torch, weights_only_torch):.1e}")
assert largest_difference(straight_keras, resumed_keras) < 1e-6
assert "Skipping variable loading for optimizer" in str(warned_keras)
assert largest_difference(straight_keras, weights_only_keras) > 1e-2
assert largest_difference(straight_keras, built_keras) < 1e-6
assert largest_difference(straight_torch, resumed_torch) < 1e-6
assert largest_difference(straight_torch, weights_only_torch) > 1e-2
print(f"and Keras from torch: {largest_difference(straight_keras, straight_torch.T):.1e}")
assert largest_difference(straight_keras, straight_torch.T) < 1e-5  # the same six steps in both

# %% [markdown]
# 在 torch 里，优化器要么你保存了，要么没有。在 Keras 里，已编译模型的 `.weights.h5` 文件**含有**速度；但只要新模型的优化器还没有构建， `load_weights` 就会跳过它，并给出警告：在走第一步之前，优化器没有可以加载的变量。`optimizer.build(variables)` 会创建它们，`built_first` 就是这样做的。
#
# ## 多出来的：文件里的程序
#
# `.pt` 文件是 pickle，而 pickle 被读取时可以运行任意程序。`weights_only=True`（自 torch 2.6 起为默认值）只读张量、数字、字符串、列表、字典和另外几种简单类型，不读其他对象。下面这个文件本来会打印一些东西，它被拒绝了。

# %%
# %%torch -o refused_torch
import pickle


class Unwanted:
    """What a stranger might have put into a file."""

    def __reduce__(self):
        return print, ("this could have been any program",)


torch.save({"weight": torch.ones(3), "extra": Unwanted()}, f"{folder}/stranger.pt")
try:
    torch.load(f"{folder}/stranger.pt", weights_only=True)
    refused_torch = "no"
except pickle.UnpicklingError as error:
    refused_torch = next(line.strip() for line in str(error).splitlines() if "GLOBAL" in line)
print(refused_torch)

# %%
assert "GLOBAL print was not an allowed global" in str(refused_torch)

# %% [markdown]
# ## 两边都能读的文件
#
# 有名字的数组，没有程序：`safetensors`。它缺少的，是不属于权重的东西：epsilon、填充（第 2 课）、预处理（第 8 课）。本项目的中立检查点是 safetensors 文件，用 torchvision 的名字和 torch 的布局，并在元数据里写明这些**含义**；这里用两个条目代表。

# %%
# %%torch -i inputs -o weight bias exported_torch
model, optimizer = fresh()
train(model, optimizer)
weight, bias = model.weight, model.bias
exported_torch = model(torch.tensor(inputs))

# %%
path = Path(folder) / "neutral.safetensors"
save_file({"head.weight": weight, "head.bias": bias}, path, metadata={"layout": "torch", "trained": "3 steps"})
neutral = load_file(path)
kernel, offset = neutral["head.weight"].T, neutral["head.bias"]

# %%
# %%tensorflow -i inputs kernel offset -o imported_keras
model = fresh()
model.layers[0].set_weights([kernel, offset])
imported_keras = model(inputs)

# %%
difference = largest_difference(exported_torch, imported_keras)
print(f"outputs differ by {difference:.1e}")
assert difference < 1e-5

# %% [markdown]
# **在两翼中**：两个 `weights.py` 里的 `save` 和 `restore` 保存并恢复训练好的模型，两个 `files.py` 里的 `read_checkpoint` 和 `write_checkpoint` 读写各个库自己的文件。`shared/checkpoints/neutral.py` 的 `neutral.account_for` 拒绝缺少数组或有多余数组的文件。命令行里是：`python compare.py convert resnet50.h5 resnet50.pth`。
#
# ## 练习
#
# 1. 用 `torch.save(model, f"{folder}/whole.pt")` 保存最后那个模型的全部，再以 `weights_only=True` 读取。拒绝的消息指出了什么？为什么整个模型是比 `state_dict` 更糟的文件？
# 2. 速度在 `model.weights.h5` 的什么地方？在普通单元格里：`import h5py`，然后 `h5py.File(f"{folder}/model.weights.h5").visititems(print)`。
# 3. 不写 `.T` 来加载 `neutral.safetensors`。你会注意到什么？什么形状的层会发现这个错误？
#
# <details><summary>答案</summary>
#
# 1. `torch.nn.modules.linear.Linear`。文件里只有类的名字：类一旦移动或改名，文件就读不出来；而要读它，就必须允许运行程序。
# 2. 在 `optimizer/vars` 下面，没有名字：`0` 是步数计数器，`1` 是学习率，`2` 和 `3` 是核与偏置的速度。
# 3. 没有错误，而输出相差超过 1。任何输入数与输出数不同的层。
#
# </details>
#
# 然后去找一个人为植入的错误：`python compare.py exercise list` 列出第 7 课的练习。

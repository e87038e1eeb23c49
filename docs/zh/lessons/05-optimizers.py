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
# # 5. 同名而不同义的优化器
#
# 你会给两个框架的 `SGD`、`Adam` 和 `RMSprop` 同样的梯度，看看哪些走出同样的步子，并用两个公式算出其余的差异。约 20 分钟。（第 1 课解释了 `%%` 单元格、两翼、开关和阶梯。）
#
# ## 给两边同样的梯度
#
# 不需要网络。五个梯度用 NumPy 抽好，每个优化器沿着它们走。

# %%
# %load_ext transfer_parity.shared.lessons.magics
import numpy as np

from transfer_parity.shared.core.arrays import largest_difference

random = np.random.default_rng(0)
start = np.ones(4, np.float32)
# Of four sizes: where a gradient is small, an epsilon beside it is large.
gradients = (random.normal(size=(5, 4)) * [1, 1e-2, 1e-4, 1e-6]).astype(np.float32)
constant = np.full(5, 0.1, np.float32)
fallen = np.array([0.1, 0.1, 0.01, 0.01, 0.01], np.float32)  # the rate falls to a tenth at the third step

# %%
# %%tensorflow -i start gradients
import keras
import numpy as np


def walk(optimizer, rates):
    """Weights after each step."""
    variable = keras.Variable(start)
    optimizer.build([variable])  # makes the optimizer's own variables, for every weight its velocity or moments
    steps = []
    for gradient, rate in zip(gradients, rates, strict=True):
        optimizer.learning_rate = float(rate)
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        steps.append(variable.numpy())
    return np.stack(steps)


# %%
# %%torch -i start gradients
import numpy as np
import torch


def walk(make_optimizer, rates):
    """Weights after each step."""
    parameter = torch.nn.Parameter(torch.tensor(start))
    optimizer = make_optimizer([parameter])  # torch's optimizers get their parameters when they are made
    steps = []
    for gradient, rate in zip(gradients, rates, strict=True):
        optimizer.param_groups[0]["lr"] = float(rate)  # parameters come in groups, each with a rate of its own
        parameter.grad = torch.tensor(gradient)  # where backward() would have put it
        optimizer.step()
        steps.append(parameter.detach().numpy().copy())
    return np.stack(steps)


# %% [markdown]
# ## 动量
#
# Keras 的速度里含有当时的学习率，torch 的不含：
#
# | Keras | torch |
# |---|---|
# | `v = m * v - rate * g` | `v = m * v + g` |
# | `w = w + v` | `w = w - rate * v` |

# %%
# %%tensorflow -i constant fallen -o constant_keras fallen_keras
constant_keras = walk(keras.optimizers.SGD(0.1, momentum=0.9), constant)
fallen_keras = walk(keras.optimizers.SGD(0.1, momentum=0.9), fallen)

# %%
# %%torch -i constant fallen -o constant_torch fallen_torch
constant_torch = walk(lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9), constant)
fallen_torch = walk(lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9), fallen)

# %%
print(f"constant rate: {largest_difference(constant_keras, constant_torch):.1e}")
apart = np.abs(fallen_keras - fallen_torch).max(axis=1)
print("falling rate, after each step:", apart.round(4))
assert largest_difference(constant_keras, constant_torch) < 1e-6
assert apart[1] < 1e-6 < 1e-2 < apart[2]  # the same until the rate falls

# %% [markdown]
# 有了学习率调度，两者就在学习率改变的那一步分开。差多少？在那一步，Keras 加上的 `m * v` 还带着旧的学习率 0.1，torch 的带着新的 0.01：

# %%
velocity = 0.9 * gradients[0] + gradients[1]  # torch's, after two steps
predicted = 0.9 * (0.1 - 0.01) * velocity
print(f"predicted {np.abs(predicted).max():.6f}, found {apart[2]:.6f}")
assert abs(np.abs(predicted).max() - apart[2]) < 1e-6

# %% [markdown]
# ## Adam 的 epsilon
#
# Kingma 和 Ba 给出了两种形式。torch 在二阶矩的偏差修正**之后**加 epsilon，Keras 在**之前**。令 `c = sqrt(1 - beta2 ** t)`，则 Keras 的 epsilon 相当于 `epsilon / c`：第一步时大 32 倍。
#
# | Keras | torch |
# |---|---|
# | `w -= rate * c / (1 - b1**t) * m / (sqrt(v) + epsilon)` | `w -= rate / (1 - b1**t) * m / (sqrt(v) / c + epsilon)` |
# | epsilon 1e-7 | epsilon 1e-8 |

# %%
# %%tensorflow -i constant -o adam_keras
adam_keras = walk(keras.optimizers.Adam(0.1, epsilon=1e-7), constant)

# %%
# %%torch -i constant -o adam_torch alike_torch
adam_torch = walk(lambda parameters: torch.optim.Adam(parameters, 0.1, eps=1e-7), constant)

# The same as Keras's, if torch's epsilon is made to change with every step.
parameter = torch.nn.Parameter(torch.tensor(start))
optimizer = torch.optim.Adam([parameter], 0.1)
alike_torch = []
for step, gradient in enumerate(gradients, 1):
    optimizer.param_groups[0]["eps"] = 1e-7 / (1 - 0.999**step) ** 0.5
    parameter.grad = torch.tensor(gradient)
    optimizer.step()
    alike_torch.append(parameter.detach().numpy().copy())

# %%
first = np.abs(adam_keras - adam_torch)[0]
for size, each in zip((1, 1e-2, 1e-4, 1e-6), first, strict=True):
    print(f"gradients of about {size:g}: the first steps differ by {each:.1e}")
print(f"with an epsilon that changes: {largest_difference(adam_keras, np.array(alike_torch)):.1e}")
assert round(1 / np.sqrt(1 - 0.999)) == 32
assert first[0] < 1e-5 < 1e-2 < first[3]
assert largest_difference(adam_keras, np.array(alike_torch)) < 1e-4  # c in float32 holds four digits at step 1

# %% [markdown]
# 两边 epsilon 相同，最小的梯度却走出不同的步子，差距占学习率的不小一部分。若梯度都很大，谁也不会发现。
#
# ## 权重衰减
#
# 一个词，两种正则化。在 torch 的 `SGD` 和 `Adam` 里它是**耦合**的：作为梯度的一项，Adam 会像对待其他项一样缩放它。在 Keras 的所有优化器里，以及 torch 的 `AdamW` 里，它是**解耦**的：在更新之外，权重再缩小 `rate * decay`。

# %%
# %%tensorflow -i constant -o sgd_keras adam_keras adamw_keras
sgd_keras = walk(keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.1), constant)
adam_keras = walk(keras.optimizers.Adam(0.1, weight_decay=0.1), constant)
adamw_keras = walk(keras.optimizers.AdamW(0.1, weight_decay=0.1), constant)

# %%
# %%torch -i constant -o plain_torch sgd_torch adam_torch adamw_torch
plain_torch = walk(lambda parameters: torch.optim.SGD(parameters, 0.1, weight_decay=0.1), constant)
sgd_torch = walk(lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9, weight_decay=0.1), constant)
adam_torch = walk(lambda parameters: torch.optim.Adam(parameters, 0.1, eps=1e-7, weight_decay=0.1), constant)
adamw_torch = walk(lambda parameters: torch.optim.AdamW(parameters, 0.1, eps=1e-7, weight_decay=0.1), constant)

# %%
print(f"SGD with momentum {largest_difference(sgd_keras, sgd_torch):.1e}")
print(f"Adam {np.abs(adam_keras - adam_torch)[:, 0].max():.1e}, for gradients of about 1")
print(f"AdamW {np.abs(adamw_keras - adamw_torch)[:, 0].max():.1e}, for gradients of about 1")
assert largest_difference(sgd_keras, sgd_torch) > 1e-2
assert np.abs(adam_keras - adam_torch)[:, 0].max() > 1e-3
assert np.abs(adamw_keras - adamw_torch)[:, 0].max() < 1e-4  # only epsilon is left
assert largest_difference(adam_keras, adamw_keras) < 1e-6  # in Keras, Adam with weight decay is AdamW

# %% [markdown]
# ## RMSprop：一次三处差异
#
# | | Keras | torch |
# |---|---|---|
# | 旧平均值的权重 | `rho=0.9` | `alpha=0.99` |
# | epsilon | 根号内：`sqrt(v + 1e-7)` | 根号外：`sqrt(v) + 1e-8` |
# | 学习率 | 0.001 | 0.01 |

# %%
# %%tensorflow -i constant -o default_keras same_keras shipped_keras
shipped = keras.optimizers.RMSprop()
shipped_keras = [shipped.rho, shipped.epsilon, float(shipped.learning_rate)]
default_keras = walk(keras.optimizers.RMSprop(), constant)
same_keras = walk(keras.optimizers.RMSprop(rho=0.99, epsilon=1e-8), constant)

# %%
# %%torch -i constant -o default_torch same_torch shipped_torch
shipped = torch.optim.RMSprop([torch.nn.Parameter(torch.ones(1))]).defaults
shipped_torch = [shipped["alpha"], shipped["eps"], shipped["lr"]]
default_torch = walk(torch.optim.RMSprop, constant)
same_torch = walk(lambda parameters: torch.optim.RMSprop(parameters, alpha=0.99, eps=1e-8), constant)

# %%
assert np.allclose(shipped_keras, [0.9, 1e-7, 0.001]) and np.allclose(shipped_torch, [0.99, 1e-8, 0.01])
apart = np.abs(same_keras - same_torch).max(axis=0)
print("as shipped:", f"{largest_difference(default_keras, default_torch):.1e}")
for size, each in zip((1, 1e-2, 1e-4, 1e-6), apart, strict=True):
    print(f"same rate, average and epsilon, gradients of about {size:g}: {each:.1e}")
assert largest_difference(default_keras, default_torch) > 0.1
# sqrt(1e-8) is 1e-4: inside of the root, an epsilon of 1e-8 is as large as a gradient of a thousandth.
assert apart[0] < 1e-3 < 0.1 < apart[2]

# %% [markdown]
# **在两翼中**：`tf_impl/optimizers.py` 从 Keras 的 `SGD` 和 `Adam` 派生子类（`_SGD`、`_Adam`），使它们与 torch 的含义相同；`torch_impl/optimizers.py` 直接使用 torch 的类，权重衰减由它们自己完成。Keras 一侧由 `tf_impl/training.py` 里的 `Trainer.update` 完成。
#
# ## 练习
#
# 1. 不用子类，让学习率变化时的 Keras `SGD` 与 torch 一致：在学习率改变的那一步之前，`optimizer.momentums[0]` 要乘以多少？用 `walk` 检验。
# 2. 对**不带**动量的普通 SGD，耦合与解耦的权重衰减有区别吗？把 `plain_torch` 与 Keras 的 `SGD(0.1, weight_decay=0.1)` 比较。
# 3. 如果同事要在另一个框架里重现你的训练，这一课的五个优化器里你会用哪一个，怎样设置？
#
# <details><summary>答案</summary>
#
# 1. 乘以 新学习率 / 旧学习率。`torch_impl/training.py` 里的 `_as_keras` 做相反的事。
# 2. 没有：两者都是 `w - rate * (g + decay * w)`。有了动量才有区别，因为衰减进入了速度。
# 3. 学习率恒定的带动量 SGD，或者 epsilon 远小于所有梯度的 AdamW。
#
# </details>
#
# 阶梯里它们各是一个开关：`python compare.py parity --switch list`。然后去找一个人为植入的错误：`python compare.py exercise list` 列出第 5 课的练习。

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
# # 4. 损失、梯度、tape 与 autograd
#
# 你会用两个框架并且用手算得到同一个损失和它的梯度，并遇到四个不能照搬的习惯。约 15 分钟。（第 1 课解释了 `%%` 单元格、两翼、开关和阶梯。）
#
# | 说法 | Keras（TensorFlow） | torch |
# |---|---|---|
# | 参数顺序 | `loss(targets, logits)` | `loss(logits, targets)` |
# | 损失期待的输入 | 概率，除非 `from_logits=True` | logits |
# | 记录什么 | `with GradientTape()` 之内发生的事 | 带 `requires_grad` 的张量所经过的运算，除非 `no_grad()` |
# | 梯度 | 由 `tape.gradient` 返回 | 由 `backward` 累加到 `parameter.grad` |
# | 对同一张图的第二次反向传播 | 报错，除非 `persistent=True` | 报错，除非 `retain_graph=True` |

# %%
# %load_ext transfer_parity.shared.lessons.magics
import numpy as np

from transfer_parity.shared.core.arrays import largest_difference

random = np.random.default_rng(0)
features = random.normal(size=(6, 4)).astype(np.float32)
weight = random.normal(size=(4, 3)).astype(np.float32)  # from 4 features to 3 classes, in Keras's layout
labels = np.array([0, 1, 2, 1, 1, 0])

# %% [markdown]
# ## 一个损失
#
# 对 logits z 和标签 y，交叉熵是 `log(sum(exp(z))) - z[y]`，再对批次取平均。它对 N 个样本的 logits 的梯度是 `(softmax(z) - onehot(y)) / N`；左乘 `features.T` 就是对权重的梯度。NumPy 用四行就能写出两者，由它来裁判。（Keras 的损失是对象，先构造再调用；名字带 *sparse* 的接受整数标签，另一种接受 one-hot 行。）

# %%
logits = features @ weight
softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
loss = -np.log(softmax[np.arange(6), labels]).mean()
gradient = features.T @ (softmax - np.eye(3)[labels]) / 6  # by the weights, (4, 3)

# %%
# %%tensorflow -i features weight labels -o loss_keras gradient_keras
import keras
import tensorflow as tf

variable = tf.Variable(weight)
cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
with tf.GradientTape() as tape:
    loss_keras = cross_entropy(labels, features @ variable)
gradient_keras = tape.gradient(loss_keras, variable)
print(float(loss_keras))

# %%
# %%torch -i features weight labels -o loss_torch gradient_torch
import torch
from torch.nn import functional as F

parameter = torch.nn.Parameter(torch.tensor(weight))
loss_torch = F.cross_entropy(torch.tensor(features) @ parameter, torch.tensor(labels))
loss_torch.backward()
gradient_torch = parameter.grad.clone()  # the next backward adds to the same tensor
print(loss_torch.item())

# %%
for name, theirs in {"Keras": gradient_keras, "torch": gradient_torch}.items():
    print(f"{name}'s gradient is {largest_difference(theirs, gradient):.1e} from the formula")
    assert largest_difference(theirs, gradient) < 1e-6  # rounding of float32
assert largest_difference(loss_keras, loss) < 1e-6
assert largest_difference(loss_torch, loss) < 1e-6

# %% [markdown]
# ## 习惯一：logits 还是概率
#
# `keras.losses` 默认接受**概率**，给它 logits 也不会抱怨。这时损失只是一个没有意义的数，而训练照样会往某个方向走。

# %%
# %%tensorflow -o forgotten_keras
forgotten_keras = keras.losses.SparseCategoricalCrossentropy()(labels, features @ variable)

# %%
print(f"with logits {float(loss_keras):.3f}, the same logits taken for probabilities {float(forgotten_keras):.3f}")
assert abs(forgotten_keras - loss_keras) > 0.1

# %% [markdown]
# ## 习惯二：梯度会累加
#
# `backward` 是把梯度**加到** `.grad` 上。训练循环若没有 `optimizer.zero_grad()`，就会沿着迄今所有梯度之和前进。tape 在每个 `with` 里重新开始，所以 Keras 没有这个问题。要把大批次分成几份累加，在 torch 里要多次 `backward`，每个损失先乘以该份占整批的比例（练习 1）；用 tape 时要自己把返回的梯度同样加权后相加。

# %%
# %%torch -o twice_torch zeroed_torch
F.cross_entropy(torch.tensor(features) @ parameter, torch.tensor(labels)).backward()
twice_torch = parameter.grad.clone()
parameter.grad = None  # what optimizer.zero_grad() does
F.cross_entropy(torch.tensor(features) @ parameter, torch.tensor(labels)).backward()
zeroed_torch = parameter.grad

# %%
assert largest_difference(twice_torch, 2 * gradient_torch) < 1e-6
assert largest_difference(zeroed_torch, gradient_torch) < 1e-6
print("after two backwards the gradient is", (twice_torch / gradient_torch).round(3).ravel()[:3], "times itself")

# %% [markdown]
# ## 习惯三：tape 看着谁
#
# tape 自动看着**变量**；普通张量要先 `tape.watch`。在 torch 里，张量用 `requires_grad_()` 要求梯度。忘了的人，从 Keras 得到 `None`；在 torch 里，若和式中还有别的东西要求梯度，也得到 `None`，若什么都没有，就像这里一样得到错误。

# %%
# %%tensorflow -o unwatched_keras input_keras
x = tf.constant(features)
with tf.GradientTape() as tape:
    value = tf.reduce_sum((x @ variable) ** 2)
unwatched_keras = tape.gradient(value, x) is None
with tf.GradientTape() as tape:
    tape.watch(x)
    value = tf.reduce_sum((x @ variable) ** 2)
input_keras = tape.gradient(value, x)

# %%
# %%torch -o forgotten_torch input_torch
x = torch.tensor(features)
try:
    ((x @ parameter.detach()) ** 2).sum().backward()
    forgotten_torch = "nothing"
except RuntimeError as error:
    forgotten_torch = str(error)
print(forgotten_torch)
x.requires_grad_()
((x @ parameter.detach()) ** 2).sum().backward()
input_torch = x.grad

# %%
assert unwatched_keras
assert "does not require grad" in str(forgotten_torch)
difference = largest_difference(input_keras, input_torch)
print(f"gradients by the features differ by {difference:.1e}, the largest is {np.abs(input_torch).max():.0f}")
assert difference < 1e-5  # rounding of numbers up to 4

# %% [markdown]
# ## 习惯四：加权平均
#
# 两者都对批次取平均。一旦有权重，就分开了。Keras 的 `sample_weight` 除以样本**个数**，torch 的类别权重除以**权重之和**。（前者每个样本一个权重，后者每个类别一个：`class_weights[labels]` 把后者变成前者。）

# %%
class_weights = np.array([1, 2, 5], np.float32)
each = -np.log(softmax[np.arange(6), labels])
weights = class_weights[labels]

# %%
# %%tensorflow -i weights -o weighted_keras
weighted_keras = cross_entropy(labels, features @ variable, sample_weight=weights)

# %%
# %%torch -i class_weights -o weighted_torch
weighted_torch = F.cross_entropy(
    torch.tensor(features) @ parameter, torch.tensor(labels), weight=torch.tensor(class_weights)
)

# %%
print(f"Keras {float(weighted_keras):.4f}, torch {float(weighted_torch):.4f}")
assert largest_difference(weighted_keras, (weights * each).sum() / 6) < 1e-5
assert largest_difference(weighted_torch, (weights * each).sum() / weights.sum()) < 1e-6
ratio = float(weighted_keras / weighted_torch)
print(f"ratio {ratio:.3f}: the mean weight is {weights.mean():.3f}")
assert abs(ratio - weights.mean()) < 1e-5

# %% [markdown]
# 两者之比是这一批的平均权重，所以每一批都不同：好比 Keras 的学习率大了这么多倍，而且每一步都不一样（普通 SGD 时）。标签平滑则两边公式相同：平滑量为 e 时，K 个类各得 e / K，真正的类再加 1 - e。

# %%
# %%tensorflow -o smooth_keras
smooth_keras = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)(
    tf.one_hot(labels, 3), features @ variable
)

# %%
# %%torch -o smooth_torch
smooth_torch = F.cross_entropy(torch.tensor(features) @ parameter, torch.tensor(labels), label_smoothing=0.1)

# %%
print(f"smoothed: Keras {float(smooth_keras):.4f}, torch {float(smooth_torch):.4f}")
assert largest_difference(smooth_keras, smooth_torch) < 1e-6
assert largest_difference(smooth_torch, loss) > 1e-2  # and it is not the loss without smoothing

# %% [markdown]
# **在两翼中**：`tf_impl/training.py` 和 `torch_impl/training.py` 里的 `differentiate`：tape 和 `loss.backward()` 处在同一位置。两个 `optimizers.py` 里的 `build_loss` 让两个库的损失有同样的参数顺序。
#
# ## 练习
#
# 1. 先设 `parameter.grad = None`。在 torch 里分别对前三个和后三个样本求梯度并累加，使总和等于 `gradient_torch`。每个损失要乘以多少？
# 2. 为一个损失新开一个 tape，调用两次 `tape.gradient`。再把它设为 `persistent=True`。torch 里怎样做同样的事？
# 3. 让一个 logit 为 100、其余为 0，标签取另一类，在 float32 下分别由 logits 和由概率（`tf.nn.softmax`、`torch.softmax(z, 1)`）计算损失，两个框架都做；标签是数组，`np.array([1])`。哪些数是错的，为什么？换成 `keras.ops.softmax` 呢？
#
# <details><summary>答案</summary>
#
# 1. 乘以 1/2：每个损失是三个样本的平均，而整体是六个样本的平均。
# 2. 先是 RuntimeError，之后两次得到同样的梯度。torch 里是 `backward(retain_graph=True)`，而且会累加。
# 3. 由 logits 计算，两者都是 100。由 `tf.nn.softmax` 计算，Keras 得到 16.1，因为它把概率截断在 1e-7；由 `keras.ops.softmax` 则得到 100，因为 Keras 记得自己的 softmax 来自哪些 logits。torch 的 `-log(softmax(z))` 是 99.98，因为 float32 只能用很少的位数表示 3.8e-44；logit 为 110 时是无穷大。
#
# </details>
#
# 然后去找一个人为植入的错误：`python compare.py exercise list` 列出第 4 课的练习。

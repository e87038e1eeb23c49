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
# # 1. 张量与布局
#
# 写给只熟悉 Keras **或** 只熟悉 torch 的读者。你会用两个框架读同样的几步运算，分别运行，再比较结果。约 15 分钟。
#
# **学完之后**：你能把图像、卷积核和全连接层的权重从一个框架搬到另一个框架，并能发现那个不会报错的错误。
#
# ## 这些课怎样运行
#
# 两个框架从不在同一个进程里：放在一起可能崩溃，线程池也会互相干扰计时。所以笔记本自己的进程不导入任何一个框架。以 `%%tensorflow` 或 `%%torch` 开头的单元格在各自的进程里运行；这个进程一直存活，前一个单元格定义的东西，后一个单元格还能用。`-i` 把笔记本里的 NumPy 数组送进去，`-o` 把数组取回来。
#
# 所有课都会用到四个词：
#
# - **Keras** 提供层、模型和训练；**TensorFlow** 替它计算：张量、梯度、计算图。`keras.ops` 是 Keras 自己的运算，写法像 NumPy；`tf` 是下面那一层。torch 则两者合一。
# - **两翼（wings）** 指本项目的两个包 `tf_impl/` 和 `torch_impl/`：文件相同，函数相同，每个框架一份，可以并排阅读。
# - **开关（switch）** 指一处已知的差异，可以单独在某一翼打开。`docs/differences.md` 逐一解释，并给出差异的大小。
# - **阶梯（ladder）**（`python compare.py parity`）从像素到训练逐级比较两翼，指出最先出现差异的地方。

# %%
# %load_ext transfer_parity.shared.lessons.magics
import numpy as np

from transfer_parity.shared.core.arrays import largest_difference

random = np.random.default_rng(0)
images = random.normal(size=(2, 5, 6, 3)).astype(np.float32)  # two "photographs", 5 pixels high, 6 wide, RGB

# %%
# %%tensorflow -i images -o doubled_keras
import keras
import numpy as np
import tensorflow as tf

print("keras", keras.__version__, "on tensorflow", tf.__version__)
doubled_keras = 2 * tf.constant(images)

# %%
# %%torch -i images -o doubled_torch
import numpy as np
import torch

print("torch", torch.__version__)
doubled_torch = 2 * torch.tensor(images)

# %% [markdown]
# ## 这里怎样比较数字
#
# 看**最大绝对误差**，从不看平均值：一千个正确的通道会把一个错误的通道平均掉。先看形状：NumPy 会一声不响地把 `(2, 1)` 与 `(2,)` 广播到一起。

# %%
assert doubled_keras.shape == doubled_torch.shape
difference = largest_difference(doubled_keras, doubled_torch)
print("largest difference:", difference)
assert difference == 0  # a multiplication by two is exact

# %% [markdown]
# ## 数据类型
#
# 两个框架都沿用 NumPy 数组的类型，也都把 Python 浮点数变成 float32。差别在整数，以及混合类型的运算：
#
# | | Keras（TensorFlow） | torch |
# |---|---|---|
# | Python 整数变成 | int32 | int64 |
# | 整数 + 浮点数 | `tf` 拒绝，`keras.ops` 自动转换 | 自动转换 |
# | 类型转换 | `tf.cast(x, "float32")`、`keras.ops.cast` | `x.float()`、`x.to(torch.float32)` |

# %%
# %%tensorflow -o types_keras
types_keras = [tf.constant(each).dtype.name for each in (1, 1.5, np.float64(1.5))]
print(types_keras, "and keras.ops makes of int + float:", keras.ops.add(tf.constant(1), tf.constant(1.5)).dtype.name)
try:
    tf.constant(1) + tf.constant(1.5)
except tf.errors.InvalidArgumentError as error:
    print("tf:", error.message[:72])

# %%
# %%torch -o types_torch
types_torch = [str(torch.tensor(each).dtype).removeprefix("torch.") for each in (1, 1.5, np.float64(1.5))]
print(types_torch, "and int + float is", (torch.tensor(1) + torch.tensor(1.5)).dtype)

# %%
assert list(types_keras) == ["int32", "float32", "float64"]
assert list(types_torch) == ["int64", "float32", "float64"]

# %% [markdown]
# ## 这是谁的内存？
#
# TensorFlow 的张量不能修改，能修改的是变量。torch 的张量可以修改；`torch.from_numpy` 甚至与数组**共享**内存，`torch.tensor` 则会复制。

# %%
# %%tensorflow -o kept_keras
array = np.zeros(3, np.float32)
tensor = tf.constant(array)
array[0] = 7
kept_keras = tensor

# %%
# %%torch -o shared_torch copied_torch
array = np.zeros(3, np.float32)
shared, copied = torch.from_numpy(array), torch.tensor(array)
array[0] = 7
shared_torch, copied_torch = shared, copied

# %%
print("tf.constant:", kept_keras, " from_numpy:", shared_torch, " torch.tensor:", copied_torch)
assert kept_keras[0] == 0 and copied_torch[0] == 0
assert shared_torch[0] == 7  # the same bytes

# %% [markdown]
# ## 通道放在哪一维
#
# 一批图像在 Keras 里是 `(N, H, W, C)`（通道在后），在 torch 里是 `(N, C, H, W)`（通道在前）。卷积核在 Keras 里是 `(H, W, in, out)`，在 torch 里是 `(out, in, H, W)`；全连接层的核分别是 `(in, out)` 和 `(out, in)`。所以三种转置就够了：
#
# | 对象 | 从 Keras 到 torch（NumPy 写法） |
# |---|---|
# | 图像、特征图 | `x.transpose(0, 3, 1, 2)` |
# | 卷积核 | `kernel.transpose(3, 2, 0, 1)` |
# | 全连接层的核 | `kernel.T` |
#
# 对张量来说，同样的操作写作 `keras.ops.transpose(x, (0, 3, 1, 2))` 和 `x.permute(0, 3, 1, 2)`。`torch.nn.functional`（习惯记作 `F`）里是 torch 各层背后的函数，正如 `keras.ops` 里是 Keras 各层背后的函数。

# %%
kernel = random.normal(size=(3, 3, 3, 4)).astype(np.float32)  # 3x3, from 3 channels to 4
dense = random.normal(size=(5 * 6 * 4, 10)).astype(np.float32)  # from the flattened feature map to 10 classes

# %%
# %%tensorflow -i images kernel dense -o map_keras logits_keras
x = keras.ops.conv(images, kernel, padding="same")  # (N, H, W, C)
map_keras = x
logits_keras = keras.ops.reshape(x, (2, -1)) @ dense
print("feature map", tuple(x.shape))

# %%
# %%torch -i images kernel dense -o map_torch logits_torch
from torch.nn import functional as F

x = torch.tensor(images).permute(0, 3, 1, 2)  # (N, C, H, W)
x = F.conv2d(x, torch.tensor(kernel).permute(3, 2, 0, 1), padding=1)
map_torch = x
logits_torch = F.linear(x.flatten(1), torch.tensor(dense).T)
print("feature map", tuple(x.shape))

# %%
difference = largest_difference(map_keras, map_torch.transpose(0, 2, 3, 1))
print("feature maps differ by", difference)
assert difference < 1e-5  # rounding: 27 products of numbers near one, in float32, in another order

wrong = largest_difference(logits_keras, logits_torch)
print("logits differ by", wrong)
assert wrong > 1  # no rounding at all

# %% [markdown]
# 特征图一致，logits 却不一致，尽管每个形状都对得上。`Flatten` 按元素存放的顺序读特征图：Keras 是（高、宽、通道），torch 是（通道、高、宽）。全连接层对每个**位置**都有一个权重，所以它的输入也必须跟着换位置。这就是那个不会报错的布局错误。在本项目里它是开关 `flatten_order`，涉及 VGG：它的第一个全连接层紧跟在展平的特征图之后。`shared/checkpoints/flattening.py` 负责纠正。

# %%
by_place = dense.reshape(5, 6, 4, 10).transpose(2, 0, 1, 3).reshape(-1, 10)  # (H, W, C, out) to (C, H, W, out)

# %%
# %%torch -i by_place -o mended_torch
mended_torch = F.linear(x.flatten(1), torch.tensor(by_place).T)

# %%
difference = largest_difference(logits_keras, mended_torch)
print("logits differ by", difference)
assert difference < 1e-4  # 120 products each, of numbers of size five

# %% [markdown]
# 如果网络在全连接层之前对所有位置取平均（MobileNet、ResNet，以及今天的大多数网络），就没有这个顺序问题。
#
# ## 含义上的布局，内存中的布局
#
# torch 可以让一个**含义**为 NCHW 的张量在内存中按 NHWC 存放（`channels_last`），因为这样它的 CPU 和 GPU 库更快。下标和结果都不变，变的只有步幅（strides）。

# %%
# %%torch -i images -o first_torch last_torch strides
first = torch.tensor(images).permute(0, 3, 1, 2).contiguous()
last = first.contiguous(memory_format=torch.channels_last)
weights = torch.tensor(kernel).permute(3, 2, 0, 1)
first_torch, last_torch = F.conv2d(first, weights), F.conv2d(last, weights)
strides = [first.stride(), last.stride()]
print("shape", tuple(first.shape), tuple(last.shape), "strides", first.stride(), last.stride())

# %%
assert strides[0].tolist() != strides[1].tolist()
assert largest_difference(first_torch, last_torch) < 1e-5  # the same function, summed in another order

# %% [markdown]
# **在两翼中**：`tf_impl/network.py` 和 `torch_impl/network.py` 的 `normalise` 收到同样的 uint8 图像 `(N, H, W, 3)`；torch 那一份以 `movedim(-1, 1)` 结尾。`tf_impl/weights.py` 的 `to_neutral` 转置卷积核；torch 的原样返回，因为本项目的中立布局就是 torch 的布局。
#
# ## 练习
#
# 1. 先预测：8 个通道的 3x3 **深度卷积**核，在两个框架里各是什么形状？再看：在 `%%tensorflow` 单元格里构建 `keras.layers.DepthwiseConv2D(3)`，在 `%%torch` 单元格里构建 `torch.nn.Conv2d(8, 8, 3, groups=8)`。
# 2. 把卷积核写成 `kernel.transpose(3, 2, 1, 0)` 交给 `F.conv2d`：高和宽被交换了。为什么没有形状错误？核要怎样不同，才会报错？
# 3. 展平一个只有 1x1 个位置的特征图。`Flatten` 的顺序还有影响吗？
#
# <details><summary>答案</summary>
#
# 1. Keras 是 `(3, 3, 8, 1)`，torch 是 `(8, 1, 3, 3)`。所以转置也不同：`kernel.transpose(2, 3, 0, 1)`。
# 2. 因为核是方的。若是 3x5，输出形状就会不同。只有数值能发现这个错误。
# 3. 没有：只有一个位置时，剩下的只是通道的顺序，两边相同。
#
# </details>
#
# 然后去找一个人为植入的错误：`python compare.py exercise list` 列出第 1 课的练习。

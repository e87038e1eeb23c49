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
# # 9. 测速而不自欺
#
# “哪个框架更快？”在回答五个问题之前没有答案：第一步还是第一千步，用几个线程，要不要梯度，区间有多宽，以及时钟有没有等工作做完？你会在两个框架里测量同一个网络。约 15 分钟。**你的秒数会与这里不同**；检查的是次数，次数不会不同。（第 1 课解释了 `%%` 单元格、两翼、开关和阶梯。）

# %%
# %load_ext transfer_parity.shared.lessons.magics
import numpy as np

images = np.random.default_rng(0).normal(size=(8, 32, 32, 3)).astype(np.float32)

# %% [markdown]
# ## 同样的线程
#
# 框架会占用所有核心，除非另有规定；两个都占用所有核心的进程，测到的是彼此。在 TensorFlow 里，这要在第一次运算**之前**定好；在 torch 里随时都可以。

# %%
# %%tensorflow -o threads_keras
import time

import numpy as np
import tensorflow as tf

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
import keras
from keras import layers

threads_keras = tf.config.threading.get_intra_op_parallelism_threads()

model = keras.Sequential(
    [
        keras.Input((32, 32, 3)),
        layers.Conv2D(16, 3, activation="relu"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(5),
    ]
)

# %%
# %%torch -o threads_torch
import time

import numpy as np
import torch
from torch import nn

torch.set_num_threads(1)
threads_torch = torch.get_num_threads()

model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)).eval()

# %%
assert threads_keras == threads_torch == 1

# %% [markdown]
# ## 第一步是另一回事
#
# `tf.function` 会**追踪（trace）**：第一次调用运行 Python 代码来生成计算图，之后的调用运行计算图。所以第一步测到的是 Python 和编译。而且每遇到新的形状都会重新追踪，除非签名里批次大小是开放的。函数里的 Python 代码只在追踪时运行，正好可以当计数器：

# %%
# %%tensorflow -i images -o first_keras later_keras traces_keras open_keras
traces = 0


@tf.function
def forward(x):
    """Logits."""
    global traces
    traces += 1
    return model(x, training=False)


def seconds(call):
    """Of one call, until its numbers are here."""
    begin = time.perf_counter()
    call().numpy()
    return time.perf_counter() - begin


whole, smaller = tf.constant(images), tf.constant(images[:5])
first_keras = seconds(lambda: forward(whole))
later_keras = [seconds(lambda: forward(whole)) for _ in range(30)]
forward(smaller)
traces_keras = traces

traces = 0
graph = tf.function(forward.python_function, input_signature=[tf.TensorSpec((None, 32, 32, 3))])
graph(whole), graph(smaller)
open_keras = traces

# %%
# %%torch -i images -o first_torch later_torch compiled_torch
x = torch.tensor(images).permute(0, 3, 1, 2).contiguous()


def seconds(call):
    """Of one call, until its numbers are here."""
    begin = time.perf_counter()
    call().numpy()
    return time.perf_counter() - begin


compiled = 0


def counting(graph, inputs):
    """A compiler that compiles nothing, and counts."""
    global compiled
    compiled += 1
    return graph.forward


with torch.inference_mode():
    first_torch = seconds(lambda: model(x))
    later_torch = [seconds(lambda: model(x)) for _ in range(30)]
    fast = torch.compile(model, backend=counting, dynamic=False)
    fast(x), fast(x), fast(x[:5])
compiled_torch = compiled

# %%
for name, first, later in (("Keras", first_keras, later_keras), ("torch", first_torch, later_torch)):
    print(
        f"{name}: first call {1e3 * first:.1f} ms, later ones {1e3 * np.median(later):.2f} ms (median of {len(later)})"
    )
print(f"graphs for two batch sizes: tf.function {traces_keras}, with an open signature {open_keras}", end="; ")
print(f"torch.compile {compiled_torch} for three calls")
assert traces_keras == 2 and open_keras == 1
assert compiled_torch == 2

# %% [markdown]
# 没有 `torch.compile` 的 torch 一行一行地运行，所以它的第一次调用只因较小的原因而慢：申请内存，选择算子。有了它并写 `dynamic=False`（这里就是这样），规则就与 TensorFlow 相同：每种形状一个计算图。默认情况下，它为第一种批次大小生成一个计算图，遇到第二种时再生成一个大小开放的，供 1 以外的所有大小使用。
#
# 你报告什么，取决于你想知道什么。给一张照片分类就结束的工具，它的全部**就是**第一步。一小时的训练则不是。
#
# ## 本来不想测的东西
#
# | | Keras | torch |
# |---|---|---|
# | 运算之间的 Python | `tf.function` 之外的 `model(x)` | 总有，除非编译 |
# | 分批、回调 | `model.predict` | - |
# | 求梯度用的图 | 只在 tape 之内 | 总有，除非 `inference_mode()` 或 `no_grad()` |
# | 从 NumPy 复制 | `tf.constant` 会复制 | `from_numpy` 不会 |
# | 还没做完的工作 | GPU：`.numpy()` 会等 | GPU：`torch.cuda.synchronize()` |

# %%
# %%tensorflow -o ways_keras
ways_keras = [
    np.median([seconds(lambda: forward(whole)) for _ in range(30)]),
    np.median([seconds(lambda: model(whole, training=False)) for _ in range(30)]),
    np.median([seconds(lambda: tf.constant(model.predict(images, verbose=0))) for _ in range(5)]),
]

# %%
# %%torch -o graph_torch inference_torch
graph_torch = model(x).grad_fn is not None
with torch.inference_mode():
    inference_torch = model(x).grad_fn is not None

# %%
for name, each in zip(("tf.function", "model(x)", "model.predict"), ways_keras, strict=True):
    print(f"{name:14}{1e3 * each:8.2f} ms")
assert graph_torch and not inference_torch
print("torch keeps a graph for gradients:", bool(graph_torch), "- in inference mode:", bool(inference_torch))

# %% [markdown]
# 同一个框架、同一个网络，三个数字。拿 `model.predict` 去比推理模式下的 torch 模块，比的是习惯。
#
# ## 带区间的比值
#
# 机器有噪声，而且噪声一阵一阵地来。所以：**轮流**测量（A、B、A、B……），取每一轮的比值，再说明中位数有多可靠。自助法（bootstrap）一遍又一遍地有放回抽取这些轮次。下面是两个编造的序列：B 确实慢 1.2 倍，中途有一阵干扰让一切都变慢。

# %%
random = np.random.default_rng(1)
spell = np.where(np.arange(20) < 10, 1.0, 1.5)
a = spell * random.lognormal(0, 0.05, 20)
b = 1.2 * spell * random.lognormal(0, 0.05, 20)


def interval(draw):
    """95 % interval of a statistic of turns, by bootstrap."""
    drawn = [draw(random.integers(0, 20, 20)) for _ in range(2000)]
    return np.percentile(drawn, [2.5, 97.5])


in_turns = interval(lambda turns: np.median(b[turns] / a[turns]))
a_first = np.median(b[10:]) / np.median(a[:10])  # first all of A, then all of B
print(f"in turns: {np.median(b / a):.2f}, interval {in_turns[0]:.2f} to {in_turns[1]:.2f}")
print(f"one after the other: {a_first:.2f}")
assert in_turns[0] < 1.2 < in_turns[1]
assert a_first > 1.5  # the spell passed for B's fault

# %% [markdown]
# **在两翼中**：两个 `inference.py` 里的 `engines` 列出前向计算可以怎样运行，两个 `device.py` 里的 `synchronize` 等待设备完成。 `shared/evaluation/speed.py` 取轮流运行的各次重复之比；`python compare.py --repeats 7` 对整个配方逐阶段地这样做。`docs/speed.md` 写着还发现了什么。
#
# ## 练习
#
# 1. 不用 `inference_mode()` 测量 torch 模型。差别是否大于比值的区间？
# 2. 用 NumPy 数组 `images[:1]` 到 `images[:8]`，即 1 到 8 张图像的八个批次，各调用一次 `forward`。会新追踪多少次？
# 3. 把两边都设为 2 个线程（TensorFlow 需要新的进程：重启笔记本）。哪一个获益更多？两个框架的先后会改变吗？
#
# <details><summary>答案</summary>
#
# 1. 对这么小的网络，通常不大于；要轮流测量才能知道。
# 2. 每种新形状追踪一次：8 和 5 已经见过，所以再追踪 6 次。TensorFlow 会为此发出警告。
# 3. 没有放之四海皆准的答案。这就是答案。
#
# </details>
#
# 本课没有人为植入的错误：慢并不是错，所以阶梯也会放行。第 10 课有：`python compare.py exercise list`。

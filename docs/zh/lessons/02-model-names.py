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
# # 2. 模型与它的名字
#
# 你会把同一个小网络搭建两次，看看每个框架怎样称呼它的各个部分，再按名字把全部权重搬过去。约 15 分钟。第 1 课解释了 `%%` 单元格、转置，以及什么是两翼和开关。
#
# ## 同一个网络
#
# | 说法 | Keras | torch |
# |---|---|---|
# | 模型、层 | `keras.Model`，由层组成的图；带有 `call` 的 `layers.Layer` | 都是带有 `forward` 的 `nn.Module` |
# | 输入通道数 | 构建时从输入得知 | 写在每一层里，放在最前面 |
# | 不带偏置的卷积 | `Conv2D(8, 3, use_bias=False)` | `Conv2d(3, 8, 3, bias=False)` |
# | 对所有位置取平均 | `GlobalAveragePooling2D()` | `AdaptiveAvgPool2d(1)`、`Flatten()` |
# | 特征图、向量的归一化 | `BatchNormalization()` | `BatchNorm2d(8)`、`BatchNorm1d(8)`：8 个通道 |
# | 最后一层 | 常带 `activation="softmax"` | 输出 logits；softmax 在损失函数里 |
#
# torch 的卷积按（输入通道、输出通道、核大小）书写。`AdaptiveAvgPool2d(1)` 平均到 1x1 个位置，`Flatten` 再去掉它们。

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
# ## 什么叫什么
#
# | 说法 | Keras | torch |
# |---|---|---|
# | 卷积层或全连接层的权重 | `kernel` | `weight` |
# | 归一化的缩放与平移 | `gamma`、`beta` | `weight`、`bias` |
# | 滑动统计量 | `moving_mean`、`moving_variance` | `running_mean`、`running_var` |
# | 已见过的批次数 | - | `num_batches_tracked` |
# | 训练会改变的 | `trainable_weights` | `parameters()`，带名字的是 `named_parameters()` |
# | 梯度不会改变的 | `non_trainable_weights` | `buffers()` |
# | 全部 | `weights`：有序的列表 | `state_dict()`：按名字的字典 |
#
# 在 Keras 里，路径以模型名开头，这里是 `sequential/`。在 torch 里，`weight` 可以指三样东西：卷积核、全连接层的核、归一化的缩放。到底是哪一样，看它属于哪种层。（以上都是尚未冻结时的情形：第 3 课。）

# %%
assert len(trainable_keras) == len(trainable_torch) == 5  # two kernels, scale, shift, one bias
buffers = set(names_torch) - set(trainable_torch)
assert buffers == {"bn.running_mean", "bn.running_var", "bn.num_batches_tracked"}
assert len(names_torch) == len(names_keras) + 1  # the counter of batches, which Keras does not keep

# %% [markdown]
# ## 搬运权重
#
# 每一类权重一条规则就够了：一个名字，一个转置；这次是从 torch 到 Keras，所以与第 1 课方向相反。在 torch 里，`no_grad()` 表示不需要梯度（第 4 课），末尾的 `_` 表示就地修改张量，`normal_` 的参数是均值和标准差，`eval()` 相当于一直有效的 `training=False`（第 6 课）。

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
# 每个数组都找到了位置，logits 却仍然不同：**不是权重的东西，不会跟着权重走。** 归一化要除以 `sqrt(variance + epsilon)`；Keras 默认 epsilon 为 1e-3，torch 为 1e-5。如果方差是 0.001（几乎失活的通道就是这样），torch 归一化后的值就是 Keras 的 1.4 倍。（见 `docs/differences.md` 中的 `bn_epsilon`。）

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
# ## 填充也不会
#
# 对 3x3 的核，步幅为 1 时 `padding="same"` 与 `padding=1` 是一回事，步幅为 2 时则是两回事。TensorFlow 只填充到刚好得到 `ceil(size / stride)` 个输出，多出的一个像素放在右边和下边；torch 四边一样填充。图像边长为偶数时，Keras 的第一个窗口从第一个像素开始，torch 的早一个像素，从填充处开始；而形状相同。

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
# 这就是开关 `same_padding`。Keras 里的 MobileNet 和 EfficientNet 按 TensorFlow 的方式填充，所以一个库训练的权重要用在另一个库的模型上，就得先改模型：`tf_impl/backbone.py` 的 `_pad_symmetrically` 和 `torch_impl/backbone.py` 的 `_pad_same` 做的就是这件事。
#
# ## 现成模型的名字
#
# 同样的层，`keras.applications` 和 `torchvision.models` 起了不同的名字。本项目不导入任何一个框架就能互译，用的是共同的（“中立”）名字，也就是 torchvision 的名字：`features.2.conv.0.0` 是 `features` 的第 2 部分里 `conv` 的第 0 部分的第 0 部分。

# %%
from transfer_parity.shared.zoo.lookup import find_pair

pair = find_pair("MobileNetV2")
for keras_name in ("Conv1", "bn_Conv1", "block_1_expand", "block_1_depthwise", "Conv_1", "predictions"):
    print(f"{keras_name:20}{pair.neutral_module(keras_name)}")
assert pair.neutral_module("Conv1") == "features.0.0"
assert pair.neutral_module("predictions") == "classifier.1"

# %% [markdown]
# **在两翼中**：两个 `weights.py` 里的 `parameters` 都遍历网络，给每个数组起中立名。Keras 的那一份逐层询问每个权重属于哪一类，torch 的那一份读取 `state_dict()`。下方的 `load` 和 `dump` 两边做同样的事。
#
# ## 练习
#
# 1. 这个网络里一共有多少个数？用 `model_keras.count_params()` 数一次，再用 `sum(each.numel() for each in model_torch.parameters())` 数一次。解释为什么相差 16。
# 2. 在给权重赋值的 `%%tensorflow` 单元格里，把 `bn/gamma` 和 `bn/moving_variance` 对调。哪一项检查会发现？
# 3. 用 `stem` 代替 `conv` 重新搭建 torch 的模型，再对它调用 `load_state_dict(state)`。它会说什么？Keras 的 `set_weights` 又会说什么？
#
# <details><summary>答案</summary>
#
# 1. 293 和 277：`count_params` 把 8 个通道的滑动均值和滑动方差也算进去了，它们在 torch 里是缓冲区（buffer）。
# 2. 形状检查发现不了，因为两者都是 (8,)；第一次比较也发现不了，因为它本来就预期有差别：只有最后的 `difference < 1e-5`。
# 3. RuntimeError：缺少 `stem.weight`，`conv.weight` 是多余的。`set_weights` 接受的是列表，所以什么也发现不了。
#
# </details>
#
# 然后去找一个人为植入的错误：`python compare.py exercise list` 列出第 2 课的练习。

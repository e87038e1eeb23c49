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
# # 8. 数据与缩放
#
# 用两个框架常用的函数，把一张照片解码、缩放、放进批次。你会看到从哪一步起，两个网络看到的已经是不同的图像。约 15 分钟。（第 1 课解释了 `%%` 单元格、两翼、开关和阶梯。）
#
# | 步骤 | Keras（TensorFlow） | torch 与 torchvision |
# |---|---|---|
# | 解码 | `tf.io.decode_jpeg`：TensorFlow 自己的 libjpeg 设置 | Pillow，或 `torchvision.io` |
# | 缩放 | `Resizing`：缩小前不滤波 | `v2.Resize`：抗锯齿 |
# | 放进画框 | 压成正方形 | 先定短边，再裁出中央 |
# | 数值 | 0 到 255，直到某一层再缩放 | `ToTensor`：0 到 1 |
# | 打乱 | 在缓冲区内 | 对全部做排列 |
# | 不满的最后一批 | `drop_remainder=False` | `drop_last=False` |

# %%
# %load_ext transfer_parity.shared.lessons.magics
import io

import numpy as np
from PIL import Image

from transfer_parity.shared.core.arrays import largest_difference

# A picture with edges and colours: random blocks, enlarged smoothly. 300 pixels wide, 200 high.
random = np.random.default_rng(0)
blocks = Image.fromarray(random.integers(0, 256, (20, 30, 3), dtype=np.uint8))
picture = np.asarray(blocks.resize((300, 200), Image.Resampling.BICUBIC))
buffer = io.BytesIO()
Image.fromarray(picture).save(buffer, "JPEG", quality=85)
jpeg = np.frombuffer(buffer.getvalue(), np.uint8)
pillow = np.asarray(Image.open(buffer).convert("RGB"))
print(len(jpeg), "bytes; what JPEG itself costs:", largest_difference(pillow, picture), "levels of 255")

# %% [markdown]
# ## 解码
#
# JPEG 文件并没有精确说明它指的是哪些像素。解码器可以快速地或精确地计算余弦变换，也可以平滑地放大颜色通道，或者不平滑。

# %%
# %%tensorflow -i jpeg -o decoded_keras accurate_keras
import keras
import numpy as np
import tensorflow as tf

decoded_keras = tf.io.decode_jpeg(jpeg.tobytes(), channels=3)
accurate_keras = tf.io.decode_jpeg(jpeg.tobytes(), channels=3, dct_method="INTEGER_ACCURATE")

# %%
# %%torch -i jpeg -o decoded_torch
import numpy as np
import torch
import torchvision
from torchvision.transforms import v2

decoded_torch = torchvision.io.decode_jpeg(torch.tensor(jpeg)).permute(1, 2, 0)

# %%
print("TensorFlow and Pillow:", largest_difference(decoded_keras, pillow), "levels")
print("with INTEGER_ACCURATE:", largest_difference(accurate_keras, pillow), "levels")
print("torchvision and Pillow:", largest_difference(decoded_torch, pillow), "levels")
assert 1 <= largest_difference(decoded_keras, pillow) <= 8  # a few levels, by default
assert largest_difference(accurate_keras, pillow) <= 1
assert largest_difference(decoded_torch, pillow) <= 1

# %% [markdown]
# 几级灰度很少改变预测。但它让人无法再问两个**网络**是否一致，所以本项目用 Pillow 只解码一次，供两边使用。（wheel 里带的是哪个 libjpeg，会随版本变化：因此最后两项检查留了余地。）
#
# ## 缩小
#
# 每四个像素取一个，就会看到图像里本来没有的花纹。与步长同宽的滤波可以防止：`antialias`。Keras 的 `Resizing` 和 `tf.image.resize` 默认不用它，torchvision 的 `Resize` 默认使用。

# %%
# %%tensorflow -i picture -o default_keras filtered_keras
pixels = picture.astype(np.float32)
default_keras = keras.layers.Resizing(50, 75)(pixels)
filtered_keras = tf.image.resize(pixels, (50, 75), antialias=True)

# %%
# %%torch -i picture -o default_torch unfiltered_torch
pixels = torch.tensor(picture, dtype=torch.float32).permute(2, 0, 1)
default_torch = v2.Resize((50, 75))(pixels).permute(1, 2, 0)
unfiltered_torch = v2.Resize((50, 75), antialias=False)(pixels).permute(1, 2, 0)

# %%
print(f"as shipped: {largest_difference(default_keras, default_torch):.0f} levels")
print(f"both without a filter: {largest_difference(default_keras, unfiltered_torch):.1e}")
print(f"both with a filter: {largest_difference(filtered_keras, default_torch):.1e}")
assert largest_difference(default_keras, default_torch) > 5
assert largest_difference(default_keras, unfiltered_torch) < 1e-2  # the same formula
assert largest_difference(filtered_keras, default_torch) < 1e-2

# %% [markdown]
# ## 最近邻，以及像素在哪里
#
# 像素是一个方块。它的中心在 0.5、1.5、2.5……（“半像素中心”）。torch 的 `mode="nearest"` 却从角上向下取整，为了旧程序而保留至今； `"nearest-exact"` 使用中心，与 TensorFlow 相同。

# %%
row = np.arange(8, dtype=np.float32)  # eight pixels, whose values are their places

# %%
# %%tensorflow -i row -o nearest_keras
nearest_keras = tf.image.resize(row[None, :, None], (1, 3), "nearest")[0, :, 0]

# %%
# %%torch -i row -o nearest_torch exact_torch
from torch.nn import functional as F

nearest_torch = F.interpolate(torch.tensor(row)[None, None], 3, mode="nearest")[0, 0]
exact_torch = F.interpolate(torch.tensor(row)[None, None], 3, mode="nearest-exact")[0, 0]

# %%
print("TensorFlow", nearest_keras, " torch's nearest", nearest_torch, " nearest-exact", exact_torch)
assert nearest_keras.tolist() == exact_torch.tolist() == [1, 4, 6]
assert nearest_torch.tolist() == [0, 2, 5]

# %% [markdown]
# 双线性缩放里同样的陷阱是 `align_corners=True`：角对角，较老的模型用过。分割掩码用最近邻缩放，所以在那里损失的是整个像素。
#
# ## 压扁还是裁剪
#
# 一张 300x200 的照片变成 224x224 有两种办法。`image_dataset_from_directory` 把它压扁；torchvision 的预设保持形状，切掉两侧。

# %%
# %%tensorflow -i picture -o squashed_keras
squashed_keras = keras.layers.Resizing(224, 224)(picture.astype(np.float32))

# %%
# %%torch -i picture -o cropped_torch
preset = v2.Compose([v2.Resize(256, antialias=True), v2.CenterCrop(224)])
cropped_torch = preset(torch.tensor(picture).permute(2, 0, 1)).permute(1, 2, 0)

# %%
print(f"levels apart: {largest_difference(squashed_keras, cropped_torch):.0f}")
seen = 224 / 256 * 200 / 300  # part of the width that the crop sees: 224 of 384 pixels
print(
    f"the crop sees {seen:.0%} of the width and {224 / 256:.1%} of the height; the squash sees all, narrower by a third"
)
assert largest_difference(squashed_keras, cropped_torch) > 100
assert round(seen, 2) == 0.58

# %% [markdown]
# ## 打乱
#
# `dataset.shuffle(10)` 从十个元素的缓冲区里抽取：第一个样本总是前十个之一；按类别排序的数据集几乎仍是排好序的。torch 对全部下标做排列。

# %%
# %%tensorflow -o first_keras
data = tf.data.Dataset.range(1000).shuffle(10)
first_keras = [int(next(iter(data))) for _ in range(20)]

# %%
# %%torch -o first_torch
torch.manual_seed(0)
loader = torch.utils.data.DataLoader(range(1000), batch_size=1, shuffle=True)
first_torch = [int(next(iter(loader))) for _ in range(20)]

# %%
print("first of twenty epochs, shuffle(10):", first_keras.max(), "at most; DataLoader:", first_torch.max())
assert first_keras.max() <= 10  # the buffer is filled up as soon as one is drawn
assert first_torch.max() > 100

# %% [markdown]
# **在两翼中**你找不到这些，而这正是目的：`shared/data/images.py` 只解码和缩放一次，`shared/contract/plan.py` 抽取顺序，两翼得到同样的字节。每个框架各按默认会怎么做，写在两翼的 `native.py` 里。
#
# ## 练习
#
# 1. 用任意一个框架，分别在有和没有 `antialias` 时把 `picture` 放大到**两倍**。为什么没有区别？
# 2. 用 torchvision 写一个带抗锯齿的压扁，使它与 TensorFlow 的相差不到 0.01 级。
# 3. `keras.utils.image_dataset_from_directory` 给出 0 到 255 的值，`v2.ToDtype(torch.float32, scale=True)` 给出 0 到 1 的值。若网络第一层是 `Rescaling(1/127.5, -1)`，而它收到后者，会怎样？
#
# <details><summary>答案</summary>
#
# 1. 滤波的宽度等于新像素之间的步长，但至少是一个旧像素：放大时它就是普通的双线性。
# 2. 对 float32 用 `v2.Resize((224, 224), antialias=True)`，以及 `tf.image.resize(..., antialias=True)`。
# 3. 每张图像都变得几乎全黑，所有值都在 -1 与 -0.99 之间。什么也不会崩溃。
#
# </details>
#
# 给阶梯加上 `--switch torch:resizing`，它就会演示：`python compare.py parity --backbone MobileNetV2 --semantics torchvision --switch torch:resizing`。
#
# 然后去找一个人为植入的错误：`python compare.py exercise list` 列出第 8 课的练习。

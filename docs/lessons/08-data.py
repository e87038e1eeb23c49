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
# # 8. Data and resizing
#
# One photograph is decoded, resized and put into a batch by both frameworks' usual functions. You will see at which of
# these steps the two networks begin to see different pictures. About 15 minutes. (Lesson 1 explains the `%%` cells,
# wings, switches and the ladder.)
#
# | step | Keras on TensorFlow | torch and torchvision |
# |---|---|---|
# | decode | `tf.io.decode_jpeg`: TensorFlow's settings of libjpeg | Pillow, or `torchvision.io` |
# | resize | `Resizing`: no filter before it shrinks | `v2.Resize`: antialias |
# | fit the frame | squash to the square | shorter side, then cut out the centre |
# | values | 0 to 255, until a layer rescales | `ToTensor`: 0 to 1 |
# | shuffle | within a buffer | a permutation of all |
# | incomplete last batch | `drop_remainder=False` | `drop_last=False` |

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
# ## Decoding
#
# A JPEG file does not say exactly which pixels it means. A decoder may compute the cosine transform quickly or
# accurately, and enlarge the colour channels smoothly or not.

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
# A few levels seldom change a prediction. They do make it impossible to ask whether two **networks** agree, so this
# project decodes once, with Pillow, for both. (Which libjpeg a wheel contains changes with its version: hence the room
# in the last two checks.)
#
# ## Shrinking
#
# Who takes every fourth pixel sees patterns that are not in the picture. A filter as wide as the step prevents it:
# `antialias`. Keras's `Resizing` and `tf.image.resize` leave it out by default, torchvision's `Resize` does not.

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
# ## Nearest, and where a pixel is
#
# A pixel is a square. Its centre lies at 0.5, 1.5, 2.5 ... ("half-pixel centres"). torch's `mode="nearest"` rounds down
# from the corners instead, and is kept so for old programs' sake; `"nearest-exact"` uses centres, as TensorFlow does.

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
# The same trap in bilinear resizing is `align_corners=True`: corners on corners, which older models used. Segmentation
# masks are resized by nearest, so there it costs whole pixels.
#
# ## Squash or crop
#
# A photograph of 300x200 becomes 224x224 in two ways. `image_dataset_from_directory` squashes it; torchvision's presets
# keep its shape and cut off the sides.

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
# ## Shuffling
#
# `dataset.shuffle(10)` draws from a buffer of ten: the first example is always one of the first ten, and a data set
# that is sorted by class stays nearly sorted. torch permutes all indices.

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
# **In the wings** you will find none of this, and that is the point: `shared/data/images.py` decodes and resizes once,
# `shared/contract/plan.py` draws the order, and both wings get the same bytes. What each framework would do by itself
# stands in `native.py` of both wings.
#
# ## Exercises
#
# 1. Resize `picture` to **twice** its size with and without `antialias`, in either framework. Why is there no
#    difference?
# 2. Write a squash with antialias in torchvision that differs from TensorFlow's by less than 0.01 of a level.
# 3. `keras.utils.image_dataset_from_directory` yields values from 0 to 255, `v2.ToDtype(torch.float32, scale=True)`
#    from 0 to 1. What happens to a network whose first layer is `Rescaling(1/127.5, -1)` if it gets the latter?
#
# <details><summary>Answers</summary>
#
# 1. The filter is as wide as the step between new pixels, but at least one old pixel: enlarging, it is the plain
#    bilinear one.
# 2. `v2.Resize((224, 224), antialias=True)` on float32, and `tf.image.resize(..., antialias=True)`.
# 3. Every image becomes nearly black, all values between -1 and -0.99. Nothing crashes.
#
# </details>
#
# The ladder shows it, if you give it `--switch torch:resizing`:
# `python compare.py parity --backbone MobileNetV2 --semantics torchvision --switch torch:resizing`.
#
# Then find a planted mistake: `python compare.py exercise list` shows the exercises of lesson 8.

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
# # 1. Tensors and layout
#
# For readers who know Keras **or** torch. You will read the same few operations in both, run both, and compare numbers.
# About 15 minutes.
#
# **What you will be able to do**: carry an image, a convolution kernel and a dense layer's weights from one framework
# to the other, and notice the one mistake that raises no error.
#
# ## How these lessons run
#
# The two frameworks never share a process: together they can crash, and their thread pools spoil each other's timings.
# So the notebook itself imports neither. A cell that begins with `%%tensorflow` or `%%torch` runs in a process of its
# own, which stays alive: what one such cell defines, the next one finds. `-i` hands NumPy arrays of the notebook in,
# `-o` hands arrays back.
#
# Four words that all lessons use:
#
# - **Keras** has layers, models and training; **TensorFlow** computes for it: tensors, gradients, graphs. `keras.ops`
#   are Keras's own operations, which look like NumPy's; `tf` is what lies below. torch is both in one.
# - The **wings** are this project's two packages `tf_impl/` and `torch_impl/`: the same files with the same functions,
#   one for each framework, to be read side by side.
# - A **switch** is a known difference that can be turned on in one wing. `docs/differences.md` explains each and says
#   how large it is.
# - The **ladder** (`python compare.py parity`) compares the wings step by step, from pixels to training, and names the
#   first thing that differs.

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
# ## How numbers are compared here
#
# By the **largest absolute difference**, never by a mean: a mean hides one wrong channel among a thousand right ones.
# Look at the shapes first. NumPy stretches `(2, 1)` against `(2,)` without a word.

# %%
assert doubled_keras.shape == doubled_torch.shape
difference = largest_difference(doubled_keras, doubled_torch)
print("largest difference:", difference)
assert difference == 0  # a multiplication by two is exact

# %% [markdown]
# ## Types
#
# Both take the type of a NumPy array, and both make a Python float a float32. They part at whole numbers, and when
# types are mixed:
#
# | | Keras on TensorFlow | torch |
# |---|---|---|
# | a Python whole number becomes | int32 | int64 |
# | int + float | `tf` refuses, `keras.ops` converts | converts |
# | conversion | `tf.cast(x, "float32")`, `keras.ops.cast` | `x.float()`, `x.to(torch.float32)` |

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
# ## Whose memory is it?
#
# A TensorFlow tensor cannot be changed; what changes is a variable. A torch tensor can, and `torch.from_numpy` even
# **shares** the array's memory, while `torch.tensor` copies it.

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
# ## Where the channels stand
#
# A batch of images is `(N, H, W, C)` in Keras ("channels last") and `(N, C, H, W)` in torch ("channels first"). The
# kernel of a convolution is `(H, W, in, out)` in Keras and `(out, in, H, W)` in torch; a dense layer's is `(in, out)`
# and `(out, in)`. So three transpositions carry everything over:
#
# | what | Keras to torch, in NumPy |
# |---|---|
# | images, feature maps | `x.transpose(0, 3, 1, 2)` |
# | kernel of a convolution | `kernel.transpose(3, 2, 0, 1)` |
# | kernel of a dense layer | `kernel.T` |
#
# On tensors the same is `keras.ops.transpose(x, (0, 3, 1, 2))` and `x.permute(0, 3, 1, 2)`. `torch.nn.functional`, by
# custom `F`, has the functions behind torch's layers, as `keras.ops` has those behind Keras's.

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
# The feature maps agree and the logits do not, although every shape fitted. `Flatten` reads a map in the order in which
# it lies: (height, width, channel) in Keras, (channel, height, width) in torch. The dense layer has a weight for each
# **place**, so its inputs must change places, too. This is the layout mistake that raises no error. In this project it
# is the switch `flatten_order`; it concerns VGG, whose first dense layer follows a flattened map.
# `shared/checkpoints/flattening.py` puts it right.

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
# Networks that average over all places before the dense layer (MobileNet, ResNet, most of today's) have no such order.
#
# ## Layout of meaning, layout of bytes
#
# torch can keep a tensor that **means** NCHW as NHWC in memory (`channels_last`), since its CPU and GPU libraries are
# quicker then. Nothing about indices or results changes; only the strides do.

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
# **In the wings**: `normalise` in `tf_impl/network.py` and `torch_impl/network.py` gets the same uint8 images
# `(N, H, W, 3)`; torch's ends in `movedim(-1, 1)`. `to_neutral` in `tf_impl/weights.py` transposes kernels; torch's
# returns the array as it is, because this project's neutral layout is torch's.
#
# ## Exercises
#
# 1. Predict the shape that a **depthwise** 3x3 kernel for 8 channels has in each framework, then look: build
#    `keras.layers.DepthwiseConv2D(3)` in a `%%tensorflow` cell and `torch.nn.Conv2d(8, 8, 3, groups=8)` in a `%%torch`
#    cell.
# 2. Give `F.conv2d` the kernel as `kernel.transpose(3, 2, 1, 0)`: height and width swapped. Why does no shape complain,
#    and what would have to be different about the kernel for an error?
# 3. Flatten a map of 1x1 places. Is the order of `Flatten` of any consequence?
#
# <details><summary>Answers</summary>
#
# 1. `(3, 3, 8, 1)` in Keras, `(8, 1, 3, 3)` in torch. So the transposition is another: `kernel.transpose(2, 3, 0, 1)`.
# 2. The kernel is square. With 3x5 the output's shape would differ. Only numbers notice.
# 3. No: with one place there is only the order of the channels, which is the same.
#
# </details>
#
# Then find a planted mistake: `python compare.py exercise list` shows the exercises of lesson 1.

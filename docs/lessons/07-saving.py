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
# # 7. Saving and loading
#
# You will save a model in each framework, lose something on the way, and carry the weights over in a file that both
# read. About 15 minutes. (Lesson 1 explains the `%%` cells, wings, switches and the ladder.)
#
# | in words | Keras | torch |
# |---|---|---|
# | model and weights in one file | `model.save("m.keras")` | not the habit: code makes the model |
# | weights alone | `model.save_weights("m.weights.h5")` | `torch.save(model.state_dict(), "m.pt")` |
# | they are found by | kind of layer and number among its kind | name |
# | what does not fit | an error, where a shape differs | an error, or with `strict=False` a list |
# | state of the optimizer | in both, if the model is compiled | `optimizer.state_dict()`, saved by you |
# | a stranger's file | `.keras` is data; functions in it are refused | `.pt` is a pickle: `weights_only=True` |

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
# ## By order, or by name
#
# Two layers of the same shape. In Keras their weights come as a list in another order, in torch one of them has been
# renamed.

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
# A list of arrays has nothing that could notice. Names can. But `strict=False` switches that off, and what is missing
# then keeps its random weights: print what `load_state_dict` returns.

# %%
# %%torch -o missing_torch
found = renamed.load_state_dict(torch.load(f"{folder}/model.pt", weights_only=True), strict=False)
print(found)
missing_torch = found.missing_keys

# %%
assert missing_torch.tolist() == ["one.weight", "one.bias"]

# %% [markdown]
# ## What is forgotten: the optimizer
#
# Training goes on from a file. Is it the same as if it had not stopped? With momentum only if the velocity is
# restored, too. The network here is linear, the loss is the mean square.

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
# In torch you save the optimizer or you do not. In Keras a `.weights.h5` file of a compiled model **holds** the
# velocity, and `load_weights` leaves it out, with a warning, as long as the new model's optimizer has not been built:
# before its first step it has no variables that could be loaded. `optimizer.build(variables)` makes them, as for
# `built_first`.
#
# ## What is too much: a program in a file
#
# A `.pt` file is a pickle, and a pickle may run any program when it is read. `weights_only=True`, the default since
# torch 2.6, reads tensors, numbers, strings, lists, dictionaries and a few more plain types, and no other objects. This
# file, which would print something, is refused.

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
# ## A file for both
#
# Arrays with names, and no program: `safetensors`. What it lacks is what is no weight: epsilon, padding (lesson 2),
# preprocessing (lesson 8). This project's neutral checkpoints are safetensors files in torchvision's names and torch's
# layout, with that **meaning** in their metadata; two entries stand for it here.

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
# **In the wings**: `save` and `restore` in both `weights.py` keep a model that was trained, `read_checkpoint` and
# `write_checkpoint` in both `files.py` read and write each library's own files. `neutral.account_for` in
# `shared/checkpoints/neutral.py` refuses a file in which an array is missing or left over. From the command line:
# `python compare.py convert resnet50.h5 resnet50.pth`.
#
# ## Exercises
#
# 1. Save the last `model` with `torch.save(model, f"{folder}/whole.pt")`, all of it, and read it with
#    `weights_only=True`. What does the refusal name, and why is a whole model a worse file than a `state_dict`?
# 2. Where in `model.weights.h5` does the velocity stand? In a plain cell: `import h5py`, then
#    `h5py.File(f"{folder}/model.weights.h5").visititems(print)`.
# 3. Load `neutral.safetensors` without `.T`. What do you notice, and which shape of layer would have caught the
#    mistake?
#
# <details><summary>Answers</summary>
#
# 1. `torch.nn.modules.linear.Linear`. The file holds no more than the name of the class: once that is moved or renamed,
#    it cannot be read, and to read it at all one must allow programs.
# 2. Below `optimizer/vars`, without names: `0` is the counter of steps, `1` the learning rate, `2` and `3` are the
#    velocities of kernel and bias.
# 3. No error, and outputs that differ by more than 1. Any layer with unlike numbers of inputs and outputs.
#
# </details>
#
# Then find a planted mistake: `python compare.py exercise list` shows the exercises of lesson 7.

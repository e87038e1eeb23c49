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
# # 6. Training mode and running statistics
#
# You will train nothing, and still change a model: by looking at batches. You will predict its running statistics in
# NumPy, to within 1e-5, for both frameworks. About 15 minutes. (Lesson 1 explains the `%%` cells, wings and switches.)
#
# | in words | Keras | torch |
# |---|---|---|
# | training mode is | an argument of the call: `model(x, training=True)` | a state of the module: `model.train()` |
# | who chooses it | `fit` says True, `evaluate` and `predict` False | your loop: `train()`, `eval()` |
# | a model fresh from its constructor | infers: `model(x)` | is in **training** mode |
# | momentum is the weight of | the **old** value, 0.99 | the **new** value, 0.1 |
# | variance that is remembered | of the batch, divided by n | of the batch, divided by n - 1 |
# | variance that normalises the batch | divided by n | divided by n |

# %%
# %load_ext transfer_parity.shared.lessons.magics
import numpy as np

from transfer_parity.shared.core.arrays import largest_difference

random = np.random.default_rng(0)
batches = (2 + 3 * random.normal(size=(10, 4, 5))).astype(np.float32)  # ten batches of four examples, five channels

# %% [markdown]
# ## The mode that nobody chose
#
# Dropout shows the mode: it leaves ones alone, or makes zeros and twos of them.

# %%
# %%tensorflow -o fresh_keras training_keras
import keras
import numpy as np
from keras import layers

dropout = layers.Dropout(0.5)
fresh_keras = np.unique(dropout(np.ones((1, 1000), np.float32)))
training_keras = np.unique(dropout(np.ones((1, 1000), np.float32), training=True))

# %%
# %%torch -o fresh_torch inferring_torch
import torch
from torch import nn

dropout = nn.Dropout(0.5)
fresh_torch = dropout(torch.ones(1, 1000)).unique()
inferring_torch = dropout.eval()(torch.ones(1, 1000)).unique()

# %%
print("Keras, fresh:", fresh_keras, " called for training:", training_keras)
print("torch, fresh:", fresh_torch, " after eval():", inferring_torch)
assert fresh_keras.tolist() == [1] and training_keras.tolist() == [0, 2]
assert fresh_torch.tolist() == [0, 2] and inferring_torch.tolist() == [1]

# %% [markdown]
# So "I loaded the model and called it" is inference in Keras and training in torch. Whoever comes from Keras forgets
# `model.eval()`; whoever comes from torch forgets that a training loop of one's own has to say `training=True`.
# (Keras's layers that augment images are the exception: `RandomFlip` and its like act unless told `training=False`.)
#
# ## Ten batches, no gradient
#
# Both layers as they are shipped, but for epsilon (lesson 2).

# %%
# %%tensorflow -i batches -o mean_keras variance_keras output_keras
norm = layers.BatchNormalization(epsilon=1e-5)
for batch in batches:
    output_keras = norm(batch, training=True)
mean_keras, variance_keras = norm.moving_mean, norm.moving_variance

# %%
# %%torch -i batches -o mean_torch variance_torch output_torch
norm = nn.BatchNorm1d(5)  # fresh, so in training mode
for batch in batches:
    output_torch = norm(torch.tensor(batch))
mean_torch, variance_torch = norm.running_mean, norm.running_var

# %%
print("mean      Keras", mean_keras.round(3), "torch", mean_torch.round(3))
print("variance  Keras", variance_keras.round(3), "torch", variance_torch.round(3))
print(f"outputs in training mode differ by {largest_difference(output_keras, output_torch):.1e}")
assert largest_difference(output_keras, output_torch) < 1e-5  # normalised by the batch in the same way ...
assert largest_difference(variance_keras, variance_torch) > 1  # ... and something else is remembered

# %% [markdown]
# In training mode nobody notices. The statistics come to light in inference, after training: look here first where a
# validation accuracy differs and the training losses do not.
#
# ## Predicted
#
# Both start with mean 0 and variance 1.

# %%


def remembered(momentum_of_old, correction):
    """Running mean and variance after all batches, in float64."""
    mean, variance = np.zeros(5), np.ones(5)
    for batch in batches.astype(np.float64):
        mean = momentum_of_old * mean + (1 - momentum_of_old) * batch.mean(axis=0)
        variance = momentum_of_old * variance + (1 - momentum_of_old) * batch.var(axis=0) * correction
    return mean, variance


n = 4  # values that a channel has in a batch: examples times places
keras_predicted, torch_predicted = remembered(0.99, 1), remembered(0.9, n / (n - 1))
for found, predicted in ((mean_keras, keras_predicted[0]), (variance_keras, keras_predicted[1])):
    assert largest_difference(found, predicted) < 1e-5
for found, predicted in ((mean_torch, torch_predicted[0]), (variance_torch, torch_predicted[1])):
    assert largest_difference(found, predicted) < 1e-5
print("Keras and torch as predicted")

# %% [markdown]
# ## What is left of the start
#
# After k batches, `momentum_of_old ** k` of the first value is left: after ten, 90 % in Keras and 35 % in torch. So a
# model with ImageNet weights that is fine-tuned for ten batches still normalises mostly by ImageNet's statistics in
# Keras (99 % in MobileNetV2 and V3, whose momentum there is 0.999), and mostly by those of the new images in torch.
# Neither is wrong.

# %%
left_keras, left_torch = 0.99**10, 0.9**10
print(f"left of the start: {left_keras:.0%} in Keras, {left_torch:.0%} in torch")
assert (round(left_keras, 2), round(left_torch, 2)) == (0.90, 0.35)
print(f"what a batch of {n} values adds to the variance, at one momentum: {n / (n - 1):.2f} times as much in torch")
assert round(n / (n - 1), 2) == 1.33

# %% [markdown]
# ## Made to agree
#
# The momentum is a matter of writing it down: Keras's 0.9 is torch's 0.1 (switch `bn_momentum`). The variance
# (`bn_running_variance`) cannot be set in either; after each batch it has to be corrected, which is what
# `_count_sample_variance` in `tf_impl/training.py` does.

# %%
# %%tensorflow -i batches -o alike_keras
norm = layers.BatchNormalization(epsilon=1e-5, momentum=0.9)
norm.build((None, 5))
for batch in batches:
    kept = 0.9 * norm.moving_variance.numpy()
    norm(batch, training=True)
    learnt = norm.moving_variance.numpy() - kept  # a tenth of the batch's variance, divided by n
    norm.moving_variance.assign(kept + learnt * len(batch) / (len(batch) - 1))
alike_keras = norm(batches[0], training=False)

# %%
# %%torch -i batches -o alike_torch
alike_torch = norm.eval()(torch.tensor(batches[0]))  # the layer of the ten batches above; eval() returns it

# %%
difference = largest_difference(alike_keras, alike_torch)
print(f"outputs in inference mode differ by {difference:.1e}")
assert difference < 1e-5

# %% [markdown]
# ## A batch of one
#
# One value has no variance. torch refuses one value per channel, so one example without places; one image of 4x4 places
# has 16 values and passes. Keras normalises the one value to zero, and goes on.

# %%
# %%tensorflow -o single_keras
single_keras = layers.BatchNormalization()(np.full((1, 5), 7, np.float32), training=True)

# %%
# %%torch -o refusal_torch
try:
    nn.BatchNorm1d(5)(torch.full((1, 5), 7.0))
    refusal_torch = "none"
except ValueError as error:
    refusal_torch = str(error)
print(refusal_torch)

# %%
assert (single_keras == 0).all()
assert "more than 1 value per channel" in str(refusal_torch)

# %% [markdown]
# So torch's `DataLoader` (lesson 8) is often told `drop_last=True`, which leaves out a last batch that is smaller;
# `tf.data` has `batch(..., drop_remainder=True)`.
#
# **In the wings**: `_count_sample_variance` in `tf_impl/training.py` and `_count_biased_variance` in
# `torch_impl/training.py` are each other's inverse. `clone` in `tf_impl/backbone.py` writes `1 - momentum`, since
# recipes hold torch's.
#
# ## Exercises
#
# 1. A MobileNetV2 sees batches of 32 images; its first normalisation has 112x112 places. At one momentum, by which
#    factor does what a batch adds to the variance differ there, and by which in a network whose last maps have one
#    place?
# 2. `free = nn.BatchNorm1d(5, momentum=None)` exists. Feed it the ten batches and find out what its running mean is.
# 3. How many batches does Keras's default need until 1 % of the start is left, and how many torch's?
#
# <details><summary>Answers</summary>
#
# 1. n / (n - 1) with n = 32 x 112 x 112 = 401 408: 1.0000025. With one place n is 32: 32 / 31 = 1.032.
# 2. The plain mean over all batches so far, and its variance that of their variances (divided by n - 1): a cumulative
#    average, which has no like in Keras.
# 3. log(0.01) / log(0.99) = 458.2, so 459; log(0.01) / log(0.9) = 43.7, so 44.
#
# </details>
#
# Then find a planted mistake: `python compare.py exercise list` shows the exercises of lesson 6.

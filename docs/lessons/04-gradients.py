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
# # 4. Loss, gradients, tape against autograd
#
# You will compute one loss and its gradients in both frameworks and by hand, and meet four habits that do not carry
# over. About 15 minutes. (Lesson 1 explains the `%%` cells, wings, switches and the ladder.)
#
# | in words | Keras on TensorFlow | torch |
# |---|---|---|
# | order of arguments | `loss(targets, logits)` | `loss(logits, targets)` |
# | what the loss expects | probabilities, unless `from_logits=True` | logits |
# | what is recorded | what happens inside `with GradientTape()` | where a tensor `requires_grad`, unless `no_grad()` |
# | gradients are | returned by `tape.gradient` | added to `parameter.grad` by `backward` |
# | a second backward through one graph | an error, unless `persistent=True` | an error, unless `retain_graph=True` |

# %%
# %load_ext transfer_parity.shared.lessons.magics
import numpy as np

from transfer_parity.shared.core.arrays import largest_difference

random = np.random.default_rng(0)
features = random.normal(size=(6, 4)).astype(np.float32)
weight = random.normal(size=(4, 3)).astype(np.float32)  # from 4 features to 3 classes, in Keras's layout
labels = np.array([0, 1, 2, 1, 1, 0])

# %% [markdown]
# ## One loss
#
# Cross entropy of logits z and a label y is `log(sum(exp(z))) - z[y]`, averaged over the batch. Its gradient by the
# logits of N examples is `(softmax(z) - onehot(y)) / N`; multiplied from the left by `features.T` it is that by the
# weights. NumPy needs four lines for both, and decides between the frameworks. (Keras's losses are objects, which are
# built and then called; a *sparse* one takes labels as integers, the other one as one-hot rows.)

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
# ## Habit one: logits or probabilities
#
# `keras.losses` take **probabilities** by default, and do not complain about logits. The loss is then a number without
# meaning, and training still goes somewhere.

# %%
# %%tensorflow -o forgotten_keras
forgotten_keras = keras.losses.SparseCategoricalCrossentropy()(labels, features @ variable)

# %%
print(f"with logits {float(loss_keras):.3f}, the same logits taken for probabilities {float(forgotten_keras):.3f}")
assert abs(forgotten_keras - loss_keras) > 0.1

# %% [markdown]
# ## Habit two: gradients add up
#
# `backward` **adds** to `.grad`. A loop without `optimizer.zero_grad()` steps along the sum of all gradients so far. A
# tape begins anew with each `with`, so Keras has nothing of the kind. To add up a large batch in pieces, torch needs
# several `backward`s of losses, each times its piece's share of the batch (exercise 1); with tapes you add the
# gradients that they return, weighted likewise.

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
# ## Habit three: what a tape watches
#
# A tape watches **variables** by itself, and a plain tensor only after `tape.watch`. In torch a tensor asks for
# gradients with `requires_grad_()`. Who forgets gets `None` from Keras; from torch likewise if something else in the
# sum asks for gradients, and an error if nothing does, as here.

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
# ## Habit four: weighted means
#
# Both average over the batch. With weights they part. Keras's `sample_weight` divides by the **number** of examples,
# torch's class weights by the **sum of the weights**. (One is a weight for each example, the other for each class:
# `class_weights[labels]` makes the first of the second.)

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
# The ratio is the mean weight of the batch, so it changes from batch to batch, as if Keras's learning rate were larger
# by that factor, another one in each step (with plain SGD). Label smoothing by e, on the other hand, is the same
# formula in both: every one of K classes is given e / K, and the true one 1 - e besides.

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
# **In the wings**: `differentiate` in `tf_impl/training.py` and `torch_impl/training.py`: the tape and
# `loss.backward()` stand at the same place. `build_loss` in both `optimizers.py` gives both libraries' losses one order
# of arguments.
#
# ## Exercises
#
# 1. Set `parameter.grad = None`. Add up the gradients of the first three and the last three examples in torch, so that
#    the sum is `gradient_torch`. By what must each loss be multiplied?
# 2. Open a new tape around a loss and call `tape.gradient` twice. Then make it `persistent=True`. What does the same in
#    torch?
# 3. Make a logit 100 and the others 0, label another class, and compute the loss in float32 once from logits and once
#    from probabilities (`tf.nn.softmax`, `torch.softmax(z, 1)`), in both; labels are arrays, `np.array([1])`. Which
#    numbers are wrong, and why? And with `keras.ops.softmax`?
#
# <details><summary>Answers</summary>
#
# 1. By 1/2: each loss is a mean of three, and the whole is a mean of six.
# 2. A RuntimeError, then the same gradient twice. In torch `backward(retain_graph=True)`, which also adds up.
# 3. From logits both say 100. From `tf.nn.softmax` Keras says 16.1, since it clips probabilities at 1e-7; from
#    `keras.ops.softmax` 100, since Keras remembers the logits that a softmax of its own came from. In torch
#    `-log(softmax(z))` is 99.98, since float32 holds 3.8e-44 with few digits, and at a logit of 110 it is infinite.
#
# </details>
#
# Then find a planted mistake: `python compare.py exercise list` shows the exercises of lesson 4.

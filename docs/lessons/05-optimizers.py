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
# # 5. Optimizers that share a name and not a meaning
#
# You will give `SGD`, `Adam` and `RMSprop` of both frameworks the same gradients, see which take the same steps, and
# compute the others' difference from two formulas. About 20 minutes. (Lesson 1 explains the `%%` cells, wings, switches
# and the ladder.)
#
# ## The same gradients for both
#
# No network is needed. Five gradients are drawn in NumPy, and each optimizer walks along them.

# %%
# %load_ext transfer_parity.shared.lessons.magics
import numpy as np

from transfer_parity.shared.core.arrays import largest_difference

random = np.random.default_rng(0)
start = np.ones(4, np.float32)
# Of four sizes: where a gradient is small, an epsilon beside it is large.
gradients = (random.normal(size=(5, 4)) * [1, 1e-2, 1e-4, 1e-6]).astype(np.float32)
constant = np.full(5, 0.1, np.float32)
fallen = np.array([0.1, 0.1, 0.01, 0.01, 0.01], np.float32)  # the rate falls to a tenth at the third step

# %%
# %%tensorflow -i start gradients
import keras
import numpy as np


def walk(optimizer, rates):
    """Weights after each step."""
    variable = keras.Variable(start)
    optimizer.build([variable])  # makes the optimizer's own variables, for every weight its velocity or moments
    steps = []
    for gradient, rate in zip(gradients, rates, strict=True):
        optimizer.learning_rate = float(rate)
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        steps.append(variable.numpy())
    return np.stack(steps)


# %%
# %%torch -i start gradients
import numpy as np
import torch


def walk(make_optimizer, rates):
    """Weights after each step."""
    parameter = torch.nn.Parameter(torch.tensor(start))
    optimizer = make_optimizer([parameter])  # torch's optimizers get their parameters when they are made
    steps = []
    for gradient, rate in zip(gradients, rates, strict=True):
        optimizer.param_groups[0]["lr"] = float(rate)  # parameters come in groups, each with a rate of its own
        parameter.grad = torch.tensor(gradient)  # where backward() would have put it
        optimizer.step()
        steps.append(parameter.detach().numpy().copy())
    return np.stack(steps)


# %% [markdown]
# ## Momentum
#
# Keras's velocity holds the learning rate of its time, torch's does not:
#
# | Keras | torch |
# |---|---|
# | `v = m * v - rate * g` | `v = m * v + g` |
# | `w = w + v` | `w = w - rate * v` |

# %%
# %%tensorflow -i constant fallen -o constant_keras fallen_keras
constant_keras = walk(keras.optimizers.SGD(0.1, momentum=0.9), constant)
fallen_keras = walk(keras.optimizers.SGD(0.1, momentum=0.9), fallen)

# %%
# %%torch -i constant fallen -o constant_torch fallen_torch
constant_torch = walk(lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9), constant)
fallen_torch = walk(lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9), fallen)

# %%
print(f"constant rate: {largest_difference(constant_keras, constant_torch):.1e}")
apart = np.abs(fallen_keras - fallen_torch).max(axis=1)
print("falling rate, after each step:", apart.round(4))
assert largest_difference(constant_keras, constant_torch) < 1e-6
assert apart[1] < 1e-6 < 1e-2 < apart[2]  # the same until the rate falls

# %% [markdown]
# With a schedule the two part at the step at which the rate changes. How far? At that step Keras adds `m * v` with the
# old rate, 0.1, torch with the new one, 0.01:

# %%
velocity = 0.9 * gradients[0] + gradients[1]  # torch's, after two steps
predicted = 0.9 * (0.1 - 0.01) * velocity
print(f"predicted {np.abs(predicted).max():.6f}, found {apart[2]:.6f}")
assert abs(np.abs(predicted).max() - apart[2]) < 1e-6

# %% [markdown]
# ## Adam's epsilon
#
# Kingma and Ba give two forms. torch adds epsilon **after** the bias correction of the second moment, Keras **before**
# it. With `c = sqrt(1 - beta2 ** t)`, Keras's epsilon acts like `epsilon / c`: at the first step 32 times larger.
#
# | Keras | torch |
# |---|---|
# | `w -= rate * c / (1 - b1**t) * m / (sqrt(v) + epsilon)` | `w -= rate / (1 - b1**t) * m / (sqrt(v) / c + epsilon)` |
# | epsilon 1e-7 | epsilon 1e-8 |

# %%
# %%tensorflow -i constant -o adam_keras
adam_keras = walk(keras.optimizers.Adam(0.1, epsilon=1e-7), constant)

# %%
# %%torch -i constant -o adam_torch alike_torch
adam_torch = walk(lambda parameters: torch.optim.Adam(parameters, 0.1, eps=1e-7), constant)

# The same as Keras's, if torch's epsilon is made to change with every step.
parameter = torch.nn.Parameter(torch.tensor(start))
optimizer = torch.optim.Adam([parameter], 0.1)
alike_torch = []
for step, gradient in enumerate(gradients, 1):
    optimizer.param_groups[0]["eps"] = 1e-7 / (1 - 0.999**step) ** 0.5
    parameter.grad = torch.tensor(gradient)
    optimizer.step()
    alike_torch.append(parameter.detach().numpy().copy())

# %%
first = np.abs(adam_keras - adam_torch)[0]
for size, each in zip((1, 1e-2, 1e-4, 1e-6), first, strict=True):
    print(f"gradients of about {size:g}: the first steps differ by {each:.1e}")
print(f"with an epsilon that changes: {largest_difference(adam_keras, np.array(alike_torch)):.1e}")
assert round(1 / np.sqrt(1 - 0.999)) == 32
assert first[0] < 1e-5 < 1e-2 < first[3]
assert largest_difference(adam_keras, np.array(alike_torch)) < 1e-4  # c in float32 holds four digits at step 1

# %% [markdown]
# The same epsilon in both, and yet the smallest gradients step differently, by a good part of the rate. With large
# gradients nobody would have noticed.
#
# ## Weight decay
#
# One word, two regularisers. In torch's `SGD` and `Adam` it is **coupled**: a term of the gradient, which Adam then
# scales like any other. In every Keras optimizer, and in torch's `AdamW`, it is **decoupled**: the weights shrink by
# `rate * decay` beside the step.

# %%
# %%tensorflow -i constant -o sgd_keras adam_keras adamw_keras
sgd_keras = walk(keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.1), constant)
adam_keras = walk(keras.optimizers.Adam(0.1, weight_decay=0.1), constant)
adamw_keras = walk(keras.optimizers.AdamW(0.1, weight_decay=0.1), constant)

# %%
# %%torch -i constant -o plain_torch sgd_torch adam_torch adamw_torch
plain_torch = walk(lambda parameters: torch.optim.SGD(parameters, 0.1, weight_decay=0.1), constant)
sgd_torch = walk(lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9, weight_decay=0.1), constant)
adam_torch = walk(lambda parameters: torch.optim.Adam(parameters, 0.1, eps=1e-7, weight_decay=0.1), constant)
adamw_torch = walk(lambda parameters: torch.optim.AdamW(parameters, 0.1, eps=1e-7, weight_decay=0.1), constant)

# %%
print(f"SGD with momentum {largest_difference(sgd_keras, sgd_torch):.1e}")
print(f"Adam {np.abs(adam_keras - adam_torch)[:, 0].max():.1e}, for gradients of about 1")
print(f"AdamW {np.abs(adamw_keras - adamw_torch)[:, 0].max():.1e}, for gradients of about 1")
assert largest_difference(sgd_keras, sgd_torch) > 1e-2
assert np.abs(adam_keras - adam_torch)[:, 0].max() > 1e-3
assert np.abs(adamw_keras - adamw_torch)[:, 0].max() < 1e-4  # only epsilon is left
assert largest_difference(adam_keras, adamw_keras) < 1e-6  # in Keras, Adam with weight decay is AdamW

# %% [markdown]
# ## RMSprop: three differences at once
#
# | | Keras | torch |
# |---|---|---|
# | weight of the old average | `rho=0.9` | `alpha=0.99` |
# | epsilon | inside: `sqrt(v + 1e-7)` | outside: `sqrt(v) + 1e-8` |
# | learning rate | 0.001 | 0.01 |

# %%
# %%tensorflow -i constant -o default_keras same_keras shipped_keras
shipped = keras.optimizers.RMSprop()
shipped_keras = [shipped.rho, shipped.epsilon, float(shipped.learning_rate)]
default_keras = walk(keras.optimizers.RMSprop(), constant)
same_keras = walk(keras.optimizers.RMSprop(rho=0.99, epsilon=1e-8), constant)

# %%
# %%torch -i constant -o default_torch same_torch shipped_torch
shipped = torch.optim.RMSprop([torch.nn.Parameter(torch.ones(1))]).defaults
shipped_torch = [shipped["alpha"], shipped["eps"], shipped["lr"]]
default_torch = walk(torch.optim.RMSprop, constant)
same_torch = walk(lambda parameters: torch.optim.RMSprop(parameters, alpha=0.99, eps=1e-8), constant)

# %%
assert np.allclose(shipped_keras, [0.9, 1e-7, 0.001]) and np.allclose(shipped_torch, [0.99, 1e-8, 0.01])
apart = np.abs(same_keras - same_torch).max(axis=0)
print("as shipped:", f"{largest_difference(default_keras, default_torch):.1e}")
for size, each in zip((1, 1e-2, 1e-4, 1e-6), apart, strict=True):
    print(f"same rate, average and epsilon, gradients of about {size:g}: {each:.1e}")
assert largest_difference(default_keras, default_torch) > 0.1
# sqrt(1e-8) is 1e-4: inside of the root, an epsilon of 1e-8 is as large as a gradient of a thousandth.
assert apart[0] < 1e-3 < 0.1 < apart[2]

# %% [markdown]
# **In the wings**: `tf_impl/optimizers.py` subclasses Keras's `SGD` and `Adam` (`_SGD`, `_Adam`) so that they mean what
# torch's mean; `torch_impl/optimizers.py` uses torch's classes as they are, which do the weight decay themselves. For
# Keras `Trainer.update` in `tf_impl/training.py` does it.
#
# ## Exercises
#
# 1. Turn Keras's `SGD` with a changing rate into torch's without a subclass: at the step at which the rate changes, by
#    what must `optimizer.momentums[0]` be multiplied beforehand? Check it with `walk`.
# 2. For plain SGD **without** momentum, is coupled weight decay different from decoupled? Compare `plain_torch` with
#    Keras's `SGD(0.1, weight_decay=0.1)`.
# 3. Which of the five optimizers of this lesson would you use if a colleague has to reproduce your training in the
#    other framework, and at which settings?
#
# <details><summary>Answers</summary>
#
# 1. By new rate / old rate. `_as_keras` in `torch_impl/training.py` does the inverse.
# 2. No: `w - rate * (g + decay * w)` is both. Momentum makes the difference, since the decay enters the velocity.
# 3. SGD with momentum at a constant rate, or AdamW with epsilon well below all gradients' sizes.
#
# </details>
#
# The ladder shows each of these as a switch: `python compare.py parity --switch list`.
# Then find a planted mistake: `python compare.py exercise list` shows the exercises of lesson 5.

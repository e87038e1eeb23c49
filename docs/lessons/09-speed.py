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
# # 9. Speed without fooling oneself
#
# "Which framework is faster?" has no answer before five questions are answered: the first step or the thousandth, with
# how many threads, with gradients or without, with which interval, and does the clock wait for the work? You will
# measure one network in both. About 15 minutes. **Your seconds will differ from those here**; the checks are about
# counts, which will not. (Lesson 1 explains the `%%` cells, wings, switches and the ladder.)

# %%
# %load_ext transfer_parity.shared.lessons.magics
import numpy as np

images = np.random.default_rng(0).normal(size=(8, 32, 32, 3)).astype(np.float32)

# %% [markdown]
# ## The same threads
#
# A framework takes all cores unless told otherwise, and two processes that take all of them measure each other. In
# TensorFlow this is settled **before** the first operation; in torch at any time.

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
# ## The first step is another thing
#
# `tf.function` **traces**: the first call runs the Python code to make a graph, later calls run the graph. So the first
# step measures Python and compilation. And it traces again for every new shape, unless the signature leaves the batch
# size open. Python code inside runs only while tracing, which makes it a counter:

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
# torch without `torch.compile` runs line by line, so its first call is slow for smaller reasons: memory is asked for,
# kernels are chosen. With it and `dynamic=False`, as here, the same rule holds as in TensorFlow: a graph for each
# shape. By default it makes one for the first batch size, and at the second another one, whose size is open: for all
# but 1.
#
# What you report depends on what you want to know. A tool that classifies one photograph and ends **is** its first
# step. A training run of an hour is not.
#
# ## What one did not want to measure
#
# | | Keras | torch |
# |---|---|---|
# | Python between the operations | `model(x)` outside of `tf.function` | always, unless compiled |
# | batching, callbacks | `model.predict` | - |
# | a graph for gradients | only inside a tape | unless `inference_mode()` or `no_grad()` |
# | copying from NumPy | `tf.constant` copies | `from_numpy` does not |
# | work that is not finished | a GPU: `.numpy()` waits | a GPU: `torch.cuda.synchronize()` |

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
# Three numbers for one network in one framework. Whoever compares `model.predict` with a torch module in inference mode
# compares habits.
#
# ## A ratio with an interval
#
# Machines are noisy, and the noise comes in spells. So: measure **in turns** (A, B, A, B ...), take each turn's ratio,
# and say how sure the median is. A bootstrap draws the turns again and again, with replacement. Here are two made-up
# series in which B is truly 1.2 times slower and a spell slows everything down half way.

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
# **In the wings**: `engines` in both `inference.py` lists the ways in which a forward pass can be run, `synchronize` in
# both `device.py` waits for the device. `shared/evaluation/speed.py` takes the ratios of repeats that ran in turns;
# `python compare.py --repeats 7` does it for a whole recipe, phase by phase. `docs/speed.md` says what else was found.
#
# ## Exercises
#
# 1. Measure the torch model without `inference_mode()`. Is the difference larger than the interval of the ratio?
# 2. Call `forward` with NumPy arrays, `images[:1]` to `images[:8]`, eight batches of 1 to 8 images. How many new
#    traces?
# 3. Set both to 2 threads (TensorFlow needs a fresh process: restart the notebook). Which of the two gains more, and
#    does the order of the two frameworks change?
#
# <details><summary>Answers</summary>
#
# 1. For so small a network usually not; measure in turns to know.
# 2. A trace for every new shape: batches of 8 and 5 are known already, so 6 more. TensorFlow warns of it.
# 3. There is no answer that holds elsewhere. That is the answer.
#
# </details>
#
# No planted mistake belongs to this lesson: what is slow is not wrong, so the ladder passes it. Those of lesson 10 come
# next: `python compare.py exercise list`.

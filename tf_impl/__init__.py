"""Wing 1: Keras Applications on TensorFlow. Read it side by side with ``torch_impl``: same files, same functions."""

import os

# Before any module imports Keras: its backend, unless someone chose another one, as a pair of one's own may; and no
# start-up notices of TensorFlow's C++ part.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

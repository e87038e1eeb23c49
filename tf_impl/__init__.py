"""Wing 1: Keras Applications on TensorFlow. Read it side by side with ``torch_impl``: same files, same functions."""

import os

# Before any module imports TensorFlow: Keras's backend, and no start-up notices of its C++ part.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

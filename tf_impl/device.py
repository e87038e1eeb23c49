"""Threads, floating-point type and device of the process, and what it runs on."""

from __future__ import annotations

from dataclasses import dataclass

import h5py
import keras
import tensorflow as tf

from transfer_parity.shared.contract.jobs import Runtime


@dataclass(frozen=True)
class Settings:
    """What ``configure`` has settled and TensorFlow does not keep itself.

    Attributes:
        stock: whether everything about execution is left as it is when TensorFlow is installed.
    """

    stock: bool = False


#: State of the module, since it is state of the process: TensorFlow keeps threads, devices and types in the same way.
_settings = Settings()


def configure(threads: int, precision: str, device: str, runtime: Runtime = "tuned") -> None:
    """Set threads, floating-point type and device, once, before anything is built."""
    global _settings
    _settings = Settings(stock=runtime == "stock")
    if not _settings.stock:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    if device == "cpu":
        tf.config.set_visible_devices([], "GPU")
    for gpu in tf.config.get_visible_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    # float32 means float32: TF32 would keep only 10 bits of the mantissa on recent GPUs.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    # bfloat16 is the backbone's arithmetic; weights, head and optimizer stay float32.
    keras.config.set_floatx("float64" if precision == "float64" else "float32")
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else precision)
    keras.config.set_image_data_format("channels_last")


def settings() -> Settings:
    """What the process was configured to."""
    return _settings


def environment() -> tuple[dict[str, str], str]:
    """Versions by package, and the device in words."""
    gpus = tf.config.get_visible_devices("GPU")
    device = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else "CPU"
    return {"tensorflow": tf.__version__, "keras": keras.__version__, "h5py": h5py.__version__}, str(device)


def synchronize() -> None:
    """Wait until the device has done all that was asked of it."""
    if tf.config.get_visible_devices("GPU"):
        tf.test.experimental.sync_devices()

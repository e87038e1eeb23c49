"""Threads, floating-point type and device of the process, and what it runs on."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torchvision

from transfer_parity.shared.contract.jobs import Runtime


@dataclass(frozen=True)
class Settings:
    """What ``configure`` has settled and torch does not keep itself.

    Attributes:
        stock: whether everything about execution is left as it is when torch is installed.
        device: where networks and batches go: torch's users say it for every tensor.
        reduced: type of the backbone's arithmetic where it is not that of the weights, or None.
    """

    stock: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    reduced: torch.dtype | None = None


#: State of the module, since it is state of the process: torch keeps threads and its default type in the same way.
_settings = Settings()


def configure(threads: int, precision: str, device: str, runtime: Runtime = "tuned") -> None:
    """Set threads, floating-point type and device, once, before anything is built."""
    global _settings
    chosen = torch.device("cuda" if device == "auto" and torch.cuda.is_available() else "cpu")
    # bfloat16 is the backbone's arithmetic; weights, head and optimizer stay float32.
    _settings = Settings(runtime == "stock", chosen, torch.bfloat16 if precision == "bfloat16" else None)
    if not _settings.stock:
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
    # float32 means float32: TF32 would keep only 10 bits of the mantissa on recent GPUs.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.set_default_dtype(torch.float64 if precision == "float64" else torch.float32)


def settings() -> Settings:
    """What the process was configured to."""
    return _settings


def environment() -> tuple[dict[str, str], str]:
    """Versions by package, and the device in words."""
    device = torch.cuda.get_device_name(_settings.device) if _settings.device.type == "cuda" else "CPU"
    return {"torch": torch.__version__, "torchvision": torchvision.__version__}, device


def synchronize() -> None:
    """Wait until the device has done all that was asked of it."""
    if _settings.device.type == "cuda":
        torch.cuda.synchronize(_settings.device)

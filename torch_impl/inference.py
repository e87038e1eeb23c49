"""Batched features and logits, and the ways to run a forward pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch.utils.flop_counter import FlopCounterMode

from transfer_parity.shared.contract.engines import Engine, efficiency
from transfer_parity.shared.contract.wing import Array, Part
from transfer_parity.shared.core.clocks import fastest
from transfer_parity.torch_impl.fusion import fuse, has_depthwise
from transfer_parity.torch_impl.network import Network

#: Measured on two cores; docs/speed.md says on which.
FUSED_SETUP_SECONDS, FUSED_SPEEDUP = 0.3, 1.5


def engines(network: Network, part: Part, in_float64: bool = False) -> tuple[Engine, ...]:
    """The ways to run a part in inference mode here; the first is the network as it is.

    Args:
        network: whose.
        part: of it.
        in_float64: whether to name those, too, that are not offered in float64 and yet compute in it.
    """
    depthwise = has_depthwise(network.models[part])
    eager = Engine("eager", efficiency=efficiency(depthwise))
    exact = torch.get_default_dtype() == torch.float64
    if network.stock or (exact and not in_float64) or network.device.type != "cpu":
        # float64 is for finding differences, and on a GPU none of this has been measured.
        return (eager,)
    # Without depthwise convolutions nearly all of the time is spent in products of matrices whatever is done.
    return (eager, Engine("fused", FUSED_SETUP_SECONDS, FUSED_SPEEDUP if depthwise else 1.03))


def infer(network: Network, part: Part, batches: Iterable[Array], engine: str | None = None) -> Iterator[Array]:
    """Outputs for each batch of inputs, in inference mode, as arrays of the recipe's floating-point type.

    Args:
        network: whose weights are loaded.
        part: "features", "frozen" or "all" take uint8 images (b, S, S, 3), "head" and "trainable" what these put out.
        batches: of any size, also of different sizes.
        engine: the name of one of ``engines``; prepared anew for every call, since weights change between calls.
    """
    network.eval()
    # A user who takes torch as it is writes no_grad; inference mode leaves out more bookkeeping.
    mode = torch.no_grad if network.stock else torch.inference_mode
    with mode():
        forward = fuse(network.models[part]) if engine == "fused" else network.models[part]
    for batch in batches:
        with mode():
            output = forward(network.prepare(part, torch.from_numpy(batch)))
            # Feature maps leave as (N, H, W, C), as TensorFlow has them.
            array = (output.movedim(1, -1) if output.ndim == 4 else output).cpu().numpy()
        # Outside of the mode, which would be the caller's until the next batch.
        yield array


def multiply_adds(network: Network, part: Part) -> int:
    """Multiplications with weights in the convolutions and dense layers of a part that takes images, for one image."""
    side = network.spec.image_size
    counter = FlopCounterMode(display=False)
    network.eval()
    with torch.inference_mode(), counter:
        network.models[part](network.prepare(part, torch.zeros((1, side, side, 3), dtype=torch.uint8)))
    return int(counter.get_total_flops()) // 2


def matrix_product_rate(network: Network, size: int = 1536) -> float:
    """Multiply-adds a second of a square matrix product, the fastest of some; the machine's ceiling for torch."""
    dtype = network.reduced or torch.get_default_dtype()
    a = torch.ones(size, size, dtype=dtype, device=network.device)
    # The sum's value is there only when the device has done its work.
    return size**3 / fastest(lambda: (a @ a).sum().item())

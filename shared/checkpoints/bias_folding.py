"""Parameters that only one library has: convolution biases (Keras's ResNet), scales (torchvision's InceptionV3).

A convolution's bias b moves what the normalisation behind it subtracts: (Wx + b - mean) = (Wx - (mean - b)). So it can
be folded into the running mean, and a model without biases computes the same function.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from transfer_parity.shared.checkpoints.neutral import Arrays
from transfer_parity.shared.contract.wings import KERAS, TORCHVISION
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.zoo.pair import Pair, Semantics


def conform(arrays: Arrays, pair: Pair, semantics: Semantics, what: str) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """The same function with the parameters that a model has under the given semantics.

    For torchvision's, convolution biases are folded into the running means, in float64 and rounded once, and absent
    scales become ones. For Keras's, absent biases become zeros, and scales that are all one are left out.

    Args:
        arrays: by neutral name, in torch's layout.
        pair: the architecture.
        semantics: whose parameters are wanted.
        what: the arrays' file, for the message.

    Returns:
        The arrays, and the names of the biases that were folded and not just zero.

    Raises:
        BadInput: Keras's InceptionV3 is wanted, but scales are not one.
    """
    found = dict(arrays)
    folded: list[str] = []
    if "conv_bias" in pair.structure:
        for name in [name for name in found if _is_kernel(name, found)]:
            bias, mean = f"{name.removesuffix('weight')}bias", _running_mean_behind(name)
            if mean not in found:
                continue
            if semantics == KERAS.library:
                found.setdefault(bias, np.zeros(len(found[name]), found[name].dtype))
            elif bias in found and found[bias].shape == found[mean].shape:
                shift = found.pop(bias)
                if shift.any():
                    exact = found[mean].astype(np.float64) - shift.astype(np.float64)
                    found[mean] = exact.astype(found[mean].dtype)
                    folded.append(bias)
    if "bn_scale" in pair.structure:
        for name in [name for name in found if name.endswith(".running_var")]:
            scale = name.removesuffix("running_var") + "weight"
            if semantics == TORCHVISION.library:
                found.setdefault(scale, np.ones(found[name].shape, found[name].dtype))
            elif scale in found and (found.pop(scale) != 1).any():
                raise BadInput(
                    f"{what}: {scale} is not one, but Keras's {pair.name} normalises without a scale; "
                    "give --semantics torchvision."
                )
    return found, folded


def _is_kernel(name: str, arrays: Arrays) -> bool:
    return name.endswith(".weight") and arrays[name].ndim == 4


def _running_mean_behind(kernel: str) -> str:
    """Of a ResNet's convolution: ``layer1.0.conv2.weight`` to ``layer1.0.bn2.running_mean``."""
    module = kernel.removesuffix(".weight")
    if module.endswith("downsample.0"):
        return f"{module[:-1]}1.running_mean"
    block, _, layer = module.rpartition(".")
    return f"{block}{'.' if block else ''}{layer.replace('conv', 'bn')}.running_mean"

"""The last feature map and what a class's logit owes to it: for maps, see ``shared.evaluation.gradcam``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from transfer_parity.shared.contract.wing import Array
from transfer_parity.torch_impl.internals import Reduced
from transfer_parity.torch_impl.network import Network


def class_gradients(network: Network, images: Array, classes: Array) -> tuple[Array, Array]:
    """The backbone's last feature map, and the gradient of each image's class logit with respect to it.

    In inference mode: normalisations frozen, nothing dropped.

    Args:
        network: whose weights are loaded, with one of the recipe's heads.
        images: uint8 (b, S, S, 3).
        classes: index of the class to explain for each image, int64 (b,).

    Returns:
        Activations and gradients in the recipe's floating-point type, both (b, h, w, c). The feature map is what global
        average pooling receives, or the convolutional head.

    Raises:
        ValueError: the network ends in the architecture's own classifier.
    """
    backbone, rest = _halves(network)
    network.eval()
    # Not inference mode: autograd refuses tensors that were made in it.
    with torch.no_grad():
        activations = backbone(network.prepare("all", torch.from_numpy(images)))
    activations.requires_grad_()
    logits = rest(activations)
    # Images do not depend on each other, so the gradient of the sum holds each one's own.
    chosen = logits.gather(1, torch.from_numpy(classes).to(network.device)[:, None]).sum()
    (gradients,) = torch.autograd.grad(chosen, activations)
    return _numpy(activations), _numpy(gradients)


def _halves(network: Network) -> tuple[nn.Module, nn.Module]:
    """Preprocessed images to the last feature map, and that to logits."""
    if network.spec.head == "imagenet":
        raise ValueError("class-activation maps need one of the recipe's heads, not the architecture's own classifier")
    body, pooling = network.features[0], network.features[1:]
    return Reduced(body, network.reduced), nn.Sequential(pooling, network.head)


def _numpy(feature_map: Tensor) -> Array:
    """(b, c, h, w) to (b, h, w, c), as TensorFlow has it."""
    return feature_map.detach().movedim(1, -1).cpu().numpy()

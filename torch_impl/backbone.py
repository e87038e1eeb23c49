"""The stock architectures of torchvision.models, adapted to the semantics that a checkpoint was trained under.

torch modules can be edited in place, so each adaptation changes the stock model: an attribute, a convolution, or a hook
in front of one. Parameter names stay torchvision's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torchvision.ops import StochasticDepth
from torchvision.ops.misc import SqueezeExcitation

from transfer_parity.shared.checkpoints import flattening
from transfer_parity.shared.contract.spec import ModelSpec
from transfer_parity.shared.runtime import microbatch
from transfer_parity.shared.zoo.pair import Pair
from transfer_parity.torch_impl import internals


def stock(
    pair: Pair, image_size: int, classifier: bool = False, classes: int = 1000, imagenet: bool = False
) -> nn.Module:
    """The model as torchvision builds it.

    Args:
        pair: the architecture.
        image_size: side of the square RGB images in pixels, which torchvision's models need not know: they take any.
        classifier: whether it ends in logits; by default it ends in front of the classifier.
        classes: of the classifier.
        imagenet: with torchvision's own ImageNet weights (the first version that it published), which are downloaded;
            by default with undefined ones.
    """
    options: dict[str, Any] = {"num_classes": classes}
    if pair.family == "InceptionV3":
        # No auxiliary head, which Keras lacks, and no drawing of weights.
        options |= {"aux_logits": False, "init_weights": False}
    # On the meta device nothing is drawn: all weights come from a checkpoint or from the plan.
    with torch.device("meta"):
        model = torchvision.models.get_model(pair.torchvision_name, weights=None, **options)
    if not classifier:
        for name in pair.classifier:
            setattr(model, name, nn.Identity())
    model = model.to_empty(device="cpu")
    if imagenet:
        chosen = torchvision.models.get_model_weights(pair.torchvision_name)["IMAGENET1K_V1"]
        # Not get_model's own way, which unpickles whatever the file holds.
        state = chosen.get_state_dict(progress=False, check_hash=True, weights_only=True)
        named = {internals.present_name(name): each for name, each in state.items() if "AuxLogits" not in name}
        model.load_state_dict(named, strict=classifier)
    return model


def build(spec: ModelSpec) -> nn.Module:
    """Images (N, 3, S, S), preprocessed, to the last feature map (N, C, H, W), under the checkpoint's semantics.

    With head "imagenet" the result ends in the architecture's own logits (N, classes).
    """
    model = stock(spec.pair, spec.image_size, classifier=spec.head == "imagenet", classes=spec.classes)
    for aspect in spec.pair.structure:
        if spec.meaning(aspect) == "keras":
            _KERAS[aspect](model)
    if spec.head == "imagenet" and spec.pair.family == "VGG":
        _flatten_as_it_is(model, spec)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = spec.batch_norm.epsilon  # differs: bn_epsilon
            module.momentum = spec.batch_norm.momentum  # differs: bn_momentum
            # Defined, also where a checkpoint has nothing for it: no scale means one.
            module.reset_parameters()
        depthwise = isinstance(module, nn.Conv2d) and module.groups == module.in_channels == module.out_channels
        if depthwise and torch.get_default_dtype() == torch.float64:
            module.__class__ = _DepthwiseConv2d
        if isinstance(module, nn.Dropout | StochasticDepth) and "dropout" not in spec.switches:
            # A matched run leaves nothing to a framework's random generator.
            module.p = 0.0
        if isinstance(module, SqueezeExcitation) and isinstance(module.scale_activation, nn.Hardsigmoid):
            module.scale_activation = nn.Hardsigmoid() if "hard_sigmoid" in spec.switches else _HardSigmoid()
    if spec.pair.family == "DenseNet":
        # A function call in torchvision.models.DenseNet.forward, behind ``features``.
        model.last_activation = nn.ReLU()
    return _Backbone(model, spec.pair, whole=spec.head == "imagenet")


def cut(model: nn.Module, pair: Pair, frozen_stages: int) -> tuple[nn.Module, nn.Module]:
    """A backbone in two: the frozen stages, and everything behind them."""
    units = list(_units(model.get_submodule("model"), pair))
    return (
        nn.Sequential(*(unit for stage, unit in units if stage < frozen_stages)),
        nn.Sequential(*(unit for stage, unit in units if stage >= frozen_stages)),
    )


class _HardSigmoid(nn.Module):
    """The hard sigmoid, min(max(x + 3, 0), 6) / 6 (Howard et al., Searching for MobileNetV3, 2019).

    nn.Hardsigmoid is the same forward, but its gradient is float32's 1/6 even where everything else is float64: an
    error of 5e-9.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return F.relu6(x + 3) / 6


class _DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution that is quick in float64, too.

    torch's CPU library for float64 works through it channel by channel, and several threads wait for one another at
    each. All but the forward pass, its hooks and the names of its parameters, stays torch's.
    """

    #: Whose function it computes, for what knows torch's own classes alone.
    stands_for = nn.Conv2d

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """(N, C, H, W) to (N, C, height, width)."""
        if input.device.type != "cpu" or input.dim() == 3:
            return super().forward(input)
        assert not isinstance(self.padding, str)
        (rows, columns), (down, right) = self.padding, self.stride
        # Channel by channel, as the sums are: what came out of a convolution may have its channels last.
        padded = F.pad(input.contiguous(), (columns, columns, rows, rows))
        convolved: Tensor = _ShiftedSum.apply(padded, self.weight, (down, right))
        return convolved if self.bias is None else convolved + self.bias[:, None, None]


class _ShiftedSum(torch.autograd.Function):
    """A depthwise convolution as a sum over the cells of its kernel, each times a shifted image.

    With a backward pass of its own: autograd's would fill an image with zeros, and add it, for each cell. Some images
    at a time, as many as stay in the processor's cache.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, int]) -> Tensor:
        """Padded images (N, C, H, W) and kernels (C, 1, h, w) to (N, C, height, width)."""
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        height, width = ((x.shape[axis] - weight.shape[axis]) // stride[axis - 2] + 1 for axis in (2, 3))
        total = x.new_zeros(*x.shape[:2], height, width)
        for some in _in_cache(x):
            for shifted, cell in _cells(weight, total, stride):
                total[some].addcmul_(x[some][shifted], weight[cell][:, None, None])
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """The gradient by what was put out, to those by the padded images and by the kernels; None where not asked."""
        x, weight = ctx.saved_tensors
        for_x, for_weight, _ = ctx.needs_input_grad
        by_x = torch.zeros_like(x) if for_x else None
        by_weight = torch.zeros_like(weight) if for_weight else None
        for some in _in_cache(x):
            behind = above[some].contiguous()
            for shifted, cell in _cells(weight, above, ctx.stride):
                if by_x is not None:
                    by_x[some][shifted].addcmul_(behind, weight[cell][:, None, None])
                if by_weight is not None:
                    by_weight[cell] += (x[some][shifted] * behind).sum((0, 2, 3))
        return by_x, by_weight, None


def _in_cache(images: Tensor) -> Iterator[slice]:
    """Which images are worked on at a time, with their outputs and, in the backward pass, both gradients."""
    each = 4 * images.element_size() * max(1, images.shape[1:].numel())
    size = max(1, microbatch.CACHE_BYTES // each)
    return (slice(start, start + size) for start in range(0, len(images), size))


def _cells(weight: Tensor, output: Tensor, stride: tuple[int, int]) -> Iterator[tuple[Any, Any]]:
    """For each cell of kernels (C, 1, h, w): where the images stand that it is multiplied with, and where it stands."""
    spans = [step * (size - 1) + 1 for step, size in zip(stride, output.shape[2:], strict=True)]
    for i, j in itertools.product(*map(range, weight.shape[2:])):
        rows, columns = (slice(at, at + span, step) for at, span, step in zip((i, j), spans, stride, strict=True))
        yield (..., rows, columns), (slice(None), 0, i, j)


class _Backbone(nn.Module):
    """A stock model, whole or up to its last feature map, with the stock model's parameter names behind ``model.``."""

    def __init__(self, model: nn.Module, pair: Pair, whole: bool) -> None:
        super().__init__()
        self.model = model
        # A list is no submodule: the parameters keep the names that they have in the model.
        self.units: list[nn.Module] = [model] if whole else [unit for _, unit in _units(model, pair)]

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, S, S) to (N, C, H, W), or to (N, classes) if the model is whole."""
        x = images
        for unit in self.units:
            x = unit(x)
        return x


def _units(model: Any, pair: Pair) -> Iterator[tuple[int, nn.Module]]:
    """The stock forward pass up to the last feature map, as a sequence of modules and their stages."""
    modules: Iterable[tuple[str, nn.Module]]
    if pair.family == "ResNet":
        # torchvision.models.ResNet.forward without its last three lines: pooling, flattening, classifier.
        names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
        modules = [(name, getattr(model, name)) for name in names]
    elif pair.family == "InceptionV3":
        # The children in order are the forward pass; transform_input belongs to the preprocessing.
        names = tuple(name for name, _ in model.named_children())
        modules = [(name, getattr(model, name)) for name in names[: names.index("Mixed_7c") + 1]]
    else:
        modules = [(f"features.{name}", child) for name, child in model.features.named_children()]
    if pair.family == "DenseNet":
        modules = [*modules, ("last_activation", model.last_activation)]
    stage = 0
    for name, module in modules:
        # What holds no parameters (an activation, a pooling) belongs to the stage before it.
        stage = pair.stage_of(f"{name}.") or stage
        yield stage, module


def _flatten_as_it_is(model: Any, spec: ModelSpec) -> None:
    """torchvision's VGG pools every image to 7x7 in front of its dense layers, Keras's takes the feature map as it is.

    At the 224 pixels of both libraries' weights the two are the same.
    """
    side = flattening.map_side(spec.image_size)
    model.avgpool = nn.Identity()
    model.classifier[0] = nn.Linear(spec.pair.channels * side * side, model.classifier[0].out_features)


def _pad_same(module: nn.Conv2d, inputs: tuple[Tensor]) -> Tensor:
    """A hook that pads as TensorFlow's "same" does: so that ceil(size/stride) outputs fit, an odd pixel at the end."""
    (x,) = inputs
    padding: list[int] = []
    # F.pad counts the sides from the last dimension to the first.
    for size, kernel, stride in zip(
        reversed(x.shape[2:]), reversed(module.kernel_size), reversed(module.stride), strict=True
    ):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        padding += [total // 2, total - total // 2]
    return F.pad(x, padding)


def _pad_same_where_strided(model: nn.Module) -> None:
    """At stride 2 Keras pads bottom and right first; torch pads all sides alike, whatever the image's size."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.stride != (1, 1) and module.kernel_size != (1, 1):
            module.padding = (0, 0)
            module.register_forward_pre_hook(_pad_same)


def _move_stride(model: nn.Module) -> None:
    """Keras's ResNet halves the image in the first 1x1 convolution of a stage, torchvision's in the 3x3 ("v1.5")."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and name in ("layer2.0.conv1", "layer3.0.conv1", "layer4.0.conv1"):
            module.stride = (2, 2)
        if isinstance(module, nn.Conv2d) and name in ("layer2.0.conv2", "layer3.0.conv2", "layer4.0.conv2"):
            module.stride = (1, 1)


def _with_bias(model: nn.Module) -> None:
    """The convolutions of Keras's ResNet have biases, which the normalisation behind them makes superfluous."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.bias = nn.Parameter(torch.zeros(module.out_channels))


def _exclude_padding(module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    """A hook behind a 3x3 average pooling with padding 1: turns the mean over nine cells into one over the real ones.

    At the border of the image only 6, in its corners only 4 of the nine cells are real.
    """
    (x,) = inputs
    # Part of the cells that are real. In operations that torch.fx can trace.
    return x / F.avg_pool2d(torch.ones_like(x[:1, :1]), 3, stride=1, padding=1)


def _without_scale(model: nn.Module) -> None:
    """Keras's normalisation in InceptionV3 has no scale."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            # A constant, no parameter: Keras's layers have none, so checkpoints have none.
            del module.weight
            module.register_buffer("weight", torch.ones(module.num_features), persistent=False)


def _count_real_cells(model: nn.Module) -> None:
    """Keras's average pooling in InceptionV3 leaves the padded zeros out of the mean."""
    for name, module in model.named_modules():
        if name.endswith("branch_pool"):
            # The pooling is a function call inside the stock forward pass; what follows it is this module.
            module.register_forward_pre_hook(_exclude_padding)


#: What it takes to give the stock torchvision model Keras's meaning of one aspect of its structure.
_KERAS: dict[str, Callable[[nn.Module], None]] = {
    "same_padding": _pad_same_where_strided,
    "resnet_stride": _move_stride,
    "conv_bias": _with_bias,
    "bn_scale": _without_scale,
    "average_pooling": _count_real_cells,
}

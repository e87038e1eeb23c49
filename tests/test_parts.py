"""Parts and engines of a network: a cut in two is the same function, and so is every way to run it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.processes import last_line

#: One of every family.
FAMILIES = (
    *("VGG16", "ResNet50", "InceptionV3", "DenseNet121", "MobileNetV2", "MobileNetV3Small"),
    *("EfficientNetB0", "EfficientNetV2S", "ConvNeXtTiny"),
)
#: Those that are tried at once: with and without depthwise convolutions, as the origins of weights are.
FAST = [("MobileNetV2", "torchvision"), ("ResNet50", "keras")]

PROGRAM = """
import json
import numpy as np
from transfer_parity.shared.checkpoints import initialisation
from transfer_parity.shared.contract import recipe_files
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.spec import model_spec
from transfer_parity.shared.zoo.lookup import find_pair
from transfer_parity.{wing}.wing import WING as wing
wing.device.configure(1, "float32", "cpu")
def infer(network, part, inputs, engine=None):
    # A small last batch, as most data sets have.
    return np.concatenate(list(wing.inference.infer(network, part, [inputs[:2], inputs[2:]], engine)))
found = []
for name, semantics in {cases!r}:
    pair = find_pair(name)
    side = max(64, pair.smallest_image)
    images = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8)
    metadata = Metadata(backbone=name, semantics=semantics)
    for stages in {stages!r} or range(1, len(pair.stages)):
        values = dict(backbone=name, strategy="finetune", finetune_stages=stages, image_size=side, weights="random",
                      control=False)
        network = wing.network.build(model_spec(recipe_files.validated(values, ""), metadata, 5))
        shapes = wing.weights.shapes(network)
        wing.weights.load(network, initialisation.draw_trained_looking_weights(shapes, 0))
        logits = infer(network, "all", images)
        size = np.abs(logits).max()
        middle = infer(network, "frozen", images)
        away = {{"cut": float(np.abs(infer(network, "trainable", middle) - logits).max() / size)}}
        away["halves"] = float(np.abs(infer(network, "head", infer(network, "features", images)) - logits).max() / size)
        # What lies behind the cut does not change how a part is run.
        for engine in wing.inference.engines(network, "all")[1:] if stages == 1 else []:
            away[engine.name] = float(np.abs(infer(network, "all", images, engine.name) - logits).max() / size)
            frozen = infer(network, "frozen", images, engine.name)
            away[engine.name + " frozen"] = float(np.abs(frozen - middle).max() / np.abs(middle).max())
        found.append([name, semantics, stages, middle.shape, away, wing.inference.multiply_adds(network, "frozen")])
print(json.dumps(found))
"""


def run(wing: str, cases: list[tuple[str, str]], stages: list[int] | None) -> list[list[object]]:
    return list(json.loads(last_line(PROGRAM.format(wing=wing, cases=cases, stages=stages))))


def check(cases: list[tuple[str, str]], stages: list[int] | None = None) -> None:
    torch, tensorflow = (run(wing, cases, stages) for wing in ("torch_impl", "tf_impl"))
    assert len(torch) == len(tensorflow) >= len(cases)
    for ours, theirs in zip(torch, tensorflow, strict=True):
        assert ours[:3] == theirs[:3]
        # The same number of multiplications, counted by each wing in its own way.
        assert ours[5] == theirs[5], ours
        for found in (ours, theirs):
            away = found[4]
            assert isinstance(away, dict)
            assert set(away) == {"cut", "halves"} | ({"fused", "fused frozen"} if found[2] == 1 else set())
            # float32: about 1e-7 a layer; another stride, padding or activation shows at 1e-2 and above.
            assert max(away.values()) < 1e-4, found


def test_parts_and_engines() -> None:
    check(FAST, [1])


@pytest.mark.slow
def test_parts_and_engines_of_all_families() -> None:
    check([(name, semantics) for name in FAMILIES for semantics in ("torchvision", "keras")])


MULTIPLY_ADDS = """
from transfer_parity.shared.contract import recipe_files
from transfer_parity.shared.contract.spec import model_spec
from transfer_parity.torch_impl import device, inference, network
device.configure(1, "float32", "cpu")
for name in ("MobileNetV2", "ResNet50"):
    spec = model_spec(recipe_files.validated(dict(backbone=name), ""), None, 5)
    print(inference.multiply_adds(network.build(spec), "features"), end=" ")
"""


@pytest.mark.slow
def test_multiply_adds_are_the_published_ones() -> None:
    """Without the classifier: MobileNetV2 0.300 G (Sandler et al., 2018), ResNet50 v1.5 4.09 G (torchvision)."""
    mobile, resnet = map(int, last_line(MULTIPLY_ADDS).split())
    assert mobile == pytest.approx(0.300e9, rel=0.01)
    assert resnet == pytest.approx(4.09e9, rel=0.01)


SECTIONS = """
import json, torch
from torch import fx, nn
from transfer_parity.torch_impl.internals import Sections

class Narrowing(nn.Module):
    # A shortcut, past which nothing may be cut, and a constant that is used on both sides of a cut.
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.wide, self.same = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.pool, self.last = nn.MaxPool2d(4), nn.Conv2d(16, 8, 3, padding=1)

    def forward(self, x):
        x = self.wide(x) * self.scale
        x = self.pool(x + self.same(x))
        x = self.last(x) * self.scale
        return x.mean((2, 3)).reshape(x.shape[0], -1)

torch.manual_seed(0)
with torch.inference_mode():
    network, images = fx.symbolic_trace(Narrowing()), torch.rand(5, 3, 16, 16)
    found = []
    for kilobytes in (1, 50, 100, 1000):
        cut = Sections(network, kilobytes * 1024)
        away = float((cut(images) - network(images)).abs().max())
        parts = [[node.name for node in section.inner.graph.nodes] for section in cut.sections]
        found.append([[section.microbatch for section in cut.sections], parts, away])
    print(json.dumps(found))
"""


def test_sections_and_their_microbatches() -> None:
    """Maps of one image take 3 KiB at first, then 16, of which three are needed at a time (48 KiB), then 1 and less."""
    found = json.loads(last_line(SECTIONS))
    assert all(away < 1e-6 for _, _, away in found)
    sizes = [each for each, _, _ in found]
    # Even the last map but one, 0.5 KiB in and out, just fits: one image at a time all the way.
    assert sizes[0] == [1]
    assert [each[0] for each in sizes[1:]] == [1, 2, 16]
    for each, (first, *others), _ in found[1:]:
        assert len(each) == len(others) + 1 > 1
        assert each == sorted(set(each))
        assert all(size & (size - 1) == 0 for size in each)
        # The sum and both of its terms are together, and the constant is there again where it is needed again.
        assert {"scale", "mul", "same", "add"} <= set(first)
        assert any({"scale", "mul_1"} <= set(other) for other in others)


SHIFTED_SUMS = """
import itertools, json, torch
from torch import nn
from transfer_parity.torch_impl import backbone

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
found = []
for cache, kernel, stride, padding, last, bias in itertools.product(
    (1, 16 * 2**20), (3, 5, (3, 5)), (1, 2, (2, 1)), (0, 1, (2, 1)), (False, True), (False, True)
):
    backbone.microbatch.CACHE_BYTES = cache
    own, other = (nn.Conv2d(6, 6, kernel, stride, padding, groups=6, bias=bias) for _ in range(2))
    other.load_state_dict(own.state_dict())
    own.__class__ = backbone._DepthwiseConv2d
    x = torch.randn(4, 6, 9, 8)
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    said = []
    for each in (own, other):
        given = x.clone().requires_grad_()
        y = each(given)
        # Neither contiguous nor of one sign.
        weights = torch.linspace(-1, 2, y.numel()).reshape(y.shape[3], y.shape[2], *y.shape[:2]).permute(2, 3, 1, 0)
        (y * weights).sum().backward()
        said.append([y, given.grad, *(parameter.grad for parameter in each.parameters())])
    found.append(max(float((a - b).abs().max()) for a, b in zip(*said, strict=True)))
own.weight.grad = None
own.weight.requires_grad_(False)
given = x.clone().requires_grad_()
own(given).sum().backward()
frozen = [own.weight.grad is None, given.grad is not None, list(own(x[:0]).shape), list(own(x[0]).shape)]
print(json.dumps([max(found), len(found), *frozen]))
"""


def test_depthwise_convolutions_in_float64_are_torchs() -> None:
    """Outputs and all gradients, one image at a time or all; 25 products of numbers up to 20 are summed, and 288."""
    away, number, *frozen = json.loads(last_line(SHIFTED_SUMS))
    assert number == 216 and away < 288 * 2**-53 * 100
    assert frozen[:2] == [True, True] and frozen[2][:2] == [0, 6] and len(frozen[3]) == 3


GENTLE = """
import json
import numpy as np, torch
from transfer_parity.shared.contract import recipe_files
from transfer_parity.shared.contract.spec import model_spec
from transfer_parity.torch_impl import device, inference, network
device.configure(1, "float32", "cpu")
recipe = recipe_files.validated(dict(image_size=32, weights="random", control=False), "")
classifier = network.build(model_spec(recipe, None, 3))
outputs = inference.infer(classifier, "all", [np.zeros((1, 32, 32, 3), np.uint8)] * 2)
next(outputs)
print(json.dumps([torch.is_inference_mode_enabled(), torch.is_grad_enabled()]))
"""


def test_a_pass_half_way_leaves_the_mode_to_its_caller() -> None:
    assert json.loads(last_line(GENTLE)) == [False, True]


ADAM = """
import json
import keras, numpy as np
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.tf_impl.optimizers import build_optimizer
gradient, found = np.array([0.1, -0.2, 0.3], np.float32), []
variable = keras.Variable(np.zeros(3, np.float32))
optimizer = build_optimizer(Recipe(learning_rate=0.5, epsilon=1e-30), [variable])
for step in range(3):
    before = variable.numpy()
    optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    found.append((variable.numpy() - before).tolist())
print(json.dumps(found))
"""


def test_adams_first_steps_in_tensorflow() -> None:
    """Under a constant gradient each step is the learning rate: the bias corrections, rounded, would be off by 6e-6."""
    for update in json.loads(last_line(ADAM)):
        np.testing.assert_allclose(update, [-0.5, 0.5, -0.5], rtol=1e-6)


TRAINING = """
import json
import numpy as np
from transfer_parity.shared.checkpoints import initialisation
from transfer_parity.shared.contract import recipe_files
from transfer_parity.shared.contract.batches import Batch
from transfer_parity.shared.contract.spec import model_spec
from transfer_parity.{wing}.wing import WING as wing
wing.device.configure(1, "float64", "cpu")
random = np.random.default_rng(0)
images, labels = random.integers(0, 256, (4, 64, 64, 3), dtype=np.uint8), np.array([0, 1, 2, 1])
values = dict(strategy="finetune", finetune_stages=2, image_size=64, weights="random", control=False)
values |= dict(freeze_batch_norm=False, precision="float64", learning_rate=0.01)
recipe = recipe_files.validated(values, "")
pair = recipe.pair
network = wing.network.build(model_spec(recipe, None, 3))
shapes = wing.weights.shapes(network)
trainable = frozenset(name for name in shapes if pair.stage_of(name) in (None, 3, 4))
found = []
for part in ("all", "trainable"):
    wing.weights.load(network, initialisation.draw_weights(shapes, 0))
    inputs = images if part == "all" else next(wing.inference.infer(network, "frozen", [images]))
    batches = [Batch(inputs, labels, 0.01)] * 4
    losses = wing.training.train(network, part, trainable, True, recipe, batches, lambda: None)
    weights = wing.weights.dump(network)
    found.append([losses, float(sum(np.abs(array).sum() for array in weights.values()))])
print(json.dumps(found))
"""


@pytest.mark.parametrize("wing", ["tf_impl", "torch_impl"])
def test_training_a_part_is_training_the_whole(wing: str) -> None:
    """Statistics of the trained normalisations included. float64: rounding of a few units, and nothing else."""
    (whole, whole_sum), (part, part_sum) = json.loads(last_line(TRAINING.format(wing=wing)))
    assert part == pytest.approx(whole, rel=1e-10)
    assert part_sum == pytest.approx(whole_sum, rel=1e-10)
    assert part[-1] < part[0]

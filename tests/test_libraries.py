"""Against what the libraries themselves say, and the formulas of papers: a mistake that both wings share shows here.

Each framework has a process of its own, which hands over arrays. What they are held against comes from the library
itself there, or from NumPy and scikit-learn here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.metrics import log_loss

from tests.conftest import ROOT
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.wings import WINGS
from transfer_parity.shared.runtime import ridge
from transfer_parity.shared.zoo.pairs import PAIRS

Array = NDArray[Any]
#: One of each kind of block; the whole table is a slow test.
FEW = ("MobileNetV3Small", "EfficientNetB0")
STEPS = 25
#: Name of each optimizer that a recipe can ask for, with and without what it may have besides.
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": "sgd", "momentum": 0.0},
    "momentum": {"optimizer": "sgd", "momentum": 0.9},
    "momentum and decay": {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.01},
    "adam": {"optimizer": "adam"},
    "adam and decay": {"optimizer": "adam", "weight_decay": 0.01, "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.05},
}
LOSSES: dict[str, dict[str, Any]] = {
    "cross entropy": {"loss": "cross_entropy"},
    "smoothed": {"loss": "cross_entropy", "label_smoothing": 0.2},
    "mse": {"loss": "mse"},
}

COMMON = """
import json, sys
import numpy as np
from types import SimpleNamespace
from transfer_parity.shared.checkpoints import initialisation
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.spec import model_spec
from transfer_parity.shared.zoo.lookup import PAIRS, find_pair
from transfer_parity.shared.zoo.pair import PREPROCESSING
asked = json.loads(sys.argv[1])
out = {}
random = np.random.default_rng(0)

def spec(pair, size):
    recipe = Recipe(backbone=pair.name, image_size=size, strategy="finetune")
    return model_spec(recipe, Metadata(backbone=pair.name, semantics=LIBRARY, source="here"), 1000, head="imagenet")

def drawn(shapes):
    # First weights under which signals neither vanish nor explode, and statistics that are not those of a new layer.
    arrays = dict(initialisation.draw_weights(shapes, 0))
    for name, array in arrays.items():
        if name.endswith("running_var"):
            arrays[name] = array * random.uniform(0.7, 1.4, array.shape)
        elif array.ndim == 1:
            arrays[name] = array + 0.1 * random.normal(size=array.shape)
    return arrays

def updates(given, make, tensor, array, rates, gradients):
    # The wing's own step of an optimizer, without a network around it.
    recipe = Recipe(strategy="finetune", **given)
    variables = make(np.linspace(-1, 1, gradients.shape[1]))
    trainer = SimpleNamespace(
        recipe=recipe, variables=variables, switches=frozenset(), steps=0,
        optimizer=training.build_optimizer(recipe, variables),
    )
    seen = []
    for rate, gradient in zip(rates, gradients):
        training.Trainer.update(trainer, [tensor(gradient)], rate)
        seen.append(array(variables[0]))
    return np.stack(seen)
"""

TORCH = (
    COMMON
    + """
import torch, torchvision
from torchvision.transforms.v2 import functional as F
from transfer_parity.torch_impl import device, network, training, weights
LIBRARY = "torchvision"
device.configure(1, "float64", "cpu", "tuned")
images = random.integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)
for pair in PAIRS:
    ours = network.normalise(torch.from_numpy(images), PREPROCESSING[pair.preprocessing[LIBRARY]])
    own = torchvision.models.get_model_weights(pair.torchvision_name)["IMAGENET1K_V1"].transforms()
    pixels = torch.from_numpy(images).movedim(-1, 1).double() / 255
    theirs = F.normalize(pixels, mean=own.mean, std=own.std)
    if pair.family == "InceptionV3":
        # With pretrained weights the model itself turns that into the preprocessing with which it was trained.
        theirs = torchvision.models.Inception3._transform_input(SimpleNamespace(transform_input=True), theirs)
    out[f"preprocessing {pair.name}"] = np.stack([ours.numpy(), theirs.numpy()])
for name in asked["pairs"]:
    pair = find_pair(name)
    size = 107 if pair.family == "InceptionV3" else 64
    options = {"aux_logits": False, "init_weights": False} if pair.family == "InceptionV3" else {}
    stock = torchvision.models.get_model(pair.torchvision_name, weights=None, **options).eval()
    net = network.build(spec(pair, size))
    arrays = drawn(weights.shapes(net))
    weights.load(net, arrays)
    state = {name: torch.from_numpy(np.asarray(array)) for name, array in arrays.items()}
    missing, unexpected = stock.load_state_dict(state, strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing), (missing, unexpected)
    pictures = torch.from_numpy(random.integers(0, 256, (2, size, size, 3), dtype=np.uint8))
    own = torchvision.models.get_model_weights(pair.torchvision_name)["IMAGENET1K_V1"].transforms()
    with torch.no_grad():
        ours = net.models["all"](net.prepare("all", pictures))
        theirs = stock(F.normalize(pictures.movedim(-1, 1).double() / 255, mean=own.mean, std=own.std))
    out[f"logits {name}"] = np.stack([ours.numpy(), theirs.numpy()])
rates, gradients = np.array(asked["rates"]), np.array(asked["gradients"])
for name, given in asked["optimizers"].items():
    out[f"optimizer {name}"] = updates(
        given, lambda start: [torch.nn.Parameter(torch.tensor(start))], torch.tensor,
        lambda variable: variable.detach().numpy().copy(), rates, gradients,
    )
logits, labels = torch.tensor(asked["logits"]), torch.tensor(asked["labels"])
for name, given in asked["losses"].items():
    targets = torch.nn.functional.one_hot(labels, logits.shape[1]).double()
    out[f"loss {name}"] = training.build_loss(Recipe(strategy="finetune", **given))(targets, logits).numpy()
np.savez(sys.argv[2], **out)
"""
)

KERAS = (
    COMMON
    + """
import importlib
import keras, tensorflow as tf
from transfer_parity.tf_impl import device, network, training, weights
LIBRARY = "keras"
device.configure(1, "float64", "cpu", "tuned")
MODULES = {
    "VGG16": "vgg16", "VGG19": "vgg19", "ResNet": "resnet", "InceptionV3": "inception_v3", "DenseNet": "densenet",
    "MobileNetV2": "mobilenet_v2", "MobileNetV3": "mobilenet_v3", "EfficientNetV2": "efficientnet_v2",
    "EfficientNet": "efficientnet", "ConvNeXt": "convnext",
}

def preprocess_input(pair):
    module = next(value for key, value in MODULES.items() if pair.name.startswith(key))
    return importlib.import_module(f"keras.applications.{module}").preprocess_input

images = random.integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)
for pair in PAIRS:
    ours = network.normalise(tf.constant(images), PREPROCESSING[pair.preprocessing[LIBRARY]])
    theirs = preprocess_input(pair)(images.astype(np.float64))
    if pair.family == "EfficientNet":
        # Its mean and variance stand in the file of its weights; the library names the convention elsewhere, too.
        theirs = keras.applications.imagenet_utils.preprocess_input(images.astype(np.float64), mode="torch")
    elif pair.family in asked["inside"]:
        # These models begin with a layer of their own for it, and their function does nothing.
        stock = getattr(keras.applications, pair.name)(weights=None, include_top=False, input_shape=(64, 64, 3))
        theirs = tf.constant(images, tf.float64)
        for layer in stock.layers[1:]:
            if not isinstance(layer, (keras.layers.Rescaling, keras.layers.Normalization)):
                break
            theirs = layer(theirs)
    out[f"preprocessing {pair.name}"] = np.stack([np.asarray(ours), np.asarray(theirs)])
for name in asked["pairs"]:
    pair = find_pair(name)
    size = 107 if pair.family == "InceptionV3" else 64
    stock = getattr(keras.applications, pair.name)(
        weights=None, classifier_activation=None, input_shape=(size, size, 3)
    )
    for layer in stock.layers:
        if pair.family == "EfficientNet" and isinstance(layer, keras.layers.Normalization):
            layer.adapt_mean.assign(np.reshape([0.485, 0.456, 0.406], layer.adapt_mean.shape))
            layer.adapt_variance.assign(np.square(np.reshape([0.229, 0.224, 0.225], layer.adapt_variance.shape)))
            layer.finalize_state()
    net = network.build(spec(pair, size))
    arrays = drawn(weights.shapes(net))
    weights.load(net, arrays)
    for each in weights.stock_parameters(stock, pair):
        each.variable.assign(each.from_neutral(arrays[each.name]))
    pictures = random.integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    ours = net.models["all"](net.prepare("all", tf.constant(pictures)), training=False)
    theirs = stock(preprocess_input(pair)(pictures.astype(np.float64)), training=False)
    out[f"logits {name}"] = np.stack([np.asarray(ours), np.asarray(theirs)])
rates, gradients = np.array(asked["rates"]), np.array(asked["gradients"])
for name, given in asked["optimizers"].items():
    out[f"optimizer {name}"] = updates(
        given, lambda start: [keras.Variable(start, dtype="float64")], lambda each: tf.constant(each, tf.float64),
        lambda variable: np.array(variable), rates, gradients,
    )
logits, labels = tf.constant(asked["logits"], tf.float64), tf.constant(asked["labels"])
for name, given in asked["losses"].items():
    targets = tf.one_hot(labels, logits.shape[1], dtype=tf.float64)
    out[f"loss {name}"] = np.asarray(training.build_loss(Recipe(strategy="finetune", **given))(targets, logits))
np.savez(sys.argv[2], **out)
"""
)
PROGRAMS = {"tensorflow": KERAS, "torch": TORCH}
#: Families whose Keras models preprocess inside, whatever their weights are.
INSIDE = ("MobileNetV3", "EfficientNetV2", "ConvNeXt")

_random = np.random.default_rng(7)
RATES = 0.05 * (1 + np.cos(np.pi * np.arange(STEPS) / STEPS))
GRADIENTS = _random.normal(size=(STEPS, 6)) * np.array([1, 1, 1e-3, 10, 1, 0])
LOGITS, LABELS = 3 * _random.normal(size=(9, 4)), _random.integers(0, 4, 9)


def asked(pairs: tuple[str, ...]) -> str:
    return json.dumps(
        {
            **{"pairs": pairs, "inside": INSIDE, "optimizers": OPTIMIZERS, "losses": LOSSES},
            **{"rates": RATES.tolist(), "gradients": GRADIENTS.tolist()},
            **{"logits": LOGITS.tolist(), "labels": LABELS.tolist()},
        }
    )


def said(framework: str, folder: Path, pairs: tuple[str, ...]) -> dict[str, Array]:
    target = folder / f"{framework}-{len(pairs)}.npz"
    command = [sys.executable, "-c", PROGRAMS[framework], asked(pairs), str(target)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    with np.load(target, allow_pickle=False) as found:
        return dict(found)


@pytest.fixture(scope="module", params=[wing.identifier for wing in WINGS])
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Array]:
    """What one framework's process has handed over."""
    return said(request.param, tmp_path_factory.mktemp("libraries"), FEW)


def test_every_wing_is_held_against_its_library() -> None:
    assert PROGRAMS.keys() == {wing.identifier for wing in WINGS}


@pytest.mark.parametrize("pair", [pair.name for pair in PAIRS])
def test_preprocessing_is_the_librarys(library: dict[str, Array], pair: str) -> None:
    """To float32's precision, in which the libraries keep their constants; the numbers are at most 255."""
    ours, theirs = library[f"preprocessing {pair}"]
    assert np.abs(ours - theirs).max() <= 1e-6 * max(1.0, np.abs(theirs).max())


def _agree(found: dict[str, Array], pair: str) -> None:
    """In float64; what is left is the order of additions, and constants that a library keeps in float32."""
    ours, theirs = found[f"logits {pair}"]
    assert theirs.std() > 1e-6
    assert np.abs(ours - theirs).max() <= 1e-6 * np.abs(theirs).max()


@pytest.mark.parametrize("pair", FEW)
def test_logits_are_those_of_the_stock_model(library: dict[str, Array], pair: str) -> None:
    _agree(library, pair)


@pytest.mark.slow
@pytest.mark.parametrize("pair", [pair.name for pair in PAIRS if pair.parameters < 90e6])
@pytest.mark.parametrize("framework", [wing.identifier for wing in WINGS])
def test_logits_of_every_stock_model(framework: str, pair: str, tmp_path: Path) -> None:
    _agree(said(framework, tmp_path, (pair,)), pair)


Update = Callable[[int, float, Array, Array], Array]


def sgd(recipe: Recipe) -> Update:
    """Momentum as torch has it (Sutskever and others, 2013, in its form without a rate in the velocity)."""
    velocity: list[Array] = []

    def update(step: int, rate: float, gradient: Array, weights: Array) -> Array:
        gradient = gradient + recipe.weight_decay * weights
        velocity[:] = [recipe.momentum * velocity[0] + gradient if velocity else gradient]
        return np.asarray(weights - rate * velocity[0])

    return update


def adam(recipe: Recipe) -> Update:
    """Kingma and Ba (2015), algorithm 1; with decoupled decay, Loshchilov and Hutter (2019), algorithm 2."""
    first: Array = np.zeros(1)
    second: Array = np.zeros(1)
    decoupled = recipe.optimizer == "adamw"

    def update(step: int, rate: float, gradient: Array, weights: Array) -> Array:
        nonlocal first, second
        if decoupled:
            weights = weights * (1 - rate * recipe.weight_decay)
        else:
            gradient = gradient + recipe.weight_decay * weights
        first = recipe.beta1 * first + (1 - recipe.beta1) * gradient
        second = recipe.beta2 * second + (1 - recipe.beta2) * gradient**2
        corrected, spread = first / (1 - recipe.beta1**step), second / (1 - recipe.beta2**step)
        return np.asarray(weights - rate * corrected / (np.sqrt(spread) + recipe.epsilon))

    return update


def expected(given: dict[str, Any]) -> Iterator[Array]:
    recipe = Recipe(strategy="finetune", **given)
    update = sgd(recipe) if recipe.optimizer == "sgd" else adam(recipe)
    weights = np.linspace(-1, 1, GRADIENTS.shape[1])
    for step, (rate, gradient) in enumerate(zip(RATES, GRADIENTS, strict=True), start=1):
        weights = update(step, float(rate), gradient, weights)
        yield weights


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_are_those_of_the_papers(library: dict[str, Array], name: str) -> None:
    """Every one of 25 steps. Both compute in float64, but keep hyperparameters in float32: 6e-8 of a step's size."""
    theirs = np.stack(list(expected(OPTIMIZERS[name])))
    travelled = np.abs(np.diff(theirs, axis=0)).sum()
    assert np.abs(library[f"optimizer {name}"] - theirs).max() <= 1e-6 * travelled


@pytest.mark.parametrize("name", LOSSES)
def test_losses(library: dict[str, Array], name: str) -> None:
    targets, smoothing = np.eye(4)[LABELS], LOSSES[name].get("label_smoothing", 0.0)
    if name == "mse":
        truth = float(((LOGITS - targets) ** 2).mean())
    else:
        likelihoods = LOGITS - np.logaddexp.reduce(LOGITS, axis=1, keepdims=True)
        # Szegedy and others (2016), section 7: part of every target goes to all classes alike.
        truth = float(-(((1 - smoothing) * targets + smoothing / 4) * likelihoods).sum(axis=1).mean())
        if not smoothing:
            assert truth == pytest.approx(log_loss(LABELS, np.exp(likelihoods), labels=range(4)), rel=1e-12)
    assert float(library[f"loss {name}"]) == pytest.approx(truth, rel=1e-6)


@pytest.mark.parametrize("penalty", [0.01, 1.0, 30.0])
def test_the_closed_form_is_ridge_regression(penalty: float) -> None:
    random = np.random.default_rng(1)
    features, labels = random.normal(size=(40, 12)).astype(np.float32), np.arange(40) % 3
    chosen = random.permutation(40)[:30]
    head = ridge.fit(features, chosen, labels, 3, penalty)
    weight = next(array for name, array in head.items() if name.endswith("weight"))
    bias = next(array for name, array in head.items() if name.endswith("bias"))
    reference = Ridge(alpha=penalty).fit(features[chosen].astype(np.float64), np.eye(3)[labels[chosen]])
    # The normal equations in float64: their condition number is at most 1e4 here.
    assert np.allclose(weight, reference.coef_, rtol=0, atol=1e-11)
    assert np.allclose(bias, reference.intercept_, rtol=0, atol=1e-11)

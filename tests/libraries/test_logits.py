"""Every stock architecture: the library's own model and forward pass against ours with the same weights.

The reference is what ``torchvision.models`` and ``keras.applications`` build, without any adaptation of this project.
Ours is compared in both wings, so that under the other library's semantics it is the adaptation that is judged.

Weights are random, and such that everything matters (``draw_trained_looking_weights``): under the libraries' own first
weights shifts and means of zero make every padding alike. They are drawn anew in every process, by name, so the
translation of names and layouts is judged with them.

Everything is float64. What rounding may change is measured as the ladder measures it: the library's own model repeats
the pass with every weight moved by the square root of its number of terms in units of rounding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.libraries.programs import SAFETY, Answers, ask, away
from transfer_parity.shared.contract import recipe_files
from transfer_parity.shared.contract.spec import model_spec
from transfer_parity.shared.zoo.lookup import find_pair
from transfer_parity.shared.zoo.pair import Semantics
from transfer_parity.shared.zoo.pairs import PAIRS

CLASSES = 7
#: Halved again and again it is even (76, 38), odd (19), even (10) and odd (5): "same" padding depends on it.
SIDE = 76
#: One of each of six families. Keras builds slowly: three of them against its models, too.
FAST = ("MobileNetV2", "MobileNetV3Small", "ResNet50", "InceptionV3", "DenseNet121", "EfficientNetB0")
FAST_IN_KERAS = FAST[:3]
#: Those of them that the TensorFlow wing also builds under torchvision's semantics, which takes it longest.
BOTH_WAYS = ("MobileNetV2",)
SLOW = tuple(pair.name for pair in PAIRS)

#: Ours, under the semantics of a library: the weights of that name, and the logits of the images.
_OURS = """
from transfer_parity.shared.checkpoints import initialisation
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.recipe_files import validated
from transfer_parity.shared.contract.spec import model_spec
from transfer_parity.shared.runtime.rounding import perturbed
from transfer_parity.shared.zoo.lookup import find_pair

def pixels(side):
    return np.random.default_rng(0).integers(0, 256, (2, side, side, 3), dtype=np.uint8)

def draw(shapes):
    return initialisation.draw_trained_looking_weights(shapes, 0)

def ours(name, semantics, side, switches=frozenset()):
    recipe = validated({"backbone": name, "image_size": side, "precision": "float64"}, "the test")
    metadata = Metadata(backbone=name, semantics=semantics)
    network = wing.network.build(model_spec(recipe, metadata, given["classes"], head="imagenet", switches=switches))
    wing.weights.load(network, draw(wing.weights.shapes(network)))
    return network, np.concatenate(list(wing.inference.infer(network, "all", [pixels(side)])))
"""

_TORCHVISION = (
    _OURS
    + """
import torch, torchvision
from torchvision.transforms.v2 import functional as F
def norms_of(model):
    norms = [each for each in model.modules() if isinstance(each, torch.nn.BatchNorm2d)]
    return np.array(sorted({(each.eps, each.momentum) for each in norms})).reshape(-1, 2)

for name in given["norms"]:
    # Without memory for its weights.
    with torch.device("meta"):
        model = torchvision.models.get_model(find_pair(name).torchvision_name, weights=None)
    answers[name + " norms"] = norms_of(model)
for name, side, ways in given["cases"]:
    pair = find_pair(name)
    options = {"init_weights": False} if name == "InceptionV3" else {}
    # What its published weights set: mean and deviation are turned back into [-1, 1] inside the model.
    options |= {"transform_input": True} if name == "InceptionV3" else {}
    with torch.device("meta"):
        model = torchvision.models.get_model(pair.torchvision_name, weights=None, num_classes=given["classes"],
            **options)
    model = model.to_empty(device="cpu").eval()
    answers[name + " norms"] = norms_of(model)
    preset = torchvision.models.get_model_weights(pair.torchvision_name)["IMAGENET1K_V1"].transforms()
    inputs = torch.from_numpy(pixels(side)).permute(0, 3, 1, 2)
    inputs = F.normalize(F.to_dtype(inputs, torch.float64, scale=True), preset.mean, preset.std)
    held = {key: value for key, value in model.state_dict().items()
            if "AuxLogits" not in key and "num_batches" not in key}
    weights = draw({key: tuple(value.shape) for key, value in held.items()})
    for label, arrays in (("", weights), (" moved", perturbed(weights, 0, "float64"))):
        model.load_state_dict({key: torch.from_numpy(value) for key, value in arrays.items()}, strict=False)
        with torch.no_grad():
            answers[name + " library" + label] = model(inputs).numpy()
    del model, held, weights
    for semantics in ways:
        answers[name + " " + semantics] = ours(name, semantics, side)[1]
"""
)

_KERAS = (
    _OURS
    + """
import keras
for name, side, ways in given["cases"]:
    pair = find_pair(name)
    keras.utils.clear_session(free_memory=False)
    keras.config.set_dtype_policy("float64")
    # The layers that preprocess stand in test_preprocessing.py: they round their constants to float32.
    inside = pair.family in ("MobileNetV3", "EfficientNetV2", "ConvNeXt")
    options = {"include_preprocessing": False} if inside else {}
    model = getattr(keras.applications, name)(weights=None, classes=given["classes"], classifier_activation=None,
        input_shape=(side, side, 3), **options)
    norms = [each for each in model.layers if isinstance(each, keras.layers.BatchNormalization)]
    answers[name + " norms"] = np.array(sorted({(each.epsilon, round(1 - each.momentum, 9)) for each in norms}))
    answers[name + " norms"] = answers[name + " norms"].reshape(-1, 2)
    network, answers[name + " keras"] = ours(name, "keras", side)
    if inside or pair.family == "EfficientNet":
        inputs = wing.trace.preprocess(network, pixels(side))
    else:
        module = sys.modules[getattr(keras.applications, name).__module__]
        inputs = module.preprocess_input(pixels(side).astype(np.float64))
    from transfer_parity.tf_impl import weights as layout
    parameters = list(layout.stock_parameters(model, pair))
    names = layout.stock_arrays(model, pair)
    weights = draw({key: value.shape for key, value in names.items()})
    whole = model
    if pair.family == "EfficientNet":
        whole = keras.Model(model.get_layer("normalization").output, model.output)
    for label, arrays in (("", weights), (" moved", perturbed(weights, 0, "float64"))):
        for each in parameters:
            each.variable.assign(each.from_neutral(arrays[each.name]))
        answers[name + " library" + label] = np.asarray(whole(inputs, training=False))
    if pair.family == "ConvNeXt":
        # docs/differences.md, gelu: Keras's holds a constant of float32.
        answers[name + " gelu"] = ours(name, "keras", side, frozenset({"gelu"}))[1]
    del model, whole, parameters, names, weights, network
    if "torchvision" in ways:
        answers[name + " torchvision"] = ours(name, "torchvision", side)[1]
"""
)


def side_of(name: str) -> int:
    """Of the images. torchvision's VGG pools every other size than 224 to that one's, which Keras's does not."""
    pair = find_pair(name)
    return 224 if pair.family == "VGG" else max(SIDE, pair.smallest_image)


def answers_of(
    names: tuple[str, ...],
    in_keras: tuple[str, ...],
    both_ways: tuple[str, ...],
    folder: Path,
    norms: tuple[str, ...] = (),
) -> dict[str, Answers]:
    """What the libraries and the wings say, by library.

    Args:
        names: of pairs.
        in_keras: those of them that are compared with Keras's models.
        both_ways: those of these that the TensorFlow wing also builds under torchvision's semantics.
        folder: for what the programs leave behind.
        norms: pairs whose normalisations torchvision is asked for.
    """
    both = ["torchvision", "keras"]
    torch: list[Any] = [[name, side_of(name), both if name in in_keras else both[:1]] for name in names]
    keras: list[Any] = [[name, side_of(name), both if name in both_ways else both[1:]] for name in in_keras]
    return {
        "torchvision": ask("torch_impl", _TORCHVISION, {"classes": CLASSES, "cases": torch, "norms": norms}, folder),
        "keras": ask("tf_impl", _KERAS, {"classes": CLASSES, "cases": keras}, folder),
    }


def check(name: str, answers: dict[str, Answers], in_keras: bool = True) -> None:
    """Both wings under both semantics against the libraries' own logits; and the numbers of their normalisations."""
    pair = find_pair(name)
    libraries: tuple[Semantics, ...] = ("torchvision", "keras") if in_keras else ("torchvision",)
    for library in libraries:
        found = answers[library]
        logits = found[f"{name} library"]
        # Images that all look alike to the model would prove nothing.
        assert away(logits[0], logits[1]) > 1e-3 * np.abs(logits).max()
        rounding = SAFETY * away(logits, found[f"{name} library moved"])
        assert rounding < 1e-10 * np.abs(logits).max(), "the weights make rounding grow too much to tell anything"
        for wing in ("torchvision", "keras"):
            mine = answers[wing].get(f"{name} {library}")
            if mine is None:
                continue
            allowed = rounding
            if pair.family == "ConvNeXt" and library == "keras":
                # Different on purpose (docs/differences.md, gelu): with the switch ours is Keras's, and what the
                # switch changes is what its constant, rounded to float32, does.
                switched = found[f"{name} gelu"]
                assert away(switched, logits) <= rounding
                allowed += away(switched, found[f"{name} keras"])
                assert allowed < 1e-6 * np.abs(logits).max()
            assert away(mine, logits) <= allowed, (wing, library, away(mine, logits), allowed)
        numbers = pair.batch_norm.get(library)
        expected = [] if numbers is None else [(numbers.epsilon, numbers.momentum)]
        # Momentum changes nothing in inference; the table of pairs could be wrong for both wings.
        assert [tuple(row) for row in found[f"{name} norms"].tolist()] == expected


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answers]:
    return answers_of(FAST, FAST_IN_KERAS, BOTH_WAYS, tmp_path_factory.mktemp("logits"), SLOW)


@pytest.mark.parametrize("name", FAST)
def test_logits_are_the_librarys_own(name: str, fast: dict[str, Answers]) -> None:
    check(name, fast, name in FAST_IN_KERAS)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_logits_of_every_pair_are_the_librarys_own(name: str, tmp_path: Path) -> None:
    check(name, answers_of((name,), (name,), (name,), tmp_path))


def test_epsilon_and_momentum_of_every_pair_are_torchvisions(fast: dict[str, Answers]) -> None:
    norms = fast["torchvision"]
    for pair in PAIRS:
        numbers = pair.batch_norm.get("torchvision")
        expected = [] if numbers is None else [(numbers.epsilon, numbers.momentum)]
        assert [tuple(row) for row in norms[f"{pair.name} norms"].tolist()] == expected, pair.name
        if numbers is not None:
            given = {"backbone": pair.name, "weights": "random", "control": False}
            spec = model_spec(recipe_files.validated(given, "here"), None, 5)
            assert [(spec.batch_norm.epsilon, spec.batch_norm.momentum)] == expected, pair.name

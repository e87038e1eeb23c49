"""Ways of carrying out a recipe: which defaults matter, what as shipped means, and what a framework does by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import CLASSES, write_images
from tests.processes import last_line
from transfer_parity.shared.contract import framework_defaults, recipe_files
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.data.folders import Dataset, from_folder


@pytest.fixture
def data(photos: Path) -> Dataset:
    return from_folder(photos)


def recipe(**values: Any) -> Recipe:
    return recipe_files.validated({"control": False, **values}, "a test")


def labels(found: list[framework_defaults.Default], native: bool) -> set[str]:
    return {each.label for each in found if each.native == native}


def test_a_linear_probe(data: Dataset) -> None:
    found = framework_defaults.defaults(recipe(), data)
    assert labels(found, native=True) == {
        *("tensorflow:weights", "tensorflow:resizing", "tensorflow:initialisation", "tensorflow:adam_epsilon"),
        *("tensorflow:data_order", "torch:initialisation", "torch:frozen_batch_norm", "torch:data_order"),
    }
    # Mistakes that are easily made, in the framework whose default they are not.
    assert {"torch:resizing", "torch:preprocessing", "tensorflow:bn_epsilon"} <= labels(found, native=False)
    names = {each.name for each in found}
    # Nothing decays, no rate changes, no normalisation learns, no file is a JPEG, and float32 hides the rest.
    assert not names & {"weight_decay", "sgd_momentum", "bn_momentum", "jpeg_decoding", "adam_betas", "augmentation"}


@pytest.mark.parametrize(
    ("values", "more", "fewer"),
    [
        ({"strategy": "finetune", "flip": True}, {"augmentation"}, set[str]()),
        ({"optimizer": "sgd", "schedule": "cosine"}, {"sgd_momentum"}, {"adam_epsilon"}),
        ({"optimizer": "sgd"}, set[str](), {"sgd_momentum", "adam_epsilon"}),
        ({"weight_decay": 0.01}, {"weight_decay"}, set[str]()),
        ({"precision": "float64"}, {"adam_betas"}, set[str]()),
        (
            {"strategy": "finetune", "freeze_batch_norm": False},
            {"bn_momentum", "bn_running_variance"},
            {"frozen_batch_norm"},
        ),
        ({"solver": "ridge"}, set[str](), {"initialisation", "adam_epsilon", "data_order", "frozen_batch_norm"}),
        ({"backbone": "VGG16"}, set[str](), {"flatten_order", "frozen_batch_norm", "bn_epsilon"}),
        ({"strategy": "scratch"}, {"bn_running_variance", "same_padding"}, {"weights"}),
        ({"weights": "random"}, {"same_padding"}, {"weights"}),
        ({"weights": "random", "solver": "ridge"}, {"initialisation"}, {"data_order"}),
        # A checkpoint would not fit a network with other parameters.
        ({"backbone": "ResNet50"}, {"resnet_stride"}, {"conv_bias"}),
        ({"backbone": "ResNet50", "weights": "random"}, {"conv_bias"}, set[str]()),
        ({"backbone": "MobileNetV3Small", "strategy": "scratch"}, set[str](), {"dropout"}),
        ({"preprocessing": "imagenet"}, set[str](), {"preprocessing"}),
    ],
)
def test_what_matters_to_a_recipe(values: dict[str, Any], more: set[str], fewer: set[str], data: Dataset) -> None:
    found = {each.name for each in framework_defaults.defaults(recipe(**values), data)}
    assert more <= found
    assert not fewer & found


def test_jpeg_files_matter(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "jpegs", dict.fromkeys(CLASSES, 2))
    assert "jpeg_decoding" not in {each.name for each in framework_defaults.defaults(recipe(), from_folder(folder))}
    for path in list(folder.rglob("*.png")):
        # What a file is stands in it, not in its name.
        Image.open(path).save(path, format="JPEG")
    assert "tensorflow:jpeg_decoding" in {
        each.label for each in framework_defaults.defaults(recipe(), from_folder(folder))
    }


def test_as_shipped(data: Dataset) -> None:
    given = recipe()
    found = framework_defaults.defaults(given, data)
    keras, torch = (framework_defaults.as_shipped(given, framework, found) for framework in given.frameworks)
    assert (keras.recipe.weights, keras.recipe.epsilon) == ("keras", 1e-7)
    assert keras.switches == {"resizing", "initialisation", "adam_epsilon", "data_order"}
    assert torch.recipe == given
    assert torch.switches == {"initialisation", "frozen_batch_norm", "data_order"}
    # A chosen epsilon is no default.
    chosen = recipe(epsilon=1e-6)
    assert (
        framework_defaults.as_shipped(chosen, "tensorflow", framework_defaults.defaults(chosen, data)).recipe.epsilon
        == 1e-6
    )
    # Without weights it is the library that says how the network is built.
    drawn = recipe(strategy="scratch")
    structure = {"same_padding", "bn_epsilon", "bn_momentum", "preprocessing"}
    assert (
        structure
        <= framework_defaults.as_shipped(drawn, "tensorflow", framework_defaults.defaults(drawn, data)).switches
    )
    assert (
        not structure & framework_defaults.as_shipped(drawn, "torch", framework_defaults.defaults(drawn, data)).switches
    )


def test_one_default(data: Dataset) -> None:
    given = recipe()
    by_label = {each.label: each for each in framework_defaults.defaults(given, data)}
    configuration = framework_defaults.with_default(given, by_label["tensorflow:weights"])
    assert configuration.recipe == given.model_copy(update={"weights": "keras"})
    assert not configuration.switches
    configuration = framework_defaults.with_default(given, by_label["tensorflow:adam_epsilon"])
    assert (configuration.recipe.epsilon, configuration.switches) == (1e-7, frozenset({"adam_epsilon"}))
    configuration = framework_defaults.with_default(given, by_label["torch:data_order"])
    assert (configuration.recipe, configuration.switches) == (given, frozenset({"data_order"}))


OWN = """
import json
import numpy as np
from transfer_parity.shared.contract import recipe_files
from transfer_parity.shared.contract.spec import model_spec
from transfer_parity.{wing}.wing import WING as wing
wing.device.configure(1, "float32", "cpu")
recipe = recipe_files.validated(dict(image_size=32, strategy="scratch"), "")
network = wing.network.build(model_spec(recipe, None, 7))
names = list(wing.weights.shapes(network))
def drawn(seed):
    native = wing.native
    native.seed(network, seed)
    return native.shuffled_order(30, 4), native.random_flips(50, 20), native.initial_weights(network, names)
order, flips, weights = drawn(3)
again, flips_again, weights_again = drawn(3)
other, other_flips, other_weights = drawn(4)
wing.weights.load(network, weights)
loaded = wing.weights.dump(network)
print(json.dumps(dict(
    order=order.tolist(), same=bool((order == again).all() and (flips == flips_again).all()
        and all((weights[name] == weights_again[name]).all() for name in names)),
    other=bool((order != other).any() and (flips != other_flips).any()
        and (weights["head.output.weight"] != other_weights["head.output.weight"]).any()),
    flips=[float(flips.mean()), list(flips.shape), str(flips.dtype)],
    complete=sorted(weights) == sorted(names), loaded=all((loaded[name] == weights[name]).all() for name in names),
    head=float(np.abs(weights["head.output.weight"]).max()), head_shape=list(weights["head.output.weight"].shape),
    bias=float(np.abs(weights["head.output.bias"]).max()),
    first=float(weights["features.0.0.weight"].std()), depthwise=float(weights["features.1.conv.0.0.weight"].std()),
    statistics=[float(np.ptp(weights["features.0.1." + name])) for name in ("weight", "bias", "running_var")],
    variance=float(weights["features.0.1.running_var"][0]))))
"""


@pytest.mark.parametrize("wing", ["tf_impl", "torch_impl"])
def test_what_a_framework_draws_by_itself(wing: str) -> None:
    found = json.loads(last_line(OWN.format(wing=wing)))
    order = np.array(found["order"])
    assert order.shape == (4, 30)
    assert (np.sort(order) == np.arange(30)).all()
    assert len({tuple(row) for row in found["order"]}) == 4
    assert found["same"] and found["other"]
    share, shape, dtype = found["flips"]
    # A fair coin, 1,000 times: four standard deviations are 0.063.
    assert abs(share - 0.5) < 0.063
    assert (shape, dtype) == ([20, 50], "bool")
    assert found["complete"] and found["loaded"]
    assert found["head_shape"] == [7, 1280]
    assert found["statistics"] == [0, 0, 0]
    assert found["variance"] == 1
    if wing == "torch_impl":
        # nn.Linear: uniform over +-1/sqrt(inputs), biases too; torchvision's convolutions: normal, 2/fan_out.
        assert 0.99 / 1280**0.5 < found["head"] <= 1 / 1280**0.5
        assert 0 < found["bias"] <= 1 / 1280**0.5
        assert found["first"] == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.1)
    else:
        # Glorot and Bengio (2010): uniform over +-sqrt(6 / (inputs + outputs)); biases zero.
        assert 0.99 * (6 / 1287) ** 0.5 < found["head"] <= (6 / 1287) ** 0.5
        assert found["bias"] == 0
        assert found["first"] == pytest.approx((2 / (27 + 32 * 9)) ** 0.5, rel=0.1)

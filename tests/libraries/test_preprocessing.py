"""How pixels become inputs: both wings against the transforms of torchvision's weights and Keras's preprocess_input.

A mistake that both wings make alike (a mean of 0.458 for 0.485) is seen by nothing else.
"""

from __future__ import annotations

import pytest

from tests.libraries.programs import UNIT32, Answers, ask, away
from transfer_parity.shared.zoo.lookup import find_pair
from transfer_parity.shared.zoo.pair import PREPROCESSING, Semantics
from transfer_parity.shared.zoo.pairs import PAIRS

#: An image in which every channel has every value, in an order of its own; and what a wing makes of it.
_OURS = """
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.spec import model_spec
from transfer_parity.shared.zoo.pairs import PAIRS

random = np.random.default_rng(0)
pixels = np.stack([random.permutation(256) for _ in range(3)], axis=-1).astype(np.uint8).reshape(1, 16, 16, 3)

for pair in PAIRS:
    for semantics in ("torchvision", "keras"):
        spec = model_spec(Recipe(backbone=pair.name), Metadata(backbone=pair.name, semantics=semantics), 2)
        answers[pair.name + " ours " + semantics] = normalised(pixels, spec.preprocessing)
"""

_TORCHVISION = (
    """
import torch, torchvision
from transfer_parity.torch_impl.network import normalise

def normalised(images, preprocessing):
    return normalise(torch.from_numpy(images), preprocessing).movedim(1, -1).numpy()
"""
    + _OURS
    + """
inputs = torch.from_numpy(pixels).permute(0, 3, 1, 2)
for pair in PAIRS:
    for weights in torchvision.models.get_model_weights(pair.torchvision_name):
        # VGG16 without a classifier, for detectors: no model of this project.
        if weights.name != "IMAGENET1K_FEATURES":
            # The size of the image: nothing is resized or cut off.
            seen = weights.transforms(resize_size=16, crop_size=16)(inputs)
            if pair.name == "InceptionV3":
                # Its weights bring transform_input=True, which goes on inside the model.
                torchvision.models.inception.Inception3.load_state_dict = lambda *a, **k: None
                type(weights).get_state_dict = lambda *a, **k: {}
                with torch.device("meta"):
                    model = torchvision.models.inception_v3(weights=weights)
                seen = model._transform_input(seen)
            answers[pair.name + " library " + weights.name] = seen.permute(0, 2, 3, 1).numpy()
"""
)

_KERAS = (
    """
import keras
import tensorflow as tf
from transfer_parity.tf_impl.network import normalise

def normalised(images, preprocessing):
    return normalise(tf.constant(images), preprocessing).numpy()
"""
    + _OURS
    + """
class Reached(Exception):
    pass

call = keras.layers.Layer.__call__

def stop_behind_preprocessing(layer, *args, **kwargs):
    if not isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization):
        raise Reached(args[0])
    output = call(layer, *args, **kwargs)
    if layer.weights:
        # EfficientNet's mean and "variance" lie in the file of its ImageNet weights: these numbers, as the constants
        # beside the layer in keras.applications.efficientnet and its comment say.
        layer.set_weights([np.array(each) for each in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], 0)])
        layer.finalize_state()
    return output

keras.layers.Layer.__call__ = stop_behind_preprocessing

def layers_in_front(name):
    # As the model is built for its ImageNet weights, up to the first layer that does anything else.
    try:
        getattr(keras.applications, name)(weights="imagenet", include_top=False, input_shape=(96, 96, 3))
    except Reached as reached:
        keras.layers.Layer.__call__ = call
        (tensor,) = reached.args
        model = keras.Model(keras.utils.get_source_inputs(tensor)[0], tensor)
        # Six times as wide and high as the image, which is smaller than a model may be.
        seen = np.asarray(model(np.tile(outside, (1, 6, 6, 1))))[:, :16, :16]
        keras.layers.Layer.__call__ = stop_behind_preprocessing
        return seen

for pair in PAIRS:
    module = sys.modules[getattr(keras.applications, pair.name).__module__]
    outside = module.preprocess_input(pixels.astype(np.float32))
    answers[pair.name + " library"] = layers_in_front(pair.name)
"""
)


def rounding(divide_by: float, mean: tuple[float, ...], std: tuple[float, ...]) -> float:
    """What float32 may change of an input, absolute.

    Constants and quotients before the subtraction are rounded once: units of what is subtracted from what, divided by
    the deviation. Behind it there are six roundings at most: of two constants, a root, and three operations. Two
    computations.
    """
    before = (255.0 / divide_by + max(mean)) / min(std)
    return 2 * UNIT32 * (2 * before + 6 * before)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Answers, Answers]:
    folder = tmp_path_factory.mktemp("preprocessing")
    return ask("torch_impl", _TORCHVISION, [], folder, "float32"), ask("tf_impl", _KERAS, [], folder, "float32")


def allowed(name: str, semantics: Semantics) -> float:
    chosen = PREPROCESSING[find_pair(name).preprocessing[semantics]]
    return rounding(chosen.divide_by, chosen.mean, chosen.std)


def test_inputs_under_torchvisions_semantics(answers: tuple[Answers, Answers]) -> None:
    """Of all pairs, in both wings, against every set of ImageNet weights that torchvision has."""
    torch, tensorflow = answers
    for pair in PAIRS:
        seen = {key: array for key, array in torch.items() if key.startswith(f"{pair.name} library ")}
        assert f"{pair.name} library IMAGENET1K_V1" in seen
        for key, inputs in seen.items():
            for wing in (torch, tensorflow):
                assert away(wing[f"{pair.name} ours torchvision"], inputs) <= allowed(pair.name, "torchvision"), key


def test_inputs_under_keras_semantics(answers: tuple[Answers, Answers]) -> None:
    """Of all pairs, in both wings: by preprocess_input and by the layers that some models have for it."""
    for pair in PAIRS:
        for wing in answers:
            found, expected = wing[f"{pair.name} ours keras"], answers[1][f"{pair.name} library"]
            assert away(found, expected) <= allowed(pair.name, "keras"), pair.name


def test_a_wrong_mean_is_more_than_rounding() -> None:
    """0.458 for 0.485, by far: what a test lets pass is derived and not chosen."""
    bound = allowed("ResNet50", "torchvision")
    assert bound < 1e-5
    assert 1000 * bound < (0.485 - 0.458) / 0.229

"""Class-activation maps: their arithmetic by hand, and the same maps from both wings."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.processes import last_line
from tests.test_parts import FAMILIES
from transfer_parity.shared.contract import plan
from transfer_parity.shared.contract.jobs import DataFiles, Execution, RunSpec, TrainJob
from transfer_parity.shared.contract.recipe import Framework
from transfer_parity.shared.contract.recipe_files import validated
from transfer_parity.shared.evaluation import gradcam
from transfer_parity.shared.runtime import launch

#: Backbone, semantics, head.
Case = tuple[str, str, str]
SIDE = 128
IMAGES = 20


def test_map_by_hand() -> None:
    activations = np.zeros((1, 2, 2, 2), dtype=np.float32)
    activations[0, :, :, 0] = [[1, 2], [3, 4]]
    activations[0, :, :, 1] = [[4, 0], [0, 1]]
    gradients = np.zeros_like(activations)
    # Means 1/2 and -1/4, so that the weighted sum is [[-0.5, 1], [1.5, 1.75]].
    gradients[0, :, :, 0] = [[1, 0], [0, 1]]
    gradients[0, :, :, 1] = [[-1, 0], [0, 0]]
    (found,) = gradcam.class_activation_maps(activations, gradients)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.array([[0, 1], [1.5, 1.75]]) / 1.75, rtol=1e-15)


def test_each_map_has_its_own_largest_value_and_zero_stays_zero() -> None:
    activations = np.ones((3, 2, 2, 1)) * np.array([1.0, 8.0, 2.0])[:, None, None, None]
    gradients = np.ones_like(activations) * np.array([1.0, 1.0, -1.0])[:, None, None, None]
    activations[0, 0, 0] = 0.5
    found = gradcam.class_activation_maps(activations, gradients)
    np.testing.assert_array_equal(found[0], [[0.5, 1], [1, 1]])
    np.testing.assert_array_equal(found[1], 1)
    np.testing.assert_array_equal(found[2], 0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_explains_nothing(value: float) -> None:
    activations, gradients = np.ones((2, 2, 2, 1)), np.ones((2, 2, 2, 1))
    activations[0, 0, 0, 0] = value
    found = gradcam.class_activation_maps(activations, gradients)
    assert np.isnan(found[0]).all()
    assert (found[1] == 1).all()
    # Not even with a constant map, which has its own rule.
    assert math.isnan(gradcam.correlation(*found))


@pytest.mark.parametrize("shape", [(1, 2, 3, 4), (2, 2, 2, 4), (2, 2, 4)])
def test_activations_and_gradients_belong_together(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be"):
        gradcam.class_activation_maps(np.ones((2, 2, 3, 4)), np.ones(shape))


def test_upsampling_is_bilinear_between_centres() -> None:
    found = gradcam.upsampled(np.array([[0.0, 1.0], [0.0, 1.0]]), 2, 4)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [[0, 0.25, 0.75, 1]] * 2)
    assert gradcam.upsampled(np.ones((7, 7)), 224, 200).shape == (224, 200)


def test_upsampling_stays_between_zero_and_one() -> None:
    maps = np.random.default_rng(0).uniform(0, 1, (7, 7)).round()
    found = gradcam.upsampled(maps, 224, 224)
    assert (found.min(), found.max()) == (0, 1)


def test_correlation() -> None:
    random = np.random.default_rng(0)
    a, b = random.uniform(0, 1, (2, 5, 5))
    expected = ((a - a.mean()) * (b - b.mean())).mean() / (a.std() * b.std())
    assert gradcam.correlation(a, b) == pytest.approx(expected)
    assert gradcam.correlation(a, 3 * a + 1) == pytest.approx(1)
    assert gradcam.correlation(a, 1 - a) == pytest.approx(-1)
    with pytest.raises(ValueError, match="no common places"):
        gradcam.correlation(a, b[:3])


def test_a_constant_map_agrees_with_itself_alone() -> None:
    zero, other = np.zeros((2, 2)), np.array([[0.0, 1.0], [0.5, 0.0]])
    assert gradcam.correlation(zero, zero) == 1
    assert gradcam.correlation(zero, other) == gradcam.correlation(other, zero) == 0
    assert gradcam.correlation(zero, np.ones((2, 2))) == 0


def test_overlay() -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    none, whole = np.zeros((2, 2)), np.ones((2, 2))
    np.testing.assert_array_equal(gradcam.overlay(image, whole, opacity=0), image)
    # The ends of matplotlib's viridis.
    np.testing.assert_array_equal(gradcam.overlay(image, none, opacity=1), np.broadcast_to([68, 1, 84], image.shape))
    np.testing.assert_array_equal(
        gradcam.overlay(image, whole, opacity=1), np.broadcast_to([253, 231, 37], image.shape)
    )
    blended = gradcam.overlay(image, whole)
    assert blended.dtype == np.uint8
    assert blended.shape == image.shape
    np.testing.assert_allclose(blended, image / 2 + np.array([253, 231, 37]) / 2, atol=0.7)
    right = gradcam.overlay(image, np.array([[0.0, 1.0]]), opacity=1)
    np.testing.assert_array_equal(right[:, -1], np.broadcast_to([253, 231, 37], (4, 3)))


#: Every image is explained for the class of its largest logit, which some place speaks for. Besides, what is passed on
#: is checked against the parts of the same network: the feature map against the head's input, the gradient against a
#: difference quotient of the head.
PROGRAM = """
import json, sys
import numpy as np
from transfer_parity.shared.checkpoints import initialisation
from transfer_parity.shared.contract import recipe_files
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.spec import model_spec
from transfer_parity.shared.evaluation import gradcam
from transfer_parity.{wing}.wing import WING as wing
wing.device.configure(1, "float32", "cpu")
images = np.load(sys.argv[1])
random = np.random.default_rng(1)
def infer(network, part, inputs):
    return np.concatenate(list(wing.inference.infer(network, part, [inputs])))
found = []
for name, semantics, head in {cases!r}:
    values = dict(backbone=name, head=head, head_units=32, image_size=images.shape[1], weights="random", control=False)
    metadata = Metadata(backbone=name, semantics=semantics)
    network = wing.network.build(model_spec(recipe_files.validated(values, ""), metadata, 5))
    wing.weights.load(network, initialisation.draw_trained_looking_weights(wing.weights.shapes(network), 0))
    features = infer(network, "features", images)
    def logit(features):
        return infer(network, "head", features)[np.arange(len(classes)), classes].astype(np.float64)
    classes = infer(network, "head", features).argmax(axis=1)
    # In batches of different sizes, as most data sets have.
    parts = (slice(0, 16), slice(16, None))
    found_in_parts = [wing.explain.class_gradients(network, images[part], classes[part]) for part in parts]
    activations, gradients = (np.concatenate(each) for each in zip(*found_in_parts))
    assert activations.dtype == gradients.dtype == np.float32
    assert activations.shape == gradients.shape
    pool = (lambda a: a) if head == "conv" else (lambda a: a.mean(axis=(1, 2)))
    away = {{"activations": float(np.abs(pool(activations) - features).max() / np.abs(features).max())}}
    direction = activations * random.uniform(0, 1, activations.shape).astype(np.float32)
    step = np.float32(1e-3)
    slope = (logit(pool(activations + step * direction)) - logit(pool(activations - step * direction))) / (2 * step)
    expected = (gradients.astype(np.float64) * direction).sum(axis=(1, 2, 3))
    away["gradients"] = float(np.abs(slope - expected).max() / np.abs(slope).max())
    maps = gradcam.class_activation_maps(activations, gradients)
    found.append(dict(case=[name, semantics, head], classes=classes.tolist(), maps=maps.tolist(), away=away))
try:
    spec = model_spec(recipe_files.validated(dict(image_size=32), ""), None, 5, head="imagenet")
    wing.explain.class_gradients(wing.network.build(spec), images[:1, :32, :32], classes[:1])
except ValueError as error:
    assert "own classifier" in str(error), error
else:
    sys.exit("no ValueError")
print(json.dumps(found))
"""


def draw_pictures(number: int, side: int) -> np.ndarray:
    """Coarse random patches with a bright rectangle somewhere, uint8 (number, side, side, 3)."""
    random = np.random.default_rng(0)
    patches = random.integers(0, 200, (number, -(-side // 16), -(-side // 16), 3), dtype=np.uint8)
    pictures = patches.repeat(16, axis=1).repeat(16, axis=2)[:, :side, :side].copy()
    for picture in pictures:
        top, left = random.integers(0, side // 2, 2)
        picture[top : top + side // 3, left : left + side // 3] = random.integers(128, 256, 3)
    return pictures


def check(folder: Path, cases: list[Case]) -> None:
    """Both wings explain 20 pictures alike: no picture is left out, and none has an empty map."""
    np.save(folder / "images.npy", draw_pictures(IMAGES, SIDE))
    tensorflow, torch = (
        json.loads(last_line(PROGRAM.format(wing=wing, cases=cases), folder / "images.npy"))
        for wing in ("tf_impl", "torch_impl")
    )
    assert len(tensorflow) == len(torch) == len(cases)
    for ours, theirs in zip(tensorflow, torch, strict=True):
        assert ours["case"] == theirs["case"]
        assert ours["classes"] == theirs["classes"], ours["case"]
        for found in (ours, theirs):
            # float32; kinks of ReLUs within the step are in the gradients' share.
            assert found["away"]["activations"] < 1e-5, (found["case"], found["away"])
            assert found["away"]["gradients"] < 1e-2, (found["case"], found["away"])
        ours_maps, their_maps = np.array(ours["maps"]), np.array(theirs["maps"])
        assert ours_maps.shape == their_maps.shape == (IMAGES, *ours_maps.shape[1:])
        assert ours_maps.max(axis=(1, 2)).tolist() == [1] * IMAGES, ours["case"]
        correlations = [gradcam.correlation(a, b) for a, b in zip(ours_maps, their_maps, strict=True)]
        assert min(correlations) >= 0.999, (ours["case"], correlations)


@pytest.mark.slow
def test_wings_explain_alike_in_all_families(tmp_path: Path) -> None:
    """Semantics and heads in turn."""
    origins, heads = itertools.cycle(("torchvision", "keras")), itertools.cycle(("linear", "mlp", "conv"))
    check(tmp_path, list(zip(FAMILIES, origins, heads, strict=False)))


#: Explains images with the model that a worker kept.
RESTORED = """
import json, sys
from pathlib import Path
import numpy as np
from transfer_parity.shared.evaluation import gradcam
from transfer_parity.torch_impl import explain, weights
network, _ = weights.restore(Path(sys.argv[1]))
images, classes = np.load(sys.argv[2]), np.load(sys.argv[3])
maps = gradcam.class_activation_maps(*explain.class_gradients(network, images, classes))
print(json.dumps(maps.tolist()))
"""


def test_worker_explains_the_trained_model(tmp_path: Path) -> None:
    """The centre of each image, for its true class, in the order in which they are named."""
    classes, size, border = ("a", "b", "c"), 96, 8
    chosen = {"weights": "random", "control": False, "strategy": "finetune", "image_size": size, "shots": 4}
    # Two small steps: training random weights multiplies float32's rounding errors.
    steps = {"epochs": 1, "batch_size": 6, "optimizer": "sgd", "learning_rate": 3e-5, "inference_batch_size": 4}
    recipe = validated({**chosen, **steps, "head": "conv", "head_units": 32, "device": "cpu"}, "the test")
    images = draw_pictures(21, size + 2 * border)
    labels = np.arange(len(images)) % len(classes)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", labels)
    drawn = plan.draw(recipe, labels, None, list(classes), seed=0, shots=4)
    drawn.save(tmp_path / "plan.npz")
    named = np.concatenate([drawn.test[::-2], drawn.train[:3]])
    plain = RunSpec(id="plain", pretrained=False, shots=4, seed=0, plan="../plan.npz")
    update = {"id": "explained", "save_model": True, "explain": tuple(map(int, named))}
    job = TrainJob(
        execution=Execution.of(recipe, 1),
        recipe=recipe,
        data=DataFiles(images=tmp_path / "images.npy", labels=tmp_path / "labels.npy", classes=classes, digest=""),
        checkpoint=None,
        store=None,
        runs=(plain, plain.model_copy(update=update)),
    )
    maps = {}
    wings: tuple[Framework, ...] = ("tensorflow", "torch")
    for wing in wings:
        launch.run(wing, job, tmp_path / wing)
        assert not (tmp_path / wing / "plain" / "explained.npy").exists()
        maps[wing] = np.load(tmp_path / wing / "explained" / "explained.npy", allow_pickle=False)
        assert (maps[wing].dtype, maps[wing].shape) == (np.float32, (len(named), 3, 3))
    correlations = [gradcam.correlation(a, b) for a, b in zip(maps["tensorflow"], maps["torch"], strict=True)]
    assert min(correlations) >= 0.999
    # Not all of them are empty.
    assert (maps["torch"].max(axis=(1, 2)) == 1).sum() > len(named) // 2
    np.save(tmp_path / "centres.npy", images[named, border:-border, border:-border])
    np.save(tmp_path / "classes.npy", labels[named])
    model = tmp_path / "torch" / "explained" / "model.safetensors"
    expected = json.loads(last_line(RESTORED, model, tmp_path / "centres.npy", tmp_path / "classes.npy"))
    np.testing.assert_allclose(maps["torch"], np.array(expected), atol=1e-5)

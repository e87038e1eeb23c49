"""What is particular about single architectures; that all are the same function is for the ladder (test_ladder.py)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.processes import python
from transfer_parity.shared.checkpoints import initialisation, neutral
from transfer_parity.shared.contract import plan
from transfer_parity.shared.contract.jobs import DataFiles, Execution, RunSpec, TrainJob
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.recipe_files import validated
from transfer_parity.shared.runtime import launch
from transfer_parity.shared.zoo.pair import Semantics
from transfer_parity.shared.zoo.pairs import PAIRS

#: Halved again and again it is even (76, 38), odd (19), even (10) and odd (5): "same" padding depends on it.
IMAGE_SIZE = 76
#: One: with more, tiny parallel sections wait for one another on a busy machine.
THREADS = 1
CLASSES = ("a", "b", "c")

#: Prints the parameters of a backbone as the torch wing builds it; pytest's own process imports no framework.
SHAPES = """
import json, sys
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.spec import model_spec
from transfer_parity.shared.zoo.pair import HEAD
from transfer_parity.torch_impl import device, network, weights
device.configure(1, "float32", "cpu")
metadata = Metadata(backbone=sys.argv[1], semantics=sys.argv[2])
spec = model_spec(Recipe(backbone=sys.argv[1]), metadata, 2)
shapes = weights.shapes(network.build(spec))
print(json.dumps({name: shape for name, shape in shapes.items() if not name.startswith(HEAD)}))
"""


#: Writes names and shapes of every stock model with its ImageNet classifier, as downloaded weights would have them.
FULL_MODELS = """
import json, sys
from transfer_parity.shared.zoo.pairs import PAIRS
from transfer_parity.{wing} import backbone, weights
shapes = {{}}
for pair in PAIRS:
    model = backbone.stock(pair, pair.image_size, classifier=True)
    shapes[pair.name] = {{name: array.shape for name, array in weights.stock_arrays(model, pair).items()}}
json.dump(shapes, open(sys.argv[1], "w"))
"""


def recipe_for(name: str, head: str, **others: object) -> Recipe:
    values: dict[str, object] = {
        "backbone": name,
        "head": head,
        "head_units": 32,
        "image_size": IMAGE_SIZE,
        "precision": "float64",
        "strategy": "linear_probe",
        "shots": 2,
        "seeds": 1,
        "epochs": 3,
        "batch_size": 4,
        # Small: features under random weights may be large, and a head whose ReLUs have all died would hide everything.
        "learning_rate": 1e-5,
        "control": False,
        "device": "cpu",
    }
    return validated({**values, **others}, "the test")


def write_checkpoint(path: Path, name: str, semantics: Semantics) -> dict[str, tuple[int, ...]]:
    """A neutral checkpoint with weights that look trained. Returns its shapes."""
    shapes = {key: tuple(shape) for key, shape in json.loads(python(SHAPES, name, semantics)).items()}
    drawn = initialisation.draw_trained_looking_weights(shapes, seed=0)
    # float32, as real checkpoints are; both wings compute with the same rounded values.
    arrays = {key: array.astype(np.float32) for key, array in drawn.items()}
    neutral.save(path, arrays, Metadata(backbone=name, semantics=semantics))
    return shapes


def write_job(folder: Path, recipe: Recipe, weights: Path | None, save_model: bool = False) -> TrainJob:
    """Nine images of coarse random patches, and the plan of one run. Returns the job; both wings can run it."""
    patches = np.random.default_rng(0).integers(0, 256, (9, 10, 10, 3), dtype=np.uint8)
    images = patches.repeat(8, axis=1).repeat(8, axis=2)[:, :IMAGE_SIZE, :IMAGE_SIZE]
    labels = np.arange(len(images)) % len(CLASSES)
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", labels)
    plan.draw(recipe, labels, None, list(CLASSES), seed=0, shots=2).save(folder / "plan.npz")
    run = RunSpec(id="run", pretrained=weights is not None, shots=2, seed=0, plan="../plan.npz", save_model=save_model)
    return TrainJob(
        execution=Execution.of(recipe, THREADS),
        recipe=recipe,
        data=DataFiles(images=folder / "images.npy", labels=folder / "labels.npy", classes=CLASSES, digest=""),
        checkpoint=weights,
        store=None,
        runs=(run,),
    )


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Largest absolute difference, relative to the largest value."""
    return float(np.abs(a - b).max() / np.abs(a).max())


#: Those whose gradients need care: hard sigmoid, GELU, layer scale.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNetV3Small", "ConvNeXtTiny"])
def test_wings_train_alike(name: str, tmp_path: Path) -> None:
    """Every parameter of an untrained network trains; after some steps a wrong gradient shows in the loss."""
    recipe = recipe_for(
        name, "linear", weights="random", strategy="scratch", optimizer="sgd", learning_rate=1e-4, epochs=4
    )
    job = write_job(tmp_path, recipe, None)
    losses = []
    for framework in ("tensorflow", "torch"):
        launch.run(framework, job, tmp_path / framework)
        losses.append(np.load(tmp_path / framework / "run" / "losses.npy"))
    assert len(losses[0]) == 8
    # Weights under which the signal ends somewhere would train nothing but the last bias, and agree about it.
    assert np.load(tmp_path / "torch" / "run" / "logits.npy").std(axis=0).max() > 1e-6
    # torch's own hard sigmoid, whose gradient is rounded to float32, is at 1e-11 here.
    assert difference(*losses) <= 1e-13


@pytest.mark.slow
def test_full_models_have_the_same_parameters(tmp_path: Path) -> None:
    """With their ImageNet classifiers, all pairs have the same names and shapes but for what is known to differ."""
    shapes = {}
    for wing in ("tf_impl", "torch_impl"):
        target = tmp_path / f"{wing}.json"
        python(FULL_MODELS.format(wing=wing), target)
        shapes[wing] = json.loads(target.read_text())
    for pair in PAIRS:
        ours, theirs = shapes["tf_impl"][pair.name], shapes["torch_impl"][pair.name]
        assert all(ours[name] == theirs[name] for name in ours.keys() & theirs.keys()), pair.name
        only = {name.rpartition(".")[2] for name in ours.keys() ^ theirs.keys()}
        # Keras's ResNet convolutions have biases; torchvision's InceptionV3 normalises with a scale.
        assert only == {"ResNet": {"bias"}, "InceptionV3": {"weight"}}.get(pair.family, set()), pair.name


#: Those with layers or operations that are no public Keras layers (LayerScale, additions), or with layers left out.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["EfficientNetB0", "ConvNeXtTiny"])
def test_saved_keras_model_needs_none_of_our_code(name: str, tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    write_checkpoint(weights, name, "torchvision")
    job = write_job(tmp_path, recipe_for(name, "linear"), weights, save_model=True)
    launch.run("tensorflow", job, tmp_path / "tensorflow")
    model = tmp_path / "tensorflow" / "run" / "model.keras"
    load = "import sys, keras; assert keras.models.load_model(sys.argv[1]).count_params() > 0"
    subprocess.run([sys.executable, "-c", load, str(model)], cwd=tmp_path, check=True, capture_output=True)


#: Saves a stock model as HDF5, reads it back by neutral name and compares.
READ_BACK = """
import sys
from pathlib import Path
import numpy as np
from transfer_parity.shared.zoo.lookup import find_pair
from transfer_parity.tf_impl import backbone, files, weights
pair = find_pair(sys.argv[1])
model = backbone.stock(pair, pair.image_size, classifier=True)
model.save(sys.argv[2])
read, held = files.read_checkpoint(Path(sys.argv[2]), pair).arrays, weights.stock_arrays(model, pair)
assert read.keys() == held.keys()
assert all(np.array_equal(read[name], held[name]) for name in held)
"""


@pytest.mark.parametrize("name", ["MobileNetV3Small", "ConvNeXtTiny"])
def test_keras_file_is_read_by_neutral_name(name: str, tmp_path: Path) -> None:
    python(READ_BACK, name, tmp_path / "model.h5")

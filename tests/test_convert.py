"""Checkpoints in every format, there and back; what does not fit is said in one sentence."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from tests.conftest import ROOT, Outcome
from tests.test_bad_input import assert_refused
from transfer_parity import compare
from transfer_parity.shared.checkpoints import bias_folding, flattening, layout, neutral
from transfer_parity.shared.contract.jobs import Execution, ImportJob
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.recipe_files import validated
from transfer_parity.shared.contract.results import Imported
from transfer_parity.shared.contract.spec import ModelSpec
from transfer_parity.shared.contract.wing import Array, ForeignCheckpoint
from transfer_parity.shared.contract.wings import TORCHVISION
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.experiments import conversion
from transfer_parity.shared.runtime import checkpoint_io
from transfer_parity.shared.zoo.lookup import find_pair
from transfer_parity.shared.zoo.pairs import PAIRS

MOBILE = find_pair("MobileNetV3Small")


def python(code: str, *arguments: object) -> str:
    """Run code in a process of its own, with this project on its path."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return finished.stdout


#: Beginning of a program in one wing's framework: arrays that look trained, in the stock model's names and shapes, and
#: a check that a written file comes back bit by bit, with its record.
COMMON = """
import sys
from pathlib import Path
import numpy as np
from transfer_parity.shared.checkpoints import bias_folding, initialisation
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.recipe_files import validated
from transfer_parity.shared.contract.spec import model_spec
from transfer_parity.shared.runtime import checkpoint_io
from transfer_parity.shared.zoo.lookup import find_pair
folder = Path(sys.argv[1])
def recipe_for(name, size):
    return validated({"backbone": name, "image_size": size, "device": "cpu"}, "the test")
def drawn(wing, name, semantics, size, classes=10):
    metadata = Metadata(backbone=name, semantics=semantics, batch_norm_epsilon=0.002, source="test")
    spec = model_spec(recipe_for(name, size), metadata, classes, head="imagenet")
    shapes = wing.weights.shapes(wing.network.build(spec))
    arrays = initialisation.draw_trained_looking_weights(shapes, 0)
    return {key: array.astype(np.float32) for key, array in arrays.items()}, metadata, spec
def same(a, b):
    return a.keys() == b.keys() and all(a[key].tobytes() == b[key].tobytes() for key in a)
def round_trip(wing, path, arrays, metadata, spec):
    wing.files.write_checkpoint(path, arrays, metadata, spec)
    found = wing.files.read_checkpoint(path, spec.pair)
    read, _ = bias_folding.conform(found.arrays, spec.pair, metadata.semantics, "it")
    assert found.recorded == metadata and not found.left_over, path
    return read
"""

KERAS_FORMATS = (
    COMMON
    + """
import shutil, zipfile
import h5py
from transfer_parity.tf_impl.wing import WING as wing
from transfer_parity.tf_impl import weights
import keras
from keras import layers
wing.device.configure(1, "float32", "cpu")
pair = find_pair("MobileNetV3Small")
for semantics in ("keras", "torchvision"):
    arrays, metadata, spec = drawn(wing, pair.name, semantics, 64)
    for suffix in (".keras", ".weights.h5", ".h5"):
        path = folder / f"{semantics}{suffix}"
        assert same(round_trip(wing, path, arrays, metadata, spec), arrays), path
    keras_arrays = keras_arrays if semantics == "torchvision" else arrays
# They are Keras's own files: whole models load without this project, and numbers into the plain class.
assert keras.models.load_model(folder / "keras.keras", compile=False).output_shape == (None, 10)
plain = keras.applications.MobileNetV3Small(
    weights=None, classes=10, classifier_activation=None, input_shape=(64, 64, 3)
)
for suffix in (".weights.h5", ".h5"):
    plain.load_weights(folder / f"torchvision{suffix}")
    assert same(weights.stock_arrays(plain, pair), arrays)

# A backbone nested in a bigger model, beside a normalisation of another epsilon that happens to have one of its names.
inner = keras.applications.MobileNetV3Small(weights=None, include_top=False, input_shape=(64, 64, 3))
backbone_arrays = {key: array for key, array in arrays.items() if not pair.in_classifier(key)}
for each in weights.stock_parameters(inner, pair):
    each.variable.assign(each.from_neutral(arrays[each.name]))
inputs = keras.Input((64, 64, 3))
x = layers.BatchNormalization(epsilon=0.5, name="conv_bn")(layers.GlobalAveragePooling2D()(inner(inputs)))
bigger = keras.Model(inputs, layers.Dense(5, name="mine")(x))
# Legacy files name the optimizer's state after the variables, so it would clash there.
bigger.save(folder / "nested.h5")
bigger.compile("adam", "mse")
bigger.optimizer.build(bigger.trainable_variables)
bigger.save(folder / "nested.keras")
bigger.save_weights(folder / "nested.weights.h5")
# Older Keras 3 files have no names of layers.
def nameless(source, target):
    shutil.copy(source, target)
    with h5py.File(target, "r+") as file:
        file.visititems(lambda _, item: item.attrs.pop("name", None))
nameless(folder / "nested.weights.h5", folder / "nameless.weights.h5")
nameless(folder / "keras.weights.h5", folder / "flat-nameless.weights.h5")
with zipfile.ZipFile(folder / "nested.keras") as old, zipfile.ZipFile(folder / "nameless.keras", "w") as new:
    new.writestr("config.json", old.read("config.json"))
    new.write(folder / "nameless.weights.h5", "model.weights.h5")
for name in ("nested.keras", "nested.h5", "nested.weights.h5", "nameless.weights.h5", "nameless.keras"):
    found = wing.files.read_checkpoint(folder / name, pair)
    assert same(found.arrays, backbone_arrays), name
    assert found.batch_norm_epsilon == (None if name.endswith(".weights.h5") else 0.001), name
    assert found.recorded is None
    assert any("optimizer" in key for key in found.left_over) == (name != "nested.h5"), name
    heads = [shape for key, shape in found.left_over.items() if shape == (576, 5) and "optimizer" not in key]
    assert heads == [(576, 5)], (name, found.left_over)
assert same(wing.files.read_checkpoint(folder / "flat-nameless.weights.h5", pair).arrays, keras_arrays)

# torchvision's ResNet has no biases: Keras's class gets zeros, and they go again.
arrays, metadata, spec = drawn(wing, "ResNet50", "torchvision", 32)
assert "conv1.bias" not in arrays
assert same(round_trip(wing, folder / "r.weights.h5", arrays, metadata, spec), arrays)
plain = keras.applications.ResNet50(weights=None, classes=10, classifier_activation=None, input_shape=(32, 32, 3))
plain.load_weights(folder / "r.weights.h5")
assert not plain.get_layer("conv1_conv").bias.numpy().any()
"""
)


def test_keras_formats(tmp_path: Path) -> None:
    python(KERAS_FORMATS, tmp_path)


TORCH_FORMATS = (
    COMMON
    + """
import torch, torchvision
from transfer_parity.torch_impl.wing import WING as wing
wing.device.configure(1, "float32", "cpu")
for semantics in ("keras", "torchvision"):
    arrays, metadata, spec = drawn(wing, "MobileNetV3Small", semantics, 64)
    for suffix in (".pth", ".pt"):
        path = folder / f"{semantics}{suffix}"
        assert same(round_trip(wing, path, arrays, metadata, spec), arrays), path
    state = torch.load(path, weights_only=True)
    torchvision.models.mobilenet_v3_small(num_classes=10).load_state_dict(state, strict=True)
torch.save({"model": {f"encoder.{key}": value for key, value in state.items()}, "epoch": 3}, folder / "nested.pth")
nested = wing.files.read_checkpoint(folder / "nested.pth", spec.pair)
assert same(nested.arrays, arrays)

# Keras's InceptionV3 has no scales: the plain class gets ones, and they go again.
arrays, metadata, spec = drawn(wing, "InceptionV3", "keras", 96)
assert "Conv2d_1a_3x3.bn.weight" not in arrays
assert same(round_trip(wing, folder / "i.pth", arrays, metadata, spec), arrays)
plain = torchvision.models.inception_v3(num_classes=10, aux_logits=False, init_weights=False)
plain.load_state_dict(torch.load(folder / "i.pth", weights_only=True), strict=True)

# Keras's ResNet on the plain class: biases are folded; stride, epsilon and inputs are adapted as docs/convert.md says.
arrays, metadata, spec = drawn(wing, "ResNet50", "keras", 64)
read = round_trip(wing, folder / "r.pth", arrays, metadata, spec)
assert not read["conv1.bias"].any() and arrays["conv1.bias"].any()
once, folded = bias_folding.conform(arrays, spec.pair, "torchvision", "it")
twice, again = bias_folding.conform(read, spec.pair, "torchvision", "it")
assert len(folded) == 53 and not again and same(once, twice)
exact = arrays["bn1.running_mean"].astype(np.float64) - arrays["conv1.bias"].astype(np.float64)
assert np.abs(once["bn1.running_mean"] - exact).max() <= 1e-7
model = torchvision.models.resnet50(num_classes=10)
model.load_state_dict(torch.load(folder / "r.pth", weights_only=True), strict=True)
for layer in (model.layer2, model.layer3, model.layer4):
    layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
for module in model.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
        module.eps = 0.002
images = checkpoint_io.probes(64)
pixels = torch.tensor(images).flip(-1).float() - torch.tensor([103.939, 116.779, 123.68])
with torch.inference_mode():
    ours = model.eval()(pixels.movedim(-1, 1)).numpy()
network = wing.network.build(spec)
wing.weights.load(network, arrays)
theirs = next(wing.inference.infer(network, "all", [images]))
difference = np.abs(ours - theirs).max() / np.abs(theirs).max()
assert difference < 1e-6, difference
"""
)


def test_torch_formats(tmp_path: Path) -> None:
    python(TORCH_FORMATS, tmp_path)


#: Writes a stock torchvision model with weights that look trained, and compares two files of it.
WRITE_STATE = """
import sys
import torch
from transfer_parity.shared.checkpoints import initialisation
from transfer_parity.shared.zoo.lookup import find_pair
from transfer_parity.torch_impl import backbone
pair = find_pair(sys.argv[1])
model = backbone.stock(pair, pair.image_size, classifier=True, classes=10)
state = model.state_dict()
shapes = {name: tuple(tensor.shape) for name, tensor in state.items() if tensor.is_floating_point()}
drawn = initialisation.draw_trained_looking_weights(shapes, 0)
state = {name: torch.tensor(drawn[name], dtype=torch.float32) if name in drawn else 0 * state[name] for name in state}
torch.save(state, sys.argv[2])
"""
SAME_STATES = """
import sys, torch
a, b = (torch.load(path, weights_only=True) for path in sys.argv[1:3])
a = {name: tensor for name, tensor in a.items() if name.startswith(sys.argv[3])}
assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
"""


@pytest.fixture
def converting(tmp_path: Path, cache_dir: Path) -> Callable[..., Outcome]:
    """``converting(source, destination, ...)`` runs the command in a process of its own."""

    def run(*arguments: object) -> Outcome:
        given = [str(argument) for argument in (*arguments, "--threads", 1, "--cache-dir", cache_dir)]
        command = [sys.executable, str(ROOT / "compare.py"), "convert", *given]
        finished = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        return Outcome(finished.returncode, finished.stdout, finished.stderr, tmp_path)

    return run


def test_the_command(converting: Callable[..., Outcome], tmp_path: Path) -> None:
    python(WRITE_STATE, MOBILE.name, tmp_path / "mobilenet_v3_small.pth")
    (tmp_path / "out.weights.h5").write_text("what was there before")
    outcome = converting("mobilenet_v3_small.pth", "out.weights.h5", "--image-size", 64)
    assert outcome.status == 0, outcome.errors
    assert "MobileNetV3Small, its classifier of 10 classes, torchvision semantics" in outcome.output
    assert "all 210 arrays the same, bit by bit" in outcome.output
    assert "same function" in " ".join(outcome.output.split())
    assert "or write a .keras file" in outcome.output
    assert max(map(len, outcome.output.splitlines())) <= 80
    assert h5py.is_hdf5(tmp_path / "out.weights.h5")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mobilenet_v3_small.pth", "out.weights.h5"]


#: Wide enough for all: InceptionV3 needs 75 pixels.
SIDE = 96


@pytest.mark.slow
@pytest.mark.parametrize("name", [pair.name for pair in PAIRS])
def test_round_trips(name: str, converting: Callable[..., Outcome], tmp_path: Path) -> None:
    """torchvision to Keras to torchvision, and Keras to torchvision to Keras."""
    options: tuple[object, ...] = ("--backbone", name, "--image-size", SIDE)

    def there(source: str, destination: str) -> None:
        outcome = converting(source, destination, *options)
        assert outcome.status == 0, outcome.output + outcome.errors

    # VGG's classifier in Keras fits one size of images, in torchvision always seven times seven cells.
    is_vgg = name.startswith("VGG")
    options = (*options, "--classifier", "none") if is_vgg else options
    python(WRITE_STATE, name, tmp_path / "a.pth")
    there("a.pth", "b.keras")
    there("b.keras", "c.pth")
    python(SAME_STATES, tmp_path / "a.pth", tmp_path / "c.pth", "features" if is_vgg else "")
    for file in ("a.pth", "b.keras", "c.pth"):
        (tmp_path / file).unlink()
    python(WRITE_KERAS, name, SIDE, tmp_path / "d.weights.h5")
    there("d.weights.h5", "e.pth")
    there("e.pth", "f.weights.h5")
    python(SAME_FUNCTIONS, name, tmp_path / "d.weights.h5", tmp_path / "f.weights.h5")
    python(LOAD_PLAIN_KERAS, name, SIDE, tmp_path / "f.weights.h5")
    # Up to 800 MB each, and pytest keeps its folders.
    for path in tmp_path.iterdir():
        path.unlink()


WRITE_KERAS = """
import sys
import numpy as np
from transfer_parity.shared.checkpoints import initialisation
from transfer_parity.shared.zoo.lookup import find_pair
from transfer_parity.tf_impl import backbone, weights
pair = find_pair(sys.argv[1])
model = backbone.stock(pair, int(sys.argv[2]), classifier=pair.family != "VGG", classes=10)
arrays = weights.stock_arrays(model, pair)
drawn = initialisation.draw_trained_looking_weights({key: array.shape for key, array in arrays.items()}, 0)
for each in weights.stock_parameters(model, pair):
    each.variable.assign(each.from_neutral(drawn[each.name].astype(np.float32)))
model.save_weights(sys.argv[3])
"""
SAME_FUNCTIONS = """
import sys
from pathlib import Path
import numpy as np
from transfer_parity.shared.checkpoints import bias_folding
from transfer_parity.shared.zoo.lookup import find_pair
from transfer_parity.tf_impl import files
pair = find_pair(sys.argv[1])
before, after = (
    bias_folding.conform(files.read_checkpoint(Path(file), pair).arrays, pair, "torchvision", file)[0]
    for file in sys.argv[2:]
)
assert before.keys() == after.keys()
assert all(np.array_equal(before[key], after[key]) for key in before)
"""
LOAD_PLAIN_KERAS = """
import sys
import transfer_parity.tf_impl
import keras
name, size, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
options = {"include_top": False} if name.startswith("VGG") else {"classes": 10, "classifier_activation": None}
getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), **options).load_weights(path)
"""


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("nowhere.pth", "a.keras"), ("no file nowhere.pth",)),
        (("torchvison", "a.keras"), ("'torchvision'",)),
        (("torchvision", "a.keras"), ("--backbone",)),
        (("resnet50.bin", "a.keras"), ("unknown kind of file", ".keras")),
        (("resnet50.pth", "a.onnx"), ("a.onnx", "must end in", ".weights.h5")),
        (("weights.pth", "a.keras"), ("weights.pth", "give --backbone")),
        (("weights.pth", "a.keras", "--backbone", "ResNet51"), ("'ResNet51'", "did you mean 'ResNet50'")),
        (("resnet50.pth", "a.keras", "--semantics", "kears"), ("'kears'", "did you mean 'keras'")),
        (("resnet50.pth", "a.keras", "--classifier", "all"), ("--classifier 'all'",)),
        (("resnet50.pth", "a.keras", "--image-size", "small"), ("image_size = 'small'",)),
        (("resnet50.pth", "a.keras", "--threads", "0"), ("--threads 0",)),
        (("resnet50.pth", "resnet50.pth"), ("is the source itself",)),
        (("resnet50.pth", "folder.pth"), ("is a folder",)),
        (("resnet50.pth", "resnet50.bin/a.pth"), ("cannot be written", "give another folder")),
        (("keras", "a.pth", "--backbone", "VGG16", "--semantics", "torchvision"), ("leave --semantics out",)),
        (("vgg16.safetensors", "a.pth", "--backbone", "ResNet50"), ("weights of VGG16, not of ResNet50",)),
    ],
)
def test_what_is_refused_at_once(
    arguments: tuple[str, ...],
    parts: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("resnet50.bin", "resnet50.pth", "weights.pth"):
        Path(name).touch()
    Path("folder.pth").mkdir()
    neutral.save(Path("vgg16.safetensors"), {"a": np.zeros(1)}, METADATA.model_copy(update={"backbone": "VGG16"}))
    status = compare.main(["convert", *arguments, "--cache-dir", str(tmp_path / "cache")])
    errors = capsys.readouterr().err
    assert_refused(Outcome(status, "", errors, tmp_path), *parts)


DAMAGED = """
import json, sys
from pathlib import Path
import safetensors.torch, torch
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.zoo.lookup import find_pair
from transfer_parity.torch_impl import files

folder, pair, said = Path(sys.argv[1]), find_pair("ResNet50"), {}
for text in ("Repository not found", "error: no such file", "a", "settings", "bad"):
    (folder / f"{text[0]}.pth").write_text(text)
torch.save({"conv1.weight": torch.zeros(1).expand(10**6, 10**6)}, folder / "huge.pth")
one = {"conv1.weight": torch.ones(2, 3, 1, 1)}
for name, header in {"list": {"recipe": "[]", "classes": "[]"}, "words": {"recipe": "flour, water"}}.items():
    safetensors.torch.save_file(one, folder / f"{name}.safetensors", header)
for path in sorted(folder.iterdir()):
    try:
        said[path.name] = str(files.read_checkpoint(path, pair).recorded)
    except BadInput as error:
        said[path.name] = f"refused: {error}"
print(json.dumps(said))
"""


def test_files_that_are_damaged_or_lie(tmp_path: Path) -> None:
    said = json.loads(python(DAMAGED, tmp_path))
    # Of somebody else's header nothing is asked.
    assert said.pop("words.safetensors") == "None"
    assert len(said) == 7
    for name, message in said.items():
        assert message.startswith(f"refused: {tmp_path / name}"), message
    assert "claims 4000000000000 bytes" in said["huge.pth"]
    assert "convert it again" in said["list.safetensors"]


def test_an_own_layer_with_the_name_of_a_classifiers() -> None:
    """Only a flattened square map changes its order; whatever else is called so stays, to be left over."""
    pair = find_pair("VGG16")
    assert pair.flattened is not None
    changed = []
    for shape in ((256, 512 * 4 * 6), (16, 512, 7, 7), (8, 100), (4, 512 * 49)):
        array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        changed.append(not np.array_equal(array, layout.classifier_from_keras(pair.flattened, array, pair)))
    assert changed == [False, True, False, True]
    back = flattening.to_keras_order(flattening.from_keras_order(array, pair), pair)
    np.testing.assert_array_equal(back, array)


def test_a_pickle_with_code_inside(converting: Callable[..., Outcome], tmp_path: Path) -> None:
    # Protocol 0 by hand: calls os.system("touch <path>") when it is loaded without protection.
    target = tmp_path / "was-run"
    (tmp_path / "resnet50.pth").write_bytes(b"cos\nsystem\n(S'touch " + str(target).encode() + b"'\ntR.")
    (tmp_path / "old.pt").write_text("what was there before")
    assert_refused(converting("resnet50.pth", "old.pt"), "resnet50.pth", "safely")
    assert not target.exists()
    assert (tmp_path / "old.pt").read_text() == "what was there before"


METADATA = Metadata(backbone="ResNet50", semantics="torchvision")


@pytest.mark.parametrize(
    ("name", "backbone"),
    [
        ("mobilenet_v2-b0353104.pth", "MobileNetV2"),
        ("my EfficientNet-B0 (best).keras", "EfficientNetB0"),
        ("efficientnet_v2_s.safetensors", "EfficientNetV2S"),
        ("resnet152.h5", "ResNet152"),
        ("mobilenet_v3_large.pth", "MobileNetV3Large"),
        ("model.pth", None),
    ],
)
def test_backbone_from_the_name(name: str, backbone: str | None) -> None:
    assert conversion.guessed_backbone(Path(name)) == backbone


def shapes_of(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Of a model that has one layer, and a classifier of its own or this project's for two classes."""
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (4, 3, 1, 1)}
    if spec.head == "imagenet":
        return shapes | {"fc.weight": (spec.classes, 4), "fc.bias": (spec.classes,)}
    return shapes | {"head.weight": (2, 4)}


def wing_with(found: ForeignCheckpoint) -> Any:
    """Stands for a framework whose file holds these arrays. A model's specification stands for its network."""
    return SimpleNamespace(
        info=TORCHVISION,
        files=SimpleNamespace(read_checkpoint=lambda path, pair: found),
        network=SimpleNamespace(build=lambda spec: spec),
        weights=SimpleNamespace(shapes=shapes_of),
    )


def imported(
    folder: Path, arrays: dict[str, Array], recorded: Metadata | None = None, **options: Any
) -> tuple[dict[str, Array], Imported]:
    """What the exchange makes of a ResNet50's file with these arrays."""
    recipe = validated({"backbone": "ResNet50"}, "the test")
    execution = Execution.of(recipe, 1)
    job = ImportJob(execution=execution, recipe=recipe, checkpoint=folder / "x.pth", **options)
    found = ForeignCheckpoint(dict(arrays), recorded, {"counter": ()})
    checkpoint_io.carry_out(wing_with(found), job, folder)
    result = Imported.model_validate_json((folder / "imported.json").read_text())
    return neutral.load(folder / "weights.safetensors")[0], result


BACKBONE: dict[str, Array] = {"conv1.weight": np.ones((4, 3, 1, 1), np.float32)}
CLASSIFIER: dict[str, Array] = {"fc.weight": np.ones((2, 4), np.float32), "fc.bias": np.ones(2, np.float32)}
HALF = {"fc.weight": CLASSIFIER["fc.weight"]}


def test_everything_has_its_place(tmp_path: Path) -> None:
    arrays, about = imported(tmp_path, BACKBONE | CLASSIFIER | {"extra": np.zeros(3)})
    assert arrays.keys() == (BACKBONE | CLASSIFIER).keys()
    assert about.left_over == {"counter": (), "extra": (3,)}
    assert about.classes == 2


@pytest.mark.parametrize("options", [{}, {"classifier": "none"}])
def test_a_classifier_is_whole_or_left_over(tmp_path: Path, options: dict[str, Any]) -> None:
    arrays, about = imported(tmp_path, BACKBONE | (CLASSIFIER if options else HALF), **options)
    assert arrays.keys() == BACKBONE.keys()
    assert about.left_over.keys() == {"counter", *(CLASSIFIER if options else HALF)}
    assert about.classes is None


@pytest.mark.parametrize(
    ("arrays", "options", "parts"),
    [
        ({}, {}, ("no array that belongs to ResNet50", "another --backbone")),
        ({"conv9.weight": np.ones(1)}, {}, ("no array that belongs to ResNet50",)),
        (CLASSIFIER, {}, ("missing: conv1.weight", "use a checkpoint of this architecture")),
        ({"conv1.weight": np.ones((4, 1, 1, 1))}, {}, ("misshapen: conv1.weight (4, 1, 1, 1)",)),
        ({"conv1.weight": np.full((4, 3, 1, 1), np.nan)}, {}, ("conv1.weight holds values that are not finite",)),
        (BACKBONE, {"classifier": "required"}, ("there is no classifier", "--classifier required")),
        (BACKBONE | HALF, {"classifier": "required"}, ("fc.bias is missing",)),
        (BACKBONE, {"recorded": METADATA.model_copy(update={"backbone": "VGG16"})}, ("weights of VGG16",)),
        (BACKBONE, {"recorded": METADATA, "semantics": "keras"}, ("torchvision semantics, not keras",)),
    ],
)
def test_arrays_that_do_not_fit(
    tmp_path: Path, arrays: dict[str, Array], options: dict[str, Any], parts: tuple[str, ...]
) -> None:
    with pytest.raises(BadInput) as refused:
        imported(tmp_path, arrays, **options)
    assert all(part in str(refused.value) for part in ("x.pth", *parts))


def test_a_scale_that_keras_lacks() -> None:
    arrays = {"a.bn.running_var": np.ones(2), "a.bn.weight": np.full(2, 2.0)}
    with pytest.raises(BadInput, match=r"f: a\.bn\.weight is not one.*--semantics torchvision"):
        bias_folding.conform(arrays, find_pair("InceptionV3"), "keras", "f")


#: Prints what is said about each file, and writes the arrays of those that are read beside them.
READ_KERAS = """
import json, sys
from pathlib import Path
import numpy as np
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.zoo.lookup import find_pair
from transfer_parity.tf_impl import files
told = []
for path in map(Path, sys.argv[2:]):
    try:
        np.savez(path.with_suffix(".npz"), **files.read_checkpoint(path, find_pair(sys.argv[1])).arrays)
        told.append("")
    except BadInput as error:
        told.append(str(error))
print(json.dumps(told))
"""


def write_layer(path: Path, array: Array | None = None) -> Path:
    """A Keras 3 file with one layer of the backbone."""
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/conv2d/vars")
        group.attrs["name"] = "conv"
        if array is not None:
            group["0"] = array
    return path


def test_a_layer_is_read(tmp_path: Path) -> None:
    array = np.arange(432, dtype=np.float32).reshape(3, 3, 3, 16)
    python(READ_KERAS, MOBILE.name, write_layer(tmp_path / "a.weights.h5", array))
    with np.load(tmp_path / "a.weights.npz") as found:
        np.testing.assert_array_equal(found["features.0.0.weight"], array.transpose(3, 2, 0, 1))


def broken_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Files that are no Keras files, or dangerous ones, and what is said about them."""
    whole = write_layer(folder / "whole.weights.h5", np.ones((3, 3, 3, 16), np.float32))
    path = folder / "truncated.h5"
    path.write_bytes(whole.read_bytes()[:-1000])
    yield path, "not a readable Keras file (Unable to"
    path = folder / "text.keras"
    path.write_text("this is no checkpoint")
    yield path, "not a readable Keras file"
    path = folder / "empty.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "")
    yield path, "an archive without model.weights.h5"
    path = folder / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(2**24))
    yield path, "would unpack to 16777216 bytes"
    path = folder / "config.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(whole, "model.weights.h5")
        archive.writestr("config.json", "{")
    yield path, "not arranged like a Keras file"
    path = folder / "cut.keras"
    path.write_bytes((folder / "config.keras").read_bytes()[:-30])
    yield path, "not a readable Keras file"
    path = write_layer(folder / "link.weights.h5")
    with h5py.File(path, "r+") as file:
        file["layers/conv2d/vars/0"] = h5py.ExternalLink("whole.weights.h5", "layers/conv2d/vars/0")
    yield path, "is a link"
    path = write_layer(folder / "loop.weights.h5")
    with h5py.File(path, "r+") as file:
        file["layers/conv2d/layers"] = file["layers"]
    yield path, "not a readable Keras file"
    path = write_layer(folder / "external.weights.h5")
    with h5py.File(path, "r+") as file:
        file["layers/conv2d/vars"].create_dataset("0", (9,), "f4", external=[(str(whole), 0, 36)])
    yield path, "lies in another file"
    path = write_layer(folder / "hollow.weights.h5")
    with h5py.File(path, "r+") as file:
        file["layers/conv2d/vars"].create_dataset("0", (2**20, 2**20), "f4", chunks=(1024, 1024))
    yield path, "bytes that are not in the file"


def test_broken_keras_files(tmp_path: Path) -> None:
    files = list(broken_files(tmp_path))
    told = json.loads(python(READ_KERAS, MOBILE.name, *(path for path, _ in files)))
    for (path, words), message in zip(files, told, strict=True):
        assert path.name in message
        assert words in message
        assert "\n" not in message


LAYERS_BY_GROUPS = """
from transfer_parity.tf_impl.internals import names_in
def layer(kind, name, *layers):
    return {"class_name": kind, "config": {"name": name} | ({"layers": list(layers)} if layers else {})}
inner = layer("Sequential", "stem", layer("Conv2D", "c"), layer("BatchNormalization", "d"))
model = layer("Functional", "m", layer("Conv2D", "a"), layer("DepthwiseConv2D", "b"), layer("Conv2D", "e"), inner)
assert names_in(model) == {
    ("conv2d",): "a",
    ("depthwise_conv2d",): "b",
    ("conv2d_1",): "e",
    ("sequential",): "stem",
    ("sequential", "conv2d"): "c",
    ("sequential", "batch_normalization"): "d",
}
"""


def test_layers_by_their_groups() -> None:
    python(LAYERS_BY_GROUPS)

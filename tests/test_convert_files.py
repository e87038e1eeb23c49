"""The frameworks' own files, there and back; damaged and dangerous ones are said in one sentence."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from tests.conversions import COMMON, MOBILE
from tests.processes import python
from transfer_parity.shared.contract.wing import Array

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

"""``compare.py convert``: checkpoints in every format, there and back; what it refuses at once."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.conftest import Command, Outcome
from tests.conversions import METADATA, MOBILE, WRITE_STATE
from tests.processes import python
from tests.test_bad_input import assert_refused
from transfer_parity import compare
from transfer_parity.shared.checkpoints import neutral
from transfer_parity.shared.experiments import conversion_request
from transfer_parity.shared.zoo.pairs import PAIRS

SAME_STATES = """
import sys, torch
a, b = (torch.load(path, weights_only=True) for path in sys.argv[1:3])
a = {name: tensor for name, tensor in a.items() if name.startswith(sys.argv[3])}
assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
"""


def test_the_command(converting: Command, tmp_path: Path) -> None:
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
def test_round_trips(name: str, converting: Command, tmp_path: Path) -> None:
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


def test_a_pickle_with_code_inside(converting: Command, tmp_path: Path) -> None:
    # Protocol 0 by hand: calls os.system("touch <path>") when it is loaded without protection.
    target = tmp_path / "was-run"
    (tmp_path / "resnet50.pth").write_bytes(b"cos\nsystem\n(S'touch " + str(target).encode() + b"'\ntR.")
    (tmp_path / "old.pt").write_text("what was there before")
    assert_refused(converting("resnet50.pth", "old.pt"), "resnet50.pth", "safely")
    assert not target.exists()
    assert (tmp_path / "old.pt").read_text() == "what was there before"


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
    assert conversion_request.guessed_backbone(Path(name)) == backbone

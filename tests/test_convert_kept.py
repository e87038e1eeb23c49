"""A model that was kept converts whole, both ways: backbone, trained head, and what it says about itself."""

from __future__ import annotations

import json
import shutil
import typing
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from tests.conftest import Command, Outcome
from tests.processes import python
from tests.test_bad_input import assert_refused
from transfer_parity import compare
from transfer_parity.shared.checkpoints import kept_model, neutral
from transfer_parity.shared.contract import artifacts, results, wings
from transfer_parity.shared.contract.jobs import ClassifierChoice, Execution, ImportJob
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.recipe_files import validated
from transfer_parity.shared.contract.results import Imported
from transfer_parity.shared.contract.spec import ModelSpec, describe
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.contract.wing_values import ForeignCheckpoint
from transfer_parity.shared.contract.wings import WingInfo
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.experiments import conversion, conversion_request
from transfer_parity.shared.experiments.conversion import Conversion
from transfer_parity.shared.experiments.conversion_request import Request
from transfer_parity.shared.runtime import checkpoint_io, launch

#: Keeps a network and builds it again, from its file alone. As version 0.1 kept one, it is read as well.
KEPT = """
import json, sys, zipfile
from pathlib import Path
import numpy as np
from transfer_parity.shared.checkpoints import initialisation
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.recipe_files import validated
from transfer_parity.shared.contract.spec import describe, model_spec
from transfer_parity.{wing}.wing import WING as wing
from transfer_parity.{wing} import weights
wing.device.configure(1, "float32", "cpu")
folder = Path(sys.argv[1])
recipe = validated(dict(image_size=32, device="cpu"), "the test")
metadata = Metadata(backbone=recipe.backbone, semantics="keras", batch_norm_epsilon=0.002, source="test")
network = wing.network.build(model_spec(recipe, metadata, 3))
wing.weights.load(network, initialisation.draw_weights(wing.weights.shapes(network), 0))
path = wing.weights.save(network, folder / "model", describe(recipe, metadata, ("a", "b", "c")))
assert [each.name for each in folder.iterdir()] == [path.name]
def check(path):
    again, classes = weights.restore(path)
    assert (again.spec, classes) == (network.spec, ["a", "b", "c"])
    before, after = wing.weights.dump(network), wing.weights.dump(again)
    assert before.keys() == after.keys() and all(np.array_equal(before[name], after[name]) for name in before)
    assert wing.files.read_checkpoint(path, recipe.pair).recorded == metadata
check(path)
if path.suffix == ".keras":
    older = folder / "older.keras"
    with zipfile.ZipFile(path) as new, zipfile.ZipFile(older, "w") as old:
        for name in new.namelist():
            target = folder / "older.json" if name == "transfer_parity.json" else None
            target.write_bytes(new.read(name)) if target else old.writestr(name, new.read(name))
    assert set(json.loads((folder / "older.json").read_text())) == {{"recipe", "classes", "checkpoint"}}
    check(older)
"""


@pytest.mark.parametrize("wing", ["tf_impl", "torch_impl"])
def test_a_kept_model_says_itself_what_it_is(wing: str, tmp_path: Path) -> None:
    python(KEPT.format(wing=wing), tmp_path)


RECIPE = validated({"backbone": "MobileNetV3Small", "image_size": 32, "device": "cpu"}, "the test")
ORIGIN = Metadata(backbone="MobileNetV3Small", semantics="keras", batch_norm_epsilon=0.002, source="test")
CLASSES = ("a", "b", "c")
RECORD = describe(RECIPE, ORIGIN, CLASSES)
Record = dict[str, Any]


def write_kept(path: Path, record: Record) -> Path:
    """A file with the description of a kept model and a single array."""
    if path.suffix == artifacts.NEUTRAL:
        safetensors.numpy.save_file({"a": np.zeros(1, np.float32)}, path, record)
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(kept_model.MEMBER, json.dumps(record))
            archive.writestr("model.weights.h5", b"")
    return path


def changed(key: str, value: str | None) -> Callable[[Record], Record]:
    """The record with another value under a key, or without it."""
    return lambda record: {name: text for name, text in (record | {key: value}).items() if text is not None}


def with_recipe(**values: Any) -> Callable[[Record], Record]:
    """The record with other values in its recipe."""
    return lambda record: record | {"recipe": json.dumps(json.loads(record["recipe"]) | values)}


@pytest.fixture
def refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., None]:
    """``refused_at_once(arguments, parts)``: in one sentence, before a framework starts, with nothing written."""

    def no_framework(*_: Any) -> None:
        raise AssertionError("a framework was to start")

    monkeypatch.setattr(launch, "run", no_framework)
    monkeypatch.chdir(tmp_path)

    def check(arguments: tuple[object, ...], parts: tuple[str, ...]) -> None:
        before = sorted(Path().iterdir())
        status = compare.main(["convert", *map(str, arguments), "--cache-dir", str(tmp_path.parent / "cache")])
        assert_refused(Outcome(status, "", capsys.readouterr().err, tmp_path), *parts)
        assert sorted(Path().iterdir()) == before

    return check


@pytest.mark.parametrize("suffix", wings.keeping())
@pytest.mark.parametrize(
    ("change", "part"),
    [
        (changed("recipe", "{"), "recipe"),
        (changed("recipe", "[]"), "recipe"),
        (changed("recipe", "9" * 5000), "recipe"),
        (with_recipe(backbone="MobileNetV9"), "MobileNetV9"),
        (with_recipe(backbone="ResNet50"), "a recipe for ResNet50 and weights of MobileNetV3Small"),
        (with_recipe(colour="red"), "recipe.colour"),
        (with_recipe(head="tail"), "recipe.head"),
        (with_recipe(image_size=7), "recipe.image_size"),
        (with_recipe(backbone="InceptionV3", image_size=32), "too small for InceptionV3"),
        (changed("classes", "["), "JSONDecodeError"),
        (changed("classes", "[" * 10**5), "RecursionError"),
        (changed("classes", "{}"), "classes: no list of names"),
        (changed("classes", "[]"), "classes: no list of names"),
        (changed("classes", "[1, 2, 3]"), "classes: no list of names"),
        (changed("checkpoint", "{}"), "says about itself"),
        (changed("checkpoint", "semantics"), "says about itself"),
        (changed("classes", None), "--backbone"),
        (changed("recipe", None), "--backbone"),
    ],
)
def test_an_edited_description(
    suffix: str, change: Callable[[Record], Record], part: str, refused_at_once: Callable[..., None]
) -> None:
    path = write_kept(Path(f"kept{suffix}"), change(RECORD))
    refused_at_once((path, "b.keras"), (path.name, part))


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def shortened(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def flipped(path: Path) -> None:
    """One byte of the description is another: an archive knows it by its checksum, a header is no JSON any more."""
    data = bytearray(path.read_bytes())
    data[60 if path.suffix == ".keras" else 8] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("suffix", wings.keeping())
@pytest.mark.parametrize("damage", [truncated, shortened, emptied, flipped])
def test_a_damaged_kept_file(suffix: str, damage: Callable[[Path], None], refused_at_once: Callable[..., None]) -> None:
    path = write_kept(Path(f"kept{suffix}"), RECORD)
    damage(path)
    refused_at_once((path, "b.keras"), (path.name, "is damaged"))


def test_a_description_that_would_fill_the_memory(refused_at_once: Callable[..., None]) -> None:
    path = write_kept(Path("kept.keras"), RECORD | {"more": "a" * 2**21})
    refused_at_once((path, "b.safetensors"), ("kept.keras", "longer than any description"))


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        *(
            ((f"kept{source}", f"b{target}"), (f"b{target}", "trained head", ".keras", "--classifier none"))
            for source in wings.keeping()
            for target in (".pth", ".pt", ".weights.h5", ".h5")
        ),
        (("kept.keras", "b.safetensors", "--image-size", 64), ("images of 32 pixels, not of 64",)),
        (("kept.safetensors", "b.keras", "--backbone", "ResNet50"), ("MobileNetV3Small, not of ResNet50",)),
        (("kept.keras", "b.safetensors", "--backbone", "ResNet50"), ("MobileNetV3Small, not of ResNet50",)),
        (("kept.keras", "kept.keras"), ("is the source itself",)),
    ],
)
def test_what_a_kept_model_cannot_become(
    arguments: tuple[object, ...], parts: tuple[str, ...], refused_at_once: Callable[..., None]
) -> None:
    for suffix in wings.keeping():
        write_kept(Path(f"kept{suffix}"), RECORD)
    refused_at_once(arguments, parts)


@pytest.mark.parametrize("size", [None, 32])
def test_what_is_asked_of_a_kept_model(size: int | None, tmp_path: Path) -> None:
    kept = write_kept(tmp_path / "kept.safetensors", describe(RECIPE, None, CLASSES))
    for classifier in typing.get_args(ClassifierChoice):
        request = Request(str(kept), tmp_path / "b.keras", classifier=classifier, image_size=size)
        asked = conversion_request.checked(request)
        assert (asked.kept is None) == (classifier == "none")
        assert asked.recipe.backbone == "MobileNetV3Small"
    with_double = RECIPE.model_copy(update={"precision": "float64", "device": "auto"})
    write_kept(kept, describe(with_double, None, CLASSES))
    asked = conversion_request.checked(Request(str(kept), tmp_path / "b.keras"))
    assert (asked.recipe.precision, asked.recipe.device, asked.recipe.size) == ("float64", "cpu", 32)
    # Of weights that a bfloat16 run has trained in float32, nothing is to be rounded.
    write_kept(kept, describe(RECIPE.model_copy(update={"precision": "bfloat16"}), None, CLASSES))
    assert conversion_request.checked(Request(str(kept), tmp_path / "b.keras")).recipe.precision == "float32"


WHOLE: dict[str, Array] = {
    "conv1.weight": np.ones((4, 3, 1, 1), np.float32),
    "head.output.weight": np.ones((3, 4), np.float32),
    "head.output.bias": np.ones(3, np.float32),
}


def brought(
    folder: Path, arrays: dict[str, Array], record: Record, epsilon: float | None = None, **options: Any
) -> tuple[dict[str, Array], Imported]:
    """What becomes of a file with these arrays and this record, in a wing whose network has one layer and a head."""
    shapes = {"conv1.weight": (4, 3, 1, 1)}

    def shapes_of(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
        return shapes | {"head.output.weight": (spec.classes, 4), "head.output.bias": (spec.classes,)}

    path = folder / "kept.safetensors"
    safetensors.numpy.save_file(arrays, path, record)
    found = ForeignCheckpoint(dict(arrays), neutral.recorded(record, path), {}, epsilon)
    wing: Any = SimpleNamespace(
        info=wings.TORCHVISION,
        files=SimpleNamespace(read_checkpoint=lambda path, pair: found),
        network=SimpleNamespace(build=lambda spec: spec),
        weights=SimpleNamespace(shapes=shapes_of),
    )
    job = ImportJob(execution=Execution.of(RECIPE, 1), recipe=RECIPE, checkpoint=path, **options)
    checkpoint_io.carry_out(wing, job, folder)
    return neutral.load(folder / artifacts.WEIGHTS)[0], results.imported(folder)


@pytest.mark.parametrize("classifier", ["auto", "required"])
def test_a_kept_model_is_taken_whole(classifier: str, tmp_path: Path) -> None:
    record = RECORD | {"card": "what else there is to say"}
    arrays, about = brought(tmp_path, WHOLE, record, trained_head=True, classifier=classifier)
    assert arrays.keys() == WHOLE.keys()
    assert (about.classes, about.trained_head, about.left_over) == (3, True, {})
    found = kept_model.of_file(tmp_path / artifacts.WEIGHTS)
    assert found is not None
    assert (found.record, found.classes, found.recipe, found.metadata) == (record, CLASSES, RECIPE, ORIGIN)


def test_a_head_is_left_out_where_that_was_asked_for(tmp_path: Path) -> None:
    """Also where nobody asked for a model at all: a recipe's weights may be a kept model, whose backbone is taken."""
    arrays, about = brought(tmp_path, WHOLE, RECORD)
    assert arrays.keys() == {"conv1.weight"}
    assert about.left_over.keys() == WHOLE.keys() - arrays.keys()
    assert (about.classes, about.trained_head) == (None, False)
    assert kept_model.of_file(tmp_path / artifacts.WEIGHTS) is None


def without(*names: str) -> dict[str, Array]:
    return {name: array for name, array in WHOLE.items() if name not in names}


@pytest.mark.parametrize(
    ("arrays", "record", "epsilon", "parts"),
    [
        (WHOLE, {}, None, ("trained head (head.output.weight)", "no description", "--classifier none")),
        (WHOLE, {"classes": "[]"}, None, ("trained head (head.output.weight)",)),
        (without("head.output.bias"), RECORD, None, ("own description", "missing: head.output.bias")),
        (without("conv1.weight"), RECORD, None, ("missing: conv1.weight",)),
        (WHOLE | {"more": np.ones(1)}, RECORD, None, ("left over: more",)),
        (WHOLE, describe(RECIPE, ORIGIN, ("a", "b")), None, ("head.output.weight (3, 4) instead of (2, 4)",)),
        (WHOLE | {"head.output.bias": np.full(3, np.inf)}, RECORD, None, ("head.output.bias", "not finite")),
        (WHOLE, RECORD, 0.001, ("epsilon of 0.001", "its description says 0.002")),
    ],
)
def test_a_kept_model_that_is_not_what_it_says(
    arrays: dict[str, Array], record: Record, epsilon: float | None, parts: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(BadInput) as refused:
        brought(tmp_path, arrays, record, epsilon, trained_head=True)
    assert all(part in str(refused.value) for part in ("kept.safetensors", *parts))
    assert "\n" not in str(refused.value)


def test_what_is_said_of_a_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody reads "same function" of a model without its head."""
    kept = kept_model.of_record(RECORD, tmp_path)
    about = Imported(left_over={}, folded=(), classes=3, image_size=32, trained_head=True)
    both = (wings.TORCH, wings.TENSORFLOW)
    whole = Conversion(ORIGIN, about, 3, 9, 0, [], both, 1e-7, kept=kept)
    left = about.model_copy(update={"left_over": {"head.output.weight": (3, 4)}, "classes": None})
    cases = [
        (whole, "whole model, with its trained head of 3 classes", "same function, logits of the whole model differ"),
        (replace(whole, kept=None, imported=left), "without a classifier", "of the backbone, whose trained head was"),
        (replace(whole, output_difference=1e-5, tolerance=1e-12), "NOT the same function", "(at most 1e-12)"),
    ]
    for result, *parts in cases:
        monkeypatch.setattr(conversion, "convert", lambda *_, result=result: result)
        status = compare.main(["convert", "a.safetensors", "b.keras", "--cache-dir", str(tmp_path)])
        assert status == (0 if result.output_difference < 1e-6 else 1)
        shown = " ".join(capsys.readouterr().out.split())
        assert all(part in shown for part in parts), shown


#: Keeps one model of each strategy and head in one wing, as neutral files, and what it makes of images.
KEEP = """
import sys
from pathlib import Path
from transfer_parity.shared.checkpoints import initialisation
from transfer_parity.shared.contract.jobs import Execution, ImportJob
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.recipe_files import validated
from transfer_parity.shared.contract.spec import describe, model_spec
from transfer_parity.shared.runtime import checkpoint_io
from transfer_parity.WING.wing import WING as wing
wing.device.configure(1, "float32", "cpu")
small = {"backbone": "MobileNetV3Small", "image_size": 64}
models = {
    "linear_probe": ({}, "keras"),
    "ridge": ({"solver": "ridge"}, "torchvision"),
    "prototypes": ({"strategy": "prototypes"}, "torchvision"),
    "tip_adapter": ({"strategy": "tip_adapter", "text_features": "text.npy"}, "keras"),
    "finetune": ({"strategy": "finetune", "head": "mlp"}, "keras"),
    "finetune_all": ({"strategy": "finetune", "finetune_stages": "all", "head": "conv"}, "torchvision"),
    "scratch": ({"strategy": "scratch", "weights": "random", "preprocessing": "symmetric"}, None),
    "biases": ({"backbone": "ResNet50"}, "keras"),
    "no-scales": ({"backbone": "InceptionV3", "image_size": 96}, "keras"),
}
for name, (values, semantics) in models.items():
    recipe = validated(small | values | {"device": "cpu", "head_units": 8}, "the test")
    metadata = semantics and Metadata(backbone=recipe.backbone, semantics=semantics, batch_norm_epsilon=0.002)
    network = wing.network.build(model_spec(recipe, metadata, 5))
    wing.weights.load(network, initialisation.draw_trained_looking_weights(wing.weights.shapes(network), 0))
    folder = Path(sys.argv[1]) / name
    folder.mkdir(parents=True)
    path = wing.weights.save(network, folder / "kept", describe(recipe, metadata, tuple("abcde")))
    execution = Execution.of(recipe, 1)
    job = ImportJob(execution=execution, recipe=recipe, checkpoint=path, trained_head=True, probe=True)
    checkpoint_io.carry_out(wing, job, folder)
"""
#: Keeps in one wing what lies in neutral files, reads it again, and puts the same images through it.
CARRY = """
import sys
from pathlib import Path
import numpy as np
from transfer_parity.shared.checkpoints import kept_model, neutral
from transfer_parity.shared.contract.jobs import Execution, ExportJob
from transfer_parity.shared.runtime import checkpoint_io
from transfer_parity.WING.wing import WING as wing
from transfer_parity.WING import weights
wing.device.configure(1, "float32", "cpu")
source, target = Path(sys.argv[1]), Path(sys.argv[2])
for folder in sorted(source.iterdir()):
    file = folder / "weights.safetensors"
    recipe = kept_model.required(file).recipe
    job = ExportJob(
        execution=Execution.of(recipe, 1), recipe=recipe, checkpoint=file, suffix=wing.info.keeps, probe=True
    )
    (target / folder.name).mkdir(parents=True)
    checkpoint_io.carry_out(wing, job, target / folder.name)
    before, after = (np.load(each / folder.name / "logits.npy") for each in (source, target))
    assert before.shape == after.shape == (2, 5) and np.ptp(before) > 0
    difference = np.abs(before - after).max() / np.abs(before).max()
    assert difference < 1e-4, (folder.name, difference)
    arrays, _ = neutral.load(file)
    network, classes = weights.restore(target / folder.name / f"exported{wing.info.keeps}")
    assert classes == list("abcde") and network.spec == kept_model.required(file).spec
    again = wing.weights.dump(network)
    assert again.keys() == arrays.keys()
    assert all(again[name].tobytes() == arrays[name].tobytes() for name in arrays), folder.name
"""


def assert_same(one: Path, other: Path) -> None:
    """Two safetensors files with the same bits under the same names, and the same words about them, in any order."""
    ours, theirs = (safetensors.numpy.load_file(path) for path in (one, other))
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        assert (array.dtype, array.tobytes()) == (theirs[name].dtype, theirs[name].tobytes()), name
    assert kept_model.read_record(one) == kept_model.read_record(other)


@pytest.mark.slow
@pytest.mark.parametrize(("one", "other"), [wings.WINGS, wings.WINGS[::-1]], ids=lambda wing: str(wing.identifier))
def test_there_and_back(one: WingInfo, other: WingInfo, tmp_path: Path) -> None:
    """Every strategy and head, from one wing to the other and back: the same bits, and the same logits in both."""
    here, there, back = (tmp_path / name for name in ("here", "there", "back"))
    python(KEEP.replace("transfer_parity.WING", one.package), here)
    python(CARRY.replace("transfer_parity.WING", other.package), here, there)
    python(CARRY.replace("transfer_parity.WING", one.package), there, back)
    names = sorted(path.name for path in here.iterdir())
    assert len(names) == 7
    for name in names:
        first, last = (folder / name / artifacts.WEIGHTS for folder in (here, back))
        assert_same(first, last)
        record = kept_model.required(here / name / f"kept{one.keeps}").record
        assert kept_model.required(there / name / f"exported{other.keeps}").record == record
        if one is wings.TORCHVISION:
            kept, again = (here / name / "kept.safetensors", back / name / "exported.safetensors")
            assert_same(kept, again)
    # Tens of megabytes each, and pytest keeps its folders.
    shutil.rmtree(tmp_path)


#: What Keras itself makes of a converted file, and what is left of it when Keras has saved it.
AS_DATA = """
import sys
import keras
keras.config.set_floatx("float64")
model = keras.models.load_model(sys.argv[1], compile=False)
assert model.output_shape == (None, 3) and model.input_shape == (None, 32, 32, 3)
model.save(sys.argv[2])
"""


@pytest.mark.slow
def test_the_command_on_a_kept_model(converting: Command, tmp_path: Path) -> None:
    """In float64, whose tolerance would show what float32 hides."""
    run = KEPT.format(wing=wings.TORCHVISION.package.rpartition(".")[2]).replace("float32", "float64")
    run = run.replace("image_size=32", "image_size=32, precision='float64', backbone='MobileNetV3Small'")
    python(run, tmp_path)
    outcome = converting("model.safetensors", "b.keras")
    assert outcome.status == 0, outcome.output + outcome.errors
    shown = " ".join(outcome.output.split())
    assert "MobileNetV3Small, whole model, with its trained head of 3 classes, keras semantics" in shown
    assert "same function, logits of the whole model differ by" in shown
    assert "(at most 2e-13)" in shown
    assert "left over" not in shown.lower()
    outcome = converting("b.keras", "c.safetensors", "--classifier", "required")
    assert outcome.status == 0, outcome.output + outcome.errors
    assert_same(tmp_path / "c.safetensors", tmp_path / "model.safetensors")
    # Keras drops what it does not know; then the head is not dropped as well, silently.
    python(AS_DATA, tmp_path / "b.keras", tmp_path / "saved.keras")
    outcome = converting("saved.keras", "d.safetensors", "--backbone", "MobileNetV3Small")
    assert_refused(outcome, "saved.keras", "trained head (head.output.weight)", "no description")
    assert not (tmp_path / "d.safetensors").exists()

"""Every array of a checkpoint in its place; what does not fit is said in one sentence."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.conversions import METADATA
from transfer_parity.shared.checkpoints import bias_folding, flattening, layout, neutral
from transfer_parity.shared.contract.jobs import Execution, ImportJob
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.recipe_files import validated
from transfer_parity.shared.contract.results import Imported
from transfer_parity.shared.contract.spec import ModelSpec
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.contract.wing_values import ForeignCheckpoint
from transfer_parity.shared.contract.wings import TORCHVISION
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.runtime import checkpoint_io
from transfer_parity.shared.zoo.lookup import find_pair


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

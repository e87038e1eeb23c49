"""Every part of every key is needed: where that one thing changes, what is found is not what was kept before it did.

Nothing here needs a framework: a stand-in puts out what depends on everything that a real one depends on. Each test of
a part is done once more with that part taken out of the key, and must then find the old result.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import numpy as np
import PIL
import pytest
from PIL import Image

from tests import test_clocks
from tests.conftest import write_images
from tests.fakes import Quiet
from transfer_parity.shared.checkpoints import neutral
from transfer_parity.shared.contract import artifacts, keys, plan
from transfer_parity.shared.contract.engines import Engine
from transfer_parity.shared.contract.jobs import (
    DataFiles,
    DownloadJob,
    Execution,
    FeaturesJob,
    ImportJob,
    Job,
    RunSpec,
    TrainJob,
)
from transfer_parity.shared.contract.keys import LeftOut
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.results import Imported
from transfer_parity.shared.contract.spec import ModelSpec, model_spec
from transfer_parity.shared.contract.wing import Array, Wing
from transfer_parity.shared.contract.wings import KERAS, TORCHVISION, WINGS, WingInfo
from transfer_parity.shared.core import clocks, code, files, machine
from transfer_parity.shared.core.arrays import Rows
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.data import folders, pixel_cache
from transfer_parity.shared.experiments import digests
from transfer_parity.shared.runtime import feature_key, features, installed, launch, prepare, resolve_weights, train
from transfer_parity.shared.runtime.passes import Passes
from transfer_parity.shared.zoo.pair import PREPROCESSING

#: Another valid value of every field of the recipe.
ANOTHER: dict[str, Any] = {
    "name": "another",
    "data": "cifar10",
    "shots": (3,),
    "seeds": 2,
    "first_seed": 7,
    "test_fraction": 0.3,
    "skip_unreadable": True,
    "unlabeled": "more",
    "labels": "labels.csv",
    "tasks": ("colour",),
    "backbone": "ResNet50",
    "weights": "keras",
    "strategy": "finetune",
    "finetune_stages": 2,
    "freeze_batch_norm": False,
    "head": "conv",
    "solver": "ridge",
    "first_head": "probe",
    "ridge_penalty": 2.0,
    "logit_scale": 3.0,
    "text_features": "text.npy",
    "image_features": "images.npz",
    "cache_alpha": 2.0,
    "cache_beta": 3.0,
    "head_units": 8,
    "image_size": 40,
    "resize": 50,
    "preprocessing": "caffe",
    "flip": True,
    "crop": True,
    "loss": "mse",
    "label_smoothing": 0.1,
    "optimizer": "sgd",
    "learning_rate": 0.01,
    "momentum": 0.5,
    "beta1": 0.8,
    "beta2": 0.9,
    "epsilon": 1e-7,
    "weight_decay": 0.1,
    "schedule": "cosine",
    "warmup_epochs": 1.0,
    "epochs": 3,
    "stage_rate_decay": 0.5,
    "batch_size": 8,
    "unlabeled_ratio": 2,
    "unlabeled_weight": 0.5,
    "threshold": 0.7,
    "label_temperature": 0.5,
    "teacher_decay": 0.9,
    "pair_margin": 0.5,
    "views": 2,
    "precision": "float64",
    "frameworks": ("torch",),
    "control": False,
    "runtime": "stock",
    "repeats": 2,
    "engine": "plain",
    "cache": False,
    "margin": 0.02,
    "inference_batch_size": 5,
    "check": False,
    "device": "cpu",
    "threads": 3,
}
FIELDS = sorted(Recipe.model_fields)
#: The default run on small images, in a strategy with which every field goes together.
RECIPE = Recipe(image_size=32, weights="torchvision")


def changed(recipe: Recipe, field: str) -> Recipe:
    """The recipe with another value in one field; flips and crops need a strategy that sees images in every step."""
    more: dict[str, Any] = {}
    if field in ("flip", "crop", "finetune_stages", "freeze_batch_norm"):
        more = {"strategy": "finetune"}
    if field in ("labels", "tasks"):
        more = {"strategy": "multi_task"}
    if field == "text_features":
        more = {"strategy": "zero_shot"}
    if field == "image_features":
        more = {"control": False}
    return Recipe(**{**recipe.model_dump(), **more, field: ANOTHER[field]})


def beside(field: str) -> Recipe:
    """The recipe, in the one strategy that takes a field where there is but one."""
    return RECIPE.model_copy(update={"strategy": "multi_task"} if field in ("labels", "tasks") else {})


def test_every_field_of_the_recipe_has_another_value() -> None:
    assert set(ANOTHER) == set(FIELDS)
    for field in FIELDS:
        assert getattr(changed(RECIPE, field), field) != getattr(RECIPE, field)


def test_what_is_left_out_has_a_reason() -> None:
    with pytest.raises(TypeError, match="Recipe has no field brightness"):
        LeftOut(Recipe, {"brightness": "there is none"})
    with pytest.raises(TypeError, match="nothing says why name"):
        LeftOut(Recipe, {"name": " "})
    assert LeftOut(Recipe, {}).rest(RECIPE) == RECIPE.model_dump(mode="json")


class Brighter(Recipe):
    """A recipe with a field that nobody has thought of yet."""

    brightness: float = 1.0


class Clipped(Execution):
    """The same of a process."""

    clipped: bool = False


@dataclass(frozen=True)
class Dilated(ModelSpec):
    """The same of a model."""

    dilation: int = 1


def test_a_new_field_is_part_of_the_keys_until_somebody_says_why_not() -> None:
    assert keys.RUNS.rest(Brighter())["brightness"] == 1.0
    assert keys.FEATURES.rest(Brighter())["brightness"] == 1.0
    assert keys.FEATURES_EXECUTION.rest(Clipped(threads=1))["clipped"] is False
    spec = model_spec(RECIPE, None, 3)
    dilated = Dilated(**{each.name: getattr(spec, each.name) for each in dataclasses.fields(spec)})
    assert keys.FEATURES_SPEC.rest(dilated)["dilation"] == 1


#: Fields that somebody has read.
READ: set[str] = set()


class Watched(Recipe):
    """A recipe that notes which of its fields are read."""

    def __getattribute__(self, name: str) -> Any:
        if name in Recipe.model_fields:
            READ.add(name)
        return super().__getattribute__(name)


@pytest.mark.parametrize("strategy", ["linear_probe", "ridge", "scratch"])
def test_what_is_left_out_of_the_runs_key_is_not_read_by_the_process(strategy: str, tmp_path: Path) -> None:
    given = test_clocks.job(tmp_path, strategy, TrainJob)
    job = given.model_copy(update={"recipe": Watched(**given.recipe.model_dump())})
    phases = clocks.Phases()
    phases.add("start", 0.0)
    wing = cast(Wing, test_clocks.SleepingWing(test_clocks.Clock()))
    READ.clear()
    train.RunLoop(wing, job, tmp_path, cast(Any, Quiet()), phases).run()
    assert {"strategy", "inference_batch_size"} <= READ
    assert READ & keys.RUNS.reasons.keys() == set()


@pytest.mark.parametrize("field", sorted(keys.RUNS.reasons))
def test_what_is_left_out_of_the_runs_key_leaves_plans_as_they_are(field: str) -> None:
    labels = np.arange(30) % 3
    first, second = (plan.draw(each, labels, None, ["a", "b", "c"], 0, 5) for each in (RECIPE, changed(RECIPE, field)))
    for each in dataclasses.fields(plan.Plan):
        np.testing.assert_array_equal(getattr(first, each.name), getattr(second, each.name))


# What frozen layers put out.

IMAGES = 4


@dataclass(frozen=True)
class World:
    """Everything that the outputs of frozen layers depend on.

    Attributes:
        spec: of the network, whatever the recipe says.
        weights: digest of the backbone's.
        versions, device, cpu, source, environment: of the machine and what runs on it.
        engines: that the wing offers.
    """

    recipe: Recipe = RECIPE
    spec: ModelSpec = dataclasses.field(default_factory=lambda: model_spec(RECIPE, None, 3))
    execution: Execution = dataclasses.field(default_factory=lambda: Execution(threads=2))
    images: str = "pixels"
    weights: str = "weights"
    info: WingInfo = TORCHVISION
    versions: str = "2.0"
    device: str = "CPU"
    cpu: str = "a processor"
    source: str = "0123456789abcdef"
    environment: tuple[str, str] = ("MKL_CBWR", "AUTO")

    @property
    def truth(self) -> float:
        """What the layers put out in this world."""
        shown = repr(replace(self, spec=replace(self.spec, pair=cast(Any, self.spec.pair.name))))
        return float(int(hashlib.sha256(shown.encode()).hexdigest()[:6], 16))


def spec(**values: Any) -> Callable[[World], World]:
    return lambda world: replace(world, spec=replace(world.spec, **values))


def execution(**values: Any) -> Callable[[World], World]:
    return lambda world: replace(world, execution=world.execution.model_copy(update=values))


def recipe(**values: Any) -> Callable[[World], World]:
    return lambda world: replace(world, recipe=world.recipe.model_copy(update=values))


def other(**values: Any) -> Callable[[World], World]:
    return lambda world: replace(world, **values)


#: By part of the key, a change of that one thing.
FEATURE_CHANGES: dict[str, Callable[[World], World]] = {
    "recipe.backbone": recipe(backbone="ResNet50"),
    "recipe.engine": recipe(engine="plain"),
    "recipe.inference_batch_size": recipe(inference_batch_size=5),
    "execution.threads": execution(threads=1),
    "execution.precision": execution(precision="float64"),
    "execution.runtime": execution(runtime="stock"),
    "data.digest": other(images="other pixels"),
    "spec.semantics": spec(semantics="keras"),
    "spec.batch_norm": lambda world: spec(batch_norm=replace(world.spec.batch_norm, epsilon=1e-3))(world),
    "spec.preprocessing": spec(preprocessing=PREPROCESSING["caffe"]),
    "spec.image_size": spec(image_size=40),
    "spec.resize": spec(resize=50),
    "spec.frozen_stages": spec(frozen_stages=1),
    "pooled": spec(head="conv"),
    "switches": spec(switches=frozenset({"preprocessing"})),
    "weights": other(weights="other weights"),
    "framework": other(info=replace(TORCHVISION, identifier="tensorflow")),
    "versions": other(versions="2.1"),
    "device": other(device="GPU"),
    "cpu": other(cpu="another processor"),
    "code": other(source="fedcba9876543210"),
    "environment": other(environment=("MKL_CBWR", "COMPATIBLE")),
}


def job(world: World, folder: Path, store: Path | None) -> FeaturesJob:
    """Of one run, whose plan asks for all images."""
    return FeaturesJob(
        execution=world.execution,
        recipe=world.recipe,
        data=DataFiles(images=folder, labels=folder, classes=("a", "b", "c"), digest=world.images),
        checkpoint=None,
        store=store,
        runs=(RunSpec(id="run", pretrained=False, shots=1, seed=0, plan="plan"),),
    )


class Features:
    """What a wing in some world finds in a store, or computes if it finds nothing."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        self.computed: list[str | None] = []
        monkeypatch.setattr(plan, "images", lambda path: (np.arange(2), np.arange(2, IMAGES)))

    def of(self, world: World) -> float:
        """The output of every image; all are alike."""
        self._set(world)
        chosen = job(world, self.folder, self.folder / "store")
        # Validating a job reads everything in it.
        READ.clear()
        passes = Passes(self.wing(world), None, chosen.recipe, chosen.execution.threads, cast(Any, Quiet()))
        rows = Rows.create(self.folder / "images.npy", (IMAGES, 32, 32, 3), np.uint8)
        frozen = features.FrozenFeatures(passes, clocks.Phases(), chosen, world.spec, rows)
        with frozen.of(chosen.runs, self.folder, world.weights) as extracted:
            (only,) = set(extracted.outputs[np.arange(IMAGES)].ravel().tolist())
        return float(only)

    def key(self, world: World) -> dict[str, Any]:
        self._set(world)
        return feature_key.of_features(self.wing(world), job(world, self.folder, None), world.spec, world.weights)

    def wing(self, world: World) -> Wing:
        def infer(network: None, part: str, batches: Iterable[Array], engine: str | None) -> Iterator[Array]:
            self.computed.append(engine)
            for batch in batches:
                yield np.full((len(batch), 1), world.truth)

        device = SimpleNamespace(
            environment=lambda: ({"framework": world.versions}, world.device), synchronize=lambda: None
        )
        inference = SimpleNamespace(
            engines=lambda network, part: (Engine("eager"), Engine("fused", 0.3, 1.5)),
            infer=infer,
            multiply_adds=lambda network, part: 10**9,
            matrix_product_rate=lambda network: 1e9,
        )
        return cast(Wing, SimpleNamespace(info=world.info, device=device, inference=inference))

    def _set(self, world: World) -> None:
        self.monkeypatch.setattr(machine, "cpu_name", lambda: world.cpu)
        self.monkeypatch.setattr(code, "of_wing", lambda package: world.source)
        self.monkeypatch.setenv(*world.environment)


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Features:
    return Features(tmp_path, monkeypatch)


def test_every_part_of_the_features_key_is_changed_here(found: Features) -> None:
    assert set(found.key(World())) == set(FEATURE_CHANGES)


@pytest.mark.parametrize("part", FEATURE_CHANGES)
def test_other_features_are_found_where_something_changed(
    part: str, found: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = World(), FEATURE_CHANGES[part](World())
    first = found.of(before)
    assert found.of(after) == after.truth != first
    # And what was kept of the first is still there.
    assert (found.of(before), len(found.computed)) == (first, 2)

    # Without this part of the key, the other world finds what belongs to the first.
    whole = feature_key.of_features
    monkeypatch.setattr(
        feature_key, "of_features", lambda *given: {name: v for name, v in whole(*given).items() if name != part}
    )
    shutil.rmtree(found.folder / "store")
    assert found.of(before) == found.of(after) == first


@pytest.mark.parametrize("field", FIELDS)
def test_fields_that_cannot_matter_leave_features_warm(field: str, found: Features) -> None:
    """A field is in the key, or in the description of the model, or it changes nothing."""
    base = beside(field) if field not in ("finetune_stages", "freeze_batch_norm") else changed(RECIPE, "strategy")
    another = changed(base, field)
    before, after = (found.key(World(recipe=each, spec=model_spec(each, None, 3))) for each in (base, another))
    differing = {name for name in before if before[name] != after[name]}
    reason = keys.FEATURES.reasons.get(field)
    if reason is None:
        assert f"recipe.{field}" in differing
    elif reason == keys._SPEC or field in ("flip", "crop"):
        assert differing
        assert all(name == "pooled" or name.startswith("spec.") for name in differing)
    else:
        assert not differing


def test_frozen_layers_read_nothing_of_a_recipe_that_is_not_in_their_key(found: Features) -> None:
    found.of(World(recipe=Watched(**RECIPE.model_dump())))
    amounts = {field for field, reason in keys.FEATURES.reasons.items() if reason == keys._SPEC}
    assert "inference_batch_size" in READ
    assert not READ & (keys.FEATURES.reasons.keys() - amounts)


def test_one_recipe_has_one_engine_whatever_was_kept_before(found: Features, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much of the set is still missing, and however fast the machine seems."""
    monkeypatch.setattr(plan, "images", lambda path: (np.arange(1), np.arange(1, 2)))
    engines = []
    for wanted in (1, IMAGES, 2):
        monkeypatch.setattr(plan, "images", lambda path, wanted=wanted: (np.arange(1), np.arange(wanted)))
        world = World()
        found._set(world)
        chosen = job(world, found.folder, found.folder / "store")
        wing = found.wing(world)
        rate = 10.0 ** (6 + 3 * wanted)
        monkeypatch.setattr(wing.inference, "matrix_product_rate", lambda network, rate=rate: rate)
        passes = Passes(wing, None, chosen.recipe, chosen.execution.threads, cast(Any, Quiet()))
        rows = Rows.create(found.folder / "images.npy", (IMAGES, 32, 32, 3), np.uint8)
        with features.FrozenFeatures(passes, clocks.Phases(), chosen, world.spec, rows).of(
            chosen.runs, found.folder, "weights"
        ):
            assert passes.choice is not None
            engines.append((passes.choice.name, passes.choice.reason.removeprefix("kept from an earlier run; ")))
    assert len(set(engines)) == 1
    assert len(found.computed) == 2


# Finished runs and cells.


@dataclass(frozen=True)
class Setting:
    """Everything that the numbers of a run depend on."""

    recipe: Recipe = RECIPE
    info: WingInfo = TORCHVISION
    switches: frozenset[str] = frozenset()
    weights: str = "weights"
    pixels: str = "pixels"
    division: str = "division"
    threads: int = 2
    packages: str = "2.0"
    source: str = "0123456789abcdef"
    environment: tuple[str, str] = ("MKL_CBWR", "AUTO")


#: Written out, so that a field cannot go missing from the key and from here at once.
WITHOUT_EFFECT = {
    "name",
    "data",
    "seeds",
    "first_seed",
    "skip_unreadable",
    "unlabeled",
    "labels",
    "tasks",
    "frameworks",
    "margin",
    "check",
}
RUN_CHANGES: dict[str, Setting] = {
    **{f"recipe.{field}": Setting(changed(RECIPE, field)) for field in FIELDS if field not in WITHOUT_EFFECT},
    "switches": Setting(switches=frozenset({"epsilon"})),
    "weights": Setting(weights="other weights"),
    "pixels": Setting(pixels="other pixels"),
    "division": Setting(division="other division"),
    "threads": Setting(threads=1),
    "packages": Setting(packages="2.1"),
    "code": Setting(source="fedcba9876543210"),
    "environment": Setting(environment=("MKL_CBWR", "COMPATIBLE")),
}
#: Changed along with a field, since it asks for another strategy, or for no control.
_ALONG = {f"recipe.{field}": {"recipe.strategy"} for field in ("flip", "crop", "finetune_stages", "freeze_batch_norm")}
_ALONG |= {"recipe.text_features": {"recipe.strategy"}, "recipe.image_features": {"recipe.control"}}


class Runs:
    """Under which digest a run is looked for."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        self.key: Mapping[str, Any] = {}
        self.without: set[str] = set()
        real = files.digest

        def digest(key: Mapping[str, Any], digits: int) -> str:
            self.key = key
            return real({name: value for name, value in key.items() if name not in self.without}, digits)

        monkeypatch.setattr(files, "digest", digest)

    def digest(self, setting: Setting) -> str:
        self.monkeypatch.setattr(code, "of_wing", lambda package: setting.source)
        self.monkeypatch.setattr(prepare, "data_digest", lambda pixels, switches: setting.pixels)
        self.monkeypatch.setenv(*setting.environment)
        # In the same place, as a file that is replaced.
        checkpoint = self.folder / "weights.safetensors"
        checkpoint.write_text(setting.weights, encoding="utf-8")
        return digests.of_runs(
            *(setting.info.identifier, setting.recipe, setting.switches, checkpoint, self.folder),
            *(setting.division, setting.threads),
            {"framework": setting.packages},
        )


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(tmp_path, monkeypatch)


def test_every_part_of_the_runs_key_is_changed_here(runs: Runs) -> None:
    runs.digest(Setting())
    assert set(runs.key) == set(RUN_CHANGES)


@pytest.mark.parametrize("part", RUN_CHANGES)
def test_other_runs_are_found_where_something_changed(part: str, runs: Runs) -> None:
    first = runs.digest(Setting())
    assert runs.digest(RUN_CHANGES[part]) != first
    runs.without = {part, *_ALONG.get(part, set())}
    assert runs.digest(RUN_CHANGES[part]) == runs.digest(Setting())


@pytest.mark.parametrize("field", sorted(WITHOUT_EFFECT))
def test_fields_that_cannot_matter_leave_runs_warm(field: str, runs: Runs) -> None:
    assert runs.digest(Setting(changed(RECIPE, field))) == runs.digest(Setting(beside(field)))


def test_runs_of_another_framework_are_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its code is."""
    monkeypatch.setattr(prepare, "data_digest", lambda pixels, switches: "pixels")
    found = {digests.of_runs(each.identifier, RECIPE, frozenset(), None, tmp_path, "", 1, {}) for each in WINGS}
    assert len(found) == len(WINGS)


@pytest.mark.parametrize("values", [{"strategy": "zero_shot", "text_features": ""}, {"image_features": ""}])
def test_vectors_are_what_is_in_the_file(values: dict[str, str], runs: Runs, tmp_path: Path) -> None:
    """Not where it lies: other vectors at the same place are another key, and the same ones elsewhere are not."""

    def digest(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        named = {key: value or str(tmp_path / name) for key, value in values.items()}
        return runs.digest(Setting(RECIPE.model_copy(update=named)))

    first = digest("a.npy", b"one")
    assert first != digest("a.npy", b"other")
    assert first == digest("b.npy", b"one")


def test_text_features_count_where_they_are_read(runs: Runs, tmp_path: Path) -> None:
    """A study gives them to all of its strategies."""
    (tmp_path / "a.npy").write_bytes(b"one")
    named = RECIPE.model_copy(update={"text_features": str(tmp_path / "a.npy")})
    assert runs.digest(Setting(named)) == runs.digest(Setting(RECIPE))


def test_an_image_in_another_class_is_another_division(tmp_path: Path) -> None:
    """Though all of them are decoded in the same order: the last of a class became the first of the next."""
    for name in ("a/1.png", "a/2.png", "b/3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (int(name[2]), 0, 0)).save(tmp_path / name)
    before = folders.from_folder(tmp_path)
    (tmp_path / "a/2.png").rename(tmp_path / "b/2.png")
    after = folders.from_folder(tmp_path)
    assert before.division != after.division
    assert before.division != replace(before, classes=("a", "c")).division
    assert before.division != replace(before, is_test=np.array([True, False, False])).division


# Decoded pixels.


def decoded(cache: Cache, data: folders.Dataset, recipe: Recipe = RECIPE) -> Array:
    _, path = prepare.decoded(recipe, data, cache, lambda what, done, total: None)
    return cast(Array, np.load(path))


@pytest.mark.parametrize("field", FIELDS)
def test_pixels_of_a_recipe_are_what_an_empty_cache_would_give(field: str, tmp_path: Path) -> None:
    data = folders.from_folder(write_images(tmp_path / "data", {"a": 2, "b": 2}, side=64))
    cache, another = Cache(tmp_path / "cache"), changed(RECIPE, field)
    # Features of another encoder are looked through before anything is decoded.
    for key, rows in {"text_features": np.eye(2, 1280), "image_features": np.eye(4)}.items():
        if key == field:
            np.save(tmp_path / "vectors.npy", rows)
            another = another.model_copy(update={key: str(tmp_path / "vectors.npy")})
    before = decoded(cache, data)
    fresh = decoded(Cache(tmp_path / "fresh"), data, another)
    np.testing.assert_array_equal(decoded(cache, data, another), fresh)
    warm = before.shape == fresh.shape and np.array_equal(before, fresh)
    assert warm == (len(list((cache.root / "pixels").iterdir())) == 1)
    assert warm == (field not in ("image_size", "resize", "crop"))


def unpack_in_place(path: Path) -> None:
    """Another file of the same size and time of modification."""
    before, content = path.stat(), path.read_bytes()
    other = path.with_name("other")
    other.write_bytes(content)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


#: By part of the key, a change of that one thing: of the sizes, or of what ``change_surroundings`` knows.
PIXEL_CHANGES: dict[str, tuple[int, int]] = {
    "code": (50, 40),
    "pillow": (50, 40),
    "resize": (60, 40),
    "size": (50, 50),
    "files": (50, 40),
}


def change_surroundings(part: str, patch: pytest.MonkeyPatch, file: Path) -> None:
    if part == "code":
        patch.setattr(code, "of_pixels", lambda: "fedcba9876543210")
    elif part == "pillow":
        patch.setattr(PIL, "__version__", "0.0")
    elif part == "files":
        file.write_bytes(next(file.parent.glob("01*")).read_bytes())


@pytest.mark.parametrize("part", PIXEL_CHANGES)
def test_other_pixels_are_found_where_something_changed(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_images(tmp_path / "data", {"a": 2, "b": 2}, side=64)
    data, cache = folders.from_folder(folder), Cache(tmp_path / "cache")
    assert set(pixel_cache._key(data, 50, 40)) == set(PIXEL_CHANGES)
    whole = pixel_cache._key

    def differ() -> bool:
        with monkeypatch.context() as patch:
            _, first = pixel_cache.pixels(data, 50, 40, cache)
            change_surroundings(part, patch, folder / "a" / "00.png")
            _, second = pixel_cache.pixels(data, *PIXEL_CHANGES[part], cache)
        return first != second

    assert differ()
    monkeypatch.setattr(pixel_cache, "_key", lambda *given: {n: v for n, v in whole(*given).items() if n != part})
    assert not differ()


def test_files_that_look_alike_are_others(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "data", {"a": 2, "b": 2}, side=64)
    data = folders.from_folder(folder)
    before = pixel_cache._key(data, 50, 40)
    unpack_in_place(folder / "a" / "00.png")
    assert pixel_cache._key(data, 50, 40) != before


# Weights in the neutral format.


@dataclass(frozen=True)
class Origin:
    """Everything on which a neutral file depends."""

    backbone: str = "MobileNetV2"
    name: str = "mine.keras"
    content: str = "content"
    beside: str | None = None
    precision: Literal["float32", "float64"] = "float32"
    source: str = "0123456789abcdef"


class Weights:
    """A process that turns files into neutral ones, and puts down everything that it saw."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        self.cache = Cache(folder / "cache")
        self.started: list[Job] = []
        self.source = ""
        monkeypatch.setattr(launch, "run", self.run)
        monkeypatch.setattr(installed, "missing", lambda framework: None)

    def run(self, framework: str, job: Job, folder: Path) -> None:
        self.started.append(job)
        if isinstance(job, ImportJob):
            path = job.checkpoint
            beside = path.with_suffix(".json")
            seen = [framework, job.recipe.backbone, path.name, path.read_text(encoding="utf-8")]
            seen += [job.execution.precision, beside.read_text(encoding="utf-8") if beside.exists() else ""]
            backbone = job.recipe.backbone
        else:
            assert isinstance(job, DownloadJob)
            seen, backbone = [framework, job.backbone], job.backbone
        text = repr([*seen, self.source])
        arrays = {"a": np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype=np.uint8).astype(np.float32)}
        neutral.save(folder / artifacts.WEIGHTS, arrays, Metadata(backbone=backbone, semantics="torchvision"))
        imported = Imported(left_over={}, folded=(), classes=None, image_size=224)
        (folder / artifacts.IMPORTED).write_text(imported.model_dump_json(), encoding="utf-8")

    def of(self, origin: Origin) -> bytes:
        self._set(origin)
        path = self.folder / "files" / origin.name
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir()
        path.write_text(origin.content, encoding="utf-8")
        if origin.beside is not None:
            path.with_suffix(".json").write_text(origin.beside, encoding="utf-8")
        recipe = Recipe(backbone=origin.backbone, weights=str(path), precision=origin.precision, image_size=64)
        return self._read(recipe)

    def of_library(self, origin: Origin, library: str) -> bytes:
        self._set(origin)
        return self._read(Recipe(backbone=origin.backbone, weights=library))

    def _set(self, origin: Origin) -> None:
        self.source = origin.source
        self.monkeypatch.setattr(code, "of_wing", lambda package: origin.source)

    def _read(self, recipe: Recipe) -> bytes:
        path = resolve_weights.resolve(recipe, self.cache, 1)
        assert path is not None
        return neutral.load(path)[0]["a"].tobytes()


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weights:
    return Weights(tmp_path, monkeypatch)


#: By part of the key, a change of that one thing.
FILE_CHANGES: dict[str, Origin] = {
    "job.recipe": Origin(backbone="ResNet50"),
    "name": Origin(name="renamed.keras"),
    "content": Origin(content="other content"),
    "precision": Origin(precision="float64"),
    "code": Origin(source="fedcba9876543210"),
}
#: What importing a user's own file never says.
CONSTANT = {"job.semantics", "job.classifier", "job.trained_head"}


@pytest.mark.parametrize("part", FILE_CHANGES)
def test_other_weights_are_found_where_something_changed(
    part: str, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = Origin(), FILE_CHANGES[part]
    first = weights.of(before)
    second = weights.of(after)
    assert first != second
    assert (weights.of(before), weights.of(after), len(weights.started)) == (first, second, 2)
    whole = resolve_weights._key
    monkeypatch.setattr(resolve_weights, "_key", lambda *given: {n: v for n, v in whole(*given).items() if n != part})
    # The architecture also stands in the file's name.
    assert (weights.of(before) == weights.of(after)) == (part != "job.recipe")


def test_every_part_of_the_key_of_a_file_is_changed_here(tmp_path: Path) -> None:
    path = tmp_path / "mine.keras"
    path.touch()
    job = ImportJob(execution=Execution(threads=1), recipe=RECIPE, checkpoint=path)
    assert set(resolve_weights._key(job, KERAS)) == set(FILE_CHANGES) | CONSTANT


def test_what_lies_beside_a_kept_model_counts(weights: Weights) -> None:
    found = [weights.of(Origin(beside=text)) for text in (None, "{}", '{"a": 1}')]
    assert len(set(found)) == 3


def test_nothing_else_of_a_recipe_reaches_an_import(weights: Weights) -> None:
    """So that nothing else need be in the key."""
    weights.of(Origin())
    (started,) = weights.started
    assert isinstance(started, ImportJob)
    assert started.recipe == Recipe(backbone="MobileNetV2")


@pytest.mark.parametrize(
    ("after", "library"),
    [
        (Origin(), "keras"),
        (Origin(backbone="ResNet50"), "torchvision"),
        (Origin(source="fedcba9876543210"), "torchvision"),
    ],
)
def test_other_weights_of_a_library_are_found_where_something_changed(
    after: Origin, library: str, weights: Weights
) -> None:
    first = weights.of_library(Origin(), "torchvision")
    assert weights.of_library(after, library) != first
    assert weights.of_library(Origin(), "torchvision") == first
    assert len(weights.started) == 2

"""Attribution that does not mislead: rates of each side, pairs of defaults, and the steps between two guides."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Command
from tests.fakes import FakeWorkers
from transfer_parity import compare
from transfer_parity.shared.contract import plan
from transfer_parity.shared.contract.framework_defaults import Default
from transfer_parity.shared.contract.jobs import TrainJob
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.splits import hold_out
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.experiments import guides, pairs, tuning
from transfer_parity.shared.experiments.arms import ArmKey
from transfer_parity.shared.experiments.attribution_document import AttributionDocument, Effect
from transfer_parity.shared.experiments.study_document import Estimate

#: A small one without network; three images a class, so that one can be held out.
OPTIONS = ("--weights", "random", "--image-size", 32, "--epochs", 2, "--seeds", 3, "--shots", 3)
#: Test images: of eight pictures of each of three classes three are for training.
IMAGES = 3 * 5


def read(folder: Path) -> AttributionDocument:
    return AttributionDocument.model_validate_json((folder / "attribution.json").read_text(encoding="utf-8"))


@pytest.fixture
def arguments(photos: Path, tmp_path: Path) -> list[str]:
    folders = ["--output-dir", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache")]
    return ["attribute", "--strategies", "linear_probe", "--data", str(photos), *map(str, OPTIONS), *folders]


#: Of each switch, the rate at which it costs nothing, and how many test images it costs at any other.
SUITED = {"frozen_batch_norm": (1e-4, 9), "initialisation": (1e-2, 4)}
#: What they cost whatever the rate.
LOST = {"data_order": 1, "resizing": 2}


def planted(job: TrainJob, framework: str, run: str, labels: Array) -> Array:
    """Perfect but for the first images. Some switches only dislike the recipe's rate; two cost more together."""
    rate, switches = job.recipe.learning_rate, set(job.switches)
    wrong = sum(LOST.get(each, 0) for each in switches)
    distance = abs(math.log10(rate / 1e-3))
    for name, (best, cost) in SUITED.items():
        if name in switches:
            distance = abs(math.log10(rate / best))
            wrong += cost if distance > 0.01 else 0
    if {"data_order", "resizing"} <= switches:
        wrong += 3
    logits = (5.0 - distance) * np.eye(len(job.data.classes))[labels]
    wrong = min(wrong, len(labels))
    logits[:wrong] = np.roll(logits[:wrong], 1, axis=1)
    return logits


def test_an_artefact_of_the_rate_is_called_one(
    arguments: list[str], tmp_path: Path, workers: FakeWorkers, capsys: pytest.CaptureFixture[str]
) -> None:
    workers.logits = planted
    assert compare.main(arguments) == 0
    (found,) = read(tmp_path / "out").strategies
    effects = {each.label: each for each in found.effects}
    frozen = effects["torch:frozen_batch_norm"]
    assert frozen.tuned is not None
    assert frozen.accuracy.mean == pytest.approx(-9 / IMAGES)
    assert (frozen.tuned.accuracy.mean, frozen.tuned.rate, frozen.tuned.matched_rate) == (0, 1e-4, 1e-3)
    assert frozen.told_from_zero and not frozen.tuned.told_from_zero
    # What costs as much at any rate stays, and comes first.
    order = effects["tensorflow:resizing"]
    assert order.tuned is not None and order.tuned.accuracy.mean == order.accuracy.mean == pytest.approx(-2 / IMAGES)
    assert found.effects[0].name == "resizing"
    chosen = {(each.framework, each.arm): each for each in found.rates}
    assert chosen["torch", "frozen_batch_norm"].edge == "lowest"
    assert chosen["torch", "initialisation"].edge == "highest"
    assert (chosen["tensorflow", "matched"].rate, chosen["tensorflow", "matched"].edge) == (1e-3, None)
    assert chosen["tensorflow", "matched"].rates == [1e-4, 3e-4, 1e-3, 3e-3, 1e-2]
    assert found.gap is not None and found.gap_tuned is not None
    page = (tmp_path / "out" / "attribution.md").read_text(encoding="utf-8")
    printed = " ".join(capsys.readouterr().out.split())
    for text in (" ".join(page.split()), printed):
        (artefacts,) = (part.split(".")[0] for part in text.split("An artefact of the recipe's rate")[1:])
        assert "PyTorch frozen_batch_norm" in artefacts and "resizing" not in artefacts
        # Before any table.
        assert text.index("An artefact of the recipe's rate") < text.index("framework")
    assert "At the lowest rate of the grid" in printed and "…" not in printed
    # Nothing is done twice.
    before = len(workers.runs)
    assert compare.main(arguments) == 0
    assert len(workers.runs) == before


def test_no_test_image_chooses_a_rate(arguments: list[str], tmp_path: Path, workers: FakeWorkers) -> None:
    """Cells that choose train and judge on training images alone, and on different ones."""
    seen: list[tuple[float, frozenset[int], frozenset[int]]] = []
    run = workers.run

    def watch(framework: str, job: TrainJob, folder: Path, listen: object) -> object:
        for each in job.runs:
            drawn = plan.Plan.load(folder / each.plan)
            seen.append((job.recipe.learning_rate, frozenset(drawn.train.tolist()), frozenset(drawn.test.tolist())))
        return run(framework, job, folder, listen)  # type: ignore[arg-type]

    workers.logits = planted
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transfer_parity.shared.runtime.launch.run", watch)
        assert compare.main([*arguments, "--switches", "torch:frozen_batch_norm"]) == 0
    judged = {test for _, train, test in seen if len(train) == 9}
    trained = {train for _, train, test in seen if len(train) == 9}
    choosing = [(train, held) for _, train, held in seen if len(train) < 9]
    assert len(judged) == 3 and choosing
    for train, held in choosing:
        assert not train & held and train | held in trained
        assert len(held) == 3
    # Choosing uses every rate of the grid, judging only the recipe's and the chosen ones.
    assert len({rate for rate, train, _ in seen if len(train) < 9}) == 5
    assert {rate for rate, train, _ in seen if len(train) == 9} == {1e-3, 1e-4}


def test_an_arm_trains_at_its_own_rate(arguments: list[str], tmp_path: Path, workers: FakeWorkers) -> None:
    """The rate of every step stands in the plan, and the plan of an arm at another rate has that one."""
    seen: dict[float, set[float]] = {}
    run = workers.run

    def watch(framework: str, job: TrainJob, folder: Path, listen: object) -> object:
        for each in job.runs:
            rates = plan.Plan.load(folder / each.plan).learning_rates
            seen.setdefault(job.recipe.learning_rate, set()).update(rates.tolist())
        return run(framework, job, folder, listen)  # type: ignore[arg-type]

    workers.logits = planted
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transfer_parity.shared.runtime.launch.run", watch)
        assert compare.main([*arguments, "--jobs", "1", "--switches", "torch:frozen_batch_norm"]) == 0
    assert seen == {rate: {rate} for rate in (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)}


def test_pairs_and_what_they_explain(arguments: list[str], tmp_path: Path, workers: FakeWorkers) -> None:
    workers.logits = planted
    assert compare.main([*arguments, "--no-tune"]) == 0
    (found,) = read(tmp_path / "out").strategies
    assert not found.rates and found.gap_tuned is None and all(each.tuned is None for each in found.effects)
    assert len(found.interactions) + len(found.pairs_left_out) <= 10
    (both,) = (each for each in found.interactions if {*each.names} == {"data_order", "resizing"} and each.native)
    assert both.framework == "tensorflow"
    assert both.native
    assert both.accuracy.mean == pytest.approx(-6 / IMAGES)
    assert both.interaction.mean == pytest.approx(-3 / IMAGES)
    assert any("different frameworks" in reason for reason in found.pairs_left_out.values())
    assert found.gap is not None and found.gap.pairs is not None and found.gap.rest_of_pairs is not None
    assert found.gap.rest_of_pairs.mean == pytest.approx(found.gap.rest.mean - found.gap.pairs.mean)
    # As shipped, TensorFlow squashes and shuffles; nothing else does anything together.
    assert found.gap.rest.mean == pytest.approx(-3 / IMAGES)
    assert found.gap.rest_of_pairs.mean == pytest.approx(0, abs=1e-12)


def test_neither_rates_nor_pairs(arguments: list[str], tmp_path: Path, workers: FakeWorkers) -> None:
    assert compare.main([*arguments, "--no-tune", "--no-pairs"]) == 0
    plain = len(workers.runs)
    (found,) = read(tmp_path / "out").strategies
    assert not found.interactions and not found.pairs_left_out and not found.rates
    assert plain == 3 * (2 + 2 + len(found.effects))


def test_one_image_a_class_leaves_none_to_hold_out(
    arguments: list[str], tmp_path: Path, workers: FakeWorkers, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare.main([*arguments, "--shots", "1", "--switches", "torch:data_order"]) == 0
    (found,) = read(tmp_path / "out").strategies
    assert not found.rates and "one image a class" in found.not_tuned
    assert "one image a class leaves none to hold out" in " ".join(capsys.readouterr().out.split())


def test_an_interruption_while_rates_are_chosen(arguments: list[str], tmp_path: Path, workers: FakeWorkers) -> None:
    given = [*arguments, "--jobs", "1", "--switches", "torch:frozen_batch_norm"]
    workers.logits, workers.lives = planted, 20
    assert compare.main(given) == 3
    document = read(tmp_path / "out")
    (effect,) = document.strategies[0].effects
    assert document.finished == 20 < document.cells
    assert effect.tuned is None and effect.accuracy.mean == pytest.approx(-9 / IMAGES)
    workers.lives = None
    assert compare.main(given) == 0
    (effect,) = read(tmp_path / "out").strategies[0].effects
    assert effect.tuned is not None


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--rates", "1"], "at least two different multiples"),
        (["--rates", "1", "-3"], "all above 0"),
        (["--rates", "1", "nan"], "all above 0"),
        (["--rates", "1", "3", "--no-tune"], "without --tune no rate is chosen"),
        (["--mode", "guide"], "guide"),
    ],
)
def test_bad_arguments(
    more: list[str], sentence: str, arguments: list[str], workers: FakeWorkers, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare.main([*arguments, *more]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not workers.runs


def test_the_rule_of_the_choice() -> None:
    assert tuning.Choice((1.0, 2.0, 3.0), (0.5, 0.4, 0.4)).rate == 2.0
    assert tuning.Choice((1.0, 2.0, 3.0), (0.5, math.inf, 0.6)).edge == "lowest"
    assert tuning.Choice((1.0, 2.0, 3.0), (0.5, 0.2, 0.1)).edge == "highest"
    described = tuning.described(ArmKey("torch", "a"), tuning.Choice((1.0, 2.0), (0.5, math.inf)))
    assert (described.log_losses, described.arm) == ([0.5, None], "matched")
    assert tuning.grid(Recipe(learning_rate=1e-4), (3, 1, 0.1)) == (1e-5, 1e-4, 3e-4)
    assert tuning.grid(Recipe(solver="ridge"), (1, 3)) == ()


def test_what_is_held_out() -> None:
    labels = np.repeat(np.arange(3), 10)
    train = np.array([0, 1, 2, 3, 4, 10, 11, 12, 13, 14, 20])
    kept, held = hold_out(train, labels, seed=0)
    assert sorted([*kept, *held]) == train.tolist()
    # A fifth of each class, and none of a class with a single image.
    assert np.bincount(labels[held], minlength=3).tolist() == [1, 1, 0]
    assert hold_out(train, labels, seed=0)[1].tolist() == held.tolist()
    assert any(hold_out(train, labels, seed=seed)[1].tolist() != held.tolist() for seed in range(1, 6))
    # Nine are left, of which a batch of eight would leave one alone.
    kept, held = hold_out(train, labels, seed=0, batch=8)
    assert (len(kept), len(held)) == (8, 3)


def effect(framework: str, name: str, size: float, native: bool) -> Effect:
    accuracy = Estimate(mean=size, interval=None)
    return Effect(
        framework=framework, name=name, summary="", native=native, seeds=1, accuracy=accuracy, predictions_changed=0
    )


def test_which_pairs() -> None:
    """One mistake that both frameworks can make counts once; ways of their own count each."""
    found = [
        effect("tensorflow", "weights", -0.5, native=True),
        effect("tensorflow", "bn_epsilon", -0.4, native=False),
        effect("torch", "bn_epsilon", -0.4, native=False),
        effect("tensorflow", "frozen_batch_norm", -0.3, native=False),
        effect("torch", "frozen_batch_norm", -0.3, native=True),
        effect("torch", "initialisation", 0.2, native=True),
        effect("tensorflow", "initialisation", 0.1, native=True),
        effect("tensorflow", "resizing", 0.01, native=True),
    ]
    defaults = [
        Default(each.framework, each.name, "", each.name != "weights", each.native, {"weights": "keras"})
        if each.name == "weights"
        else Default(each.framework, each.name, "", True, each.native)
        for each in found
    ]
    chosen, left_out = pairs.pairs(found, defaults, Recipe())
    labels = {(one.label, other.label) for one, other in chosen}
    assert ("torch:frozen_batch_norm", "torch:initialisation") in labels
    assert ("torch:bn_epsilon", "torch:frozen_batch_norm") in labels
    assert ("tensorflow:weights", "tensorflow:frozen_batch_norm") in labels
    assert "the contrary" in left_out["tensorflow:weights + tensorflow:bn_epsilon"]
    assert "different frameworks" in left_out["tensorflow:weights + torch:initialisation"]
    assert len(chosen) + len(left_out) == 10
    assert not any("resizing" in label for pair in labels for label in pair)


def stepped(job: TrainJob, framework: str, run: str, labels: Array) -> Array:
    """Perfect but for the first images: batches of 32 cost five, crops three, and as shipped PyTorch one more."""
    wrong = 5 * (job.recipe.batch_size == 32) + 3 * job.recipe.crop
    wrong += framework == "torch" and "initialisation" in job.switches
    logits = 5.0 * np.eye(len(job.data.classes))[labels]
    logits[:wrong] = np.roll(logits[:wrong], 1, axis=1)
    return logits


def of_guides(photos: Path, tmp_path: Path) -> list[str]:
    folders = ["--output-dir", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache")]
    small = ("--data", photos, "--weights", "random", "--backbone", "MobileNetV3Small", "--shots", 3, "--seeds", 3)
    return ["attribute", "--mode", "guides", *map(str, small), *folders]


def test_the_steps_between_the_guides(
    photos: Path, tmp_path: Path, workers: FakeWorkers, capsys: pytest.CaptureFixture[str]
) -> None:
    workers.logits = stepped
    assert compare.main(of_guides(photos, tmp_path)) == 0
    document = read(tmp_path / "out")
    found = document.guides
    assert document.mode == "guides" and found is not None and document.finished == document.cells
    names = [each.name for each in found.steps]
    assert names[:3] == ["start", "epochs", "batch_size"] and "weights" not in names
    # One thing at a time: a key of the recipe, or one native behaviour.
    for before, after in zip(found.steps, found.steps[1:], strict=False):
        old, new = before.recipe.model_dump(), after.recipe.model_dump()
        keys = {key for key in old if old[key] != new[key]}
        switched = set(before.switches) ^ set(after.switches)
        assert len(keys) + len(switched - {"adam_epsilon"}) == 1, after.name
    first, last = found.steps[0], found.steps[-1]
    assert (first.recipe.optimizer, first.recipe.epochs, first.recipe.batch_size, first.recipe.size) == (
        *("adam", 20, 32),
        150,
    )
    assert (last.recipe.optimizer, last.recipe.epochs, last.recipe.batch_size, last.recipe.size) == (
        *("sgd", 25, 4),
        224,
    )
    assert last.switches == ["frozen_batch_norm"] and last.recipe.schedule == "step" and last.recipe.crop
    # Nine images: one batch of 32, or three of four.
    assert (first.training_steps, last.training_steps) == (20, 75)
    for step in found.steps[1:]:
        expected = {"batch_size": 5, "crop": -3}.get(step.name, 0) / IMAGES
        assert {each: value.accuracy.mean for each, value in step.change.items()} == {
            "tensorflow": pytest.approx(expected),
            "torch": pytest.approx(expected),
        }, step.name
    assert found.own_ways["torch"].accuracy.mean == pytest.approx(-1 / IMAGES)
    assert found.own_ways["tensorflow"].accuracy.mean == 0
    assert found.whole is not None and found.whole.accuracy.mean == pytest.approx((-5 + 3 + 1) / IMAGES)
    assert any("Dropout(0.2)" in line for line in found.left_out)
    assert any("start from the recipe's (random)" in line for line in found.left_out)
    output = capsys.readouterr().out
    assert "20 steps of training become 75" in " ".join(output.split())
    assert all(len(line) <= 80 for line in output.splitlines() if not line.startswith("Results:"))
    assert "frozen_batch_norm " in output and "…" not in output
    page = (tmp_path / "out" / "attribution.md").read_text(encoding="utf-8")
    assert "`batch_size`" in page and "Dropout(0.2)" in page
    for name in ("attribution.png", "attribution.svg", "recipe.toml"):
        assert (tmp_path / "out" / name).stat().st_size > 300


@pytest.mark.parametrize("more", [("--epochs", "3"), ("--optimizer", "sgd"), ("--switches", "torch:data_order")])
def test_the_guides_decide(
    more: tuple[str, ...], photos: Path, tmp_path: Path, workers: FakeWorkers, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare.main([*of_guides(photos, tmp_path), *more]) == 2
    assert f"{more[0]} goes with --mode defaults" in " ".join(capsys.readouterr().err.split())


def test_own_weights_are_a_step_where_they_can_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transfer_parity.shared.runtime.resolve_weights.resolve", lambda *given: Path("weights"))
    chain = guides.GuideChain(Recipe(control=False), Cache(tmp_path), 1, lambda what, done, total: None)
    assert chain.recipes["start"].weights == "keras" and chain.recipes["crop"].weights == "keras"
    assert chain.recipes["weights"].weights == "torchvision"


def test_the_step_schedule() -> None:
    rates = plan.schedule(Recipe(epochs=16, learning_rate=1.0, schedule="step"), 2)
    np.testing.assert_allclose(rates, [1.0] * 14 + [0.1] * 14 + [0.01] * 4)


@pytest.mark.slow
def test_all_of_it_for_real(command: Command, photos: Path) -> None:
    """Rates, pairs and held-out images in both frameworks, on a network of random weights."""
    chosen = ("torch:initialisation", "torch:frozen_batch_norm", "tensorflow:data_order")
    given = ("--data", photos, *OPTIONS, "--backbone", "MobileNetV3Small", "--image-size", 64, "--seeds", 2)
    more = ("--batch-size", 4, "--precision", "float64", "--rates", 0.1, 10, "--switches", *chosen)
    outcome = command("attribute", "--strategies", "linear_probe", *given, *more)
    assert outcome.status == 0, outcome.errors
    document = read(outcome.folder)
    (found,) = document.strategies
    assert document.finished == document.cells
    assert {each.label for each in found.effects} == set(chosen)
    assert all(each.tuned is not None for each in found.effects)
    (pair,) = found.interactions
    assert pair.framework == "torch" and {*pair.names} == {"initialisation", "frozen_batch_norm"}
    own = {each.framework: each for each in found.rates if each.arm == "matched"}
    # Matched is matched on held-out images, too, at either rate.
    ours, theirs = ([loss or math.nan for loss in own[each].log_losses] for each in ("tensorflow", "torch"))
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    assert own["tensorflow"].rate == own["torch"].rate


@pytest.mark.slow
def test_the_guides_for_real(command: Command, photos: Path) -> None:
    """Both frameworks take the same way: augmentation on a frozen network, its normalisations at last in the batch."""
    small = ("--data", photos, "--weights", "random", "--backbone", "MobileNetV3Small", "--shots", 2, "--seeds", 1)
    outcome = command("attribute", "--mode", "guides", *small, "--precision", "float64")
    assert outcome.status == 0, outcome.errors
    found = read(outcome.folder).guides
    assert found is not None
    cells = outcome.folder / "cells"
    for step in found.steps:
        # Squashing rounds pixels, each framework in its own way.
        if "resizing" not in step.switches:
            ours, theirs = (
                np.load(next(cells.glob(f"{each}-{step.name}-shots2-seed0*/logits.npy")))
                for each in ("tensorflow", "torch")
            )
            assert float(np.abs(ours - theirs).max()) < 1e-9 * float(np.abs(theirs).max()), step.name

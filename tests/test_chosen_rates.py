"""Rates that are chosen: by cross-validation inside the training images of each run, and by a rule on other images."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks import choose_rates, strategies
from tests.conftest import write_images
from tests.fakes import FakeWorkers
from transfer_parity import compare
from transfer_parity.shared.contract import plan, recipe_files, splits, strategy_defaults, study_recipe
from transfer_parity.shared.contract.jobs import TrainJob
from transfer_parity.shared.core.errors import WorkerFailed
from transfer_parity.shared.experiments.rate_record import RateRecord, smallest_budget
from transfer_parity.shared.experiments.study_document import StudyDocument

Array = np.ndarray

# Rates by cross-validation inside the training images.

TUNED = ("--weights", "random", "--image-size", 32, "--epochs", 2, "--seeds", 2, "--shots", 2, 4, "--rates", 0.1, 1, 10)


def test_folds_hold_out_every_image_once() -> None:
    labels = np.repeat(np.arange(3), 10)
    train = np.array([0, 1, 2, 3, 4, 10, 11, 12, 13, 20, 21, 22, 23, 24, 25])
    found = splits.folds(train, labels, seed=0)
    assert sorted(image for _, held in found for image in held.tolist()) == train.tolist()
    for kept, held in found:
        assert sorted([*kept.tolist(), *held.tolist()]) == train.tolist()
        assert set(labels[held]) == {0, 1, 2} and set(labels[kept]) == {0, 1, 2}
    sizes = [len(held) for _, held in found]
    assert max(sizes) - min(sizes) <= 1
    # Three images of a class are too few for four parts.
    assert splits.folds(train[:-6], labels, seed=0) and not splits.folds(np.array([0, 1, 2, 3, 10, 11, 12]), labels, 0)
    # Twelve or eleven are left; a batch of eleven would leave one of twelve alone.
    batched = splits.folds(train, labels, seed=0, batch=11)
    assert all(len(kept) % 11 != 1 for kept, _ in batched)
    assert sorted(np.concatenate([held for _, held in batched]).tolist()) == train.tolist()


def test_each_run_gets_a_rate_of_its_own(
    tmp_path: Path, photos: Path, workers: FakeWorkers, capsys: pytest.CaptureFixture[str]
) -> None:
    """By what is held out of its own training images, for both frameworks; runs of two shots keep the recipe's."""
    liked = {"seed0": 1e-4, "seed1": 1e-2}
    seen: list[tuple[str, str, float, frozenset[int], frozenset[int]]] = []
    run = workers.run

    def logits(job: TrainJob, framework: str, name: str, labels: Array) -> Array:
        distance = abs(math.log10(job.recipe.learning_rate / liked[name[-5:]]))
        return np.asarray((5.0 - distance) * np.eye(len(job.data.classes))[labels])

    def watch(framework: str, job: TrainJob, folder: Path, listen: object) -> object:
        for each in job.runs:
            drawn = plan.Plan.load(folder / each.plan)
            (rate,) = set(drawn.learning_rates.tolist())
            images = (frozenset(drawn.train.tolist()), frozenset(drawn.test.tolist()))
            seen.append((framework, each.id, rate, *images))
        return run(framework, job, folder, listen)  # type: ignore[arg-type]

    workers.logits = logits
    folders = ["--output-dir", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache"), "--jobs", "1"]
    names = ["--strategies", "linear_probe", "ridge"]
    given = ["study", "--data", str(photos), *names, *map(str, TUNED), "--tune", *folders]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transfer_parity.shared.runtime.launch.run", watch)
        assert compare.main(given) == 0
    document = StudyDocument.model_validate_json((tmp_path / "out" / "study.json").read_text(encoding="utf-8"))
    assert document.tuning is not None and document.tuning.framework == "torch"
    assert {(each.shots, each.seed): each.rate for each in document.tuning.rates} == {(4, 0): 1e-4, (4, 1): 1e-2}
    assert {each.edge for each in document.tuning.rates} == {"lowest", "highest"}
    assert set(document.tuning.kept) == {"linear_probe", "ridge"} and "2 shots" in document.tuning.kept["linear_probe"]
    choosing = [each for each in seen if len(each[3]) == 9]
    final = [each for each in seen if len(each[3]) != 9]
    assert len(choosing) == 4 * 3 * 2 and {each[0] for each in choosing} == {"torch"}
    trained = {name: train for _, name, _, train, _ in final}
    for _, name, _, train, held in choosing:
        assert not train & held and train | held == trained[name]
    rates = {(framework, name): rate for framework, name, rate, train, _ in final if len(train) in (6, 12)}
    for framework in ("tensorflow", "torch"):
        for seed, rate in liked.items():
            # Of both strategies, whose runs have one name: the last one counts, and ridge takes no steps.
            assert (framework, f"untrained-shots4-{seed}", rate) in {each[:3] for each in final}
            assert rates[framework, f"untrained-shots2-{seed}"] == 1e-3
    printed = " ".join(capsys.readouterr().out.split())
    assert "Rates by 4-fold cross-validation inside each run's training images: linear_probe 0.0001 to 0.01" in printed
    assert "ridge, nothing is trained in steps" in printed
    # Nothing is done twice, and a run at another rate is another cell.
    before = len(workers.runs)
    assert compare.main(given) == 0
    assert len(workers.runs) == before
    assert compare.main([each for each in given if each not in ("--tune", "--rates", "0.1", "10")]) == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--tune", "--shots", "3"], "--tune needs at least 4 training images of each class"),
        (["--tune", "--shots", "4", "--strategies", "ridge"], "--tune needs at least 4 training images of each class"),
        (["--tune", "--mode", "both"], "--tune goes with --mode matched, not both"),
        (["--rates", "1", "10"], "without --tune no rate is chosen"),
        (["--tune", "--rates", "1"], "give at least two different multiples"),
    ],
)
def test_what_cannot_be_tuned(
    arguments: list[str], sentence: str, tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--output-dir", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache")]
    given = ["study", "--data", str(photos), "--weights", "random", "--image-size", "32", *arguments, *folders]
    assert compare.main(given) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())


# Rates and budgets by a rule, on other images.


def test_rates_are_chosen_on_training_images_and_kept(
    tmp_path: Path, photos: Path, workers: FakeWorkers, capsys: pytest.CaptureFixture[str]
) -> None:
    """The least mean over data sets of the loss beside that of guessing; a second command goes on with the rest."""
    other = write_images(tmp_path / "other", {"a": 8, "b": 8}, seed=1)
    likes = {3: 1e-3, 2: 1e-2}

    def logits(job: TrainJob, framework: str, name: str, labels: Array) -> Array:
        count = len(job.data.classes)
        distance = abs(math.log10(job.recipe.learning_rate / likes[count]))
        # The larger budget helps fine-tuning alone; the folder of two classes cares more.
        more = 2.0 if job.recipe.epochs == 4 and job.recipe.strategy == "finetune" else 0.0
        return np.asarray((4.0 + more - distance * (3 if count == 2 else 1)) * np.eye(count)[labels])

    workers.logits = logits
    record = tmp_path / "record.json"
    given = ["--data", str(photos), str(other), "--weights", "random", "--image-size", "32", "--shots", "4"]
    given += ["--rates", "1e-3", "1e-2", "1e-1", "--jobs", "1", "--cache-dir", str(tmp_path / "cache")]
    given += ["--output-dir", str(tmp_path / "out"), "--record", str(record)]
    assert choose_rates.main([*given, "--strategies", "linear_probe", "--epochs", "2"]) == 0
    assert len(workers.runs) == 2 * 3 * 4 and all(each.startswith("torch") for each in workers.runs)
    assert "linear_probe: 0.01 with 2 passes" in capsys.readouterr().out
    # An interruption keeps what is finished.
    workers.lives = len(workers.runs) + 30
    more = [*given, "--strategies", "linear_probe", "finetune", "--epochs", "2", "4"]
    with pytest.raises(WorkerFailed):
        choose_rates.main(more)
    workers.lives = None
    assert choose_rates.main(more) == 0
    assert len(workers.runs) == 2 * 2 * 2 * 3 * 4
    found = RateRecord.model_validate_json(record.read_text(encoding="utf-8"))
    assert found.data == [photos.name, "other"] and found.folds == 4
    assert {name: (each.epochs, each.rate) for name, each in found.strategies.items()} == {
        "linear_probe": (2, 1e-2),
        "finetune": (4, 1e-2),
    }
    budget = found.strategies["linear_probe"].budgets["2"]
    logits_of = {
        count: [4.0 - (3 if count == 2 else 1) * abs(math.log10(rate / likes[count])) for rate in budget.rates]
        for count in likes
    }
    for name, count in ((photos.name, 3), ("other", 2)):
        expected = [math.log(1 + (count - 1) * math.exp(-each)) / math.log(count) for each in logits_of[count]]
        np.testing.assert_allclose(np.array(budget.by_data[name], dtype=float), expected, rtol=1e-6)
    np.testing.assert_allclose(
        np.array(budget.losses, dtype=float), np.mean(np.array(list(budget.by_data.values()), dtype=float), axis=0)
    )


def test_benchmarks_are_of_strategies_that_any_images_will_do_for() -> None:
    """A study of all of them is read without a word about what one of them lacks."""
    names = strategies.strategies()
    assert study_recipe.read(None, {"data": "flowers"}, names).keys() == set(names)
    assert {"linear_probe", "lp_ft_all", "fixmatch"} <= set(names)
    with pytest.raises(SystemExit):
        choose_rates.main(["--data", "flowers", "--strategies", "multi_task"])


RECORD = RateRecord.model_validate_json(choose_rates.RECORD.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(RECORD.strategies))
def test_rates_of_a_study_are_those_of_the_record(name: str) -> None:
    each, recipe = RECORD.strategies[name], study_recipe.read(None, {}, [name])[name]
    assert (RECORD.image_size, RECORD.batch_size) == (recipe.size, recipe.batch_size)
    assert (each.optimizer, each.schedule) == (recipe.optimizer, recipe.schedule)
    assert recipe.learning_rate == each.budgets[str(recipe.epochs)].rate
    if len(each.budgets) > 1 and name in strategy_defaults.BY_STRATEGY:
        alone = recipe_files.read(None, {"strategy": name})
        assert (alone.epochs, alone.learning_rate) == (each.epochs, each.rate)


def test_the_record_follows_its_rule() -> None:
    for each in RECORD.strategies.values():
        for budget in each.budgets.values():
            losses = [math.inf if loss is None else loss for loss in budget.losses]
            assert budget.rate == budget.rates[losses.index(min(losses))]
            assert budget.rates == sorted(budget.rates)
        assert each.epochs == smallest_budget(each.budgets)
        assert each.rate == each.budgets[str(each.epochs)].rate


def test_a_rate_belongs_to_its_optimizer_and_budget() -> None:
    assert study_recipe.read(None, {"optimizer": "sgd"}, ["linear_probe"])["linear_probe"].learning_rate == 1e-3
    given = study_recipe.read(None, {"learning_rate": 0.5}, ["linear_probe"])["linear_probe"]
    assert given.learning_rate == 0.5

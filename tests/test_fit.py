"""The end of the path: a model trained on every image, its card, and what it says of photographs."""

from __future__ import annotations

import csv
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from tests.conftest import CLASSES, SMALL, Command
from tests.fakes import FakeWorkers, worker_result
from transfer_parity import compare
from transfer_parity.shared.checkpoints import kept_model
from transfer_parity.shared.contract import artifacts, plan
from transfer_parity.shared.contract.jobs import Job, PredictJob, TrainJob
from transfer_parity.shared.contract.plan import Plan
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.results import RunResult, WorkerResult
from transfer_parity.shared.contract.spec import describe
from transfer_parity.shared.contract.wings import WINGS, wing
from transfer_parity.shared.data.folders import from_folder
from transfer_parity.shared.evaluation import metrics
from transfer_parity.shared.experiments import model_card
from transfer_parity.shared.experiments.comparison_document import Comparison
from transfer_parity.shared.experiments.model_card import ModelCard
from transfer_parity.shared.report import model_card as card_report
from transfer_parity.shared.runtime import launch

Captured = pytest.CaptureFixture[str]
GIVEN = ("--weights", "random", "--image-size", "32", "--seeds", "2", "--epochs", "2")
#: Photographs' brightness decides in the stand-in's model.
LOGITS = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 3.0]])


class Trainers(FakeWorkers):
    """Stand in for processes that keep models and use them."""

    def __init__(self) -> None:
        super().__init__()
        self.plans: list[Plan] = []

    def run(
        self, framework: str, job: Job, folder: Path, listen: launch.Listener = lambda event, details: None
    ) -> WorkerResult:
        if isinstance(job, PredictJob):
            folder.mkdir(parents=True, exist_ok=True)
            pixels = np.load(job.images)
            np.save(folder / artifacts.LOGITS, LOGITS[(pixels.mean(axis=(1, 2, 3)) > 128).astype(int)])
            return worker_result()
        assert isinstance(job, TrainJob)
        self.plans += [Plan.load(folder / run.plan) for run in job.runs]
        by_id = {run.id: run for run in job.runs}

        def keep_model(event: str, details: dict[str, Any]) -> None:
            if event == "run" and by_id[details["id"]].save_model:
                path = folder / details["id"] / f"{artifacts.MODEL}{wing(framework).keeps}"
                write_model(path, job.recipe, job.data.classes)
                place = folder / details["id"] / artifacts.RUN_RESULT
                result = RunResult.model_validate_json(place.read_text())
                place.write_text(result.model_copy(update={"model": path.name}).model_dump_json())
            listen(event, details)

        return super().run(framework, job, folder, keep_model)


def write_model(path: Path, recipe: Recipe, classes: tuple[str, ...]) -> None:
    record = describe(recipe, None, classes)
    if path.suffix == artifacts.NEUTRAL:
        save_file({"head.output.weight": np.zeros((len(classes), 4), np.float32)}, path, record)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(kept_model.MEMBER, json.dumps(record))


@pytest.fixture
def trainers(monkeypatch: pytest.MonkeyPatch) -> Trainers:
    workers = Trainers()
    monkeypatch.setattr(launch, "run", workers.run)
    return workers


Fit = Callable[..., int]


@pytest.fixture
def fit(photos: Path, tmp_path: Path, trainers: Trainers) -> Fit:
    """``compare.py fit`` on three classes of eight pictures, into tmp_path/out."""

    def run(*more: object) -> int:
        folders = ("--output-dir", tmp_path / "out", "--cache-dir", tmp_path / "cache")
        return compare.main([str(part) for part in ("fit", "--data", photos, *GIVEN, *folders, *more)])

    return run


def card_of(tmp_path: Path) -> ModelCard:
    return model_card.read(tmp_path / "out" / artifacts.CARD)


def test_the_plan_of_every_image() -> None:
    recipe = Recipe(strategy="finetune", epochs=3, batch_size=4, flip=True)
    drawn = plan.draw_on_all(recipe, 10, seed=1)
    assert drawn.train.tolist() == drawn.test.tolist() == list(range(10))
    assert drawn.order.shape == drawn.flips.shape == (3, 10)
    assert all(sorted(epoch) == list(range(10)) for epoch in drawn.order.tolist())
    assert len(drawn.learning_rates) == 3 * 3
    # The same streams as of every other run.
    assert (plan.draw_on_all(recipe, 10, seed=1).order == drawn.order).all()
    assert (plan.draw_on_all(recipe, 10, seed=2).order != drawn.order).any()


def test_every_image_trains_and_the_card_is_true(
    fit: Fit, trainers: Trainers, photos: Path, tmp_path: Path, capsys: Captured
) -> None:
    assert fit() == 0
    card, out = card_of(tmp_path), tmp_path / "out"
    assert card.images == dict.fromkeys(CLASSES, 8) and card.classes == list(from_folder(photos).classes)
    # Two seeds for the estimate, then the model, in each framework.
    whole = [each for each in trainers.plans if len(each.train) == 24]
    assert len(whole) == len(WINGS) and len(trainers.plans) == 3 * len(WINGS)
    assert card.data == photos.name and str(photos.parent) not in (out / artifacts.CARD_TEXT).read_text()
    for framework, each in card.models.items():
        path = out / each.file
        assert path.suffix == wing(framework).keeps
        assert kept_model.required(path).classes == tuple(card.classes)
    found = Comparison.model_validate_json((out / artifacts.ESTIMATE / artifacts.COMPARISON).read_bytes())
    assert card.estimate is not None and card.estimate.seeds == 2
    for framework, accuracy in card.estimate.accuracy.items():
        assert accuracy == np.mean([run.accuracy for run in found.runs if run.framework == framework])
    assert card.estimate.training_images + card.estimate.test_images == 24
    printed = " ".join(capsys.readouterr().out.split())
    assert f"{100 * card.estimate.accuracy['torch']:.1f} %" in printed
    assert "fewer than this one has seen" in printed
    # The stand-ins part in the first image.
    assert card.same_predictions == 23 and "say the same of 23 of the 24" in printed


def test_without_an_estimate(fit: Fit, trainers: Trainers, tmp_path: Path, capsys: Captured) -> None:
    assert fit("--no-estimate", "--frameworks", "torch") == 0
    assert len(trainers.plans) == 1
    card = card_of(tmp_path)
    assert card.estimate is None and card.same_predictions is None
    assert not (tmp_path / "out" / artifacts.ESTIMATE).exists()
    assert "How good it is was not estimated." in capsys.readouterr().out


def test_an_earlier_comparison_is_quoted(fit: Fit, trainers: Trainers, tmp_path: Path, capsys: Captured) -> None:
    assert fit() == 0
    first = card_of(tmp_path).estimate
    earlier = shutil.copytree(tmp_path / "out" / artifacts.ESTIMATE, tmp_path / "earlier")
    trainers.plans.clear()
    assert fit("--from", earlier) == 0
    assert len(trainers.plans) == len(WINGS)
    found = card_of(tmp_path).estimate
    assert found is not None and first is not None
    assert found.source == "earlier" and found.accuracy == first.accuracy
    capsys.readouterr()
    assert fit("--from", earlier, "--learning-rate", "0.5") == 2
    assert "its learning_rate is 0.001, and that of this recipe 0.5" in " ".join(capsys.readouterr().err.split())
    # Other unlabelled images make another model.
    assert fit("--from", earlier, "--unlabeled", "elsewhere") == 2
    assert "its unlabeled is None, and that of this recipe 'elsewhere'" in " ".join(capsys.readouterr().err.split())
    assert fit("--from", tmp_path) == 2
    assert "there is no comparison.json of this version" in " ".join(capsys.readouterr().err.split())
    # What was there stays.
    assert card_of(tmp_path).estimate == found


def test_names_of_classes_are_no_markup_in_the_card() -> None:
    card = ModelCard(
        **{"created": "", "recipe": Recipe(), "checkpoint": None, "checkpoint_sha256": None, "data": "d"},
        **{"data_sha256": "", "images": {"a|b*[/red]": 1, "c\nd": 2}, "skipped_files": [], "models": {}},
        **{"same_predictions": None, "estimate": None},
    )
    text = card_report.markdown(card)
    assert "| a\\|b\\*\\[/red\\] | 1 |" in text and "| c d | 2 |" in text


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Two pictures, a dark one and a bright one."""
    folder = tmp_path / "mine"
    (folder / "deep").mkdir(parents=True)
    Image.new("RGB", (50, 40), (20, 20, 20)).save(folder / "dark.png")
    Image.new("RGB", (40, 60), (220, 220, 220)).save(folder / "deep" / "bright.jpg")
    return folder


def test_predictions_in_every_form(fit: Fit, photographs: Path, tmp_path: Path, capsys: Captured) -> None:
    assert fit("--no-estimate") == 0
    classes = card_of(tmp_path).classes
    expected = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    arguments = ["predict", str(tmp_path / "out"), str(photographs)]
    capsys.readouterr()
    assert compare.main([*arguments, "--top", "2"]) == 0
    table = capsys.readouterr().out
    assert f"{classes[0]} {100 * expected[0, 0]:.1f} %, {classes[1]} {100 * expected[0, 1]:.1f} %" in table
    assert max(map(len, table.splitlines())) <= 80
    assert compare.main([*arguments, "--format", "csv", "--top", "99"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [Path(row["image"]).name for row in rows] == ["dark.png"] * 3 + ["bright.jpg"] * 3
    assert [row["class"] for row in rows] == [*classes, *reversed(classes)]
    assert np.allclose([float(row["probability"]) for row in rows[:3]], expected[0], atol=1e-15)
    for framework in (each.identifier for each in WINGS):
        target = tmp_path / f"{framework}.json"
        assert compare.main([*arguments, "--format", "json", "--output", str(target), "--framework", framework]) == 0
        found = json.loads(target.read_text())
        assert found["framework"] == framework and found["unreadable"] == []
        assert found["images"][1]["classes"][0] == {
            "class": classes[2],
            "probability": pytest.approx(expected[1, 2], abs=1e-15),
        }


def test_what_cannot_be_read_has_no_prediction(fit: Fit, photographs: Path, tmp_path: Path, capsys: Captured) -> None:
    assert fit("--no-estimate", "--frameworks", "torch") == 0
    (photographs / "notes.png").write_text("[red]no picture[/red]")
    capsys.readouterr()
    # The file of the model alone is enough.
    model = shutil.copy(tmp_path / "out" / "models" / "torch.safetensors", tmp_path / "alone.safetensors")
    assert compare.main(["predict", str(model), str(photographs), "--format", "csv", "--top", "1"]) == 2
    told = capsys.readouterr()
    rows = list(csv.DictReader(told.out.splitlines()))
    assert [Path(row["image"]).name for row in rows] == ["dark.png", "bright.jpg"]
    assert "notes.png cannot be read" in told.err


def _no_models(out: Path) -> None:
    shutil.rmtree(out / "models")


def _edited(out: Path) -> None:
    for path in (out / "models").iterdir():
        path.write_bytes(path.read_bytes() + b" ")


def _newer(out: Path) -> None:
    card = json.loads((out / artifacts.CARD).read_text())
    (out / artifacts.CARD).write_text(json.dumps(card | {"schema_version": 2}))


def _nothing(out: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("change", "arguments", "sentence"),
    [
        (_no_models, ("{out}", "{mine}"), "holds no kept model"),
        (_edited, ("{out}", "{mine}"), "is not the file that model-card.json describes"),
        (_newer, ("{out}", "{mine}"), "is no model card of this version"),
        (_nothing, ("{out}/none", "{mine}"), "does not exist; name a folder that compare.py fit has written"),
        (_nothing, ("{mine}/dark.png", "{mine}"), "is no kept model; these end in .safetensors or .keras"),
        (_nothing, ("{out}", "{out}/models"), "holds no image files"),
        (_nothing, ("{out}", "{mine}/none.jpg"), "none.jpg does not exist; name image files"),
        (_nothing, ("{out}", "{out}/recipe.toml"), "none of 1 image files can be read"),
        (_nothing, ("{out}", "{mine}", "--top", "0"), "--top 0 is too small"),
        (_nothing, ("{out}", "{mine}", "--output", "x.csv"), "needs --format csv or json"),
        (_nothing, ("{out}", "{mine}", "--format", "csv", "--output", "{mine}/dark.png"), "exists; choose a new file"),
        (_nothing, ("{out}", "{mine}", "--format", "csv", "--output", "{mine}/no/x.csv"), "there is no folder"),
        (_nothing, ("{out}/models/torch.safetensors", "{mine}", "--framework", "tensorflow"), "is a file of torch"),
        (_nothing, ("{out}",), "required: PHOTO"),
    ],
)
def test_what_cannot_be_predicted(
    change: Callable[[Path], None],
    arguments: tuple[str, ...],
    sentence: str,
    fit: Fit,
    photographs: Path,
    tmp_path: Path,
    capsys: Captured,
) -> None:
    assert fit("--no-estimate", "--frameworks", "torch") == 0
    change(tmp_path / "out")
    capsys.readouterr()
    given = [each.format(out=tmp_path / "out", mine=photographs) for each in arguments]
    assert compare.main(["predict", *given]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert sentence in told and "Traceback" not in told


def test_a_model_that_diverged_is_not_kept(fit: Fit, trainers: Trainers, tmp_path: Path, capsys: Captured) -> None:
    trainers.logits = lambda job, framework, run, labels: np.full((len(labels), 3), np.nan)
    assert fit("--no-estimate") == 2
    assert "training diverged" in capsys.readouterr().err
    assert not (tmp_path / "out" / artifacts.CARD).exists()


def test_predictions_are_those_of_the_comparison(command: Command, photos: Path, tmp_path: Path) -> None:
    """Both frameworks' kept models say of the test images what they said right after training."""
    outcome = command("--data", photos, *SMALL)
    assert outcome.status in (0, 1), outcome.errors
    found = Comparison.model_validate(outcome.document)
    data = from_folder(photos)
    drawn = plan.draw(found.recipe, data.labels, None, list(data.classes), 0, 3)
    files = data.pictures.files(drawn.test.tolist(), tmp_path)
    for run in found.runs:
        target = tmp_path / f"{run.framework}.json"
        wanted = ("--format", "json", "--output", target, "--top", 3, "--framework", run.framework)
        assert compare.main([str(part) for part in ("predict", outcome.folder, *files, *wanted)]) == 0
        said = json.loads(target.read_text())["images"]
        logits = np.load(outcome.folder / run.logits, allow_pickle=False)
        expected = metrics.probabilities(logits)
        by_class = [{each["class"]: each["probability"] for each in image["classes"]} for image in said]
        predicted = np.array([[image[name] for name in data.classes] for image in by_class])
        # Here the network runs as a whole, there its frozen part did by itself, perhaps with folded normalisations:
        # logits may differ by rounding, and a probability by at most half of what they do.
        assert np.abs(predicted - expected).max() < 1e-5 * max(1.0, float(np.abs(logits).max()))

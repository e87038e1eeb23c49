"""Several tasks: the reading of their labels, which images train, what is measured, and what is said."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import CLASSES
from tests.fakes import FakeWorkers
from transfer_parity import compare
from transfer_parity.shared.contract import plan, recipe_files, study_recipe
from transfer_parity.shared.contract.batches import training_batches
from transfer_parity.shared.contract.jobs import TrainJob
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.core import notices
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.data import folders, registry_datasets, task_labels
from transfer_parity.shared.evaluation import agreement, chance, metrics, ordering
from transfer_parity.shared.experiments import learning_curves, rounding_check
from transfer_parity.shared.experiments.comparison_document import Comparison
from transfer_parity.shared.experiments.sweep import prepared
from transfer_parity.shared.report import gallery
from transfer_parity.shared.report import study as report
from transfer_parity.shared.runtime import resolve_dataset

SIZES = (2, 3)


def recipe(**values: Any) -> Recipe:
    given = {"backbone": "MobileNetV3Small", "weights": "random", "control": False, "strategy": "multi_task", **values}
    return recipe_files.validated(given, "here")


def silent(what: str, done: int, total: int) -> None:
    """Nobody watches."""


def rows(photos: Path) -> list[list[str]]:
    """Of all photos the shape, which is the class's folder, and of two in three a size, large or small."""
    found = sorted(photos.glob("*/*.png"))
    sizes = ["" if number % 3 == 0 else ("large", "small")[number % 2] for number in range(len(found))]
    return [
        [path.relative_to(photos).as_posix(), path.parent.name, size] for path, size in zip(found, sizes, strict=True)
    ]


def written(path: Path, lines: list[list[str]], header: tuple[str, ...] = ("file", "shape", "size")) -> Path:
    path.write_text("\n".join(",".join(line) for line in [list(header), *lines]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def labelled(photos: Path, tmp_path: Path) -> Path:
    """The photos with their labels."""
    folder = shutil.copytree(photos, tmp_path / "labelled")
    written(folder / "labels.csv", rows(folder))
    return folder


def test_labels_of_two_tasks(labelled: Path) -> None:
    found = task_labels.from_csv(labelled, labelled / "labels.csv", ())
    assert found.tasks == (folders.Task("shape", CLASSES), folders.Task("size", ("large", "small")))
    assert found.classes == (*(f"shape: {name}" for name in CLASSES), "size: large", "size: small")
    assert found.labels.shape == (24, 2) and found.task_sizes == (3, 2)
    assert found.labels[:, 0].tolist() == [0] * 8 + [1] * 8 + [2] * 8
    assert found.labels[:7, 1].tolist() == [-1, 4, 3, -1, 3, 4, -1]
    few = found.only(np.arange(24) < 5)
    assert (len(few), few.labels.shape, few.tasks) == (5, (5, 2), found.tasks)


def test_columns_come_in_the_order_that_is_asked_for(labelled: Path) -> None:
    found = task_labels.from_csv(labelled, labelled / "labels.csv", ("size", "shape"))
    assert [task.name for task in found.tasks] == ["size", "shape"]
    assert found.labels[1].tolist() == [1, 2]


def test_the_division_knows_tasks_and_labels(labelled: Path) -> None:
    lines = rows(labelled)
    first = task_labels.from_csv(labelled, labelled / "labels.csv", ())
    lines[0][2] = "small"
    other = task_labels.from_csv(labelled, written(labelled / "other.csv", lines), ())
    assert len({first.division, other.division, folders.from_folder(labelled).division}) == 3


def test_lines_come_in_any_order_with_marks_of_spreadsheets(labelled: Path) -> None:
    """A byte-order mark, other line ends, quotes, spaces and empty lines change nothing."""
    first = task_labels.from_csv(labelled, labelled / "labels.csv", ())
    lines = [
        f' "{file}" ,{shape}, {size} '.replace(' "', '"').replace('" ', '"') for file, shape, size in rows(labelled)
    ]
    text = "\r\n\r\n".join(["file,shape,size", *reversed(lines)])
    (labelled / "other.csv").write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\r\n,,\r\n")
    other = task_labels.from_csv(labelled, labelled / "other.csv", ())
    assert other.division == first.division
    assert other.pictures == first.pictures


def test_images_that_are_not_named_are_told(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(notices, "say", said.append)
    source = written(labelled / "labels.csv", rows(labelled)[3:])
    assert len(task_labels.from_csv(labelled, source, ())) == 21
    assert said == [f"3 of the 24 images in {labelled} are not in {source}: not used."]


def changed(number: int, column: int, cell: str) -> Callable[[list[list[str]]], list[list[str]]]:
    def change(lines: list[list[str]]) -> list[list[str]]:
        lines[number][column] = cell
        return lines

    return change


NAMES = ("file", "shape", "size")
#: What is wrong with a file, and what is said.
WRONG: dict[str, tuple[tuple[str, ...], Callable[[list[list[str]]], list[list[str]]], str]] = {
    "an unknown file": (NAMES, changed(2, 0, "circle/none.png"), "line 4: there is no image file 'circle/none.png'"),
    "a file outside": (NAMES, changed(2, 0, "../secret.png"), "line 4: there is no image file '../secret.png'"),
    "a file twice": (NAMES, changed(2, 0, "circle/00.png"), "line 4: 'circle/00.png' has labels in line 2 already"),
    "a class once": (
        NAMES,
        changed(1, 2, "huge"),
        "class 'huge' of column 'size' occurs once; a class has at least two",
    ),
    "one class": (NAMES, lambda lines: [[*line[:2], "x"] for line in lines], "column 'size' has one class (x); a task"),
    "no labels": (NAMES, lambda lines: [[*line[:2], ""] for line in lines], "column 'size' has no labels; a task has"),
    "no label": (
        NAMES,
        lambda lines: [[lines[0][0], "", ""], *lines[1:]],
        "line 2: an image without any label teaches",
    ),
    "ragged": (NAMES, lambda lines: [*lines[:3], lines[3][:2]], "line 5: 2 cells, and there are 3 columns"),
    "a column twice": (("file", "size", "size"), list, "has the column 'size' 2 times; give every column a name"),
    "no name": (("file", "shape", ""), list, "column 3 has no name; give every column a name"),
    "no file": (("image", "shape", "size"), list, "has no column 'file', the image's file; it has 'image', 'shape'"),
    "no tasks": (("file",), lambda lines: [line[:1] for line in lines], "has no column beside 'file'"),
    "no images": (NAMES, lambda lines: [], "names no images; give a line with the names of the columns"),
    "semicolons": (
        ("file;shape",),
        lambda lines: [[";".join(line)] for line in lines],
        "between the cells there are commas",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_labels_that_are_wrong(what: str, labelled: Path) -> None:
    header, change, sentence = WRONG[what]
    source = written(labelled / "labels.csv", change(rows(labelled)), header)
    with pytest.raises(BadInput) as caught:
        task_labels.from_csv(labelled, source, ())
    assert sentence in str(caught.value) and str(source) in str(caught.value)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("file,shape\ncircle/00.png,gr\xfcn\n".encode("latin-1"), "is not in UTF-8 (byte 27); save it as UTF-8"),
        ("file,shape\n".encode("utf-16"), "is not in UTF-8"),
        (b"file,shape\ncircle/00.png,a\0b\n", "is no text"),
        (b'file,shape\ncircle/00.png,"a\n', "line 2: unexpected end of data; mend the file"),
        (None, "cannot be read (No such file or directory); give --labels FILE.csv"),
    ],
)
def test_files_that_are_no_labels(content: bytes | None, sentence: str, labelled: Path) -> None:
    source = labelled / "other.csv"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        task_labels.from_csv(labelled, source, ())
    assert sentence in str(caught.value)


def test_columns_that_there_are_not(labelled: Path) -> None:
    with pytest.raises(BadInput, match=r"--tasks 'shap': .* has no such column; did you mean 'shape'"):
        task_labels.from_csv(labelled, labelled / "labels.csv", ("shap",))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"strategy": "pseudo_label", "labels": "labels.csv"}, "labels and tasks belong to strategy multi_task; leave"),
        ({"strategy": "linear_probe", "tasks": ["size"]}, "leave them out with strategy linear_probe"),
        ({"loss": "mse"}, "strategy multi_task sums cross entropies; leave loss mse out"),
        ({"solver": "ridge"}, "solver ridge is for a linear head on frozen features"),
    ],
)
def test_what_does_not_go_together(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput) as caught:
        recipe(**values)
    assert sentence in str(caught.value)


def test_sets_without_tasks(labelled: Path, tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "cache"))
    for data in ("flowers", "torchvision:CIFAR10", "nowhere"):
        with pytest.raises(BadInput, match=f"--data {data}: strategy multi_task takes solar_cells with its own labels"):
            resolve_dataset.of_recipe(recipe(data=data), cache)
    (labelled / "labels.csv").rename(labelled / "other.csv")
    with pytest.raises(BadInput, match=r"labels .*labels.csv cannot be read"):
        resolve_dataset.of_recipe(recipe(data=str(labelled)), cache)
    given = recipe(data=str(labelled), labels=str(labelled / "other.csv"), tasks=["size"])
    with pytest.raises(BadInput, match=r"line 2 \(and 7 more\): an image without any label"):
        resolve_dataset.of_recipe(given, cache)
    assert len(resolve_dataset.of_recipe(given.model_copy(update={"tasks": ()}), cache)) == 24


def test_a_folder_with_labels_alone(labelled: Path) -> None:
    for name in CLASSES[1:]:
        shutil.rmtree(labelled / name)
    with pytest.raises(BadInput, match=r"holds one class .* labels.csv is read with --strategy multi_task\."):
        folders.from_folder(labelled)


def test_solar_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The defect is not known where the experts were unsure."""
    kinds = [
        (f"images/{number}.png", (0.0, 1 / 3, 2 / 3, 1.0)[number % 4], ("mono", "poly")[number // 4])
        for number in range(8)
    ]
    monkeypatch.setattr(registry_datasets, "_solar_cell_rows", lambda cache, progress: (tmp_path, kinds))
    cache = Cache(str(tmp_path / "cache"))
    both = resolve_dataset.of_recipe(recipe(data="solar_cells"), cache)
    assert both.classes == ("defect: defective", "defect: functional", "type: monocrystalline", "type: polycrystalline")
    assert both.labels.tolist() == [[1, 2], [-1, 2], [-1, 2], [0, 2], [1, 3], [-1, 3], [-1, 3], [0, 3]]
    alone = resolve_dataset.of_recipe(recipe(data="solar_cells", tasks=["defect"]), cache)
    assert alone.labels[:, 0].tolist() == [1, 0, 1, 0] and len(alone) == 4
    with pytest.raises(BadInput, match="--tasks 'typ': solar_cells has no such task; did you mean 'type'"):
        resolve_dataset.of_recipe(recipe(data="solar_cells", tasks=["typ"]), cache)


# Which images train.


@pytest.mark.parametrize("shots", [[1, 2], [1, 2, "all"]])
def test_shots_count_every_class_of_every_task(shots: list[Any], labelled: Path) -> None:
    data = task_labels.from_csv(labelled, labelled / "labels.csv", ())
    chosen = recipe(shots=shots, seeds=3)
    drawn = plan.draw_all(chosen, data.labels, data.is_test, list(data.classes))
    for seed in range(3):
        before: set[int] = set()
        for amount in chosen.shots:
            train, test = drawn[amount, seed].train, drawn[amount, seed].test
            counts = np.bincount(data.labels[train][data.labels[train] >= 0], minlength=5)
            assert counts.min() >= (amount if amount != "all" else 3)
            tested = data.labels[test]
            assert np.bincount(tested[tested >= 0], minlength=5).min() >= 1
            assert not set(train) & set(test) and before <= set(train)
            np.testing.assert_array_equal(test, drawn[chosen.shots[0], seed].test)
            before = set(train)
        # Drawn for one task, an image counts in the others, too.
        assert len(drawn[1, seed].train) <= 5
        assert "all" not in shots or len(drawn["all", seed].train) + len(drawn["all", seed].test) == len(data)
    assert len({tuple(drawn[1, seed].train) for seed in range(3)}) > 1


def test_too_few_images_of_a_class(labelled: Path) -> None:
    data = task_labels.from_csv(labelled, labelled / "labels.csv", ())
    with pytest.raises(
        BadInput, match=r"class 'shape: circle' has 8 images, of which . are to test on, but 8 shots need 8"
    ):
        plan.draw_all(recipe(shots=8), data.labels, None, list(data.classes))


def test_parts_of_the_training_images_are_divided_by_all_labels(labelled: Path) -> None:
    data = task_labels.from_csv(labelled, labelled / "labels.csv", ())
    chosen = recipe(shots="all")
    drawn = plan.draw(chosen, data.labels, None, list(data.classes), 0, "all")
    held = plan.draw_validation(chosen, data.labels, drawn, 0)
    assert held is not None and sorted([*held.train, *held.test]) == drawn.train.tolist()


def test_batches_say_what_is_known(labelled: Path) -> None:
    data = task_labels.from_csv(labelled, labelled / "labels.csv", ())
    chosen = recipe(shots=2, epochs=2, batch_size=4)
    drawn = plan.draw(chosen, data.labels, None, list(data.classes), 0, 2)
    for batch in training_batches(drawn, 4, np.zeros((24, 7)), data.labels, None):
        np.testing.assert_array_equal(batch.streams["known"], batch.labels >= 0)
        assert batch.labels.shape[1] == 2


# What is measured.


def answers() -> tuple[Array, Array]:
    """Logits of two tasks, side by side, and labels, a third of which are not known."""
    random = np.random.default_rng(0)
    labels = np.stack([random.integers(0, 2, 60), 2 + random.integers(0, 3, 60)], axis=1)
    logits = random.standard_normal((60, 5)) + 1.5 * (np.eye(5)[labels[:, 0]] + np.eye(5)[labels[:, 1]])
    labels[random.random(labels.shape) < 1 / 3] = -1
    return logits, labels


def test_metrics_of_tasks() -> None:
    logits, labels = answers()
    whole, each = metrics.evaluate(logits, labels, SIZES), metrics.by_task(logits, labels, SIZES)
    known = labels >= 0
    counts = known.sum(axis=0)
    assert len(set(counts)) == 2
    for task, part in enumerate((slice(0, 2), slice(2, 5))):
        alone = metrics.evaluate(logits[known[:, task], part], labels[known[:, task], task] - part.start)
        assert each[task] == alone
    assert whole.accuracy == pytest.approx(np.average([one.accuracy for one in each], weights=counts))
    assert whole.log_loss == pytest.approx(np.average([one.log_loss for one in each], weights=counts))
    assert whole.recalls == [*each[0].recalls, *each[1].recalls]
    assert whole.macro_recall == pytest.approx(np.average([one.macro_recall for one in each], weights=SIZES))
    matrix = np.array(whole.confusion_matrix)
    assert matrix[:2, :2].tolist() == each[0].confusion_matrix and matrix[2:, 2:].tolist() == each[1].confusion_matrix
    assert matrix.sum() == known.sum() == len(metrics.correct(logits, labels, SIZES))
    assert metrics.correct(logits, labels, SIZES).mean() == pytest.approx(whole.accuracy)


def test_what_is_not_known_is_neither_right_nor_wrong() -> None:
    """Not where there is no prediction, either, which has the same mark."""
    logits, labels = answers()
    logits[0], labels[0] = np.nan, (-1, 3)
    assert metrics.predictions(logits, SIZES)[0].tolist() == [metrics.NO_PREDICTION] * 2
    found = metrics.evaluate(logits, labels, SIZES)
    assert found.accuracy == pytest.approx((metrics.predictions(logits, SIZES) == labels)[labels >= 0].mean())
    assert found.log_loss is None


def test_one_task_is_measured_as_ever() -> None:
    logits, labels = answers()
    known = labels[:, 0] >= 0
    column, logits = labels[known, :1], logits[known, :2]
    assert metrics.evaluate(logits, column, (2,)) == metrics.evaluate(logits, column[:, 0])


def test_chance_guesses_the_most_frequent_class_of_each_task() -> None:
    labels = np.array([[0, 2], [0, -1], [1, 3], [-1, 3]])
    assert chance.level(labels) == pytest.approx((2 + 2) / 6)


def test_agreement_over_tasks_and_of_each() -> None:
    logits, labels = answers()
    other = logits.copy()
    # Two answers to the second task change: a wrong one becomes right, and one is of an image whose label is not known.
    right = metrics.predictions(logits, SIZES) == labels
    (wrong, *_), (hidden, *_) = np.flatnonzero(~right[:, 1] & (labels[:, 1] >= 0)), np.flatnonzero(labels[:, 1] < 0)
    other[wrong, labels[wrong, 1]] += 100
    other[hidden, 2:] = -other[hidden, 2:]
    ours, theirs = (agreement.Side(each, np.zeros(3), "") for each in (other, logits))
    pair = agreement.Paired(0, labels, ours, theirs, tasks=SIZES)
    whole, _ = agreement.agree([pair], 0.01)
    first, second = (agreement.agree([pair.of_task(task)], 0.01)[0] for task in (0, 1))
    assert (whole.predictions_compared, whole.predictions_identical) == (120, 118)
    assert whole.accuracy_difference == pytest.approx(1 / (labels >= 0).sum())
    assert (first.predictions_compared, first.predictions_identical, first.accuracy_difference) == (60, 60, 0)
    assert (second.predictions_compared, second.predictions_identical) == (60, 58)
    assert second.accuracy_difference == pytest.approx(1 / (labels[:, 1] >= 0).sum())


def test_a_check_of_rounding_looks_at_every_task() -> None:
    """The largest logit of all is one task's, and says nothing about the others."""
    ours = np.array([[9.0, 0, 0, 0.1, 0], [9, 0, 0, 0.2, 0.1]])
    theirs = np.array([[9.0, 0, 0, 0, 0.1], [9, 0, 0, 0.2, 0.1]])
    assert rounding_check.parted([ours, theirs], (3, 2)) == (1, 4)
    assert rounding_check.parted([ours, theirs]) == (0, 2)


# What is said.


def several(job: TrainJob, framework: str, run: str, labels: Array) -> Array:
    """Logits that know the first task, and torch's half of the second one."""
    assert job.data.tasks == (3, 2)
    logits = np.zeros((len(labels), 5))
    for task in (0, 1):
        known = np.flatnonzero(labels[:, task] >= 0)
        logits[known, labels[known, task]] = 3.0 + 0.1 * np.arange(len(known))
    if framework == "torch":
        logits[::2, 3:] = -logits[::2, 3:]
    return logits


def test_a_comparison_of_tasks(
    labelled: Path, tmp_path: Path, workers: FakeWorkers, capsys: pytest.CaptureFixture[str]
) -> None:
    """Metrics and a verdict for each task, beside those of all."""
    workers.logits = several
    small = ["--weights", "random", "--image-size", "32", "--seeds", "2", "--shots", "2", "--epochs", "2"]
    given = ["--data", str(labelled), "--strategy", "multi_task", "--no-control", "--no-check", *small]
    status = compare.main([*given, "--output-dir", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache")])
    found = Comparison.model_validate_json((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert [(task.task, task.classes) for task in found.tasks] == [
        ("shape", list(CLASSES)),
        ("size", ["large", "small"]),
    ]
    assert found.tasks[0].verdict == "identical"
    assert found.tasks[1].verdict not in ("identical", "equivalent", "not compared") and status == 1
    assert found.verdict not in ("identical", "equivalent")
    for each in found.runs:
        shape, size = each.tasks
        assert shape.accuracy == 1 and shape.test_images == each.test_images > size.test_images
        assert (size.accuracy == 1) == (each.framework == "tensorflow")
        assert len(each.recalls) == 5 and len(size.recalls) == 2
    shown = capsys.readouterr().out
    assert "24 images of 2 tasks (3, 2 classes)" in shown
    assert "\n   shape " in shown and "shape: Identical: " in shown and "size: " in shown


def test_answers_about_an_image_belong_to_it() -> None:
    """Intervals for new images and the sign test count images, however many labels of each are known."""
    images, labels = np.array([7, 3, 5]), np.array([[0, 2], [1, -1], [-1, 3]])
    assert learning_curves.answered(images, labels).tolist() == [7, 7, 3, 5]
    assert learning_curves.answered(images, labels[:, 0]).tolist() == [7, 3, 5]
    # Both answers about one image are better, one about another is, and one about the third is worse: 2 to 1, not 3.
    right = np.array([1, 1, 1, 0]), np.array([0, 0, 0, 1])
    owners = learning_curves.answered(images, labels)
    found = ordering.paired(*([ordering.SeedRun(0, owners, each)] for each in right))
    assert found.by_image.tolist() == [1, 1, -1]


def test_a_study_of_tasks(labelled: Path, tmp_path: Path, workers: FakeWorkers) -> None:
    workers.logits = several
    given = {"data": str(labelled), "weights": "random", "image_size": 32, "seeds": 2, "shots": [2], "epochs": 2}
    sweep = prepared(
        study_recipe.read(None, given, ["multi_task"]), Cache(str(tmp_path / "cache")), tmp_path / "out", silent
    )
    sweep.run()
    found = learning_curves.document(sweep)
    assert all([task.task for task in each.tasks] == ["shape", "size"] for each in found.results)
    for point in found.points:
        mine = [each.accuracy for each in found.results if each.framework == point.framework]
        assert point.accuracy.mean == pytest.approx(np.mean(mine))
    (line,) = (line for line in report.notes(found) if "task by task" in line)
    assert line.startswith(
        "multi_task, 2 shots, accuracy in % task by task: shape 100.0 (TensorFlow), 100.0 (PyTorch); size"
    )
    assert not any(gallery.of_page(sweep, found).values()) and not gallery.activation_maps(sweep, found)
    first, *others = found.results
    named = first.model_copy(update={"tasks": [each.model_copy(update={"task": "<b>"}) for each in first.tasks]})
    shown = report.markdown(found.model_copy(update={"results": [named, *others]}))
    assert "\\<b\\>" in shown and "<b>" not in shown
    matrix = gallery.confusion(found)
    assert matrix is not None and all(len(each) == 5 for each in matrix.matrices.values())


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (
            ["study", "--strategies", "multi_task", "ridge"],
            "strategies with several tasks and with one cannot be compared",
        ),
        (
            ["attribute", "tasks.toml"],
            "attribute judges one class for each image, and strategy multi_task",
        ),
        (["fit", "--strategy", "multi_task"], "fit keeps a model of one task, and strategy multi_task has several"),
    ],
)
def test_commands_that_take_one_task(
    command: list[str],
    sentence: str,
    labelled: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = [*command, "--data", str(labelled), "--weights", "random", "--image-size", "32"]
    monkeypatch.chdir(tmp_path)
    Path("tasks.toml").write_text('[strategies.both]\nstrategy = "multi_task"\n', encoding="utf-8")
    status = compare.main([*given, "--output-dir", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache")])
    assert status == 2
    assert sentence in " ".join(capsys.readouterr().err.split())

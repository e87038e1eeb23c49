"""Episodes: what is drawn, what is made of predictions, archives of images and runs, and the command on both wings."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from tests.conftest import Outcome, run_compare, write_images
from transfer_parity import compare
from transfer_parity.shared.contract import episodes
from transfer_parity.shared.contract.episodes import Episodes
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.data import archives, images, one_shot_runs
from transfer_parity.shared.experiments import episode_methods, episode_scores
from transfer_parity.shared.experiments.episode_methods import METHODS, EpisodeMethod, Task
from transfer_parity.shared.experiments.episode_scores import Judged
from transfer_parity.shared.experiments.episodes_document import EpisodesDocument
from transfer_parity.shared.report import episodes as report

Array = np.ndarray[Any, Any]
LABELS = np.repeat(np.arange(8), 12)
CLOSED = [each for each in METHODS if each.logits is not None]


# ----- the plan -----


def test_classes_are_divided_by_name_and_by_part() -> None:
    names = list("abcdefgh")
    assert episodes.divide(names, ["c", "a"]).base == (0, 2)
    assert episodes.divide(names, ["c", "a"]).novel == (1, 3, 4, 5, 6, 7)
    assert episodes.divide(names, ["c"], ["h", "b"]) == episodes.Division((2,), (1, 7))
    half = episodes.divide(names, 0.5, seed=3)
    assert len(half.base) == len(half.novel) == 4
    assert set(half.base) | set(half.novel) == set(range(8))
    assert half == episodes.divide(names, 0.5, seed=3)
    assert half != episodes.divide(names, 0.5, seed=4)
    # Whoever names novel classes keeps them out of those that are drawn.
    assert episodes.divide(names, 0.9, ["b"]).novel == (1,)
    assert 1 not in episodes.divide(names, 0.9, ["b"]).base
    assert episodes.divide(names, 0.0).base == ()


@pytest.mark.parametrize(
    ("base", "novel", "part"),
    [
        (["a", "x"], None, "--base-classes: there is no class 'x'"),
        (["a"], ["bb"], "--novel-classes: there is no class 'bb'"),
        (["a", "b"], ["b", "c"], "b: a class cannot be base and novel"),
        (["a", "b", "c"], None, "no novel class is left: all 3 are base classes"),
    ],
)
def test_bad_divisions_are_one_sentence(base: list[str], novel: list[str] | None, part: str) -> None:
    with pytest.raises(BadInput, match=part):
        episodes.divide(["a", "b", "c"], base, novel)


def test_episodes_hold_what_they_should() -> None:
    drawn = episodes.draw(LABELS, (1, 3, 4, 6), ways=3, shots=2, queries=5, episodes=40, seed=0)
    assert drawn.support.shape == (40, 6)
    assert drawn.queries.shape == (40, 15)
    for support, asked, own, labels in zip(
        drawn.support, drawn.queries, drawn.support_labels, drawn.query_labels, strict=True
    ):
        assert len(set(support) | set(asked)) == 21
        classes = LABELS[support][::2]
        assert len(set(classes)) == 3
        assert set(classes) <= {1, 3, 4, 6}
        np.testing.assert_array_equal(classes[own], LABELS[support])
        np.testing.assert_array_equal(classes[labels], LABELS[asked])
    # All classes turn up, and as other places of the task.
    firsts = LABELS[drawn.support[:, 0]]
    assert set(firsts) == {1, 3, 4, 6}


def test_episodes_depend_on_nothing_that_they_need_not() -> None:
    draw = partial(episodes.draw, LABELS, tuple(range(8)), 3, queries=4)
    few, many = draw(shots=1, episodes=5, seed=0), draw(shots=5, episodes=20, seed=0)
    np.testing.assert_array_equal(few.queries, many.queries[:5])
    np.testing.assert_array_equal(few.support, many.support.reshape(20, 3, 5)[:5, :, 0])
    assert not np.array_equal(few.queries, draw(shots=1, episodes=5, seed=1).queries)
    assert not np.array_equal(few.queries, draw(shots=1, episodes=5, seed=0, purpose="base").queries)


def test_too_few_classes_or_images() -> None:
    with pytest.raises(BadInput, match="--ways 5 is more than the 4 novel classes"):
        episodes.check(LABELS, list("abcdefgh"), (0, 1, 2, 3), 5, 2)
    with pytest.raises(BadInput, match="class 'b' has 11 images, and shots and queries together need 12"):
        episodes.check(np.delete(LABELS, 12), list("abcdefgh"), (0, 1, 2, 3), 4, 12)
    episodes.check(LABELS, list("abcdefgh"), (0, 1, 2, 3), 4, 12)


def test_places_among_some_images() -> None:
    drawn = episodes.draw(LABELS, (1, 3, 4), ways=2, shots=1, queries=2, episodes=3, seed=0)
    needed = np.unique(np.concatenate([drawn.support.ravel(), drawn.queries.ravel()]))
    moved = drawn.among(needed)
    np.testing.assert_array_equal(needed[moved.support], drawn.support)
    np.testing.assert_array_equal(needed[moved.queries], drawn.queries)


# ----- methods and scores -----


def judged(method: EpisodeMethod, features: dict[str, Array], drawn: Episodes) -> Judged:
    def logits(mine: Array, number: int) -> Array:
        assert method.logits is not None
        support, asked = mine[drawn.support[number]], mine[drawn.queries[number]]
        return method.logits(Task(support, drawn.support_labels[number], drawn.ways, asked, 1.0))

    return episode_scores.judged(
        method.name, 1, drawn, {each: partial(logits, mine) for each, mine in features.items()}
    )


@pytest.mark.parametrize("method", CLOSED, ids=lambda method: method.name)
@pytest.mark.parametrize("shots", [1, 5])
def test_separable_classes_are_told_apart_and_noise_is_not(method: EpisodeMethod, shots: int) -> None:
    random = np.random.default_rng(shots)
    drawn = episodes.draw(LABELS, tuple(range(8)), ways=4, shots=shots, queries=6, episodes=100, seed=0)
    apart = 20 * np.eye(16)[LABELS] + 0.1 * random.normal(size=(96, 16))
    assert judged(method, {"torch": apart}, drawn).right["torch"].min() == 1
    noise = random.normal(size=(96, 16))
    (accuracy,) = episode_scores.accuracies(judged(method, {"torch": noise}, drawn))
    # Twelve images a class are the same in many episodes: the interval over episodes is no test of chance.
    assert accuracy.accuracy == pytest.approx(0.25, abs=0.06)


def made(right: dict[str, list[list[int]]], method: str = "ridge", difference: float | None = 1e-6) -> Judged:
    """Predictions of which those that are 1 are right."""
    predictions = {each: np.array(rows) for each, rows in right.items()}
    return Judged(method, 1, predictions, {each: rows.mean(axis=1) for each, rows in predictions.items()}, difference)


def test_intervals_are_those_of_a_hand_computation() -> None:
    found = made({"torch": [[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 1]]})
    (accuracy,) = episode_scores.accuracies(found)
    values = np.array([0.75, 0.5, 1.0])
    assert (accuracy.accuracy, accuracy.deviation) == (0.75, 0.25)
    reach = stats.t.ppf(0.975, 2) * 0.25 / math.sqrt(3) / (0.75 * 0.25)
    expected = [1 / (1 + math.exp(-(math.log(3) + sign * reach))) for sign in (-1, 1)]
    assert accuracy.interval == pytest.approx(expected)
    other = made({"torch": [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]]}, "nearest_mean")
    (difference,) = episode_scores.method_differences([other, found])
    assert (difference.method, difference.minus) == ("ridge", "nearest_mean")
    assert difference.difference == pytest.approx((values - np.array([0.5, 0.25, 0.75])).mean())
    # The same difference in every episode leaves no doubt.
    assert difference.interval == pytest.approx((0.25, 0.25))
    paired = episode_scores.method_differences([made({"torch": [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]}), found])[0]
    by_hand = stats.t.interval(0.95, 2, *(np.array([0.25, 0, 1]).mean(), stats.sem([0.25, 0, 1])))
    assert paired.interval == pytest.approx([max(by_hand[0], -1), min(by_hand[1], 1)])


def test_frameworks_are_paired_by_episode() -> None:
    same = made({"tensorflow": [[1, 0], [1, 1]], "torch": [[1, 0], [1, 1]]})
    agreement = episode_scores.framework_agreement(same, 0.01)
    assert agreement is not None
    assert (agreement.verdict, agreement.predictions_identical, agreement.predictions_compared) == ("identical", 4, 4)
    worse = made({"tensorflow": [[1, 1]] * 20, "torch": [[1, 0]] * 19 + [[1, 1]]})
    found = episode_scores.framework_agreement(worse, 0.01)
    assert found is not None
    assert (found.verdict, found.predictions_identical) == ("different", 21)
    assert found.accuracy_difference == pytest.approx(19 / 40)
    assert episode_scores.worst([agreement, found]) == "different"
    lost = made({"tensorflow": [[1, 0]], "torch": [[1, 0]]}, difference=math.inf)
    broken = episode_scores.framework_agreement(lost, 0.01)
    assert broken is not None
    assert (broken.verdict, broken.max_abs_logit_difference) == ("inconclusive", None)
    assert episode_scores.framework_agreement(made({"torch": [[1]]}, difference=None), 0.01) is None
    assert episode_scores.worst([]) == "not compared"


def test_logits_that_are_not_finite_predict_nothing() -> None:
    drawn = episodes.draw(LABELS, (0, 1), ways=2, shots=1, queries=1, episodes=2, seed=0)
    logits = np.array([[np.nan, 1.0], [0.0, 1.0]])
    found = episode_scores.judged("ridge", 1, drawn, {"tensorflow": lambda _: logits, "torch": lambda _: logits})
    assert found.predictions["torch"].tolist() == [[-1, 1], [-1, 1]]
    assert found.logit_difference == math.inf


def test_unknown_methods() -> None:
    assert episode_methods.chosen(None) == METHODS
    assert [each.name for each in episode_methods.chosen(["ridge", "nearest_mean"])] == ["nearest_mean", "ridge"]
    with pytest.raises(BadInput, match="no method 'rigde'; did you mean 'ridge'"):
        episode_methods.chosen(["rigde"])


def errors_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Sentences about what is wrong, without what tells the progress."""
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]


# ----- archives -----


def png(value: int, side: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((side, side), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def archive(path: Path, members: dict[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def run_members(run: str, ways: int = 3) -> dict[str, bytes | str]:
    """A run whose test image k is of the training image ways - k, in shades of grey."""
    members: dict[str, bytes | str] = {}
    lines = []
    for number in range(1, ways + 1):
        members[f"{run}/training/class{number:02d}.png"] = png(20 * number)
        members[f"{run}/test/item{number:02d}.png"] = png(20 * (ways + 1 - number) + 1)
        lines.append(f"{run}/test/item{number:02d}.png {run}/training/class{ways + 1 - number:02d}.png")
    return {**members, f"{run}/class_labels.txt": "\n".join(lines) + "\n\n"}


def shades(pictures: archives.Members) -> list[int]:
    return [int(np.asarray(decode())[0, 0, 0]) for _, decode in pictures.decoders()]


def test_runs_are_read_from_the_archive(tmp_path: Path) -> None:
    runs = one_shot_runs.read(archive(tmp_path / "runs.zip", run_members("run01") | run_members("run02")))
    assert runs.names == ("run01", "run02")
    assert runs.data.classes[3] == "run02/training/class01"
    assert isinstance(runs.data.pictures, archives.Members)
    found = np.array(shades(runs.data.pictures))
    np.testing.assert_array_equal(found[runs.support], [[20, 40, 60]] * 2)
    np.testing.assert_array_equal(found[runs.queries], [[61, 41, 21]] * 2)
    np.testing.assert_array_equal(runs.query_labels, [[2, 1, 0]] * 2)
    np.testing.assert_array_equal(runs.data.labels[runs.queries], [[2, 1, 0], [5, 4, 3]])


def test_an_archive_of_folders_is_a_data_set(tmp_path: Path) -> None:
    members = {f"set/{name}/{number}.png": png(number) for name in ("a/x", "a/y", "b/x") for number in (1, 2)}
    extra = {"set/notes.txt": "no image", "__MACOSX/set/a/x/._1.png": "no image", "set/a/x/.hidden.png": "no image"}
    found = archives.from_zip(archive(tmp_path / "set.zip", {**members, **extra}))
    assert found.classes == ("a/x", "a/y", "b/x")
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]
    both = archives.joined(
        found, archives.from_zip(archive(tmp_path / "other.zip", {"c/1.png": png(7), "d/1.png": png(8)}))
    )
    assert both.classes == ("a/x", "a/y", "b/x", "c", "d")
    kept = both.only(np.array([True, False] * 4))
    assert [name for name, _ in kept.pictures.decoders()] == [
        "set/a/x/1.png",
        "set/a/y/1.png",
        "set/b/x/1.png",
        "c/1.png",
    ]
    written = both.pictures.files([6, 0], tmp_path)
    assert [path.read_bytes() for path in written] == [png(7), png(1)]
    assert list(both.pictures.state()) != list(kept.pictures.state())
    with pytest.raises(BadInput, match="both have the class 'a/x'"):
        archives.joined(found, found)


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:20])
    return path


def spoilt(path: Path) -> Path:
    """One byte of the first member's content is another one."""
    data = bytearray(path.read_bytes())
    data[60] ^= 255
    path.write_bytes(data)
    return path


LABELS_OF = "run01/class_labels.txt"
BAD_RUNS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda path: path, "there is no such file"),
    "cut short": (lambda path: cut(archive(path, run_members("run01"))), "damaged or no zip archive"),
    "no archive": (lambda path: cut(archive(path, {})), "damaged or no zip archive"),
    "escaping": (lambda path: archive(path, {**run_members("run01"), "../../x.png": png(1)}), "lies outside of it"),
    "absolute": (lambda path: archive(path, {**run_members("run01"), "/etc/x.png": png(1)}), "lies outside of it"),
    "drive": (lambda path: archive(path, {**run_members("run01"), "C:\\x.png": png(1)}), "lies outside of it"),
    "no labels": (lambda path: archive(path, {"a/1.png": png(1)}), "has no class_labels.txt"),
    "not text": (lambda path: archive(path, {**run_members("run01"), LABELS_OF: b"\xff\xfe"}), "is not text"),
    "half a line": (lambda path: archive(path, {**run_members("run01"), LABELS_OF: "one"}), "line 1 of"),
    "elsewhere": (
        lambda path: archive(path, {**run_members("run01"), LABELS_OF: "run01/test/item01.png run01/../x.png"}),
        "which its run does not have",
    ),
    "no class": (
        lambda path: archive(path, {**run_members("run01"), LABELS_OF: "run01/test/item01.png run01/test/item02.png"}),
        "which is no training image",
    ),
    "unequal": (lambda path: archive(path, run_members("run01") | run_members("run02", 4)), "has 4 classes, and"),
}


@pytest.mark.parametrize("case", BAD_RUNS)
def test_bad_archives_are_one_sentence(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, part = BAD_RUNS[case]
    path = make(tmp_path / "runs.zip")
    folders = ["--output-dir", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache")]
    assert compare.main(["episodes", "--runs", str(path), *folders]) == 2
    (error,) = errors_of(capsys)
    assert part in error
    assert not (tmp_path / "etc").exists()


def test_a_damaged_or_huge_member_is_an_unreadable_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = spoilt(archive(tmp_path / "set.zip", {"a/1.png": png(1, 64), "b/1.png": png(2)}))
    decoders = dict(archives.from_zip(path).pictures.decoders())
    with pytest.raises(images.Unreadable, match="damaged in the archive"):
        decoders["a/1.png"]()
    assert decoders["b/1.png"]().size == (8, 8)
    monkeypatch.setattr(archives, "MOST_BYTES", 10)
    with pytest.raises(images.Unreadable, match="larger than"):
        dict(archives.from_zip(path).pictures.decoders())["b/1.png"]()


# ----- the command -----

SMALL = ("--weights", "random", "--backbone", "MobileNetV3Small", "--image-size", 32, "--threads", 1)
NAMES = ("ash", "birch", "cedar", "douglas", "elm", "fir")
TASKS = ("--ways", 3, "--shots", 1, 2, "--queries", 3, "--episodes", 12, "--base-steps", 10)


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("trees"), dict.fromkeys(NAMES, 6))


@pytest.mark.parametrize(
    ("given", "part"),
    [
        (("--ways", 4), "--ways 4 is more than the 3 novel classes"),
        (("--ways", 1), "--ways 1 is too small"),
        (("--queries", 0), "--queries 0 is too small"),
        (("--shots", 0), "--shots 0 is not between 1 and"),
        (("--ways", 3, "--shots", 4, "--queries", 3), "has 6 images, and shots and queries together need 7"),
        (("--base-classes", "ash,oak"), "there is no class 'oak'"),
        (("--base-classes", *NAMES), "no novel class is left"),
        (("--base-classes", "ash", "--novel-classes", "ash", "elm"), "ash: a class cannot be base and novel"),
        ((*TASKS, "--methods", "anil", "--base-classes", "ash"), "--ways 3 is more than the 1 base class;"),
        ((*TASKS, "--methods", "anil", "--novel-classes", *NAMES), "--ways 3 is more than the 0 base classes;"),
        ((*TASKS, "--methods", "anil", "--base-classes", 0.01), "--ways 3 is more than the 0 base classes;"),
        ((*TASKS, "--methods", "siamese", "--base-classes", "ash"), "needs two base classes"),
        (("--methods", "siamese", "ridge", "--base-classes", 0), "siamese: trains on base classes, and there are none"),
        (("--base-rate", 0), "--base-rate 0 is not above 0"),
        (("--methods", "prototype"), "did you mean 'prototypes'"),
        (("--base-classes", "ash", "--base-data", "x"), "give one of them"),
        (("--runs", "runs.zip", "--methods", "anil"), "--data says nothing beside --runs"),
        (("--base-data", "nowhere.zip"), "there is no such file"),
    ],
)
def test_bad_input_is_one_sentence(
    given: tuple[object, ...], part: str, trees: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ("--output-dir", tmp_path / "out", "--cache-dir", tmp_path / "cache")
    assert compare.main([str(each) for each in ("episodes", "--data", trees, *SMALL, *given, *folders)]) == 2
    (error,) = errors_of(capsys)
    assert part in error


def test_base_and_novel_folders_share_no_image(trees: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = write_images(tmp_path / "base", {"oak": 2, "pine": 2}, seed=1)
    (base / "oak" / "copied.png").write_bytes((trees / "elm" / "03.png").read_bytes())
    options = ("--data", trees, "--base-data", base, *SMALL, *TASKS)
    folders = ("--output-dir", tmp_path / "out", "--cache-dir", tmp_path / "cache")
    assert compare.main([str(each) for each in ("episodes", *options, *folders)]) == 2
    assert "class 'elm' is the same as one of the base class 'oak'" in capsys.readouterr().err
    (base / "elm").mkdir()
    (base / "elm" / "1.png").write_bytes(png(9))
    assert compare.main([str(each) for each in ("episodes", *options, *folders)]) == 2
    assert "both have the class 'elm'" in capsys.readouterr().err


@pytest.fixture(scope="module")
def outcome(trees: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """All methods in both frameworks."""
    cache = tmp_path_factory.mktemp("cache")
    precision = ("--precision", "float64")
    return run_compare(
        tmp_path_factory.mktemp("episodes"),
        "episodes",
        "--data",
        trees,
        *SMALL,
        *TASKS,
        *precision,
        "--cache-dir",
        cache,
    )


def test_both_frameworks_predict_the_same(outcome: Outcome) -> None:
    assert outcome.status == 0, outcome.errors
    assert all(len(line) <= 80 for line in outcome.output.splitlines() if not line.startswith("Results:"))
    document = EpisodesDocument.model_validate_json((outcome.folder / "episodes.json").read_text(encoding="utf-8"))
    assert document.verdict == "identical"
    assert len(document.agreement) == 2 * len(METHODS)
    for each in document.agreement:
        assert each.predictions_compared == 12 * 9
        assert each.max_abs_logit_difference is not None
        assert each.max_abs_logit_difference < 1e-8
    digests = {side.weights_digest for side in document.sides.values()}
    assert len(digests) == 1
    assert set(document.base_classes) | set(document.novel_classes) == set(NAMES)
    assert len(document.novel_classes) == 3
    assert (document.ways, document.shots, document.queries) == (3, [1, 2], 9)
    assert document.chance == pytest.approx(1 / 3)
    assert {each.framework for each in document.differences} == {"tensorflow", "torch"}
    assert document.published == []
    for name in episode_methods.METHODS:
        assert f"1 shot, {name.name}" in outcome.output
    assert "Identical: " in outcome.output


def test_words_about_frameworks_that_differ(outcome: Outcome) -> None:
    text = json.loads((outcome.folder / "episodes.json").read_text(encoding="utf-8"))
    text["agreement"][0] |= {"verdict": "different", "max_abs_logit_difference": None, "predictions_identical": 7}
    document = EpisodesDocument.model_validate(text | {"verdict": "different"})
    assert "not all logits finite" in report.sentence(document)
    assert report.sentence(document.model_copy(update={"agreement": []})) == "Not compared: one framework ran."

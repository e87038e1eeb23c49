"""The doors of a pair of one's own: ``compare.py parity pair.toml``, ``parity dump``, ``parity judge``, and Python."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.subject_documents import differing, document
from tests.subjects import subject
from transfer_parity import compare
from transfer_parity.shared.commands import own_pair
from transfer_parity.shared.commands.completion import offered
from transfer_parity.shared.contract import artifacts
from transfer_parity.shared.contract.rungs import RUNGS
from transfer_parity.shared.contract.subject import Subject
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.experiments import run_table
from transfer_parity.shared.runtime import subject_launch
from transfer_parity.shared.subjects import api, climbing, offline
from transfer_parity.shared.subjects.document import SubjectParity

Captured = pytest.CaptureFixture[str]

PAIR = """
weights = "drawn"
[sides.torch]
factory = "mine.py:build"
[sides.keras]
factory = "ported.py:build"
[inputs.x]
shape = [8]
"""
MAP = "# a map of names\n"


@dataclass
class Climbs:
    """In place of both processes: what was asked for, and what comes of it."""

    found: SubjectParity = field(default_factory=document)
    asked: list[dict[str, Any]] = field(default_factory=list)

    def climb(
        self,
        subject: Subject,
        root: Path,
        work: Path,
        threads: int,
        tell: Any,
        accepted: climbing.Accepted | None = None,
        explain: bool = True,
        exports: Mapping[str, Path] | None = None,
        map_to: Path | None = None,
    ) -> SubjectParity:
        assert work.is_dir() and not list(work.glob("[!.]*"))
        self.asked.append({name: value for name, value in locals().items() if name != "self"})
        tell("torch: starting", 0, 0)
        if map_to is not None:
            map_to.write_text(MAP, encoding="utf-8")
        named = self.found.model_copy(update={"name": subject.name})
        return api.reviewed(named, accepted) if accepted is not None else named

    @property
    def subject(self) -> Subject:
        found = self.asked[-1]["subject"]
        assert isinstance(found, Subject)
        return found


@pytest.fixture
def climbs(monkeypatch: pytest.MonkeyPatch) -> Climbs:
    fake = Climbs()
    monkeypatch.setattr(climbing, "climb", fake.climb)
    return fake


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a pair, in a folder of its own, and an empty current folder."""
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    path = folder / "pair.toml"
    path.write_text(PAIR, encoding="utf-8")
    return path


def parity(*arguments: object) -> int:
    return compare.main(["parity", *map(str, arguments)])


def error_of(capsys: Captured, *arguments: object) -> str:
    capsys.readouterr()
    assert parity(*arguments) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ")
    return line


# A climb.


def test_a_climb(pair: Path, climbs: Climbs, capsys: Captured) -> None:
    assert parity(pair) == 0
    out = Path("results/parity-pair")
    assert "All 9 rungs passed." in capsys.readouterr().out
    kept = {path.name for path in out.iterdir()}
    assert kept == {*own_pair.WRITES, artifacts.NAME_MAP, ".transfer-parity"}
    found = json.loads((out / artifacts.PARITY).read_text())
    assert (found["kind"], found["name"], found["passed"]) == ("own pair", "pair", True)
    assert (out / artifacts.NAME_MAP).read_text() == MAP
    asked = climbs.asked[0]
    assert (asked["root"], asked["explain"], asked["exports"], asked["accepted"]) == (pair.parent, True, {}, None)
    # Intermediate files are gone.
    assert not asked["work"].exists()


def test_a_failure(pair: Path, climbs: Climbs, capsys: Captured) -> None:
    climbs.found = differing()
    assert parity(pair, "--output-dir", "there") == 1
    text = capsys.readouterr().out
    assert "First divergence, at rung activations" in text and "Suspected cause" in text
    assert text.splitlines()[-1] == "Results: there"
    assert "Heat map" in Path("there", artifacts.PARITY_PAGE).read_text()


def test_options_replace_the_file(pair: Path, climbs: Climbs) -> None:
    given = ["--until", "loss", "--precision", "float32", "--seed", 3, "--weights", "keras", "--single-step"]
    assert parity(*given, pair, "--threads", 2, "--no-explain", "--export", "keras=ported.weights.h5") == 0
    found = climbs.subject
    assert (found.until, found.precision, found.seed, found.weights, found.single_step) == (
        *("loss", "float32", 3, "keras"),
        True,
    )
    asked = climbs.asked[0]
    assert (asked["threads"], asked["explain"]) == (2, False)
    assert asked["exports"] == {"keras": Path("ported.weights.h5")}


@pytest.mark.parametrize("options", [("--backend", "torch"), ("--side", "keras", "--backend", "torch")])
def test_another_backend(options: tuple[str, ...], pair: Path, climbs: Climbs) -> None:
    """The only side that has any need not be named."""
    assert parity(pair, *options) == 0
    assert climbs.subject.sides["keras"].backend == "torch"
    assert climbs.subject.sides["torch"].backend is None


def test_results_replace_earlier_ones_and_nothing_else(pair: Path, climbs: Climbs, capsys: Captured) -> None:
    out = Path("results/parity-pair")
    assert parity(pair) == 0
    (out / "mine.txt").write_text("mine")
    climbs.found = differing()
    assert parity(pair) == 1
    assert not json.loads((out / artifacts.PARITY).read_text())["passed"]
    assert (out / "mine.txt").read_text() == "mine"
    (out / artifacts.PARITY_TABLES).write_text("mine, too")
    assert "parity.md has changed since a run wrote it" in error_of(capsys, pair)
    assert (out / artifacts.PARITY_TABLES).read_text() == "mine, too"
    assert len(climbs.asked) == 2


def test_an_edited_map_is_taken_and_stays(pair: Path, climbs: Climbs, capsys: Captured) -> None:
    kept = Path("results/parity-pair", artifacts.NAME_MAP)
    for _ in range(2):
        assert parity(pair) == 0
        # A proposal is made anew.
        assert climbs.subject.map is None
    kept.write_text("# edited\n")
    for options in ((), ("--map", kept)):
        assert parity(pair, *options) == 0
        assert climbs.subject.map == kept.absolute()
        assert climbs.asked[-1]["map_to"] is None
        assert kept.read_text() == "# edited\n"
    # Another map is used, and this one would be replaced.
    assert f"{kept} is not of an earlier run" in error_of(capsys, pair, "--map", "other.toml")
    assert kept.read_text() == "# edited\n"


def test_a_map_elsewhere(pair: Path, climbs: Climbs) -> None:
    assert parity(pair, "--map", "names.toml") == 0
    assert climbs.subject.map == Path("names.toml").absolute()
    assert Path("results/parity-pair", artifacts.NAME_MAP).read_text() == MAP


def test_a_baseline(pair: Path, climbs: Climbs, capsys: Captured) -> None:
    """An update accepts what differs; what grows is not accepted; what is gone is said."""
    climbs.found = differing()
    assert "there is no baseline known.json" in error_of(capsys, pair, "--baseline", "known.json")
    assert parity(pair, "--baseline", "known.json", "--parity-update") == 0
    text = capsys.readouterr().out
    assert "with 28 accepted differences" in text
    assert "Accepted differences: known.json" in text
    kept = Path("known.json").read_text()
    assert parity(pair, "--baseline", "known.json") == 0
    assert json.loads(Path("results/parity-pair", artifacts.PARITY).read_text())["passed"]
    grown = differing()
    arrays = [each.model_copy(update={"max_rel_difference": 0.5}) for each in grown.rungs[2].arrays]
    rungs = [*grown.rungs[:2], grown.rungs[2].model_copy(update={"arrays": arrays}), *grown.rungs[3:]]
    climbs.found = grown.model_copy(update={"rungs": rungs})
    assert parity(pair, "--baseline", "known.json") == 1
    climbs.found = document()
    capsys.readouterr()
    assert parity(pair, "--baseline", "known.json") == 0
    assert "28 accepted differences of known.json can be seen no more" in " ".join(capsys.readouterr().err.split())
    # Nobody has asked for an update.
    assert Path("known.json").read_text() == kept
    assert parity(pair, "--baseline", "known.json", "--parity-update") == 0
    assert json.loads(Path("known.json").read_text())["accepted"] == []


def test_continuous_integration(
    pair: Path, climbs: Climbs, capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    climbs.found = differing()
    assert parity(pair, "--junit-xml", "parity.xml", "--github", "--quiet") == 1
    printed = capsys.readouterr()
    assert not printed.err
    lines = printed.out.splitlines()
    assert lines[0] == "Different from rung activations on, which is number 3 of 9."
    assert [line[:13] for line in lines[1:]] == ["::error file="] * 2
    assert summary.read_text().startswith("# pair\n")
    assert Path("parity.xml").read_text().count("<testcase") == len(RUNGS)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--heads", "linear"], "--heads is not for a pair of one's own (heads are of recipes); leave it out."),
        (["--strategies", "all"], "--strategies is not for a pair"),
        (["--backbone", "ResNet50"], "--backbone is not for a pair of one's own (the models are those of [sides])"),
        (["--semantics", "keras"], "--semantics is not for a pair"),
        (["--image-size", "32"], "--image-size is not for a pair"),
        (["--switch", "torch:bn_epsilon"], "--switch is not for a pair"),
        (["--seeds", "2"], "--seeds is not for a pair of one's own (one climb has one seed; give --seed)"),
        (["--first-seed", "2"], "--first-seed is not for a pair"),
        (["--device", "auto"], "--device is not for a pair"),
        (["--cache-dir", "x"], "--cache-dir is not for a pair"),
        (["--weights", "kears"], "the command line: weights 'kears': did you mean 'keras'?"),
        (["--seed", "-1"], "--seed -1 is too small"),
        (["--side", "kears", "--backend", "torch"], "--side kears: there is no such side; did you mean 'keras'?"),
        (["--side", "keras"], "--side keras says whose --backend it is"),
        (["--side", "torch", "--backend", "torch"], "this framework has none; leave it out"),
        (["--backend", "jaxx"], "backend 'jaxx': choose from tensorflow, torch"),
        (["--export", "keras"], "--export keras is not SIDE=PATH"),
        (["--export", "kears=a.weights.h5"], "there is no side 'kears'; did you mean 'keras'?"),
        (["--export", "keras=a.pt"], "keras writes .weights.h5"),
        (["--export", "keras=nowhere/a.weights.h5"], "there is no folder nowhere"),
        (["--parity-update"], "in the file that --baseline names; give that, too."),
        (["--junit-xml", "nowhere/a.xml"], "there is no folder nowhere"),
        (["--until", "los"], "--until"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_options_that_cannot_be(
    options: list[str], sentence: str, pair: Path, climbs: Climbs, capsys: Captured
) -> None:
    assert sentence in error_of(capsys, pair, *options)
    assert not climbs.asked
    assert not Path("results").exists()


def test_backend_of_two_that_have_one(pair: Path, climbs: Climbs, capsys: Captured) -> None:
    pair.write_text(PAIR.replace("[sides.torch]", '[sides.before]\nframework = "keras"'))
    said = error_of(capsys, pair, "--backend", "torch")
    assert "--backend torch: say whose it is with --side before or keras." in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--until", "loss"), "--until is for a pair of one's own; give its TOML file, too, or leave it out."),
        (("flowers", "--quiet"), "flowers"),
        (("--no-explain", "--heads", "linear"), "--no-explain is for a pair of one's own"),
        (("nowhere.toml", "--github"), "there is no file nowhere.toml"),
    ],
)
def test_options_without_a_pair(arguments: tuple[str, ...], sentence: str, pair: Path, capsys: Captured) -> None:
    assert sentence in error_of(capsys, *arguments)


def test_a_pair_that_is_none(pair: Path, capsys: Captured) -> None:
    pair.write_text(PAIR.replace("[sides.keras]", "[sides.keras]\nfactroy = 3"))
    assert "sides.keras.factroy" in error_of(capsys, pair)
    pair.write_text("[sides")
    assert "not readable TOML" in error_of(capsys, pair, "--until", "loss")
    pair.write_text("epochs = 3\n")
    assert "has no [sides]" in error_of(capsys, pair, "--until", "loss")


def test_the_ladder_of_stock_pairs_has_its_defaults(capsys: Captured) -> None:
    """They are filled in once it is known that no pair of one's own is climbed."""
    assert parity("--switch", "list") == 0
    assert "bn_epsilon" in capsys.readouterr().out
    assert "--seeds 0 is too small" in error_of(capsys, "--seeds", "0")


def test_everything_is_completed() -> None:
    found = offered()["parity"]
    assert {"--until", "--baseline", "--github"} <= set(found.options)
    assert found.values["--until"] == RUNGS
    assert "--github" in found.flags


def test_results_are_listed(pair: Path, climbs: Climbs, capsys: Captured) -> None:
    assert parity(pair) == 0
    (found,) = run_table.find(Path("results"))
    assert (found.command, found.subject, found.verdict) == ("parity", "pair", "passed")


# One side at a time.


def test_dump(pair: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(offline, "dump", lambda *arguments: asked.append(arguments))
    given = ("dump", pair, "--side", "keras", "--backend", "torch", "--output", "dumps/keras", "--from", "dumps/torch")
    assert parity(*given, "--threads", 1) == 0
    ((subject, root, side, folder, threads, _, origin),) = asked
    assert subject.sides["keras"].backend == "torch"
    assert (root, side, folder, threads, origin) == (
        *(pair.parent, "keras", Path("dumps/keras"), 1),
        Path("dumps/torch"),
    )
    assert "Dump of keras: dumps/keras" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--side", "torhc", "--output", "new"], "did you mean 'torch'?"),
        (["--side", "torch", "--output", "."], "--output . is there already; remove it, or choose a new folder."),
        (["--side", "torch"], "--output"),
        (["--output", "new"], "--side"),
        (["--side", "torch", "--output", "new", "--backend", "torch"], "this framework has none"),
        (["--side", "torch", "--output", "new", "--until", "loss"], "unknown option '--until'"),
    ],
)
def test_dumps_that_cannot_be(options: list[str], sentence: str, pair: Path, capsys: Captured) -> None:
    assert sentence in error_of(capsys, "dump", pair, *options)
    assert not Path("new").exists()


def test_judge(pair: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    asked: list[tuple[Any, ...]] = []

    def judge(*arguments: Any) -> SubjectParity:
        asked.append(arguments)
        return differing()

    monkeypatch.setattr(offline, "judge", judge)
    assert parity("judge", "dumps/torch", "dumps/keras", "--map", "names.toml") == 1
    assert asked == [(None, Path(), Path("dumps/torch"), Path("dumps/keras"), None, Path("names.toml"))]
    assert Path("results/parity-small", artifacts.PARITY_PAGE).is_file()
    assert "Results: results/parity-small" in capsys.readouterr().out
    assert parity("judge", "a", "b", "--baseline", "known.json", "--parity-update", "--output-dir", "out") == 0
    assert json.loads(Path("known.json").read_text())["accepted"]
    assert parity("judge", "a", "b", "--pair", pair, "--output-dir", "out") == 1
    assert (asked[-1][0].name, asked[-1][1]) == ("pair", pair.parent)


def test_a_dump_appears_whole_and_removes_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, fails = tmp_path / "new" / "ours", [True, False]
    mine = tmp_path / "new" / ".ours.part" / "thesis"
    mine.parent.mkdir(parents=True)
    mine.touch()

    def dumped(at: climbing.Workplace, side: str, first: object) -> None:
        (at.work / side / climbing.CLIMB).mkdir(parents=True)
        (at.work / side / climbing.CLIMB / "made").touch()
        if fails.pop(0):
            raise BadInput("no")

    monkeypatch.setattr(subject_launch, "make_sure_of", lambda side: None)
    monkeypatch.setattr(offline, "_dumped", dumped)
    given = (subject(), tmp_path, "one", place, 1, lambda what, done, total: None)
    with pytest.raises(BadInput):
        offline.dump(*given)
    assert set(place.parent.iterdir()) == {mine.parent} and mine.is_file()
    offline.dump(*given)
    assert set(place.parent.iterdir()) == {mine.parent, place} and mine.is_file()
    assert [path.name for path in place.iterdir()] == ["made"]


def test_folders_that_are_no_dumps(pair: Path, capsys: Captured) -> None:
    Path("a").mkdir()
    assert error_of(capsys, "judge", "a", "a").startswith("error: ")
    assert not Path("results").exists()


@pytest.mark.parametrize("word", ["dump", "judge"])
def test_help_of_words(word: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ending:
        parity(word, "--help")
    assert ending.value.code == 0
    assert f"usage: compare.py parity {word}" in capsys.readouterr().out


# From Python.


def test_a_script(pair: Path, climbs: Climbs) -> None:
    found = api.climb(pair, until="loss", seed=3, training={"steps": 5})
    assert found.passed
    assert (climbs.subject.until, climbs.subject.seed, climbs.subject.training.steps) == ("loss", 3, 5)
    assert climbs.asked[0]["root"] == pair.parent
    assert climbs.asked[0]["map_to"] is None
    # Nothing is left where it ran.
    assert not list(Path().iterdir())


KEYWORDS: dict[str, Any] = {
    "name": "mine",
    "sides": {"torch": {"factory": "a.py:build"}, "keras": {"factory": "b.py:build"}},
    "inputs": {"x": {"shape": [8]}},
}


def test_a_pair_of_keywords(climbs: Climbs, tmp_path: Path) -> None:
    api.climb(**KEYWORDS, until="loss", root=tmp_path, precision=None)
    assert (climbs.subject.name, climbs.subject.until, climbs.subject.precision) == ("mine", "loss", "float64")
    assert climbs.asked[0]["root"] == tmp_path
    # A pair that is one already keeps what is not replaced.
    subject = Subject.model_validate(KEYWORDS)
    api.climb(subject)
    assert climbs.subject is subject
    api.climb(subject, seed=1)
    assert climbs.subject == subject.model_copy(update={"seed": 1})


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "climb(): there is no pair; give the path of its TOML file, or sides and inputs."),
        ({"subject": 3}, "climb(): a int is no pair"),
        ({"subject": "nowhere.toml"}, "there is no file nowhere.toml"),
        ({**KEYWORDS, "untill": "loss"}, "climb(): .*untill.*until"),
        ({**KEYWORDS, "until": "los"}, "climb(): .*until.*'loss'"),
        ({**KEYWORDS, "exports": {"kears": "a.pt"}}, "there is no side 'kears' to export; did you mean 'keras'?"),
        ({**KEYWORDS, "update": True}, "update needs the baseline"),
        ({**KEYWORDS, "baseline": "nowhere.json"}, "there is no baseline nowhere.json"),
    ],
)
def test_mistakes_in_python(arguments: dict[str, Any], sentence: str, climbs: Climbs) -> None:
    pattern = sentence.replace("(", r"\(").replace(")", r"\)").replace("?", r"\?")
    with pytest.raises(BadInput, match=pattern):
        api.climb(**arguments)
    assert not climbs.asked


def test_what_is_offered_imports_no_framework(pair: Path) -> None:
    """In a plain script, from anywhere; a misspelt name is no attribute."""
    program = (
        "import sys\n"
        "import transfer_parity\n"
        "assert not {'numpy', 'pydantic'} & set(sys.modules)\n"
        "from transfer_parity import BadInput, Subject, SubjectParity, WorkerFailed, climb\n"
        f"try: climb({str(pair)!r}, until='nothing')\n"
        "except BadInput as error: print(error)\n"
        "assert not hasattr(transfer_parity, 'clmib')\n"
        "assert {'Subject', 'climb'} <= set(dir(transfer_parity))\n"
        "loaded = {'tensorflow', 'keras', 'torch', 'torchvision', 'matplotlib', 'rich'} & set(sys.modules)\n"
        "sys.exit(str(loaded or ''))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert not ran.stderr.strip(), ran.stderr
    assert "until" in ran.stdout


@pytest.mark.slow
def test_an_example_from_a_script(tmp_path: Path) -> None:
    """No stand-in: both processes run."""
    program = (
        "from transfer_parity import climb\n"
        f"found = climb({str(ROOT / 'examples' / 'refactoring' / 'pair.toml')!r}, until='loss', threads=1)\n"
        "print(found.passed, len(found.rungs))"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.stdout == "True 4\n", ran.stderr

"""The plugin for pytest, in sessions of its own: what it costs, what it says, when it skips."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.subject_documents import LAYERS, MENDS, OTHERS, SENTENCE, differing, document
from tests.test_subject_commands import PAIR

pytest_plugins = ["pytester"]
PLUGIN = "transfer_parity.shared.commands.pytest_plugin"

#: Of the inner session: nothing is climbed, and what comes of it stands in a file. The frameworks are there.
STAND_IN = """
import json
import pytest
from pathlib import Path
from transfer_parity.shared.runtime import subject_launch
from transfer_parity.shared.subjects import api, climbing
from transfer_parity.shared.subjects.document import SubjectParity

HERE = Path(__file__).parent

def climb(subject, root, work, threads, tell, accepted=None, explain=True, exports=None, map_to=None):
    asked = {"until": subject.until, "seed": subject.seed, "root": str(root), "threads": threads, "explain": explain}
    with (HERE / "asked.jsonl").open("a") as file:
        file.write(json.dumps(asked) + "\\n")
    found = SubjectParity.model_validate_json((HERE / "found.json").read_text())
    return api.reviewed(found, accepted) if accepted else found

@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr(climbing, "climb", climb)
    monkeypatch.setattr(subject_launch, "make_sure_of", lambda side: None)
"""
TEST = """
def test_parity(parity):
    parity.climb("pair.toml", until="trajectory")
"""


@pytest.fixture
def session(pytester: pytest.Pytester) -> pytest.Pytester:
    """A session with a pair in a folder below its root, and without the settings of this one."""
    pytester.makeini("[pytest]\naddopts = --strict-markers --import-mode=importlib\nfilterwarnings = error\n")
    folder = pytester.path / "sub"
    folder.mkdir()
    (folder / "pair.toml").write_text(PAIR, encoding="utf-8")
    (folder / "test_it.py").write_text(TEST, encoding="utf-8")
    (folder / "conftest.py").write_text(STAND_IN, encoding="utf-8")
    (folder / "found.json").write_text(document().model_dump_json())
    return pytester


def run(session: pytest.Pytester, *options: str) -> pytest.RunResult:
    """Registered by its entry point where the package is installed with it, else by name."""
    entries = importlib.metadata.entry_points(group="pytest11")
    named = () if any(each.value == PLUGIN for each in entries) else ("-p", PLUGIN)
    return session.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:xdist", *named, *options)


def asked(session: pytest.Pytester) -> list[dict[str, object]]:
    return [json.loads(line) for line in (session.path / "sub" / "asked.jsonl").read_text().splitlines()]


def test_the_entry_point_is_declared() -> None:
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'[project.entry-points.pytest11]\ntransfer_parity = "{PLUGIN}"' in declared


def test_a_climb_that_passes(session: pytest.Pytester) -> None:
    run(session).assert_outcomes(passed=1)
    (found,) = asked(session)
    assert found["until"] == "trajectory"
    # Paths are relative to the folder of the test's file, not to the current one.
    assert found["root"] == str(session.path / "sub")


def test_a_failure_says_what_and_why(session: pytest.Pytester) -> None:
    (session.path / "sub" / "found.json").write_text(differing().model_dump_json())
    result = run(session)
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    for part in (LAYERS[1], OTHERS[1], "1.00e-03", "rounding explains 1.0e-13", SENTENCE, *MENDS, "torch_model.py:11"):
        assert part in text, part
    # The message, and no traceback through this package.
    assert "pytest_plugin.py" not in text and "parity.climb(" not in text


def test_a_marker_gives_arguments(session: pytest.Pytester) -> None:
    (session.path / "sub" / "test_it.py").write_text(
        "import pytest\n"
        "pytestmark = pytest.mark.parity(seed=1, until='bytes')\n"
        "@pytest.mark.parity(seed=2)\n"
        "def test_nearest(parity): parity.climb('pair.toml')\n"
        "@pytest.mark.parity(seed=2)\n"
        "def test_call(parity): parity.climb('pair.toml', seed=3, threads=2, explain=False)\n"
        "def test_without(): pass\n"
    )
    run(session, "-m", "parity").assert_outcomes(passed=3)
    first, second = asked(session)
    assert (first["seed"], first["until"], first["explain"]) == (2, "bytes", True)
    assert (second["seed"], second["until"], second["threads"], second["explain"]) == (3, "bytes", 2, False)


def test_a_pair_of_keywords(session: pytest.Pytester) -> None:
    (session.path / "sub" / "test_it.py").write_text(
        "from transfer_parity import Subject\n"
        "SIDES = {'torch': {'factory': 'a.py:build'}, 'keras': {'factory': 'b.py:build'}}\n"
        "def test_keywords(parity): parity.climb(sides=SIDES, inputs={'x': {'shape': [8]}}, until='loss')\n"
        "def test_subject(parity): parity.climb(Subject(sides=SIDES, inputs={'x': {'shape': [8]}}), root='..')\n"
    )
    run(session).assert_outcomes(passed=2)
    assert [each["root"] for each in asked(session)] == [str(session.path / "sub"), str(session.path / "sub" / "..")]


def test_accepted_differences(session: pytest.Pytester) -> None:
    """They are recorded beside the pair when asked for; what is new fails."""
    folder = session.path / "sub"
    kept = folder / "pair.baseline.json"
    (folder / "found.json").write_text(differing().model_dump_json())
    run(session).assert_outcomes(failed=1)
    assert not kept.exists()
    run(session, "--parity-update").assert_outcomes(passed=1)
    recorded = kept.read_text()
    assert len(json.loads(recorded)["accepted"]) == 28
    run(session).assert_outcomes(passed=1)
    found = json.loads((folder / "found.json").read_text())
    found["rungs"][2]["arrays"][0] |= {"max_abs_difference": 1.0, "max_rel_difference": 1.0, "passed": False}
    (folder / "found.json").write_text(json.dumps(found))
    result = run(session)
    result.assert_outcomes(failed=1)
    assert LAYERS[0] in result.stdout.str()
    assert kept.read_text() == recorded


def test_a_setting_names_the_baseline(session: pytest.Pytester) -> None:
    session.makeini("[pytest]\nparity_baseline = known.json\n")
    (session.path / "sub" / "found.json").write_text(differing().model_dump_json())
    run(session, "--parity-update").assert_outcomes(passed=1)
    assert (session.path / "known.json").is_file()
    assert not (session.path / "sub" / "pair.baseline.json").exists()
    run(session).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ("'pari.toml'", "there is no file"),
        ("'pair.toml', until='los'", "parity.climb()*until*"),
        ("", "parity.climb(): there is no pair"),
        ("'pair.toml', baseline='nowhere.json'", "there is no baseline"),
    ],
)
def test_mistakes_are_one_sentence(call: str, sentence: str, session: pytest.Pytester) -> None:
    (session.path / "sub" / "test_it.py").write_text(f"def test_parity(parity): parity.climb({call})\n")
    result = run(session)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*{sentence}*"])
    assert "Traceback" not in result.stdout.str() and "pytest_plugin.py" not in result.stdout.str()


def test_without_a_framework_it_skips(session: pytest.Pytester) -> None:
    """It is collected, and the reason is said."""
    (session.path / "sub" / "conftest.py").write_text(
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name == 'keras' else find(name, *more)\n"
    )
    result = run(session, "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*side keras cannot be climbed here: keras is not installed; pip install keras*"])


def test_a_session_that_does_not_use_it_does_not_notice(pytester: pytest.Pytester) -> None:
    """A fixture of the session's own has precedence, and nothing is imported but the plugin."""
    pytester.makepyfile(
        "import sys, pytest\n"
        "@pytest.fixture\n"
        "def parity(): return 'even'\n"
        "def test_own(parity): assert parity == 'even'\n"
        "def test_light():\n"
        "    heavy = {'numpy', 'pydantic', 'rich', 'matplotlib', 'torch', 'keras', 'tensorflow'} & set(sys.modules)\n"
        "    assert not heavy\n"
        "    ours = [name for name in sys.modules if name.startswith('transfer_parity')]\n"
        "    assert len(ours) <= 4, ours\n"
    )
    run(pytester, "-p", "no:hypothesispytest").assert_outcomes(passed=2)


def test_it_is_described(pytester: pytest.Pytester) -> None:
    result = run(pytester, "--help")
    result.stdout.fnmatch_lines(["*--parity-update*", "*parity_baseline*"])
    run(pytester, "--markers").stdout.fnmatch_lines(["@pytest.mark.parity(*"])
    run(pytester, "--fixtures").stdout.fnmatch_lines(["*What climbs the parity ladder*"])


def test_importing_the_plugin_is_quick() -> None:
    program = f"import sys, pytest; before = set(sys.modules); import {PLUGIN}; print(*(set(sys.modules) - before))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {name for name in ran.stdout.split() if not name.startswith("transfer_parity")} <= {"__future__", "typing"}


@pytest.mark.slow
def test_a_pair_of_the_examples(pytester: pytest.Pytester, tmp_path: Path) -> None:
    """No stand-in: both processes run."""
    pair = ROOT / "examples" / "refactoring" / "pair.toml"
    pytester.makepyfile(f"def test_parity(parity): parity.climb({str(pair)!r}, until='loss', threads=1)\n")
    run(pytester).assert_outcomes(passed=1)

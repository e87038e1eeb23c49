"""The planted mistakes can still be planted, in code that is what runs, and what is said about them is read rightly."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.mutations import runner, table
from tests.mutations.__main__ import DOCUMENT, RESULTS, main
from tests.mutations.catalogue import BY_ID, MUTATIONS
from tests.mutations.mutation import SCENARIOS, TOOLS, Edit, Mutation, Scenario
from transfer_parity.shared.contract import recipe_files

EDITS = [edit for scenario in SCENARIOS.values() for edit in scenario.edits]


def test_there_are_enough_of_different_names() -> None:
    assert len(BY_ID) == len(MUTATIONS) >= 60
    assert all(sum(each.side == side for each in MUTATIONS) >= 15 for side in ("tensorflow", "torch", "both"))


@pytest.mark.parametrize("edit", [*EDITS, *(each.edit for each in MUTATIONS)], ids=lambda edit: edit.file)
def test_every_mistake_has_its_place(edit: Edit) -> None:
    """Its text stands there once, and with it the file is Python that does something else."""
    text = (ROOT / edit.file).read_text(encoding="utf-8")
    assert text.count(edit.old) == 1
    changed = ast.parse(text.replace(edit.old, edit.new))
    assert ast.dump(changed) != ast.dump(ast.parse(text))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.id)
def test_somebody_is_asked_about_every_mistake(mutation: Mutation) -> None:
    assert mutation.mistake and (mutation.scenario in SCENARIOS or mutation.tests)
    # Tests that nobody has would pass for tests that nothing fails.
    for test in mutation.tests:
        name, _, function = test.partition("::")
        assert f"def {function or 'test_'}" in (ROOT / name).read_text(encoding="utf-8")
    assert all(pattern.split(":")[0] in TOOLS for pattern in mutation.named)
    assert mutation.named or not mutation.changes


@pytest.mark.parametrize("name", [name for name, scenario in SCENARIOS.items() if scenario.recipe])
def test_every_scenario_is_a_recipe(name: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(str(SCENARIOS[name].recipe), encoding="utf-8")
    recipe = recipe_files.read(str(path), {})
    # Reading a copy's results may not depend on how busy the machine is.
    assert recipe.threads == 1 and recipe.repeats == 1


def test_the_code_of_the_copy_runs(tmp_path: Path) -> None:
    """Every file in which a mistake is planted is taken from the copy, whatever is installed."""
    copy = runner.Copy(tmp_path / "copy", SCENARIOS["fused"], MUTATIONS[0])
    copy.files = sorted({each.edit.file for each in MUTATIONS})
    copy.prove()
    for edit in (*SCENARIOS["fused"].edits, MUTATIONS[0].edit):
        text = (copy.root / edit.file).read_text(encoding="utf-8")
        assert edit.new in text and text != (ROOT / edit.file).read_text(encoding="utf-8")
    copy.root.rename(tmp_path / "copy" / "elsewhere")
    (tmp_path / "copy" / runner.PACKAGE).mkdir()
    with pytest.raises(runner.Unfit):
        copy.prove()


def test_a_text_that_is_gone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("one one", encoding="utf-8")
    with pytest.raises(ValueError, match="2 times, not once"):
        Edit("a.py", "one", "two").apply(tmp_path)


def test_results_belong_to_a_mistake_its_scenario_and_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = MUTATIONS[:2]
    before = runner.key(first)
    assert before == runner.key(first) != runner.key(second)
    assert first.scenario is not None
    monkeypatch.setitem(SCENARIOS, first.scenario, Scenario("epochs = 1\n", None))
    changed = runner.key(first)
    monkeypatch.setattr(runner, "code_digest", lambda: "another")
    assert len({before, changed, runner.key(first)}) == 3


def test_what_a_comparison_and_a_ladder_name_is_read(tmp_path: Path) -> None:
    found = {"what": "losses", "name": None, "shots": 5, "seed": 1, "step": 2}
    document = {"verdict": "different computation", "agreement": {"copies": 0, "first_difference": found}}
    ended = subprocess.CompletedProcess([], 1, "", "")
    path = tmp_path / "document.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    assert runner._of_comparison(path, ended) == "losses in seed 1 at step 3"
    divergence = {"what": "gradient, training", "neutral": "features.0.0.weight"}
    rungs = [{"name": "bytes", "first_divergence": None}, {"name": "gradients", "first_divergence": divergence}]
    path.write_text(json.dumps({"pairs": [{"rungs": rungs}]}), encoding="utf-8")
    assert runner._of_ladder(path, ended) == "gradients: gradient, training of features.0.0.weight"
    failed = subprocess.CompletedProcess([], 3, "", "error: the torch worker failed with exit status 1.\n")
    assert runner._of_ladder(path, failed) == "exit status 3: the torch worker failed with exit status 1."


def _result(mutation: Mutation, said: str, tool: str = "comparison") -> dict[str, Any]:
    seen = {tool: {"noticed": bool(said), "says": said, "seconds": 1.0}}
    return {"id": mutation.id, "key": "k", "date": "2026-11-26", "seen": seen}


def test_the_table_says_what_was_noticed_and_what_was_not(tmp_path: Path) -> None:
    exact, vague, missed = (BY_ID[name] for name in ("tf-tensor-scaled", "tf-bn-epsilon", "torch-dropout-kept"))
    results = {
        exact.id: _result(exact, "weights"),
        vague.id: _result(vague, "forward of head.output"),
        missed.id: _result(missed, ""),
    }
    assert runner.exactly(exact, results[exact.id]) and not runner.exactly(vague, results[vague.id])
    text = table.section(results)
    assert f"3 of the {len(MUTATIONS)} mistakes were planted (2026-11-26). 2 of these 3 were noticed, 1 of them" in text
    assert f"- `{missed.id}`: {missed.mistake}; a matched run computes the same with it" in text
    assert re.search(rf"`{vague.id}`.* \| no \|$", text, re.MULTILINE)
    table.write(tmp_path / "lines", results)
    assert table.read(tmp_path / "lines") == results


def test_the_document_has_the_table_of_the_results() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert table.in_document(text, table.read(RESULTS)) == text


def test_an_unknown_mistake_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tf-adam-epsilon,nonsense"]) == 2
    assert "no mistake nonsense" in capsys.readouterr().err


def test_pytest_collects_no_mistakes() -> None:
    asked = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", "tests/mutations"]
    assert "no tests" in subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False).stdout


def test_the_ladder_that_should_see_it_is_climbed() -> None:
    assert runner.ladders(BY_ID["tf-mlp-activation"]) == {"recipe ladder"}
    assert runner.ladders(BY_ID["tf-bn-epsilon"]) == {"ladder"}
    for each in MUTATIONS:
        if each.scenario is not None and SCENARIOS[each.scenario].recipe is None:
            assert runner.ladders(each) == {"ladder"}, each.id
        if each.scenario is not None and SCENARIOS[each.scenario].ladder is None:
            assert "ladder" not in runner.ladders(each), each.id

"""The examples, as their readers run them: each climbs all nine rungs, and no seed gives a false alarm.

``TRANSFER_PARITY_OWN_PAIRS`` says how many climbs of correct pairs there are, by turns of all examples,
``TRANSFER_PARITY_OWN_PAIRS_FIRST`` the number of the first. Two run at a time, with a thread each.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Outcome, run_compare
from tests.own_pair_mistakes import EXAMPLES
from transfer_parity.shared.contract import artifacts, subject_files
from transfer_parity.shared.contract.rungs import RUNGS
from transfer_parity.shared.contract.subject import Input, Side, Subject, Training
from transfer_parity.shared.subjects.document import SubjectParity

PAIRS = ("residual", "lstm", "lstm/pair-gru.toml", "vit", "mobilenet", "refactoring")
#: They take longer. Each kind of layer is also mapped by itself, in test_keras_subject.py and test_torch_subject.py.
SLOW = ("lstm", "lstm/pair-gru.toml", "vit", "mobilenet")
CLIMBS = int(os.environ.get("TRANSFER_PARITY_OWN_PAIRS", "6"))
FIRST = int(os.environ.get("TRANSFER_PARITY_OWN_PAIRS_FIRST", "0"))


def path_of(pair: str) -> Path:
    path = EXAMPLES / pair
    return path if path.suffix == ".toml" else path / "pair.toml"


def climb(path: Path, folder: Path, *options: object) -> tuple[Outcome, SubjectParity | None]:
    """Run the command; what it wrote, if it wrote anything."""
    outcome = run_compare(folder, "parity", path, "--threads", 1, *options)
    document = folder / artifacts.PARITY
    if not document.exists():
        return outcome, None
    return outcome, SubjectParity.model_validate(json.loads(document.read_text(encoding="utf-8")))


def told(document: SubjectParity | None) -> str:
    """The first divergence in a line."""
    failed = document.first_failure if document else None
    array = failed.first_divergence if failed else None
    if failed is None or array is None:
        return ""
    return f"{failed.name}: {array.what} {array.reference} / {array.candidate}: {array.max_rel_difference}"


def mapped_share(document: SubjectParity) -> float:
    """Share of the parameters' names that the map has a counterpart for, on the side that lacks more."""
    trained = next(rung for rung in document.rungs if rung.name == "trajectory")
    pairs = {array.reference for array in trained.arrays if array.reference and array.candidate}
    left = max(len(document.left_over_reference), len(document.left_over_candidate))
    return len(pairs) / (len(pairs) + left)


@pytest.mark.parametrize("pair", [pytest.param(each, marks=pytest.mark.slow if each in SLOW else []) for each in PAIRS])
def test_the_examples_climb_all_nine_rungs(pair: str, tmp_path: Path) -> None:
    outcome, document = climb(path_of(pair), tmp_path / "out")
    assert document is not None, outcome.output + outcome.errors
    assert outcome.status == 0, told(document) + outcome.output + outcome.errors
    assert document.passed and document.precision == "float64"
    assert [rung.name for rung in document.rungs] == list(RUNGS)
    assert all(rung.arrays and rung.passed for rung in document.rungs)
    # No map was given, so all of it was found; names that are left over have no counterpart.
    assert mapped_share(document) >= 0.95, document.left_over_reference + document.left_over_candidate
    assert document.reference.parameters == document.candidate.parameters


@pytest.mark.parametrize("pair", ["residual", pytest.param("mobilenet", marks=pytest.mark.slow)])
def test_single_steps_of_a_correct_pair_pass(pair: str, tmp_path: Path) -> None:
    """One side pads within a convolution, the other in a layer in front of it."""
    outcome, document = climb(path_of(pair), tmp_path / "out", "--single-step", "--until", "activations")
    assert document is not None and outcome.status == 0, told(document) + outcome.output + outcome.errors
    assert document.rungs[-1].name == "activations" and len(document.rungs[-1].arrays) >= len(document.map)


@pytest.mark.parametrize("pair", PAIRS)
def test_the_examples_are_described_validly(pair: str) -> None:
    """Without a framework: the file is read, and the files that it names are there."""
    subject, root = subject_files.read(path_of(pair))
    for side in subject.sides.values():
        for place in (side.factory, side.preprocess, side.loss, side.optimizer):
            if place is not None:
                file, _, function = place.rpartition(":")
                assert f"def {function}(" in (root / file).read_text(encoding="utf-8")


def test_together_the_examples_use_every_optimizer() -> None:
    used: set[Any] = {subject_files.read(path_of(pair))[0].training.optimizer for pair in PAIRS}
    assert used == {"sgd", "adam", "adamw"}


def test_the_document_shows_the_file_that_is_there(tmp_path: Path) -> None:
    """The port that docs/own-pair.md goes through is the first example, and its keys are keys of such a file."""
    text = (ROOT / "docs" / "own-pair.md").read_text(encoding="utf-8")
    shown = tmp_path / "pair.toml"
    shown.write_text(re.findall(r"```toml\n(.*?)```", text, re.DOTALL)[0], encoding="utf-8")
    written, _ = subject_files.read(path_of("residual"))
    sides = {name: side.model_copy(update={"arguments": {}}) for name, side in written.sides.items()}
    assert subject_files.read(shown)[0] == written.model_copy(update={"sides": sides})
    table = text.partition("| key | says |")[2].partition("\n\n")[0]
    assert "| `weights` |" in table
    for model, before in ((Subject, ""), (Side, "sides.*."), (Input, "inputs.*."), (Training, "training.")):
        known = {f"{before}{key}" for key in model.model_fields}
        for key in re.findall(rf"^\| `({re.escape(before)}\w+)`", table, re.MULTILINE):
            assert key in known, key


@pytest.mark.slow
def test_no_false_alarm(tmp_path: Path) -> None:
    """Other seeds draw other weights, inputs and targets."""

    def one(number: int) -> str:
        path = path_of(PAIRS[number % len(PAIRS)])
        folder = tmp_path / str(number)
        shutil.copytree(path.parent, folder / "pair", ignore=shutil.ignore_patterns("__pycache__"))
        copy = folder / "pair" / path.name
        copy.write_text(f"seed = {1000 + number}\n{copy.read_text(encoding='utf-8')}", encoding="utf-8")
        outcome, document = climb(copy, folder / "out")
        shutil.rmtree(folder)
        if outcome.status == 0 and document is not None and document.passed:
            return ""
        return f"{path} seed {1000 + number}: {told(document) or outcome.output + outcome.errors}"

    with ThreadPoolExecutor(2) as pool:
        found = [each for each in pool.map(one, range(FIRST, FIRST + CLIMBS)) if each]
    assert not found, "\n".join(found)

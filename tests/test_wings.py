"""Which wings there are stands in the registry, and nowhere else in shared/."""

from __future__ import annotations

import ast
import dataclasses
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from transfer_parity.shared.contract import wings
from transfer_parity.shared.contract.wing import Wing
from transfer_parity.shared.contract.wings import WINGS, WingInfo
from transfer_parity.shared.core.document import Document

SHARED = ROOT / "shared"
REGISTRY = SHARED / "contract" / "wings.py"
LIBRARIES = {each.library for each in WINGS}
NAMES = LIBRARIES.union(
    *({each.identifier, each.package, each.package.rpartition(".")[2], *each.packages} for each in WINGS)
)


@pytest.mark.parametrize("wing", WINGS, ids=wings.IDENTIFIERS)
def test_a_wing_has_all_modules(wing: WingInfo) -> None:
    folder = ROOT / wing.package.rpartition(".")[2]
    wanted = {field.name for field in dataclasses.fields(Wing)} - {"info"}
    assert not {name for name in wanted if not (folder / f"{name}.py").is_file()}


@pytest.mark.parametrize("attribute", ["identifier", "package", "library", "title", "short"])
def test_wings_are_told_apart_by_each_of_their_names(attribute: str) -> None:
    assert len({getattr(each, attribute) for each in WINGS}) == len(WINGS)


@pytest.mark.parametrize("wing", WINGS, ids=wings.IDENTIFIERS)
def test_an_extra_installs_what_a_wing_needs(wing: WingInfo) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert tuple(re.split(r"[<>=]", requirement)[0] for requirement in extras[wing.identifier]) == wing.packages
    assert re.search(rf"[\[,]{wing.identifier}[\],]", extras["all"][0])


@pytest.mark.parametrize("wing", WINGS, ids=wings.IDENTIFIERS)
def test_the_readme_calls_a_wing_by_its_title(wing: WingInfo) -> None:
    assert wing.title in (ROOT / "README.md").read_text(encoding="utf-8")


def test_two_wings_are_compared_in_the_order_of_the_registry() -> None:
    first, second = wings.IDENTIFIERS[:2]
    for given in ((first, second), (second, first), {first, second}):
        found = wings.compared(given)
        assert found is not None
        assert [each.identifier for each in found] == [first, second]
    assert wings.compared([second]) is None
    assert wings.compared([]) is None


def test_a_wing_is_found_by_what_it_is_called() -> None:
    for each in WINGS:
        assert wings.wing(each.identifier) is wings.of_library(each.library) is each
        assert wings.other(each) in set(WINGS) - {each}
    with pytest.raises(KeyError):
        wings.wing("numpy")


@pytest.mark.parametrize(
    "path",
    sorted(path for path in SHARED.rglob("*.py") if path != REGISTRY),
    ids=lambda path: str(path.relative_to(SHARED)),
)
def test_code_names_no_framework(path: Path) -> None:
    """Sentences for people may, and keys of documents. The zoo is a table of what the libraries have."""
    allowed = LIBRARIES if path.is_relative_to(SHARED / "zoo") else set()
    found = [(line, name) for line, name in named(ast.parse(path.read_text(encoding="utf-8"))) if name not in allowed]
    assert not found, "\n".join(f"{path.relative_to(ROOT)}:{line}: {name}" for line, name in found)


def test_what_names_a_framework_is_noticed() -> None:
    name, package = WINGS[0].identifier, WINGS[0].package
    for code in (
        f"import {name}.core",
        f"from {name} import core",
        f"from {package} import head",
        f"if framework == '{name}': pass",
        f"titles = {{'{name}': 1}}",
        f"kind: Literal['{name}']",
        f"run('{package}.worker')",
        f"{name} = 1",
        f"side.{name}",
        f"f({name}=1)",
        f"def f({name}): pass",
        f"class Side:\n    {name}: int",
        f"Chosen({name}=1)",
    ):
        assert list(named(ast.parse(code))), code
    document = min(DOCUMENTS)
    for code in (
        f"say('{name} is faster')",
        f"'''{name}'''",
        f"class Found(Document):\n    {name}: int",
        f"{document}({name}=1)",
    ):
        assert not list(named(ast.parse(code))), code


#: Adds a wing to the registry before anything else reads it, then shows a comparison and a study of all three.
THIRD = """
import dataclasses, io
from typing import Literal
from transfer_parity.shared.contract import wings

third = dataclasses.replace(wings.WINGS[1], identifier="jax", title="Flax on JAX", short="JAX")
wings.WINGS += (third,)
wings.IDENTIFIERS += (third.identifier,)
wings.Framework = Literal[wings.IDENTIFIERS]

import numpy as np
from transfer_parity.shared.report.console import Console
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.results import WorkerResult
from transfer_parity.shared.evaluation import agreement, speed
from transfer_parity.shared.evaluation.agreement import Paired, Side
from transfer_parity.shared.experiments.comparison_document import Comparison, Environment
from transfer_parity.shared.experiments.study_document import Estimate, Point, StudyDocument
from transfer_parity.shared.report import comparison, plots, study

recipe = Recipe(frameworks=wings.IDENTIFIERS, repeats=5)
two = wings.compared(recipe.frameworks)
labels = np.arange(40) % 4
sides = [Side(np.eye(4)[(labels + shift) % 4], np.zeros(1), "") for shift in (0, 1)]
agreed, differences = agreement.agree([Paired(0, labels, *sides)], 0.01)
verdict, sentence = agreement.judge(agreed, differences, 0.01, two)

def worker(seconds):
    fields = dict.fromkeys(("cpu_seconds", "wall_seconds"), seconds) | {"others_share": 0, "peak_memory_bytes": 1}
    return WorkerResult(versions={}, device="CPU", phases={"start": seconds}, involuntary_context_switches=0, **fields)

repeats = [
    speed.Repeat.of(framework, "tuned", "float32", number, worker(1.0 + place))
    for number in range(5)
    for place, framework in enumerate(wings.IDENTIFIERS)
]
common = {"created": "", "classes": ["a", "b", "c", "d"], "images": 40, "verdict": verdict}
environment = Environment.here({}, 1, {}, None)
found = Comparison(
    **common, recipe=recipe, environment=environment, skipped_files=[], checkpoint=None, runs=[], repeats=repeats,
    workers={each.framework: each.worker for each in repeats[:3]}, speed=speed.compare(repeats), alternatives=[],
    agreement=agreed, control_agreement=None, transfer_gain={}, verdict_sentence=sentence,
)
comparison.show(found, Console(width=80))
values = dict.fromkeys(("macro_precision", "macro_recall", "macro_f1", "log_loss", "calibration_error", "seconds"), 0.5)
accuracy = Estimate(mean=0.5, interval=None)
points = [
    Point(framework=each, strategy="probe", shots=5, seeds=1, accuracy=accuracy, gain=None, **values)
    for each in wings.IDENTIFIERS
]
curves = StudyDocument(
    **common, recipes={"probe": recipe}, modes=["matched"], own_ways={}, environment=environment, cells=3, results=[],
    points=points, judgements=[], cheapest=[], explanations=[], verdict_sentence=sentence, shipped_sentence=None,
)
study.show(curves, Console(width=80))
print(len(plots.learning_curves(curves).axes), "panels")
"""


def test_a_third_column_is_an_entry() -> None:
    finished = subprocess.run([sys.executable, "-c", THIRD], cwd=ROOT, capture_output=True, text=True, check=False)
    assert not finished.returncode, finished.stderr
    shown = finished.stdout
    assert re.search(r"Peak memory( +0 MiB){3}", shown)
    for title in (*(each.title for each in WINGS), "Flax on JAX"):
        assert f"{title}: accuracy, %" in shown
    assert "3 panels" in shown
    # What compares two compares the first two.
    assert "TensorFlow is faster here by 2.00 times" in shown
    assert "accuracy differs by +100.00 points, TensorFlow minus torch" in shown


def documents_of(tree: ast.Module) -> set[str]:
    """Names of the classes that are written as JSON, whose fields are keys."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return {each.name for each in classes if any(ast.unparse(base) == Document.__name__ for base in each.bases)}


DOCUMENTS = {name for path in SHARED.rglob("*.py") for name in documents_of(ast.parse(path.read_text("utf-8")))}


def named(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name wherever code (no sentence, and no key of a document) says the name of a framework.

    Names are the registry's; a module counts if it is one of them or lies in it.
    """
    # Docstrings, and other strings that nobody uses.
    spared = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    spared -= {id(node) for node in ast.walk(tree) if not isinstance(node, ast.Constant)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name in documents_of(tree):
            spared.update(id(field.target) for field in node.body if isinstance(field, ast.AnnAssign))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in DOCUMENTS:
            spared.update(id(keyword) for keyword in node.keywords)
    for node in ast.walk(tree):
        if id(node) in spared:
            continue
        for name in _names_of(node):
            parts = name.split(".")
            if NAMES & {".".join(parts[:length]) for length in range(1, len(parts) + 1)}:
                yield getattr(node, "lineno", 0), name


def _names_of(node: ast.AST) -> list[str]:
    """What a node of the syntax tree is called, or says."""
    match node:
        case ast.Import():
            return [each.name for each in node.names]
        case ast.ImportFrom():
            return [node.module or ""]
        case ast.Constant(value=str(text)):
            return [text]
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
            return [name]
        case _:
            return []

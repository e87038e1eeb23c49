"""The house: arrows run down, and no framework gets in where it does not belong."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, SMALL

FRAMEWORKS = {"tensorflow", "keras", "torch", "torchvision"}

#: Each room may import only from rooms on lower floors.
FLOORS = {
    "shared.errors": 0,
    "shared.timing": 0,
    "shared.start": 0,
    "shared.machine": 0,
    "shared.engines": 0,
    "shared.pieces": 0,
    "shared.rows": 0,
    "shared.differences": 0,
    "shared.events": 0,
    "shared.explain": 0,
    "shared.statistics": 0,
    "shared.store": 1,
    "shared.cache": 1,
    "shared.results": 1,
    "shared.zoo": 1,
    "shared.evaluation": 1,
    "shared.fetch": 2,
    "shared.transferability": 2,
    "shared.recipe": 2,
    "shared.ridge": 2,
    "shared.commands.parser": 3,
    "shared.strategies": 3,
    "shared.plan": 3,
    "shared.checkpoint": 3,
    "shared.spec": 4,
    "shared.initialisation": 4,
    "shared.images": 4,
    "shared.rungs": 4,
    "shared.folding": 4,
    "shared.contract": 5,
    "shared.pictures": 5,
    "shared.switches": 5,
    "shared.dataset": 6,
    "shared.own": 6,
    "shared.ways": 7,
    "shared.gathering": 6,
    "shared.tracing": 7,
    "shared.cells": 7,
    "shared.speed": 6,
    "shared.keras_format": 6,
    "shared.exchange": 6,
    "shared.jobs": 8,
    "shared.builtin": 8,
    "shared.worker": 8,
    "shared.launch": 9,
    "shared.catalogue": 10,
    "shared.sources": 10,
    "shared.report": 10,
    "shared.crew": 10,
    "shared.agreement": 11,
    "shared.grid": 11,
    "shared.conversion": 11,
    "shared.ladder": 11,
    "tf_impl": 11,
    "torch_impl": 11,
    "shared.study": 12,
    "shared.curves": 12,
    "shared.gallery": 13,
    "shared.attribution": 13,
    "shared.ranking": 13,
    "shared.commands": 14,
    "compare": 15,
}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def room(module: str) -> str | None:
    return max((name for name in FLOORS if module == name or module.startswith(name + ".")), key=len, default=None)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


SOURCES = sorted(path for name in ("shared", "tf_impl", "torch_impl") for path in (ROOT / name).rglob("*.py"))


@pytest.mark.parametrize("path", [*SOURCES, ROOT / "compare.py"], ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_run_down(path: Path) -> None:
    own = room(module_name(path))
    if module_name(path) == "shared":
        return
    assert own is not None, f"{path} belongs to no floor; add it to FLOORS"
    for module in imports(path):
        other = room(module)
        if other is not None and other != own:
            assert FLOORS[other] < FLOORS[own], f"{path} imports {module}, which is not on a lower floor"


@pytest.mark.parametrize(
    "path",
    [*(ROOT / "shared").rglob("*.py"), *(ROOT / "tests").rglob("*.py"), ROOT / "compare.py"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_shared_code_imports_no_framework(path: Path) -> None:
    assert not {module.partition(".")[0] for module in imports(path)} & FRAMEWORKS


def test_the_wings_mirror_each_other() -> None:
    wings = ({path.name for path in (ROOT / name).glob("*.py")} for name in ("tf_impl", "torch_impl"))
    assert len({frozenset(names) for names in wings}) == 1


def test_workers_do_not_wait_for_what_only_the_parent_needs() -> None:
    """Metrics and statistics take a second to import, in every process anew."""
    program = "import sys, shared.worker; sys.exit(str({'sklearn', 'scipy'} & set(sys.modules) or ''))"
    finished = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert not finished.stderr.strip(), finished.stderr


def test_the_parent_never_loads_a_framework(photos: Path, cache_dir: Path, tmp_path: Path) -> None:
    arguments = ["--data", photos, *SMALL, "--frameworks", "torch", "--cache-dir", cache_dir, "--output-dir", tmp_path]
    program = (
        "import sys, compare\n"
        f"status = compare.main({[str(argument) for argument in arguments]!r})\n"
        f"loaded = {FRAMEWORKS!r} & set(sys.modules)\n"
        "sys.exit(f'status {status}, loaded {loaded}' if status or loaded else 0)\n"
    )
    finished = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "comparison.json").is_file()

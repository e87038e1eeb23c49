"""The house: no framework gets in where it does not belong. Which arrows there may be stands in pyproject.toml."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, SMALL

FRAMEWORKS = {"tensorflow", "keras", "torch", "torchvision"}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


@pytest.mark.parametrize(
    "path",
    [path for path in [*(ROOT / "tests").rglob("*.py"), ROOT / "compare.py"] if path.parent.name != "programs"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_neither_tests_nor_the_door_import_a_framework(path: Path) -> None:
    """What stands in ``tests/programs`` runs in processes of its own."""
    assert not {module.partition(".")[0] for module in imports(path)} & FRAMEWORKS
    assert not any(module.startswith("tests.programs") for module in imports(path))


def test_a_broken_layer_is_noticed(tmp_path: Path) -> None:
    """The contracts of pyproject.toml on a copy in which one arrow runs up."""
    ignored = shutil.ignore_patterns(".*", "results", "build", "docs", "tests", "benchmarks", "*.egg-info")
    copy = tmp_path / "transfer_parity"
    shutil.copytree(ROOT, copy, ignore=ignored)
    assert lint(copy) == 0
    errors = copy / "shared" / "core" / "errors.py"
    errors.write_text(errors.read_text() + "\nfrom transfer_parity.shared.runtime import launch as launch\n")
    assert lint(copy) == 1


def lint(copy: Path) -> int:
    program = (
        "import sys; sys.meta_path = [each for each in sys.meta_path if 'editable' not in str(each).lower()]\n"
        f"sys.path.insert(0, {str(copy.parent)!r})\n"
        "from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    )
    return subprocess.run([sys.executable, "-c", program], cwd=copy, capture_output=True, check=False).returncode


def test_the_wings_mirror_each_other() -> None:
    wings = ({path.name for path in (ROOT / name).glob("*.py")} for name in ("tf_impl", "torch_impl"))
    assert len({frozenset(names) for names in wings}) == 1


def test_workers_do_not_wait_for_what_only_the_parent_needs() -> None:
    """Metrics and statistics take a second to import, in every process anew."""
    program = (
        "import sys, transfer_parity.shared.runtime.worker \n"
        "sys.exit(str({'sklearn', 'scipy'} & set(sys.modules) or ''))"
    )
    finished = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert not finished.stderr.strip(), finished.stderr


def test_the_parent_never_loads_a_framework(photos: Path, cache_dir: Path, tmp_path: Path) -> None:
    arguments = ["--data", photos, *SMALL, "--frameworks", "torch", "--cache-dir", cache_dir, "--output-dir", tmp_path]
    program = (
        "import sys; from transfer_parity import compare\n"
        f"status = compare.main({[str(argument) for argument in arguments]!r})\n"
        f"loaded = {FRAMEWORKS!r} & set(sys.modules)\n"
        "sys.exit(f'status {status}, loaded {loaded}' if status or loaded else 0)\n"
    )
    finished = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "comparison.json").is_file()

"""What is stored goes by the code that makes it: nothing that this code imports is left out of its digest."""

from __future__ import annotations

import ast
import importlib
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.conftest import ROOT, write_images
from tests.fakes import FakeWorkers
from tests.processes import python
from transfer_parity import compare
from transfer_parity.shared.contract.wings import WINGS
from transfer_parity.shared.core import code
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.data import folders, pixel_cache

TOP = "transfer_parity"
PACKAGES = [wing.package.removeprefix(f"{TOP}.") for wing in WINGS]


def path_of(module: str) -> Path | None:
    """The file of a module below ``transfer_parity``, or None if the name is no module's."""
    place = ROOT.joinpath(*module.split("."))
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


def imported(module: str) -> set[str]:
    """Modules of the project that a module imports, wherever in it the import stands."""
    path = path_of(module)
    assert path is not None, module
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            # A name in a module, or a module in a package.
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    names = {name.removeprefix(f"{TOP}.") for name in found if name.startswith(f"{TOP}.")}
    return {name for name in names if path_of(name)}


def closure(modules: Iterable[str]) -> set[str]:
    """The modules and all that they import, directly or not."""
    waiting, found = list(modules), set()
    while waiting:
        if (module := waiting.pop()) not in found:
            found.add(module)
            waiting.extend(imported(module))
    return found


def modules_of(package: str) -> set[str]:
    folder = ROOT.joinpath(*package.split("."))
    paths = (path.relative_to(ROOT).with_suffix("") for path in folder.rglob("*.py"))
    return {".".join(path.parts).removesuffix(".__init__") for path in paths}


def outside(modules: set[str], packages: Iterable[str]) -> set[str]:
    covered = tuple(f"{package}." for package in packages)
    return {module for module in modules if not f"{module}.".startswith(covered)}


def test_pixels_depend_on_what_the_digest_covers() -> None:
    found = closure(["shared.data.pixel_cache", "shared.data.folders", "shared.data.registry_datasets"])
    assert {"shared.data.images", "shared.data.storage", "shared.core.arrays"} <= found
    assert outside(found, code.PIXELS) == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_runs_depend_on_what_the_digest_covers(package: str) -> None:
    """The process of a wing imports the worker, and the wing by its name."""
    found = closure(["shared.runtime.worker", *modules_of(package)])
    assert {f"{package}.backbone", "shared.runtime.train", "shared.runtime.features", "shared.zoo.pairs"} <= found
    assert outside(found, (*code.RUNS, package)) == set()
    # Inputs of a run are made before its process starts: the plan and the job.
    made = closure(["shared.runtime.prepare", "shared.contract.plan", "shared.contract.spec"])
    assert outside(made, (*code.RUNS, package)) == set()


def test_what_lies_above_packages_computes_nothing() -> None:
    """Python runs it, too, and no digest covers it: what is offered from Python is looked up when it is asked for."""
    (only,) = ast.parse((ROOT / "shared" / "__init__.py").read_text(encoding="utf-8")).body
    assert isinstance(only, ast.Expr)
    assert isinstance(only.value, ast.Constant)
    offered = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    for node in offered.body[1:]:
        looked_up = isinstance(node, ast.FunctionDef) and node.name in ("__getattr__", "__dir__")
        of_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        typing = isinstance(node, ast.ImportFrom) and node.module in ("__future__", "typing")
        assert looked_up or of_types or typing or ast.unparse(node).startswith("__all__ = "), ast.unparse(node)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The sources somewhere else."""
    for package in ("shared", *PACKAGES):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def again(root: Path, *packages: str) -> str:
    code.digest.cache_clear()
    return code.digest(*packages, root=root)


@pytest.mark.parametrize("package", PACKAGES)
def test_one_byte_is_another_digest(package: str, copy: Path) -> None:
    packages = (*code.RUNS, package)
    before = again(copy, *packages)
    # Of the sources, wherever they lie, and of nothing else.
    assert before == code.of_wing(f"{TOP}.{package}") == again(ROOT, *packages)
    (copy / "shared" / "report" / "page.py").write_text("", encoding="utf-8")
    (copy / "shared" / "core" / "notes.txt").write_text("more", encoding="utf-8")
    assert again(copy, *packages) == before
    for each in packages:
        path = sorted(copy.joinpath(*each.split(".")).glob("*.py"))[-1]
        content = path.read_bytes()
        path.write_bytes(content[:-1] + b" ")
        assert again(copy, *packages) != before, path
        path.write_bytes(content)
    assert again(copy, *packages) == before
    path.rename(path.with_name("another.py"))
    assert again(copy, *packages) != before


def test_each_purpose_has_its_own() -> None:
    digests = [code.of_pixels(), *(code.of_wing(wing.package) for wing in WINGS)]
    assert len(set(digests)) == len(digests)
    assert all(len(digest) == 16 and int(digest, 16) for digest in digests)


def test_a_package_without_sources() -> None:
    with pytest.raises(ModuleNotFoundError, match="No sources of no_such_wing"):
        code.digest("no_such_wing")


def test_a_wing_may_lie_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    missing = code.of_wing("their_wing")
    package = tmp_path / "their_wing"
    package.mkdir()
    (package / "__init__.py").write_text("")
    importlib.invalidate_caches()
    found = code.of_wing("their_wing")
    (package / "network.py").write_text("layers = 3\n")
    code.digest.cache_clear()
    assert len({missing, found, code.of_wing("their_wing")}) == 3


def test_it_takes_no_time() -> None:
    """The best of several: others use this machine as well."""

    def seconds() -> float:
        code.digest.cache_clear()
        begun = time.perf_counter()
        for wing in WINGS:
            code.of_wing(wing.package)
        return time.perf_counter() - begun

    assert min(seconds() for _ in range(20)) < 0.05
    begun = time.perf_counter()
    code.of_wing(WINGS[0].package)
    assert time.perf_counter() - begun < 0.001


def test_other_processes_find_the_same() -> None:
    program = (
        f"from {TOP}.shared.core import code\n"
        "import sys\n"
        "print(code.of_wing(sys.argv[1]), [name for name in sys.modules if name.startswith('pydantic')])"
    )
    printed = python(program, WINGS[0].package).strip()
    assert printed == f"{code.of_wing(WINGS[0].package)} []"


def test_pixels_are_decoded_again_by_other_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, cache = folders.from_folder(write_images(tmp_path / "data", {"a": 2, "b": 2})), Cache(tmp_path / "cache")
    _, first = pixel_cache.pixels(data, 36, 32, cache)
    monkeypatch.setattr(code, "of_pixels", lambda: "0123456789abcdef")
    _, second = pixel_cache.pixels(data, 36, 32, cache)
    assert first != second
    # The same pixels, so that what was computed of them is still known.
    assert pixel_cache.digest(first) == pixel_cache.digest(second)


def test_cells_of_a_study_are_computed_again_by_other_code(
    photos: Path, tmp_path: Path, workers: FakeWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = ("--output-dir", tmp_path / "out", "--cache-dir", tmp_path / "cache")
    # In float64 no cell is done again to see whether rounding tells two frameworks apart.
    small = (
        "--weights",
        "random",
        "--image-size",
        32,
        "--epochs",
        2,
        "--seeds",
        2,
        "--shots",
        1,
        "--precision",
        "float64",
    )
    given = [str(part) for part in ("study", "--data", photos, *small, "--strategies", "linear_probe", *folders)]
    for expected in (2 * len(WINGS), 0):
        workers.runs.clear()
        assert compare.main(given) in (0, 1)
        assert len(workers.runs) == expected
    changed = WINGS[-1]
    real = code.of_wing
    monkeypatch.setattr(code, "of_wing", lambda package: package if package == changed.package else real(package))
    assert compare.main(given) in (0, 1)
    assert [run.split()[0] for run in workers.runs] == [changed.identifier] * 2

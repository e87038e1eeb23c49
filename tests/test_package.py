"""What is installed: the wheel, the command without a framework, and the command where POSIX's modules are missing."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT
from transfer_parity.shared.core.errors import BAD_INPUT, BadInput
from transfer_parity.shared.runtime import installed

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
VERSION = PROJECT["project"]["version"]
#: What of a checkout no build needs; ``build/`` and the like must not get into a wheel either.
NO_SOURCE = shutil.ignore_patterns(".*", "results", "build", "dist", "*.egg-info", "__pycache__")
#: Folders of the checkout that are no part of the package.
OUTSIDE = ("tests", "benchmarks", "docs")
#: What each framework brings, by its name in recipes.
BROUGHT = {"tensorflow": ("tensorflow", "keras"), "torch": ("torch", "torchvision", "functorch")}
TINY = ("--weights", "random", "--no-control", "--image-size", 32, "--shots", 2, "--seeds", 1, "--epochs", 1)


def test_every_package_is_listed() -> None:
    """A folder that is missing in ``pyproject.toml`` works in a checkout and is not there when installed."""
    folders = {
        ".".join(("transfer_parity", *path.parent.relative_to(ROOT).parts))
        for path in ROOT.glob("[!.]*/**/__init__.py")
        if path.relative_to(ROOT).parts[0] not in (*OUTSIDE, "build", "results")
    }
    assert {"transfer_parity", *folders} == set(PROJECT["tool"]["setuptools"]["packages"])


def test_the_version_is_the_same_everywhere() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^version: (.+)$", citation, re.MULTILINE)[1] == VERSION  # type: ignore[index]
    assert re.search(r"^## \[?([\d.]+)", changes, re.MULTILINE)[1] == VERSION  # type: ignore[index]


def test_what_is_pinned_is_what_the_package_asks_for() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    pinned = {canonicalize_name(name): version for name, version in pins.items()}
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *extras["dev"], *extras["tensorflow"], *extras["torch"]]
    for requirement in map(Requirement, [*wanted, *extras["tensorboard"], *extras["lessons"]]):
        if requirement.name != PROJECT["project"]["name"]:
            assert pinned[canonicalize_name(requirement.name)] in requirement.specifier, requirement


@pytest.mark.parametrize(
    ("absent", "needed", "optional", "sentence"),
    [
        (["torch"], ["torch"], True, "PyTorch is not installed; pip install 'transfer-parity[torch]'."),
        (
            ["torch", "torchvision"],
            ["tensorflow", "torch"],
            True,
            "PyTorch is not installed; pip install 'transfer-parity[torch]', "
            "or leave it out with --frameworks tensorflow.",
        ),
        (
            ["keras"],
            ["tensorflow", "torch"],
            False,
            "keras is not installed; pip install 'transfer-parity[tensorflow]'.",
        ),
        (
            ["tensorflow", "keras", "torch", "torchvision"],
            ["tensorflow", "torch"],
            True,
            "TensorFlow and PyTorch are not installed; pip install 'transfer-parity[tensorflow,torch]'.",
        ),
    ],
)
def test_a_missing_framework_is_one_sentence(
    absent: list[str], needed: list[str], optional: bool, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else object())
    with pytest.raises(BadInput) as error:
        installed.make_sure_of(needed, optional)
    assert str(error.value) == sentence


@pytest.mark.parametrize("arguments", [["zoo"], ["--help"], ["study", "--help"]])
def test_the_command_starts_without_what_only_posix_has(arguments: list[str]) -> None:
    program = (
        "import os, signal, sys\n"
        # Linux's psutil needs the module, Windows's does not.
        "import psutil\n"
        "sys.modules['resource'] = None\n"
        "del os.sched_getaffinity, signal.SIGKILL\n"
        "from transfer_parity import compare\n"
        f"sys.exit(compare.main({arguments!r}))"
    )
    without = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert without.returncode == 0, without.stderr
    everything = subprocess.run([sys.executable, ROOT / "compare.py", *arguments], capture_output=True, text=True)
    assert without.stdout == everything.stdout


# ----- the wheel -----

Shell = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that WHEEL names, otherwise one that is built from a copy of the checkout."""
    if given := os.environ.get("WHEEL"):
        return Path(given).absolute()
    folder = tmp_path_factory.mktemp("build")
    shutil.copytree(ROOT, folder / "copy", ignore=NO_SOURCE)
    builder = (sys.executable, "-m", "build", "--wheel", "--no-isolation")
    built = subprocess.run([*builder, "--outdir", folder, folder / "copy"], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def install(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Shell]:
    """``install("torch")``: the wheel in a fresh environment in which that framework is missing; "" for none.

    The packages that it depends on are those of this environment, by links: nothing is downloaded. Returns what runs a
    program of the environment from an empty folder.
    """

    def make(missing: str) -> Shell:
        folder = tmp_path_factory.mktemp(f"without-{missing}")
        venv.create(folder / "venv")
        directories = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
        packages, programs = (Path(sysconfig.get_path(name, "venv", directories)) for name in ("purelib", "scripts"))
        links = folder / "links"
        links.mkdir()
        hidden = ("transfer_parity", "__editable__", *BROUGHT.get(missing, ()))
        for path in Path(sysconfig.get_path("purelib")).iterdir():
            if not path.name.startswith(hidden) and path.suffix != ".pth":
                (links / path.name).symlink_to(path)
        (packages / "links.pth").write_text(f"{links}\n", encoding="utf-8")
        pip = (sys.executable, "-m", "pip", "--python", str(programs / "python"))
        subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
        empty = folder / "empty"
        empty.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment = kept | {"TRANSFER_PARITY_CACHE": str(folder / "cache")}

        def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
            command = [str(programs / program), *map(str, arguments)]
            return subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, check=False)

        return run

    return make


@pytest.fixture(scope="session")
def complete(install: Callable[[str], Shell]) -> Shell:
    return install("")


@pytest.mark.slow
def test_the_wheel_contains_what_a_checkout_has(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(f"transfer_parity-{VERSION}.dist-info/METADATA").decode()
    assert {name.partition("/")[0] for name in names} == {"transfer_parity", f"transfer_parity-{VERSION}.dist-info"}
    inside = {name.removeprefix("transfer_parity/") for name in names if name.startswith("transfer_parity/")}
    code = {
        path.relative_to(ROOT).as_posix()
        for folder in ("shared", "tf_impl", "torch_impl")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".j2", ".toml", ".typed")
    }
    recipes = {f"recipes/{path.name}" for path in (ROOT / "recipes").glob("*.toml")}
    assert inside == code | recipes | {"__init__.py", "compare.py", "__main__.py", "py.typed"}
    assert f"transfer_parity-{VERSION}.dist-info/licenses/LICENSE" in names
    assert "License-Expression: Apache-2.0" in metadata.splitlines()
    assert "Provides-Extra: tensorflow" in metadata.splitlines()


@pytest.mark.slow
def test_one_name_in_site_packages(complete: Shell) -> None:
    for name in ("shared", "tf_impl", "torch_impl", "compare", "recipes"):
        assert complete("python", "-c", f"import {name}").returncode == 1, name
    where = complete("python", "-c", "from transfer_parity import compare; print(compare.__file__)")
    assert "site-packages" in where.stdout, where.stderr
    assert str(ROOT) not in where.stdout


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("--help",), ("zoo",), ("attribute", "--help"), ("parity", "--switch", "list")])
def test_it_says_what_the_checkout_says(complete: Shell, arguments: tuple[str, ...]) -> None:
    checkout = subprocess.run([sys.executable, ROOT / "compare.py", *arguments], capture_output=True, text=True)
    assert checkout.returncode == 0, checkout.stderr
    assert complete("transfer-parity", *arguments).stdout == checkout.stdout
    assert complete("python", "-m", "transfer_parity", *arguments).stdout == checkout.stdout


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("resnet50-keras",), ("study", "study"), ("attribute", "attribute")])
def test_the_recipes_are_there(complete: Shell, arguments: tuple[str, ...]) -> None:
    refused = complete("transfer-parity", *arguments, "--data", "nowhere")
    assert refused.returncode == BAD_INPUT
    assert refused.stderr.startswith("error: --data nowhere: there is no such folder"), refused.stderr


@pytest.mark.slow
def test_both_frameworks_agree_when_installed(complete: Shell, photos: Path) -> None:
    finished = complete("transfer-parity", "--data", photos, *TINY)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "Identical: both frameworks make the same" in finished.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing", "there", "called"), [("torch", "tensorflow", "PyTorch"), ("tensorflow", "torch", "TensorFlow")]
)
def test_one_framework_is_enough(
    install: Callable[[str], Shell], photos: Path, missing: str, there: str, called: str
) -> None:
    run = install(missing)
    assert run("python", "-c", f"import {missing}").returncode == 1

    given = ("--data", photos, *TINY)
    refused = run("transfer-parity", *given)
    assert refused.returncode == BAD_INPUT
    assert refused.stderr == (
        f"error: {called} is not installed; pip install 'transfer-parity[{missing}]', "
        f"or leave it out with --frameworks {there}.\n"
    )
    assert not refused.stdout
    ladder = run("transfer-parity", "parity", "--backbone", "MobileNetV2")
    assert ladder.stderr == f"error: {called} is not installed; pip install 'transfer-parity[{missing}]'.\n"

    alone = run("transfer-parity", *given, "--frameworks", there)
    assert alone.returncode == 0, alone.stdout + alone.stderr
    assert "Not compared" in alone.stdout
    few = [part for part in TINY if part != "--no-control"]
    only = ("--frameworks", there, "--strategies", "linear_probe")
    study = run("transfer-parity", "study", "--data", photos, *few, *only)
    assert study.returncode == 0, study.stdout + study.stderr

    library = {"torch": "torchvision", "tensorflow": "keras"}[missing]
    weights = run("transfer-parity", "--data", photos, "--weights", library, "--frameworks", there)
    assert weights.returncode == BAD_INPUT
    assert f"{called}, which reads them, is not installed" in weights.stderr


@pytest.mark.slow
def test_what_is_offered_to_programs(complete: Shell) -> None:
    ran = complete("python", "-c", "from transfer_parity import Subject, climb; print(climb.__module__)")
    assert ran.stdout == "transfer_parity.shared.subjects.api\n", ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["torch", "tensorflow"])
def test_the_plugin_registers_itself_and_skips_what_cannot_run(
    install: Callable[[str], Shell], missing: str, tmp_path: Path
) -> None:
    run = install(missing)
    (tmp_path / "test_it.py").write_text("def test_parity(parity): parity.climb('pair.toml')\n", encoding="utf-8")
    (tmp_path / "pair.toml").write_text(
        "[sides.torch]\nfactory = 'a.py:build'\n[sides.keras]\nfactory = 'b.py:build'\n[inputs.x]\nshape = [8]\n",
        encoding="utf-8",
    )
    ran = run("python", "-m", "pytest", "-p", "no:cacheprovider", "-rs", "--strict-markers", tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1 skipped" in ran.stdout
    assert re.search(r"side \w+ cannot be climbed here: .* not installed; pip install", ran.stdout)
    assert "--parity-update" in run("python", "-m", "pytest", "--help").stdout

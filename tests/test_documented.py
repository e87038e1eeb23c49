"""Every command and every script that the documents show is run, or its block says why not.

The fast tests go as far as the first process of a framework, which does not start. The slow ones go to the end, with
small images, random weights, and one seed and epoch.

A new block is run like the others. What it expects to find (a folder, a file, earlier results) is laid
out in ``tests/documented.py``, and a block that cannot be run gets a line ``<!-- not run: why -->`` above it.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.documented import CHECKPOINTS, FOLDERS, Block, blocks, blocks_of, imported, lay_out, with_overrides
from tests.fakes import FakeWorkers
from tests.test_fit import write_model
from transfer_parity import compare
from transfer_parity.shared.contract import artifacts
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.recipe_files import RECIPES
from transfer_parity.shared.contract.wings import WINGS, libraries
from transfer_parity.shared.core.cache import VARIABLE
from transfer_parity.shared.core.errors import DIFFERENT_OR_INCONCLUSIVE, WORKER_FAILED, WorkerFailed
from transfer_parity.shared.data.folders import from_folder
from transfer_parity.shared.data.registry_datasets import BUILT_IN
from transfer_parity.shared.runtime import launch
from transfer_parity.shared.subjects import offline

Captured = pytest.CaptureFixture[str]

BLOCKS = blocks()
STARTED = "here a framework's process would start"
#: What of a command's budget is replaced before the first process starts, and until the end.
FAST: dict[str, str | None] = {"--image-size": "32"}
SLOW: dict[str, str | None] = {
    **FAST,
    "--weights": "random",
    "--no-control": None,
    "--seeds": "1",
    "--epochs": "1",
    "--repeats": "2",
    "--episodes": "4",
    "--threads": "1",
}
#: One default at two rates, of all that an attribution would try.
ONE_EFFECT: dict[str, str | None] = {"--switches": "torch:data_order", "--no-pairs": None, "--rates": "0.5 1"}
#: The smallest pair, and of strategies one with steps, one without, and one that learns from base classes.
ONE_PAIR: dict[str, str | None] = {"--backbone": "MobileNetV3Small"}
FEW_STRATEGIES: dict[str, str | None] = {"--strategies": "linear_probe ridge anil"}
#: Folders of results that the documents name.
RESULTS = ("first", "my-fit", "my-run")


def run_here(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Commands run in a folder, with a cache there, and nothing is fetched: its photographs are any set by name."""
    patch.chdir(folder)
    patch.setenv(VARIABLE, str(folder / "cache"))
    for name in BUILT_IN:
        patch.setitem(BUILT_IN, name, lambda cache, progress: from_folder(folder / FOLDERS[-1]))


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user's folder, with results that earlier commands have left (stand-ins have computed them)."""
    folder = tmp_path_factory.mktemp("user")
    lay_out(folder)
    with pytest.MonkeyPatch.context() as patch:
        run_here(folder, patch)
        patch.setattr(launch, "run", FakeWorkers().run)
        assert compare.main(with_overrides(["my-recipe.toml", "--output-dir", "results/my-run"], FAST)) in (0, 1)
        study = ["study", "my-recipe.toml", "--name", FOLDERS[0], "--strategies", "linear_probe", "ridge"]
        assert compare.main(with_overrides([*study, "--shots", "1"], FAST)) in (0, 1)
    # The same of other images, which costs less than another study.
    (document,) = (folder / "results").glob(f"*/{artifacts.STUDY}")
    (folder / "results" / "another").mkdir()
    other = document.read_text(encoding="utf-8").replace(f'"{FOLDERS[0]}"', f'"{FOLDERS[1]}"')
    (folder / "results" / "another" / artifacts.STUDY).write_text(other, encoding="utf-8")
    for name in RESULTS:
        leave_models(folder / "results" / name)
    yield folder


def leave_models(folder: Path) -> None:
    """Models as a training leaves them, unless there are some."""
    (folder / artifacts.MODELS).mkdir(parents=True, exist_ok=True)
    for wing in WINGS:
        path = folder / artifacts.MODELS / f"{wing.identifier}{wing.keeps}"
        if not path.exists():
            write_model(path, Recipe(weights="random", control=False), ("a", "b"))


def would_start(framework: str, command: list[str], environment: dict[str, str], folder: Path, *rest: Any) -> None:
    """Stands in for ``launch.follow``."""
    (folder / artifacts.LOG).touch()
    raise WorkerFailed(STARTED, framework)


def would_dump(*arguments: Any) -> None:
    """Stands in for what writes dumps, and reads those that earlier commands have left."""
    raise WorkerFailed(STARTED, "")


def carried_out(command: list[str], capsys: Captured) -> tuple[int, str]:
    """Exit status and complaints of a command."""
    capsys.readouterr()
    status = compare.main(command)
    return status, " ".join(capsys.readouterr().err.split())


def named(chosen: list[Block]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", chosen, ids=[block.name for block in chosen])


RUN = [block for block in BLOCKS if block.reason is None]


@named([block for block in RUN if block.commands])
def test_commands_up_to_the_first_process(
    block: Block, user: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    run_here(user, monkeypatch)
    monkeypatch.setattr(launch, "follow", would_start)
    monkeypatch.setattr(offline, "dump", would_dump)
    monkeypatch.setattr(offline, "judge", would_dump)
    for command in block.commands:
        if command[:1] == ["predict"]:
            # The command before it would have left them.
            leave_models(user / command[1])
        status, complaints = carried_out(with_overrides(command, FAST), capsys)
        if command[:2] == ["exercise", "check"] and status == 1:
            # Both processes start at once; where the learner's own is the first to end, that is a finding.
            continue
        assert status == 0 or (status == WORKER_FAILED and STARTED in complaints), (command, status, complaints)


@named([block for block in RUN if block.imports])
def test_scripts_up_to_the_first_process(block: Block, user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = imported(block.text)
    assert names
    for name in names:
        module = name.rpartition(".")[0]
        if not any(name.startswith(f"{wing.package}.") for wing in WINGS):
            assert importlib.util.find_spec(name if module != "transfer_parity" else module) is not None, name
        else:
            assert (ROOT / Path(*name.split(".")[1:])).with_suffix(".py").is_file(), name
    if any(name.startswith(wing.package) for wing in WINGS for name in names):
        # It would import a framework into this process: the slow test runs it in another.
        return
    run_here(user, monkeypatch)
    monkeypatch.setattr(launch, "follow", would_start)
    with pytest.raises(WorkerFailed, match=STARTED):
        exec(compile(block.text, block.name, "exec"), {})


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.reason is not None], ids=lambda block: block.name)
def test_what_is_not_run_says_why(block: Block) -> None:
    assert block.reason is not None and len(block.reason.split()) >= 3


def test_a_block_that_cannot_run_would_be_noticed(
    user: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    shown = "$ python compare.py --data nowhere \\\n       --shots 1    # why\n   output"
    text = f"1. Item\n   ```console\n   {shown}\n   ```\n"
    (block,) = blocks_of(text, "x.md")
    assert (block.line, block.reason, block.commands) == (3, None, [["--data", "nowhere", "--shots", "1"]])
    with pytest.raises(AssertionError, match="nowhere"):
        test_commands_up_to_the_first_process(block, user, monkeypatch, capsys)
    (marked,) = blocks_of(text.replace("   ```console", "   <!-- not run: it takes a day -->\n   ```console"), "x.md")
    assert marked.reason == "it takes a day"
    (script,) = blocks_of("```python\nfrom transfer_parity.shared import nothing\n```\n", "x.md")
    assert script.imports and not script.commands
    with pytest.raises((AssertionError, ImportError)):
        test_scripts_up_to_the_first_process(script, user, monkeypatch)


def test_the_documents_have_blocks() -> None:
    """Else nothing of the above would be tested."""
    assert sum(len(block.commands) for block in RUN) >= 60
    assert sum(block.imports for block in RUN) >= 2
    assert len([block for block in BLOCKS if block.reason is not None]) < len(RUN) / 5


# ----- to the end -----


@pytest.fixture(scope="module")
def real_user(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder, with results that earlier commands have left."""
    folder = tmp_path_factory.mktemp("real")
    lay_out(folder)
    with pytest.MonkeyPatch.context() as patch:
        run_here(folder, patch)
        for name in ("first", "my-run"):
            recipe = ["my-recipe.toml", "--output-dir", f"results/{name}"]
            assert compare.main(with_overrides(recipe, SLOW)) in (0, 1)
        fit = ["fit", "my-recipe.toml", "--output-dir", "results/my-fit"]
        assert compare.main(with_overrides(fit, SLOW)) == 0
        for name in FOLDERS[:2]:
            study = ["study", "--data", name, "--name", name, "--strategies", "linear_probe", "ridge", "--shots", "1"]
            assert compare.main(with_overrides(study, SLOW)) in (0, 1)
    return folder


def needs_weights(command: list[str]) -> bool:
    """Whether a command is about a library's weights, or a file of somebody's; other tests have such, or fetch them."""
    shipped = {path.stem for path in RECIPES.glob("*.toml")}
    told = command[:1] == ["parity"] and ("--weights" in command or bool(shipped & set(command)))
    return told or "guides" in command or (command[:1] == ["convert"] and command[1] in (*libraries(), *CHECKPOINTS))


@pytest.mark.slow
@named([block for block in RUN if block.commands])
def test_commands_to_the_end(block: Block, real_user: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    run_here(real_user, monkeypatch)
    for command in block.commands:
        if not needs_weights(command):
            budget = SLOW | ONE_EFFECT if command[:1] == ["attribute"] else SLOW
            # An hour's work: all pairs, or all heads with all strategies.
            if command[:1] == ["parity"] and "all" in command:
                budget = budget | (ONE_PAIR if "--backbone" in command else ONE_PAIR | FEW_STRATEGIES)
            status, complaints = carried_out(with_overrides(command, budget), capsys)
            assert status <= DIFFERENT_OR_INCONCLUSIVE, (command, status, complaints)


@pytest.mark.slow
@named([block for block in RUN if block.imports])
def test_scripts_to_the_end(block: Block, real_user: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", block.text],
        cwd=real_user,
        env=os.environ | {VARIABLE: str(real_user / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not ran.returncode, ran.stderr

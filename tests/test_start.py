"""How a worker's process begins: imports first, garbage collection after them."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from transfer_parity.shared.contract.wings import WINGS, WingInfo
from transfer_parity.shared.runtime import launch, start

#: A wing that tells what it finds.
WING = """
import gc, json, sys
from transfer_parity.shared.runtime.start import end_imports
before = gc.isenabled()
end_imports()
print(json.dumps([__package__, sys.argv[1:], before, gc.isenabled(), gc.get_freeze_count()]))
"""

#: A package that imports what it need not, as a library does, and tells whether it could, then and at the end.
CURIOUS = """
def finds():
    try:
        import sklearn
    except ImportError:
        return False
    return True
found = finds()
"""
WITH_CURIOSITY = """
import json
from transfer_parity.shared.runtime.start import end_imports
from wing import finds, found
end_imports()
print(json.dumps([found, finds()]))
"""
#: Starts a wing's process, and tells at the end of its imports what these brought.
IMPORTED = """
import json, sys
from transfer_parity.shared.runtime import start, worker
before = set(sys.modules)
def main(wing):
    print(json.dumps([name.partition(".")[0] for name, module in sys.modules.items() if module and name not in before]))
worker.main = main
start.main()
"""


def run(folder: Path, package: str, program: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a package that is called wing."""
    (folder / "wing").mkdir()
    (folder / "wing" / "__init__.py").write_text(package)
    (folder / "wing" / "__main__.py").write_text(program)
    command = [sys.executable, "-m", start.__name__, "wing", "folder", *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(launch.ROOT)))}
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("quick", [True, False])
def test_garbage_is_not_collected_during_imports(tmp_path: Path, quick: bool) -> None:
    options = [] if quick else [start.AS_INSTALLED]
    package, arguments, before, after, frozen = json.loads(run(tmp_path, "", WING, *options).stdout)
    assert (package, arguments, after) == ("wing", ["folder"], True)
    assert before is not quick
    assert (frozen > 1000) is quick


def test_what_cannot_be_imported_is_one_sentence(tmp_path: Path) -> None:
    failed = run(tmp_path, "import no_such_framework", "")
    assert failed.returncode == 1
    assert failed.stderr == "wing cannot be imported: No module named 'no_such_framework'\n"


def test_the_profiles_start_differently() -> None:
    stock, tuned = (launch.command("torch", runtime, Path("folder")) for runtime in ("stock", "tuned"))
    assert [part for part in stock if part not in tuned] == [start.AS_INSTALLED]
    assert [part for part in tuned if part not in stock] == [start.WITHOUT_EXTRAS]


@pytest.mark.parametrize("options", [(), (start.AS_INSTALLED,), (start.WITHOUT_EXTRAS,)])
def test_what_a_library_would_like_is_there_again_after_the_imports(tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "sklearn.py").touch()
    told = json.loads(run(tmp_path, CURIOUS, WITH_CURIOSITY, *options).stdout)
    assert told == [start.WITHOUT_EXTRAS not in options, True]


def needed(packages: tuple[str, ...]) -> set[str]:
    """Distributions and all that they require, by their normalised names."""
    found: set[str] = set()
    left = set(packages)
    while left:
        name = re.sub("[-_.]+", "-", left.pop()).lower()
        if name not in found:
            found.add(name)
            try:
                requirements = importlib.metadata.requires(name) or []
            except importlib.metadata.PackageNotFoundError:
                continue
            # A name, as PEP 508 has it, stands in front of versions and conditions.
            left |= {re.split(r"[^\w.-]", each)[0] for each in requirements if "extra ==" not in each}
    return found


@pytest.mark.parametrize("wing", WINGS, ids=lambda wing: wing.identifier)
def test_a_wing_imports_what_its_libraries_require_and_little_else(wing: WingInfo) -> None:
    """What else is installed here, for tests or by a user, is not in the seconds of its start."""
    command = [sys.executable, "-c", IMPORTED, wing.package, "folder", start.WITHOUT_EXTRAS]
    brought = Counter(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert all(brought[name] for name in wing.packages)
    owners, required = importlib.metadata.packages_distributions(), needed(wing.packages) | {"transfer-parity"}
    surplus = {
        name: count
        for name, count in brought.items()
        if name in owners and not {re.sub("[-_.]+", "-", each).lower() for each in owners[name]} & required
    }
    assert sum(surplus.values()) <= brought.total() / 20, f"hide in start.EXTRAS what the worker needs not: {surplus}"

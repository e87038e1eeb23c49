"""How a worker's process begins: imports first, garbage collection after them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from transfer_parity.shared.runtime import launch, start

#: A wing that tells what it finds.
WING = """
import gc, json, sys
from transfer_parity.shared.runtime.start import collect_again
before = gc.isenabled()
collect_again()
print(json.dumps([__package__, sys.argv[1:], before, gc.isenabled(), gc.get_freeze_count()]))
"""


def run(folder: Path, package: str, program: str, quick: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a package that is called wing."""
    (folder / "wing").mkdir()
    (folder / "wing" / "__init__.py").write_text(package)
    (folder / "wing" / "__main__.py").write_text(program)
    command = [sys.executable, "-m", start.__name__, "wing", "folder", *([] if quick else [start.AS_INSTALLED])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(launch.ROOT)))}
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("quick", [True, False])
def test_garbage_is_not_collected_during_imports(tmp_path: Path, quick: bool) -> None:
    package, arguments, before, after, frozen = json.loads(run(tmp_path, "", WING, quick).stdout)
    assert (package, arguments, after) == ("wing", ["folder"], True)
    assert before is not quick
    assert (frozen > 1000) is quick


def test_what_cannot_be_imported_is_one_sentence(tmp_path: Path) -> None:
    failed = run(tmp_path, "import no_such_framework", "")
    assert failed.returncode == 1
    assert failed.stderr == "wing cannot be imported: No module named 'no_such_framework'\n"


def test_only_the_stock_profile_leaves_python_as_it_is() -> None:
    stock, tuned = (launch.command("torch", runtime, Path("folder")) for runtime in ("stock", "tuned"))
    assert [part for part in stock if part not in tuned] == [start.AS_INSTALLED]

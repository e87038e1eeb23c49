"""How a worker's process begins: imports first, garbage collection after them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared import launch, start

#: A wing that tells what it finds.
WING = """
import gc, json, sys
from shared.start import collect_again
before = gc.isenabled()
collect_again()
print(json.dumps([__package__, sys.argv[1:], before, gc.isenabled(), gc.get_freeze_count()]))
"""


@pytest.mark.parametrize("quick", [True, False])
def test_garbage_is_not_collected_during_imports(tmp_path: Path, quick: bool) -> None:
    (tmp_path / "wing").mkdir()
    (tmp_path / "wing" / "__init__.py").touch()
    (tmp_path / "wing" / "__main__.py").write_text(WING)
    command = [sys.executable, "-m", *(["shared.start"] if quick else []), "wing", "folder"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(launch.ROOT)))}
    said = subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True)
    package, arguments, before, after, frozen = json.loads(said.stdout)
    assert (package, arguments, after) == ("wing", ["folder"], True)
    assert before is not quick
    assert (frozen > 1000) is quick


@pytest.mark.parametrize(("runtime", "module"), [("tuned", start.__name__), ("stock", "torch_impl")])
def test_only_the_tuned_profile_starts_quickly(runtime: launch.Runtime, module: str) -> None:
    assert launch.command("torch", runtime, Path("folder"))[1:3] == ["-m", module]

"""Event files: what was recorded, as TensorBoard itself reads it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from tests.fakes import FakeWorkers
from tests.processes import last_line
from tests.test_study import OPTIONS
from transfer_parity import compare
from transfer_parity.shared.experiments.trainings import Training
from transfer_parity.shared.report import tensorboard

READ = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
found = []
for folder in sys.argv[1:]:
    events = EventAccumulator(folder).Reload()
    scalars = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
    found.append({tag: [[each.step, str(each.value)] for each in values] for tag, values in scalars.items()})
print(json.dumps(found))
"""


def test_tensorboard_reads_what_was_recorded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tensorboard.write(tmp_path, [Training("torch-a", [7.0], [0.1], 0.25), Training("torch-b", [], [0.1, 0.05], 0.5)])
    # Of another day, and of another machine.
    (tmp_path / "torch-a" / "events.out.tfevents.1.elsewhere").touch()
    # Again: one file, not several that would be shown on top of each other.
    tensorboard.write(tmp_path, [Training("torch-a", [2.5, None, 0.5], [0.1, 0.05, 0.025], 0.75)])
    (path,) = (tmp_path / "torch-a").iterdir()
    assert path.name.startswith("events.out.tfevents.")
    # A loss that is not finite is nothing to warn of.
    assert not caplog.records
    found, closed_form = json.loads(last_line(READ, path.parent, tmp_path / "torch-b"))
    assert found["training/loss"] == [[0, "2.5"], [1, "nan"], [2, "0.5"]]
    assert [step for step, _ in found["training/learning_rate"]] == [0, 1, 2]
    assert [float(rate) for _, rate in found["training/learning_rate"]] == pytest.approx([0.1, 0.05, 0.025])
    assert found["test/accuracy"] == [[2, "0.75"]]
    # It has no steps.
    assert closed_form == {"test/accuracy": [[0, "0.5"]]}


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ([], "torch-untrained-shots2-seed1"),
        (["study", "--strategies", "linear_probe"], "torch-linear_probe-shots2-seed1"),
    ],
)
def test_every_run_has_a_folder(
    command: list[str], name: str, photos: Path, tmp_path: Path, workers: FakeWorkers
) -> None:
    folders = ["--output-dir", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache")]
    control = [] if command else ["--no-control"]
    given = [*command, "--data", str(photos), *map(str, OPTIONS), *control, "--tensorboard", *folders]
    assert compare.main(given) in (0, 1)
    found = {path.name for path in (tmp_path / "out" / "tensorboard").iterdir()}
    assert len(found) == 2 * 2 * 2
    assert name in found


def test_without_the_package(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for command in ([], ["study"]):
        assert compare.main([*command, "--data", str(photos), "--tensorboard", "--output-dir", str(tmp_path)]) == 2
        assert "pip install tensorboardX, or leave the option out." in " ".join(capsys.readouterr().err.split())

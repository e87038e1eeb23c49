"""Starts the process of one side of a user's own pair, in an environment of its own where it has one."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from transfer_parity.shared.contract import artifacts
from transfer_parity.shared.contract.subject import Side
from transfer_parity.shared.contract.subject_jobs import SubjectJob
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.runtime import launch, start

#: Folder that holds nothing but this package, for an interpreter that does not have it.
_PACKAGE = "package"


@dataclass(frozen=True)
class SubjectTask:
    """What one process is to do."""

    job: SubjectJob
    folder: Path
    listen: launch.Listener

    def carry_out(self, listen: launch.Listener) -> None:
        """Run the process and wait for it.

        Raises:
            BadInput, WorkerFailed: as ``launch.follow`` does.
        """
        side = self.job.subject.sides[self.job.side]
        wing = side.wing
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / artifacts.JOB).write_text(self.job.model_dump_json(indent=1), encoding="utf-8")
        environment = launch.environment(self.job.threads)
        if wing.backends:
            environment[wing.backend_variable] = side.backend or wing.backends[0]
        interpreter = sys.executable
        if side.python is not None:
            interpreter = str(self.job.root / side.python)
            if not Path(interpreter).is_file():
                raise BadInput(f"side {self.job.side}: there is no interpreter {interpreter}; mend its python.")
            (self.folder / _PACKAGE).mkdir(exist_ok=True)
            link = self.folder / _PACKAGE / __name__.partition(".")[0]
            if not link.exists():
                link.symlink_to(launch.ROOT)
            environment["PYTHONPATH"] = str(link.parent)
        entry = f"{wing.package}.subject_main"
        command = [interpreter, "-P", "-m", start.__name__, entry, str(self.folder.resolve())]
        thrift = "lower training.batch, or compare a smaller model"
        launch.follow(wing.identifier, command, environment, self.folder, listen, thrift)


def make_sure_of(side: Side) -> None:
    """Refuse a side whose framework is not installed here, before anything is computed.

    Raises:
        BadInput: it is not.
    """
    if side.python is not None:
        return
    wing = side.wing
    needed = [each for each in wing.packages if each not in wing.backends]
    if wing.backends:
        needed.append(side.backend or wing.backends[0])
    absent = [each for each in needed if importlib.util.find_spec(each) is None]
    if absent:
        raise BadInput(
            f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed; pip install "
            f"{' '.join(absent)}, or dump that side where it is (compare.py parity dump)."
        )

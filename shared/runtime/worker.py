"""What runs inside a framework's process: the same loop for both wings.

Reads ``job.json`` from a folder, works through it, writes every finished cell at once, and tells its progress as JSON
lines on standard output. Everything else that a framework prints goes to standard error.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from pathlib import Path
from typing import NoReturn

from transfer_parity.shared.contract.jobs import Job
from transfer_parity.shared.contract.results import WorkerResult
from transfer_parity.shared.contract.wing import AnyImplementation
from transfer_parity.shared.core import clocks, machine
from transfer_parity.shared.core.errors import BAD_INPUT, WORKER_FAILED, BadInput
from transfer_parity.shared.runtime import checkpoint_io, export_dataset, start, trace
from transfer_parity.shared.runtime.events import Events
from transfer_parity.shared.runtime.start import SPAWNED_AT
from transfer_parity.shared.runtime.train import Cells

#: In what torch and TensorFlow raise if a device, or the machine, has no more memory to give.
OUT_OF_MEMORY = ("OutOfMemoryError", "ResourceExhaustedError", "DefaultCPUAllocator")


def main(implementation: AnyImplementation) -> NoReturn:
    """Run the job whose folder is the only argument of the process, and end the process."""
    status = _work(implementation)
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is written, and taking a framework down in good order would take a second.
    os._exit(status)


def _work(implementation: AnyImplementation) -> int:
    """Run the job. Returns the exit status."""
    start.collect_again()
    events = Events()
    folder = Path(sys.argv[1])
    try:
        job = Job.model_validate_json((folder / "job.json").read_text(encoding="utf-8"))
        implementation.configure(job.threads, job.recipe.precision, job.recipe.device, job.runtime)
        phases = clocks.Phases(implementation.synchronize)
        # The first call waits until a device is ready for use.
        implementation.synchronize()
        phases.add("start", time.time() - float(os.environ.get(SPAWNED_AT, time.time())))
        events.tell("ready")
        cells: Cells | None = None
        if job.kind in ("compare", "features"):
            cells = Cells(implementation, job, folder, events, phases)
            cells.run()
        elif job.kind == "trace":
            for case in job.cases:
                trace.trace(implementation, case, folder / case.id, lambda rung: events.tell("rung", name=rung))
                events.tell("case", id=case.id)
        elif job.kind == "data_set":
            export_dataset.gather(implementation, job.data_set, folder, events.progress)
        else:
            checkpoint_io.carry_out(implementation, job, folder)
        _write_result(implementation, folder, phases, cells)
    except BadInput as error:
        events.tell("bad_input", message=str(error))
        return BAD_INPUT
    except Exception as error:
        if isinstance(error, MemoryError) or any(word in repr(error) for word in OUT_OF_MEMORY):
            events.tell("out_of_memory", reason=next(iter(str(error).splitlines()), type(error).__name__))
        traceback.print_exc()
        return WORKER_FAILED
    return 0


def _write_result(implementation: AnyImplementation, folder: Path, phases: clocks.Phases, cells: Cells | None) -> None:
    versions, device = implementation.environment()
    steps = {phase: steps.times for phase, steps in cells.steps.items()} if cells else {}
    choice = cells.choice if cells else None
    result = WorkerResult(
        versions=versions,
        device=device,
        phases=phases.seconds,
        steps={phase: times for phase, times in steps.items() if times is not None},
        engine=choice.name if choice else None,
        engine_reason=choice.reason if choice else None,
        multiply_adds=cells.multiply_adds if cells else None,
        ceiling=cells.ceiling if cells else None,
        cpu_seconds=machine.cpu_seconds(),
        wall_seconds=time.time() - float(os.environ.get(SPAWNED_AT, time.time())),
        involuntary_context_switches=machine.involuntary_context_switches(),
        peak_memory_bytes=machine.peak_memory_bytes(),
    )
    (folder / "result.json").write_text(result.model_dump_json(indent=1), encoding="utf-8")

"""What runs inside a framework's process: the same loop for both wings.

Reads the job of a folder, works through it, writes every finished run at once, and tells its progress as JSON lines on
standard output. Everything else that a framework prints goes to standard error.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import NoReturn

from transfer_parity.shared.contract import artifacts, jobs
from transfer_parity.shared.contract.jobs import (
    DataSetJob,
    EpisodesJob,
    FeaturesJob,
    Job,
    PredictJob,
    TraceJob,
    TrainJob,
)
from transfer_parity.shared.contract.results import WorkerResult
from transfer_parity.shared.contract.wing import Wing
from transfer_parity.shared.core import clocks, disk, machine, notices
from transfer_parity.shared.core.errors import BAD_INPUT, WORKER_FAILED, BadInput
from transfer_parity.shared.runtime import (
    checkpoint_io,
    export_dataset,
    learner_trace,
    learning,
    predict,
    recipe_trace,
    start,
    trace,
)
from transfer_parity.shared.runtime.events import Events
from transfer_parity.shared.runtime.passes import Passes
from transfer_parity.shared.runtime.train import RunLoop


def main(wing: Wing) -> NoReturn:
    """Run the job whose folder is the only argument of the process, and end the process."""
    status = _work(wing)
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is written, and taking a framework down in good order would take a second.
    os._exit(status)


def _work(wing: Wing) -> int:
    """Run the job. Returns the exit status."""
    start.end_imports()
    events = Events()
    folder = Path(sys.argv[1])
    try:
        job = jobs.read(folder)
        execution = job.execution
        wing.device.configure(execution.threads, execution.precision, execution.device, execution.runtime)
        phases = clocks.Phases(wing.device.synchronize)
        # The first call waits until a device is ready for use.
        wing.device.synchronize()
        phases.add("start", start.seconds_since())
        events.tell("ready")
        with notices.heard(lambda sentence: events.tell("notice", message=sentence)):
            passes, check_seconds = _carry_out(wing, job, folder, events, phases)
        _write_result(wing, folder, phases, passes, check_seconds)
    except BadInput as error:
        events.tell("bad_input", message=str(error))
        return BAD_INPUT
    except Exception as error:
        if isinstance(error, OSError) and (told := disk.complaint(error, [folder, Path(tempfile.gettempdir())])):
            events.tell("bad_input", message=told)
            return BAD_INPUT
        if isinstance(error, MemoryError) or any(word in repr(error) for word in wing.info.out_of_memory):
            events.tell("out_of_memory", reason=next(iter(str(error).splitlines()), type(error).__name__))
        traceback.print_exc()
        return WORKER_FAILED
    return 0


def _carry_out(
    wing: Wing, job: Job, folder: Path, events: Events, phases: clocks.Phases
) -> tuple[Passes | None, float]:
    """Do what a job says. Returns its passes over many images, if it has any, and seconds of its short check."""
    if isinstance(job, TrainJob | FeaturesJob):
        loop = RunLoop(wing, job, folder, events, phases)
        loop.run()
        return loop.passes, loop.check_seconds
    if isinstance(job, PredictJob):
        return predict.carry_out(wing, job, folder, events), 0.0
    if isinstance(job, TraceJob):
        for climb in job.climbs:
            trace.trace(wing, climb, folder / climb.id, lambda rung: events.tell("rung", name=rung))
            events.tell("climb", id=climb.id)
        for recipe in job.recipes:
            follow = recipe_trace.trace if recipe.learner is None else learner_trace.trace
            follow(wing, recipe, folder / recipe.id, events)
            events.tell("climb", id=recipe.id)
    elif isinstance(job, EpisodesJob):
        if job.features is not None:
            RunLoop(wing, job.features, folder, events, phases).run()
        learning.carry_out(wing, job, folder, events, phases)
    elif isinstance(job, DataSetJob):
        export_dataset.export(wing, job.name, folder, events.progress)
    else:
        checkpoint_io.carry_out(wing, job, folder)
    return None, 0.0


def _write_result(wing: Wing, folder: Path, phases: clocks.Phases, passes: Passes | None, check_seconds: float) -> None:
    versions, device = wing.device.environment()
    steps = {phase: steps.times for phase, steps in passes.steps.items()} if passes else {}
    choice = passes.choice if passes else None
    result = WorkerResult(
        versions=versions,
        device=device,
        phases=phases.seconds,
        steps={phase: times for phase, times in steps.items() if times is not None},
        engine=choice.name if choice else None,
        engine_reason=choice.reason if choice else None,
        multiply_adds=passes.multiply_adds if passes else None,
        ceiling=passes.ceiling if passes else None,
        cpu_seconds=machine.cpu_seconds(),
        wall_seconds=start.seconds_since() - check_seconds,
        involuntary_context_switches=machine.involuntary_context_switches(),
        peak_memory_bytes=machine.peak_memory_bytes(),
        check_seconds=check_seconds,
    )
    (folder / artifacts.WORKER_RESULT).write_text(result.model_dump_json(indent=1), encoding="utf-8")

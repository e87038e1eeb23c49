"""What runs inside a framework's process for a user's own pair: one side is described, and climbs."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import NoReturn

import numpy as np
import safetensors.numpy

from transfer_parity.shared.contract import artifacts
from transfer_parity.shared.contract.rungs import Array
from transfer_parity.shared.contract.subject_jobs import SubjectClimb, SubjectJob
from transfer_parity.shared.contract.subject_wing import SubjectModule
from transfer_parity.shared.contract.wings import WingInfo
from transfer_parity.shared.core.errors import BAD_INPUT, WORKER_FAILED, BadInput
from transfer_parity.shared.runtime import start, subject_dump, subject_examples
from transfer_parity.shared.runtime.events import Events
from transfer_parity.shared.runtime.subject_dump import Dump, DumpInfo
from transfer_parity.shared.runtime.subject_side import SubjectSide
from transfer_parity.shared.runtime.subject_trace import SubjectTrace


def main(wing: SubjectModule, info: WingInfo) -> NoReturn:
    """Run the job whose folder is the only argument of the process, and end the process."""
    status = _work(wing, info, Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _work(wing: SubjectModule, info: WingInfo, folder: Path) -> int:
    start.end_imports()
    events, side = Events(), ""
    try:
        job = SubjectJob.model_validate_json((folder / artifacts.JOB).read_text(encoding="utf-8"))
        side = f"side {job.side}: "
        versions = wing.configure(info, job.threads, job.subject.precision)
        events.tell("ready")
        _carry_out(wing, info, job, folder, versions, events)
    except BadInput as error:
        events.tell("bad_input", message=side + str(error).removeprefix(side))
        return BAD_INPUT
    except Exception as error:
        if isinstance(error, MemoryError) or any(word in repr(error) for word in info.out_of_memory):
            events.tell("out_of_memory", reason=next(iter(str(error).splitlines()), type(error).__name__))
        traceback.print_exc()
        return WORKER_FAILED
    return 0


def _carry_out(
    wing: SubjectModule, info: WingInfo, job: SubjectJob, folder: Path, versions: dict[str, str], events: Events
) -> None:
    subject = job.subject
    examples = subject_examples.read(job.examples)
    few = {name: examples[name][: subject.training.batch] for name in subject.inputs}
    side = SubjectSide(wing, info, subject, job.side, job.root, few)
    told = DumpInfo(
        name=subject.name,
        subject=subject.digest,
        side=job.side,
        framework=info.identifier,
        backend=side.side.backend,
        factory=side.side.factory,
        versions=versions,
        precision=subject.precision,
        seed=subject.seed,
        examples=subject_examples.digest(examples),
    )
    if job.describe:
        told.save(folder / subject_dump.INFO)
        side.inventory.save(folder / subject_dump.INVENTORY)
        _save(folder / subject_dump.WEIGHTS, side.drawn() if job.draw else side.weights())
    own = side.weights() if any(climb.weights is None for climb in job.climbs) else {}
    for climb in job.climbs:
        _climb(side, climb, folder / climb.id, told, own, events)
    if job.export is not None:
        if job.load is not None:
            side.load(safetensors.numpy.load_file(job.load))
        wing.write_checkpoint(side.model, job.export)


def _climb(
    side: SubjectSide, climb: SubjectClimb, folder: Path, told: DumpInfo, own: dict[str, Array], events: Events
) -> None:
    dump = Dump(folder)
    folder.mkdir(parents=True, exist_ok=True)
    refused, failed = _amended(side, climb), None
    side.changed_inputs = tuple(each for each in climb.amendments if each.what == "input")
    if refused is None:
        weights = own if climb.weights is None else dict(safetensors.numpy.load_file(climb.weights))
        if climb.weights is not None:
            # What the other side has no counterpart for stays as this one made it.
            weights = {name: array for name, array in side.weights().items() if name not in weights} | weights
        try:
            SubjectTrace(side, climb, dump, lambda rung: events.tell("rung", name=rung)).run(weights)
            side.inventory.save(folder / subject_dump.INVENTORY)
            (folder / subject_dump.SUBJECT).write_text(side.subject.model_dump_json(indent=1), encoding="utf-8")
            told.save(folder / subject_dump.INFO)
        except Exception as error:
            if not climb.amendments:
                raise
            # With another stride, say, what comes behind it may not fit any more: that change explains nothing.
            told_once = next(iter(str(error).splitlines()), type(error).__name__)
            failed = f"the model fails with it: {told_once}"
    side.changed_inputs = ()
    events.tell("climb", id=climb.id, refused=refused or failed)
    for each in reversed(climb.amendments):
        if each.what == "layer" and refused is None:
            side.undo(each)


def _amended(side: SubjectSide, climb: SubjectClimb) -> str | None:
    """Change the layers as a climb wants it. Returns why that cannot be done, if it cannot."""
    done = []
    for each in climb.amendments:
        if each.what != "layer":
            continue
        try:
            side.amend(each)
            done.append(each)
        except ValueError as error:
            for other in reversed(done):
                side.undo(other)
            return str(error)
    return None


def _save(path: Path, arrays: dict[str, Array]) -> None:
    # What is not contiguous would be written in the order of memory.
    safetensors.numpy.save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)

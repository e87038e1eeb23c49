"""A climb of a user's own pair: both sides are described, mapped, given the same weights, climbed and judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors.numpy

from transfer_parity.shared.contract.inventory import Amendment, Inventory
from transfer_parity.shared.contract.rungs import Array, Rung
from transfer_parity.shared.contract.subject import DRAWN, OWN, Subject
from transfer_parity.shared.contract.subject_jobs import SubjectClimb, SubjectJob
from transfer_parity.shared.core.progress import Progress
from transfer_parity.shared.runtime import subject_dump, subject_examples, subject_launch
from transfer_parity.shared.runtime.pool import WorkerPool
from transfer_parity.shared.runtime.subject_dump import Dump
from transfer_parity.shared.runtime.subject_launch import SubjectTask
from transfer_parity.shared.subjects import (
    causes,
    custom_layers,
    judging,
    layer_inputs,
    map_file,
    mapping,
    outcome,
    recognising,
)
from transfer_parity.shared.subjects.document import Cause, SubjectParity, SubjectRung
from transfer_parity.shared.subjects.name_map import NameMap

#: Says why a difference is accepted (rung, what, name, relative difference), or None.
Accepted = Callable[[Rung, str, str | None, float], str | None]
#: Parameters above which the two processes run one after the other, and known differences of which fewer are tried.
LARGE = 80_000_000
TRIALS, TRIALS_OF_LARGE = 24, 6
CLIMB, DESCRIPTION = "climb", "description"


@dataclass(frozen=True)
class Workplace:
    """Where a climb works, and with what.

    Attributes:
        subject: the pair.
        root: folder that its files are relative to.
        work: an empty folder.
        threads: of each process.
        tell: hears how far it is.
    """

    subject: Subject
    root: Path
    work: Path
    threads: int
    tell: Progress

    def job(self, side: str, examples: Path, **values: Any) -> SubjectJob:
        """A job of one side."""
        return SubjectJob(
            subject=self.subject, side=side, root=self.root.resolve(), threads=self.threads, examples=examples, **values
        )

    def task(self, job: SubjectJob, folder: Path, refusals: dict[str, str] | None = None) -> SubjectTask:
        """What carries a job out. ``refusals``: receives why climbs could not be done, by their name."""
        total = len(job.climbs)
        done = 0

        def listen(event: str, details: dict[str, Any]) -> None:
            nonlocal done
            if event == "started":
                self.tell(f"{job.side}: starting", 0, 0)
            elif event == "rung":
                self.tell(f"{job.side}: {details['name']}", done, total)
            elif event == "climb":
                done += 1
                if refusals is not None and details["refused"]:
                    refusals[details["id"]] = details["refused"]

        return SubjectTask(job, folder, listen)

    def at_once(self, inventories: Sequence[Inventory]) -> WorkerPool:
        """A pool for both sides: one after the other where the models are large."""
        return WorkerPool(1 if max(map(outcome.parameters, inventories), default=0) > LARGE else 2)


class Climb:
    """Both sides here and now.

    Args:
        place: where.
        accepted: differences that are known and accepted.
    """

    def __init__(self, place: Workplace, accepted: Accepted | None = None) -> None:
        self.place, self.subject, self.accepted = place, place.subject, accepted
        for side in self.subject.sides.values():
            subject_launch.make_sure_of(side)

    def run(self, explain: bool) -> SubjectParity:
        """Describe, map, climb, judge; and look for what explains a failure.

        Raises:
            BadInput: something that the user gave cannot be used.
            WorkerFailed: a process ended early.
        """
        self._describe()
        self._climb()
        rungs = self._judged(self._dumps[1])
        found: list[Cause] = []
        tried = 0
        if explain and any(not rung.passed for rung in rungs):
            found, tried = self._explained(rungs)
        return outcome.document(self.subject, self._dumps, self.names, self.inventories, rungs, found, tried)

    def export(self, side: str, path: Path) -> None:
        """Write the weights that a side was given as a checkpoint in its framework's own format."""
        job = self.place.job(side, self.examples, load=self.given[side], export=path.resolve())
        WorkerPool(1).run([self.place.task(job, self.place.work / f"export-{side}")])

    def _describe(self) -> None:
        subject, work = self.subject, self.place.work
        drawn = subject_examples.draw(subject, self.place.root)
        path = work / "inputs.npz"
        subject_examples.write(path, drawn)
        tasks = [
            self.place.task(
                self.place.job(side, path, describe=True, draw=subject.origin == DRAWN and side == subject.reference),
                work / DESCRIPTION / side,
            )
            for side in subject.sides
        ]
        WorkerPool(2).run(tasks)
        described = [Dump(work / DESCRIPTION / side) for side in subject.sides]
        self.inventories = (described[0].inventory, described[1].inventory)
        self.names = named(subject, self.place.root, self.inventories, described)
        outputs = self.inventories[0].outputs
        self.examples = work / subject_dump.EXAMPLES
        subject_examples.write(self.examples, subject_examples.with_targets(subject, drawn, outputs[0]))
        self.given = given(subject, self.names, described, work)

    @cached_property
    def _dumps(self) -> tuple[Dump, Dump]:
        folders = (self.place.work / side / CLIMB for side in self.subject.sides)
        first, second = map(Dump, folders)
        return first, second

    def _climb(self) -> None:
        subject, work = self.subject, self.place.work
        alone = subject.single_step
        reference = SubjectClimb(
            id=CLIMB, weights=self.given[subject.reference], examples=self.examples, writes_layer_inputs=alone
        )
        inputs = work / subject.reference / CLIMB / subject_dump.LAYER_INPUTS
        candidate = SubjectClimb(
            id=CLIMB,
            weights=self.given[subject.candidate],
            examples=self.examples,
            names=parameter_names(self.names, self.inventories[0]),
            layer_inputs=inputs if alone else None,
        )
        tasks = [
            self.place.task(self.place.job(side, self.examples, climbs=(climb,)), work / side)
            for side, climb in zip(subject.sides, (reference, candidate), strict=True)
        ]
        if not alone:
            self.place.at_once(self.inventories).run(tasks)
            return
        WorkerPool(1).run(tasks[:1])
        pairs = {pair.reference: pair.candidate for pair in self.names.pairs}
        layer_inputs.hand_over(inputs, pairs, self.inventories)
        WorkerPool(1).run(tasks[1:])

    def _judged(self, candidate: Dump) -> list[SubjectRung]:
        return judging.judge(self.subject, self._dumps[0], candidate, self.names, self.accepted)

    def _explained(self, rungs: list[SubjectRung]) -> tuple[list[Cause], int]:
        """What explains a failure: each known difference that could apply is taken back on the candidate's side."""
        subject, work = self.subject, self.place.work
        weights = [self._weights(side) for side in subject.sides]
        several = causes.hypotheses(subject, self.names, self.inventories, rungs, (weights[0], weights[1]))
        large = max(map(outcome.parameters, self.inventories)) > LARGE
        several = several[: TRIALS_OF_LARGE if large else TRIALS]
        seen = recognising.recognise(
            subject, self.names, self.inventories, rungs, self._dumps, (weights[0], weights[1])
        )
        if not several:
            return seen, 0
        folder = work / "trials"
        folder.mkdir()
        climbs = []
        for number, each in enumerate(several):
            changed = [amendment for amendment in each.amendments if amendment.what == "weights"]
            path = self.given[subject.candidate]
            if changed:
                path = folder / f"{number}.safetensors"
                _save(path, self._changed(weights[1], changed))
            climbs.append(
                SubjectClimb(
                    id=str(number),
                    amendments=each.amendments,
                    weights=path,
                    examples=self.examples,
                    measures_rounding=False,
                    names=parameter_names(self.names, self.inventories[0]),
                )
            )
        refusals: dict[str, str] = {}
        job = self.place.job(subject.candidate, self.examples, climbs=tuple(climbs))
        WorkerPool(1).run([self.place.task(job, folder, refusals)])
        found = []
        for number, each in enumerate(several):
            if str(number) not in refusals:
                trial = Dump(folder / str(number))
                # What rounding does was measured once.
                trial.write_rounding(self._dumps[1].rounding)
                after = self._judged(trial)
                cause = causes.verdict(each, rungs, after, subject)
                if cause is not None:
                    found.append(cause)
        order = ["all", "rung", "part"]
        return sorted([*found, *seen], key=lambda cause: order.index(cause.explains)), len(several)

    def _changed(self, weights: Mapping[str, Array], amendments: Sequence[Amendment]) -> dict[str, Array]:
        found = dict(weights)
        for amendment in amendments:
            found = causes.apply_to_weights(amendment, found, self.inventories[1])
        return found

    def _weights(self, side: str) -> dict[str, Array]:
        path = self.given[side] or self.place.work / DESCRIPTION / side / subject_dump.WEIGHTS
        return dict(safetensors.numpy.load_file(path))


def named(subject: Subject, root: Path, inventories: tuple[Inventory, Inventory], described: Sequence[Dump]) -> NameMap:
    """The map of names: the user's file where it is there, else a proposal, which is written there.

    Raises:
        BadInput: the file does not fit the models.
    """
    path = root / subject.map if subject.map is not None else None
    if path is not None and path.exists():
        return map_file.read(path, *inventories)
    # Equal weights confirm it; those that one side was built with need not be.
    values = (described[0].weights(), described[1].weights())
    names = mapping.propose(*inventories, values)
    if path is not None:
        map_file.write(path, names, *inventories, names=(subject.reference, subject.candidate))
    custom_layers.refuse(names, inventories, (subject.reference, subject.candidate), str(path) if path else None)
    return names


def given(subject: Subject, names: NameMap, described: Sequence[Dump], work: Path) -> dict[str, Path | None]:
    """File of the weights that each side gets, canonical, by its own names; None: as its model has them."""
    if subject.origin == OWN:
        return dict.fromkeys(subject.sides)
    source = subject.candidate if subject.origin == subject.candidate else subject.reference
    arrays = described[list(subject.sides).index(source)].weights()
    if source == subject.reference:
        of_sides = {subject.reference: arrays, subject.candidate: names.to_candidate(arrays)}
    else:
        of_sides = {subject.reference: names.to_reference(arrays), subject.candidate: arrays}
    found: dict[str, Path | None] = {}
    for side, mine in of_sides.items():
        path = found[side] = work / f"weights-{list(subject.sides).index(side)}.safetensors"
        _save(path, mine)
    return found


def parameter_names(names: NameMap, reference: Inventory) -> dict[str, str]:
    """The reference's name by the candidate's, of every parameter that the map has."""
    found = {}
    for layer in reference.with_parameters:
        for role in layer.parameters:
            other = names.reference_parameter(f"{layer.name}.{role}")
            if other is not None:
                found[other[0]] = f"{layer.name}.{role}"
    return found


def _save(path: Path, arrays: Mapping[str, Array]) -> None:
    safetensors.numpy.save_file({name: array.copy() for name, array in arrays.items()}, path)


def climb(
    subject: Subject,
    root: Path,
    work: Path,
    threads: int,
    tell: Progress,
    accepted: Accepted | None = None,
    explain: bool = True,
    exports: Mapping[str, Path] | None = None,
    map_to: Path | None = None,
) -> SubjectParity:
    """Climb with both sides, and say what explains a failure.

    Args:
        subject: the pair.
        root: folder that its files are relative to.
        work: an empty folder for intermediate files.
        threads: of each of the two processes.
        tell: hears how far it is.
        accepted: says why a difference is accepted.
        explain: whether to try known differences after a failure.
        exports: by side, a checkpoint to write of the weights that it was given.
        map_to: where to write the map of names that was used, besides.

    Raises:
        BadInput: something that the user gave cannot be used.
        WorkerFailed: a process ended early.
    """
    both = Climb(Workplace(subject, root, work, threads, tell), accepted)
    found = both.run(explain)
    for side, path in (exports or {}).items():
        both.export(side, path)
    if map_to is not None:
        map_file.write(map_to, both.names, *both.inventories, names=(subject.reference, subject.candidate))
    return found

"""One side alone, and two folders that were written that way: sides may live on different machines."""

from __future__ import annotations

import shutil
from pathlib import Path

from transfer_parity.shared.contract.inventory import Inventory
from transfer_parity.shared.contract.rungs import Array
from transfer_parity.shared.contract.subject import DRAWN, OWN, Subject
from transfer_parity.shared.contract.subject_jobs import SubjectClimb
from transfer_parity.shared.core import scratch
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.core.progress import Progress
from transfer_parity.shared.runtime import subject_dump, subject_examples, subject_launch
from transfer_parity.shared.runtime.pool import WorkerPool
from transfer_parity.shared.runtime.subject_dump import Dump, DumpInfo
from transfer_parity.shared.subjects import climbing, judging, layer_inputs, map_file, outcome, recognising
from transfer_parity.shared.subjects.climbing import CLIMB, DESCRIPTION, Accepted, Workplace
from transfer_parity.shared.subjects.document import SubjectParity
from transfer_parity.shared.subjects.name_map import NameMap

#: Beginning of the name of the folder in which a process works, beside its dump: so that what is whole can be moved.
WORK = ".transfer-parity-dump-"
#: The map by which the candidate got its weights.
NAMES = "names.json"


def dump(
    subject: Subject, root: Path, side: str, folder: Path, threads: int, tell: Progress, origin: Path | None = None
) -> None:
    """Climb one side alone.

    Args:
        subject: the pair.
        root: folder that its files are relative to.
        side: name of the side.
        folder: new folder for all rungs; appears when it is whole.
        threads: of the process.
        tell: hears how far it is.
        origin: the other side's folder, whose examples, and weights where the pair says so, this one takes.

    Raises:
        BadInput: something that the user gave cannot be used.
        WorkerFailed: the process ended early.
    """
    subject_launch.make_sure_of(subject.sides[side])
    first = Dump(origin) if origin is not None else None
    if first is not None:
        _check(first.info, subject, origin)
        if first.info.side == side:
            raise BadInput(f"--from {origin} is a dump of {side} itself; give the other side's.")
    elif side == subject.candidate:
        raise BadInput(
            f"--side {side} takes its examples and names from {subject.reference}; dump that side first, and give "
            "its folder with --from."
        )
    elif subject.origin not in (side, OWN, DRAWN):
        raise BadInput(f"--side {side} takes its weights from {subject.origin}; set weights = {side!r}, or own.")
    # The process works in a folder of its own.
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with scratch.folder(WORK, folder.parent) as work:
        _dumped(Workplace(subject, root, work, threads, tell), side, first)
        (work / side / CLIMB).replace(folder)


def _dumped(place: Workplace, side: str, first: Dump | None) -> None:
    subject, work = place.subject, place.work
    inputs, examples = work / "inputs.npz", work / subject_dump.EXAMPLES
    drawn = subject_examples.draw(subject, place.root) if first is None else _examples(first)
    subject_examples.write(inputs, drawn)
    draws = subject.origin == DRAWN and first is None
    job = place.job(side, inputs, describe=True, draw=draws)
    WorkerPool(1).run([place.task(job, work / DESCRIPTION / side)])
    mine = Dump(work / DESCRIPTION / side)
    inventories = (first or mine).inventory, mine.inventory
    if first is None:
        names, weights = None, mine.folder / subject_dump.WEIGHTS
        drawn = subject_examples.with_targets(subject, drawn, mine.inventory.outputs[0])
    else:
        names = climbing.named(subject, place.root, inventories, [first, mine])
        path = climbing.given(subject, names, [first, mine], work)[side]
        weights = path or mine.folder / subject_dump.WEIGHTS
    subject_examples.write(examples, drawn)
    climb = SubjectClimb(
        id=CLIMB,
        weights=weights,
        examples=examples,
        names=climbing.parameter_names(names, inventories[0]) if names is not None else {},
        layer_inputs=_layer_inputs(first, names, inventories, work)
        if subject.single_step and first and names
        else None,
        writes_layer_inputs=subject.single_step and first is None,
    )
    WorkerPool(1).run([place.task(place.job(side, examples, climbs=(climb,)), work / side)])
    folder = work / side / CLIMB
    shutil.copyfile(weights, folder / subject_dump.WEIGHTS)
    shutil.copyfile(examples, folder / subject_dump.EXAMPLES)
    if names is not None:
        names.save(folder / NAMES)


def _layer_inputs(first: Dump, names: NameMap, inventories: tuple[Inventory, Inventory], work: Path) -> Path:
    """A copy of the reference's inputs of every layer, by this side's names."""
    copy = work / subject_dump.LAYER_INPUTS
    shutil.copytree(first.folder / subject_dump.LAYER_INPUTS, copy)
    pairs = {pair.reference: pair.candidate for pair in names.pairs}
    layer_inputs.hand_over(copy, pairs, inventories)
    return copy


def _examples(first: Dump) -> dict[str, Array]:
    return subject_examples.read(first.folder / subject_dump.EXAMPLES)


def judge(
    subject: Subject | None,
    root: Path,
    reference: Path,
    candidate: Path,
    accepted: Accepted | None = None,
    names_file: Path | None = None,
) -> SubjectParity:
    """Compare two folders of ``dump``. No side can be run here: only what values show by themselves is explained.

    Args:
        subject: the pair; None: as the reference's folder has kept it.
        root: folder that its files are relative to.
        reference: folder of the side that differences are relative to.
        candidate: folder of the other one.
        accepted: says why a difference is accepted.
        names_file: map of names in place of the one that the candidate was dumped with.

    Raises:
        BadInput: a folder is no dump, or not of this pair.
    """
    dumps = Dump(reference), Dump(candidate)
    infos = [dump.info for dump in dumps]
    pair = subject or _kept_subject(dumps[0])
    for info, place in zip(infos, (reference, candidate), strict=True):
        _check(info, pair, place)
    if infos[0].side == infos[1].side:
        raise BadInput(f"{reference} and {candidate} are both of side {infos[0].side}; give one of each.")
    if infos[0].side != pair.reference:
        return judge(pair, root, candidate, reference, accepted, names_file)
    if infos[0].examples != infos[1].examples:
        raise BadInput(f"{candidate} was climbed with other examples than {reference}; dump it again with --from.")
    inventories = dumps[0].inventory, dumps[1].inventory
    kept = candidate / NAMES
    if names_file is not None:
        names = map_file.read(names_file, *inventories)
    elif kept.is_file():
        names = NameMap.model_validate_json(kept.read_text(encoding="utf-8"))
    else:
        names = climbing.named(pair, root, inventories, dumps)
    rungs = judging.judge(pair, *dumps, names, accepted)
    seen = recognising.recognise(pair, names, inventories, rungs, dumps)
    return outcome.document(pair, dumps, names, inventories, rungs, seen, 0)


def _kept_subject(dump: Dump) -> Subject:
    return Subject.model_validate_json((dump.folder / subject_dump.SUBJECT).read_text(encoding="utf-8"))


def _check(info: DumpInfo, subject: Subject, place: Path | None) -> None:
    if info.format != subject_dump.FORMAT:
        raise BadInput(f"{place} was written by another version of this program; dump that side again.")
    if info.side not in subject.sides:
        raise BadInput(f"{place} is of side {info.side}, which this pair does not have; dump its own sides.")
    if info.subject != subject.digest:
        raise BadInput(
            f"{place} is of another pair, or of one with other inputs, training, weights, precision or seed; "
            "dump both sides with the same file."
        )

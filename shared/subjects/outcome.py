"""What came of a climb of a user's own pair, as a document."""

from __future__ import annotations

import datetime
import math

from transfer_parity.shared.contract.inventory import Inventory
from transfer_parity.shared.contract.subject import Subject
from transfer_parity.shared.runtime.subject_dump import Dump
from transfer_parity.shared.subjects.document import Cause, MappedLayer, Side, SubjectParity, SubjectRung
from transfer_parity.shared.subjects.name_map import NameMap


def parameters(inventory: Inventory) -> int:
    """How many values the parameters and statistics of a model have."""
    return sum(math.prod(shape) for layer in inventory.layers for shape in layer.parameters.values())


def document(
    subject: Subject,
    dumps: tuple[Dump, Dump],
    names: NameMap,
    inventories: tuple[Inventory, Inventory],
    rungs: list[SubjectRung],
    found: list[Cause],
    tried: int,
) -> SubjectParity:
    """What came of a climb."""
    sides = []
    for dump, inventory in zip(dumps, inventories, strict=True):
        info = dump.info
        sides.append(
            Side(
                name=info.side,
                framework=info.framework,
                backend=info.backend,
                versions=info.versions,
                factory=info.factory,
                layers=len(inventory.with_parameters),
                parameters=parameters(inventory),
            )
        )
    sources = [{layer.name: layer.source for layer in inventory.layers} for inventory in inventories]
    return SubjectParity(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        name=subject.name,
        reference=sides[0],
        candidate=sides[1],
        weights=subject.origin,
        precision=subject.precision,
        seed=subject.seed,
        single_step=subject.single_step,
        map=[
            MappedLayer(
                reference=pair.reference,
                candidate=pair.candidate,
                kind=pair.kind,
                certainty=pair.certainty,
                reference_source=sources[0].get(pair.reference),
                candidate_source=sources[1].get(pair.candidate),
            )
            for pair in names.pairs
        ],
        left_over_reference=list(names.left_over_reference),
        left_over_candidate=list(names.left_over_candidate),
        rungs=rungs,
        causes=found,
        tried=tried,
        passed=all(rung.passed for rung in rungs),
    )

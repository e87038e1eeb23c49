"""One layer that does what several of the other side's do: queries, keys and values in one matrix, or attention as a
layer of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from transfer_parity.shared.contract.inventory import LayerRecord
from transfer_parity.shared.subjects import likeness
from transfer_parity.shared.subjects.document import Certainty
from transfer_parity.shared.subjects.name_map import MappedPair, Packed, Whose

#: What goes into attention, in the usual order, and how layers of them are called.
INTO = ("query", "key", "value")
_LETTERS = {"q": 0, "k": 1, "v": 2, "query": 0, "key": 1, "value": 2, "queries": 0, "keys": 1, "values": 2}
#: Parts of a packed layer, the likeliest number first.
COUNTS = (3, 2, 4)


def propose(
    mine: Sequence[LayerRecord], theirs: Sequence[LayerRecord], taken: tuple[set[str], set[str]]
) -> tuple[list[MappedPair], list[Packed]]:
    """Pairs of one layer with several, among layers that have no counterpart of their own.

    Args:
        mine: the reference's layers with parameters.
        theirs: the candidate's.
        taken: names of those that have counterparts, of both.
    """
    used = set(taken[0]), set(taken[1])
    pairs: list[MappedPair] = []
    packed: list[Packed] = []
    for side, (ones, others) in enumerate(((mine, theirs), (theirs, mine))):
        whose: Whose = "reference" if side == 0 else "candidate"
        for layer in ones:
            if layer.name in used[side]:
                continue
            found = _attention(layer, others, used[1 - side], whose) or _dense(layer, others, used[1 - side], whose)
            if found is not None:
                pairs += found[0]
                packed += found[1]
                used[side].add(layer.name)
                for pair in found[0]:
                    used[1 - side].add(pair.candidate if side == 0 else pair.reference)
    return pairs, packed


_Both = tuple[list[MappedPair], list[Packed]]


def _runs(layers: Sequence[LayerRecord], used: set[str], length: int) -> Iterator[list[LayerRecord]]:
    """Dense layers that follow each other and have no counterpart."""
    for start in range(len(layers) - length + 1):
        run = list(layers[start : start + length])
        if all(layer.kind == "dense" and layer.name not in used for layer in run):
            yield run


def _dense(layer: LayerRecord, others: Sequence[LayerRecord], used: set[str], whose: Whose) -> _Both | None:
    """One matrix that is several ones, one behind the other."""
    if layer.kind != "dense":
        return None
    rows, columns = layer.parameters["weight"]
    for count in COUNTS:
        for run in _runs(others, used, count):
            shapes = [each.parameters["weight"] for each in run]
            if any(shape[1] != columns for shape in shapes) or sum(shape[0] for shape in shapes) != rows:
                continue
            run, told = _ordered(run)
            both = [role for role in layer.parameters if all(role in each.parameters for each in run)]
            packed = [
                Packed(
                    side=whose,
                    whole=f"{layer.name}.{role}",
                    parts=[f"{each.name}.{role}" for each in run],
                    rows=[each.parameters[role][0] for each in run],
                )
                for role in both
            ]
            certainty: Certainty = "likely" if told else "ambiguous"
            return [_pair(layer, each, whose, certainty, {}, False) for each in run], packed
    return None


def _attention(layer: LayerRecord, others: Sequence[LayerRecord], used: set[str], whose: Whose) -> _Both | None:
    """Attention as one layer, and as four dense ones, or as two of which the first is packed."""
    if layer.kind != "attention" or any(f"{part}_weight" not in layer.parameters for part in (*INTO, "output")):
        return None
    into = [layer.parameters[f"{part}_weight"] for part in INTO]
    out = layer.parameters["output_weight"]
    for run in _runs(others, used, 4):
        parts, told = _ordered(run[:3])
        if [each.parameters["weight"] for each in parts] == into and run[3].parameters["weight"] == out:
            several = [
                _pair(
                    layer, each, whose, "likely" if told else "ambiguous", _renamed(layer, each, part), part == "output"
                )
                for part, each in zip((*INTO, "output"), (*parts, run[3]), strict=True)
            ]
            return several, []
    for first, last in _runs(others, used, 2):
        rows = sum(shape[0] for shape in into)
        if first.parameters["weight"] != (rows, into[0][1]) or last.parameters["weight"] != out:
            continue
        packed = [
            Packed(
                side="candidate" if whose == "reference" else "reference",
                whole=f"{first.name}.{role}",
                parts=[f"{layer.name}.{part}_{role}" for part in INTO],
                rows=[layer.parameters[f"{part}_{role}"][0] for part in INTO],
            )
            for role in first.parameters
            if all(f"{part}_{role}" in layer.parameters for part in INTO)
        ]
        pairs = [
            _pair(layer, first, whose, "likely", {}, False),
            _pair(layer, last, whose, "likely", _renamed(layer, last, "output"), True),
        ]
        return pairs, packed
    return None


def _renamed(layer: LayerRecord, dense: LayerRecord, part: str) -> dict[str, str]:
    return {f"{part}_{role}": role for role in dense.parameters if f"{part}_{role}" in layer.parameters}


def _pair(
    one: LayerRecord, other: LayerRecord, whose: Whose, certainty: Certainty, roles: dict[str, str], outputs: bool
) -> MappedPair:
    first, second = (one, other) if whose == "reference" else (other, one)
    if whose == "candidate":
        roles = {theirs: mine for mine, theirs in roles.items()}
    return MappedPair(
        reference=first.name,
        candidate=second.name,
        kind=first.kind,
        certainty=certainty,
        reason="one layer that does what several of the other side's do",
        roles=roles,
        outputs=outputs,
    )


def _ordered(run: Sequence[LayerRecord]) -> tuple[list[LayerRecord], bool]:
    """Queries, keys, values as their names say, and whether they say it; else as they run."""
    places = [
        next((_LETTERS[word] for word in reversed(likeness.words(each.name)) if word in _LETTERS), None) for each in run
    ]
    known = [place for place in places if place is not None]
    if len(set(known)) != len(run):
        return list(run), False
    return [layer for _, layer in sorted(zip(known, run, strict=True), key=lambda both: both[0])], True

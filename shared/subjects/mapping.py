"""Proposes which layers of two models are each other's counterparts: by values, order, kind, shapes and names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transfer_parity.shared.contract.inventory import Inventory, Kind, LayerRecord
from transfer_parity.shared.contract.rungs import Array
from transfer_parity.shared.subjects import likeness, name_map, packing
from transfer_parity.shared.subjects.document import Certainty
from transfer_parity.shared.subjects.likeness import Values
from transfer_parity.shared.subjects.name_map import MappedPair, NameMap

#: What two layers that may be counterparts are worth in an alignment; then what equal weights, alike names, equal
#: shapes of outputs, and layers of one kind and shape in front of both add.
MATCH, VALUES, NAMES, OUTPUT, BEFORE = 10.0, 100.0, 1.5, 0.5, 3.0
#: What no parameters tell apart, and what is compared all the same.
ENTRIES: frozenset[Kind] = frozenset({"activation", "pooling", "merge", "other"})

Places = tuple[int, int]


@dataclass
class _Found:
    """A pair, before anything is said about it.

    Attributes:
        places: in both sequences.
        equal: whether their weights are equal, and no others are.
        again: whether it was found among what the first alignment left over.
        several: whether others would have done there.
        moved: whether names, and not the order, say so.
        alternatives: the candidate's layers that it was first taken for.
    """

    places: Places
    equal: bool = False
    again: bool = False
    several: bool = False
    moved: bool = False
    alternatives: list[str] = field(default_factory=list)


def propose(
    reference: Inventory, candidate: Inventory, values: tuple[Mapping[str, Array], Mapping[str, Array]]
) -> NameMap:
    """A map of names.

    Layers with equal weights belong together, in whatever order they run. All others are aligned in the order in which
    they run, so that a layer that only one side has shifts nothing; then what is left over is aligned again, so that
    branches that run in another order are found. Where a kind and shape is there but once on both sides the pair is
    certain, too; all else is likely, or ambiguous where something else would do as well.

    Args:
        reference: one side's layers.
        candidate: the other's.
        values: weights of both sides, by parameter name; they need not be equal.
    """
    mine, theirs = _main(reference), _main(candidate)
    found = _Alignment(mine, theirs, Values(*values)).run()
    pairs = [_pair(each, mine, theirs, found) for each in found]
    taken = {pair.reference for pair in pairs}, {pair.candidate for pair in pairs}
    more, packed = packing.propose(mine, theirs, taken)
    order = {layer.name: place for place, layer in enumerate(mine)}
    pairs = sorted([*pairs, *more], key=lambda pair: order[pair.reference])
    return name_map.complete(pairs, entries(reference, candidate, pairs), packed, reference, candidate)


def _main(inventory: Inventory) -> list[LayerRecord]:
    return [layer for layer in inventory.layers if is_main(layer)]


def is_main(layer: LayerRecord) -> bool:
    """Whether a layer is mapped as one with parameters; normalisations are, whether they have any or not."""
    return bool(layer.parameters) or layer.kind.endswith("_norm")


class _Alignment:
    """Two sequences of layers with parameters."""

    def __init__(self, mine: Sequence[LayerRecord], theirs: Sequence[LayerRecord], values: Values) -> None:
        self.mine, self.theirs, self.values = mine, theirs, values
        signatures = [[likeness.signature(layer) for layer in side] for side in (mine, theirs)]
        places: dict[Any, list[int]] = {}
        for j, signature in enumerate(signatures[1]):
            places.setdefault(signature, []).append(j)
        self.possible = {
            (i, j): values.equal(mine[i], theirs[j])
            for i, signature in enumerate(signatures[0])
            for j in places.get(signature, ())
            if likeness.can_be(mine[i], theirs[j])
        }
        self.signatures, self.others = signatures

    def run(self) -> list[_Found]:
        """Pairs in the reference's order."""
        equal = [places for places, says in self.possible.items() if says]
        rows, columns = Counter(i for i, _ in equal), Counter(j for _, j in equal)
        found = {i: _Found((i, j), equal=True) for i, j in equal if rows[i] == columns[j] == 1}
        self._in_order(found)
        self._by_names(found)
        return [found[i] for i in sorted(found)]

    def _in_order(self, found: dict[int, _Found]) -> None:
        """Align, and align again what is left over, as long as there is any."""
        again = False
        while True:
            taken = {each.places[1] for each in found.values()}
            free = {
                (i, j): MATCH + VALUES * says + self._more(i, j)
                for (i, j), says in self.possible.items()
                if i not in found and j not in taken
            }
            if not free:
                return
            rows, columns = Counter(i for i, _ in free), Counter(j for _, j in free)
            # What is left over after the first alignment lies across what was aligned.
            known = {} if again else {each.places: MATCH for each in found.values()}
            for i, j in likeness.align(len(self.mine), len(self.theirs), free | known):
                if i not in found:
                    several = again and (rows[i] > 1 or columns[j] > 1)
                    found[i] = _Found((i, j), again=again, several=several)
            again = True

    def _more(self, i: int, j: int) -> float:
        one, other = self.mine[i], self.theirs[j]
        before = i > 0 and j > 0 and self.signatures[i - 1] == self.others[j - 1]
        return (
            NAMES * likeness.of_names(one.name, other.name)
            + OUTPUT * (one.output_shape == other.output_shape)
            + BEFORE * before
        )

    def _by_names(self, found: dict[int, _Found]) -> None:
        """Where names contradict the order among layers that shapes do not tell apart, names win, with a warning."""
        groups: dict[Any, list[int]] = {}
        for i, each in found.items():
            if not each.equal:
                groups.setdefault(self.signatures[i], []).append(i)
        for rows in groups.values():
            columns = [found[i].places[1] for i in rows]
            wanted = _named([self.mine[i].name for i in rows], [self.theirs[j].name for j in columns])
            for i, place in zip(rows, wanted, strict=True):
                j = columns[place]
                if j != found[i].places[1]:
                    before = self.theirs[found[i].places[1]].name
                    found[i] = _Found((i, j), again=found[i].again, moved=True, alternatives=[before])


def _named(mine: Sequence[str], theirs: Sequence[str]) -> list[int]:
    """Which of the other names belongs to each: as they stand, unless names say without doubt otherwise.

    They do if all names of a side differ in their words, or in words and numbers, and each is another's on both sides.
    """
    one, other = _distinct(mine), _distinct(theirs)
    numbers = [[likeness.numbers(name) for name in side] for side in (mine, theirs)]
    for first, second in ((one, other), (_zipped(one, numbers[0]), _zipped(other, numbers[1]))):
        if len(set(first)) == len(first) and set(first) == set(second):
            return [second.index(each) for each in first]
    return list(range(len(mine)))


def _zipped(one: Sequence[Any], other: Sequence[Any]) -> list[Any]:
    return list(zip(one, other, strict=True))


def _distinct(names: Sequence[str]) -> list[tuple[str, ...]]:
    """The words of each name that not all of them have."""
    several = [likeness.telling(name) for name in names]
    common = set.intersection(*map(set, several))
    return [tuple(word for word in each if word not in common) for each in several]


def _pair(each: _Found, mine: Sequence[LayerRecord], theirs: Sequence[LayerRecord], found: list[_Found]) -> MappedPair:
    i, j = each.places
    one, other = mine[i], theirs[j]
    certainty, reason = _certainty(each, mine, theirs, found)
    alternatives = list(each.alternatives)
    if certainty == "ambiguous":
        signature, taken = likeness.signature(one), {pair.places[1] for pair in found}
        alternatives += [
            layer.name
            for place, layer in enumerate(theirs)
            if place != j
            and likeness.signature(layer) == signature
            and layer.name not in alternatives
            and (place not in taken or each.several)
        ]
    return MappedPair(
        reference=one.name,
        candidate=other.name,
        kind=one.kind,
        certainty=certainty,
        reason=reason,
        roles=name_map.roles_of(one, other) or {},
        alternatives=alternatives[:5],
    )


def _certainty(
    each: _Found, mine: Sequence[LayerRecord], theirs: Sequence[LayerRecord], found: list[_Found]
) -> tuple[Certainty, str]:
    i = each.places[0]
    if each.moved:
        return "ambiguous", "names say so, and the order in which layers run says otherwise"
    signature = likeness.signature(mine[i])
    same = [
        [place for place, layer in enumerate(side) if likeness.signature(layer) == signature] for side in (mine, theirs)
    ]
    if each.equal:
        return "certain", "equal weights on both sides"
    if len(same[0]) == len(same[1]) == 1:
        return "certain", "the only one of its kind and shape on either side"
    if each.several:
        return "ambiguous", "runs at another time, and others have the same kind and shape"
    if each.again:
        return "likely", "runs at another time, and no other that is left has its kind and shape"
    rows, columns = {pair.places[0] for pair in found}, {pair.places[1] for pair in found}
    left = any(place not in rows for place in same[0]) or any(place not in columns for place in same[1])
    if left and not _between(each.places, found, len(mine), len(theirs)):
        return "ambiguous", "others of the same kind and shape are left over"
    return "likely", "by order, kind and shape"


def _between(places: Places, found: list[_Found], rows: int, columns: int) -> bool:
    """Whether the layers in front of and behind both are each other's counterparts."""
    i, j = places
    pairs = {each.places for each in found}
    before = (i == 0 and j == 0) or (i - 1, j - 1) in pairs
    behind = (i == rows - 1 and j == columns - 1) or (i + 1, j + 1) in pairs
    return before and behind


def entries(reference: Inventory, candidate: Inventory, pairs: Sequence[MappedPair]) -> list[MappedPair]:
    """Counterparts of activations, poolings and sums: aligned behind each mapped layer, then what is left over.

    Args:
        reference: one side's layers.
        candidate: the other's.
        pairs: of layers with parameters.
    """
    counterpart = {pair.reference: pair.candidate for pair in pairs}
    behind = _behind(reference, set(counterpart)), _behind(candidate, set(counterpart.values()))
    found: list[MappedPair] = []
    for layer, several in behind[0].items():
        found += _aligned(several, behind[1].get(counterpart.get(layer, ""), []), "likely")
    taken = {pair.reference for pair in found} | {pair.candidate for pair in found}
    left = [[layer for several in side.values() for layer in several if layer.name not in taken] for side in behind]
    found += _aligned(left[0], left[1], "ambiguous")
    order = {layer.name: place for place, layer in enumerate(reference.layers)}
    return sorted(found, key=lambda pair: order[pair.reference])


def _behind(inventory: Inventory, mapped: set[str]) -> dict[str, list[LayerRecord]]:
    """Entries by the mapped layer that they stand behind; empty for those in front of all."""
    found: dict[str, list[LayerRecord]] = {}
    last = ""
    for layer in inventory.layers:
        if is_main(layer):
            last = layer.name if layer.name in mapped else last
        elif layer.kind in ENTRIES:
            found.setdefault(last, []).append(layer)
    return found


def _aligned(mine: Sequence[LayerRecord], theirs: Sequence[LayerRecord], certainty: Certainty) -> list[MappedPair]:
    scores = {
        (i, j): MATCH + 2 * (_does(one) == _does(other)) + NAMES * likeness.of_names(one.name, other.name)
        for i, one in enumerate(mine)
        for j, other in enumerate(theirs)
        if one.kind == other.kind and _same_size(one, other)
    }
    reason = "by order, kind and shape" if certainty == "likely" else "runs at another time"
    return [
        MappedPair(
            reference=mine[i].name, candidate=theirs[j].name, kind=mine[i].kind, certainty=certainty, reason=reason
        )
        for i, j in likeness.align(len(mine), len(theirs), scores)
    ]


def _does(layer: LayerRecord) -> object:
    return layer.config.get("function", layer.config.get("mode", layer.class_name.lower()))


def _same_size(one: LayerRecord, other: LayerRecord) -> bool:
    if one.output_shape is None or other.output_shape is None:
        return True
    return name_map.fits(one.output_shape, other.output_shape)

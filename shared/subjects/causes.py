"""Why two sides differ: known differences that could apply, each tried on the candidate's side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transfer_parity.shared.contract import code_lines
from transfer_parity.shared.contract.inventory import Amendment, Inventory, LayerRecord
from transfer_parity.shared.contract.rungs import Array
from transfer_parity.shared.contract.subject import Subject
from transfer_parity.shared.contract.wings import WINGS
from transfer_parity.shared.subjects import weight_changes
from transfer_parity.shared.subjects.document import ArrayResult, Cause, SubjectRung
from transfer_parity.shared.subjects.name_map import NameMap

#: What shapes decide, or what no layer can be told afterwards.
_GIVEN = frozenset({"kernel", "groups", "units", "filters"})
_COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
#: Inputs that ports get wrong, by what the candidate would have to do: (key, value, words).
INPUTS: tuple[tuple[str, Any, str], ...] = (
    ("reversed_channels", True, "channel order: reversed (BGR for RGB)"),
    ("affine", [1 / 255, 0.0], "scale of inputs: 255 times as large"),
    ("affine", [255.0, 0.0], "scale of inputs: 1/255 of what they should be"),
    ("affine", [2 / 255, -1.0], "inputs: from 0 to 255, and not from -1 to 1"),
    ("affine", [2.0, -1.0], "inputs: from 0 to 1, and not from -1 to 1"),
    ("affine", [0.5, 0.5], "inputs: from -1 to 1, and not from 0 to 1"),
    ("affine", [127.5, 127.5], "inputs: from -1 to 1, and not from 0 to 255"),
)
CHANNELS = "channel order"
_WORDS = {
    weight_changes.FLATTEN: "flatten order: channels and places lie in another order in the columns of {layer}",
    weight_changes.GATES: "gate order: {layer} has its gates in the order {value} of the other side's",
    weight_changes.HEADS: "heads: {layer} gets them merged in another order ({value})",
    weight_changes.TRANSPOSE: "transposed: the kernel of {layer} is the other side's transposed",
    weight_changes.BLOCKS: "order of queries, keys and values: {layer} has them in the order {value}",
}


@dataclass(frozen=True)
class Hypothesis:
    """A known difference that could explain a divergence.

    Attributes:
        name: of the difference, e.g. epsilon.
        words: what is different, for the sentence.
        amendments: what takes it back on the candidate's side.
        reference_source: file:line of the reference's layer.
        candidate_source: likewise.
        mend_reference: a line of code that would mend it on the reference's side.
        mend_candidate: likewise.
    """

    name: str
    words: str
    amendments: tuple[Amendment, ...]
    reference_source: str | None = None
    candidate_source: str | None = None
    mend_reference: str | None = None
    mend_candidate: str | None = None


@dataclass(frozen=True)
class _Differs:
    """A key of the configurations of two mapped layers."""

    key: str
    mine: LayerRecord
    theirs: LayerRecord

    @property
    def values(self) -> tuple[Any, Any]:
        return self.mine.config[self.key], self.theirs.config[self.key]

    @property
    def amendment(self) -> Amendment:
        return Amendment(what="layer", layer=self.theirs.name, key=self.key, value=self.values[0])


def hypotheses(
    subject: Subject,
    names: NameMap,
    inventories: tuple[Inventory, Inventory],
    rungs: Sequence[SubjectRung],
    weights: tuple[Mapping[str, Array], Mapping[str, Array]],
) -> list[Hypothesis]:
    """Known differences that could explain the first divergence, likeliest first.

    What both sides say of their layers comes first: of the layer that diverges, then of all that have the same
    difference, then of all at once. Then inputs, training, and orders in which weights may be read.

    Args:
        subject: the pair.
        names: the map of names.
        inventories: of both sides.
        rungs: as judged.
        weights: that both sides were given.
    """
    failed = next((rung for rung in rungs if rung.first_divergence is not None), None)
    if failed is None:
        return []
    first = failed.first_divergence
    assert first is not None
    found: list[Hypothesis] = []
    if failed.name in ("bytes", "preprocessing"):
        found += _of_inputs(subject)
    found += _of_layers(subject, names, inventories, first)
    if failed.name not in ("bytes", "preprocessing", "activations"):
        found += _of_training(subject)
    elif failed.name == "activations":
        found += _of_weights(names, inventories[1], first, weights[1])
        if failed.arrays[0] == first:
            # What goes in is equal; the model itself may read it in another order.
            found += [each for each in _of_inputs(subject) if each.name == CHANNELS]
    return found


def _of_inputs(subject: Subject) -> Iterator[Hypothesis]:
    for number, (key, value, words) in enumerate(INPUTS):
        if key == "reversed_channels" and not any(each.moves_channels for each in subject.inputs.values()):
            continue
        yield Hypothesis(
            name=CHANNELS if number == 0 else "preprocessing",
            words=f"{words} in {subject.candidate}",
            amendments=(Amendment(what="input", key=key, value=value),),
            mend_candidate=f"in preprocess of [sides.{subject.candidate}]: x = "
            + ("x[..., ::-1]" if number == 0 else f"x * {code_lines.number(value[0])} + {code_lines.number(value[1])}"),
        )


def _of_layers(
    subject: Subject, names: NameMap, inventories: tuple[Inventory, Inventory], first: ArrayResult
) -> Iterator[Hypothesis]:
    records = [{layer.name: layer for layer in side.layers} for side in inventories]
    differs = []
    for pair in (*names.pairs, *names.entries):
        mine, theirs = records[0][pair.reference], records[1][pair.candidate]
        for key in mine.config:
            if key in theirs.config and key not in _GIVEN and not _same(mine.config[key], theirs.config[key]):
                differs.append(_Differs(key, mine, theirs))
    places = {layer.name: place for place, layer in enumerate(inventories[0].layers)}
    at = _place(places, first.reference)
    if at is not None:
        # What runs behind the layer cannot have changed it; of those in front the nearest comes first.
        differs.sort(key=lambda each: (places[each.mine.name] > at, abs(at - places[each.mine.name])))
    groups: dict[tuple[str, str], list[_Differs]] = {}
    for each in differs:
        groups.setdefault((each.key, str(each.values)), []).append(each)
    for several in groups.values():
        yield _hypothesis(subject, several)
    if len(groups) > 1:
        yield _hypothesis(subject, differs)
    for several in groups.values():
        if len(several) > 1:
            yield _hypothesis(subject, several[:1])


def _place(places: Mapping[str, int], name: str | None) -> int | None:
    """Of the layer that an array belongs to."""
    if name is None:
        return None
    return places.get(name, places.get(name.rpartition(".")[0]))


def _hypothesis(subject: Subject, several: Sequence[_Differs]) -> Hypothesis:
    first = several[0]
    keys = list(dict.fromkeys(each.key for each in several))
    words = []
    for key in keys:
        mine, theirs = next(each.values for each in several if each.key == key)
        words.append(
            f"{key.replace('_', ' ')}: {code_lines.number(mine)} in {subject.reference}, "
            f"{code_lines.number(theirs)} in {subject.candidate}"
        )
    count = f" ({len(several)} layers)" if len(several) > 1 and len(keys) == 1 else ""
    mine, theirs = first.values
    wings = [side.wing.identifier for side in subject.sides.values()]
    return Hypothesis(
        name=" and ".join(key.replace("_", " ") for key in keys),
        words="; ".join(words) + count,
        amendments=tuple(each.amendment for each in several),
        reference_source=first.mine.source,
        candidate_source=first.theirs.source,
        mend_reference=code_lines.line(wings[0], first.mine.class_name, first.key, theirs),
        mend_candidate=code_lines.line(wings[1], first.theirs.class_name, first.key, mine),
    )


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) or isinstance(other, float):
        # A constant that a framework keeps in float32 is still the same.
        return one == other or (
            isinstance(one, int | float) and isinstance(other, int | float) and abs(one - other) <= 1e-6 * abs(one)
        )
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _of_training(subject: Subject) -> Iterator[Hypothesis]:
    """Constants of loss and optimizer: where the reference's own function has others than the file says."""
    training = subject.training
    tried: list[tuple[str, Sequence[float]]] = [("label_smoothing", (0.1, 0.0))]
    if training.optimizer != "sgd":
        epsilons = [wing.epsilon for wing in WINGS]
        tried += [("epsilon", (*epsilons, 1e-6, 1e-3)), ("beta2", (0.99, 0.999)), ("beta1", (0.0, 0.9))]
    else:
        tried += [("momentum", (0.0, 0.9))]
    tried.append(("weight_decay", (0.0, 1e-2, 1e-4, 5e-4, 4e-3)))
    sides = list(subject.sides.values())
    for key, values in tried:
        mine = getattr(training, key)
        whose = [side.loss if key == "label_smoothing" else side.optimizer for side in sides]
        if whose[0] is None or whose[1] is not None:
            # The file's constants are the candidate's only where it has no function of its own; without one on the
            # reference's side both have the same.
            continue
        for value in values:
            if value != mine:
                word = key.replace("_", " ")
                yield Hypothesis(
                    name=word,
                    words=f"{word}: {code_lines.number(value)} in {subject.reference}, "
                    f"{code_lines.number(mine)} in {subject.candidate}",
                    amendments=(Amendment(what="training", key=key, value=value),),
                    mend_candidate=f"[training] {key} = {code_lines.number(value)}",
                )


def _of_weights(
    names: NameMap, candidate: Inventory, first: ArrayResult, weights: Mapping[str, Array]
) -> Iterator[Hypothesis]:
    """Orders in which the candidate may read its weights: of the layer that diverges, then of those in front of it."""
    pairs = {pair.candidate: pair.reference for pair in names.pairs}
    order = [layer.name for layer in candidate.layers]
    at = order.index(first.candidate) if first.candidate in order else len(order) - 1
    near = [layer for layer in candidate.layers[: at + 1] if layer.name in pairs][::-1][:2]
    for layer in near:
        for amendment in weight_changes.possible(layer, candidate):
            if not any(f"{layer.name}.{role}" in weights for role in layer.parameters):
                continue
            yield Hypothesis(
                name=amendment.key.replace("_", " "),
                words=_WORDS[amendment.key].format(layer=layer.name, value=amendment.value),
                amendments=(amendment,),
                candidate_source=layer.source,
            )


def apply_to_weights(amendment: Amendment, arrays: Mapping[str, Array], inventory: Inventory) -> dict[str, Array]:
    """The candidate's canonical arrays with one change; see ``weight_changes``."""
    return weight_changes.apply(amendment, arrays, inventory)


def verdict(
    hypothesis: Hypothesis, before: Sequence[SubjectRung], after: Sequence[SubjectRung], subject: Subject
) -> Cause | None:
    """What a trial says: a cause, if both sides agree for longer with it.

    Args:
        hypothesis: that was tried.
        before: rungs without it.
        after: rungs with it.
        subject: the pair.
    """
    was, now = _first(before), _first(after)
    if was is None or (now is not None and now <= was):
        return None
    if all(rung.passed for rung in after):
        count = _COUNTS[len(after)] if len(after) < len(_COUNTS) else str(len(after))
        return _cause(hypothesis, "all", f"with it, all {count} rungs pass")
    if now is None or now[0] > was[0]:
        last = before[was[0]].name
        more = f", and {after[now[0]].name} is the first that fails" if now is not None else ""
        return _cause(hypothesis, "rung", f"with it, {last} pass{'es' if not last.endswith('s') else ''}{more}")
    found = after[now[0]].first_divergence
    assert found is not None
    where = found.candidate or found.reference or found.what
    return _cause(hypothesis, "part", f"with it, the first difference is only at {where}")


def _first(rungs: Sequence[SubjectRung]) -> tuple[int, int] | None:
    """Where the first divergence is: rung, and array in it."""
    for place, rung in enumerate(rungs):
        first = rung.first_divergence
        if first is not None:
            return place, rung.arrays.index(first)
    return None


def _cause(hypothesis: Hypothesis, explains: Any, result: str) -> Cause:
    return Cause(
        name=hypothesis.name,
        sentence=f"consistent with {hypothesis.words}; {result}",
        explains=explains,
        reference_source=hypothesis.reference_source,
        candidate_source=hypothesis.candidate_source,
        mend_reference=hypothesis.mend_reference,
        mend_candidate=hypothesis.mend_candidate,
    )

"""Which layers, parameters and outputs of two models are each other's counterparts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from transfer_parity.shared.contract.inventory import Inventory, Kind, LayerRecord
from transfer_parity.shared.contract.rungs import Array
from transfer_parity.shared.core.document import Document
from transfer_parity.shared.subjects.document import Certainty

Shape = tuple[int, ...]
Whose = Literal["reference", "candidate"]


class MappedPair(Document):
    """A layer and its counterpart. Where one layer does what several others do, it is in several pairs."""

    reference: str
    candidate: str
    kind: Kind
    certainty: Certainty
    reason: str = Field("", description="in words")
    roles: dict[str, str] = Field(default_factory=dict, description="the candidate's role by the reference's")
    alternatives: list[str] = Field(default_factory=list, description="of the candidate's layers, what else it may be")
    outputs: bool = Field(True, description="whether the two put out the same")


class Neutral(Document):
    """A parameter that only one side has, and the value with which it does nothing."""

    value: float
    shape: Shape


class Packed(Document):
    """A parameter that is several of the other side's, one behind the other along the first axis."""

    side: Whose = Field(description="whose the whole is")
    whole: str
    parts: list[str]
    rows: list[int] = Field(description="of each part")


class Reshaped(Document):
    """Shapes of a parameter and its counterpart that differ by axes of one value only."""

    reference: Shape
    candidate: Shape


class NameMap(Document):
    """The map of names."""

    pairs: list[MappedPair] = Field(description="of layers with parameters, in the reference's order")
    entries: list[MappedPair] = Field(
        default_factory=list, description="of activations, poolings, sums and the like, in the reference's order"
    )
    packed: list[Packed] = Field(default_factory=list)
    reshaped: dict[str, Reshaped] = Field(default_factory=dict, description="by the reference's parameter")
    neutral_reference: dict[str, Neutral] = Field(default_factory=dict, description="of parameters only it has")
    neutral_candidate: dict[str, Neutral] = Field(default_factory=dict)
    left_over_reference: list[str] = Field(default_factory=list, description="parameters without a counterpart")
    left_over_candidate: list[str] = Field(default_factory=list)

    @property
    def parameters(self) -> dict[str, str]:
        """The candidate's parameter by the reference's, but for packed ones."""
        return {
            f"{pair.reference}.{mine}": f"{pair.candidate}.{other}"
            for pair in self.pairs
            for mine, other in pair.roles.items()
        }

    @property
    def outputs(self) -> dict[str, str]:
        """The candidate's layer or entry by the reference's whose output it is to be compared with."""
        return {each.reference: each.candidate for each in (*self.pairs, *self.entries) if each.outputs}

    def reference_parameter(self, name: str) -> tuple[str, ...] | None:
        """The candidate's counterpart of a parameter of the reference.

        Several where the reference's is packed; one whose only part it is where the candidate's is packed. None if it
        has none.
        """
        parameters = self.parameters
        if name in parameters:
            return (parameters[name],)
        for packed in self.packed:
            if packed.side == "reference" and packed.whole == name:
                return tuple(packed.parts)
            if packed.side == "candidate" and name in packed.parts:
                return (packed.whole,)
        return None

    def candidate_output(self, name: str) -> str | None:
        """The candidate's layer or entry whose output is the counterpart of one of the reference's."""
        return self.outputs.get(name)

    def to_candidate(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """The reference's canonical arrays by the candidate's names, in its shapes.

        What only the candidate has is among them where it does nothing with a value that is known.
        """
        found = {}
        parameters = self.parameters
        for name, array in arrays.items():
            if name in parameters:
                shape = self.reshaped[name].candidate if name in self.reshaped else array.shape
                found[parameters[name]] = array.reshape(shape)
        return found | self._repacked(arrays, "reference") | _filled(self.neutral_candidate, arrays)

    def to_reference(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """The candidate's canonical arrays by the reference's names; see ``to_candidate``."""
        found = {}
        backwards = {other: mine for mine, other in self.parameters.items()}
        for name, array in arrays.items():
            if name in backwards:
                mine = backwards[name]
                shape = self.reshaped[mine].reference if mine in self.reshaped else array.shape
                found[mine] = array.reshape(shape)
        return found | self._repacked(arrays, "candidate") | _filled(self.neutral_reference, arrays)

    def _repacked(self, arrays: Mapping[str, Array], given: Whose) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for packed in self.packed:
            if packed.side == given and packed.whole in arrays:
                places = np.cumsum(packed.rows)[:-1].tolist()
                found |= dict(zip(packed.parts, np.split(arrays[packed.whole], places), strict=True))
            elif packed.side != given and all(part in arrays for part in packed.parts):
                found[packed.whole] = np.concatenate([arrays[part] for part in packed.parts])
        return found


def _filled(neutral: Mapping[str, Neutral], arrays: Mapping[str, Array]) -> dict[str, Array]:
    kind = next((array.dtype for array in arrays.values() if array.dtype.kind == "f"), np.dtype(np.float64))
    return {name: np.full(each.shape, each.value, kind) for name, each in neutral.items()}


def fits(mine: Shape, other: Shape) -> bool:
    """Whether a parameter can be the counterpart of another: their shapes differ by axes of one value at most."""
    return _squeezed(mine) == _squeezed(other) and math.prod(mine) == math.prod(other)


def roles_of(mine: LayerRecord, other: LayerRecord) -> dict[str, str] | None:
    """Roles of two layers that are counterparts, the other's by the first's; None if a shape fits no rule.

    A normalisation without parameters is the counterpart of one with them, which do nothing at first.
    """
    if mine.kind == other.kind and mine.kind.endswith("_norm") and not (mine.parameters and other.parameters):
        return {}
    found = {}
    for role, shape in mine.parameters.items():
        if role in other.parameters:
            if not fits(shape, other.parameters[role]):
                return None
            found[role] = role
    return found or None


def complete(
    pairs: Sequence[MappedPair],
    entries: Sequence[MappedPair],
    packed: Sequence[Packed],
    reference: Inventory,
    candidate: Inventory,
) -> NameMap:
    """A map of these pairs: what has another shape, what does nothing, and what is left over, is found out."""
    hidden = [{layer.name for layer in side.layers if layer.hidden} for side in (reference, candidate)]
    pairs = [
        pair.model_copy(update={"outputs": False})
        if pair.reference in hidden[0] or pair.candidate in hidden[1]
        else pair
        for pair in pairs
    ]
    shapes = [
        {f"{layer.name}.{role}": shape for layer in side.with_parameters for role, shape in layer.parameters.items()}
        for side in (reference, candidate)
    ]
    mapped: tuple[set[str], set[str]] = (set(), set())
    reshaped = {}
    for pair in pairs:
        for mine, other in pair.roles.items():
            one, two = f"{pair.reference}.{mine}", f"{pair.candidate}.{other}"
            mapped[0].add(one)
            mapped[1].add(two)
            if shapes[0][one] != shapes[1][two]:
                reshaped[one] = Reshaped(reference=shapes[0][one], candidate=shapes[1][two])
    for each in packed:
        wholes, parts = mapped if each.side == "reference" else mapped[::-1]
        wholes.add(each.whole)
        parts.update(each.parts)
    packs = {name.rpartition(".")[0] for each in packed for name in (each.whole, *each.parts)}
    layers: tuple[set[str], set[str]] = (
        {pair.reference for pair in pairs} | packs,
        {pair.candidate for pair in pairs} | packs,
    )
    left = [[name for name in shapes[side] if name not in mapped[side]] for side in range(2)]
    kinds = [{layer.name: layer.kind for layer in side.layers} for side in (reference, candidate)]
    neutral: list[dict[str, Neutral]] = [{}, {}]
    for side in range(2):
        for name in left[side]:
            layer, _, role = name.rpartition(".")
            value = _neutral(kinds[side][layer], role)
            if layer in layers[side] and value is not None:
                neutral[side][name] = Neutral(value=value, shape=shapes[side][name])
    return NameMap(
        pairs=list(pairs),
        entries=list(entries),
        packed=list(packed),
        reshaped=reshaped,
        neutral_reference=neutral[0],
        neutral_candidate=neutral[1],
        left_over_reference=left[0],
        left_over_candidate=left[1],
    )


def _neutral(kind: Kind, role: str) -> float | None:
    """With what value a parameter does nothing; None if there is no such value."""
    if kind == "custom":
        return None
    if role == "bias" or role.endswith("_bias"):
        return 0.0
    return 1.0 if role == "weight" and kind.endswith("_norm") else None


def _squeezed(shape: Shape) -> Shape:
    return tuple(size for size in shape if size != 1)

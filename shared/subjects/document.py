"""What ``parity.json`` of a pair of one's own holds."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import Field

from transfer_parity.shared.contract.rungs import Label, Rung
from transfer_parity.shared.core.document import Document

#: How sure the map is of a pair of layers.
Certainty = Literal["certain", "likely", "ambiguous", "given"]


class Place(Document):
    """Where in an array two sides differ most, and how their differences are spread."""

    index: list[int] = Field(description="of the largest difference, canonical")
    reference: float | None = Field(description="value there; null if it is not finite")
    candidate: float | None
    edges: list[float] = Field(description="powers of ten between the bars of the histogram")
    counts: list[int] = Field(description="differences below the first edge, between edges, above the last")
    channels: list[float | None] = Field(description="largest difference by channel (last axis), at most 256 of them")
    places: list[list[float | None]] = Field(
        description="largest difference by place (rows and columns, or examples and places), at most 64 by 64"
    )


class ArrayResult(Document):
    """One array of a rung, of both sides."""

    label: Label | None = Field(None, exclude=True)
    what: str = Field(description="in words")
    reference: str | None = Field(description="own name of the layer or parameter; null if the side has none")
    candidate: str | None
    max_abs_difference: float | None = Field(description="null if only one side has the array, or shapes differ")
    max_rel_difference: float | None = Field(description="relative to the largest value of the layer's arrays")
    tolerance: float = Field(description="absolute")
    passed: bool
    accepted: str | None = Field(None, description="why it is accepted although it did not pass (a baseline)")
    shapes: list[list[int]] = Field(default_factory=list, description="of both, where they differ")
    place: Place | None = Field(None, description="of the first divergence of a rung, and its neighbours")


class SubjectRung(Document):
    """One rung."""

    name: Rung
    arrays: list[ArrayResult]
    passed: bool
    informative: bool = Field(True, description="whether every tolerance is smaller than the array itself")

    @property
    def first_divergence(self) -> ArrayResult | None:
        """The first array, in the order of the computation, that differs by more than is allowed and accepted."""
        return next((each for each in self.arrays if not each.passed and each.accepted is None), None)


class Side(Document):
    """One side, as it ran."""

    name: str
    framework: str
    backend: str | None = None
    versions: dict[str, str]
    factory: str
    layers: int
    parameters: int


class MappedLayer(Document):
    """One line of the map."""

    reference: str
    candidate: str
    kind: str
    certainty: Certainty
    reference_source: str | None = None
    candidate_source: str | None = None


class Cause(Document):
    """What explains a divergence."""

    name: str = Field(description="of the known difference, e.g. epsilon")
    sentence: str = Field(
        description="e.g. 'consistent with epsilon: 1e-3 in keras, 1e-5 in torch; with it, all nine rungs pass'"
    )
    explains: Literal["all", "rung", "part"] = Field(
        description="all: every rung passes with it; rung: the rung that failed does; part: it comes further"
    )
    reference_source: str | None = Field(description="file:line of the layer")
    candidate_source: str | None
    mend_reference: str | None = Field(description="a line of code that would mend it on this side")
    mend_candidate: str | None


class SubjectParity(Document):
    """The document."""

    schema_version: int = 1
    kind: Literal["own pair"] = "own pair"
    created: str
    name: str
    reference: Side
    candidate: Side
    weights: str
    precision: str
    seed: int
    single_step: bool
    map: list[MappedLayer]
    left_over_reference: list[str] = Field(description="parameters that the map has no counterpart for")
    left_over_candidate: list[str]
    rungs: list[SubjectRung]
    causes: list[Cause] = Field(description="best first; empty where all rungs passed")
    tried: int = Field(0, description="known differences that were tried after a failure")
    refused: str | None = Field(None, description="why nothing could be climbed, e.g. a layer that stays random")
    passed: bool

    @property
    def first_failure(self) -> SubjectRung | None:
        """The lowest rung with a divergence that is not accepted."""
        return next((rung for rung in self.rungs if rung.first_divergence is not None), None)


def schema() -> str:
    """The JSON schema of the document, as kept in ``docs/own-pair.schema.json``."""
    return json.dumps(SubjectParity.model_json_schema(mode="serialization"), indent=1, ensure_ascii=False) + "\n"

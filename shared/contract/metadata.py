"""What a checkpoint says about itself."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from transfer_parity.shared.zoo.pair import Semantics


class Metadata(BaseModel):
    """What a checkpoint says about itself, in the header of its file.

    Attributes:
        backbone: name of the pair.
        semantics: under whose meaning of padding, stride, epsilon and preprocessing the weights were trained.
        batch_norm_epsilon: if it differs from the library's own for this architecture.
        source: where the weights come from, for people.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: str
    semantics: Semantics
    batch_norm_epsilon: float | None = None
    source: str = ""

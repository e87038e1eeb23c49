"""What the parent asks of a framework's process about a model of the user's own."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from transfer_parity.shared.contract.inventory import Amendment
from transfer_parity.shared.contract.subject import Subject


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SubjectClimb(_Part):
    """One climb of one side.

    Attributes:
        id: name of its folder below the job's.
        amendments: what is changed about the model, its training or its prepared inputs first. Those of weights have
            been applied to the file already.
        weights: canonical arrays by the side's own names, safetensors; None: as the model is.
        examples: inputs and targets, .npz; see ``shared/runtime/subject_examples.py``.
        measures_rounding: whether to repeat everything with moved weights.
        layer_inputs: folder with the reference's inputs of every layer, by this side's names, for a single step each.
        names: the reference's name by this side's of every parameter; what is drawn for one is drawn by it.
        writes_layer_inputs: whether to write this side's inputs of every layer, for the other one's single steps.
    """

    id: str
    amendments: tuple[Amendment, ...] = ()
    weights: Path | None = None
    examples: Path
    measures_rounding: bool = True
    layer_inputs: Path | None = None
    names: dict[str, str] = {}
    writes_layer_inputs: bool = False


class SubjectJob(_Part):
    """What one process does: describe a side, then climb.

    Attributes:
        subject: the pair.
        side: which of its two.
        root: folder that files of the subject are relative to.
        threads: of the framework.
        examples: inputs and targets to describe the model with; those of the climbs have the same shapes.
        describe: whether to write the inventory, and the weights as the model has them.
        draw: whether the weights that are written are drawn ones that look trained.
        climbs: to carry out, in order, on one model.
        load: weights that the model gets before it is exported.
        export: where to write the model's checkpoint; its suffix is the framework's.
    """

    subject: Subject
    side: str
    root: Path
    threads: int
    examples: Path
    describe: bool = False
    draw: bool = False
    climbs: tuple[SubjectClimb, ...] = ()
    load: Path | None = None
    export: Path | None = None

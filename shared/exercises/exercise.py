"""What an exercise is: a fault that is planted in a learner's copy of a wing, and what is told about it."""

from __future__ import annotations

from dataclasses import dataclass

from transfer_parity.shared.contract import wings
from transfer_parity.shared.contract.climbs import ClimbSpec
from transfer_parity.shared.contract.recipe import Framework
from transfer_parity.shared.contract.rungs import Rung
from transfer_parity.shared.contract.wings import WingInfo
from transfer_parity.shared.exercises.edit import Edit
from transfer_parity.shared.zoo.pair import Semantics

#: Where every layer trains, a mending can pass that is wrong where only some do. What a copy that passes has to pass
#: then: only its last stage trains, with its normalisations and the project's own head; images are flipped, so that
#: every step goes through the frozen stages, too.
PARTIAL, PARTIAL_HEAD = "finetune", "linear"
PARTIAL_RECIPE = {"freeze_batch_norm": False, "flip": True}
#: Files of a wing that a learner gets: what computes. Everything else, the judge's instruments among it, stays the
#: project's. In the order in which they are read.
READ = (
    "backbone.py",
    "head.py",
    "network.py",
    "weights.py",
    "objectives.py",
    "optimizers.py",
    "training.py",
    "inference.py",
)


@dataclass(frozen=True)
class Exercise:
    """An exercise.

    Attributes:
        name: of it, after the symptom and not after the fault.
        grade: 1 (a line, seen where the ladder points), 2 (what the word means has to be known) or 3 (what differs
            shows somewhere else, or late).
        framework: whose wing has the fault.
        symptom: what somebody would see who has the fault and no ladder.
        rung: the lowest that fails.
        lesson: number of the one that prepares it.
        hints: from where to look to what to think about; none says what to write.
        fault: the edit that plants it; undone, the ladder passes.
        why: what is wrong and why it is right otherwise; told in the end.
        quiet: further edits that leave out what would say it aloud; they change no computation.
        backbone, semantics: of the climb.
    """

    name: str
    grade: int
    framework: Framework
    symptom: str
    rung: Rung
    lesson: int
    hints: tuple[str, str, str]
    fault: Edit
    why: str
    quiet: tuple[Edit, ...] = ()
    backbone: str = "MobileNetV3Small"
    semantics: Semantics = wings.REFERENCE.library

    @property
    def wing(self) -> WingInfo:
        """Whose copy is at fault."""
        return wings.wing(self.framework)

    @property
    def folder(self) -> str:
        """Name of the wing's folder, in the project and in the working folder."""
        return self.wing.package.rpartition(".")[2]

    @property
    def edits(self) -> tuple[Edit, ...]:
        """Everything that is planted."""
        return (self.fault, *self.quiet)

    @property
    def spec(self) -> ClimbSpec:
        """The climb that judges it: in float64, with random weights that look trained, on drawn pictures."""
        return ClimbSpec(backbone=self.backbone, semantics=self.semantics)

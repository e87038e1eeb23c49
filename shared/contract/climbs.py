"""A climb of the parity ladder: what to compare, and what one wing does for it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from transfer_parity.shared.contract import switches
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.rungs import Rung
from transfer_parity.shared.contract.wings import REFERENCE, Framework
from transfer_parity.shared.zoo.lookup import find_pair
from transfer_parity.shared.zoo.pair import Pair, Semantics


class ClimbSpec(BaseModel):
    """What to compare.

    Attributes:
        backbone: name of the pair.
        semantics: of random weights; a checkpoint brings its own.
        precision: of the arithmetic.
        seed: of everything random.
        switches: as "wing:name".
        checkpoint: neutral checkpoint, or None for random weights that look trained.
        image_size: side of the input in pixels. None: what a checkpoint is made for; for random weights one that is
            small and yet tells paddings apart.
        until: last rung.
        skip: rungs to leave out, to save time; loss and gradients go together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: str
    semantics: Semantics = REFERENCE.library
    precision: Literal["float64", "float32"] = "float64"
    seed: int = 0
    switches: tuple[str, ...] = ()
    checkpoint: Path | None = None
    image_size: int | None = None
    until: Rung = "metrics"
    skip: frozenset[Rung] = frozenset()

    @property
    def pair(self) -> Pair:
        """The architecture."""
        return find_pair(self.backbone)

    @property
    def size(self) -> int:
        """Side of the input in pixels.

        Halved again and again it is even and odd (44, 22, 11; 76, 38, 19), which tells paddings apart, and the last
        feature map has more than one place: architectures that round up at every halving have 2x2 of 44 pixels, those
        that round down need 76, and InceptionV3, which does not pad, 107. A normalisation over one place of each of
        four images would make training chaotic. ConvNeXt does with one place, since it does not normalise over them.
        """
        if self.checkpoint is not None:
            return self.image_size or self.pair.image_size
        smallest = {"VGG": 76, "DenseNet": 76, "InceptionV3": 107}.get(self.pair.family, 44)
        return self.image_size or max(smallest, self.pair.smallest_image)

    def of_wing(self, framework: Framework) -> ClimbSpec:
        """The same with the switches of one wing only. Climbs that differ in another wing are the same to this one."""
        mine = {each for each in self.switches if switches.find(each)[0] == framework}
        return self.model_copy(update={"switches": tuple(sorted(mine))})


class WingClimb(BaseModel):
    """One wing's part of a climb: the specification, and what the parent has drawn and looked up for it.

    Attributes:
        id: name of its folder below the job's.
        spec: with the switches of this wing only.
        recipe: backbone, sizes, loss, and the trajectory's optimizer and schedule.
        own_classifier: whether the architecture's own classifier stands on the backbone, not the recipe's head.
        classes: number of them.
        images: uint8 array (N, S, S, 3) as .npy.
        labels: int64 array (N,) as .npy.
        plan: of the trajectory, as .npz.
        pictures: the files that the images were read from.
        measures_rounding: whether to repeat the passes with moved weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    spec: ClimbSpec
    recipe: Recipe
    own_classifier: bool
    classes: int
    images: Path
    labels: Path
    plan: Path
    pictures: tuple[Path, ...]
    measures_rounding: bool = False

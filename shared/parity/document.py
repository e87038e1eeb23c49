"""What ``parity.json`` holds."""

from __future__ import annotations

from pydantic import Field

from transfer_parity.shared.contract.rungs import Label, Rung
from transfer_parity.shared.core.document import Document
from transfer_parity.shared.zoo.pair import Semantics


class Divergence(Document):
    """The first array of a rung, in the order of the computation, that differs by more than rounding.

    Attributes:
        label: what it is; not in the file.
        what: the same in words.
        neutral: neutral name of the layer or parameter; None if it belongs to none.
        tensorflow: its name in Keras; None if Keras has none.
        torch: its name in torchvision; None if torchvision has none.
        max_abs_difference: None if only one wing has the array, or its shapes differ.
        tolerance: absolute.
    """

    label: Label | None = Field(None, exclude=True)
    what: str
    neutral: str | None
    tensorflow: str | None
    torch: str | None
    max_abs_difference: float | None
    tolerance: float


class RungResult(Document):
    """One rung.

    Attributes:
        name: of the rung.
        arrays: how many were compared.
        max_abs_difference: of the array that comes nearest to its tolerance or exceeds it most; None if it cannot be
            compared.
        tolerance: absolute, of the same array.
        max_rel_difference: largest over all arrays, each relative to the largest value of its module; None likewise.
        passed: whether every array is within its tolerance, and the rung informative.
        first_divergence: None if every array is within its tolerance.
        informative: whether every array's tolerance is smaller than the array itself, so that something can be told.
    """

    name: Rung
    arrays: int
    max_abs_difference: float | None
    tolerance: float
    max_rel_difference: float | None
    passed: bool
    first_divergence: Divergence | None = None
    informative: bool = True


class PairResult(Document):
    """One climb.

    Attributes:
        backbone: name of the pair.
        semantics: under which the weights were meant.
        precision: of the arithmetic.
        weights: "random", or where the checkpoint came from.
        switches: what one wing was made to do differently.
        seed: of everything random.
        image_size: side of the input in pixels.
        rungs: from the lowest to the highest.
        max_loss_difference: largest absolute difference of the losses of the trajectory; None if it was not climbed.
        passed: whether all rungs passed.
        recipe: name of the recipe that was climbed; None for the pair itself, and for a recipe of defaults.
        strategy: of a recipe, as a study names it, or the name of what learns from base classes; None for the pair
            itself.
        head: of a recipe; None for the pair itself, and for what learns from base classes.
        steps: of a recipe's first training; None for the pair itself, 0 where a head is fitted in closed form.
    """

    backbone: str
    semantics: Semantics
    precision: str
    weights: str
    switches: list[str]
    seed: int
    image_size: int
    rungs: list[RungResult]
    max_loss_difference: float | None
    passed: bool
    recipe: str | None = None
    strategy: str | None = None
    head: str | None = None
    steps: int | None = None

    @property
    def first_failure(self) -> RungResult | None:
        """The lowest rung in which something differs."""
        return next((rung for rung in self.rungs if rung.first_divergence is not None), None)

    @property
    def uninformative(self) -> list[RungResult]:
        """Those that nothing can be told from, although nothing differs by more than their tolerances."""
        return [rung for rung in self.rungs if rung.first_divergence is None and not rung.informative]

    def rung(self, name: Rung) -> RungResult:
        """The rung of a name."""
        return next(rung for rung in self.rungs if rung.name == name)


class Parity(Document):
    """The document.

    Attributes:
        created: date and time of its writing, ISO 8601, UTC.
        versions: by package.
        pairs: every climb, in the order in which it was asked for.
        passed: whether all of them passed.
    """

    schema_version: int = 1
    created: str
    versions: dict[str, str]
    pairs: list[PairResult]
    passed: bool

"""Streams of unlabelled images: the views that a plan has drawn, as bytes or as what frozen stages make of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from transfer_parity.shared.contract.batches import augmented
from transfer_parity.shared.contract.plan import Plan
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.core.arrays import Rows
from transfer_parity.shared.data import views
from transfer_parity.shared.runtime.passes import Passes

_KINDS = {"weak": views.weak, "strong": views.strong}


class Views:
    """Views of a run's unlabelled images, made whenever they are asked for: the same bytes each time.

    Args:
        recipe: its strategy says which kinds of views there are.
        images: all of the data set, uint8 (N, S, S, 3).
        drawn: what the run follows.
    """

    def __init__(self, recipe: Recipe, images: Rows, drawn: Plan) -> None:
        self.recipe, self.images, self.drawn = recipe, images, drawn
        self.kinds = [kind for kind in _KINDS if kind in recipe.method.streams]

    def step(self, step: int) -> Mapping[str, Array]:
        """The views of a step by the name of their stream, uint8 (b, size, size, 3); nothing if there are none."""
        if not self.kinds:
            return {}
        return {kind: self.made(kind, *self.chosen(step)) for kind in self.kinds}

    def chosen(self, step: int) -> tuple[Array, Array]:
        """Places of a step's images among the unlabelled ones, and which view of each."""
        return self.drawn.unlabelled_order[step], self.drawn.unlabelled_views[step]

    def made(self, kind: str, places: Array, which: Array) -> Array:
        """The views of these images, uint8 (b, size, size, 3)."""
        stored = augmented(self.images[self.drawn.unlabelled[places]], self.recipe.size, None, None)
        draws = self.drawn.view_draws[list(_KINDS).index(kind), places, which]
        return np.stack([_KINDS[kind](image, each) for image, each in zip(stored, draws, strict=True)])

    def all_of(self, kind: str, size: int) -> Iterator[Array]:
        """Every view of a kind that a step asks for, in batches: image by image."""
        count = self.drawn.view_draws.shape[2]
        total = len(self.drawn.unlabelled) * count
        for start in range(0, total, size):
            numbers = np.arange(start, min(start + size, total))
            yield self.made(kind, numbers // count, numbers % count)


class FrozenViews(Views):
    """What the frozen stages put out for each view, which goes through them once.

    Args:
        passes: of the network that holds the run's weights.
        folder: in which the outputs lie as long as the run lasts.
    """

    def __init__(self, recipe: Recipe, images: Rows, drawn: Plan, passes: Passes, folder: Path) -> None:
        super().__init__(recipe, images, drawn)
        self.outputs = {kind: self._extracted(kind, passes, folder) for kind in self.kinds}

    def _extracted(self, kind: str, passes: Passes, folder: Path) -> Rows | Array:
        size, count = self.recipe.inference_batch_size, self.drawn.view_draws.shape[2]
        total, done = len(self.drawn.unlabelled) * count, 0
        engine = passes.engine("frozen", total).name
        advance = passes.events.progress(f"{kind} views", total, "features")
        rows: Rows | None = None
        for output in passes.outputs("features", "frozen", self.all_of(kind, size), engine):
            if rows is None:
                rows = Rows.create(folder / f"views-{kind}.npy", (total, *output.shape[1:]), output.dtype)
            rows[done : done + len(output)] = output
            done += len(output)
            advance(len(output))
        assert rows is not None
        return rows.in_memory_if_small()

    def step(self, step: int) -> Mapping[str, Array]:
        """Outputs for the views of a step by the name of their stream, (b, ...)."""
        places, which = self.chosen(step)
        rows = places * self.drawn.view_draws.shape[2] + which
        return {kind: outputs[rows] for kind, outputs in self.outputs.items()}

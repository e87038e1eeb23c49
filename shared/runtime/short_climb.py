"""The short ladder of a comparison: what one of its runs does in its first steps, and how far rounding moves it.

Runs inside a framework's process beside the run itself, over the same network, weights, batches and trainer. The parent
compares what both wings wrote (``shared/experiments/short_check.py``).

What rounding may do is measured as the ladder measures it: everything again with every weight moved by its rounding
(``shared/runtime/rounding.py``), and what comes out of frozen layers moved by as much as that moved it. The **shadow**
is the training of the run under such a move. How far its losses part from the run's own says how rounding grows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from transfer_parity.shared.contract import artifacts
from transfer_parity.shared.contract.batches import Batch, augmented, training_batches
from transfer_parity.shared.contract.plan import Plan
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.rungs import UNIT, Label, Rung
from transfer_parity.shared.contract.wing import Array, Part, Wing
from transfer_parity.shared.core.arrays import Rows, largest_difference
from transfer_parity.shared.core.random import generator
from transfer_parity.shared.runtime import trace_format
from transfer_parity.shared.runtime.closed_form import Fitted
from transfer_parity.shared.runtime.rounding import perturbed, relative_changes
from transfer_parity.shared.runtime.sampling import sample

#: Test images that go through the network with its first weights, and with its trained ones.
IMAGES, TRAINED_IMAGES = 4, 32
#: Units of rounding by which weights move. Two frameworks err independently, and an event that one unit just misses (a
#: rectifier that changes its mind, a gradient of zero whose sign Adam follows) is met by some.
UNITS = 8.0
#: Training steps whose parameters are compared.
STEPS = 3
#: How often loss, gradients and first steps are repeated, with weights moved in other directions each time. A loss is
#: one number, which one move may leave where it was by chance; not so several.
MOVES = 4
#: Steps of the shadow: as many as the run's own, but no more than a fifth of those of all runs, or the first number;
#: or the last one where only a head trains, which is cheap.
FEWEST, PART, OF_HEAD = 10, 5, 1000

Dump = dict[Rung, dict[Label, Array]]


class Shadow(BaseModel):
    """How far moving the weights by their rounding moved a run.

    Attributes:
        losses: by step, relative to the first loss, as far as the shadow was trained; none where no steps are.
        logits: of the first weights, on a few test images, relative to the largest.
        trained_logits: of the trained weights, on some test images, relative to the largest; None where the shadow was
            not trained to the end.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    losses: tuple[float, ...]
    logits: float
    trained_logits: float | None


@dataclass(frozen=True)
class CheckedRun:
    """A run that is finished.

    Attributes:
        seed: of the run.
        part: of the network that trains.
        trainable: neutral names of what trains.
        weights: all first weights by neutral name.
        plan: what it followed.
        inputs: of the part: images, or what the frozen stages put out, (N, ...).
        images: all of the data set, uint8 (N, S, S, 3).
        labels: of all images, (N,).
        classes: number of them.
        losses: of its steps.
        all_steps: of all runs of the process together.
        logits: of its test images, (n, classes).
        refit: fits the first head anew, to the backbone that the network holds; None where it was drawn.
        more: other streams of a step, for the part.
        solve: fits the head without steps to inputs of the part; None where a recipe has steps.
    """

    seed: int
    part: Part
    trainable: frozenset[str]
    weights: Mapping[str, Array]
    plan: Plan
    inputs: Rows | Array
    images: Rows
    labels: Array
    classes: int
    losses: list[float]
    all_steps: int
    logits: Array
    refit: Callable[[], dict[str, Array]] | None = None
    more: Callable[[int], Mapping[str, Array]] | None = None
    solve: Callable[[Rows | Array], Fitted] | None = None


class ShortClimb:
    """The check of one run in one wing. Leaves other weights in the network than it finds there."""

    def __init__(self, wing: Wing, network: Any, recipe: Recipe, run: CheckedRun) -> None:
        self.wing, self.network, self.recipe, self.run = wing, network, recipe, run

    def write(self, folder: Path) -> None:
        """Write the rungs and what rounding does to each, and last the shadow."""
        folder.mkdir(parents=True, exist_ok=True)
        run, rungs = self.run, self._forward(self.run.weights)
        moved = perturbed(run.weights, run.seed, self.recipe.precision, UNITS)
        self._load(moved)
        moved = self._refitted(moved)
        others = self._forward(moved)
        shift = 0.0
        if run.part == "trainable":
            outputs = Label("activation", "features")
            features = rungs["activations"][outputs], others["activations"][outputs]
            # Where directions are drawn for every image, errors add up as they do, and not to the largest.
            shift = _typical(*features) if self._centres else largest_difference(*features)
            if self.recipe.image_features is not None:
                # No weight moves what somebody wrote down: it moves by its own rounding to the type.
                shift = UNITS * UNIT[self.recipe.precision] * float(np.abs(features[0]).max())
        # The network holds the moved weights now.
        shadow = self._shadow(moved, shift, _relative(rungs["activations"], others["activations"]))
        changes: dict[Rung, dict[Label, float]] = {
            "activations": relative_changes(rungs["activations"], others["activations"])
        }
        if self.recipe.closed_form is None:
            steps = self._steps(run.weights, 0.0)
            repeated = [self._steps(self._moved_again(number), shift) for number in range(MOVES)]
            changes |= {
                rung: _largest([relative_changes(steps[rung], each[rung]) for each in repeated]) for rung in steps
            }
            shadow = shadow.model_copy(update={"losses": self._with_losses(shadow.losses, repeated)})
            rungs |= steps
        for rung, arrays in rungs.items():
            trace_format.write(folder, rung, arrays)
        trace_format.write_names(folder, self.wing.trace.names(self.network))
        trace_format.write_rounding(folder, changes)
        (folder / artifacts.SHADOW).write_text(json.dumps(shadow.model_dump()), encoding="utf-8")

    def _moved_again(self, number: int) -> dict[str, Array]:
        """The run's weights moved by their rounding, in directions that depend on a number."""
        moved = perturbed(self.run.weights, self.run.seed + number, self.recipe.precision, UNITS)
        if self.run.refit is not None:
            self._load_learning(moved)
        return self._refitted(moved)

    def _refitted(self, weights: dict[str, Array]) -> dict[str, Array]:
        """Weights that the network holds, with the head fitted to them where the run's own is fitted."""
        return weights if self.run.refit is None else {**weights, **self.run.refit()}

    def _with_losses(self, losses: Sequence[float], repeated: Sequence[Dump]) -> tuple[float, ...]:
        """How far losses moved: those of the shadow, and where it was repeated the largest."""
        size = abs(self.run.losses[0]) or 1.0
        found = list(losses)
        for each in repeated:
            away = np.abs(each["trajectory"][Label("losses")] - self.run.losses[:STEPS]) / size
            for step, change in enumerate(away[: len(found)]):
                found[step] = max(found[step], float(change))
        return tuple(found)

    def _load(self, weights: Mapping[str, Array]) -> None:
        self.wing.weights.load(self.network, weights)

    def _load_learning(self, weights: Mapping[str, Array]) -> None:
        """What a step may change: what trains, and running statistics."""
        statistics = {name for name in weights if name.rpartition(".")[2].startswith("running_")}
        chosen = self.run.trainable | (statistics if self.recipe.batch_norm_trains else set())
        self._load({name: array for name, array in weights.items() if name in chosen})

    def _infer(self, part: Part, inputs: Array) -> Array:
        return next(iter(self.wing.inference.infer(self.network, part, [inputs])))

    def _forward(self, weights: Mapping[str, Array]) -> Dump:
        """A few test images through the network with these weights, which stay there."""
        self._load(weights)
        arrays: dict[Label, Array] = {}
        chosen = self.run.plan.test[:IMAGES]
        inputs = augmented(self.run.images[chosen], self.recipe.size, None, None)
        if self.recipe.image_features is not None:
            inputs = arrays[Label("activation", "features")] = self.run.inputs[chosen]
        elif self.run.part == "trainable":
            inputs = arrays[Label("activation", "features")] = self._infer("frozen", inputs)
            # What the run itself was given, by another engine perhaps, or kept from an earlier run.
            arrays[Label("activation", "features as used")] = self.run.inputs[chosen]
        arrays[Label("logits")] = self._infer(self.run.part, inputs)
        return {"activations": arrays}

    def _steps(self, weights: Mapping[str, Array], shift: float) -> Dump:
        """Loss and gradients of the first batch, and the parameters after the first steps."""
        first = list(islice(self._batches(shift), STEPS))
        self._load_learning(weights)
        run, recipe = self.run, self.recipe
        setting = (run.part, run.trainable, recipe.batch_norm_trains, recipe)
        loss, gradients = self.wing.trace.gradients(self.network, *setting, first[0])
        trained: dict[Label, Array] = {Label("losses"): np.array(self._train(weights, first))}
        for name, array in self.wing.weights.dump(self.network, run.trainable).items():
            trained[Label("parameter", name, step=len(first))] = sample(array)
        return {
            "loss": {Label("loss"): np.array([loss])},
            "gradients": {Label("gradient", name): sample(array) for name, array in gradients.items()},
            "trajectory": trained,
        }

    def _train(self, weights: Mapping[str, Array], batches: list[Batch] | Iterator[Batch]) -> list[float]:
        self._load_learning(weights)
        run, recipe = self.run, self.recipe
        setting = (run.part, run.trainable, recipe.batch_norm_trains, recipe)
        return self.wing.training.train(self.network, *setting, batches, lambda: None)

    def _batches(self, shift: float) -> Iterator[Batch]:
        """The run's batches; what is not images is moved by ``shift``."""
        run = self.run
        size = self.recipe.size if run.part == "all" else None
        more = run.more or (lambda step: {})
        for batch in training_batches(run.plan, self.recipe.batch_size, run.inputs, run.labels, size, more):
            if shift:
                moved = {
                    name: self._moved(array, shift) for name, array in batch.more.items() if array.dtype.kind == "f"
                }
                batch = replace(batch, inputs=self._moved(batch.inputs, shift), more={**batch.more, **moved})
            yield batch

    @property
    def _centres(self) -> bool:
        """Whether the head is one of a strategy's own, which all subtract a mean, or compare with single images."""
        return self.recipe.method.head is not None

    def _moved(self, features: Array, shift: float) -> Array:
        """Features (n, ...) up or down by an amount, each feature in the same direction in every image.

        What is zero is what a rectifier has cut off, and stays so. So the move differs from image to image. Where
        nothing is cut off it would be the same for all, and a head that centres would not see it: for such heads
        directions are drawn for every image.
        """
        shape = features.shape if self._centres else features.shape[1:]
        up = generator(self.run.seed, "rounding", "features").random(shape) < 0.5
        moved: Array = features + np.where(up, shift, -shift).astype(features.dtype) * (features != 0)
        return moved

    def _shadow(self, moved: Mapping[str, Array], shift: float, logits: float) -> Shadow:
        run, recipe = self.run, self.recipe
        if run.solve is not None and recipe.closed_form is not None:
            if isinstance(run.inputs, Rows):
                # Too many for memory, where a moved copy would have to be.
                return Shadow(losses=(), logits=logits, trained_logits=None)
            inputs = self._moved(run.inputs[:], shift)
            self._load(run.solve(inputs).head)
            # The same move as that of the images that were fitted.
            return Shadow(losses=(), logits=logits, trained_logits=self._apart(inputs[run.plan.test[:TRAINED_IMAGES]]))
        total = len(run.losses)
        cheap = OF_HEAD if recipe.only_head_trains and run.part != "all" else FEWEST
        steps = min(total, max(cheap, run.all_steps // PART))
        losses = self._train(moved, islice(self._batches(shift), steps))
        size = abs(run.losses[0]) or 1.0
        changes = tuple(abs(a - b) / size for a, b in zip(losses, run.losses, strict=False))
        return Shadow(losses=changes, logits=logits, trained_logits=self._trained(shift) if steps == total else None)

    def _trained(self, shift: float) -> float:
        """How far the logits of some test images are from the run's own, relative to the largest."""
        run = self.run
        inputs = run.inputs[run.plan.test[:TRAINED_IMAGES]]
        if run.part == "all":
            inputs = augmented(inputs, self.recipe.size, None, None)
        elif shift:
            inputs = self._moved(inputs, shift)
        return self._apart(inputs)

    def _apart(self, inputs: Array) -> float:
        """The same, of what goes into the part for those images."""
        run, own = self.run, self.run.logits[:TRAINED_IMAGES]
        return largest_difference(self._infer(run.part, inputs), own) / (float(np.abs(own).max()) or 1.0)


def _largest(several: Sequence[Mapping[Label, float]]) -> dict[Label, float]:
    """The largest change of each label."""
    return {label: max(each[label] for each in several) for label in several[0]}


def _typical(a: Array, b: Array) -> float:
    """Root of the mean squared difference; infinite where something is not finite."""
    away = float(np.sqrt(np.square(a.astype(np.float64) - b).mean()))
    return away if math.isfinite(away) else math.inf


def _relative(arrays: Mapping[Label, Array], others: Mapping[Label, Array]) -> float:
    return relative_changes(arrays, others)[Label("logits")]


def read_shadow(folder: Path) -> Shadow:
    """The shadow as a wing wrote it."""
    return Shadow.model_validate_json((folder / artifacts.SHADOW).read_text(encoding="utf-8"))

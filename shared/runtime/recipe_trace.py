"""One wing's part of the ladder of a recipe: carries out every rung and writes down what came of it.

Runs inside a framework's process, for all wings alike. What runs is what a comparison runs (``followed_runs.py``); the
parent compares what the wings wrote (``shared/parity/recipe_judging.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from transfer_parity.shared.contract.batches import Batch, augmented, training_batches
from transfer_parity.shared.contract.jobs import RecipeClimb
from transfer_parity.shared.contract.methods import CLOSEST
from transfer_parity.shared.contract.rungs import Kind, Label, Rung
from transfer_parity.shared.contract.wing import Array, Part, Wing
from transfer_parity.shared.core.arrays import largest_difference
from transfer_parity.shared.runtime import trace_format
from transfer_parity.shared.runtime.events import Events
from transfer_parity.shared.runtime.followed_runs import Followed, FollowedRuns
from transfer_parity.shared.runtime.rounding import relative_changes
from transfer_parity.shared.runtime.sampling import drawn_gradient, fingerprints, sample
from transfer_parity.shared.runtime.unlabelled import Views
from transfer_parity.shared.zoo.pair import HEAD

#: Training images, and test images, that go through the network layer by layer; and the first batch of those that go
#: through each engine, whose second one is smaller.
PROBES, FIRST_PASS = 4, 5
#: Steps of the optimizer along given gradients, those that are written down, and how many values of each parameter.
STEPS, KEPT, VALUES = 24, frozenset({1, 2, 3, 4, 5, 8, 16, 24}), 512

Dump = dict[Label, Array]
_WHOLE, _TRAINABLE = Label("logits", way="whole"), Label("logits", way="trainable")
_FROZEN = Label("frozen_output")


class RecipeTracer:
    """A climb in one wing.

    Attributes:
        runs: the recipe's, over one network.
        weights: the first ones of the first run, by neutral name.
        probes: a few images as the network sees them, uint8 (n, S, S, 3).
        rounding: by rung, how far rounding may move the arrays of each group of labels.
    """

    def __init__(self, wing: Wing, climb: RecipeClimb, folder: Path, events: Events) -> None:
        self.wing, self.climb, self.folder, self.events = wing, climb, folder, events
        self.recipe = climb.job.recipe
        self.runs = self._followed()
        self.network = self.runs.network
        self.weights = self.runs.weights()
        self.plan = self.runs.plan()
        # Spread over the classes, and the same whatever order a wing takes by itself.
        spread = self.plan.train[:: max(1, len(self.plan.train) // PROBES)][:PROBES]
        chosen = np.concatenate([spread, self.plan.test[:PROBES]])
        self.stored = self.runs.images[chosen]
        self.probes = augmented(self.stored, self.recipe.size, None, None)
        self.rounding: dict[Rung, dict[Label, float]] = {}

    def _followed(self) -> FollowedRuns:
        return FollowedRuns(self.wing, self.climb, self.folder, self.events)

    def run(self) -> None:
        """Write every rung, and how far rounding may move each."""
        if self.climb.engines_only:
            self._load(self.weights)
            self._write("engines", self._engines())
            return
        self._trained()
        trace_format.write_names(self.folder, self.wing.trace.names(self.network))
        self._preprocessing()
        moved = self._activations()
        if self.recipe.closed_form is None:
            self._loss_and_gradients(moved)
            self._optimizer()
        trace_format.write_rounding(self.folder, self.rounding)

    def _write(self, rung: Rung, arrays: Mapping[Label, Array]) -> None:
        self.events.tell("rung", name=rung)
        trace_format.write(self.folder, rung, arrays)

    def _load(self, weights: Mapping[str, Array]) -> None:
        self.wing.weights.load(self.network, weights)

    def _infer(self, part: Part, *batches: Array, engine: str | None = None) -> Array:
        return np.concatenate(list(self.wing.inference.infer(self.network, part, batches, engine)))

    def _trained(self) -> None:
        """Both runs, one behind the other, as a comparison does them; before anything else has touched the network."""
        followed = self.runs.follow()
        self._write("bytes", self._bytes(followed))
        outcome = _outcome(followed)
        for rung, arrays in outcome.items():
            self._write(rung, arrays)
        if self.climb.measures_rounding:
            others = _outcome(self.runs.follow(moved=True))
            self.rounding |= {rung: relative_changes(arrays, others[rung]) for rung, arrays in outcome.items()}

    def _bytes(self, followed: list[Followed]) -> Dump:
        """Pixels of a few images, and what every step and every prediction was given."""
        found: Dump = {Label("images"): self.stored}
        for number, each in _numbered(followed):
            if each.sizes:
                found[Label("batch_sizes", run=number)] = np.array(each.sizes)
                found[Label("batch_labels", run=number)] = np.concatenate(each.labels)
                found[Label("batch_images", run=number)] = np.concatenate(each.images)
            if each.views:
                found[Label("views", run=number)] = np.concatenate(each.views)
            seen = augmented(self.runs.images[each.plan.test], self.recipe.size, None, None)
            found[Label("test_images", run=number)] = fingerprints(seen)
        return found

    def _preprocessing(self) -> None:
        self._load(self.weights)
        self._write("preprocessing", {Label("inputs"): self.wing.trace.preprocess(self.network, self.probes)})

    def _activations(self) -> float:
        """Layers, the cut behind the frozen stages, pooling, head. Returns how far rounding moves the logits."""
        arrays = self._forward(self.weights)
        self._write("activations", arrays)
        engines = self._engines()
        moved = 0.0
        if self.climb.measures_rounding:
            others = self._forward(self.runs.move(self.weights))
            changes = self.rounding["activations"] = relative_changes(arrays, others)
            moved = largest_difference(arrays[_WHOLE], others[_WHOLE]) if _WHOLE in arrays else 0.0
            self.rounding["engines"] = _of_engines(changes, self.recipe.precision)
            if self.recipe.precision == "float64":
                single = relative_changes(arrays, self._forward(self.runs.move(self.weights, "float32")))
                self.rounding["engines"] |= _of_engines(single, "float32")
        self._write("engines", engines)
        return moved

    def _forward(self, weights: Mapping[str, Array]) -> Dump:
        """The probes through the network with these weights, in the order of the computation."""
        self._load(weights)
        layers = self.wing.trace.activations(self.network, self.probes)
        found: Dump = {Label("activation", name): a for name, a in layers.items() if not name.startswith(HEAD)}
        middle: list[tuple[Label, Part]] = [(Label("head_input"), "features")]
        if self.runs.part == "trainable":
            # Where only the head trains, the frozen stages end behind the pooling: there the pooling is what is named.
            middle.insert(int(self.recipe.only_head_trains), (_FROZEN, "frozen"))
        for label, part in middle:
            found[label] = self._infer(part, self.probes)
        found |= {Label("activation", name): a for name, a in layers.items() if name.startswith(HEAD)}
        found[_WHOLE] = self._infer("all", self.probes)
        if self.runs.part == "trainable":
            found[_TRAINABLE] = self._infer("trainable", found[_FROZEN])
        return found

    def _engines(self) -> Dump:
        """What every way to run a pass puts out with the weights that the network holds."""
        batches = [each for each in np.split(self.probes, [FIRST_PASS]) if len(each)]
        found: Dump = {}
        for part, kind in self._passed():
            for engine in self.wing.inference.engines(self.network, part, in_float64=True):
                label = Label(kind, engine=engine.name, precision=self.recipe.precision)
                found[label] = self._infer(part, *batches, engine=engine.name)
        return found

    def _passed(self) -> list[tuple[Part, Kind]]:
        """Parts of the network that many images pass through, and what each puts out."""
        frozen: list[tuple[Part, Kind]] = [("frozen", "frozen_output")] if self.runs.part == "trainable" else []
        return [*frozen, ("all", "logits")]

    def _loss_and_gradients(self, moved: float) -> None:
        """Of exactly what trains, as a step has them, for the first batch and for a small last one."""
        batches = self._batches()

        def collect(weights: Mapping[str, Array]) -> tuple[Dump, Dump]:
            losses: Dump = {}
            gradients: Dump = {}
            for label, batch in batches.items():
                self._load(weights)
                if self.runs.part == "trainable":
                    images = {name: array for name, array in batch.more.items() if array.dtype == np.uint8}
                    more = {name: self._infer("frozen", array) for name, array in images.items()}
                    batch = replace(batch, inputs=self._infer("frozen", batch.inputs), more={**batch.more, **more})
                setting = (self.runs.part, self.runs.trainable, self.recipe.batch_norm_trains, self.recipe)
                loss, found = self.wing.trace.gradients(self.network, *setting, batch)
                losses[label] = np.array([loss])
                # From the output to the input, as they are computed.
                for name in reversed(found):
                    gradients[Label("gradient", name, batch=label.batch)] = sample(found[name])
            return losses, gradients

        losses, gradients = collect(self.weights)
        self._write("loss", losses)
        self._write("gradients", gradients)
        if self.climb.measures_rounding:
            other_losses, other_gradients = collect(self.runs.move(self.weights))
            change = max(relative_changes(losses, other_losses).values())
            # A loss is one number, and may happen not to move although the logits do. Cross entropy moves by at most
            # twice what they move; a mean square by twice its root times that (Cauchy and Schwarz).
            least = min(abs(float(loss[0])) for loss in losses.values()) or 1.0
            steep = least**0.5 if self.recipe.loss == "mse" else 1.0
            self.rounding["loss"] = {Label("loss"): max(change, 2 * moved * steep / least)}
            self.rounding["gradients"] = relative_changes(gradients, other_gradients)

    def _batches(self) -> dict[Label, Batch]:
        """The first batch of images, and the last one of the first epoch if it is smaller."""
        size, images = self.recipe.batch_size, len(self.plan.train)
        steps = -(-images // size)
        more = Views(self.recipe, self.runs.images, self.plan).step
        data = (self.runs.images, self.runs.labels, self.recipe.size, more)
        epoch = list(islice(training_batches(self.plan, size, *data), steps))
        found = {Label("loss", batch="first"): epoch[0]}
        if len(epoch[-1].labels) < len(epoch[0].labels):
            found[Label("loss", batch="last")] = epoch[-1]
        return found

    def _optimizer(self) -> None:
        """Given gradients, so that only the optimizers differ; rates are the recipe's, again and again if few."""
        self._load(self.weights)
        shapes = self.wing.weights.shapes(self.network)
        trained = [name for name in shapes if name in self.runs.trainable]
        trained = [name for name in trained if not name.rpartition(".")[2].startswith("running_")]
        seed = self.runs.first.seed
        gradients = (Drawn(seed, step, shapes) for step in range(1, STEPS + 1))
        rates = np.resize(self.plan.learning_rates, STEPS).tolist()
        arrays: Dump = {}
        setting = (gradients, rates, lambda array: sample(array, VALUES), frozenset(trained))
        for step, states in enumerate(self.wing.trace.optimize(self.network, self.recipe, *setting), start=1):
            if step in KEPT:
                for state in states:
                    label = Label(state.kind, state.name, optimizer=self.recipe.optimizer, step=step)
                    arrays[label] = state.array
        self._write("optimizer", arrays)


class Drawn(Mapping[str, Array]):
    """One step's gradients, drawn when asked for: a wing that trains too much gets them too, and its states say so."""

    def __init__(self, seed: int, step: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._seed, self._step, self._shapes = seed, step, shapes

    def __getitem__(self, name: str) -> Array:
        return drawn_gradient(self._seed, name, self._step, self._shapes[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def trace(wing: Wing, climb: RecipeClimb, folder: Path, events: Events) -> None:
    """Carry out a climb in one wing."""
    RecipeTracer(wing, climb, folder, events).run()


def _numbered(followed: list[Followed]) -> list[tuple[int, Followed]]:
    return list(enumerate(followed, start=1))


def _outcome(followed: list[Followed]) -> dict[Rung, Dump]:
    """What the runs came to, by rung: heads that were fitted, parameters, and the logits of the test images."""
    steps = any(each.sizes for each in followed)
    arrays: Dump = {}
    fitted: Dump = {}
    predictions: Dump = {}
    for number, each in _numbered(followed):
        if steps:
            arrays[Label("losses", run=number)] = np.array(each.losses)
        for name, array in each.statistics.items():
            arrays[Label("statistic", name, step=1, run=number)] = array
        for name, array in each.parameters.items():
            if steps or name.startswith(HEAD):
                arrays[Label("parameter", name, step=len(each.losses) or None, run=number)] = array
        for name, array in each.state.items():
            arrays[Label("closest" if name == CLOSEST else "state", name, step=len(each.losses), run=number)] = array
        if each.nearest is not None:
            arrays[Label("closest", run=number)] = each.nearest[:, 1]
        fitted |= {Label("parameter", name, run=number): array for name, array in each.first_head.items()}
        predictions[Label("logits", run=number)] = each.logits
    if not steps:
        return {"fit": arrays, "predictions": predictions}
    return {**({"fit": fitted} if fitted else {}), "trajectory": arrays, "predictions": predictions}


def _of_engines(changes: Mapping[Label, float], precision: str) -> dict[Label, float]:
    """How far rounding in a precision may move what engines put out."""
    kinds: dict[Kind, Label] = {"logits": _WHOLE, "frozen_output": _FROZEN}
    return {Label(kind, precision=precision): changes[label] for kind, label in kinds.items() if label in changes}

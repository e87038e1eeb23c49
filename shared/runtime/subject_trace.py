"""One side's climb of a user's own pair: everything that the rungs compare, written array by array."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress

import numpy as np

from transfer_parity.shared.contract.inventory import STATISTICS
from transfer_parity.shared.contract.rungs import RATES, Array, Kind, Label, Phase, Rung
from transfer_parity.shared.contract.subject_jobs import SubjectClimb
from transfer_parity.shared.core.arrays import largest_difference
from transfer_parity.shared.runtime import subject_dump, subject_examples
from transfer_parity.shared.runtime.sampling import drawn_gradient, sample
from transfer_parity.shared.runtime.subject_dump import Dump
from transfer_parity.shared.runtime.subject_side import SubjectSide, batches

#: Values of an array that are written down whole; of a larger one as many, evenly spread. There are a dozen arrays for
#: each parameter (gradients, what optimizers hold), so of those less.
WHOLE, OF_PARAMETERS = 2**20, 2**16
#: Receives each array of a rung as soon as it is there.
Sink = Callable[[Rung, Label, Array], None]


class SubjectTrace:
    """A climb.

    Args:
        side: its model.
        climb: what to do.
        dump: receives all arrays.
        tell: called with the name of each rung as it begins.
    """

    def __init__(self, side: SubjectSide, climb: SubjectClimb, dump: Dump, tell: Callable[[Rung], None]) -> None:
        self.side, self.climb, self.dump, self.tell = side, climb, dump, tell
        self.subject, self.wing = side.subject, side.wing
        self.examples = subject_examples.read(climb.examples)
        self.recipe = side.recipe(climb.amendments)
        self.changes: dict[Rung, dict[Label, float]] = {}
        #: Largest value by module of a rung, which changes are relative to.
        self._scales: dict[tuple[Rung, Label], float] = {}

    def run(self, weights: Mapping[str, Array]) -> None:
        """Climb with these weights, and again with moved ones to measure what rounding does."""
        self._climb(weights, self._write)
        for rung in self.subject.rungs:
            if rung != "metrics":
                self.dump.finish(rung)
        if self.climb.measures_rounding:
            self._climb(self.side.moved(weights), self._measure)
        self.dump.write_rounding({rung: _with_groups(changes) for rung, changes in self.changes.items()})

    def _write(self, rung: Rung, label: Label, array: Array) -> None:
        array = _kept(label, array)
        self.dump.write(rung, label, array)
        most = float(np.abs(array).max(initial=0)) if array.dtype.kind == "f" and np.isfinite(array).all() else 0.0
        key = rung, label.module
        self._scales[key] = max(self._scales.get(key, 0.0), most)

    def _measure(self, rung: Rung, label: Label, array: Array) -> None:
        """How far moved weights have moved an array; what does not depend on them is left out."""
        if rung in ("bytes", "preprocessing", "optimizer"):
            return
        with suppress(ValueError, KeyError):
            before = self.dump.read(rung, label)
            array = _kept(label, array)
            if before.shape != array.shape:
                return
            change = largest_difference(before, array) / (self._scales[rung, label.module] or 1.0)
            # Of operations that count as one entry the last is what was kept, and comes last here, too.
            self.changes.setdefault(rung, {})[label] = change

    def _climb(self, weights: Mapping[str, Array], sink: Sink) -> None:
        rungs, measuring = self.subject.rungs, sink == self._measure
        if not measuring:
            self._say("bytes")
            self._bytes(sink)
            if "preprocessing" in rungs:
                self._say("preprocessing")
                for name, array in zip(self.subject.inputs, self.side.canonical(self._first), strict=False):
                    sink("preprocessing", Label("inputs", name), array)
        if "activations" in rungs:
            self._say("activations", measuring)
            self.side.load(weights)
            self._activations(sink)
        if "loss" in rungs:
            for phase in self._phases:
                self._say("loss", measuring)
                self.side.load(weights)
                self._pass(phase, sink)
        if "optimizer" in rungs and not measuring:
            self._say("optimizer")
            self.side.load(weights)
            self._optimizer(sink)
        if "trajectory" in rungs:
            self._say("trajectory", measuring)
            self.side.load(weights)
            self._trajectory(sink)

    def _say(self, rung: Rung, again: bool = False) -> None:
        if not again:
            self.tell(rung)

    @property
    def _phases(self) -> tuple[Phase, ...]:
        return ("frozen", "training") if self.subject.training.training_mode else ("frozen",)

    @property
    def _first(self) -> list[Array]:
        """The first batch, prepared."""
        return self._prepared(slice(0, self.subject.training.batch))

    def _prepared(self, chosen: slice) -> list[Array]:
        return self.side.prepare({name: self.examples[name][chosen] for name in self.subject.inputs})

    def _bytes(self, sink: Sink) -> None:
        for name in self.subject.inputs:
            sink("bytes", Label("images", name), self.examples[name])
        sink("bytes", Label("batch_labels"), self.examples[subject_examples.TARGETS])

    def _activations(self, sink: Sink) -> None:
        """Outputs of every layer in inference mode; in single steps each from the reference's inputs."""
        alone = self.climb.layer_inputs

        def watch(name: str, output: Array) -> None:
            sink("activations", Label("activation", name), output)

        if self.climb.writes_layer_inputs and sink == self._write:
            folder = self.dump.folder / subject_dump.LAYER_INPUTS
            self.wing.inputs_of(
                self.side.model, self._first, lambda name, inputs: subject_dump.write_layer_inputs(folder, name, inputs)
            )
        outputs = self.wing.forward(self.side.model, self._first, False, watch if alone is None else None)
        if alone is not None:
            known = set(subject_dump.layers_with_inputs(alone))
            for layer in self.side.inventory.layers:
                if layer.name not in known:
                    continue
                found = self.wing.call(self.side.model, layer.name, subject_dump.read_layer_inputs(alone, layer.name))
                if found:
                    watch(layer.name, found[0])
        if self.subject.single_step:
            # Outputs of the whole model depend on every layer.
            return
        for number, output in enumerate(outputs):
            sink("activations", Label("logits", str(number) if number else ""), output)

    def _pass(self, phase: Phase, sink: Sink) -> None:
        """Loss, gradients and what statistics learn of one batch."""
        trainer = self.side.trainer(self.recipe, phase == "training")

        def watch(name: str, output: Array) -> None:
            sink("loss", Label("activation", name, phase=phase), output)

        inputs, targets = next(batches(self.subject, self.examples, 1))
        loss = trainer.differentiate(self.side.prepare(inputs), targets, watch if phase == "training" else None)
        sink("loss", Label("loss", phase=phase), np.array([loss]))
        if "gradients" not in self.subject.rungs:
            return
        for name, gradient in trainer.gradients():
            sink("gradients", Label("gradient", name, phase=phase), gradient)
        if phase == "training":
            for name, array in self.wing.dump(self.side.model, self._statistics):
                sink("gradients", Label("statistic", name, phase=phase), array)

    @property
    def _statistics(self) -> list[str]:
        layers = self.side.inventory.with_parameters
        return [f"{layer.name}.{role}" for layer in layers for role in layer.parameters if role in STATISTICS]

    def _optimizer(self, sink: Sink) -> None:
        """Steps along given gradients, whose entries have all sizes, at rates that change."""
        trainer = self.side.trainer(self.recipe, False)
        inputs, targets = next(batches(self.subject, self.examples, 1))
        # Tells which parameters train.
        trainer.differentiate(self.side.prepare(inputs), targets)
        shapes = {name: gradient.shape for name, gradient in trainer.gradients()}
        renamed = self.climb.names
        for step, rate in enumerate(RATES, start=1):
            given = {
                name: drawn_gradient(self.subject.seed, renamed.get(name, name), step, shape)
                for name, shape in shapes.items()
            }
            trainer.update(rate, given)
            for state in trainer.states():
                if state.kind != "statistic":
                    label = Label(state.kind, state.name, optimizer=self.recipe.optimizer, step=step)
                    sink("optimizer", label, state.array)

    def _trajectory(self, sink: Sink) -> None:
        """Training, and the outputs of the batch that was never trained on."""
        training = self.subject.training
        trainer = self.side.trainer(self.recipe, training.training_mode)
        losses = []
        for step, (inputs, targets) in enumerate(batches(self.subject, self.examples, training.steps)):
            losses.append(trainer.differentiate(self.side.prepare(inputs), targets))
            trainer.update(_rate(training.learning_rate, step, training.steps))
            if step == 0:
                for name, array in self.wing.dump(self.side.model, self._statistics):
                    sink("trajectory", Label("statistic", name, step=1), array)
        sink("trajectory", Label("losses"), np.array(losses))
        for name, array in self.wing.dump(self.side.model):
            kind: Kind = "statistic" if name.rpartition(".")[2] in STATISTICS else "parameter"
            sink("trajectory", Label(kind, name, step=training.steps), array)
        if "predictions" in self.subject.rungs:
            self._say("predictions", sink == self._measure)
            unseen = self._prepared(slice(-training.batch, None))
            outputs = self.wing.forward(self.side.model, unseen, False)
            for number, output in enumerate(outputs):
                sink("predictions", Label("logits", str(number) if number else ""), output)


def _kept(label: Label, array: Array) -> Array:
    """What is written down of an array."""
    array = np.asarray(array)
    whole = WHOLE if label.kind in ("activation", "logits", "images", "inputs") else OF_PARAMETERS
    return sample(array, whole) if array.size > whole else array


def _with_groups(changes: Mapping[Label, float]) -> dict[Label, float]:
    """The largest change of each group, and those of single activations."""
    found = {label: change for label, change in changes.items() if label.kind == "activation"}
    for label, change in changes.items():
        found[label.group] = max(found.get(label.group, 0.0), change)
    return found


def _rate(rate: float, step: int, steps: int) -> float:
    """A cosine from the first rate down: what differs between optimizers at a changing rate shows."""
    return rate * (1 + math.cos(math.pi * step / steps)) / 2

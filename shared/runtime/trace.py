"""One wing's part of the parity ladder: carries out every rung of a case and writes down what came of it.

Runs inside a framework's process, for both wings alike. The parent compares what they wrote (``shared/ladder.py``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from transfer_parity.shared.checkpoints import initialisation, neutral
from transfer_parity.shared.contract import plan
from transfer_parity.shared.contract.batches import Batch, augmented, training_batches
from transfer_parity.shared.contract.jobs import Case
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.rungs import DUMPED, RATES, Entry, Rung
from transfer_parity.shared.contract.spec import HeadKind, model_spec
from transfer_parity.shared.contract.wing import AnyImplementation, Array
from transfer_parity.shared.core.arrays import largest_difference
from transfer_parity.shared.core.random import generator
from transfer_parity.shared.runtime import native_behaviour
from transfer_parity.shared.runtime.trace_format import perturbed, relative_changes, write
from transfer_parity.shared.zoo.pair import HEAD

#: Images that go through the network layer by layer, and the size of a training batch.
BATCH = 4
#: Entries of a parameter whose optimizer state is written down; optimizers treat all entries alike.
SAMPLE = 4096


class Tracer:
    """A case in one wing."""

    def __init__(self, implementation: AnyImplementation, case: Case, folder: Path) -> None:
        self.implementation, self.case, self.folder = implementation, case, folder
        self.recipe = case.recipe
        self.switches = frozenset(case.switches)
        self.rounding: dict[Rung, dict[str, float]] = {}
        #: Largest difference that moving the weights made to the logits in inference mode.
        self.logits_moved = 0.0
        arrays: Mapping[str, Array] = {}
        metadata = Metadata(backbone=self.recipe.backbone, semantics=case.semantics)
        if case.checkpoint is not None:
            arrays, metadata = neutral.load(case.checkpoint)
            if not case.own_classifier:
                arrays = {name: a for name, a in arrays.items() if not self.recipe.pair.in_classifier(name)}
        head: HeadKind | None = "imagenet" if case.own_classifier else None
        spec = model_spec(self.recipe, metadata, case.classes, head, self.switches)
        self.network = implementation.build(spec)
        self.shapes = shapes = implementation.shapes(self.network)
        drawn = {name: shape for name, shape in shapes.items() if name not in arrays}
        if case.checkpoint is None:
            arrays = initialisation.draw_trained_looking_weights(shapes, case.seed)
        else:
            heads = {name: shape for name, shape in drawn.items() if name.startswith(HEAD)}
            arrays = {**arrays, **initialisation.draw_weights(heads, case.seed)}
            if not self.switches:
                neutral.account_for(shapes, arrays, str(case.checkpoint))
        if "initialisation" in self.switches:
            implementation.seed(self.network, case.seed)
            classifier = [name for name in shapes if spec.in_classifier(name)]
            arrays = {**arrays, **implementation.own_weights(self.network, classifier)}
        self.arrays = arrays
        stored = np.load(case.images, allow_pickle=False)
        stored = implementation.own_images(case.pictures, stored, self.recipe.resize_to, self.switches)
        self.images = stored
        self.labels = np.load(case.labels, allow_pickle=False)
        self.plan = plan.Plan.load(case.plan)

    def climb(self, tell: Callable[[str], None]) -> None:
        """Write every rung up to the last that is asked for, and how far rounding may move each."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._load(self.arrays)
        names = self.implementation.names(self.network)
        (self.folder / "names.json").write_text(json.dumps(names), encoding="utf-8")
        steps: dict[Rung, Any] = {
            "bytes": self._bytes,
            "preprocessing": self._preprocessing,
            "activations": self._activations,
            "loss": self._loss_and_gradients,
            "optimizer": self._optimizer,
            "trajectory": self._trajectory,
        }
        last = DUMPED.index(self.case.until) if self.case.until in DUMPED else len(DUMPED)
        for rung, step in steps.items():
            if DUMPED.index(rung) <= last and rung not in self.case.skip:
                tell(rung)
                step()
        (self.folder / "rounding.json").write_text(json.dumps(self.rounding), encoding="utf-8")

    def _load(self, arrays: Mapping[str, Array]) -> None:
        self.implementation.load(self.network, arrays)

    def _moved(self) -> dict[str, Array]:
        return perturbed(self.arrays, self.case.seed, self.recipe.precision)

    def _write(self, rung: Rung, entries: dict[str, Entry]) -> None:
        write(self.folder / f"{rung}.safetensors", entries.values())

    def _bytes(self) -> None:
        self._write("bytes", _keyed([Entry("images", "", self.images)]))

    def _preprocessing(self) -> None:
        inputs = self.implementation.preprocess(self.network, self._probes)
        self._write("preprocessing", _keyed([Entry("inputs", "", inputs)]))

    @property
    def _probes(self) -> Array:
        """The first images as the network sees them when nothing is augmented."""
        return augmented(self.images[:BATCH], self.recipe.size, None, None)

    def _activations(self) -> None:
        def collect() -> dict[str, Entry]:
            found = self.implementation.activations(self.network, self._probes)
            entries = [Entry("activation", name, array) for name, array in found.items()]
            (logits,) = self.implementation.infer(self.network, "all", [self._probes])
            return _keyed([*entries, Entry("logits", "", logits)])

        entries = collect()
        self._write("activations", entries)
        if self.case.measures_rounding:
            self._load(self._moved())
            others = collect()
            self.rounding["activations"] = relative_changes(entries, others.values())
            self.logits_moved = largest_difference(entries["logits|"].array, others["logits|"].array)
            self._load(self.arrays)

    def _loss_and_gradients(self) -> None:
        """Two passes, with normalisations frozen and in training mode. One serves if the network has none."""
        batch = Batch(self._probes, self.labels[:BATCH], RATES[0])
        modes = {"frozen": False, "training": True} if self.recipe.pair.batch_norm else {"training": True}

        def collect() -> tuple[dict[str, Entry], dict[str, Entry]]:
            losses: list[Entry] = []
            gradients: list[Entry] = []
            for mode, trains in modes.items():
                found = self.implementation.differentiate(self.network, self.recipe, batch, trains)
                if trains:
                    losses += [Entry(f"activation, {mode}", name, array) for name, array in found.activations.items()]
                else:
                    losses += list(self._statistics(mode))
                losses.append(Entry(f"loss, {mode}", "", np.array([found.loss])))
                # From the output to the input, as they are computed.
                gradients += [
                    Entry(f"gradient, {mode}", name, found.gradients[name]) for name in reversed(found.gradients)
                ]
                self._load(self.arrays)
            return _keyed(losses), _keyed(gradients)

        losses, gradients = collect()
        self._write("loss", losses)
        self._write("gradients", gradients)
        if self.case.measures_rounding:
            moved = self._moved()
            held, self.arrays = self.arrays, moved
            self._load(moved)
            other_losses, other_gradients = collect()
            self.arrays = held
            # Frozen statistics are weights: that they were moved says nothing.
            passed = [entry for entry in other_losses.values() if not entry.what.startswith("running")]
            self.rounding["loss"] = relative_changes(losses, passed)
            self._allow_what_logits_allow(losses, other_losses)
            self.rounding["gradients"] = relative_changes(gradients, other_gradients.values())
            self._load(held)

    def _allow_what_logits_allow(self, losses: Mapping[str, Entry], others: Mapping[str, Entry]) -> None:
        """A loss is one number, and may happen not to move although the logits that it is made of do.

        Cross entropy moves by at most twice what the largest logit moves: its gradient, softmax minus target, has
        absolute values that add up to at most 2.
        """
        trained = [key for key in losses if key.startswith("activation, training")]
        moved = {"frozen": self.logits_moved}
        if trained:
            # The last layer's output: the logits in training mode.
            moved["training"] = largest_difference(losses[trained[-1]].array, others[trained[-1]].array)
        for mode, most in moved.items():
            entry = losses.get(f"loss, {mode}|")
            if entry is not None:
                change = 2 * most / abs(float(entry.array[0]))
                self.rounding["loss"][entry.what] = max(self.rounding["loss"][entry.what], change)

    def _statistics(self, when: str) -> Iterator[Entry]:
        for name, array in self.implementation.dump(self.network).items():
            if name.rpartition(".")[2] in ("running_mean", "running_var"):
                # A copy: torch hands out views of what training goes on changing.
                yield Entry(f"running statistics, {when}", name, array.copy())

    def _optimizer(self) -> None:
        """Given gradients, so that only the optimizers differ: of all sizes from 1e-9 to 1, as real ones are."""
        trained = [name for name in self.shapes if not name.rpartition(".")[2].startswith("running_")]
        entries: list[Entry] = []
        for optimizer in ("sgd", "adam", "adamw"):
            recipe = self.recipe.model_copy(update={"optimizer": optimizer})
            # One step's at a time: the largest networks have as many as a gigabyte and more.
            gradients = (
                {name: self._drawn_gradient(name, step) for name in trained} for step in range(1, len(RATES) + 1)
            )
            found = self.implementation.optimize(self.network, recipe, gradients, RATES)
            for step, states in enumerate(found, start=1):
                entries += [
                    Entry(f"{optimizer}, step {step}: {what}", name, _sample(array)) for what, name, array in states
                ]
            self._load(self.arrays)
        self._write("optimizer", _keyed(entries))

    def _drawn_gradient(self, name: str, step: int) -> Array:
        random = generator(self.case.seed, "gradient", step, name)
        pattern = random.choice((-1.0, 1.0), SAMPLE) * 10.0 ** random.uniform(-9, 0, SAMPLE)
        return np.resize(pattern, self.shapes[name])

    def _trajectory(self) -> None:
        """Training steps under a changing rate with normalisation in training mode, and logits of unseen images."""
        recipe = self.recipe
        if self.switches:
            self.implementation.seed(self.network, self.case.seed)
        drawn = native_behaviour.own_plan(self.implementation, self.plan, self.switches)
        batches = list(training_batches(drawn, recipe.batch_size, self.images, self.labels, recipe.size))

        def collect() -> tuple[dict[str, Entry], dict[str, Entry]]:
            entries = [
                Entry("labels of the batches", "", np.stack([batch.labels for batch in batches])),
                Entry("images of the batches", "", np.stack([_fingerprints(batch.inputs) for batch in batches])),
            ]
            steps = 0

            def on_step() -> None:
                nonlocal steps
                steps += 1
                if steps == 1:
                    entries.extend(self._statistics("step 1"))

            trainable = frozenset(self.implementation.shapes(self.network))
            losses = self.implementation.train(self.network, "all", trainable, True, recipe, batches, on_step)
            entries.append(Entry("losses", "", np.array(losses)))
            final = self.implementation.dump(self.network)
            entries.extend(Entry(f"parameter, step {steps}", name, array.copy()) for name, array in final.items())
            unseen = augmented(self.images[self.plan.test], recipe.size, None, None)
            (logits,) = self.implementation.infer(self.network, "all", [unseen])
            return _keyed(entries), _keyed([Entry("logits", "", logits)])

        entries, predictions = collect()
        self._write("trajectory", entries)
        self._write("predictions", predictions)
        if self.case.measures_rounding:
            self._load(self._moved())
            other_entries, other_predictions = collect()
            self.rounding["trajectory"] = relative_changes(entries, other_entries.values())
            self.rounding["predictions"] = relative_changes(predictions, other_predictions.values())
            self._load(self.arrays)


def trace(implementation: AnyImplementation, case: Case, folder: Path, tell: Callable[[str], None]) -> None:
    """Carry out a case in one wing; ``tell`` hears the name of every rung that begins."""
    Tracer(implementation, case, folder).climb(tell)


def _keyed(entries: list[Entry]) -> dict[str, Entry]:
    return {entry.key: entry for entry in entries}


def _sample(array: Array) -> Array:
    """At most ``SAMPLE`` entries, evenly spread."""
    flat = array.reshape(-1)
    return flat[:: max(1, -(-flat.size // SAMPLE))].copy()


def _fingerprints(images: Array) -> Array:
    """A whole number for each image (b, S, S, 3) that changes when pixels move or change, int64 (b,)."""
    weights = np.arange(1, images[0].size + 1, dtype=np.int64)
    return images.reshape(len(images), -1).astype(np.int64) @ weights

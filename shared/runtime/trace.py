"""One wing's part of the parity ladder: carries out every rung of a climb and writes down what came of it.

Runs inside a framework's process, for all wings alike. The parent compares what they wrote (``shared/parity``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from transfer_parity.shared.checkpoints import initialisation, neutral
from transfer_parity.shared.contract import plan, switches
from transfer_parity.shared.contract.batches import Batch, augmented, training_batches
from transfer_parity.shared.contract.climbs import WingClimb
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.rungs import DUMPED, OPTIMIZERS, RATES, Label, Phase, Rung
from transfer_parity.shared.contract.spec import HeadKind, model_spec
from transfer_parity.shared.contract.wing import Array, Wing
from transfer_parity.shared.core.arrays import largest_difference
from transfer_parity.shared.runtime import native_behaviour, trace_format
from transfer_parity.shared.runtime.rounding import perturbed, relative_changes
from transfer_parity.shared.runtime.sampling import drawn_gradient, fingerprints, sample
from transfer_parity.shared.zoo.pair import HEAD

#: Images that go through the network layer by layer, and the size of a training batch.
BATCH = 4


class Tracer:
    """A climb in one wing.

    Attributes:
        network: which all rungs begin with the same weights.
        arrays: those weights, by neutral name.
        rounding: by rung, how far rounding may move the arrays of each group of labels.
        logits_moved: largest difference that moving the weights made to the logits in inference mode.
    """

    def __init__(self, wing: Wing, climb: WingClimb, folder: Path) -> None:
        self.wing, self.climb, self.folder = wing, climb, folder
        self.spec, self.recipe = climb.spec, climb.recipe
        self.switches = switches.of(wing.info.identifier, climb.spec.switches)
        self.rounding: dict[Rung, dict[Label, float]] = {}
        self.logits_moved = 0.0
        checkpoint = self.spec.checkpoint
        arrays: Mapping[str, Array] = {}
        metadata = Metadata(backbone=self.recipe.backbone, semantics=self.spec.semantics)
        if checkpoint is not None:
            arrays, metadata = neutral.load(checkpoint)
            if not climb.own_classifier:
                arrays = {name: a for name, a in arrays.items() if not self.recipe.pair.in_classifier(name)}
        head: HeadKind | None = "imagenet" if climb.own_classifier else None
        model = model_spec(self.recipe, metadata, climb.classes, head, self.switches)
        self.network = wing.network.build(model)
        self.shapes = shapes = wing.weights.shapes(self.network)
        drawn = {name: shape for name, shape in shapes.items() if name not in arrays}
        if checkpoint is None:
            arrays = initialisation.draw_trained_looking_weights(shapes, self.spec.seed)
        else:
            heads = {name: shape for name, shape in drawn.items() if name.startswith(HEAD)}
            arrays = {**arrays, **initialisation.draw_weights(heads, self.spec.seed)}
            if not self.switches:
                neutral.account_for(shapes, arrays, str(checkpoint))
        if "initialisation" in self.switches:
            wing.native.seed(self.network, self.spec.seed)
            classifier = [name for name in shapes if model.in_classifier(name)]
            arrays = {**arrays, **wing.native.initial_weights(self.network, classifier)}
        self.arrays = arrays
        stored = np.load(climb.images, allow_pickle=False)
        reading = (climb.pictures, stored, self.recipe.resize_to, self.switches)
        self.images = native_behaviour.read_images(wing, *reading)
        self.labels = np.load(climb.labels, allow_pickle=False)
        self.plan = plan.Plan.load(climb.plan)

    def run(self, tell: Callable[[str], None]) -> None:
        """Write every rung up to the last that is asked for, and how far rounding may move each."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._load(self.arrays)
        trace_format.write_names(self.folder, self.wing.trace.names(self.network))
        steps: dict[Rung, Callable[[], None]] = {
            "bytes": self._bytes,
            "preprocessing": self._preprocessing,
            "activations": self._activations,
            "loss": self._loss_and_gradients,
            "optimizer": self._optimizer,
            "trajectory": self._trajectory,
        }
        last = DUMPED.index(self.spec.until) if self.spec.until in DUMPED else len(DUMPED)
        for rung, step in steps.items():
            if DUMPED.index(rung) <= last and rung not in self.spec.skip:
                tell(rung)
                step()
        trace_format.write_rounding(self.folder, self.rounding)

    def _load(self, arrays: Mapping[str, Array]) -> None:
        self.wing.weights.load(self.network, arrays)

    def _moved(self) -> dict[str, Array]:
        return perturbed(self.arrays, self.spec.seed, self.recipe.precision)

    def _write(self, rung: Rung, arrays: Mapping[Label, Array]) -> None:
        trace_format.write(self.folder, rung, arrays)

    def _bytes(self) -> None:
        self._write("bytes", {Label("images"): self.images})

    def _preprocessing(self) -> None:
        inputs = self.wing.trace.preprocess(self.network, self._probes)
        self._write("preprocessing", {Label("inputs"): inputs})

    @property
    def _probes(self) -> Array:
        """The first images as the network sees them when nothing is augmented."""
        return augmented(self.images[:BATCH], self.recipe.size, None, None)

    def _activations(self) -> None:
        logits = Label("logits")

        def collect() -> dict[Label, Array]:
            outputs = self.wing.trace.activations(self.network, self._probes)
            found = {Label("activation", name): array for name, array in outputs.items()}
            (found[logits],) = self.wing.inference.infer(self.network, "all", [self._probes])
            return found

        arrays = collect()
        self._write("activations", arrays)
        if self.climb.measures_rounding:
            self._load(self._moved())
            others = collect()
            self.rounding["activations"] = relative_changes(arrays, others)
            self.logits_moved = largest_difference(arrays[logits], others[logits])
            self._load(self.arrays)

    def _loss_and_gradients(self) -> None:
        """Two passes, with normalisations frozen and in training mode. One serves if the network has none."""
        batch = Batch(self._probes, self.labels[:BATCH], RATES[0])
        phases: tuple[Phase, ...] = ("frozen", "training") if self.recipe.pair.batch_norm else ("training",)

        def collect(weights: Mapping[str, Array]) -> tuple[dict[Label, Array], dict[Label, Array]]:
            losses: dict[Label, Array] = {}
            gradients: dict[Label, Array] = {}
            for phase in phases:
                self._load(weights)
                found = self.wing.trace.differentiate(self.network, self.recipe, batch, phase == "training")
                if phase == "training":
                    for name, array in found.activations.items():
                        losses[Label("activation", name, phase=phase)] = array
                else:
                    for name, array in self._statistics().items():
                        losses[Label("statistic", name, phase=phase)] = array
                losses[Label("loss", phase=phase)] = np.array([found.loss])
                # From the output to the input, as they are computed.
                for name in reversed(found.gradients):
                    gradients[Label("gradient", name, phase=phase)] = found.gradients[name]
            return losses, gradients

        losses, gradients = collect(self.arrays)
        self._write("loss", losses)
        self._write("gradients", gradients)
        if self.climb.measures_rounding:
            other_losses, other_gradients = collect(self._moved())
            # Frozen statistics are weights: that they were moved says nothing.
            passed = {label: array for label, array in other_losses.items() if label.kind != "statistic"}
            self.rounding["loss"] = relative_changes(losses, passed)
            self._allow_what_logits_allow(losses, other_losses)
            self.rounding["gradients"] = relative_changes(gradients, other_gradients)
        self._load(self.arrays)

    def _allow_what_logits_allow(self, losses: Mapping[Label, Array], others: Mapping[Label, Array]) -> None:
        """A loss is one number, and may happen not to move although the logits that it is made of do.

        Cross entropy moves by at most twice what the largest logit moves: its gradient, softmax minus target, has
        absolute values that add up to at most 2.
        """
        moved: dict[Phase, float] = {"frozen": self.logits_moved}
        trained = [label for label in losses if label.kind == "activation"]
        if trained:
            # The last layer's output: the logits in training mode.
            moved["training"] = largest_difference(losses[trained[-1]], others[trained[-1]])
        for phase, most in moved.items():
            loss = Label("loss", phase=phase)
            if loss in losses:
                change = 2 * most / abs(float(losses[loss][0]))
                self.rounding["loss"][loss] = max(self.rounding["loss"][loss], change)

    def _statistics(self) -> dict[str, Array]:
        """The running statistics as they are now."""
        return {
            # A copy: torch hands out views of what training goes on changing.
            name: array.copy()
            for name, array in self.wing.weights.dump(self.network).items()
            if name.rpartition(".")[2] in ("running_mean", "running_var")
        }

    def _optimizer(self) -> None:
        """Given gradients, so that only the optimizers differ: of all sizes from 1e-9 to 1, as real ones are."""
        trained = [name for name in self.shapes if not name.rpartition(".")[2].startswith("running_")]
        arrays: dict[Label, Array] = {}
        for optimizer in OPTIMIZERS:
            recipe = self.recipe.model_copy(update={"optimizer": optimizer})
            # One step's at a time: the largest networks have as many as a gigabyte and more.
            gradients = (
                {name: drawn_gradient(self.spec.seed, name, step, self.shapes[name]) for name in trained}
                for step in range(1, len(RATES) + 1)
            )
            found = self.wing.trace.optimize(self.network, recipe, gradients, RATES, sample)
            for step, states in enumerate(found, start=1):
                for state in states:
                    arrays[Label(state.kind, state.name, optimizer=optimizer, step=step)] = state.array
            self._load(self.arrays)
        self._write("optimizer", arrays)

    def _trajectory(self) -> None:
        """Training steps under a changing rate with normalisation in training mode, and logits of unseen images."""
        recipe = self.recipe
        if self.switches:
            self.wing.native.seed(self.network, self.spec.seed)
        drawn = native_behaviour.native_plan(self.wing, self.plan, self.switches)
        batches = list(training_batches(drawn, recipe.batch_size, self.images, self.labels, recipe.size))
        unseen = augmented(self.images[self.plan.test], recipe.size, None, None)
        trainable = frozenset(self.shapes)

        def collect() -> tuple[dict[Label, Array], dict[Label, Array]]:
            arrays: dict[Label, Array] = {
                Label("batch_labels"): np.stack([batch.labels for batch in batches]),
                Label("batch_images"): np.stack([fingerprints(batch.inputs) for batch in batches]),
            }
            steps = 0

            def on_step() -> None:
                nonlocal steps
                steps += 1
                if steps == 1:
                    for name, array in self._statistics().items():
                        arrays[Label("statistic", name, step=steps)] = array

            losses = self.wing.training.train(self.network, "all", trainable, True, recipe, batches, on_step)
            arrays[Label("losses")] = np.array(losses)
            for name, array in self.wing.weights.dump(self.network).items():
                arrays[Label("parameter", name, step=steps)] = array.copy()
            (logits,) = self.wing.inference.infer(self.network, "all", [unseen])
            return arrays, {Label("logits"): logits}

        arrays, predictions = collect()
        self._write("trajectory", arrays)
        self._write("predictions", predictions)
        if self.climb.measures_rounding:
            self._load(self._moved())
            other_arrays, other_predictions = collect()
            self.rounding["trajectory"] = relative_changes(arrays, other_arrays)
            self.rounding["predictions"] = relative_changes(predictions, other_predictions)
            self._load(self.arrays)


def trace(wing: Wing, climb: WingClimb, folder: Path, tell: Callable[[str], None]) -> None:
    """Carry out a climb in one wing; ``tell`` hears the name of every rung that begins."""
    Tracer(wing, climb, folder).run(tell)

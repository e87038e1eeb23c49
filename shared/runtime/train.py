"""The runs of a job in one wing: what is frozen runs once for each image, then what trains is trained."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from transfer_parity.shared.checkpoints import initialisation, neutral
from transfer_parity.shared.contract import artifacts, plan
from transfer_parity.shared.contract.batches import Batch, training_batches
from transfer_parity.shared.contract.jobs import FeaturesJob, JobOfRuns, RunSpec, TrainJob, by_backbone
from transfer_parity.shared.contract.results import RunResult
from transfer_parity.shared.contract.spec import describe
from transfer_parity.shared.contract.wing import Array, Part, Wing
from transfer_parity.shared.core import clocks, machine
from transfer_parity.shared.core.arrays import Rows
from transfer_parity.shared.evaluation import gradcam
from transfer_parity.shared.runtime import closed_form, embedding, first_head, native_behaviour
from transfer_parity.shared.runtime.built_network import BuiltNetwork, built, trained_names
from transfer_parity.shared.runtime.events import Events
from transfer_parity.shared.runtime.features import FrozenFeatures
from transfer_parity.shared.runtime.passes import Passes
from transfer_parity.shared.runtime.short_climb import CheckedRun, ShortClimb
from transfer_parity.shared.runtime.unlabelled import FrozenViews, Views


class RunLoop:
    """Works through the runs of a job: pretrained ones first, then those on untrained backbones.

    Attributes:
        passes: those of the network over many images, with their stopwatches.
        check_seconds: that the short check took, which belongs to no phase.
        more: other streams of a step of the latest run.
        fitted: the head that the latest run began with, by neutral name, if it was fitted; else nothing.
        nearest: to which class a closed form gave each test image of the latest run, and how clearly, if it did.
        refit: fits it anew, to the backbone that the network holds; None where it is drawn.
    """

    def __init__(self, wing: Wing, job: JobOfRuns, folder: Path, events: Events, phases: clocks.Phases) -> None:
        self.wing, self.job, self.folder, self.events, self.phases = wing, job, folder, events, phases
        self.recipe = job.recipe
        with phases.measure("build") as building:
            self.built = self._build()
        self.build_seconds = building.seconds
        self.network = self.built.network
        self.head_shapes, self.backbone_shapes = self.built.head_shapes, self.built.backbone_shapes
        self.labels = np.load(job.data.labels, allow_pickle=False)
        self.images = native_behaviour.native_pixels(
            wing,
            job.data.pictures,
            Rows(job.data.images),
            job.recipe.resize_to,
            self.built.spec.switches,
            folder / artifacts.NATIVE_IMAGES,
        )
        self.passes = Passes(wing, self.network, job.recipe, job.execution.threads, events)
        self.frozen = FrozenFeatures(self.passes, phases, job, self.built.spec, self.images)
        self.check_seconds = 0.0
        self.fitted: dict[str, Array] = {}
        self.nearest: Array | None = None
        self.refit: Callable[[], dict[str, Array]] | None = None
        self.more: Callable[[int], Mapping[str, Array]] | None = None

    def run(self) -> None:
        """Do every run, and remove what nobody needs any more."""
        self.do_runs()
        # As large as the data set.
        (self.folder / artifacts.NATIVE_IMAGES).unlink(missing_ok=True)

    def do_runs(self) -> None:
        """Do every run; runs on the same backbone share what is frozen in it."""
        for runs in by_backbone(self.job.runs):
            arrays = self._backbone_arrays(runs[0])
            loading = self._load(arrays)
            # Of what the network holds, not of what it was given: here a wrong transpose would show.
            digest = neutral.digest(self.wing.weights.dump(self.network, self.backbone_shapes))
            if isinstance(self.job, FeaturesJob):
                self._hand_over(runs, loading, digest)
            elif self.built.spec.frozen_stages:
                self._train_on_features(runs, arrays, loading, digest)
            else:
                self._train_whole(runs, arrays, loading, digest)

    # What the ladder of a recipe, which follows these runs from within, changes: ``followed_runs.py``.
    def _build(self) -> BuiltNetwork:
        return built(self.wing, self.job)

    def _given(self, arrays: dict[str, Array]) -> dict[str, Array]:
        """What is loaded where these first weights are to be."""
        return arrays

    def _stepped(self, run: RunSpec, batch: Batch) -> None:
        """A step of training has ended."""

    def _trained(self, run: RunSpec) -> None:
        """The last step of a run has ended."""

    def _backbone_arrays(self, run: RunSpec) -> dict[str, Array]:
        """A run's initial weights, the head's excepted."""
        arrays: dict[str, Any] = self.built.pretrained
        if not run.pretrained:
            arrays = self._drawn(self.backbone_shapes, run)
        if not self.recipe.method.pretrained and "initialisation" not in self.built.spec.switches:
            arrays = initialisation.close_residual_branches(arrays, self.recipe.pair.without_shortcut)
        what = str(self.job.checkpoint) if run.pretrained else "the plan"
        neutral.account_for(self.backbone_shapes, arrays, what)
        return arrays

    def _drawn(self, shapes: dict[str, tuple[int, ...]], run: RunSpec) -> dict[str, Array]:
        """Initial weights of these shapes: the plan's, or the framework's own."""
        if "initialisation" in self.built.spec.switches:
            self.wing.native.seed(self.network, run.seed)
            return self.wing.native.initial_weights(self.network, shapes)
        return dict(initialisation.draw_weights(shapes, run.seed))

    def _plan(self, run: RunSpec) -> plan.Plan:
        """What a run follows: the plan, or what the framework draws instead of it."""
        drawn, switches = plan.Plan.load(self.folder / run.plan), self.built.spec.switches
        if not switches:
            return drawn
        native_behaviour.check_batches(self.recipe, drawn, switches)
        self.wing.native.seed(self.network, run.seed)
        return native_behaviour.native_plan(self.wing, drawn, switches)

    def _fit_head(self, run: RunSpec, drawn: plan.Plan) -> float:
        """Fit the head that a strategy begins with, and put it on the network. Returns the seconds it took."""
        if not self.recipe.method.fits_head:
            return 0.0
        data = (self.images, self.labels, drawn, run.seed, len(self.job.data.classes))
        self.refit = partial(first_head.fit, self.wing, self.network, self.recipe, *data)
        with self.phases.measure("training") as stretch:
            self.fitted = self.refit()
            self.wing.weights.load(self.network, self.fitted)
        return stretch.seconds

    def _load(self, arrays: dict[str, Array]) -> float:
        """Put weights into the network. Returns the seconds it took."""
        with self.phases.measure("weights") as stretch:
            self.wing.weights.load(self.network, self._given(arrays))
        return stretch.seconds

    def _load_head(self, run: RunSpec, backbone_digest: str) -> str:
        """Put the plan's head on the network. Returns the digest of all weights, now that training can begin."""
        self.wing.weights.load(self.network, self._given(self._drawn(self.head_shapes, run)))
        head_digest = neutral.digest(self.wing.weights.dump(self.network, self.head_shapes))
        return hashlib.sha256(f"{backbone_digest} {head_digest}".encode()).hexdigest()

    def _train_on_features(
        self, runs: Sequence[RunSpec], arrays: dict[str, Array], loading: float, digest: str
    ) -> None:
        """One pass through the frozen stages over the images that any of the runs needs; then the rest trains."""
        trained = trained_names(self.recipe, self.backbone_shapes, self.head_shapes)
        before = {name: array for name, array in arrays.items() if name in trained or self._learns(name)}
        with self.frozen.of(runs, self.folder, digest) as extracted:
            # Head and features are small, and are read in every step.
            features = extracted.outputs.in_memory_if_small()
            checked: CheckedRun | None = None
            for number, run in enumerate(runs):
                drawn = self._plan(run)
                again = self._load(before) if number and before else 0.0
                whole = self._load_head(run, digest)
                fitting = self._fit_head(run, drawn)
                if self.recipe.closed_form is not None:
                    losses, training = self._solve(drawn, features)
                else:
                    data = (features, self.labels, None, self._views(drawn, frozen=True))
                    batches = training_batches(drawn, self.recipe.batch_size, *data)
                    losses, training = self._train(run, drawn, "trainable", batches)
                    self._place_classes(drawn, "trainable", features)
                with self.phases.measure("inference") as inference:
                    logits = self.passes.logits("trainable", features, drawn.test, f"inference {run.id}")
                phases = {"features": extracted.seconds, "training": fitting + training, "inference": inference.seconds}
                self._finish(run, logits, losses, {"weights": loading + again, **phases}, whole, extracted.alone)
                checked = self._to_check(run, "trainable", arrays, drawn, features, losses, logits) or checked
            self._check(checked)

    def _train_whole(self, runs: Sequence[RunSpec], arrays: dict[str, Array], loading: float, digest: str) -> None:
        """Images through the whole network in every step."""
        recipe = self.recipe
        checked: CheckedRun | None = None
        for number, run in enumerate(runs):
            if number:
                loading = self._load(arrays)
            whole = self._load_head(run, digest)
            drawn = self._plan(run)
            fitting = self._fit_head(run, drawn)
            data = (self.images, self.labels, recipe.size, self._views(drawn, frozen=False))
            batches = training_batches(drawn, recipe.batch_size, *data)
            losses, training = self._train(run, drawn, "all", batches)
            self._place_classes(drawn, "all", self.images)
            engine = self.passes.engine("all", len(drawn.test)).name
            with self.phases.measure("inference") as inference:
                logits = self.passes.logits("all", self.images, drawn.test, f"inference {run.id}", engine)
            phases = {"features": 0.0, "training": fitting + training, "inference": inference.seconds}
            self._finish(run, logits, losses, {"weights": loading, **phases}, whole)
            checked = self._to_check(run, "all", arrays, drawn, self.images, losses, logits) or checked
        self._check(checked)

    def _views(self, drawn: plan.Plan, frozen: bool) -> Callable[[int], Mapping[str, Array]]:
        """Views of unlabelled images for what trains: as bytes, or as the frozen stages put them out."""
        views = Views(self.recipe, self.images, drawn)
        if frozen and views.kinds:
            with self.phases.measure("features"):
                views = FrozenViews(self.recipe, self.images, drawn, self.passes, self.folder)
        self.more = views.step
        return self.more

    def _to_check(
        self,
        run: RunSpec,
        part: Part,
        arrays: dict[str, Array],
        drawn: plan.Plan,
        inputs: Rows | Array,
        losses: list[float],
        logits: Array,
    ) -> CheckedRun | None:
        """What the short check needs of the run that it is asked for; None of any other."""
        if not isinstance(self.job, TrainJob) or run.id != self.job.check:
            return None
        weights = {**arrays, **(self.fitted or self._drawn(self.head_shapes, run))}
        data = (drawn, inputs, self.images, self.labels, len(self.job.data.classes))
        trained = trained_names(self.recipe, self.backbone_shapes, self.head_shapes)
        outcome = (losses, len(losses) * len(self.job.runs), logits)
        others = (self.refit, self.more, partial(closed_form.of_job, self.job, self.labels, drawn))
        return CheckedRun(run.seed, part, trained, weights, *data, *outcome, *others)

    def _check(self, checked: CheckedRun | None) -> None:
        """The short check, once all runs on a backbone are finished: it leaves other weights in the network."""
        if checked is not None:
            with clocks.Phases(self.wing.device.synchronize).measure("check") as stretch:
                ShortClimb(self.wing, self.network, self.recipe, checked).write(self.folder / artifacts.CHECK)
            self.check_seconds = stretch.seconds

    def _hand_over(self, runs: Sequence[RunSpec], loading: float, digest: str) -> None:
        """What the frozen stages put out for the training and the test images of each run; nothing trains."""
        with self.frozen.of(runs, self.folder, digest) as extracted:
            outputs = extracted.outputs
            for run in runs:
                folder = self.folder / run.id
                folder.mkdir(parents=True, exist_ok=True)
                train, test = plan.images(self.folder / run.plan)
                np.save(folder / artifacts.TRAIN_FEATURES, outputs[train])
                np.save(folder / artifacts.TEST_FEATURES, outputs[test])
                self._report(run, {"weights": loading, "features": extracted.seconds}, digest)

    def _learns(self, name: str) -> bool:
        """Whether a running statistic moves in training."""
        return self.recipe.batch_norm_trains and name.rpartition(".")[2].startswith("running_")

    def _train(self, run: RunSpec, drawn: plan.Plan, part: Part, batches: Iterator[Batch]) -> tuple[list[float], float]:
        """Train a part on the batches. Returns the loss of every step, and the seconds."""
        advance = self.events.progress(f"training {run.id}", len(drawn.learning_rates), "training")
        steps = self.passes.stopwatch("training")
        latest: list[Batch] = []

        def counted() -> Iterator[Batch]:
            for batch in batches:
                latest[:] = [batch]
                yield batch

        def on_step() -> None:
            steps.mark(len(latest[0].labels))
            advance(1)
            self._stepped(run, latest[0])

        trainable = trained_names(self.recipe, self.backbone_shapes, self.head_shapes)
        with self.phases.measure("training") as stretch:
            steps.begin()
            losses = self.wing.training.train(
                self.network, part, trainable, self.recipe.batch_norm_trains, self.recipe, counted(), on_step
            )
            self._trained(run)
            if self.recipe.method.averages:
                self.wing.weights.load(self.network, self.wing.training.state(self.network))
        return losses, stretch.seconds

    def _place_classes(self, drawn: plan.Plan, part: Part, inputs: Rows | Array) -> None:
        """Where the head embeds, make a classifier of it."""
        if self.recipe.method.embeds:
            embedded = self.passes.logits(part, inputs, drawn.train, "embedding")
            embedding.place_classes(self.wing, self.network, embedded, self.labels[drawn.train])

    def _solve(self, drawn: plan.Plan, features: Rows | Array) -> tuple[list[float], float]:
        """Put a head in closed form on the network. Returns no losses, since there are no steps, and the seconds."""
        with self.phases.measure("training") as stretch:
            found = closed_form.of_job(self.job, self.labels, drawn, features)
            self.nearest = found.nearest
            self.wing.weights.load(self.network, found.head)
        return [], stretch.seconds

    def _explained(self, run: RunSpec) -> Array:
        """Class-activation maps of the images that the run names, for their true classes, float32 (n, h, w)."""
        chosen = np.array(run.explain, dtype=np.int64)
        maps: list[Array] = []
        done = 0
        for images in self.passes.batches(self.images, chosen, f"explaining {run.id}", "explaining"):
            classes = self.labels[chosen[done : done + len(images)]]
            found = self.wing.explain.class_gradients(self.network, images, classes)
            maps.append(gradcam.class_activation_maps(*found).astype(np.float32))
            done += len(images)
        return np.concatenate(maps)

    def _finish(
        self,
        run: RunSpec,
        logits: Array,
        losses: list[float],
        phases: dict[str, float],
        weights_digest: str,
        features_alone: float | None = None,
    ) -> None:
        """Write the run's results at once, so that nothing is lost if a later run fails."""
        folder = self.folder / run.id
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / artifacts.LOGITS, logits)
        np.save(folder / artifacts.LOSSES, np.asarray(losses, dtype=np.float64))
        if run.explain:
            np.save(folder / artifacts.MAPS, self._explained(run))
        model = None
        if run.save_model:
            description = describe(self.recipe, self.built.metadata, self.job.data.classes)
            model = self.wing.weights.save(self.network, folder / artifacts.MODEL, description).name
        self._report(run, phases, weights_digest, model, features_alone)

    def _report(
        self,
        run: RunSpec,
        phases: dict[str, float],
        weights_digest: str,
        model: str | None = None,
        features_alone: float | None = None,
    ) -> None:
        """Say in the run's folder what there is to say about it, and tell the parent that it is done."""
        result = RunResult(
            id=run.id,
            phases={"start": self.phases.seconds["start"], "build": self.build_seconds, **phases},
            peak_memory_bytes=machine.peak_memory_bytes(),
            weights_digest=weights_digest,
            model=model,
            features_alone=features_alone,
            nearest=None if self.nearest is None else self.nearest.tolist(),
        )
        (self.folder / run.id / artifacts.RUN_RESULT).write_text(result.model_dump_json(indent=1), encoding="utf-8")
        self.events.tell("run", id=run.id)

"""The cells of a comparison in one wing: what is frozen runs once for each image, then what trains is trained."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from transfer_parity.shared.checkpoints import initialisation, neutral
from transfer_parity.shared.contract import engines, plan, switches
from transfer_parity.shared.contract.batches import Batch, augmented, training_batches
from transfer_parity.shared.contract.jobs import Cell, Job
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.results import CellResult
from transfer_parity.shared.contract.spec import describe, model_spec
from transfer_parity.shared.contract.wing import AnyImplementation, Array, Part
from transfer_parity.shared.core import clocks, machine
from transfer_parity.shared.core.arrays import Rows
from transfer_parity.shared.evaluation import gradcam
from transfer_parity.shared.runtime import native_behaviour, ridge
from transfer_parity.shared.runtime.events import Events
from transfer_parity.shared.runtime.feature_store import Store
from transfer_parity.shared.zoo.pair import HEAD

#: Of the stored outputs. Raise it when the code that computes them changes its meaning.
STORE_VERSION = 3
#: Environment variables with which a user may change the frameworks' arithmetic.
ARITHMETIC = (
    "TF_ENABLE_ONEDNN_OPTS",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "MKL_CBWR",
)
#: Largest image, in pixels, of which backbones make a last feature map of one pixel: they halve it five times.
SMALLEST_MAP = 32
#: Images after which what was computed is safe from an interruption.
COMMIT_EVERY = 2048
#: File of the images that a wing has read itself.
_OWN_IMAGES = "own-images.npy"


class Cells:
    """Works through the cells of a job: pretrained ones first, then those on untrained backbones.

    Attributes:
        steps: a stopwatch for each phase that consists of batches.
        choice: how the last pass over many images ran, and why.
        multiply_adds: of the layers that the pass led through, for one image, once a pass was made.
        ceiling: multiply-adds a second of a large matrix product, once a pass was made.
    """

    def __init__(
        self, implementation: AnyImplementation, job: Job, folder: Path, events: Events, phases: clocks.Phases
    ) -> None:
        assert job.images is not None and job.labels is not None
        self.implementation, self.job, self.folder, self.events, self.phases = (
            implementation,
            job,
            folder,
            events,
            phases,
        )
        self.recipe = job.recipe
        self.images = Rows(job.images)
        self.labels = np.load(job.labels, allow_pickle=False)
        self.pretrained: dict[str, Array] = {}
        self.metadata: Metadata | None = None
        self.steps: dict[str, clocks.Steps] = {}
        self.choice: engines.Choice | None = None
        self.multiply_adds: int | None = None
        self.ceiling: float | None = None

    def run(self) -> None:
        """Build the network once, then do every cell; cells on the same backbone share what is frozen in it."""
        with self.phases.measure("build") as building:
            if self.job.checkpoint is not None:
                self.pretrained, self.metadata = neutral.load(self.job.checkpoint)
                pair = self.recipe.pair
                self.pretrained = {name: a for name, a in self.pretrained.items() if not pair.in_classifier(name)}
            self.spec = model_spec(
                self.recipe, self.metadata, len(self.job.classes), switches=frozenset(self.job.switches)
            )
            self.network = self.implementation.build(self.spec)
            self.shapes = self.implementation.shapes(self.network)
        self.build_seconds = building.seconds
        self.head_shapes = {name: shape for name, shape in self.shapes.items() if name.startswith(HEAD)}
        self.backbone_shapes = {name: shape for name, shape in self.shapes.items() if name not in self.head_shapes}
        self.images = native_behaviour.own_pixels(
            self.implementation,
            self.job.pictures,
            self.images,
            self.recipe.resize_to,
            self.spec.switches,
            self.folder / _OWN_IMAGES,
        )
        groups: dict[tuple[bool, int | None], list[Cell]] = {}
        for cell in self.job.cells:
            groups.setdefault((cell.pretrained, None if cell.pretrained else cell.seed), []).append(cell)
        for cells in groups.values():
            arrays = self._backbone_arrays(cells[0])
            loading = self._load(arrays)
            # Of what the network holds, not of what it was given: here a wrong transpose would show.
            digest = neutral.digest(self.implementation.dump(self.network, self.backbone_shapes))
            if self.job.kind == "features":
                self._hand_over(cells, loading, digest)
            elif self.spec.frozen_stages:
                self._train_tails(cells, arrays, loading, digest)
            else:
                self._train_whole(cells, arrays, loading, digest)
        # As large as the data set, and nobody needs it any more.
        (self.folder / _OWN_IMAGES).unlink(missing_ok=True)

    def _backbone_arrays(self, cell: Cell) -> dict[str, Array]:
        """The cell's initial weights, the head's excepted."""
        arrays: dict[str, Any] = self.pretrained
        if not cell.pretrained:
            arrays = self._drawn(self.backbone_shapes, cell)
        if self.recipe.strategy == "scratch" and "initialisation" not in self.spec.switches:
            arrays = initialisation.close_residual_branches(arrays, self.recipe.pair.without_shortcut)
        what = str(self.job.checkpoint) if cell.pretrained else "the plan"
        neutral.account_for(self.backbone_shapes, arrays, what)
        return arrays

    def _drawn(self, shapes: dict[str, tuple[int, ...]], cell: Cell) -> dict[str, Array]:
        """Initial weights of these shapes: the plan's, or the framework's own."""
        if "initialisation" in self.spec.switches:
            self.implementation.seed(self.network, cell.seed)
            return self.implementation.own_weights(self.network, shapes)
        return dict(initialisation.draw_weights(shapes, cell.seed))

    def _plan(self, cell: Cell) -> plan.Plan:
        """What the cell follows: the plan, or what the framework draws instead of it."""
        drawn = plan.Plan.load(self.folder / cell.plan)
        if not self.spec.switches:
            return drawn
        if "frozen_batch_norm" in self.spec.switches and self.recipe.size <= SMALLEST_MAP:
            # It normalises by the batch after all, and the last feature maps are single pixels.
            plan.check_batches(self.recipe, len(drawn.train))
        self.implementation.seed(self.network, cell.seed)
        return native_behaviour.own_plan(self.implementation, drawn, self.spec.switches)

    def _load(self, arrays: dict[str, Array]) -> float:
        """Put weights into the network. Returns the seconds it took."""
        with self.phases.measure("weights") as stretch:
            self.implementation.load(self.network, arrays)
        return stretch.seconds

    def _load_head(self, cell: Cell, backbone_digest: str) -> str:
        """Put the plan's head on the network. Returns the digest of all weights, now that training can begin."""
        self.implementation.load(self.network, self._drawn(self.head_shapes, cell))
        head_digest = neutral.digest(self.implementation.dump(self.network, self.head_shapes))
        return hashlib.sha256(f"{backbone_digest} {head_digest}".encode()).hexdigest()

    def _train_tails(self, cells: Sequence[Cell], arrays: dict[str, Array], loading: float, digest: str) -> None:
        """One pass through the frozen stages over the images that any of the cells needs; then the rest trains."""
        trained = self._trainable()
        before = {name: array for name, array in arrays.items() if name in trained or self._learns(name)}
        with self._frozen(cells, digest) as (outputs, extraction):
            # Head and features are small, and are read in every step.
            features = outputs.in_memory_if_small()
            for number, cell in enumerate(cells):
                drawn = self._plan(cell)
                again = self._load(before) if number and before else 0.0
                whole = self._load_head(cell, digest)
                if self.recipe.solver == "ridge":
                    losses, training = self._solve(drawn, features)
                else:
                    batches = training_batches(drawn, self.recipe.batch_size, features, self.labels, size=None)
                    losses, training = self._train(cell, drawn, "tail", trained, batches)
                with self.phases.measure("inference") as inference:
                    logits = self._logits("tail", features, drawn.test, cell)
                phases = {"features": extraction, "training": training, "inference": inference.seconds}
                self._finish(cell, logits, losses, {"weights": loading + again, **phases}, whole)

    def _hand_over(self, cells: Sequence[Cell], loading: float, digest: str) -> None:
        """What the frozen stages put out for the training and the test images of each cell; nothing trains."""
        with self._frozen(cells, digest) as (outputs, extraction):
            for cell in cells:
                folder = self.folder / cell.id
                folder.mkdir(parents=True, exist_ok=True)
                for name, chosen in zip(("train", "test"), plan.images(self.folder / cell.plan), strict=True):
                    np.save(folder / f"{name}.npy", outputs[chosen])
                self._report(cell, {"weights": loading, "features": extraction}, digest)

    @contextmanager
    def _frozen(self, cells: Sequence[Cell], digest: str) -> Iterator[tuple[Rows, float]]:
        """Outputs of the frozen stages for the images that any of the cells needs, and the seconds they took."""
        needed = np.unique(np.concatenate([part for cell in cells for part in plan.images(self.folder / cell.plan)]))
        with tempfile.TemporaryDirectory(dir=self.folder) as forgotten:
            root = self.job.store if self.job.store is not None else Path(forgotten)
            yield self._stored(root, needed, cells[0], digest)

    def _train_whole(self, cells: Sequence[Cell], arrays: dict[str, Array], loading: float, digest: str) -> None:
        """Images through the whole network in every step."""
        recipe = self.recipe
        for number, cell in enumerate(cells):
            if number:
                loading = self._load(arrays)
            whole = self._load_head(cell, digest)
            drawn = self._plan(cell)
            batches = training_batches(drawn, recipe.batch_size, self.images, self.labels, recipe.size)
            losses, training = self._train(cell, drawn, "all", self._trainable(), batches)
            engine = self._engine("all", len(drawn.test))
            with self.phases.measure("inference") as inference:
                logits = self._logits("all", self.images, drawn.test, cell, engine)
            phases = {"features": 0.0, "training": training, "inference": inference.seconds}
            self._finish(cell, logits, losses, {"weights": loading, **phases}, whole)

    def _trainable(self) -> frozenset[str]:
        """Neutral names of what trains: the head, and the stages that the strategy names."""
        pair, recipe = self.recipe.pair, self.recipe
        first = recipe.first_trained_stage
        chosen = {name for name in self.backbone_shapes if (pair.stage_of(name) or 0) >= first}
        if not recipe.batch_norm_trains:
            chosen = {name for name in chosen if f"{name.rpartition('.')[0]}.running_mean" not in self.shapes}
        return frozenset(chosen | self.head_shapes.keys())

    def _learns(self, name: str) -> bool:
        """Whether a running statistic moves in training."""
        return self.recipe.batch_norm_trains and name.rpartition(".")[2].startswith("running_")

    def _train(
        self, cell: Cell, drawn: plan.Plan, part: Part, trainable: frozenset[str], batches: Iterator[Batch]
    ) -> tuple[list[float], float]:
        advance = self.events.progress(f"training {cell.id}", len(drawn.learning_rates))
        steps = self._stopwatch("training")
        sizes: list[int] = []

        def counted() -> Iterator[Batch]:
            for batch in batches:
                sizes.append(len(batch.labels))
                yield batch

        def on_step() -> None:
            steps.mark(sizes[-1])
            advance(1)

        with self.phases.measure("training") as stretch:
            steps.begin()
            losses = self.implementation.train(
                self.network, part, trainable, self.recipe.batch_norm_trains, self.recipe, counted(), on_step
            )
        return losses, stretch.seconds

    def _solve(self, drawn: plan.Plan, features: Rows | Array) -> tuple[list[float], float]:
        """Put the best linear head on the network. Returns no losses, since there are no steps, and the seconds."""
        with self.phases.measure("training") as stretch:
            classes = len(self.job.classes)
            head = ridge.fit(features, drawn.train, self.labels, classes, self.recipe.ridge_penalty)
            self.implementation.load(self.network, head)
        return [], stretch.seconds

    def _stopwatch(self, phase: str) -> clocks.Steps:
        return self.steps.setdefault(phase, clocks.Steps(self.implementation.synchronize))

    def _batches(self, inputs: Rows | Array, indices: Array, label: str) -> Iterator[Array]:
        """The chosen inputs in batches; images come out as their centre crop."""
        step = self.recipe.inference_batch_size
        advance = self.events.progress(label, len(indices))
        for start in range(0, len(indices), step):
            chosen = indices[start : start + step]
            batch = inputs[chosen]
            yield augmented(batch, self.recipe.size, None, None) if batch.dtype == np.uint8 else batch
            advance(len(chosen))

    def _outputs(self, phase: str, part: Part, batches: Iterable[Array], engine: str | None) -> Iterator[Array]:
        """Outputs of a part, batch by batch, under a stopwatch."""
        steps = self._stopwatch(phase)
        steps.begin()
        for output in self.implementation.infer(self.network, part, batches, engine):
            steps.mark(len(output))
            yield output
            # Writing an output down is no part of the next step.
            steps.resume()

    def _logits(self, part: Part, inputs: Rows | Array, indices: Array, cell: Cell, engine: str | None = None) -> Array:
        batches = self._batches(inputs, indices, f"inference {cell.id}")
        return np.concatenate(list(self._outputs("inference", part, batches, engine)))

    def _engine(self, part: Part, images: int, settled: str | None = None) -> str:
        """The way to run a pass of so many images: the one that is settled, or the one with which it ends first.

        Takes a while the first time, so it belongs in no phase.
        """
        if self.multiply_adds is None or self.ceiling is None:
            self.multiply_adds = self.implementation.multiply_adds(self.network, part)
            self.ceiling = self.implementation.matrix_product_rate(self.network)
        if settled:
            self.choice = engines.Choice(settled, "as for the images that were stored before")
        else:
            ways = self.implementation.engines(self.network, part)
            if self.recipe.engine == "plain":
                ways = ways[:1]
            self.choice = engines.choose(ways, images * self.multiply_adds, self.ceiling)
        return self.choice.name

    def _stored(self, root: Path, needed: Array, cell: Cell, digest: str) -> tuple[Rows, float]:
        """What the frozen stages put out for the needed images, computed as far as no earlier run has done it.

        Also the seconds that computing took. Choosing an engine is not among them: it happens once, not for each image.
        """
        versions, device = self.implementation.environment()
        spec = self.spec
        key: dict[str, Any] = {
            "version": STORE_VERSION,
            "framework": self.implementation.framework,
            "versions": versions,
            "device": device,
            "cpu": machine.cpu_name(),
            "threads": self.job.threads,
            "runtime": self.job.runtime,
            "images": self.job.data_digest,
            "weights": digest,
            "backbone": spec.pair.name,
            "semantics": spec.semantics,
            "batch_norm": repr(spec.batch_norm),
            "preprocessing": repr(spec.preprocessing),
            "size": spec.image_size,
            "resize": spec.resize,
            "frozen_stages": spec.frozen_stages,
            "pooled": spec.pooled,
            "precision": self.recipe.precision,
            "batch_size": self.recipe.inference_batch_size,
            "engine": self.recipe.engine,
            "environment": {name: os.environ[name] for name in ARITHMETIC if name in os.environ},
        }
        if changing := switches.of_passes(self.spec.switches):
            key["switches"] = sorted(changing)
        with Store(root, key, len(self.labels)).opened() as store:
            missing, engine = store.missing(needed), ""
            if len(missing):
                # All outputs of a store come from one engine, so that they do not depend on who asked for what first.
                engine = self._engine("trunk", len(missing), store.facts.get("engine"))
                store.note({"engine": engine})
            with self.phases.measure("features") as extraction:
                if len(missing):
                    self._compute(store, missing, f"features {cell.id}", engine)
            return store.outputs(), extraction.seconds

    def _compute(self, store: Store, missing: Array, label: str, engine: str) -> None:
        """Put images through the frozen stages and store what comes out."""
        done = kept = 0
        for output in self._outputs("features", "trunk", self._batches(self.images, missing, label), engine):
            store.write(missing[done : done + len(output)], output)
            done += len(output)
            if done - kept >= COMMIT_EVERY:
                store.commit(missing[kept:done])
                kept = done
        store.commit(missing[kept:])

    def _explained(self, cell: Cell) -> Array:
        """Class-activation maps of the images that the cell names, for their true classes, float32 (n, h, w)."""
        chosen = np.array(cell.explain, dtype=np.int64)
        maps: list[Array] = []
        done = 0
        for images in self._batches(self.images, chosen, f"explaining {cell.id}"):
            classes = self.labels[chosen[done : done + len(images)]]
            found = self.implementation.class_gradients(self.network, images, classes)
            maps.append(gradcam.class_activation_maps(*found).astype(np.float32))
            done += len(images)
        return np.concatenate(maps)

    def _finish(
        self, cell: Cell, logits: Array, losses: list[float], phases: dict[str, float], weights_digest: str
    ) -> None:
        """Write the cell's results at once, so that nothing is lost if a later cell fails."""
        folder = self.folder / cell.id
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "logits.npy", logits)
        np.save(folder / "losses.npy", np.asarray(losses, dtype=np.float64))
        if cell.explain:
            np.save(folder / "explained.npy", self._explained(cell))
        model = None
        if cell.save_model:
            description = describe(self.recipe, self.metadata, self.job.classes)
            model = self.implementation.save(self.network, folder / "model", description).name
        self._report(cell, phases, weights_digest, model)

    def _report(self, cell: Cell, phases: dict[str, float], weights_digest: str, model: str | None = None) -> None:
        """Say in the cell's folder what there is to say about it, and tell the parent that it is done."""
        result = CellResult(
            id=cell.id,
            phases={"start": self.phases.seconds["start"], "build": self.build_seconds, **phases},
            peak_memory_bytes=machine.peak_memory_bytes(),
            weights_digest=weights_digest,
            model=model,
        )
        (self.folder / cell.id / "cell.json").write_text(result.model_dump_json(indent=1), encoding="utf-8")
        self.events.tell("cell", id=cell.id)

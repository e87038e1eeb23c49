"""What runs inside a framework's process: the same loop for both wings.

Reads ``job.json`` from a folder, works through it, writes every finished cell at once, and tells its progress as JSON
lines on standard output. Everything else that a framework prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from shared import checkpoint, exchange, initialisation, plan, timing, tracing, zoo
from shared.contract import AnyImplementation, Array, Cell, CellResult, Job, Part, WorkerResult, describe, model_spec
from shared.errors import BAD_INPUT, WORKER_FAILED, BadInput

#: Set by the launcher: the time (``time.time()``) at which it started this process.
SPAWNED_AT = "TRANSFER_PARITY_SPAWNED_AT"


class Events:
    """Tells the parent how far the work is, as JSON lines."""

    def __init__(self) -> None:
        # Frameworks print to standard output as they please. Keep the real one for events, hand them standard error.
        self._stream = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)

    def tell(self, event: str, **details: Any) -> None:
        """Write one event."""
        self._stream.write(json.dumps({"event": event, **details}) + "\n")

    def progress(self, phase: str, total: int) -> Callable[[int], None]:
        """A function that counts steps of a phase and tells the parent at most ten times a second."""
        done, told = 0, 0.0

        def advance(steps: int = 1) -> None:
            nonlocal done, told
            done += steps
            if done >= total or time.monotonic() - told > 0.1:
                told = time.monotonic()
                self.tell("progress", phase=phase, done=done, total=total)

        return advance


def main(implementation: AnyImplementation) -> int:
    """Run the job whose folder is the only argument of the process. Returns the exit status."""
    events = Events()
    folder = Path(sys.argv[1])
    try:
        job = Job.model_validate_json((folder / "job.json").read_text(encoding="utf-8"))
        implementation.configure(job.threads, job.recipe.precision, job.recipe.device)
        phases = timing.Phases(implementation.synchronize)
        phases.add("start", time.time() - float(os.environ.get(SPAWNED_AT, time.time())))
        events.tell("ready")
        if job.kind == "compare":
            Comparison(implementation, job, folder, events, phases).run()
        elif job.kind == "trace":
            for case in job.cases:
                tracing.trace(implementation, case, folder / case.id, lambda rung: events.tell("rung", name=rung))
                events.tell("case", id=case.id)
        else:
            exchange.carry_out(implementation, job, folder)
        _write_result(implementation, folder, phases)
    except BadInput as error:
        events.tell("bad_input", message=str(error))
        return BAD_INPUT
    except Exception:
        traceback.print_exc()
        return WORKER_FAILED
    return 0


def _write_result(implementation: AnyImplementation, folder: Path, phases: timing.Phases) -> None:
    versions, device = implementation.environment()
    result = WorkerResult(
        versions=versions,
        device=device,
        phases=phases.seconds,
        cpu_seconds=timing.cpu_seconds(),
        wall_seconds=time.time() - float(os.environ.get(SPAWNED_AT, time.time())),
        involuntary_context_switches=timing.involuntary_context_switches(),
        peak_memory_bytes=timing.peak_memory_bytes(),
    )
    (folder / "result.json").write_text(result.model_dump_json(indent=1), encoding="utf-8")


class Rate:
    """Images a second over all batches but the first, in which a framework may trace and compile."""

    def __init__(self) -> None:
        self._began = self._ended = time.perf_counter()
        self._first = self._all = 0

    def watch(self, outputs: Iterator[Array]) -> Iterator[Array]:
        """Hand the outputs on and look at the clock after each."""
        for output in outputs:
            self._ended = time.perf_counter()
            self._all += len(output)
            if not self._first:
                self._first = len(output)
                only, self._began = self._began, self._ended
            yield output
        if self._all == self._first and self._all:
            # A single batch: better a rate with its start-up than none.
            self._began, self._first = only, 0

    @property
    def per_second(self) -> float:
        """0 before anything was watched."""
        return (self._all - self._first) / max(self._ended - self._began, 1e-9)


class Comparison:
    """Works through the cells of a job: pretrained ones first, then those on untrained backbones."""

    def __init__(
        self, implementation: AnyImplementation, job: Job, folder: Path, events: Events, phases: timing.Phases
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
        self.images = np.load(job.images, mmap_mode="r", allow_pickle=False)
        self.labels = np.load(job.labels, allow_pickle=False)
        self.plans = {cell.id: plan.Plan.load(folder / cell.plan) for cell in job.cells}
        self.pretrained: dict[str, Array] = {}
        self.metadata: checkpoint.Metadata | None = None

    def run(self) -> None:
        """Build the network once, then do every cell; a frozen backbone computes its features once for all of them."""
        with self.phases.measure("build") as building:
            if self.job.checkpoint is not None:
                self.pretrained, self.metadata = checkpoint.load(self.job.checkpoint)
                pair = self.recipe.pair
                self.pretrained = {name: a for name, a in self.pretrained.items() if not pair.in_classifier(name)}
            self.network = self.implementation.build(model_spec(self.recipe, self.metadata, len(self.job.classes)))
            self.shapes = self.implementation.shapes(self.network)
        self.build_seconds = building.seconds
        self.head_shapes = {name: shape for name, shape in self.shapes.items() if name.startswith(zoo.HEAD)}
        self.backbone_shapes = {name: shape for name, shape in self.shapes.items() if name not in self.head_shapes}
        groups: dict[tuple[bool, int | None], list[Cell]] = {}
        for cell in self.job.cells:
            groups.setdefault((cell.pretrained, None if cell.pretrained else cell.seed), []).append(cell)
        for cells in groups.values():
            if self.recipe.strategy == "linear_probe":
                self._probe(cells)
            else:
                for cell in cells:
                    self._train_whole(cell)

    def _load_backbone(self, cell: Cell) -> float:
        """Put the cell's initial weights into the backbone. Returns the seconds it took."""
        with self.phases.measure("build") as stretch:
            arrays: dict[str, Any] = self.pretrained
            if not cell.pretrained:
                arrays = initialisation.draw_weights(self.backbone_shapes, cell.seed)
            if self.recipe.strategy == "scratch":
                arrays = initialisation.close_residual_branches(arrays, self.recipe.pair.without_shortcut)
            what = str(self.job.checkpoint) if cell.pretrained else "the plan"
            checkpoint.account_for(self.backbone_shapes, arrays, what)
            self.implementation.load(self.network, arrays)
        return stretch.seconds

    def _load_head(self, cell: Cell) -> str:
        """Put the plan's head on the network. Returns the digest of all weights, now that training can begin."""
        self.implementation.load(self.network, initialisation.draw_weights(self.head_shapes, cell.seed))
        return checkpoint.digest(self.implementation.dump(self.network))

    def _probe(self, cells: list[Cell]) -> None:
        """Frozen backbone: one pass over the images that any of the cells needs, then only heads train."""
        loading = self._load_backbone(cells[0])
        plans = [self.plans[cell.id] for cell in cells]
        needed = np.unique(np.concatenate([part for each in plans for part in (each.train, each.test)]))
        rate = Rate()
        with self.phases.measure("features") as extraction:
            features = self._features(needed, cells[0], rate)
        # Row of every image among the features; images that no cell needs have none.
        rows = np.zeros(len(self.labels), dtype=np.int64)
        rows[needed] = np.arange(len(needed))
        for cell, drawn in zip(cells, plans, strict=True):
            digest = self._load_head(cell)
            on_features = plan.Plan(**{**drawn.__dict__, "train": rows[drawn.train], "test": rows[drawn.test]})
            batches = plan.training_batches(
                on_features, self.recipe.batch_size, features, self.labels[needed], size=None
            )
            losses, training = self._train(cell, "head", frozenset(self.head_shapes), False, batches)
            with self.phases.measure("inference") as inference:
                logits = self._outputs("head", features, on_features.test, cell, Rate())
            phases = {"features": extraction.seconds, "training": training, "inference": inference.seconds}
            self._finish(cell, logits, losses, phases, loading, rate.per_second, digest)
        path = self.folder / "features.npy"
        del features
        path.unlink()

    def _train_whole(self, cell: Cell) -> None:
        """Images through the whole network in every step."""
        loading = self._load_backbone(cell)
        digest = self._load_head(cell)
        drawn = self.plans[cell.id]
        recipe = self.recipe
        batches = plan.training_batches(drawn, recipe.batch_size, self.images, self.labels, recipe.size)
        losses, training = self._train(cell, "all", self._trainable(), recipe.batch_norm_trains, batches)
        rate = Rate()
        with self.phases.measure("inference") as inference:
            logits = self._outputs("all", self.images, drawn.test, cell, rate)
        phases = {"features": 0.0, "training": training, "inference": inference.seconds}
        self._finish(cell, logits, losses, phases, loading, rate.per_second, digest)

    def _trainable(self) -> frozenset[str]:
        """Neutral names of what trains: the head, and the stages that the strategy names."""
        pair, recipe = self.recipe.pair, self.recipe
        first = 0
        if recipe.strategy == "finetune" and recipe.finetune_stages != "all":
            first = len(pair.stages) - recipe.finetune_stages
        chosen = {name for name in self.backbone_shapes if (pair.stage_of(name) or 0) >= first}
        if not self.recipe.batch_norm_trains:
            chosen = {name for name in chosen if f"{name.rpartition('.')[0]}.running_mean" not in self.shapes}
        return frozenset(chosen | self.head_shapes.keys())

    def _train(
        self, cell: Cell, part: Part, trainable: frozenset[str], batch_norm_trains: bool, batches: Iterator[plan.Batch]
    ) -> tuple[list[float], float]:
        steps = len(self.plans[cell.id].learning_rates)
        advance = self.events.progress(f"training {cell.id}", steps)
        with self.phases.measure("training") as stretch:
            losses = self.implementation.train(
                self.network, part, trainable, batch_norm_trains, self.recipe, batches, lambda: advance(1)
            )
        return losses, stretch.seconds

    def _batches(self, inputs: Array, indices: Array, cell: Cell, phase: str) -> Iterator[Array]:
        """The chosen inputs in batches; images come out as their centre crop."""
        step = self.recipe.inference_batch_size
        advance = self.events.progress(f"{phase} {cell.id}", len(indices))
        for start in range(0, len(indices), step):
            chosen = indices[start : start + step]
            batch = inputs[chosen]
            yield plan.augmented(batch, self.recipe.size, None, None) if batch.dtype == np.uint8 else batch
            advance(len(chosen))

    def _outputs(self, part: Part, inputs: Array, indices: Array, cell: Cell, rate: Rate) -> Array:
        batches = self._batches(inputs, indices, cell, "inference")
        return np.concatenate(list(rate.watch(self.implementation.infer(self.network, part, batches))))

    def _features(self, needed: Array, cell: Cell, rate: Rate) -> np.memmap[Any, Any]:
        """Features of the needed images, one row each, in a file that is opened as a memory map."""
        stored: np.memmap[Any, Any] | None = None
        row = 0
        batches = self._batches(self.images, needed, cell, "features")
        for output in rate.watch(self.implementation.infer(self.network, "features", batches)):
            if stored is None:
                shape = (len(needed), *output.shape[1:])
                stored = open_memmap(self.folder / "features.npy", mode="w+", dtype=output.dtype, shape=shape)
            stored[row : row + len(output)] = output
            row += len(output)
        assert stored is not None
        return stored

    def _finish(
        self,
        cell: Cell,
        logits: Array,
        losses: list[float],
        phases: dict[str, float],
        loading: float,
        images_per_second: float,
        digest: str,
    ) -> None:
        """Write the cell's results at once, so that nothing is lost if a later cell fails."""
        folder = self.folder / cell.id
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "logits.npy", logits)
        np.save(folder / "losses.npy", np.asarray(losses, dtype=np.float64))
        model = None
        if cell.save_model:
            description = describe(self.recipe, self.metadata, self.job.classes)
            model = self.implementation.save(self.network, folder / "model", description).name
        result = CellResult(
            id=cell.id,
            phases={"start": self.phases.seconds["start"], "build": self.build_seconds + loading, **phases},
            peak_memory_bytes=timing.peak_memory_bytes(),
            weights_digest=digest,
            images_per_second=images_per_second,
            model=model,
        )
        (folder / "cell.json").write_text(result.model_dump_json(indent=1), encoding="utf-8")
        self.events.tell("cell", id=cell.id)

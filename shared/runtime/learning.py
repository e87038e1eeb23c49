"""What a framework's process does for methods that learn from base classes: it trains them, and classifies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from transfer_parity.shared.checkpoints import initialisation
from transfer_parity.shared.contract import artifacts, learners
from transfer_parity.shared.contract.jobs import EpisodesJob
from transfer_parity.shared.contract.learners import LearnerName, LearnerSettings, Pairs, Tasks
from transfer_parity.shared.contract.learning_plan import LearningPlan
from transfer_parity.shared.contract.wing import Array, Learner, Wing
from transfer_parity.shared.core import clocks
from transfer_parity.shared.runtime.events import Events

#: Episodes that are classified at a time.
AT_ONCE = 25


def carry_out(wing: Wing, job: EpisodesJob, folder: Path, events: Events, phases: clocks.Phases) -> None:
    """Train every method on its base classes; write what it learned, its losses, and the logits of its episodes."""
    # bfloat16 is the backbone's arithmetic; what trains is float32.
    dtype = "float64" if job.execution.precision == "float64" else "float32"
    for each in job.learnings:
        drawn = LearningPlan.load(folder / each.plan)
        base, novel = (np.load(path, allow_pickle=False) for path in (each.base, each.novel))
        mean = base.mean(axis=0, dtype=np.float64)
        base, novel = (learners.inputs(features, mean, dtype) for features in (base, novel))
        start = first_arrays(each.method, base.shape[1], drawn.novel.ways, each.settings, each.seed)
        learner: Learner = wing.episodes.learner(each.method, start, each.settings, each.recipe)
        with phases.measure("training"):
            advance = events.progress(f"training {each.id}", each.settings.steps, "training")
            losses = []
            for batch in batches(each.method, each.settings, drawn, base):
                losses.append(learner.step(batch))
                advance(1)
        with phases.measure("inference"):
            logits = classified(learner, drawn, novel)
        own = folder / each.id
        own.mkdir(parents=True, exist_ok=True)
        np.save(own / artifacts.LOSSES, np.array(losses, dtype=np.float64))
        np.save(own / artifacts.LOGITS, logits)
        learned: dict[str, Any] = learner.arrays()
        np.savez(own / artifacts.LEARNED, **learned)
        events.tell("learned", id=each.id)


def first_arrays(
    method: LearnerName, features: int, ways: int, settings: LearnerSettings, seed: int
) -> dict[str, Array]:
    """What a method sets out from, by neutral name; arguments as those of ``learners.shapes``."""
    shapes = learners.shapes(method, features, ways, settings)
    start: dict[str, Array] = dict(initialisation.draw_weights(shapes, seed))
    if learners.HEAD_WEIGHT in start:
        # Classes of a task come in any order: before it is adapted, the head prefers none.
        start[learners.HEAD_WEIGHT] = np.zeros(shapes[learners.HEAD_WEIGHT])
    return start


def batches(
    method: LearnerName, settings: LearnerSettings, drawn: LearningPlan, base: Array
) -> Iterator[Tasks | Pairs]:
    """What the method learns from, step by step: inputs of base images, (B, d), as the plan says."""
    if method == "siamese":
        yield from learners.pair_batches(base, drawn.pairs)
    else:
        for step in range(settings.steps):
            yield learners.tasks(base, drawn.base, slice(step * settings.tasks, (step + 1) * settings.tasks))


def classified(learner: Learner, drawn: LearningPlan, novel: Array) -> Array:
    """Of the queries of all novel episodes, (E, m, ways)."""
    starts = range(0, len(drawn.novel), AT_ONCE)
    chunks = (learners.tasks(novel, drawn.novel, slice(start, start + AT_ONCE)) for start in starts)
    return np.concatenate([learner.logits(each) for each in chunks])

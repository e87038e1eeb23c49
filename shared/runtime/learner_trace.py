"""One wing's part of the ladder of a method that learns from base classes: what ``compare.py episodes`` runs.

Up to the features of the frozen backbone it is the ladder of a recipe. What trains behind it is climbed by the code
that trains it: ``learning.py`` here, and ``episodes.py`` of the wing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transfer_parity.shared.contract import learners
from transfer_parity.shared.contract.batches import augmented
from transfer_parity.shared.contract.jobs import LearnerClimb, RecipeClimb, RunSpec
from transfer_parity.shared.contract.learners import Pairs, Tasks
from transfer_parity.shared.contract.learning_plan import LearningPlan
from transfer_parity.shared.contract.plan import Plan
from transfer_parity.shared.contract.rungs import Kind, Label
from transfer_parity.shared.contract.wing import Array, Learner, Part, Wing
from transfer_parity.shared.core.arrays import Rows
from transfer_parity.shared.runtime import learning
from transfer_parity.shared.runtime.events import Events
from transfer_parity.shared.runtime.followed_runs import FollowedRuns
from transfer_parity.shared.runtime.recipe_trace import KEPT, STEPS, VALUES, Drawn, Dump, RecipeTracer
from transfer_parity.shared.runtime.rounding import perturbed, relative_changes
from transfer_parity.shared.runtime.sampling import fingerprints, sample
from transfer_parity.shared.runtime.short_climb import UNITS
from transfer_parity.shared.zoo.pair import HEAD

#: How often loss and gradients are repeated with moved weights: a loss is one number, and one move may just miss it.
MOVES = 4


@dataclass(frozen=True)
class Lesson:
    """What a run's method learns from, and is judged on.

    Attributes:
        drawn: base tasks or pairs, and the judged episodes.
        base: inputs of the base images, (B, d).
        novel: inputs of the images of the episodes, (M, d).
        start: what it sets out from, by neutral name.
    """

    drawn: LearningPlan
    base: Array
    novel: Array
    start: dict[str, Array]


class FollowedLearning(FollowedRuns):
    """Learns in every run of a climb's job, in place of a head."""

    @property
    def learner(self) -> LearnerClimb:
        """What is climbed."""
        assert self.climb.learner is not None
        return self.climb.learner

    def lesson(self, run: RunSpec, plan: Plan, base: Array, novel: Array) -> Lesson:
        """A run's lesson.

        Args:
            run: which.
            plan: which images are base images, and which those of the episodes.
            base: features of the former, (B, d).
            novel: features of the latter, (M, d).
        """
        name = self.learner.plans[self.job.runs.index(run)]
        drawn, mean = LearningPlan.load(self.folder / name), base.mean(axis=0, dtype=np.float64)
        setting = (base.shape[1], drawn.novel.ways, self.learner.settings, run.seed)
        start = learning.first_arrays(self.learner.method, *setting)
        precision = self.recipe.precision
        mine, others = (learners.inputs(features, mean, precision) for features in (base, novel))
        return Lesson(drawn, mine, others, start)

    def new(self, start: dict[str, Array]) -> Learner:
        """A learner that sets out from these arrays."""
        setting = (self.learner.settings, self.recipe)
        found: Learner = self.wing.episodes.learner(self.learner.method, start, *setting)
        return found

    def _train_on_features(
        self, runs: Sequence[RunSpec], arrays: dict[str, Array], loading: float, digest: str
    ) -> None:
        with self.frozen.of(runs, self.folder, digest) as extracted:
            for run in runs:
                self._learn(run, extracted.outputs)

    def _learn(self, run: RunSpec, features: Rows) -> None:
        plan = self._plan(run)
        found, lesson = self.found[run.id], self.lesson(run, plan, features[plan.train], features[plan.test])
        learner = self.new(self._given(lesson.start))
        for step, batch in enumerate(self.batches(lesson)):
            found.losses.append(learner.step(batch))
            found.labels.append(_labels(batch))
            found.sizes.append(len(found.labels[-1]))
            found.images.append(fingerprints(self.images[plan.train[self._rows(lesson.drawn, step)]]))
        found.parameters = {name: sample(array) for name, array in learner.arrays().items()}
        found.logits = learning.classified(learner, lesson.drawn, lesson.novel).reshape(-1, lesson.drawn.novel.ways)

    def batches(self, lesson: Lesson) -> list[Tasks | Pairs]:
        """What a run learns from, step by step."""
        return list(learning.batches(self.learner.method, self.learner.settings, lesson.drawn, lesson.base))

    def _rows(self, drawn: LearningPlan, step: int) -> Array:
        """Which base images a step is given."""
        if self.learner.method == "siamese":
            pairs: Array = drawn.pairs[step].reshape(-1)
            return pairs
        count = self.learner.settings.tasks
        some = slice(step * count, (step + 1) * count)
        return np.concatenate([drawn.base.support[some].reshape(-1), drawn.base.queries[some].reshape(-1)])


class LearnerTracer(RecipeTracer):
    """A climb in one wing."""

    runs: FollowedLearning

    def _followed(self) -> FollowedLearning:
        return FollowedLearning(self.wing, self.climb, self.folder, self.events)

    def _forward(self, weights: Mapping[str, Array]) -> Dump:
        """As of a recipe, up to the features."""
        found = super()._forward(weights)
        return {label: a for label, a in found.items() if label.kind != "logits" and not label.name.startswith(HEAD)}

    def _passed(self) -> list[tuple[Part, Kind]]:
        return [("frozen", "frozen_output")]

    def _lesson(self, weights: dict[str, Array]) -> Lesson:
        """The first run's, with these weights."""
        self._load(weights)
        base, novel = (
            self._infer("frozen", augmented(self.runs.images[chosen], self.recipe.size, None, None))
            for chosen in (self.plan.train, self.plan.test)
        )
        return self.runs.lesson(self.runs.first, self.plan, base, novel)

    def _loss_and_gradients(self, moved: float) -> None:
        """Of the first step: behind the inner steps of its tasks, or of its pairs."""
        lesson = self._lesson(self.weights)
        losses, gradients = self._differentiated(lesson, lesson.start)
        self._write("loss", losses)
        self._write("gradients", gradients)
        if self.climb.measures_rounding:
            of_losses: dict[Label, float] = {}
            of_gradients: dict[Label, float] = {}
            for number in range(MOVES):
                seed = self.runs.first.seed + number
                other, start = (
                    perturbed(arrays, seed, self.recipe.precision, UNITS) for arrays in (self.weights, lesson.start)
                )
                other_losses, other_gradients = self._differentiated(self._lesson(other), start)
                _raise(of_losses, relative_changes(losses, other_losses))
                _raise(of_gradients, relative_changes(gradients, other_gradients))
            self.rounding |= {"loss": of_losses, "gradients": of_gradients}

    def _differentiated(self, lesson: Lesson, start: dict[str, Array]) -> tuple[Dump, Dump]:
        loss, found = self.runs.new(start).gradients(self.runs.batches(lesson)[0])
        # From the output to the input, as they are computed.
        gradients = {Label("gradient", name, batch="first"): sample(found[name]) for name in reversed(found)}
        return {Label("loss", batch="first"): np.array([loss])}, gradients

    def _optimizer(self) -> None:
        """Given gradients, so that only the optimizers differ."""
        start = self._lesson(self.weights).start
        shapes = {name: array.shape for name, array in start.items()}
        gradients = (Drawn(self.runs.first.seed, step, shapes) for step in range(1, STEPS + 1))
        rates = [self.recipe.learning_rate] * STEPS
        setting = (gradients, rates, lambda array: sample(array, VALUES))
        arrays: Dump = {}
        for step, states in enumerate(self.wing.trace.optimize_learner(self.runs.new(start), *setting), start=1):
            if step in KEPT:
                for state in states:
                    arrays[Label(state.kind, state.name, optimizer=self.recipe.optimizer, step=step)] = state.array
        self._write("optimizer", arrays)


def trace(wing: Wing, climb: RecipeClimb, folder: Path, events: Events) -> None:
    """Carry out a climb in one wing."""
    LearnerTracer(wing, climb, folder, events).run()


def _labels(batch: Tasks | Pairs) -> Array:
    """Of the images of a batch, those of all tasks one behind the other; of pairs, whether they are of one class."""
    if isinstance(batch, Pairs):
        return batch.same.astype(np.int64)
    targets = (batch.support_targets, batch.query_targets)
    return np.concatenate([each.argmax(axis=-1).reshape(-1) for each in targets])


def _raise(largest: dict[Label, float], changes: dict[Label, float]) -> None:
    """Keep the larger one of each."""
    for label, change in changes.items():
        largest[label] = max(largest.get(label, 0.0), change)

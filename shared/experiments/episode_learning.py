"""Methods that are trained on base classes: what they learn from is drawn, and a framework's process trains them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from transfer_parity.shared.contract import artifacts, episodes, learners
from transfer_parity.shared.contract.episodes import Episodes, Indices
from transfer_parity.shared.contract.jobs import Learning
from transfer_parity.shared.contract.learners import LearnerName
from transfer_parity.shared.contract.learning_plan import LearningPlan
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.experiments.episode_methods import EpisodeMethod
from transfer_parity.shared.experiments.episode_tasks import Request, Tasks

#: Queries of each class in the tasks that a method learns from, at most; it is judged on as many as are asked for.
MOST_QUERIES = 15


@dataclass(frozen=True)
class Lesson:
    """One method with one number of shots.

    Attributes:
        method: its name.
        shots: labelled images of each class.
        plan: what it learns from and is judged on; indices are rows of the features.
    """

    method: LearnerName
    shots: int
    plan: LearningPlan

    @property
    def id(self) -> str:
        """Name of its folder in a job's."""
        return f"{self.method}-shots{self.shots}"


def lessons(request: Request, tasks: Tasks, judged: Mapping[int, Episodes]) -> list[Lesson]:
    """What every method that trains learns from, with every number of shots.

    Args:
        request: its methods.
        tasks: the images and the division of the classes.
        judged: episodes of novel classes by number of shots; indices are rows of the novel features.

    Raises:
        BadInput: there are too few base classes or images of one.
    """
    methods = [each for each in request.methods if each.trains_on_base]
    if not methods:
        return []
    labels = tasks.data.labels[tasks.base_images()]
    return [
        Lesson(cast(LearnerName, method.name), shots, _plan(request, method, labels, tasks, shots, novel))
        for method in methods
        for shots, novel in judged.items()
    ]


def _plan(
    request: Request, method: EpisodeMethod, labels: Indices, tasks: Tasks, shots: int, novel: Episodes
) -> LearningPlan:
    """Base episodes of one method; pairs, where it learns from pairs.

    Args:
        request: settings and seed.
        method: which.
        labels: of the base images, (B,).
        tasks: the division of the classes.
        shots: labelled images of each class.
        novel: what it is judged on.
    """
    settings, seed, base = request.settings, request.recipe.first_seed, tasks.division.base
    counts = np.bincount(labels, minlength=len(tasks.data.classes))[list(base)]
    if method.name == "siamese":
        if len(base) < 2 or counts.max() < 2:
            raise BadInput("siamese: learns from pairs, and needs two base classes and two images of one; give more.")
        # No tasks: it does not learn from any.
        nothing = episodes.draw(labels, base, 1, 1, 0, 0, seed)
        return LearningPlan(nothing, learners.draw_pairs(labels, settings.pairs, settings.steps, seed), novel)
    # Without any base class there is no smallest one, and what is checked next says so.
    queries = max(1, min(MOST_QUERIES, int(counts.min(initial=MOST_QUERIES + shots)) - shots))
    episodes.check(labels, tasks.data.classes, base, novel.ways, shots + queries, episodes.BASE)
    number = settings.steps * settings.tasks
    drawn = episodes.draw(labels, base, novel.ways, shots, queries, number, seed, episodes.BASE)
    return LearningPlan(drawn, np.zeros((0, 0, 2), np.int64), novel)


def learnings(request: Request, given: Sequence[Lesson], base: Path, novel: Path, folder: Path) -> tuple[Learning, ...]:
    """What a process is to do; plans are written into the folder of its job.

    Args:
        request: settings and seed.
        given: what to learn.
        base: file of the base images' features.
        novel: file of the features of the episodes' images.
        folder: of the job; exists.
    """
    for each in given:
        each.plan.save(folder / _plan_file(each))
    return tuple(
        Learning(
            id=each.id,
            method=each.method,
            base=base.absolute(),
            novel=novel.absolute(),
            plan=_plan_file(each),
            seed=request.recipe.first_seed,
            settings=request.settings,
            recipe=learners.optimized(request.recipe, request.settings.rate),
        )
        for each in given
    )


def logits(given: Sequence[Lesson], folder: Path) -> dict[tuple[str, int], Array]:
    """Of the judged episodes, (E, m, ways), by method and number of shots, as a process has written them."""
    return {
        (each.method, each.shots): np.load(folder / each.id / artifacts.LOGITS, allow_pickle=False) for each in given
    }


def _plan_file(lesson: Lesson) -> str:
    return f"{lesson.id}.npz"

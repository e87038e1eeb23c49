"""What the ladder of a method that learns from base classes needs: drawn pictures, and what each step is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transfer_parity.shared.contract import episodes, learners
from transfer_parity.shared.contract.jobs import Execution, LearnerClimb, RecipeClimb
from transfer_parity.shared.contract.learners import LearnerName, LearnerSettings
from transfer_parity.shared.contract.learning_plan import LearningPlan
from transfer_parity.shared.contract.plan import Plan
from transfer_parity.shared.contract.recipe import Recipe, Shots
from transfer_parity.shared.contract.wings import Framework
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.core.progress import Progress
from transfer_parity.shared.data.folders import Dataset
from transfer_parity.shared.parity.climb import PER_LABEL
from transfer_parity.shared.parity.recipe_climb import STEPS, RecipeSubject, draw_classes, recipe_of
from transfer_parity.shared.runtime import prepare, resolve_dataset
from transfer_parity.shared.runtime.prepare import RunInputs
from transfer_parity.shared.zoo.pair import Pair, Semantics

#: By the name that ``compare.py parity --method`` knows it by; the strategy ``siamese`` of recipes is another one.
LEARNERS: dict[str, LearnerName] = {"anil": "anil", "episodes_siamese": "siamese"}
#: Base classes, and as many novel ones; classes and labelled images of each in a task; judged episodes.
CLASSES, WAYS, SHOTS, EPISODES = 4, 3, 2, 8
#: All else is as ``compare.py episodes`` has it: of images that are so few, fewer pairs.
SETTINGS = LearnerSettings(pairs=32, steps=STEPS)


@dataclass(frozen=True)
class LearnerSubject(RecipeSubject):
    """One climb of a method that learns from base classes; its recipe says what is frozen, and the optimizer.

    Attributes:
        name: of the method, for people.
        drawn: what it learns from and is judged on, by the run's seed.
    """

    name: str = ""
    drawn: Mapping[int, LearningPlan] = field(default_factory=dict)

    @property
    def strategy(self) -> str:
        """The method's name."""
        return self.name

    @property
    def head(self) -> str | None:
        """No head of a recipe trains."""
        return None

    @property
    def steps(self) -> int:
        """Of the first run."""
        return SETTINGS.steps

    def tested(self, run: int) -> NDArray[np.int64]:
        """Classes of the queries within their episodes, those of all episodes one behind the other."""
        return self.drawn[self.runs[run - 1].seed].novel.query_labels.reshape(-1)

    def climb(self, framework: Framework, number: int, folder: Path, execution: Execution, single: bool) -> RecipeClimb:
        """One wing's part of it; what is learnt from is written into its folder, too."""
        found = super().climb(framework, number, folder, execution, single)
        names = tuple(f"learning-{run.seed}.npz" for run in self.runs)
        for run, name in zip(self.runs, names, strict=True):
            self.drawn[run.seed].save(folder / found.id / name)
        learner = LearnerClimb(method=LEARNERS[self.name], settings=SETTINGS, plans=names)
        return found.model_copy(update={"learner": learner})


def of_defaults(
    pair: Pair,
    names: Sequence[str],
    semantics: Sequence[Semantics],
    checkpoint: Path | None,
    work: Path,
    base: Mapping[str, object],
    given: Sequence[str],
    seeds: Sequence[int],
    progress: Progress,
) -> Iterator[LearnerSubject]:
    """Climbs over drawn pictures. Arguments as those of ``recipe_climb.of_defaults``.

    Raises:
        BadInput: a wing is to differ.
    """
    if names and given:
        raise BadInput(f"--switch {given[0]}: {names[0]} is climbed without switches; leave out one of the two.")
    for seed in seeds if names else ():
        folder = work / f"classes-{seed}"
        if not folder.is_dir():
            draw_classes(folder, seed, 2 * CLASSES)
        cache = Cache(str(work / "cache"))
        probe = recipe_of(pair, "linear", "linear_probe", {**base, "data": str(folder)})
        recipe = learners.optimized(probe, SETTINGS.rate)
        data, pixels = prepare.decoded(recipe, resolve_dataset.load(str(folder), cache), cache, progress)
        for name in names:
            for meaning in semantics:
                found = _subject(recipe.model_copy(update={"name": name}), name, seed, data, pixels, checkpoint)
                yield replace(found, semantics=meaning if checkpoint is None else None)


def _subject(
    recipe: Recipe, name: str, seed: int, data: Dataset, pixels: Path, checkpoint: Path | None
) -> LearnerSubject:
    """A climb: two runs, of this seed and of the next one."""
    plans: dict[tuple[Shots, int], Plan] = {}
    drawn: dict[int, LearningPlan] = {}
    for each in (seed, seed + 1):
        division = episodes.divide(data.classes, 0.5, seed=each)
        base, novel = (np.flatnonzero(np.isin(data.labels, side)) for side in (division.base, division.novel))
        nothing = np.zeros((0, len(base)), np.int64)
        flips, crops = nothing.astype(bool), np.zeros((0, len(base), 2), np.int64)
        plans[recipe.shots[0], each] = Plan(base, novel, nothing, np.zeros(0), flips, crops)
        size = (WAYS, SHOTS, PER_LABEL - SHOTS)
        tasks = SETTINGS.steps * SETTINGS.tasks
        drawn[each] = LearningPlan(
            episodes.draw(data.labels[base], division.base, *size, tasks, each, episodes.BASE),
            learners.draw_pairs(data.labels[base], SETTINGS.pairs, SETTINGS.steps, each),
            episodes.draw(data.labels[novel], division.novel, *size, EPISODES, each),
        )
    inputs = RunInputs(recipe, data, pixels, checkpoint, plans)
    return LearnerSubject(recipe, None, seed, inputs, name=name, drawn=drawn)

"""The ladder of recipes: every wing climbs what a recipe runs, and what they wrote is compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transfer_parity.shared.checkpoints import neutral
from transfer_parity.shared.contract import artifacts
from transfer_parity.shared.contract.jobs import Execution, RecipeClimb, TraceJob
from transfer_parity.shared.contract.recipe import Framework
from transfer_parity.shared.contract.wings import IDENTIFIERS, REFERENCE
from transfer_parity.shared.core import run_folder
from transfer_parity.shared.parity.document import PairResult
from transfer_parity.shared.parity.ladder import LARGE, Ladder
from transfer_parity.shared.parity.recipe_climb import RecipeSubject
from transfer_parity.shared.parity.recipe_judging import RecipeComparison
from transfer_parity.shared.runtime import installed, launch
from transfer_parity.shared.runtime.pool import WorkerPool

#: Climbs that one process should carry out at most: networks and what is compiled for them stay in memory.
AT_ONCE = 12
#: Folder of the processes whose engines run in float32.
SINGLE = "single"


class RecipeLadder(Ladder):
    """Climbs of recipes; results are kept as they come."""

    def climb_recipes(self, subjects: Sequence[RecipeSubject], precision: str) -> list[PairResult]:
        """Carry out climbs in one process for each framework, compare, and write ``parity.json``.

        In float64 a second process of each framework lets its engines run in float32, as they do in a comparison.

        Returns:
            A result for each climb and each wing that is compared with the reference.

        Raises:
            BadInput: a wing found something wrong with what it was given.
            WorkerFailed: a process ended early; earlier results have been written.
        """
        installed.make_sure_of(IDENTIFIERS)
        if self.trusted is not None:
            subjects = [replace(subject, trusted=self.trusted) for subject in subjects]
        with run_folder.work_folder(self.folder) as work:
            found = self._some(subjects, precision, work)
        self.document().save(self.folder / artifacts.PARITY)
        return found

    def _some(self, subjects: Sequence[RecipeSubject], precision: str, work: Path) -> list[PairResult]:
        precisions = (precision, "float32") if precision == "float64" else (precision,)
        tasks, places = [], {}
        for each in precisions:
            single = each != precision
            for framework in IDENTIFIERS:
                folder = work / SINGLE / framework if single else work / framework
                folder.mkdir(parents=True)
                execution = Execution(threads=self.threads, precision=each, device=self.device)
                climbs = tuple(
                    subject.climb(framework, number, folder, execution, single)
                    for number, subject in enumerate(subjects)
                )
                job = TraceJob(execution=execution, recipes=climbs)
                tasks.append(self._task(framework, job, folder, self._hears(climbs)))
                places[single, framework] = [folder / climb.id for climb in climbs]
        largest = max(subject.recipe.pair.parameters for subject in subjects)
        for result in WorkerPool(1 if largest > LARGE else len(IDENTIFIERS)).run(tasks):
            self.versions |= result.versions
        found = []
        for number, subject in enumerate(subjects):
            main, alone = (
                {wing: places[single, wing][number] for wing in IDENTIFIERS if (single, wing) in places}
                for single in (False, True)
            )
            for other in IDENTIFIERS:
                if other != REFERENCE.identifier:
                    found.append(self._judged(subject, precision, main, alone, other))
        self.results += found
        return found

    def _hears(self, climbs: Sequence[RecipeClimb]) -> launch.Listener:
        """Turns a worker's events into progress."""
        done = 0

        def listen(event: str, details: dict[str, Any]) -> None:
            nonlocal done
            if event == "rung" and done < len(climbs):
                recipe = climbs[done].job.recipe
                self.progress(f"{recipe.backbone} {recipe.name}: {details['name']}", done, len(climbs))
            done += event == "climb"

        return listen

    def _judged(
        self,
        subject: RecipeSubject,
        precision: str,
        folders: Mapping[Framework, Path],
        single: Mapping[Framework, Path],
        other: Framework,
    ) -> PairResult:
        recipe = subject.recipe.model_copy(update={"precision": precision})
        comparison = RecipeComparison(subject, recipe, folders, single, other)
        rungs = list(comparison.rungs())
        checkpoint, semantics, weights = subject.inputs.checkpoint, subject.semantics, "random"
        if checkpoint is not None and subject.pretrained:
            metadata = neutral.read_metadata(checkpoint)
            semantics, weights = metadata.semantics, metadata.source or checkpoint.name
        return PairResult(
            backbone=recipe.backbone,
            semantics=semantics or REFERENCE.library,
            precision=precision,
            weights=weights,
            switches=list(subject.switches),
            seed=subject.seed,
            image_size=recipe.size,
            rungs=rungs,
            max_loss_difference=comparison.largest_loss_difference(),
            passed=all(rung.passed for rung in rungs),
            recipe=subject.source,
            strategy=subject.strategy,
            head=subject.head,
            steps=subject.steps,
        )

"""Climbs the parity ladder with a learner's copy of a wing and the other wing as it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from transfer_parity.shared.contract import artifacts, wings
from transfer_parity.shared.contract.climbs import ClimbSpec
from transfer_parity.shared.contract.jobs import TraceJob
from transfer_parity.shared.contract.recipe import Framework
from transfer_parity.shared.contract.results import WorkerResult
from transfer_parity.shared.core import code, scratch
from transfer_parity.shared.core.errors import BadInput, WorkerFailed
from transfer_parity.shared.core.progress import Progress
from transfer_parity.shared.exercises.exercise import PARTIAL, PARTIAL_HEAD, PARTIAL_RECIPE, READ, Exercise
from transfer_parity.shared.exercises.working_folder import wing_sources
from transfer_parity.shared.parity import recipe_climb
from transfer_parity.shared.parity.document import PairResult
from transfer_parity.shared.parity.recipe_climb import RecipeSubject
from transfer_parity.shared.parity.recipe_ladder import RecipeLadder
from transfer_parity.shared.runtime import launch
from transfer_parity.shared.runtime.pool import Task

#: Beginning of the name of the temporary folder in which a copy runs.
PREFIX = "transfer-parity-exercise-"
_PACKAGE = "transfer_parity"


@dataclass(frozen=True)
class Judged:
    """What came of a climb.

    Attributes:
        result: every rung.
        printed: what the learner's copy wrote to its output.
        partial: of a copy that passes all of these, the ladder in which only the last stage trains.
    """

    result: PairResult
    printed: str
    partial: PairResult | None = None

    @property
    def solved(self) -> bool:
        """Whether every rung passes."""
        return self.result.passed and (self.partial is None or self.partial.passed)

    @property
    def passed(self) -> int:
        """Rungs of the exercise's ladder that pass, from the lowest up to the first that does not."""
        rungs = self.result.rungs
        return next((place for place, rung in enumerate(rungs) if not rung.passed), len(rungs))


class CopyFailed(Exception):
    """The learner's copy does not run.

    Attributes:
        last_words: the end of what it wrote, with the learner's own file names.
        printed: all of it.
    """

    def __init__(self, message: str, last_words: str, printed: str = "") -> None:
        super().__init__(message)
        self.last_words, self.printed = last_words, printed


@dataclass(frozen=True)
class AlteredTask(Task):
    """A process that finds a package elsewhere than all others do.

    Attributes:
        more: environment variables of it.
        keep: receives what it wrote to its output.
    """

    more: Mapping[str, str] = field(default_factory=dict)
    keep: Callable[[str], None] = lambda text: None

    def carry_out(self, listen: launch.Listener) -> WorkerResult:
        """Run the process; see ``launch.run``."""
        try:
            return launch.run(self.framework, self.job, self.folder, listen, self.more)
        finally:
            log = self.folder / artifacts.LOG
            if log.is_file():
                self.keep(log.read_text(encoding="utf-8", errors="replace"))


class _ExerciseLadder(RecipeLadder):
    """A ladder in which one wing's code comes from elsewhere. The other wing measures what rounding explains.

    Nothing of a climb is kept in a cache, so nothing that a learner's code makes gets among the user's results.
    """

    def __init__(
        self, folder: Path, threads: int | None, progress: Progress, framework: Framework, more: Mapping[str, str]
    ) -> None:
        super().__init__(folder, threads, "cpu", progress)
        self.framework, self.more = framework, more
        self.logs: list[str] = []
        # Otherwise a copy could say by itself how much it may differ.
        self.trusted = wings.other(wings.wing(framework)).identifier

    @property
    def printed(self) -> str:
        """What the copy's processes wrote to their output."""
        return "".join(self.logs)

    def _task(self, framework: Framework, job: TraceJob, folder: Path, listen: launch.Listener) -> Task:
        if framework != self.framework:
            return super()._task(framework, job, folder, listen)
        return AlteredTask(framework, job, folder, listen, self.more, self.logs.append)


def climb(
    exercise: Exercise, copy: Path, threads: int | None, progress: Progress, spec: ClimbSpec | None = None
) -> Judged:
    """Climb the ladder of an exercise with a copy of the wing's files.

    Args:
        exercise: whose wing it is.
        copy: folder of the learner's files; only read.
        threads: of each framework; None for half of the cores.
        progress: hears how far it is.
        spec: another climb than the exercise's, and nothing after it.

    Raises:
        BadInput: a framework is not installed, or the copy has a file that is not for it to have.
        CopyFailed: the copy does not run.
        WorkerFailed: the other wing's process ended early.
    """
    with scratch.folder(PREFIX) as place:
        if os.pathsep in str(place):
            # Python would look elsewhere, and the project's own wing be judged in place of the copy.
            raise BadInput(
                f"the folder for temporary files {place.parent} has {os.pathsep!r} in its name, where Python finds no "
                "packages; set TMPDIR to another one."
            )
        mine = _assembled(exercise, copy, place / "code")
        (place / "climb").mkdir()
        more = {"PYTHONPATH": _in_front(place / "code"), "PYTHONDONTWRITEBYTECODE": "1"}
        ladder = _ExerciseLadder(place / "climb", threads, progress, exercise.framework, more)
        try:
            (result,) = ladder.climb([spec or exercise.spec])
            partial = None
            if spec is None and result.passed:
                subjects = list(_partial(exercise, place, progress))
                (partial,) = ladder.climb_recipes(subjects, exercise.spec.precision)
        except WorkerFailed as error:
            if error.framework != exercise.framework:
                raise
            told = [_with_own_names(text, exercise, mine, copy) for text in (error.last_words, ladder.printed)]
            raise CopyFailed(str(error), *told) from None
        return Judged(result, _with_own_names(ladder.printed, exercise, mine, copy), partial)


def _partial(exercise: Exercise, work: Path, progress: Progress) -> Iterator[RecipeSubject]:
    """What a copy that passes climbs then, over drawn pictures."""
    return recipe_climb.of_defaults(
        exercise.spec.pair,
        [PARTIAL_HEAD],
        [PARTIAL],
        [exercise.semantics],
        None,
        work,
        {"precision": exercise.spec.precision, **PARTIAL_RECIPE},
        (),
        [exercise.spec.seed],
        progress,
    )


def _assembled(exercise: Exercise, copy: Path, folder: Path) -> Path:
    """A package whose wing is the project's with the learner's files in it, and whose other parts are the project's.

    Returns:
        The folder of the wing.

    Raises:
        BadInput: the copy has a file that only the project has.
    """
    package = folder / _PACKAGE
    wing = package / exercise.folder
    wing.mkdir(parents=True)
    for source in wing_sources(exercise).glob("*.py"):
        shutil.copyfile(source, wing / source.name)
    # Editors put links that lead nowhere beside a file that is being changed: they are no part of the copy.
    for source in sorted(filter(Path.is_file, copy.glob("*.py"))):
        if source.name not in READ and (wing / source.name).exists():
            raise BadInput(f"{source} is one of the judge's instruments, which are not read from a copy; remove it.")
        shutil.copyfile(source, wing / source.name)
    # Python looks for the package's other parts, the untouched wing among them, where the project is.
    text = (code.ROOT / "__init__.py").read_text(encoding="utf-8")
    places = [str(package), str(code.ROOT)]
    (package / "__init__.py").write_text(f"{text}\n\n__path__ = {places!r}\n", encoding="utf-8")
    return wing


def _with_own_names(text: str, exercise: Exercise, assembled: Path, copy: Path) -> str:
    """What a process said, with the learner's and the project's files in place of those that it was put together of."""
    for place in copy.glob("*.py"):
        text = text.replace(str(assembled / place.name), str(place))
    return text.replace(str(assembled), str(wing_sources(exercise)))


def _in_front(folder: Path) -> str:
    """Where Python looks for packages: in a folder first, then where the user says."""
    return os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH", ""))))

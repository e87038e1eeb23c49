"""Methods judged on episodes of novel classes, in all frameworks: from images to ``episodes.json``."""

from __future__ import annotations

import contextlib
import datetime
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from transfer_parity.shared.checkpoints import neutral
from transfer_parity.shared.contract import artifacts, results
from transfer_parity.shared.contract.episodes import Episodes
from transfer_parity.shared.contract.jobs import EpisodesJob, Execution, FeaturesJob, RunSpec
from transfer_parity.shared.contract.plan import Plan
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.contract.wings import Framework
from transfer_parity.shared.core import machine
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput, WorkerFailed
from transfer_parity.shared.core.progress import Progress, forecast_of
from transfer_parity.shared.core.run_folder import RunFolder
from transfer_parity.shared.experiments import episode_learning, episode_scores
from transfer_parity.shared.experiments.episode_learning import Lesson
from transfer_parity.shared.experiments.episode_methods import Task
from transfer_parity.shared.experiments.episode_scores import Judged, LogitsOf
from transfer_parity.shared.experiments.episode_tasks import Request, Tasks
from transfer_parity.shared.experiments.episodes_document import EpisodesDocument, JudgedMethod, Side
from transfer_parity.shared.experiments.published_errors import OMNIGLOT, SHAPE
from transfer_parity.shared.runtime import expected, launch, prepare, resolve_weights
from transfer_parity.shared.runtime.prepare import RunInputs

#: Name of the only run of a job.
RUN = "features"


def writes(request: Request) -> list[str]:
    """Names of all files that may be left in the output folder, as ``run_folder.claimed`` takes them."""
    return [artifacts.EPISODES, *(artifacts.kept_log(each) for each in request.recipe.frameworks)]


@dataclass(frozen=True)
class Features:
    """What one framework's process has computed.

    Attributes:
        novel: what the frozen backbone puts out for the images of the episodes, (M, d).
        logits: of methods that were trained, (E, m, ways), by method and number of shots.
        side: who computed them.
    """

    novel: Array
    logits: Mapping[tuple[str, int], Array]
    side: Side


def judge(request: Request, tasks: Tasks, cache: Cache, folder: RunFolder, progress: Progress) -> EpisodesDocument:
    """Compute features in every framework, judge every method on them, and write ``episodes.json`` into the stage.

    Args:
        request: what a person wants.
        tasks: the images and the episodes.
        cache: of weights and features.
        folder: receives the document; the caller commits it.
        progress: hears how far it is.

    Raises:
        BadInput: the weights cannot be had, or features are not finite.
        WorkerFailed: a framework's process ended early.
    """
    recipe = request.recipe
    threads = recipe.threads or machine.available_cores()
    checkpoint = resolve_weights.resolve(recipe, cache, threads, progress)
    needed = tasks.needed()
    episodes = {shots: each.among(needed) for shots, each in tasks.episodes.items()}
    given = episode_learning.lessons(request, tasks, episodes)
    drawn = _plan(tasks.base_images() if given else needed[:0], needed)
    key = (request.shots[-1], recipe.first_seed)
    inputs = RunInputs(recipe, tasks.data, tasks.pixels, checkpoint, {key: drawn})
    images = len(drawn.train) + len(drawn.test)
    lanes = {each: expected.features(recipe, images, each, threads) for each in recipe.frameworks}
    forecast_of(progress).plan(lanes)
    features: dict[Framework, Features] = {}
    for framework in recipe.frameworks:
        features[framework] = _features(framework, request, inputs, given, threads, cache, folder, progress)
        forecast_of(progress).end(framework)
    found = _judged(request, episodes, features, progress)
    document = _document(request, tasks, checkpoint, features, found)
    document.save(folder.stage / artifacts.EPISODES)
    return document


def _plan(base: Array, novel: Array) -> Plan:
    """A plan in which nothing trains: base images in place of training images, those of the episodes as test images."""
    nothing = np.zeros((0, len(base)), np.int64)
    return Plan(
        train=base,
        test=novel,
        order=nothing,
        learning_rates=np.zeros(0),
        flips=nothing.astype(bool),
        crops=np.zeros((0, len(base), 2), np.int64),
    )


def _features(
    framework: Framework,
    request: Request,
    inputs: RunInputs,
    given: Sequence[Lesson],
    threads: int,
    cache: Cache,
    folder: RunFolder,
    progress: Progress,
) -> Features:
    """What a framework's frozen backbone puts out, and what methods learn from it, from a process of its own."""
    recipe = inputs.recipe
    ((shots, seed),) = inputs.plans
    pretrained = inputs.checkpoint is not None
    run = RunSpec(id=RUN, pretrained=pretrained, shots=shots, seed=seed, plan=artifacts.PLAN)
    store = cache.folder(artifacts.FEATURES) if recipe.cache else None
    follow, show = expected.following(forecast_of(progress), framework), launch.shown(progress, framework)

    def listen(event: str, details: dict[str, Any]) -> None:
        follow(event, details)
        show(event, details)

    with folder.work(framework) as work:
        files = (work / RUN / artifacts.TRAIN_FEATURES, work / RUN / artifacts.TEST_FEATURES)
        extraction = prepare.features_job(work, inputs, [run], Execution.of(recipe, threads), store)
        job: FeaturesJob | EpisodesJob = extraction
        if given:
            learnings = episode_learning.learnings(request, given, *files, work)
            job = EpisodesJob(execution=extraction.execution, features=extraction, learnings=learnings)
        with _logged(framework, work, folder):
            worker = launch.run(framework, job, work, listen)
        base, novel = (np.load(path, allow_pickle=False) for path in files)
        digest = results.run_result(work / RUN).weights_digest
        logits = episode_learning.logits(given, work)
    if not (np.isfinite(base).all() and np.isfinite(novel).all()):
        raise BadInput(f"the features of {framework} are not all finite; use other --weights.")
    side = Side(
        versions=worker.versions,
        device=worker.device,
        weights_digest=digest,
        features=novel.shape[1],
        seconds=worker.wall_seconds,
    )
    return Features(novel, logits, side)


@contextlib.contextmanager
def _logged(framework: Framework, work: Path, folder: RunFolder) -> Iterator[None]:
    """Keep what a process wrote if it fails within this block."""
    try:
        yield
    except WorkerFailed:
        shutil.copyfile(work / artifacts.LOG, folder.stage / artifacts.kept_log(framework))
        folder.commit(complete=False)
        raise


def _judged(
    request: Request,
    episodes: Mapping[int, Episodes],
    features: Mapping[Framework, Features],
    progress: Progress,
) -> list[Judged]:
    """Every method on the episodes of every number of shots.

    Args:
        request: its methods.
        episodes: by number of shots, with indices of rows of the novel features.
        features: by framework.
        progress: hears how far it is.
    """
    found = []
    for shots, tasks in episodes.items():
        for method in request.methods:
            logits_of: dict[Framework, LogitsOf] = {
                framework: each.logits[method.name, shots].__getitem__
                if method.logits is None
                else partial(_closed_form, method.logits, tasks, each.novel, request.recipe.ridge_penalty)
                for framework, each in features.items()
            }

            def advance(done: int, label: str = f"{method.name}, shots {shots}", total: int = len(tasks)) -> None:
                progress(label, done, total)

            found.append(episode_scores.judged(method.name, shots, tasks, logits_of, advance))
    return found


def _closed_form(
    logits: Callable[[Task], Array], episodes: Episodes, features: Array, penalty: float, number: int
) -> Array:
    """Logits of one episode's queries, (m, ways), in float64 whatever the features are in."""
    support, queries = (features[rows[number]].astype(np.float64) for rows in (episodes.support, episodes.queries))
    return logits(Task(support, episodes.support_labels[number], episodes.ways, queries, penalty))


def _document(
    request: Request,
    tasks: Tasks,
    checkpoint: Path | None,
    features: Mapping[Framework, Features],
    found: Sequence[Judged],
) -> EpisodesDocument:
    recipe, first = request.recipe, next(iter(tasks.episodes.values()))
    compared = (episode_scores.framework_agreement(each, recipe.margin) for each in found)
    agreement = [each for each in compared if each is not None]
    shape = (len(first), first.ways, first.queries.shape[1])
    names = tasks.data.classes
    return EpisodesDocument(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        data=str(request.runs or recipe.data),
        base_data=request.base_data,
        base_classes=[names[index] for index in tasks.division.base],
        novel_classes=[names[index] for index in tasks.division.novel],
        ways=first.ways,
        shots=list(tasks.episodes),
        queries=first.queries.shape[1],
        episodes=len(first),
        seed=recipe.first_seed,
        runs=list(tasks.runs),
        chance=1 / first.ways,
        backbone=recipe.backbone,
        weights=recipe.weights,
        source=neutral.read_metadata(checkpoint).source if checkpoint else "",
        image_size=recipe.size,
        precision=recipe.precision,
        margin=recipe.margin,
        sides={framework: each.side for framework, each in features.items()},
        methods=[
            JudgedMethod(name=each.name, trains_on_base=each.trains_on_base, sees_queries=each.sees_queries)
            for each in request.methods
        ],
        accuracies=[each for one in found for each in episode_scores.accuracies(one)],
        differences=episode_scores.method_differences(found),
        agreement=agreement,
        verdict=episode_scores.worst(agreement),
        published=list(OMNIGLOT) if tasks.runs and shape == SHAPE else [],
    )

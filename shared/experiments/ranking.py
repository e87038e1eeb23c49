"""Backbones ranked for a data set from their frozen features, and how well that predicts trained classifiers."""

from __future__ import annotations

import datetime
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transfer_parity.shared.checkpoints import neutral
from transfer_parity.shared.contract import artifacts, plan, recipe_files, results
from transfer_parity.shared.contract.jobs import Execution, RunSpec
from transfer_parity.shared.contract.recipe import Framework, Recipe, Shots
from transfer_parity.shared.contract.results import RunResult, WorkerResult
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.core import machine
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput, WorkerFailed
from transfer_parity.shared.core.progress import Progress, forecast_of, labelled
from transfer_parity.shared.core.run_folder import RunFolder
from transfer_parity.shared.data.folders import Dataset
from transfer_parity.shared.evaluation import transferability
from transfer_parity.shared.experiments import comparison
from transfer_parity.shared.experiments.known_accuracies import accuracies, identity
from transfer_parity.shared.experiments.ranking_document import Prediction, Ranked, Ranking, Score, Skipped
from transfer_parity.shared.runtime import expected, launch, prepare, resolve_dataset, resolve_weights
from transfer_parity.shared.runtime.prepare import RunInputs

#: Name of the only run of a job.
RUN = "features"


@dataclass(frozen=True)
class Candidate:
    """A backbone to rank.

    Attributes:
        backbone: name of the pair.
        weights: values of the recipe's ``weights``, tried in this order.
    """

    backbone: str
    weights: tuple[str, ...]


@dataclass(frozen=True)
class Request:
    """What a person wants ranked.

    Attributes:
        candidates: the backbones, in order.
        recipe: of all of them but for backbone and weights; the first framework and number of shots count.
        train: whether to train a linear head on each, to say how well the scores predicted its accuracy.
        earlier: folders of earlier comparisons on the same data that know the accuracy.
    """

    candidates: Sequence[Candidate]
    recipe: Recipe
    train: bool = False
    earlier: Sequence[Path] = ()

    @property
    def framework(self) -> Framework:
        """Whose process computes the features."""
        return self.recipe.frameworks[0]

    @property
    def shots(self) -> Shots:
        """Training images a class."""
        return self.recipe.shots[0]


@dataclass(frozen=True)
class Features:
    """What the frozen backbone puts out for the training and the test images, each (n, C), and who computed it."""

    train: Array
    test: Array
    result: RunResult
    worker: WorkerResult


def writes(request: Request) -> list[str]:
    """Names of all files that a ranking may leave in its folder, as ``run_folder.claimed`` takes them."""
    logs = [artifacts.kept_log(each.backbone) for each in request.candidates]
    trained = [f"{artifacts.TRAINED}/*/{name}" for name in (artifacts.RECIPE, artifacts.COMPARISON)]
    return [artifacts.RANKING, *logs, *(trained if request.train else [])]


def prepared(request: Request, cache: Cache, folder: RunFolder, progress: Progress) -> Ranker:
    """Load the images and read the earlier runs.

    Args:
        request: what to rank.
        cache: of images, weights and features.
        folder: receives the results; the caller commits them. What was trained before stays, unless that is done again.
        progress: hears how far it is.

    Raises:
        BadInput: the images or the earlier runs cannot be used.
    """
    if not request.train:
        folder.keep(artifacts.TRAINED)
    data = resolve_dataset.load(request.recipe.data, cache, progress)
    known = accuracies(request.earlier, data, request.framework, request.shots)
    return Ranker(request, data, known, cache, folder, progress)


class Ranker:
    """Scores candidates one after the other, each in a process of its own; then trains them if asked to.

    Attributes:
        folder: receives ``rank.json``, and ``trained/`` with a comparison of every backbone that was trained.
        failure: the last process that failed, if one has.
    """

    def __init__(
        self,
        request: Request,
        data: Dataset,
        known: dict[tuple[str, str], float],
        cache: Cache,
        folder: RunFolder,
        progress: Progress,
    ) -> None:
        self.request, self.data, self.known = request, data, known
        self.cache, self.folder, self.progress = cache, folder, progress
        self.threads = request.recipe.threads or machine.available_cores()
        self.failure: WorkerFailed | None = None
        self._ranked: list[tuple[Recipe, Ranked]] = []
        self._skipped: list[Skipped] = []
        self._latest: tuple[RunInputs, WorkerResult] | None = None

    def rank(self) -> Ranking:
        """Rank the candidates and write the results as they come.

        Raises:
            BadInput: images cannot be read, or no candidate is left.
            WorkerFailed: no candidate is left, or training failed.
        """
        self._foresee()
        for candidate in self.request.candidates:
            self._consider(candidate)
            forecast_of(self.progress).end(candidate.backbone)
        if self._latest is None:
            # What the process said is worth more than nothing.
            if not self.folder.has_results:
                self.folder.commit(complete=False)
            if self.failure is not None:
                raise self.failure
            first = self._skipped[0]
            raise BadInput(f"no backbone is left to rank; {first.backbone}: {first.reason}")
        if self.request.train:
            try:
                self._train()
            finally:
                self.folder.commit(complete=False)
        return self._save(*self._latest)

    def _foresee(self) -> None:
        """Tell the forecast what there is to do, as far as that can be known before weights are looked for."""
        forecast, request = forecast_of(self.progress), self.request
        recipes = [request.recipe.model_copy(update={"backbone": each.backbone}) for each in request.candidates]
        forecast.plan(expected.to_decode(recipes, len(self.data)))
        framework = request.framework
        forecast.plan(
            {each.backbone: expected.features(each, len(self.data), framework, self.threads) for each in recipes}
        )
        if request.train:
            for each in recipes:
                comparison.foresee(each, self.data, self.threads, forecast)

    def _consider(self, candidate: Candidate) -> None:
        """Score one candidate, or note why that cannot be done. Wrong images are the same for all, and end it."""
        try:
            recipe, weights = self._weights(candidate)
        except BadInput as error:
            self._skip(candidate, error)
            return
        data, pixels = prepare.decoded(recipe, self.data, self.cache, self.progress)
        # Nothing trains on this plan: an order for one epoch is enough.
        once = recipe.model_copy(update={"epochs": 1})
        drawn = plan.draw(once, data.labels, data.is_test, list(data.classes), recipe.first_seed, self.request.shots)
        inputs = RunInputs(recipe, data, pixels, weights, {(self.request.shots, recipe.first_seed): drawn})
        try:
            features = self._features(inputs)
            began = time.perf_counter()
            scores = self._scores(inputs, features)
        except (BadInput, WorkerFailed) as error:
            self._skip(candidate, error)
            return
        seconds = features.worker.wall_seconds + time.perf_counter() - began
        ranked = Ranked(
            rank=0,
            backbone=recipe.backbone,
            weights=recipe.weights,
            source=neutral.read_metadata(weights).source if weights else "",
            parameters=recipe.pair.parameters,
            features=features.train.shape[1],
            image_size=recipe.size,
            **scores,
            trained_accuracy=self.known.get((recipe.backbone, identity(recipe.weights))),
            seconds=seconds,
            phases=features.worker.phases,
            weights_digest=features.result.weights_digest,
        )
        self._ranked.append((recipe, ranked))
        self._latest = (inputs, features.worker)
        self._save(*self._latest)

    def _skip(self, candidate: Candidate, error: BadInput | WorkerFailed) -> None:
        if isinstance(error, WorkerFailed):
            self.failure = error
        self._skipped.append(Skipped(backbone=candidate.backbone, weights=list(candidate.weights), reason=str(error)))

    def _weights(self, candidate: Candidate) -> tuple[Recipe, Path | None]:
        """The recipe with the first of the candidate's weights that can be had, and their neutral checkpoint.

        Raises:
            BadInput: none can be had, or the images would be too small for the backbone.
        """
        refusals = []
        for weights in candidate.weights:
            values = {**self.request.recipe.model_dump(), "backbone": candidate.backbone, "weights": weights}
            recipe = recipe_files.validated(values, "the command line")
            try:
                return recipe, resolve_weights.resolve(recipe, self.cache, self.threads, self.progress)
            except BadInput as error:
                refusals.append(str(error))
        raise BadInput(" ".join(refusals))

    def _features(self, inputs: RunInputs) -> Features:
        """What the frozen backbone puts out, from a process of its own."""
        recipe, framework = inputs.recipe, self.request.framework
        with self.folder.work() as work:
            ((shots, seed),) = inputs.plans
            pretrained = inputs.checkpoint is not None
            run = RunSpec(id=RUN, pretrained=pretrained, shots=shots, seed=seed, plan=artifacts.PLAN)
            store = self.cache.folder(artifacts.FEATURES)
            job = prepare.features_job(work, inputs, [run], Execution.of(recipe, self.threads), store)
            try:
                worker = launch.run(framework, job, work, self._listener(recipe.backbone))
            except WorkerFailed:
                shutil.copyfile(work / artifacts.LOG, self.folder.stage / artifacts.kept_log(recipe.backbone))
                raise
            names = (artifacts.TRAIN_FEATURES, artifacts.TEST_FEATURES)
            train, test = (np.load(work / RUN / name, allow_pickle=False) for name in names)
            if not (np.isfinite(train).all() and np.isfinite(test).all()):
                raise BadInput("its features are not all finite; use other weights.")
            return Features(train, test, results.run_result(work / RUN), worker)

    def _listener(self, backbone: str) -> launch.Listener:
        """Turns a worker's events into progress."""
        number = len(self._ranked) + len(self._skipped) + 1
        position = f"{backbone} ({number} of {len(self.request.candidates)})"
        follow = expected.following(forecast_of(self.progress), backbone)

        def listen(event: str, details: dict[str, Any]) -> None:
            follow(event, details)
            if event == "started":
                self.progress(f"{position}: starting", 0, 0)
            elif event == "progress":
                self.progress(f"{position}: features", details["done"], details["total"])

        return listen

    def _scores(self, inputs: RunInputs, features: Features) -> dict[str, float]:
        ((_, drawn),) = inputs.plans.items()
        train, test, classes = features.train, features.test, len(inputs.data.classes)
        train_labels, test_labels = inputs.data.labels[drawn.train], inputs.data.labels[drawn.test]
        return {
            "logme": transferability.logme(train, train_labels, classes),
            "ncm_accuracy": transferability.nearest_mean_accuracy(train, train_labels, test, test_labels, classes),
        }

    def _train(self) -> None:
        """Train a linear head on every ranked backbone, as the comparison does; the features are there already."""
        for place, (recipe, ranked) in enumerate(self._ranked):
            folder = self.folder.below(f"{artifacts.TRAINED}/{ranked.rank}-{ranked.backbone}")
            tell = labelled(self.progress, ranked.backbone)
            compared = comparison.prepared(recipe, self.cache, folder, tell).compare()
            accuracy = float(np.mean([run.accuracy for run in compared.runs]))
            self._ranked[place] = (recipe, ranked.model_copy(update={"trained_accuracy": accuracy}))

    def _save(self, inputs: RunInputs, worker: WorkerResult) -> Ranking:
        """Everything that is known by now, in order, as one document; images and versions as of the latest."""
        self._ranked.sort(key=lambda pair: -pair[1].logme)
        self._ranked = [
            (recipe, ranked.model_copy(update={"rank": place}))
            for place, (recipe, ranked) in enumerate(self._ranked, start=1)
        ]
        ranking = [ranked for _, ranked in self._ranked]
        ((_, drawn),) = inputs.plans.items()
        asked = self.request.train or bool(self.request.earlier)
        document = Ranking(
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            data=self.request.recipe.data,
            classes=list(inputs.data.classes),
            shots=self.request.shots,
            seed=self.request.recipe.first_seed,
            training_images=len(drawn.train),
            test_images=len(drawn.test),
            framework=self.request.framework,
            versions=worker.versions,
            device=worker.device,
            ranking=ranking,
            skipped=self._skipped,
            predictions=predictions(ranking) if asked else [],
        )
        document.save(self.folder.stage / artifacts.RANKING)
        if not self.folder.keeps_earlier:
            self.folder.commit(complete=False)
        return document


def predictions(ranking: Sequence[Ranked]) -> list[Prediction]:
    """How well each score orders the backbones whose trained accuracy is known."""
    known = [each for each in ranking if each.trained_accuracy is not None]
    trained = np.array([each.trained_accuracy for each in known], dtype=np.float64)
    scores: dict[Score, list[float]] = {
        "LogME": [each.logme for each in known],
        "NCM": [each.ncm_accuracy for each in known],
    }
    found = []
    for score, values in scores.items():
        agreement = transferability.rank_correlation(np.array(values), trained)
        taus = {"tau": agreement.tau, "weighted_tau": agreement.weighted_tau} if agreement else {}
        found.append(Prediction(score=score, backbones=len(known), **taus))
    return found

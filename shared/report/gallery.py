"""Pictures worth a look: those on which the frameworks, or transfer and training from scratch, disagree."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

from transfer_parity.shared.contract.batches import augmented
from transfer_parity.shared.contract.study_recipe import BASELINE
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.evaluation import gradcam, metrics
from transfer_parity.shared.experiments import learning_curves
from transfer_parity.shared.experiments.study_document import Result, StudyDocument
from transfer_parity.shared.experiments.sweep import Grid
from transfer_parity.shared.report.console import TITLES
from transfer_parity.shared.report.page import Exhibit, Sight
from transfer_parity.shared.report.plots import data_uri

#: At most so many of a kind, and their side in pixels.
MOST, SIDE = 12, 112
#: Class-activation maps that are shown.
SHOWN = 6


def between_frameworks(grid: Grid, document: StudyDocument) -> list[Exhibit]:
    """Test images that the frameworks tell apart differently, each once, from strategies with many labels first."""
    found: list[Exhibit] = []
    seen: set[int] = set()
    for tensorflow, torch in reversed(list(_pairs(document))):
        images, ours = _predictions(grid, tensorflow)
        _, theirs = _predictions(grid, torch)
        for place in np.flatnonzero(ours != theirs):
            if len(found) < MOST and images[place] not in seen:
                seen.add(int(images[place]))
                said = {"TensorFlow": _name(grid, ours[place]), "PyTorch": _name(grid, theirs[place])}
                found.append(_exhibit(grid, tensorflow, int(images[place]), said))
    return found


def between_strategies(grid: Grid, document: StudyDocument) -> list[Exhibit]:
    """Test images that only one of transfer and training from scratch recognises; first seed, most labels."""
    best = document.cheapest[-1] if document.cheapest else None
    if best is None or BASELINE not in document.recipes or best.best == BASELINE:
        return []
    first = grid.common
    by_cell = {(each.framework, each.strategy, each.shots, each.seed): each for each in _of_first_mode(document)}
    for framework in first.frameworks:
        with_transfer = by_cell.get((framework, best.best, best.shots, first.first_seed))
        without = by_cell.get((framework, BASELINE, best.shots, first.first_seed))
        if with_transfer and without:
            break
    else:
        return []
    images, ours = _predictions(grid, with_transfer)
    _, theirs = _predictions(grid, without)
    labels = grid.data.labels[images]
    # Those that transfer loses are rarer, and come first.
    lost, won = (ours != labels) & (theirs == labels), (ours == labels) & (theirs != labels)
    places = [*np.flatnonzero(lost)[: MOST // 2], *np.flatnonzero(won)]
    return [
        _exhibit(
            grid,
            with_transfer,
            int(images[place]),
            {best.best: _name(grid, ours[place]), BASELINE: _name(grid, theirs[place])},
        )
        for place in places[:MOST]
    ]


def maps(grid: Grid, document: StudyDocument) -> list[Sight]:
    """Where the frameworks look when they see the first images of the strategy that is best with most labels."""
    best = document.cheapest[-1].best if document.cheapest else None
    found = {strategy: (cell, by_framework) for cell, strategy, by_framework in learning_curves.class_maps(grid)}
    if not found:
        return []
    strategy = best if best in found else next(iter(found))
    cell, by_framework = found[strategy]
    correlations = next(each.correlations for each in document.explanations if each.strategy == strategy)
    pixels, size = np.load(grid.grounds[strategy].pixels, mmap_mode="r"), grid.recipes[strategy].size
    sights = []
    for place, index in list(enumerate(cell.explain))[:SHOWN]:
        image = augmented(np.array(pixels[[index]]), size, None, None)[0]
        overlays = {TITLES[name]: gradcam.overlay(image, each[place]) for name, each in by_framework.items()}
        sights.append(
            Sight(
                pictures={"the picture": thumbnail(image)} | {who: thumbnail(each) for who, each in overlays.items()},
                true=_name(grid, grid.data.labels[index]),
                correlation=correlations[place],
                where=f"{strategy}, {cell.shots} a class, seed {cell.seed}",
            )
        )
    return sights


def confusion(document: StudyDocument) -> tuple[str, dict[str, list[list[int]]]]:
    """Of the best strategy with most labels: what it is, and confusion matrices by framework, all seeds together."""
    if not _of_first_mode(document):
        return "", {}
    last = _of_first_mode(document)[-1]
    strategy, shots = last.strategy, last.shots
    if document.cheapest:
        strategy, shots = document.cheapest[-1].best, document.cheapest[-1].shots
    summed: dict[str, Array] = {}
    for result in _of_first_mode(document):
        if (result.strategy, result.shots) == (strategy, shots):
            matrix = np.array(result.confusion_matrix)
            summed[result.framework] = summed.get(result.framework, 0) + matrix
    return f"{strategy}, {shots} images a class", {name: matrix.tolist() for name, matrix in summed.items()}


def thumbnail(pixels: Array) -> str:
    """A picture uint8 (H, W, 3) as a small JPEG in a data URI."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE))
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=80)
    return data_uri("image/jpeg", written.getvalue())


def _of_first_mode(document: StudyDocument) -> list[Result]:
    """The results that the verdict is about."""
    return [result for result in document.results if result.mode == document.modes[0]]


def _pairs(document: StudyDocument) -> Iterator[tuple[Result, Result]]:
    by_cell: dict[tuple[str, str, int], dict[str, Result]] = {}
    for result in _of_first_mode(document):
        by_cell.setdefault((result.strategy, str(result.shots), result.seed), {})[result.framework] = result
    for pair in by_cell.values():
        if len(pair) == 2:
            yield pair["tensorflow"], pair["torch"]


def _predictions(grid: Grid, result: Result) -> tuple[Array, Array]:
    """Indices of the test images, and the classes that were predicted."""
    drawn = grid.grounds[result.strategy].plans[result.shots, result.seed]
    return drawn.test, metrics.predictions(learning_curves.logits_of(grid, result))


def _exhibit(grid: Grid, result: Result, image: int, said: dict[str, str]) -> Exhibit:
    pixels = np.load(grid.grounds[result.strategy].pixels, mmap_mode="r")[image]
    where = f"{result.strategy}, {result.shots} a class, seed {result.seed}"
    return Exhibit(thumbnail(np.array(pixels)), _name(grid, grid.data.labels[image]), said, where)


def _name(grid: Grid, label: int) -> str:
    return "none" if label == metrics.NO_PREDICTION else grid.data.classes[label]

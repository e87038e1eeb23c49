"""Pictures worth a look: those on which the frameworks, or transfer and training from scratch, disagree."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from transfer_parity.shared.contract.batches import augmented
from transfer_parity.shared.contract.study_recipe import BASELINE
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.contract.wings import Framework, compared, wing
from transfer_parity.shared.evaluation import gradcam, metrics
from transfer_parity.shared.experiments import learning_curves
from transfer_parity.shared.experiments.study_document import Result, StudyDocument
from transfer_parity.shared.experiments.sweep import Sweep
from transfer_parity.shared.report.page import ActivationMapPicture, DisagreementPicture
from transfer_parity.shared.report.plots import data_uri

#: At most so many pictures of a kind.
MOST = 12
#: Of a picture, in pixels.
SIDE = 112
#: Test images whose class-activation maps are shown.
SHOWN = 6


def between_frameworks(sweep: Sweep, document: StudyDocument) -> list[DisagreementPicture]:
    """Test images that two frameworks tell apart differently, each once, from strategies with many labels first."""
    found: list[DisagreementPicture] = []
    two = compared(document.common.frameworks)
    if two is None:
        return found
    first, second = two
    seen: set[int] = set()
    for one, other in reversed(_pairs(document, first.identifier, second.identifier)):
        images, ours = _predictions(sweep, one)
        _, theirs = _predictions(sweep, other)
        for place in np.flatnonzero(ours != theirs):
            if len(found) < MOST and images[place] not in seen:
                seen.add(int(images[place]))
                predictions = {first.short: _name(sweep, ours[place]), second.short: _name(sweep, theirs[place])}
                found.append(_picture(sweep, one, int(images[place]), predictions))
    return found


def between_strategies(sweep: Sweep, document: StudyDocument) -> list[DisagreementPicture]:
    """Test images that only one of transfer and training from scratch recognises; first seed, most labels."""
    best = document.cheapest[-1] if document.cheapest else None
    if best is None or BASELINE not in document.recipes or best.best == BASELINE:
        return []
    first = sweep.common
    by_cell = {(each.framework, each.strategy, each.shots, each.seed): each for each in _of_first_mode(document)}
    for framework in first.frameworks:
        with_transfer = by_cell.get((framework, best.best, best.shots, first.first_seed))
        without = by_cell.get((framework, BASELINE, best.shots, first.first_seed))
        if with_transfer and without:
            break
    else:
        return []
    images, ours = _predictions(sweep, with_transfer)
    _, theirs = _predictions(sweep, without)
    labels = sweep.data.labels[images]
    # Those that transfer loses are rarer, and come first.
    lost, won = (ours != labels) & (theirs == labels), (ours == labels) & (theirs != labels)
    places = [*np.flatnonzero(lost)[: MOST // 2], *np.flatnonzero(won)]
    return [
        _picture(
            sweep,
            with_transfer,
            int(images[place]),
            {best.best: _name(sweep, ours[place]), BASELINE: _name(sweep, theirs[place])},
        )
        for place in places[:MOST]
    ]


def activation_maps(sweep: Sweep, document: StudyDocument) -> list[ActivationMapPicture]:
    """Where the frameworks look when they see the first images of the strategy that is best with most labels."""
    best = document.cheapest[-1].best if document.cheapest else None
    found = {strategy: (run, by_framework) for run, strategy, by_framework in learning_curves.class_maps(sweep)}
    if not found:
        return []
    strategy = best if best in found else next(iter(found))
    run, by_framework = found[strategy]
    correlations = next(each.correlations for each in document.explanations if each.strategy == strategy)
    pixels, size = np.load(sweep.inputs.strategies[strategy].pixels, mmap_mode="r"), sweep.recipes[strategy].size
    pictures = []
    for place, index in list(enumerate(run.explain))[:SHOWN]:
        image = augmented(np.array(pixels[[index]]), size, None, None)[0]
        overlays = {wing(name).title: gradcam.overlay(image, each[place]) for name, each in by_framework.items()}
        pictures.append(
            ActivationMapPicture(
                pictures={"the picture": thumbnail(image)} | {who: thumbnail(each) for who, each in overlays.items()},
                true=_name(sweep, sweep.data.labels[index]),
                correlation=correlations[place],
                where=f"{strategy}, {run.shots} a class, seed {run.seed}",
            )
        )
    return pictures


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


def _pairs(document: StudyDocument, first: Framework, second: Framework) -> list[tuple[Result, Result]]:
    """Results of two frameworks for the same strategy, shots and seed."""
    by_cell: dict[tuple[str, str, int], dict[Framework, Result]] = {}
    for result in _of_first_mode(document):
        by_cell.setdefault((result.strategy, str(result.shots), result.seed), {})[result.framework] = result
    return [(found[first], found[second]) for found in by_cell.values() if first in found and second in found]


def _predictions(sweep: Sweep, result: Result) -> tuple[Array, Array]:
    """Indices of the test images, and the classes that were predicted."""
    drawn = sweep.inputs.strategies[result.strategy].plans[result.shots, result.seed]
    return drawn.test, metrics.predictions(learning_curves.logits_of(sweep, result))


def _picture(sweep: Sweep, result: Result, image: int, predictions: dict[str, str]) -> DisagreementPicture:
    pixels = np.load(sweep.inputs.strategies[result.strategy].pixels, mmap_mode="r")[image]
    where = f"{result.strategy}, {result.shots} a class, seed {result.seed}"
    true = _name(sweep, sweep.data.labels[image])
    return DisagreementPicture(thumbnail(np.array(pixels)), true, predictions, where)


def _name(sweep: Sweep, label: int) -> str:
    return "none" if label == metrics.NO_PREDICTION else sweep.data.classes[label]

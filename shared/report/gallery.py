"""Pictures worth a look: on which the frameworks, or transfer and training from scratch, disagree, and mistakes.

They are chosen by confidence, the difference of the two largest probabilities, and come from all classes in turn.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from PIL import Image

from transfer_parity.shared.contract.batches import augmented
from transfer_parity.shared.contract.study_recipe import BASELINE
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.contract.wings import compared, wing
from transfer_parity.shared.evaluation import gradcam, metrics
from transfer_parity.shared.experiments import learning_curves
from transfer_parity.shared.experiments.study_document import Result, StudyDocument
from transfer_parity.shared.experiments.sweep import Sweep
from transfer_parity.shared.report.page import ActivationMapPicture, Confusion, Origin, PredictedPicture, Prediction
from transfer_parity.shared.report.plots import data_uri

#: At most so many pictures of a kind.
MOST = 20
#: Of a picture, in pixels.
SIDE = 112
#: Test images whose class-activation maps are shown.
SHOWN = 6

Item = TypeVar("Item")
#: Which images are wanted, bool (N,): from the classes that were predicted, int64 (N,) each, and the true ones.
Wanted = Callable[[Sequence[Array], Array], Array]


@dataclass(frozen=True)
class Answers:
    """What was predicted of N images.

    Attributes:
        predicted: classes, int64 (N,).
        probabilities: of those classes, (N,), 0 to 1; NaN without a prediction.
        margins: how much larger that is than the second largest, (N,); 0 without a prediction.
    """

    predicted: Array
    probabilities: Array
    margins: Array


@dataclass(frozen=True)
class _Candidate:
    """An image, and what each of a group of runs makes of it."""

    image: int
    true: int
    margin: float
    first: Result
    predicted: tuple[int, ...]
    probabilities: tuple[float, ...]


def of_page(sweep: Sweep, document: StudyDocument) -> dict[str, list[PredictedPicture]]:
    """All galleries of ``report.html``, by title."""
    alone = len(document.common.frameworks) == 1
    return {
        "On which the frameworks disagree": between_frameworks(sweep, document),
        "Mistakes" if alone else "Mistakes on which the frameworks agree": mistakes(sweep, document),
        "On which transfer and training from scratch disagree": between_strategies(sweep, document),
    }


def between_frameworks(sweep: Sweep, document: StudyDocument) -> list[PredictedPicture]:
    """Test images that two frameworks tell apart differently, each once; those of which both are most sure."""
    if compared(document.common.frameworks) is None:
        return []
    groups = _by_framework(document)
    return _pictures(sweep, groups, lambda predicted, labels: predicted[0] != predicted[1])


def mistakes(sweep: Sweep, document: StudyDocument) -> list[PredictedPicture]:
    """Test images that both frameworks take for the same wrong class, each once; those of which both are most sure.

    With one framework, those that it takes for a wrong class.
    """

    def wanted(predicted: Sequence[Array], labels: Array) -> Array:
        same = (predicted[0] == predicted[-1]) & (predicted[0] != metrics.NO_PREDICTION)
        return np.asarray(same & (predicted[0] != labels))

    return _pictures(sweep, _by_framework(document), wanted)


def between_strategies(sweep: Sweep, document: StudyDocument) -> list[PredictedPicture]:
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
            group = {best.best: with_transfer, BASELINE: without}
            break
    else:
        return []
    # Those that transfer loses are rarer, and come first.
    lost = _pictures(sweep, [group], lambda predicted, labels: (predicted[0] != labels) & (predicted[1] == labels))
    won = _pictures(sweep, [group], lambda predicted, labels: (predicted[0] == labels) & (predicted[1] != labels))
    return [*lost[: MOST // 2], *won][:MOST]


def activation_maps(sweep: Sweep, document: StudyDocument) -> list[ActivationMapPicture]:
    """Where the frameworks look when they see images of all classes in turn; of the best strategy with most labels."""
    best = document.cheapest[-1].best if document.cheapest else None
    found = {strategy: (run, by_framework) for run, strategy, by_framework in learning_curves.class_maps(sweep)}
    if not found:
        return []
    strategy = best if best in found else next(iter(found))
    run, by_framework = found[strategy]
    correlations = next(each.correlations for each in document.explanations if each.strategy == strategy)
    pixels, size = np.load(sweep.inputs.strategies[strategy].pixels, mmap_mode="r"), sweep.recipes[strategy].size
    pictures = []
    for place, index in in_turn(list(enumerate(run.explain)), lambda pair: int(sweep.data.labels[pair[1]]))[:SHOWN]:
        image = augmented(np.array(pixels[[index]]), size, None, None)[0]
        label = int(sweep.data.labels[index])
        true = _name(sweep, label)
        shown, alts = {"the picture": thumbnail(image)}, {"the picture": f"Test image of class {true}"}
        for name, each in by_framework.items():
            title = wing(name).title
            shown[title] = thumbnail(gradcam.overlay(image, each[place]))
            alts[title] = f"What speaks for {true} in {title}: brightest {brightest(each[place])}"
        origin = Origin(strategy, run.shots, run.seed)
        pictures.append(ActivationMapPicture(shown, alts, true, label, correlations[place], origin))
    return pictures


def brightest(class_map: Array) -> str:
    """Where a map (h, w) is largest, in words."""
    if not np.isfinite(class_map).all() or np.ptp(class_map) == 0:
        return "nowhere"
    row, column = np.unravel_index(int(np.argmax(class_map)), class_map.shape)
    thirds = [int(3 * (at + 0.5) / size) for at, size in zip((row, column), class_map.shape, strict=True)]
    words = [("at the top", "", "at the bottom")[thirds[0]], ("left", "", "right")[thirds[1]]]
    if words[0] and words[1]:
        return f"{words[0]} {words[1]}"
    return words[0] or (f"on the {words[1]}" if words[1] else "in the middle")


def confusion(document: StudyDocument) -> Confusion | None:
    """Of the best strategy with most labels, all seeds together; None if nothing is finished."""
    if not _of_first_mode(document):
        return None
    last = _of_first_mode(document)[-1]
    strategy, shots = last.strategy, last.shots
    if document.cheapest:
        strategy, shots = document.cheapest[-1].best, document.cheapest[-1].shots
    summed: dict[str, Array] = {}
    for result in _of_first_mode(document):
        if (result.strategy, result.shots) == (strategy, shots):
            matrix = np.array(result.confusion_matrix)
            summed[result.framework] = summed.get(result.framework, 0) + matrix
    return Confusion(strategy, shots, {name: matrix.tolist() for name, matrix in summed.items()})


def thumbnail(pixels: Array) -> str:
    """A picture uint8 (H, W, 3) as a small JPEG in a data URI."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE))
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=80)
    return data_uri("image/jpeg", written.getvalue())


def in_turn(items: Iterable[Item], key: Callable[[Item], Hashable]) -> list[Item]:
    """The first of every group, then the second of every group, and so on; groups in the order of their first items."""
    groups: dict[Hashable, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    longest = max(map(len, groups.values()), default=0)
    return [group[turn] for turn in range(longest) for group in groups.values() if turn < len(group)]


def answers(logits: Array) -> Answers:
    """What logits (N, classes) say, and how surely."""
    predicted = metrics.predictions(logits)
    finite = predicted != metrics.NO_PREDICTION
    probabilities = metrics.probabilities(np.where(finite[:, None], logits, 0))
    largest = np.sort(probabilities, axis=1)[:, ::-1]
    second = largest[:, 1] if largest.shape[1] > 1 else np.zeros(len(largest))
    return Answers(predicted, np.where(finite, largest[:, 0], np.nan), np.where(finite, largest[:, 0] - second, 0.0))


def _of_first_mode(document: StudyDocument) -> list[Result]:
    """The results that the verdict is about."""
    return [result for result in document.results if result.mode == document.modes[0]]


def _by_framework(document: StudyDocument) -> list[dict[str, Result]]:
    """Results of the frameworks that are compared, or of the one there is, for the same strategy, shots and seed."""
    two = compared(document.common.frameworks) or (wing(document.common.frameworks[0]),)
    by_cell: dict[tuple[str, str, int], dict[str, Result]] = {}
    for result in _of_first_mode(document):
        by_cell.setdefault((result.strategy, str(result.shots), result.seed), {})[result.framework] = result
    wanted = [each.identifier for each in two]
    whole = [found for found in by_cell.values() if all(name in found for name in wanted)]
    return [{each.short: found[each.identifier] for each in two} for found in whole]


def _pictures(sweep: Sweep, groups: Sequence[Mapping[str, Result]], wanted: Wanted) -> list[PredictedPicture]:
    """At most ``MOST`` pictures that groups of runs answer in the wanted way, each once.

    All classes come in turn, within a class all strategies in turn, and within these the surest first.

    Args:
        sweep: with the cells.
        groups: runs of the same test images, by whose they are; the same names in all of them.
        wanted: which images.
    """
    if sweep.data.tasks:
        # An image has several answers, which no picture here has room for.
        return []
    found: dict[int, tuple[_Candidate, Mapping[str, Result]]] = {}
    for group in groups:
        for candidate in _candidates(sweep, tuple(group.values()), wanted):
            known = found.get(candidate.image)
            if known is None or candidate.margin > known[0].margin:
                found[candidate.image] = (candidate, group)
    surest = sorted(found.values(), key=lambda pair: (-pair[0].margin, pair[0].image))
    # Within a class, strategies in turn too: a probability means less for one than for another.
    by_strategy = in_turn(surest, lambda pair: (pair[0].true, pair[0].first.strategy))
    chosen = in_turn(by_strategy, lambda pair: pair[0].true)[:MOST]
    return [_picture(sweep, candidate, list(group)) for candidate, group in chosen]


def _candidates(sweep: Sweep, results: tuple[Result, ...], wanted: Wanted) -> Iterable[_Candidate]:
    first = results[0]
    images = sweep.inputs.strategies[first.strategy].plans[first.shots, first.seed].test
    labels = sweep.data.labels[images]
    told = [answers(learning_curves.logits_of(sweep, result)) for result in results]
    margins = np.min([each.margins for each in told], axis=0)
    for place in np.flatnonzero(wanted([each.predicted for each in told], labels)):
        yield _Candidate(
            image=int(images[place]),
            true=int(labels[place]),
            margin=float(margins[place]),
            first=first,
            predicted=tuple(int(each.predicted[place]) for each in told),
            probabilities=tuple(float(each.probabilities[place]) for each in told),
        )


def _picture(sweep: Sweep, found: _Candidate, who: Sequence[str]) -> PredictedPicture:
    result = found.first
    pixels = np.load(sweep.inputs.strategies[result.strategy].pixels, mmap_mode="r")[found.image]
    predictions = {
        name: Prediction(_name(sweep, label), None if np.isnan(probability) else probability)
        for name, label, probability in zip(who, found.predicted, found.probabilities, strict=True)
    }
    classes = sorted({found.true, *found.predicted} - {metrics.NO_PREDICTION})
    origin = Origin(result.strategy, result.shots, result.seed)
    return PredictedPicture(thumbnail(np.array(pixels)), _name(sweep, found.true), predictions, origin, tuple(classes))


def _name(sweep: Sweep, label: int) -> str:
    return "none" if label == metrics.NO_PREDICTION else sweep.data.classes[label]

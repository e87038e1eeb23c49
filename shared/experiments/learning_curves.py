"""What the finished cells of a study say: learning curves, gains, and whether the frameworks agree on them."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transfer_parity.shared.contract import results
from transfer_parity.shared.contract.framework_defaults import Mode
from transfer_parity.shared.contract.jobs import Cell
from transfer_parity.shared.contract.recipe import Framework, Shots
from transfer_parity.shared.contract.study_recipe import BASELINE
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.evaluation import agreement, gradcam, metrics, significance
from transfer_parity.shared.evaluation.agreement import Verdict
from transfer_parity.shared.experiments.comparison_document import Environment
from transfer_parity.shared.experiments.study_document import (
    Cheapest,
    Estimate,
    Explanation,
    Judgement,
    Point,
    Result,
    StudyDocument,
)
from transfer_parity.shared.experiments.sweep import Arm, Done, Grid
from transfer_parity.shared.experiments.trainings import Training

#: From the best to the worst.
VERDICTS: tuple[Verdict, ...] = ("identical", "equivalent", "inconclusive", "different")
#: A strategy is as good as the best if it comes within one point of it.
AS_GOOD = 0.01


@dataclass(frozen=True)
class Measured:
    """A finished cell with what was made of it; ``correct`` says which test images it recognises, (N,)."""

    result: Result
    side: agreement.Side
    labels: Array
    correct: Array


def document(grid: Grid) -> StudyDocument:
    """Everything that is finished, as one document."""
    cells = [_measured(grid, done) for done in grid.done()]
    modes = list(dict.fromkeys(branch.arm.mode for branch in grid.branches))
    judgements = _judgements(grid, cells)
    by_mode = {mode: [each for each in judgements if each.mode == mode] for mode in modes}
    verdict, sentence = _verdict(by_mode[modes[0]])
    points = list(_points(grid, [cell.result for cell in cells]))
    return StudyDocument(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        recipes=grid.recipes,
        modes=modes,
        own_ways=_own_ways(grid),
        # What they ran on is not kept with the cells, which may come from several runs.
        environment=Environment.here(grid.versions, grid.threads, {}, grid.load),
        classes=list(grid.data.classes),
        images=len(grid.data),
        cells=grid.size,
        results=[cell.result for cell in cells],
        points=points,
        judgements=judgements,
        cheapest=list(_cheapest(grid, [point for point in points if point.mode == modes[0]])),
        explanations=list(_explanations(grid)),
        verdict=verdict,
        verdict_sentence=sentence,
        shipped_sentence=_as_shipped(by_mode[modes[1]]) if len(modes) > 1 else None,
    )


def _own_ways(grid: Grid) -> dict[str, dict[Framework, list[str]]]:
    """By strategy, what each framework does in its own way: switches, and recipe keys that get another value."""
    found: dict[str, dict[Framework, list[str]]] = {}
    for branch in grid.branches:
        if branch.arm.mode == "as shipped":
            before = grid.recipes[branch.arm.strategy].model_dump()
            changed = [key for key, value in branch.arm.way.recipe.model_dump().items() if value != before[key]]
            ways = sorted({*changed, *branch.arm.way.switches})
            found.setdefault(branch.arm.strategy, {})[branch.arm.framework] = ways
    return found


def _as_shipped(judgements: Sequence[Judgement]) -> str:
    """What becomes of the agreement when each framework has its own way."""
    _, sentence = _verdict(judgements)
    differences = [
        (each.agreement.accuracy_difference, each)
        for each in judgements
        if each.agreement.accuracy_difference is not None
    ]
    if not differences:
        return f"As shipped: {sentence[0].lower()}{sentence[1:]}"
    largest, where = max(differences, key=lambda pair: abs(pair[0]))
    return (
        f"As shipped: {sentence[0].lower()}{sentence[1:]} The largest difference of accuracy, TensorFlow minus "
        f"PyTorch, is {100 * largest:+.1f} points ({where.strategy}, {where.shots})."
    )


def trainings(grid: Grid, document: StudyDocument) -> Iterator[Training]:
    """The training runs of a study, for TensorBoard."""
    for result in document.results:
        losses = np.load(grid.folder / result.folder / "losses.npy", allow_pickle=False)
        plan = grid.grounds[result.strategy].plans[result.shots, result.seed]
        # Without the digest, which is there to tell apart what lies in one folder.
        name = Path(result.folder).name.rpartition("-")[0]
        yield Training(name, losses.tolist(), plan.learning_rates.tolist(), result.accuracy)


def logits_of(grid: Grid, result: Result) -> Array:
    """Test logits (N, classes) of a finished cell."""
    logits: Array = np.load(grid.folder / result.folder / "logits.npy", allow_pickle=False)
    return logits


def class_maps(grid: Grid) -> Iterator[tuple[Cell, str, dict[Framework, Array]]]:
    """Cells that were asked for class-activation maps and their strategies, with both frameworks' maps (n, h, w)."""
    found: dict[tuple[str, str], dict[Framework, Array]] = {}
    cells: dict[tuple[str, str], Cell] = {}
    for done in grid.done():
        if done.cell.explain:
            key = (done.arm.strategy, done.cell.id)
            cells[key] = done.cell
            maps = np.load(done.folder / "explained.npy", allow_pickle=False)
            found.setdefault(key, {})[done.arm.framework] = maps
    for (strategy, name), maps in found.items():
        if len(maps) == 2:
            yield cells[strategy, name], strategy, maps


def _explanations(grid: Grid) -> Iterator[Explanation]:
    for cell, strategy, maps in class_maps(grid):
        pairs = zip(maps["tensorflow"], maps["torch"], strict=True)
        correlations = [gradcam.correlation(ours, theirs) for ours, theirs in pairs]
        yield Explanation(
            strategy=strategy,
            shots=cell.shots,
            seed=cell.seed,
            images=list(cell.explain),
            correlations=[each if np.isfinite(each) else None for each in correlations],
        )


def _measured(grid: Grid, done: Done) -> Measured:
    arm = done.arm
    drawn = grid.grounds[arm.strategy].plans[done.cell.shots, done.cell.seed]
    labels = grid.data.labels[drawn.test]
    found = results.finished(done.folder)
    result = Result(
        **agreement.measured(arm.framework, arm.strategy, done.cell, drawn, labels, found),
        mode=arm.mode,
        seconds=sum(found.said.phases[phase] for phase in ("features", "training", "inference")),
        folder=str(done.folder.relative_to(grid.folder)),
    )
    side = agreement.Side(found.logits, found.losses, found.said.weights_digest)
    return Measured(result, side, labels, metrics.predictions(found.logits) == labels)


def _points(grid: Grid, results: Sequence[Result]) -> Iterator[Point]:
    by_cell = {(each.mode, each.framework, each.strategy, each.shots, each.seed): each for each in results}
    for branch in grid.branches:
        arm, recipe = branch.arm, grid.recipes[branch.arm.strategy]
        for shots in recipe.shots:
            keys = [(arm.mode, arm.framework, arm.strategy, shots, seed) for seed in recipe.seed_list]
            found = [by_cell[key] for key in keys if key in by_cell]
            if found:
                yield _point(arm, shots, found, _gains(by_cell, found))


def _gains(by_cell: dict[tuple[Mode, Framework, str, Shots, int], Result], found: Sequence[Result]) -> list[float]:
    """Accuracy minus the baseline's, for every seed that both have finished."""
    if found[0].strategy == BASELINE:
        return []
    pairs = ((each, by_cell.get((each.mode, each.framework, BASELINE, each.shots, each.seed))) for each in found)
    return [each.accuracy - baseline.accuracy for each, baseline in pairs if baseline is not None]


def _point(arm: Arm, shots: Shots, found: Sequence[Result], gains: Sequence[float]) -> Point:
    def mean(name: str) -> float:
        return float(np.mean([getattr(each, name) for each in found]))

    finite = all(each.log_loss is not None for each in found)
    return Point(
        framework=arm.framework,
        strategy=arm.strategy,
        mode=arm.mode,
        shots=shots,
        seeds=len(found),
        accuracy=estimate([each.accuracy for each in found]),
        macro_precision=mean("macro_precision"),
        macro_recall=mean("macro_recall"),
        macro_f1=mean("macro_f1"),
        log_loss=mean("log_loss") if finite else None,
        calibration_error=mean("calibration_error") if finite else None,
        seconds=mean("seconds"),
        gain=estimate(gains) if gains else None,
    )


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of independent values, with its interval if there is more than one."""
    array = np.array(values)
    return Estimate(mean=float(array.mean()), interval=significance.mean_interval(array) if len(values) > 1 else None)


def _judgements(grid: Grid, cells: Sequence[Measured]) -> list[Judgement]:
    """One for every mode, strategy and number of shots, with p-values that are corrected for all of them."""
    groups: dict[tuple[Mode, str, Shots], dict[int, dict[Framework, Measured]]] = {}
    for cell in cells:
        result = cell.result
        seeds = groups.setdefault((result.mode, result.strategy, result.shots), {})
        seeds.setdefault(result.seed, {})[result.framework] = cell
    margin = grid.common.margin
    judged, tests, owners = [], [], []
    for number, ((mode, strategy, shots), seeds) in enumerate(groups.items()):
        pairs = {seed: pair for seed, pair in seeds.items() if len(pair) == 2}
        agreed, differences = agreement.agree(
            (
                agreement.Paired(seed, pair["tensorflow"].labels, pair["tensorflow"].side, pair["torch"].side)
                for seed, pair in pairs.items()
            ),
            margin,
        )
        verdict, sentence = agreement.judge(agreed, differences, margin)
        judged.append((mode, strategy, shots, verdict, sentence, agreed))
        for pair in pairs.values():
            tests.append(significance.exact_mcnemar(pair["tensorflow"].correct, pair["torch"].correct))
            owners.append(number)
    corrected = significance.holm(tests)
    return [
        Judgement(
            strategy=strategy,
            mode=mode,
            shots=shots,
            verdict=verdict,
            sentence=sentence,
            agreement=agreed,
            p_value=min((p for p, owner in zip(corrected, owners, strict=True) if owner == number), default=None),
        )
        for number, (mode, strategy, shots, verdict, sentence, agreed) in enumerate(judged)
    ]


def _verdict(judgements: Sequence[Judgement]) -> tuple[Verdict, str]:
    """The worst of all, in one sentence."""
    compared = [each for each in judgements if each.verdict != "not compared"]
    if not compared:
        return "not compared", "Not compared: there are no cells that both frameworks have finished."
    counts = {verdict: sum(each.verdict == verdict for each in compared) for verdict in VERDICTS}
    worst = [verdict for verdict in VERDICTS if counts[verdict]][-1]
    parts = [f"{count} {verdict}" for verdict, count in counts.items() if count]
    predictions = sum(each.agreement.predictions_compared for each in compared)
    identical = sum(each.agreement.predictions_identical for each in compared)
    return worst, (
        f"{worst.capitalize()}: of {len(compared)} combinations of strategy and shots, {', '.join(parts)}; "
        f"{identical} of {predictions} test predictions are the same in both frameworks."
    )


def _cheapest(grid: Grid, points: Sequence[Point]) -> Iterator[Cheapest]:
    """By number of shots, means over frameworks. Needs at least two strategies to choose from."""
    for shots in grid.common.shots:
        here: dict[str, list[Point]] = {}
        for point in points:
            if point.shots == shots:
                here.setdefault(point.strategy, []).append(point)
        if len(here) < 2:
            continue
        accuracy = {name: float(np.mean([each.accuracy.mean for each in found])) for name, found in here.items()}
        seconds = {name: float(np.mean([each.seconds for each in found])) for name, found in here.items()}
        best = max(accuracy, key=lambda name: accuracy[name])
        as_good = [name for name in accuracy if accuracy[name] >= accuracy[best] - AS_GOOD]
        yield Cheapest(shots=shots, best=best, cheapest=min(as_good, key=lambda name: seconds[name]))

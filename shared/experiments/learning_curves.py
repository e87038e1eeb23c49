"""What the finished cells of a study say: learning curves, gains, and whether the frameworks agree on them."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence

import numpy as np

from transfer_parity.shared.contract import artifacts, results
from transfer_parity.shared.contract.framework_defaults import Mode
from transfer_parity.shared.contract.jobs import RunSpec
from transfer_parity.shared.contract.recipe import Framework, Shots
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.contract.wings import compared
from transfer_parity.shared.evaluation import agreement, gradcam, metrics, significance
from transfer_parity.shared.evaluation.agreement import Verdict
from transfer_parity.shared.experiments import advice, conditions, points, short_check, standing
from transfer_parity.shared.experiments.advice import MeasuredCell
from transfer_parity.shared.experiments.arms import ArmKey
from transfer_parity.shared.experiments.comparison_document import Environment, measured
from transfer_parity.shared.experiments.study_document import (
    Explanation,
    Judgement,
    Result,
    RoundingCheck,
    StudyDocument,
    Tuning,
)
from transfer_parity.shared.experiments.sweep import Sweep
from transfer_parity.shared.experiments.sweep_inputs import FinishedCell
from transfer_parity.shared.experiments.trainings import Training

#: From the best to the worst.
VERDICTS: tuple[Verdict, ...] = ("identical", "equivalent", "inconclusive", "different computation", "different")


def document(sweep: Sweep, rounding: RoundingCheck | None = None, tuning: Tuning | None = None) -> StudyDocument:
    """Everything that is finished, as one document, with what a check of its rounding found, and how it was tuned."""
    cells = [_measured(sweep, cell) for cell in sweep.finished()]
    modes = list(dict.fromkeys(arm.key.mode for arm in sweep.arms))
    judgements = _judgements(sweep, cells)
    by_mode = {mode: [each for each in judgements if each.mode == mode] for mode in modes}
    verdict, sentence = _verdict(by_mode[modes[0]])
    first = [cell for cell in cells if cell.result.mode == modes[0]]
    transductive = [name for name, recipe in sweep.recipes.items() if recipe.method.transductive]
    return StudyDocument(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        recipes=sweep.recipes,
        modes=modes,
        transductive=transductive,
        own_ways=_changed_when_shipped(sweep),
        # What they ran on is not kept with the cells, which may come from several runs.
        environment=Environment.here(sweep.inputs.versions, sweep.inputs.threads, {}, sweep.inputs.load),
        classes=list(sweep.data.classes),
        images=len(sweep.data),
        cells=sweep.size,
        results=[cell.result for cell in cells],
        points=list(points.points(sweep, cells)),
        judgements=judgements,
        cheapest=list(advice.cheapest(first, sweep.common, transductive)),
        conditions=conditions.conditions(sweep.recipes),
        tuning=tuning,
        order=standing.order(first, sweep.common),
        new_images_sentence=points.new_images_sentence(sweep),
        at_chance=list(advice.no_better_than_chance(first)),
        explanations=list(_explanations(sweep)),
        rounding=rounding,
        verdict=verdict,
        verdict_sentence=sentence,
        shipped_sentence=_as_shipped(by_mode[modes[1]], sweep.common.frameworks) if len(modes) > 1 else None,
    )


def _changed_when_shipped(sweep: Sweep) -> dict[str, dict[Framework, list[str]]]:
    """By strategy, what each framework does by itself: switches, and recipe keys that get another value."""
    found: dict[str, dict[Framework, list[str]]] = {}
    for arm in sweep.arms:
        if arm.key.mode == "as shipped":
            before, after = sweep.recipes[arm.key.strategy].model_dump(), arm.configuration.recipe.model_dump()
            changed = [key for key, value in after.items() if value != before[key]]
            names = sorted({*changed, *arm.configuration.switches})
            found.setdefault(arm.key.strategy, {})[arm.key.framework] = names
    return found


def _as_shipped(judgements: Sequence[Judgement], frameworks: Sequence[Framework]) -> str:
    """What becomes of the agreement when each framework does as it does by itself."""
    _, sentence = _verdict(judgements)
    differences = [
        (each.agreement.accuracy_difference, each)
        for each in judgements
        if each.agreement.accuracy_difference is not None
    ]
    two = compared(frameworks)
    if two is None or not differences:
        return f"As shipped: {sentence[0].lower()}{sentence[1:]}"
    largest, where = max(differences, key=lambda pair: abs(pair[0]))
    return (
        f"As shipped: {sentence[0].lower()}{sentence[1:]} The largest difference of accuracy, {two[0].short} minus "
        f"{two[1].short}, is {100 * largest:+.1f} points ({where.strategy}, {where.shots})."
    )


def trainings(sweep: Sweep, document: StudyDocument) -> Iterator[Training]:
    """The training runs of a study, for TensorBoard."""
    for result in document.results:
        losses = np.load(sweep.folder / result.folder / artifacts.LOSSES, allow_pickle=False)
        plan = sweep.inputs.strategies[result.strategy].plans[result.shots, result.seed]
        label = ArmKey(result.framework, result.strategy, result.mode).label
        name = artifacts.cell_name(result.framework, label, result.shots, result.seed)
        yield Training(name, losses.tolist(), plan.learning_rates.tolist(), result.accuracy)


def logits_of(sweep: Sweep, result: Result) -> Array:
    """Test logits (N, classes) of a finished cell."""
    logits: Array = np.load(sweep.folder / result.folder / artifacts.LOGITS, allow_pickle=False)
    return logits


def class_maps(sweep: Sweep) -> Iterator[tuple[RunSpec, str, dict[Framework, Array]]]:
    """Cells that were asked for class-activation maps and their strategies, with all frameworks' maps (n, h, w)."""
    found: dict[tuple[str, str], dict[Framework, Array]] = {}
    runs: dict[tuple[str, str], RunSpec] = {}
    for cell in sweep.finished():
        if cell.run.explain:
            key = (cell.arm.key.strategy, cell.run.id)
            runs[key] = cell.run
            maps = np.load(cell.folder / artifacts.MAPS, allow_pickle=False)
            found.setdefault(key, {})[cell.arm.key.framework] = maps
    two = compared(sweep.common.frameworks)
    for (strategy, name), maps in found.items():
        if two and all(wing.identifier in maps for wing in two):
            yield runs[strategy, name], strategy, maps


def _explanations(sweep: Sweep) -> Iterator[Explanation]:
    two = compared(sweep.common.frameworks)
    if two is None:
        return
    for run, strategy, maps in class_maps(sweep):
        first, second = (maps[wing.identifier] for wing in two)
        correlations = [gradcam.correlation(one, other) for one, other in zip(first, second, strict=True)]
        yield Explanation(
            strategy=strategy,
            shots=run.shots,
            seed=run.seed,
            images=list(run.explain),
            correlations=[each if np.isfinite(each) else None for each in correlations],
        )


def _measured(sweep: Sweep, cell: FinishedCell) -> MeasuredCell:
    key, run = cell.arm.key, cell.run
    drawn = sweep.inputs.strategies[key.strategy].plans[run.shots, run.seed]
    labels = sweep.data.labels[drawn.test]
    found = results.finished(cell.folder)
    # Features that another cell computed and kept: without it, this one would have had to.
    phases, alone = found.result.phases, found.result.features_alone
    result = Result(
        **measured(key.framework, key.strategy, run, drawn, sweep.data, found),
        mode=key.mode,
        seconds=(phases["features"] if alone is None else alone) + phases["training"] + phases["inference"],
        folder=str(cell.folder.relative_to(sweep.folder)),
    )
    side = agreement.Side(found.logits, found.losses, found.result.weights_digest, found.nearest)
    right = metrics.correct(found.logits, labels, sweep.data.task_sizes)
    return MeasuredCell(result, side, labels, answered(drawn.test, labels), right)


def answered(images: Array, labels: Array) -> Array:
    """The image of each answer that is judged; with several tasks an image has one for each label that is known."""
    if labels.ndim == 1:
        return images
    owners: Array = np.broadcast_to(images[:, None], labels.shape)[labels >= 0]
    return owners


def _judgements(sweep: Sweep, cells: Sequence[MeasuredCell]) -> list[Judgement]:
    """One for every mode, strategy and number of shots, with p-values that are corrected for all of them."""
    groups: dict[tuple[Mode, str, Shots], dict[int, dict[Framework, MeasuredCell]]] = {}
    for cell in cells:
        result = cell.result
        seeds = groups.setdefault((result.mode, result.strategy, result.shots), {})
        seeds.setdefault(result.seed, {})[result.framework] = cell
    margin, two = sweep.common.margin, compared(sweep.common.frameworks)
    first, second = (wing.identifier for wing in two) if two else ("", "")
    judged, tests, owners = [], [], []
    for number, ((mode, strategy, shots), seeds) in enumerate(groups.items()):
        pairs = {seed: pair for seed, pair in seeds.items() if first in pair and second in pair}
        recipe = sweep.recipes[strategy]
        agreed, differences = agreement.agree(
            (
                agreement.Paired(
                    seed, pair[first].labels, pair[first].side, pair[second].side, shots, sweep.data.task_sizes
                )
                for seed, pair in pairs.items()
            ),
            margin,
            [cell.result.diverged for pair in seeds.values() for cell in pair.values()],
            short_check.rounding(recipe, False, None) if mode == "matched" else None,
        )
        ladder = f"--backbone {recipe.backbone} --strategies {strategy} --heads {recipe.head}"
        verdict, sentence = agreement.judge(agreed, differences, margin, two, ladder)
        judged.append((mode, strategy, shots, verdict, sentence, agreed))
        for pair in pairs.values():
            tests.append(significance.exact_mcnemar(pair[first].correct, pair[second].correct))
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
    diverged = sum(sum(each.agreement.diverged.values()) for each in compared)
    worse = f" Training diverged in {diverged} of its runs; lower the learning rate." if diverged else ""
    predictions = sum(each.agreement.predictions_compared for each in compared)
    if not predictions:
        # One framework alone, or no pair of cells is finished.
        return worst, f"{worst.capitalize()}: there is nothing to compare.{worse}"
    identical = sum(each.agreement.predictions_identical for each in compared)
    return worst, (
        f"{worst.capitalize()}: of {len(compared)} combinations of strategy and shots, {', '.join(parts)}; "
        f"{identical} of {predictions} test predictions are the same in both frameworks.{worse}"
    )

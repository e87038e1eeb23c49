"""Why two implementations of one recipe differ: each default by itself, and how far they add up."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from transfer_parity.shared.contract import framework_defaults, results
from transfer_parity.shared.contract.framework_defaults import Default
from transfer_parity.shared.contract.recipe import Framework, Recipe
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.contract.wings import compared
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput, WorkerFailed, did_you_mean
from transfer_parity.shared.core.progress import Progress
from transfer_parity.shared.data.folders import Dataset
from transfer_parity.shared.evaluation import metrics, ordering, significance
from transfer_parity.shared.evaluation.ordering import SeedRun
from transfer_parity.shared.experiments import learning_curves
from transfer_parity.shared.experiments.arms import Arm, ArmKey, matched, shipped_arms, single_default
from transfer_parity.shared.experiments.attribution_document import Attributed, AttributionDocument, Effect, Gap
from transfer_parity.shared.experiments.comparison_document import Environment
from transfer_parity.shared.experiments.study_document import Estimate
from transfer_parity.shared.experiments.sweep import Sweep
from transfer_parity.shared.runtime import resolve_weights


@dataclass(frozen=True)
class Predicted:
    """What a finished cell predicted.

    Attributes:
        images: its test images, as indices of the data set, (N,).
        classes: that it predicted, (N,).
        correct: whether they are right, (N,).
    """

    images: Array
    classes: Array
    correct: Array


#: Of an arm's finished cells, by number of shots and seed.
Predictions = dict[tuple[str, int], Predicted]


class Attribution:
    """The arms of an attribution, and what came of them.

    Attributes:
        defaults: what is tried, by strategy.
        left_out: defaults that cannot be tried, and why.
    """

    def __init__(self, cache: Cache, threads: int, progress: Progress, chosen: Collection[str] | None = None) -> None:
        self.cache, self.threads, self.progress, self.chosen = cache, threads, progress, chosen
        self.defaults: dict[str, list[Default]] = {}
        self.left_out: dict[str, str] = {}

    def arms(self, recipes: Mapping[str, Recipe], data: Dataset) -> list[Arm]:
        """Matched, every default by itself, and as shipped.

        Raises:
            BadInput: a default was chosen that there is not, or that makes no difference to any of the recipes.
        """
        for strategy, recipe in recipes.items():
            found = framework_defaults.defaults(recipe, data)
            self.defaults[strategy] = [each for each in found if self._can_be_had(each, recipe)]
        known = {each.label for found in self.defaults.values() for each in found}
        for given in self.chosen or ():
            if given not in known:
                reason = self.left_out.get(given)
                raise BadInput(
                    f"--switches {given} cannot be tried: {reason}"
                    if reason
                    else f"--switches {given}: no such default makes a difference here; {did_you_mean(given, known)}"
                )
        arms = matched(recipes, data)
        for strategy, recipe in recipes.items():
            arms += [single_default(strategy, recipe, each) for each in self._tried(strategy)]
            arms += shipped_arms(strategy, recipe, self.defaults[strategy])
        return arms

    def _tried(self, strategy: str) -> list[Default]:
        return [each for each in self.defaults[strategy] if not self.chosen or each.label in self.chosen]

    def _can_be_had(self, default: Default, recipe: Recipe) -> bool:
        """Whether a default's own weights are within reach."""
        if "weights" not in default.changes:
            return True
        try:
            resolve_weights.resolve(
                framework_defaults.with_default(recipe, default).recipe, self.cache, self.threads, self.progress
            )
        except (BadInput, WorkerFailed) as error:
            self.left_out[default.label] = str(error)
            return False
        return True

    def document(self, sweep: Sweep) -> AttributionDocument:
        """What the finished cells tell."""
        cells = sweep.finished()
        found: dict[ArmKey, Predictions] = {}
        for cell in cells:
            run, plans = cell.run, sweep.inputs.strategies[cell.arm.key.strategy].plans
            classes, images = metrics.predictions(results.finished(cell.folder).logits), plans[run.shots, run.seed].test
            predicted = Predicted(images, classes, classes == sweep.data.labels[images])
            found.setdefault(cell.arm.key, {})[str(run.shots), run.seed] = predicted
        inputs = sweep.inputs
        return AttributionDocument(
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            environment=Environment.here(inputs.versions, inputs.threads, {}, inputs.load),
            images=len(sweep.data),
            classes=list(sweep.data.classes),
            strategies=[self._attributed(strategy, recipe, found) for strategy, recipe in sweep.recipes.items()],
            left_out=self.left_out,
            cells=sweep.size,
            finished=len(cells),
        )

    def _attributed(self, strategy: str, recipe: Recipe, found: Mapping[ArmKey, Predictions]) -> Attributed:
        before = {each: found.get(ArmKey(each, strategy), {}) for each in recipe.frameworks}
        after = {each: found.get(ArmKey(each, strategy, "as shipped"), {}) for each in recipe.frameworks}
        single = {
            each: found.get(ArmKey(each.framework, strategy, "one default", each), {})
            for each in self.defaults[strategy]
        }
        effects, native = [], dict[Default, dict[int, float]]()
        for default in self._tried(strategy):
            without, having = before[default.framework], single[default]
            by_seed = _differences(having, without)
            if by_seed:
                effects.append(_effect(default, by_seed, having, without))
                if default.native:
                    native[default] = by_seed
        # Interrupted, arms may have finished other shots of the same seeds, which nobody may subtract from one another.
        planned = {(str(shots), seed) for shots in recipe.shots for seed in recipe.seed_list}
        expected = [default for default in single if default.native]
        arms = [*before.values(), *after.values(), *(single[default] for default in expected)]
        complete = set(expected) == set(native) and all(arm.keys() == planned for arm in arms)
        return Attributed(
            strategy=strategy,
            recipe=recipe,
            accuracy=_accuracies(before, recipe),
            accuracy_shipped=_accuracies(after, recipe),
            effects=sorted(_corrected(effects), key=lambda each: -abs(each.accuracy.mean)),
            gap=_gap(before, after, native) if complete else None,
        )


def _effect(default: Default, by_seed: Mapping[int, float], having: Predictions, without: Predictions) -> Effect:
    common = sorted(having.keys() & without.keys())
    changed = [np.mean(having[key].classes != without[key].classes) for key in common]
    ours, theirs = (
        [SeedRun(seed, each[shots, seed].images, each[shots, seed].correct) for shots, seed in common]
        for each in (having, without)
    )
    return Effect(
        framework=default.framework,
        name=default.name,
        summary=default.summary,
        native=default.native,
        seeds=len(by_seed),
        accuracy=learning_curves.estimate(list(by_seed.values())),
        predictions_changed=float(np.mean(changed)),
        p_value=ordering.paired(ours, theirs).p_value,
    )


def _corrected(effects: Sequence[Effect]) -> list[Effect]:
    """With p-values that are corrected for their number."""
    corrected = significance.holm([each.p_value for each in effects if each.p_value is not None])
    return [each.model_copy(update={"p_value": p}) for each, p in zip(effects, corrected, strict=True)]


def _differences(ours: Predictions, theirs: Predictions) -> dict[int, float]:
    """Accuracy of ours minus that of theirs for every seed, averaged over the numbers of shots that both have."""
    by_seed: dict[int, list[float]] = {}
    for key in sorted(ours.keys() & theirs.keys()):
        by_seed.setdefault(key[1], []).append(float(ours[key].correct.mean() - theirs[key].correct.mean()))
    return {seed: float(np.mean(values)) for seed, values in by_seed.items()}


def _accuracies(found: Mapping[Framework, Predictions], recipe: Recipe) -> dict[Framework, Estimate]:
    """Mean accuracy over the seeds that have finished all numbers of shots."""
    estimates = {}
    for framework, cells in found.items():
        by_seed: dict[int, list[float]] = {}
        for (_, seed), each in cells.items():
            by_seed.setdefault(seed, []).append(float(each.correct.mean()))
        whole = [float(np.mean(values)) for values in by_seed.values() if len(values) == len(recipe.shots)]
        if whole:
            images = len(next(iter(cells.values())).images)
            estimates[framework] = learning_curves.estimate_accuracy(whole, images)
    return estimates


def _gap(
    before: Mapping[Framework, Predictions],
    after: Mapping[Framework, Predictions],
    native: Mapping[Default, Mapping[int, float]],
) -> Gap | None:
    """What is between two frameworks, if there are two; everything is finished."""
    two = compared(before)
    if two is None:
        return None
    first, second = (wing.identifier for wing in two)
    matched_gap, shipped_gap = (_differences(each[first], each[second]) for each in (before, after))
    seeds = sorted(matched_gap)
    signs = {first: 1, second: -1}
    effects = [(signs[default.framework], each) for default, each in native.items() if default.framework in signs]
    explained = {seed: sum(sign * each[seed] for sign, each in effects) for seed in seeds}
    rest = {seed: shipped_gap[seed] - matched_gap[seed] - explained[seed] for seed in seeds}

    def over_seeds(values: Mapping[int, float]) -> Estimate:
        return learning_curves.estimate([values[seed] for seed in seeds])

    return Gap(
        matched=over_seeds(matched_gap),
        shipped=over_seeds(shipped_gap),
        explained=over_seeds(explained),
        rest=over_seeds(rest),
    )

"""Why two implementations of one recipe differ: each default by itself, and how far they add up."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping

import numpy as np

from transfer_parity.shared.contract import framework_defaults, results
from transfer_parity.shared.contract.framework_defaults import Default
from transfer_parity.shared.contract.recipe import Framework, Recipe
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput, WorkerFailed, did_you_mean
from transfer_parity.shared.core.progress import Progress
from transfer_parity.shared.data.folders import Dataset
from transfer_parity.shared.evaluation import metrics
from transfer_parity.shared.experiments import learning_curves
from transfer_parity.shared.experiments.attribution_document import Attributed, AttributionDocument, Effect, Gap
from transfer_parity.shared.experiments.comparison_document import Environment
from transfer_parity.shared.experiments.study_document import Estimate
from transfer_parity.shared.experiments.sweep import Arm, Grid, matched, shipped_arm
from transfer_parity.shared.runtime import resolve_weights

#: What an arm's cells said: test predictions (N,) and whether they are right (N,), by number of shots and seed.
Said = dict[tuple[str, int], tuple[Array, Array]]


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
            arms += [
                Arm(
                    f"{strategy}+{each.name}",
                    strategy,
                    each.framework,
                    framework_defaults.with_default(recipe, each),
                    "one default",
                )
                for each in self._tried(strategy)
            ]
            arms += [
                shipped_arm(strategy, recipe, framework, self.defaults[strategy]) for framework in recipe.frameworks
            ]
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

    def document(self, grid: Grid) -> AttributionDocument:
        """What the finished cells say."""
        done = grid.done()
        said: dict[tuple[Framework, str], Said] = {}
        for each in done:
            cell, plans = each.cell, grid.grounds[each.arm.strategy].plans
            predictions = metrics.predictions(results.finished(each.folder).logits)
            correct = predictions == grid.data.labels[plans[cell.shots, cell.seed].test]
            by_cell = said.setdefault((each.arm.framework, each.arm.name), {})
            by_cell[str(cell.shots), cell.seed] = (predictions, correct)
        return AttributionDocument(
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            environment=Environment.here(grid.versions, grid.threads, {}, grid.load),
            images=len(grid.data),
            classes=list(grid.data.classes),
            strategies=[self._attributed(strategy, recipe, said) for strategy, recipe in grid.recipes.items()],
            left_out=self.left_out,
            cells=grid.size,
            finished=len(done),
        )

    def _attributed(self, strategy: str, recipe: Recipe, said: Mapping[tuple[Framework, str], Said]) -> Attributed:
        before = {framework: said.get((framework, strategy), {}) for framework in recipe.frameworks}
        after = {framework: said.get((framework, f"{strategy}+as-shipped"), {}) for framework in recipe.frameworks}
        effects, native = [], dict[str, dict[int, float]]()
        for default in self._tried(strategy):
            without, having = before[default.framework], said.get((default.framework, f"{strategy}+{default.name}"), {})
            by_seed = _differences(having, without)
            if by_seed:
                effects.append(_effect(default, by_seed, having, without))
                if default.native:
                    sign = 1 if default.framework == "tensorflow" else -1
                    native[default.label] = {seed: sign * value for seed, value in by_seed.items()}
        # Interrupted, arms may have finished other shots of the same seeds, which nobody may subtract from one another.
        planned = {(str(shots), seed) for shots in recipe.shots for seed in recipe.seed_list}
        expected = {
            each.label: (each.framework, f"{strategy}+{each.name}") for each in self.defaults[strategy] if each.native
        }
        arms = [*before.values(), *after.values(), *(said.get(key, {}) for key in expected.values())]
        complete = set(expected) == set(native) and all(arm.keys() == planned for arm in arms)
        return Attributed(
            strategy=strategy,
            recipe=recipe,
            accuracy=_accuracies(before, recipe),
            accuracy_shipped=_accuracies(after, recipe),
            effects=sorted(effects, key=lambda each: -abs(each.accuracy.mean)),
            gap=_gap(before, after, native) if complete else None,
        )


def _effect(default: Default, by_seed: Mapping[int, float], having: Said, without: Said) -> Effect:
    common = having.keys() & without.keys()
    changed = [np.mean(having[key][0] != without[key][0]) for key in common]
    return Effect(
        framework=default.framework,
        name=default.name,
        summary=default.summary,
        native=default.native,
        seeds=len(by_seed),
        accuracy=learning_curves.estimate(list(by_seed.values())),
        predictions_changed=float(np.mean(changed)),
    )


def _differences(ours: Said, theirs: Said) -> dict[int, float]:
    """Accuracy of ours minus that of theirs for every seed, averaged over the numbers of shots that both have."""
    by_seed: dict[int, list[float]] = {}
    for key in sorted(ours.keys() & theirs.keys()):
        by_seed.setdefault(key[1], []).append(float(ours[key][1].mean() - theirs[key][1].mean()))
    return {seed: float(np.mean(values)) for seed, values in by_seed.items()}


def _accuracies(said: Mapping[Framework, Said], recipe: Recipe) -> dict[Framework, Estimate]:
    """Mean accuracy over the seeds that have finished all numbers of shots."""
    found = {}
    for framework, cells in said.items():
        by_seed: dict[int, list[float]] = {}
        for (_, seed), (_, correct) in cells.items():
            by_seed.setdefault(seed, []).append(float(correct.mean()))
        whole = [float(np.mean(values)) for values in by_seed.values() if len(values) == len(recipe.shots)]
        if whole:
            found[framework] = learning_curves.estimate(whole)
    return found


def _gap(
    before: Mapping[Framework, Said], after: Mapping[Framework, Said], native: Mapping[str, Mapping[int, float]]
) -> Gap | None:
    """What is between the frameworks, if there are two; everything is finished."""
    if set(before) != {"tensorflow", "torch"}:
        return None
    matched_gap, shipped_gap = (_differences(each["tensorflow"], each["torch"]) for each in (before, after))
    seeds = sorted(matched_gap)
    explained = {seed: sum(each[seed] for each in native.values()) for seed in seeds}
    rest = {seed: shipped_gap[seed] - matched_gap[seed] - explained[seed] for seed in seeds}

    def over_seeds(values: Mapping[int, float]) -> Estimate:
        return learning_curves.estimate([values[seed] for seed in seeds])

    return Gap(
        matched=over_seeds(matched_gap),
        shipped=over_seeds(shipped_gap),
        explained=over_seeds(explained),
        rest=over_seeds(rest),
    )

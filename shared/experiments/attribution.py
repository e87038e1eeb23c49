"""Why two implementations of one recipe differ: each default by itself, in pairs, and how far they add up."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping, Sequence

from transfer_parity.shared.contract import framework_defaults
from transfer_parity.shared.contract.framework_defaults import Default
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput, WorkerFailed, did_you_mean
from transfer_parity.shared.core.progress import Progress
from transfer_parity.shared.data.folders import Dataset
from transfer_parity.shared.experiments import attributed_cells, effects, pairs, tuning
from transfer_parity.shared.experiments.arms import (
    Arm,
    ArmKey,
    at_rate,
    matched,
    shipped_arms,
    single_default,
    two_defaults,
)
from transfer_parity.shared.experiments.attributed_cells import Predictions
from transfer_parity.shared.experiments.attribution_document import Attributed, AttributionDocument
from transfer_parity.shared.experiments.comparison_document import Environment
from transfer_parity.shared.experiments.effects import Cells
from transfer_parity.shared.experiments.sweep import Sweep
from transfer_parity.shared.experiments.tuning import Choice
from transfer_parity.shared.runtime import resolve_weights


class Attribution:
    """The arms of an attribution, and what came of them.

    Attributes:
        defaults: what is tried, by strategy.
        left_out: defaults that cannot be tried, and why.
        pairs: of defaults that were tried together, by strategy, once that is known.
    """

    def __init__(
        self,
        cache: Cache,
        threads: int,
        progress: Progress,
        chosen: Collection[str] | None = None,
        *,
        factors: Sequence[float] = (),
        paired: bool = False,
    ) -> None:
        """Of some defaults.

        Args:
            cache: of weights.
            threads: for what has to be fetched.
            progress: hears how far it is.
            chosen: labels of the defaults to try; all that matter by default.
            factors: the grid of rates from which each arm gets its own, as multiples of the recipe's; none: it has the
                recipe's alone.
            paired: whether the largest effects are tried in pairs.
        """
        self.cache, self.threads, self.progress, self.chosen = cache, threads, progress, chosen
        self.factors, self.paired = tuple(factors), paired
        self.defaults: dict[str, list[Default]] = {}
        self.left_out: dict[str, str] = {}
        self.pairs: dict[str, list[tuple[Default, Default]]] = {}
        self._pairs_left_out: dict[str, dict[str, str]] = {}
        # As far as they are known: those that test images judge, and those that choose rates.
        self._judged: list[Sweep] = []
        self._choosing: list[Sweep] = []

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

    def carry_out(self, sweep: Sweep) -> None:
        """Work through all of it: the arms of the sweep, then the pairs that are worth it.

        Args:
            sweep: of the arms that ``arms`` has made.

        Raises:
            WorkerFailed: as in ``Sweep.run``.
        """
        self._work(sweep, sweep)
        if self.paired:
            further = [
                two_defaults(strategy, recipe, *pair)
                for strategy, recipe in sweep.recipes.items()
                for pair in self._paired(strategy, recipe)
            ]
            if further:
                self._work(sweep.further(further, what="cells of pairs"), sweep)

    def _work(self, judged: Sweep, whole: Sweep) -> None:
        """Run the arms of a sweep at the recipe's rate, choose one for each, and run them at that."""
        self._judged.append(judged)
        plans = tuning.plans(whole) if self.factors else {}
        arms = [arm for arm in judged.arms if arm.key.strategy in plans]
        if arms:
            tries = tuning.held_out(arms, self.factors)
            self._choosing.append(whole.further(tries, plans, "cells that choose rates"))
        judged.run()
        if arms:
            self._choosing[-1].run()
            chosen = tuning.choices(self._choosing[-1:])
            tuned = [at_rate(arm, chosen[arm.key].rate) for arm in arms]
            own = [arm for arm in tuned if arm.key.rate is not None]
            self._judged.append(whole.further(own, what="cells at chosen rates"))
            self._judged[-1].run()

    def _paired(self, strategy: str, recipe: Recipe) -> list[tuple[Default, Default]]:
        """The pairs of a strategy that are run, once its single effects are known."""
        found = self._attributed(strategy, recipe, attributed_cells.read(self._judged), self._choices())
        self.pairs[strategy], self._pairs_left_out[strategy] = pairs.pairs(found.effects, self._tried(strategy), recipe)
        return self.pairs[strategy]

    def _choices(self) -> dict[ArmKey, Choice]:
        return tuning.choices(self._choosing)

    def document(self, sweep: Sweep) -> AttributionDocument:
        """What the finished cells tell.

        Args:
            sweep: as for ``carry_out``; it need not have begun.
        """
        sweeps = [*(self._judged or [sweep]), *self._choosing]
        found, chosen, inputs = attributed_cells.read(self._judged or [sweep]), self._choices(), sweep.inputs
        return AttributionDocument(
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            environment=Environment.here(inputs.versions, inputs.threads, {}, inputs.load),
            images=len(sweep.data),
            classes=list(sweep.data.classes),
            strategies=[
                self._attributed(strategy, recipe, found, chosen) for strategy, recipe in sweep.recipes.items()
            ],
            left_out=self.left_out,
            cells=sum(each.size for each in sweeps),
            finished=sum(len(each.finished()) for each in sweeps),
        )

    def _attributed(
        self, strategy: str, recipe: Recipe, found: Mapping[ArmKey, Predictions], chosen: Mapping[ArmKey, Choice]
    ) -> Attributed:
        tried, defaults, paired = self._tried(strategy), self.defaults[strategy], self.pairs.get(strategy, [])
        cells = Cells(strategy, recipe, defaults, found)
        own = {key: choice for key, choice in chosen.items() if key.strategy == strategy}
        tuned = cells.at(own) if own else None
        return Attributed(
            strategy=strategy,
            recipe=recipe,
            accuracy=cells.accuracy(),
            accuracy_shipped=cells.accuracy("as shipped"),
            effects=effects.effects(tried, cells, tuned),
            gap=effects.gap(cells, tried, paired),
            rates=[tuning.described(key, choice) for key, choice in own.items()],
            accuracy_tuned=tuned.accuracy() if tuned else {},
            accuracy_shipped_tuned=tuned.accuracy("as shipped") if tuned else {},
            gap_tuned=effects.gap(tuned, tried, paired) if tuned else None,
            interactions=effects.interactions(paired, cells, tuned),
            pairs_left_out=self._pairs_left_out.get(strategy, {}),
            not_tuned=_why_not(recipe) if self.factors and not own else "",
        )


def _why_not(recipe: Recipe) -> str:
    """Why a strategy has no rates of its own; nothing if its cells are only not finished."""
    if recipe.closed_form is not None:
        return "nothing is trained in steps"
    if recipe.shots == (1,):
        return "one image a class leaves none to hold out"
    return ""

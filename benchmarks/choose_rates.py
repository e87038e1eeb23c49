"""Chooses the learning rate and the budget of every strategy by a rule, on images that no study is judged on.

Cross-validation inside training images: every strategy of a study at every rate of a grid and every budget, on some
folders of images, by one framework (matched runs are the same in both). Finished runs are kept, so that the same
command goes on. It writes docs/strategy-rates.json, which a test holds against the defaults.

    python benchmarks/choose_rates.py --data FOLDER solar_cells
"""

from __future__ import annotations

import argparse
import datetime
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from transfer_parity.shared.contract import study_recipe
from transfer_parity.shared.contract.methods import METHODS, VARIANTS
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.splits import FOLDS
from transfer_parity.shared.contract.wings import IDENTIFIERS, REFERENCE
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.experiments import cross_validation
from transfer_parity.shared.experiments.conditions import in_steps
from transfer_parity.shared.experiments.rate_record import Budget, RateRecord, Strategy, smallest_budget
from transfer_parity.shared.experiments.sweep import Sweep, prepared
from transfer_parity.shared.experiments.tuning import Choice
from transfer_parity.shared.report.console import Console
from transfer_parity.shared.report.progress import progress

RECORD = Path(__file__).resolve().parent.parent / "docs" / "strategy-rates.json"
#: By optimizer. Half a decade apart; a choice at an edge is named, and asks for a wider grid.
RATES = {
    "adam": (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
    "adamw": (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
    "sgd": (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3),
}
#: Passes over the training images: that of a study, and a larger one.
EPOCHS = (10, 30)
#: Of training images a class; four at least, so that each of the four parts has one.
SHOTS = (4, 16)


def main(arguments: Sequence[str] | None = None) -> int:
    """Sweep, choose, and write the record.

    Strategies and budgets that are not swept this time stay in it as they are, unless conditions are others.
    """
    options = _options(arguments)
    errors, kept = Console(stderr=True), _read(options.record)
    found: dict[str, dict[str, Budget]] = {}
    names: dict[str, Recipe] = {}
    versions: dict[str, str] = {}
    for epochs in options.epochs:
        by_data = {}
        for data in options.data:
            recipes = _recipes(options, data, epochs)
            folder = options.output_dir / f"{_short(data)}-{epochs}"
            with progress(errors) as tell:
                sweep = prepared(
                    recipes, Cache(options.cache_dir), folder, tell, processes=options.jobs, explains=False
                )
                by_data[_short(data)] = _losses(sweep, options.rates)
            names |= recipes
            versions = sweep.inputs.versions
        for name in next(iter(by_data.values())):
            found.setdefault(name, {})[str(epochs)] = _budget({data: each[name] for data, each in by_data.items()})
    conditions = {
        **{"framework": options.framework, "backbone": options.backbone, "image_size": options.image_size},
        **{"batch_size": options.batch_size, "folds": FOLDS, "shots": list(options.shots), "seeds": options.seeds},
        "data": [_short(data) for data in options.data],
    }
    earlier = kept.strategies if kept and kept.model_dump(include=set(conditions)) == conditions else {}
    strategies = {}
    for name, budgets in found.items():
        before = earlier[name].budgets if name in earlier else {}
        strategies[name] = _strategy(names[name], {**before, **budgets})
    record = RateRecord(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions=versions,
        strategies={**earlier, **strategies},
        **conditions,
    )
    record.save(options.record)
    for name, each in strategies.items():
        edges = "".join(
            f"; at the {budget.edge} rate of the grid with {passes} passes"
            for passes, budget in each.budgets.items()
            if budget.edge
        )
        print(f"{name}: {each.rate:g} with {each.epochs} passes{edges}")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    conditions = study_recipe.CONDITIONS
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--data", nargs="+", required=True, help="folders of images, or names of data sets")
    parser.add_argument("--strategies", nargs="+", choices=_in_steps(), default=_in_steps(), metavar="NAME")
    parser.add_argument("--rates", nargs="+", type=float, metavar="X", help=f"of all (default, by optimizer: {RATES})")
    parser.add_argument("--epochs", nargs="+", type=int, default=EPOCHS, metavar="N")
    parser.add_argument("--shots", nargs="+", type=int, default=SHOTS, metavar="N")
    parser.add_argument("--seeds", type=int, default=1, metavar="N")
    parser.add_argument("--image-size", type=int, default=conditions["image_size"], metavar="N")
    parser.add_argument("--batch-size", type=int, default=conditions["batch_size"], metavar="N")
    parser.add_argument("--backbone", default="MobileNetV2")
    parser.add_argument("--weights", default="torchvision")
    parser.add_argument("--framework", choices=IDENTIFIERS, default=REFERENCE.identifier)
    parser.add_argument("--jobs", type=int, metavar="N", help="processes at the same time (default: one a core)")
    parser.add_argument("--cache-dir", metavar="DIR")
    parser.add_argument("--output-dir", type=Path, default=Path("results/choose-rates"), metavar="DIR")
    parser.add_argument("--record", type=Path, default=RECORD, metavar="FILE", help=f"default: {RECORD.name} in docs/")
    options = parser.parse_args(arguments)
    if min(options.shots) < FOLDS:
        parser.error(f"--shots {min(options.shots)} is too small; give {FOLDS} or more")
    return options


def _in_steps() -> list[str]:
    """Strategies that have a rate and need no more than labelled images."""
    usable = [name for name, values in VARIANTS.items() if METHODS[values["strategy"]].any_images_will_do]
    found = study_recipe.read(None, {}, usable)
    return [name for name, recipe in found.items() if in_steps(recipe) and not recipe.method.takes_unlabelled]


def _recipes(options: argparse.Namespace, data: str, epochs: int) -> dict[str, Recipe]:
    """Of the strategies, at the rate 1, so that a grid of multiples is one of rates."""
    given = {
        **{"data": data, "name": "choose-rates", "backbone": options.backbone, "weights": options.weights},
        **{"shots": tuple(options.shots), "seeds": options.seeds, "frameworks": (options.framework,)},
        **{"image_size": options.image_size, "batch_size": options.batch_size, "epochs": epochs, "learning_rate": 1.0},
    }
    return study_recipe.read(None, given, options.strategies)


def _losses(sweep: Sweep, rates: Sequence[float] | None) -> dict[str, dict[float, float]]:
    """By strategy and rate, mean log loss on images held out, divided by that of guessing: the log of the classes."""
    guess = math.log(len(sweep.data.classes))
    found: dict[str, dict[float, list[float]]] = {}
    for optimizer in dict.fromkeys(recipe.optimizer for recipe in sweep.recipes.values()):
        chosen = {name for name, recipe in sweep.recipes.items() if recipe.optimizer == optimizer}
        folds = cross_validation.prepared(sweep, rates or RATES[optimizer], chosen)
        for each in folds:
            each.run()
        for (name, _, _), choice in cross_validation.choices(folds).items():
            for rate, loss in zip(choice.rates, choice.losses, strict=True):
                found.setdefault(name, {}).setdefault(rate, []).append(loss / guess)
    return {name: {rate: float(np.mean(losses)) for rate, losses in by_rate.items()} for name, by_rate in found.items()}


def _budget(by_data: Mapping[str, Mapping[float, float]]) -> Budget:
    """The rate with the least mean over the data sets."""
    rates = tuple(sorted(next(iter(by_data.values()))))
    means = tuple(float(np.mean([losses[rate] for losses in by_data.values()])) for rate in rates)
    choice = Choice(rates, means)
    return Budget(
        rates=list(rates),
        losses=choice.log_losses,
        by_data={data: Choice(rates, tuple(each[rate] for rate in rates)).log_losses for data, each in by_data.items()},
        rate=choice.rate,
        edge=choice.edge,
    )


def _strategy(recipe: Recipe, budgets: Mapping[str, Budget]) -> Strategy:
    epochs = smallest_budget(budgets)
    return Strategy(
        optimizer=recipe.optimizer,
        schedule=recipe.schedule,
        budgets=dict(budgets),
        epochs=epochs,
        rate=budgets[str(epochs)].rate,
    )


def _short(data: str) -> str:
    """A name without the place."""
    return Path(data).name


def _read(path: Path) -> RateRecord | None:
    return RateRecord.model_validate_json(path.read_text(encoding="utf-8")) if path.exists() else None


if __name__ == "__main__":
    sys.exit(main())

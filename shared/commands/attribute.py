"""``compare.py attribute``: why two implementations of one recipe differ, default by default."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rich.console import Console

from transfer_parity.shared.commands.parser import Parser, at_least
from transfer_parity.shared.contract import study_recipe
from transfer_parity.shared.core import machine
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import IDENTICAL_OR_EQUIVALENT
from transfer_parity.shared.experiments.attribution import Attribution
from transfer_parity.shared.experiments.attribution_document import AttributionDocument
from transfer_parity.shared.experiments.sweep import Grid
from transfer_parity.shared.report import attribution as report
from transfer_parity.shared.report import plots
from transfer_parity.shared.report.console import WIDTH, progress

#: Recipe keys that are options here, too; they go to all strategies.
OPTIONS = (
    *("data", "shots", "seeds", "first_seed", "test_fraction", "skip_unreadable", "backbone", "weights", "image_size"),
    *("optimizer", "learning_rate", "schedule", "weight_decay", "flip", "epochs", "batch_size", "precision"),
    *("freeze_batch_norm", "device", "threads", "name"),
)
#: Where the defaults of both frameworks are many, and a network trains in seconds.
RECIPE = "attribute"


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(
        prog="compare.py attribute",
        usage="compare.py attribute [RECIPE] [options]",
        description="Starts from matched runs and lets one framework have its own way in one thing at a time: "
        "weights, resizing, initialisation, optimizer, shuffling, freezing. Shows what each costs in accuracy, with "
        "its interval, and how far they add up to the difference of both frameworks as shipped. Finished cells are "
        "kept in the output folder; the same command goes on where it was interrupted.",
        epilog="Exit status: 0 done, 2 bad input, 3 a worker failed.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "recipe",
        nargs="?",
        default=RECIPE,
        metavar="RECIPE",
        help=f"a study's .toml file, or the name of one in recipes/ (default: {RECIPE})",
    )
    parser.add_argument(
        "--strategies", nargs="+", metavar="NAME", help="some of the recipe's strategies (default: all)"
    )
    parser.add_argument(
        "--switches",
        nargs="+",
        metavar="WING:NAME",
        help="defaults to try, such as torch:initialisation or tensorflow:weights (default: all that matter)",
    )
    for key in OPTIONS:
        parser.add_recipe_option(key)
    parser.add_jobs()
    parser.add_output_dir("results/attribute-<name>/")
    parser.add_cache_dir()
    return parser


def run(arguments: list[str], errors: Console) -> int:
    """Work through the grid, then write ``attribution.json``, ``attribution.md`` and the plot."""
    options = build_parser().read(arguments)
    at_least(options, jobs=1)
    overrides = {key: getattr(options, key) for key in OPTIONS}
    recipes = study_recipe.read(options.recipe, overrides, options.strategies)
    common = next(iter(recipes.values()))
    folder = options.output_dir or Path("results") / f"attribute-{common.name}"
    cache, output = Cache(options.cache_dir), Console(width=WIDTH)
    with progress(errors) as tell:
        attribution = Attribution(cache, machine.available_cores(), tell, options.switches)
        grid = Grid(recipes, cache, folder, tell, options.jobs, attribution.arms, explains=False)
        grid.prepare()
        try:
            grid.run()
        finally:
            # Also after an interruption or a failure: what is finished is worth a table.
            found = attribution.document(grid)
            write(grid, found)
    report.show(found, output)
    output.print(f"Results: {folder}", highlight=False, soft_wrap=True)
    return IDENTICAL_OR_EQUIVALENT


def write(grid: Grid, document: AttributionDocument) -> None:
    """Everything that an attribution leaves behind."""
    folder = grid.folder
    document.save(folder / "attribution.json")
    (folder / "recipe.toml").write_text(study_recipe.as_toml(grid.recipes), encoding="utf-8")
    (folder / "attribution.md").write_text(report.markdown(document), encoding="utf-8")
    if any(each.effects for each in document.strategies):
        draw = partial(report.plot, document)
        (folder / "attribution.png").write_bytes(plots.png(draw))
        (folder / "attribution.svg").write_text(plots.render("", draw).light, encoding="utf-8")

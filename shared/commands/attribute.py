"""``compare.py attribute``: why two implementations of one recipe differ, default by default."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from transfer_parity.shared.commands import rates
from transfer_parity.shared.commands.parser import Parser, at_least
from transfer_parity.shared.contract import artifacts, framework_defaults, recipe_rules, study_recipe
from transfer_parity.shared.contract.recipe import OPTIONS, Recipe
from transfer_parity.shared.core import machine, run_folder
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import IDENTICAL_OR_EQUIVALENT, BadInput
from transfer_parity.shared.experiments import guides
from transfer_parity.shared.experiments.attribution import Attribution
from transfer_parity.shared.experiments.attribution_document import AttributionDocument
from transfer_parity.shared.experiments.sweep import prepared
from transfer_parity.shared.report import attribution as report
from transfer_parity.shared.report import guides as guides_report
from transfer_parity.shared.report import plots
from transfer_parity.shared.report.console import WIDTH, Console
from transfer_parity.shared.report.progress import progress

#: Where the defaults of both frameworks are many, and a network trains in seconds.
RECIPE = "attribute"
#: Names of what an attribution leaves in its folder, besides its cells.
WRITES = (
    *(artifacts.ATTRIBUTION, artifacts.RECIPE, artifacts.ATTRIBUTION_TABLES),
    *(f"{artifacts.ATTRIBUTION_PLOT}.{kind}" for kind in ("svg", "png")),
    f"{artifacts.CELLS}/{run_folder.ANYTHING_OF_OURS}",
)


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
    parser.add_argument(
        "--mode",
        choices=("defaults", "guides"),
        default="defaults",
        help="defaults: one default at a time, from matched runs; guides: from one library's official guide to the "
        "other's, one step at a time, on these images and this backbone (default: defaults)",
    )
    rates.add(
        parser,
        "also measure each effect at a rate that is chosen for each side on training images held out "
        "(default: yes; for each run, five shorter ones choose the rate)",
        default=True,
    )
    parser.add_argument(
        "--pairs",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also try the five largest effects in pairs (default: yes)",
    )
    for key in OPTIONS.of("attribute"):
        parser.add_recipe_option(key)
    parser.add_jobs()
    parser.add_output_dir("results/attribute-<name>/")
    parser.add_cache_dir()
    return parser


def run(arguments: list[str], errors: Console) -> int:
    """Work through the sweep, then write ``attribution.json``, ``attribution.md`` and the plot."""
    options = build_parser().read(arguments)
    at_least(options, jobs=1)
    framework_defaults.check(options.switches or ())
    factors = rates.factors(options)
    overrides = {key: getattr(options, key) for key in OPTIONS.of("attribute")}
    # Each strategy is compared with itself, not with another one.
    recipes = study_recipe.read(options.recipe, overrides, options.strategies, conditions={})
    for recipe in recipes.values():
        recipe_rules.needs_images(recipe, "what frameworks do by themselves")
        instead = "choose other strategies with --strategies"
        recipe_rules.needs_one_task(recipe, "attribute judges one class for each image", instead)
    common = next(iter(recipes.values()))
    if options.mode == "guides":
        return _guides(options, recipes, errors)
    folder = options.output_dir or Path("results") / f"attribute-{common.name}"
    cache, output = Cache(options.cache_dir), Console(width=WIDTH)
    with progress(errors) as tell, run_folder.claimed(folder, WRITES, common.data) as output_folder:
        attribution = Attribution(
            *(cache, machine.available_cores(), tell, options.switches), factors=factors, paired=options.pairs
        )
        sweep = prepared(
            recipes, cache, folder, tell, processes=options.jobs, make_arms=attribution.arms, explains=False
        )
        complete = False
        try:
            attribution.carry_out(sweep)
            complete = True
        finally:
            # Also after an interruption or a failure: what is finished is worth a table.
            found = attribution.document(sweep)
            write(study_recipe.as_toml(sweep.recipes), found, output_folder.stage)
            output_folder.commit(complete)
    report.show(found, output)
    output.print(f"Results: {folder}", highlight=False, soft_wrap=True)
    return IDENTICAL_OR_EQUIVALENT


def _guides(options: argparse.Namespace, recipes: Mapping[str, Recipe], errors: Console) -> int:
    """The way from one official guide to the other: as ``run``, with steps in place of defaults.

    Raises:
        BadInput: an option says what the guides say.
    """
    for key in (*sorted(guides.DECIDED & set(OPTIONS.of("attribute"))), "strategies", "switches", "rates"):
        if getattr(options, key) is not None:
            option = key.replace("_", "-")
            raise BadInput(f"--{option} goes with --mode defaults; in --mode guides the guides decide. Leave it out.")
    given = next(iter(recipes.values()))
    folder = options.output_dir or Path("results") / f"attribute-{given.name}-guides"
    cache, output = Cache(options.cache_dir), Console(width=WIDTH)
    with progress(errors) as tell, run_folder.claimed(folder, WRITES, given.data) as output_folder:
        chain = guides.GuideChain(given, cache, machine.available_cores(), tell)
        sweep = prepared(
            chain.recipes, cache, folder, tell, processes=options.jobs, make_arms=chain.arms, explains=False
        )
        complete = False
        try:
            sweep.run()
            complete = True
        finally:
            found = chain.document(sweep)
            write(study_recipe.as_toml(recipes), found, output_folder.stage)
            output_folder.commit(complete)
    guides_report.show(found, output)
    output.print(f"Results: {folder}", highlight=False, soft_wrap=True)
    return IDENTICAL_OR_EQUIVALENT


def write(recipe: str, document: AttributionDocument, folder: Path) -> None:
    """Everything that an attribution leaves behind, in a folder; ``recipe`` is a file that the command reads again."""
    document.save(folder / artifacts.ATTRIBUTION)
    (folder / artifacts.RECIPE).write_text(recipe, encoding="utf-8")
    about = guides_report if document.mode == "guides" else report
    (folder / artifacts.ATTRIBUTION_TABLES).write_text(about.markdown(document), encoding="utf-8")
    if document.guides is not None or any(each.effects for each in document.strategies):
        draw = partial(about.plot, document)
        (folder / f"{artifacts.ATTRIBUTION_PLOT}.png").write_bytes(plots.png(draw))
        (folder / f"{artifacts.ATTRIBUTION_PLOT}.svg").write_text(plots.svg(draw), encoding="utf-8")

"""``compare.py attribute``: why two implementations of one recipe differ, default by default."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from transfer_parity.shared.commands.parser import Parser, at_least
from transfer_parity.shared.contract import artifacts, framework_defaults, study_recipe
from transfer_parity.shared.contract.recipe import OPTIONS
from transfer_parity.shared.core import machine, run_folder
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import IDENTICAL_OR_EQUIVALENT
from transfer_parity.shared.experiments.attribution import Attribution
from transfer_parity.shared.experiments.attribution_document import AttributionDocument
from transfer_parity.shared.experiments.sweep import Sweep, prepared
from transfer_parity.shared.report import attribution as report
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
    overrides = {key: getattr(options, key) for key in OPTIONS.of("attribute")}
    recipes = study_recipe.read(options.recipe, overrides, options.strategies)
    common = next(iter(recipes.values()))
    folder = options.output_dir or Path("results") / f"attribute-{common.name}"
    cache, output = Cache(options.cache_dir), Console(width=WIDTH)
    with progress(errors) as tell, run_folder.claimed(folder, WRITES, common.data) as output_folder:
        attribution = Attribution(cache, machine.available_cores(), tell, options.switches)
        sweep = prepared(
            recipes, cache, folder, tell, processes=options.jobs, make_arms=attribution.arms, explains=False
        )
        complete = False
        try:
            sweep.run()
            complete = True
        finally:
            # Also after an interruption or a failure: what is finished is worth a table.
            found = attribution.document(sweep)
            write(sweep, found, output_folder.stage)
            output_folder.commit(complete)
    report.show(found, output)
    output.print(f"Results: {folder}", highlight=False, soft_wrap=True)
    return IDENTICAL_OR_EQUIVALENT


def write(sweep: Sweep, document: AttributionDocument, folder: Path) -> None:
    """Everything that an attribution leaves behind, in a folder."""
    document.save(folder / artifacts.ATTRIBUTION)
    (folder / artifacts.RECIPE).write_text(study_recipe.as_toml(sweep.recipes), encoding="utf-8")
    (folder / artifacts.ATTRIBUTION_TABLES).write_text(report.markdown(document), encoding="utf-8")
    if any(each.effects for each in document.strategies):
        draw = partial(report.plot, document)
        (folder / f"{artifacts.ATTRIBUTION_PLOT}.png").write_bytes(plots.png(draw))
        (folder / f"{artifacts.ATTRIBUTION_PLOT}.svg").write_text(plots.svg(draw), encoding="utf-8")

"""``compare.py study``: what transfer buys when labels are few, and whether the answer depends on the framework."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from transfer_parity.shared.commands import rates, records
from transfer_parity.shared.commands.parser import Parser, at_least
from transfer_parity.shared.contract import artifacts, recipe_rules, study_recipe
from transfer_parity.shared.contract.recipe import OPTIONS
from transfer_parity.shared.core import run_folder
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.evaluation import agreement
from transfer_parity.shared.experiments import cross_validation, learning_curves, rounding_check
from transfer_parity.shared.experiments.arms import MakeArms, matched, shipped
from transfer_parity.shared.experiments.run_table import Found
from transfer_parity.shared.experiments.study_document import StudyDocument
from transfer_parity.shared.experiments.sweep import Sweep, prepared
from transfer_parity.shared.report import gallery, order_plot, page, plots, tensorboard
from transfer_parity.shared.report import study as report
from transfer_parity.shared.report.console import WIDTH, Console
from transfer_parity.shared.report.progress import progress

#: Which arms a mode has.
MODES: dict[str, MakeArms] = {
    "matched": matched,
    "as-shipped": shipped,
    "both": lambda recipes, data: [*matched(recipes, data), *shipped(recipes, data)],
}

PLOTS = (artifacts.CURVES_PLOT, artifacts.ORDER_PLOT, artifacts.DIFFERENCES_PLOT)
#: Names of what a study leaves in its folder, besides its cells.
WRITES = (
    *(artifacts.STUDY, artifacts.RECIPE, artifacts.STUDY_TABLES, artifacts.STUDY_PAGE),
    *(f"{name}.{kind}" for name in PLOTS for kind in ("svg", "png")),
    f"{artifacts.CELLS}/{run_folder.ANYTHING_OF_OURS}",
)


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(
        prog="compare.py study",
        usage="compare.py study [RECIPE] [options]",
        description="Learning curves: strategies x shots x seeds x both frameworks, with intervals, the gain over "
        "training from scratch, and a verdict for every combination. Finished cells are kept in the output folder; the "
        "same command goes on where it was interrupted.",
        epilog="Exit status: 0 identical or equivalent throughout, 1 not, 2 bad input, 3 a worker failed.",
        allow_abbrev=False,
    )
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="a .toml file, or the name of one in recipes/")
    known = ", ".join(study_recipe.DEFAULTS)
    parser.add_argument(
        "--strategies", nargs="+", metavar="NAME", help=f"some of the recipe's strategies (default: all; {known})"
    )
    parser.add_argument(
        "--mode",
        choices=tuple(MODES),
        default="matched",
        help="matched: alike in everything; as-shipped: each framework in its own way, with its own library's weights, "
        "preprocessing, resizing, initialisation, optimizer, shuffling and freezing; both: side by side "
        "(default: matched)",
    )
    rates.add(
        parser,
        "choose the rate of each run by cross-validation inside its training images, four parts, where each class has "
        "four or more (default: no, every run has the recipe's; it is done by one framework, and takes twenty shorter "
        "runs for each)",
        default=False,
    )
    for key in OPTIONS.of("study"):
        parser.add_recipe_option(key, stands_in=study_recipe.CONDITIONS.get(key))
    parser.add_jobs()
    parser.add_output_dir("results/study-<name>/")
    parser.add_tensorboard()
    parser.add_csv()
    parser.add_mlflow()
    parser.add_cache_dir()
    return parser


def run(arguments: list[str], errors: Console) -> int:
    """Work through the sweep, then write ``study.json``, ``report.html``, ``report.md`` and the plots."""
    options = build_parser().read(arguments)
    at_least(options, jobs=1)
    records.check(options)
    overrides = {key: getattr(options, key) for key in OPTIONS.of("study")}
    factors = rates.factors(options)
    if factors and options.mode != "matched":
        raise BadInput(f"--tune goes with --mode matched, not {options.mode}; attribute tunes each side for itself.")
    recipes = study_recipe.read(options.recipe, overrides, options.strategies)
    if options.mode != "matched":
        for recipe in recipes.values():
            recipe_rules.needs_images(recipe, f"--mode {options.mode}")
    common = next(iter(recipes.values()))
    folder = options.output_dir or Path("results") / f"study-{common.name}"
    output = Console(width=WIDTH)
    with progress(errors) as tell, run_folder.claimed(folder, WRITES, common.data) as output_folder:
        cache, arms = Cache(options.cache_dir), MODES[options.mode]
        sweep = prepared(recipes, cache, folder, tell, processes=options.jobs, make_arms=arms)
        complete, rounding, tuning = False, None, None
        choosing = cross_validation.prepared(sweep, factors) if factors else []
        try:
            for each in choosing:
                each.run()
            if choosing:
                chosen = cross_validation.choices(choosing)
                sweep, tuning = cross_validation.tuned(sweep, chosen), cross_validation.described(sweep, chosen)
            sweep.run()
            complete = True
            rounding = rounding_check.carry_out(sweep, learning_curves.document(sweep))
        finally:
            # Also after an interruption or a failure: what is finished is worth a report.
            found = learning_curves.document(sweep, rounding, tuning)
            write(sweep, found, output_folder.stage)
            if options.tensorboard:
                trainings = learning_curves.trainings(sweep, found)
                tensorboard.write(output_folder.stage / artifacts.TENSORBOARD, trainings)
            output_folder.commit(complete)
    # Only what is complete: the same command goes on with the rest, and would record what is finished again.
    results = Found(folder, "study", found.model_dump(mode="json"))
    records.write(options, results, learning_curves.trainings(sweep, found))
    report.show(found, output)
    output.print(f"Results: {folder}", highlight=False, soft_wrap=True)
    return agreement.exit_status(found.verdict)


def write(sweep: Sweep, document: StudyDocument, folder: Path | None = None) -> None:
    """Everything that a study leaves behind, in a folder; by default that of the sweep."""
    folder, recipe = folder or sweep.folder, study_recipe.as_toml(sweep.recipes)
    document.save(folder / artifacts.STUDY)
    (folder / artifacts.RECIPE).write_text(recipe, encoding="utf-8")
    (folder / artifacts.STUDY_TABLES).write_text(report.markdown(document), encoding="utf-8")
    figures = {
        artifacts.CURVES_PLOT: partial(plots.learning_curves, document),
        artifacts.DIFFERENCES_PLOT: partial(plots.differences, document),
    }
    if document.order:
        figures[artifacts.ORDER_PLOT] = partial(order_plot.diagram, document.order, report.conditions_of(document))
    for name, draw in figures.items():
        (folder / f"{name}.svg").write_text(plots.svg(draw), encoding="utf-8")
        (folder / f"{name}.png").write_bytes(plots.png(draw))
    pictures, maps = gallery.of_page(sweep, document), gallery.activation_maps(sweep, document)
    text = page.render(document, plots.of_page(document), gallery.confusion(document), pictures, maps, recipe)
    (folder / artifacts.STUDY_PAGE).write_text(text, encoding="utf-8")

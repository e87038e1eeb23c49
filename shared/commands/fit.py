"""``compare.py fit``: a model trained on every image, kept with its card."""

from __future__ import annotations

from pathlib import Path

from transfer_parity.shared.commands.parser import Parser
from transfer_parity.shared.contract import artifacts, recipe_files, recipe_rules
from transfer_parity.shared.contract.recipe import OPTIONS
from transfer_parity.shared.core import run_folder
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import IDENTICAL_OR_EQUIVALENT
from transfer_parity.shared.experiments import fitting
from transfer_parity.shared.report import model_card as report
from transfer_parity.shared.report.console import WIDTH, Console
from transfer_parity.shared.report.progress import progress


def build_parser() -> Parser:
    """The options of the command: those of the recipe that it leaves open, and where files go."""
    parser = Parser(
        prog="compare.py fit",
        usage="compare.py fit [RECIPE] [options]",
        description="Train a model on every image of a data set, and keep it with a card that says what it is, on what "
        "it was trained and how good it can be expected to be. That is estimated first, on images that are held out.",
        epilog="Exit status: 0 done, 2 bad input, 3 a worker failed.",
        allow_abbrev=False,
    )
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="a .toml file, or the name of one in recipes/")
    for title, keys in OPTIONS.grouped().items():
        if offered := [key for key in keys if key not in fitting.FIXED]:
            group = parser.add_argument_group(title)
            for key in offered:
                parser.add_recipe_option(key, group)
    known = parser.add_argument_group("estimate").add_mutually_exclusive_group()
    known.add_argument(
        "--from", dest="earlier", type=Path, metavar="DIR", help="an earlier comparison of the recipe, that is quoted"
    )
    known.add_argument("--no-estimate", action="store_true", help="do not find out how good it is")
    files = parser.add_argument_group("files")
    parser.add_output_dir("results/<time>-fit/", files)
    parser.add_cache_dir(files)
    return parser


def run(arguments: list[str], errors: Console) -> int:
    """Train, keep the models, and print how good they can be expected to be."""
    options = build_parser().read(arguments)
    keys = [key for key in OPTIONS.of("compare") if key not in fitting.FIXED]
    given = {key: getattr(options, key) for key in keys}
    recipe = recipe_files.read(options.recipe, {**given, **fitting.FIXED})
    recipe_rules.needs_images(recipe, "a model that is fitted")
    instead = "compare.py keeps its model in models/ of its results"
    recipe_rules.needs_one_task(recipe, "fit keeps a model of one task", instead)
    earlier = fitting.earlier(recipe, options.earlier) if options.earlier else None
    measure = not (options.no_estimate or earlier)
    folder = options.output_dir or run_folder.unused("fit")
    with progress(errors) as tell, run_folder.claimed(folder, fitting.writes(recipe, measure), recipe.data) as output:
        card = fitting.fit(recipe, earlier or measure, Cache(options.cache_dir), output, tell)
        (output.stage / artifacts.CARD_TEXT).write_text(report.markdown(card), encoding="utf-8")
        output.commit()
    console = Console(width=WIDTH)
    report.show(card, console)
    for each in card.models.values():
        console.print(f"Model: {folder / each.file}", highlight=False, soft_wrap=True)
    console.print(f"Card: {folder / artifacts.CARD_TEXT}", highlight=False, soft_wrap=True)
    return IDENTICAL_OR_EQUIVALENT

"""``compare.py`` without a command: one recipe, both frameworks, one verdict."""

from __future__ import annotations

from transfer_parity.shared.commands import records
from transfer_parity.shared.commands.parser import Parser
from transfer_parity.shared.commands.table import COMMANDS
from transfer_parity.shared.contract import artifacts, recipe_files
from transfer_parity.shared.contract.recipe import OPTIONS
from transfer_parity.shared.core import run_folder
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.evaluation import agreement
from transfer_parity.shared.experiments.comparison import prepared, writes
from transfer_parity.shared.experiments.run_table import Found
from transfer_parity.shared.report import comparison as report
from transfer_parity.shared.report import console, tensorboard
from transfer_parity.shared.report.console import Console
from transfer_parity.shared.report.progress import progress


def build_parser() -> Parser:
    """The options of the command: one for every field of the recipe, and where files go."""
    parser = Parser(
        prog="compare.py",
        usage="compare.py [COMMAND | RECIPE] [options]",
        description="Carry out one transfer-learning recipe with Keras on TensorFlow and with torchvision on PyTorch, "
        "and say whether the results agree and how long each took.",
        epilog="Exit status: 0 identical or equivalent, 1 different (also the computation alone) or inconclusive, 2 "
        "bad input, 3 a worker failed.",
        commands=COMMANDS,
        allow_abbrev=False,
    )
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="a .toml file, or the name of one in recipes/")
    for title, keys in OPTIONS.grouped().items():
        group = parser.add_argument_group(title)
        for key in keys:
            parser.add_recipe_option(key, group)
    files = parser.add_argument_group("files")
    parser.add_output_dir("results/<time>-<name>/", files)
    parser.add_tensorboard(files)
    parser.add_csv(files)
    parser.add_mlflow(files)
    parser.add_cache_dir(files)
    return parser


def run(arguments: list[str], errors: Console) -> int:
    """Carry out the recipe, print the tables and the verdict, and write ``comparison.json``."""
    if arguments and not arguments[0].startswith("-"):
        # Before options: those that follow a misspelt command would all be unknown.
        recipe_files.find(arguments[0], COMMANDS)
    options = build_parser().read(arguments)
    recipe = recipe_files.read(options.recipe, {key: getattr(options, key) for key in OPTIONS.of("compare")})
    folder = options.output_dir or run_folder.unused(recipe.name)
    records.check(options)
    with progress(errors) as tell, run_folder.claimed(folder, writes(recipe), recipe.data) as output_folder:
        runner = prepared(recipe, Cache(options.cache_dir), output_folder, tell)
        comparison = runner.compare()
        if options.tensorboard:
            tensorboard.write(output_folder.stage / artifacts.TENSORBOARD, runner.trainings(comparison))
        output_folder.commit()
    records.write(options, Found(folder, "compare", comparison.model_dump(mode="json")), runner.trainings(comparison))
    output = Console(width=console.WIDTH)
    report.show(comparison, output)
    output.print(f"Results: {folder}", highlight=False, soft_wrap=True)
    return agreement.exit_status(comparison.verdict)

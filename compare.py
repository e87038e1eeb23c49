"""The one door: ``python compare.py [RECIPE.toml] [options]``. Reads the command line, hands on, prints."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from rich.console import Console

from transfer_parity.shared.commands.parser import Parser
from transfer_parity.shared.contract import recipe_files
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.core import run_folder
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BAD_INPUT, BadInput, WorkerFailed
from transfer_parity.shared.evaluation import agreement
from transfer_parity.shared.experiments.comparison import Study
from transfer_parity.shared.report import console, tensorboard

#: Everything but the comparison itself: ``python compare.py NAME ...``, each a module of ``shared.commands``, which is
#: imported when it is asked for: plots and pages would cost every command a second.
COMMANDS = ("attribute", "convert", "parity", "rank", "study", "zoo")

GROUPS = {
    "data": ("data", "shots", "seeds", "first_seed", "test_fraction", "skip_unreadable"),
    "model": (
        "backbone",
        "weights",
        "strategy",
        "finetune_stages",
        "freeze_batch_norm",
        "head",
        "head_units",
        "solver",
        "ridge_penalty",
    ),
    "preprocessing and augmentation": ("image_size", "resize", "preprocessing", "flip", "crop"),
    "training": (
        "loss",
        "label_smoothing",
        "optimizer",
        "learning_rate",
        "momentum",
        "beta1",
        "beta2",
        "epsilon",
        "weight_decay",
        "schedule",
        "warmup_epochs",
        "epochs",
        "batch_size",
    ),
    "comparison": (
        "name",
        "precision",
        "frameworks",
        "control",
        "margin",
        "inference_batch_size",
        "device",
        "threads",
    ),
    "speed": ("runtime", "engine", "repeats", "cache"),
}


def build_parser() -> Parser:
    """The options of the default command: one for every field of the recipe, and where files go."""
    parser = Parser(
        prog="compare.py",
        usage="compare.py [RECIPE] [options]",
        description="Carry out one transfer-learning recipe with Keras on TensorFlow and with torchvision on PyTorch, "
        "and say whether the results agree and how long each took.",
        epilog="Exit status: 0 identical or equivalent, 1 different or inconclusive, 2 bad input, 3 a worker failed.",
        allow_abbrev=False,
    )
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="a .toml file, or the name of one in recipes/")
    for title, keys in GROUPS.items():
        group = parser.add_argument_group(title)
        for key in keys:
            parser.add_recipe_option(key, group)
    files = parser.add_argument_group("files")
    parser.add_output_dir("results/<time>-<name>/", files)
    parser.add_tensorboard(files)
    parser.add_cache_dir(files)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status."""
    errors = Console(stderr=True, width=console.WIDTH if not sys.stderr.isatty() else None)
    try:
        given = sys.argv[1:] if arguments is None else list(arguments)
        if given and given[0] in COMMANDS:
            command = importlib.import_module(f"transfer_parity.shared.commands.{given[0]}")
            return int(command.run(given[1:], errors))
        return compare(given, errors)
    except BadInput as error:
        errors.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return error.exit_status
    except OSError as error:
        # A folder that cannot be read, a read-only cache, a full disk: what no room could foresee.
        place = f"{error.filename}: " if error.filename else ""
        errors.print(
            f"error: {place}{error.strerror or error}; make it accessible and run again.", style="red", markup=False
        )
        return BAD_INPUT
    except WorkerFailed as error:
        errors.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        if error.last_words:
            errors.print("Its last words:", markup=False)
            errors.print(error.last_words, markup=False, highlight=False, soft_wrap=True)
        return error.exit_status
    except KeyboardInterrupt:
        errors.print("interrupted; what was finished has been kept", style="yellow")
        return 130


def compare(arguments: list[str], errors: Console) -> int:
    """The default command: one recipe, both frameworks, one verdict."""
    options = build_parser().read(arguments)
    values = {key: value for key, value in vars(options).items() if key in Recipe.model_fields}
    recipe = recipe_files.read(options.recipe, values)
    folder = options.output_dir or run_folder.unused(recipe.name)
    if options.tensorboard:
        tensorboard.check()
    with console.progress(errors) as progress:
        study = Study(recipe, Cache(options.cache_dir), folder, progress)
        comparison = study.compare()
    if options.tensorboard:
        tensorboard.write(folder / "tensorboard", study.trainings(comparison))
    output = Console(width=console.WIDTH)
    console.show(comparison, output)
    output.print(f"Results: {folder}", highlight=False, soft_wrap=True)
    return agreement.exit_status(comparison.verdict)


if __name__ == "__main__":
    sys.exit(main())

"""``compare.py rank``: which backbone suits a data set, told from frozen features, without training."""

from __future__ import annotations

import argparse
from pathlib import Path

from transfer_parity.shared.checkpoints import neutral
from transfer_parity.shared.commands.parser import Parser
from transfer_parity.shared.contract import artifacts, recipe_files, wings
from transfer_parity.shared.contract.recipe import OPTIONS, WEIGHT_ORIGINS, Recipe
from transfer_parity.shared.core import paths, run_folder
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import IDENTICAL_OR_EQUIVALENT, WORKER_FAILED, BadInput, did_you_mean
from transfer_parity.shared.experiments.ranking import Candidate, Request, prepared, writes
from transfer_parity.shared.report import ranking as report
from transfer_parity.shared.report.console import WIDTH, Console
from transfer_parity.shared.report.progress import progress
from transfer_parity.shared.zoo.lookup import select_pairs

#: One of each of five families, 2 to 24 million parameters.
BACKBONES = ("MobileNetV2", "MobileNetV3Large", "EfficientNetB0", "DenseNet121", "ResNet50")
WEIGHTS = wings.libraries()
#: Those that can do it, the usual one first.
FRAMEWORKS = tuple(wings.of_library(library).identifier for library in wings.libraries())
#: Fields of the recipe that stand elsewhere among the options, or have another default here.
PLACED = ("data", "shots", "first_seed")


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(
        prog="compare.py rank",
        description="Rank backbones for a data set from what they put out, frozen, for its images: by LogME on the "
        "training images, with the accuracy of the nearest class mean on the test images beside it. Nothing is "
        "trained unless --train says so.",
        epilog="Exit status: 0 ranked (what was skipped is told), 2 bad input or nothing left, 3 a worker failed.",
        allow_abbrev=False,
    )
    parser.add_recipe_option("data")
    parser.add_argument(
        "--backbone", nargs="+", metavar="NAME", help=f"architectures, or all (default: {' '.join(BACKBONES)})"
    )
    parser.add_argument(
        "--weights",
        nargs="+",
        default=list(WEIGHTS),
        metavar="NAME",
        help="torchvision, keras: the first that can be had of each backbone; random; or checkpoint files, which say "
        f"themselves what they hold (default: {' '.join(WEIGHTS)})",
    )
    usual = FRAMEWORKS[0]
    parser.add_argument("--framework", choices=FRAMEWORKS, default=usual, help=f"default: {usual}")
    parser.add_argument("--shots", default="all", metavar="N", help="training images a class, or all (default: all)")
    parser.add_argument("--first-seed", metavar="N", help="of the choice of images and of random weights (default: 0)")
    for key in OPTIONS.of("rank"):
        if key not in PLACED:
            parser.add_recipe_option(key)
    known = parser.add_mutually_exclusive_group()
    known.add_argument(
        "--train", action="store_true", help="train a linear head on each, and say how well the scores predicted it"
    )
    known.add_argument(
        "--results",
        nargs="+",
        type=Path,
        default=[],
        metavar="DIR",
        help="folders of earlier comparisons on the same data, whose accuracies the scores are held against",
    )
    parser.add_output_dir("results/<time>-rank/")
    parser.add_cache_dir()
    return parser


def run(arguments: list[str], errors: Console) -> int:
    """Rank, print the table, and write ``rank.json``."""
    options = build_parser().read(arguments)
    recipe = _recipe(options)
    chosen = candidates(options.backbone, options.weights)
    folder = options.output_dir or run_folder.unused("rank")
    request = Request(chosen, recipe, options.train, options.results)
    with progress(errors) as tell, run_folder.claimed(folder, writes(request), recipe.data) as output_folder:
        ranker = prepared(request, Cache(options.cache_dir), output_folder, tell)
        document = ranker.rank()
        output_folder.commit()
    output = Console(width=WIDTH)
    report.show(document, output)
    output.print(f"Results: {folder}", highlight=False, soft_wrap=True)
    return WORKER_FAILED if ranker.failure else IDENTICAL_OR_EQUIVALENT


def _recipe(options: argparse.Namespace) -> Recipe:
    """Everything but the backbone and its weights: a linear probe without a control, once."""
    given = {key: value for key in OPTIONS.of("rank") if (value := getattr(options, key)) is not None}
    fixed = {"name": "rank", "seeds": 1, "control": False, "frameworks": [options.framework]}
    return recipe_files.validated({**fixed, **given}, "the command line", given)


def candidates(backbones: list[str] | None, weights: list[str]) -> list[Candidate]:
    """The backbones to rank, with the weights of each.

    Raises:
        BadInput: a backbone or weights are not known, or files and names are mixed.
    """
    words = [given.lower() for given in weights if given.lower() in WEIGHT_ORIGINS]
    files = [given for given in weights if given.lower() not in WEIGHT_ORIGINS]
    for given in files:
        if not Path(given).suffix and not paths.expanded(given).exists():
            raise BadInput(f"--weights {given}: there is no such file; {did_you_mean(given, WEIGHT_ORIGINS)}")
    if files and words:
        raise BadInput(f"--weights {words[0]} and a file ({files[0]}) do not go together; rank one or the other.")
    if "random" in words and len(words) > 1:
        raise BadInput("--weights random can always be had and needs no other beside it; leave one out.")
    if files and backbones:
        raise BadInput("--backbone does not go with checkpoint files, which name their own; leave it out.")
    if files:
        return [_of_file(given) for given in dict.fromkeys(files)]
    return [Candidate(pair.name, tuple(words)) for pair in select_pairs(backbones or BACKBONES)]


def _of_file(given: str) -> Candidate:
    path = paths.expanded(given)
    if path.is_file() and path.suffix.lower() != artifacts.NEUTRAL:
        raise BadInput(
            f"--weights {given} does not say which backbone it holds; make it a neutral checkpoint first: "
            f"compare.py convert {given} {path.stem}.safetensors --backbone NAME"
        )
    return Candidate(neutral.read_metadata(path).backbone, (given,))

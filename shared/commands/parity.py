"""``compare.py parity``: are these models the same function in both frameworks, and do they train the same way?"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

from transfer_parity.shared.checkpoints import neutral
from transfer_parity.shared.commands.parser import Parser, at_least
from transfer_parity.shared.contract import artifacts, recipe_files, switches, wings
from transfer_parity.shared.contract.climbs import ClimbSpec
from transfer_parity.shared.core import machine, run_folder
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import DIFFERENT_OR_INCONCLUSIVE, IDENTICAL_OR_EQUIVALENT, BadInput
from transfer_parity.shared.core.progress import Progress
from transfer_parity.shared.parity.ladder import Ladder
from transfer_parity.shared.report import parity as report
from transfer_parity.shared.report.console import WIDTH, Console
from transfer_parity.shared.report.progress import progress
from transfer_parity.shared.runtime import resolve_weights
from transfer_parity.shared.zoo.lookup import select_pairs
from transfer_parity.shared.zoo.pair import Pair


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(
        prog="compare.py parity",
        description="Climb the parity ladder with both frameworks: image bytes, preprocessed inputs, activations layer "
        "by layer, loss, gradients, optimizer steps, 20 training steps, predictions, metrics. The first layer or "
        "parameter that differs by more than rounding is named.",
        epilog="Exit status: 0 every rung of every pair passed, 1 not, 2 bad input, 3 a worker failed.",
        allow_abbrev=False,
    )
    parser.add_argument("--backbone", nargs="+", default=["MobileNetV2"], metavar="NAME", help="architectures, or all")
    parser.add_argument(
        "--weights",
        default="random",
        metavar="NAME",
        help="random (weights that look trained), torchvision, keras, or a checkpoint file (default: random)",
    )
    parser.add_argument(
        "--semantics",
        choices=(*wings.libraries(), "both"),
        help="whose meaning random weights have (default: both); a checkpoint brings its own",
    )
    parser.add_argument("--precision", choices=("float64", "float32"), default="float64", help="default: float64")
    parser.add_argument(
        "--switch",
        nargs="+",
        default=[],
        metavar="WING:NAME",
        help="make one wing differ in a known point (tensorflow:... or torch:...); the word list prints them all",
    )
    parser.add_argument(
        "--image-size",
        type=int,
        metavar="N",
        help="side of the input in pixels (default: small for random weights, else what the weights are made for)",
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="climbs of each pair (default: 1)")
    parser.add_argument("--first-seed", type=int, default=0, metavar="N", help="the first seed (default: 0)")
    parser.add_argument("--device", choices=("auto", "cpu"), default="cpu", help="default: cpu")
    parser.add_argument("--threads", type=int, metavar="N", help="of each framework (default: half of the cores)")
    parser.add_output_dir("results/<time>-parity/")
    parser.add_cache_dir()
    return parser


def run(arguments: list[str], errors: Console) -> int:
    """Climb, print what came of each climb as it ends, and write ``parity.json`` and ``parity.md``."""
    options = build_parser().read(arguments)
    output = Console(width=WIDTH)
    if options.switch == ["list"]:
        report.list_switches(output)
        return IDENTICAL_OR_EQUIVALENT
    at_least(options, seeds=1, first_seed=0, threads=1, image_size=1)
    pairs = select_pairs(options.backbone)
    for pair in pairs:
        switches.check(options.switch, pair, options.precision)
    folder = options.output_dir or run_folder.unused("parity")
    writes = (artifacts.PARITY, artifacts.PARITY_TABLES)
    with progress(errors) as tell, run_folder.claimed(folder, writes) as output_folder:
        ladder = Ladder(output_folder.stage, options.threads, options.device, tell)
        chosen = len(wings.libraries()) if options.semantics in (None, "both") and options.weights == "random" else 1
        ladder.foresee(pairs, chosen * options.seeds, options.precision, options.image_size)
        for pair in pairs:
            weights = _weights(pair, options, tell)
            for result in ladder.climb(list(_climbs(pair, weights, options))):
                with tell.aside():
                    report.show(result, output)
            if not output_folder.keeps_earlier:
                output_folder.commit(complete=False)
        document = ladder.document()
        (output_folder.stage / artifacts.PARITY_TABLES).write_text(report.markdown(document), encoding="utf-8")
        output_folder.commit()
    report.summarise(document, output)
    output.print(f"Results: {folder}", highlight=False, soft_wrap=True)
    return IDENTICAL_OR_EQUIVALENT if document.passed else DIFFERENT_OR_INCONCLUSIVE


def _weights(pair: Pair, options: argparse.Namespace, tell: Progress) -> Path | None:
    """The neutral checkpoint that --weights means for a pair."""
    values = {"backbone": pair.name, "weights": options.weights, "control": False}
    recipe = recipe_files.validated(values, "the command line")
    return resolve_weights.resolve(recipe, Cache(options.cache_dir), options.threads or machine.available_cores(), tell)


def _climbs(pair: Pair, weights: Path | None, options: argparse.Namespace) -> Iterator[ClimbSpec]:
    """One climb for each semantics and seed."""
    chosen = tuple(each for each in wings.libraries() if options.semantics in (None, "both", each))
    if weights is not None:
        held = neutral.read_metadata(weights).semantics
        if held not in chosen:
            raise BadInput(f"--semantics {options.semantics}: {weights} has {held} semantics; leave the option out.")
        chosen = (held,)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    for semantics, seed in itertools.product(chosen, seeds):
        yield ClimbSpec(
            backbone=pair.name,
            semantics=semantics,
            precision=options.precision,
            seed=seed,
            switches=tuple(options.switch),
            checkpoint=weights.absolute() if weights else None,
            image_size=options.image_size,
        )

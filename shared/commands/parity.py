"""``compare.py parity``: are these models the same function in both frameworks, and do they train the same way?"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from transfer_parity.shared.checkpoints import neutral
from transfer_parity.shared.commands import own_pair, own_pair_sides
from transfer_parity.shared.commands.parser import Parser, at_least
from transfer_parity.shared.contract import artifacts, recipe_files, recipe_rules, subject_files, switches, wings
from transfer_parity.shared.contract.climbs import ClimbSpec
from transfer_parity.shared.core import machine, run_folder
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import DIFFERENT_OR_INCONCLUSIVE, IDENTICAL_OR_EQUIVALENT, BadInput
from transfer_parity.shared.core.progress import Meter, Progress
from transfer_parity.shared.parity import learner_climb, recipe_climb
from transfer_parity.shared.parity.document import PairResult, Parity
from transfer_parity.shared.parity.ladder import Ladder
from transfer_parity.shared.parity.recipe_ladder import AT_ONCE, RecipeLadder
from transfer_parity.shared.report import parity as report
from transfer_parity.shared.report.console import WIDTH, Console
from transfer_parity.shared.report.progress import progress
from transfer_parity.shared.runtime import resolve_weights
from transfer_parity.shared.zoo.lookup import select_pairs
from transfer_parity.shared.zoo.pair import Pair, Semantics

#: Architectures where none is named, and the files of results.
DEFAULT = ["MobileNetV2"]
WRITES = (artifacts.PARITY, artifacts.PARITY_TABLES)


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(
        prog="compare.py parity",
        usage="compare.py parity [RECIPE | PAIR | dump | judge] [options]",
        description="Climb the parity ladder with both frameworks: image bytes, preprocessed inputs, activations layer "
        "by layer, loss, gradients, optimizer steps, 20 training steps, predictions, metrics. The first layer or "
        "parameter that differs by more than rounding is named. With a recipe, or --heads and --strategies, what a "
        "recipe runs is climbed instead: its head, loss, optimizer and trained part, its own batches, two seeds in one "
        "process, and every engine. With the TOML file of a pair of one's own, two models of yours are climbed; parity "
        "dump and parity judge do that one side at a time.",
        epilog="Exit status: 0 every rung of every pair passed, 1 not, 2 bad input, 3 a worker failed.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "recipe",
        nargs="?",
        metavar="RECIPE",
        help="climb what it runs: a .toml file, or the name of one in recipes/; or climb a pair of one's own, a .toml "
        "file with [sides]",
    )
    heads, strategies, learners = (
        ", ".join(names) for names in (recipe_climb.HEADS, recipe_climb.STRATEGIES, learner_climb.LEARNERS)
    )
    parser.add_argument(
        "--heads", nargs="+", metavar="NAME", help=f"climb recipes with these heads ({heads}), or all (default: linear)"
    )
    parser.add_argument(
        *("--strategies", "--method"),
        nargs="+",
        metavar="NAME",
        help=f"climb recipes of these strategies ({strategies}), what learns from base classes of episodes "
        f"({learners}), or all (default: linear_probe)",
    )
    parser.add_argument("--backbone", nargs="+", metavar="NAME", help="architectures, or all (default: MobileNetV2)")
    parser.add_argument(
        "--weights",
        metavar="NAME",
        help="random (weights that look trained), torchvision, keras, or a checkpoint file (default: random); of a "
        "pair of one's own a side's name, drawn, or own",
    )
    parser.add_argument(
        "--semantics",
        choices=(*wings.libraries(), "both"),
        help="whose meaning random weights have (default: both, with --heads or --strategies the first); a checkpoint "
        "brings its own",
    )
    parser.add_argument("--precision", choices=("float64", "float32"), help="default: float64, or the pair's")
    parser.add_argument(
        "--switch",
        nargs="+",
        metavar="WING:NAME",
        help="make one wing differ in a known point (tensorflow:... or torch:...); the word list prints them all",
    )
    parser.add_argument(
        "--image-size",
        type=int,
        metavar="N",
        help="side of the input in pixels (default: small for random weights, else what the weights are made for)",
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="climbs of each pair (default: 1)")
    parser.add_argument("--first-seed", type=int, metavar="N", help="the first seed (default: 0, or the recipe's)")
    parser.add_argument("--device", choices=("auto", "cpu"), help="default: cpu")
    parser.add_argument("--threads", type=int, metavar="N", help="of each framework (default: half of the cores)")
    parser.add_output_dir("results/<time>-parity/")
    parser.add_cache_dir()
    own_pair.add_options(parser)
    return parser


def run(arguments: list[str], errors: Console) -> int:
    """Climb, print what came of each climb as it ends, and write ``parity.json`` and ``parity.md``."""
    if arguments[:1] == [own_pair_sides.DUMP]:
        return own_pair_sides.dump(arguments[1:], errors)
    if arguments[:1] == [own_pair_sides.JUDGE]:
        return own_pair_sides.judge(arguments[1:], errors)
    options = build_parser().read(arguments)
    if options.recipe is not None and subject_files.is_subject(options.recipe):
        return own_pair.run(options, errors)
    if own_pair.only(options):
        own_pair.refuse(options)
    _fill_in(options)
    output = Console(width=WIDTH)
    if options.switch == ["list"]:
        report.list_switches(output)
        return IDENTICAL_OR_EQUIVALENT
    at_least(options, seeds=1, first_seed=0, threads=1, image_size=1)
    if options.recipe is not None:
        _refuse_what_a_recipe_says(options)
    folder = options.output_dir or run_folder.unused("parity")
    with progress(errors) as tell:
        if options.recipe is not None or options.heads or options.strategies:
            document = _climb_recipes(options, folder, tell, output)
        else:
            document = _climb_pairs(options, folder, tell, output)
    report.summarise(document, output)
    output.print(f"Results: {folder}", highlight=False, soft_wrap=True)
    return IDENTICAL_OR_EQUIVALENT if document.passed else DIFFERENT_OR_INCONCLUSIVE


def _fill_in(options: argparse.Namespace) -> None:
    """What holds where nothing else was given; a pair of one's own has its defaults from its file."""
    defaults = {"precision": "float64", "switch": [], "seeds": 1, "device": "cpu"}
    for name, value in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, value)


def _climb_pairs(options: argparse.Namespace, folder: Path, tell: Meter, output: Console) -> Parity:
    """Climb with pairs as both libraries have them."""
    pairs = select_pairs(options.backbone or DEFAULT)
    for pair in pairs:
        switches.check(options.switch, pair, options.precision)
    with run_folder.claimed(folder, WRITES) as output_folder:
        ladder = Ladder(output_folder.stage, options.threads, options.device, tell)
        both = options.semantics in (None, "both") and options.weights in (None, "random")
        climbs = (len(wings.libraries()) if both else 1) * options.seeds
        ladder.foresee(pairs, climbs, options.precision, options.image_size)
        for pair in pairs:
            weights = _weights(pair, options, tell)
            _show(ladder.climb(list(_climbs(pair, weights, options))), tell, output)
            if not output_folder.keeps_earlier:
                output_folder.commit(complete=False)
        return _written(ladder, output_folder)


def _climb_recipes(options: argparse.Namespace, folder: Path, tell: Meter, output: Console) -> Parity:
    """Climb what a recipe runs, or recipes of heads and strategies with their defaults."""
    first = options.first_seed
    heads = recipe_climb.chosen("--heads", options.heads, recipe_climb.HEADS, "linear")
    known = (*recipe_climb.STRATEGIES, *learner_climb.LEARNERS)
    methods = recipe_climb.chosen("--strategies", options.strategies, known, "linear_probe")
    strategies, learned = ([name for name in methods if (name in learner_climb.LEARNERS) == it] for it in (False, True))
    if strategies == ["ridge"] and "linear" not in heads:
        raise BadInput(f"--heads {heads[0]}: --strategies ridge fits linear heads only; give --heads linear.")
    given = recipe_files.read(options.recipe, {}) if options.recipe is not None else None
    if given is not None:
        recipe_rules.needs_images(given, "the ladder")
    pairs = [given.pair] if given is not None else select_pairs(options.backbone or DEFAULT)
    for pair in pairs:
        switches.check(options.switch, pair, options.precision)
    with run_folder.claimed(folder, WRITES) as output_folder, output_folder.work("pictures-") as work:
        ladder = RecipeLadder(output_folder.stage, options.threads, options.device, tell)
        for pair in pairs:
            if given is not None:
                recipe = recipe_climb.in_precision(given, options.precision)
                seeds = range(recipe.first_seed if first is None else first, 2**31)[: options.seeds]
                found = recipe_climb.from_recipe(
                    recipe, seeds, options.switch, Cache(options.cache_dir), ladder.threads, tell
                )
            else:
                weights = _weights(pair, options, tell)
                base = {"precision": options.precision, "image_size": options.image_size}
                over = (_semantics(weights, options), weights, work)
                known_values = {key: value for key, value in base.items() if value is not None}
                rest = (options.switch, range(first or 0, 2**31)[: options.seeds], tell)
                found = itertools.chain(
                    recipe_climb.of_defaults(pair, heads, strategies, *over, known_values, *rest),
                    learner_climb.of_defaults(pair, learned, *over, known_values, *rest),
                )
            subjects = list(found)
            for each in options.switch:
                if not any(switches.find(each)[1].counts(subject.recipe) for subject in subjects):
                    raise BadInput(f"--switch {each} makes no difference to what this recipe trains; leave it out.")
            for start in range(0, len(subjects), AT_ONCE):
                some = subjects[start : start + AT_ONCE]
                _show(ladder.climb_recipes(some, options.precision), tell, output)
                if not output_folder.keeps_earlier:
                    output_folder.commit(complete=False)
        return _written(ladder, output_folder)


def _refuse_what_a_recipe_says(options: argparse.Namespace) -> None:
    """Options that choose what a recipe chooses."""
    for name in ("heads", "strategies", "backbone", "weights", "semantics", "image_size"):
        if getattr(options, name) is not None:
            option = "--" + name.replace("_", "-")
            raise BadInput(f"{option} is what the recipe {options.recipe} says itself; leave out one of the two.")


def _show(results: Sequence[PairResult], tell: Meter, output: Console) -> None:
    for result in results:
        with tell.aside():
            report.show(result, output)


def _written(ladder: Ladder, folder: run_folder.RunFolder) -> Parity:
    """Write the tables of all climbs, and let everything take its place."""
    document = ladder.document()
    (folder.stage / artifacts.PARITY_TABLES).write_text(report.markdown(document), encoding="utf-8")
    folder.commit()
    return document


def _weights(pair: Pair, options: argparse.Namespace, tell: Progress) -> Path | None:
    """The neutral checkpoint that --weights means for a pair."""
    values = {"backbone": pair.name, "weights": options.weights or "random", "control": False}
    recipe = recipe_files.validated(values, "the command line")
    return resolve_weights.resolve(recipe, Cache(options.cache_dir), options.threads or machine.available_cores(), tell)


def _semantics(weights: Path | None, options: argparse.Namespace) -> tuple[Semantics, ...]:
    """Those that are asked for: of random weights, or those that a checkpoint has."""
    chosen = tuple(each for each in wings.libraries() if options.semantics in (None, "both", each))
    if weights is None:
        recipes = options.heads or options.strategies
        return (wings.REFERENCE.library,) if recipes and options.semantics is None else chosen
    held = neutral.read_metadata(weights).semantics
    if held not in chosen:
        raise BadInput(f"--semantics {options.semantics}: {weights} has {held} semantics; leave the option out.")
    return (held,)


def _climbs(pair: Pair, weights: Path | None, options: argparse.Namespace) -> Iterator[ClimbSpec]:
    """One climb for each semantics and seed."""
    first = options.first_seed or 0
    seeds = range(first, first + options.seeds)
    for semantics, seed in itertools.product(_semantics(weights, options), seeds):
        yield ClimbSpec(
            backbone=pair.name,
            semantics=semantics,
            precision=options.precision,
            seed=seed,
            switches=tuple(options.switch),
            checkpoint=weights.absolute() if weights else None,
            image_size=options.image_size,
        )

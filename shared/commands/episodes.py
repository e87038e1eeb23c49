"""``compare.py episodes``: methods for few labels, judged on small tasks of classes that were not seen before."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from transfer_parity.shared.commands.parser import Parser, at_least
from transfer_parity.shared.contract import recipe_files
from transfer_parity.shared.contract.learners import LearnerSettings
from transfer_parity.shared.core import paths, run_folder
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.core.text import brief
from transfer_parity.shared.evaluation import agreement
from transfer_parity.shared.experiments import episode_methods, episode_tasks, episodes
from transfer_parity.shared.experiments.episode_tasks import Request
from transfer_parity.shared.report import episodes as report
from transfer_parity.shared.report.console import WIDTH, Console
from transfer_parity.shared.report.progress import progress
from transfer_parity.shared.runtime import installed

#: Fields of the recipe that are options here, besides data: those that say what images become features.
KEYS = (
    *("first_seed", "skip_unreadable", "backbone", "weights", "image_size", "resize", "preprocessing"),
    *("ridge_penalty", "precision", "frameworks", "margin", "inference_batch_size", "engine", "cache"),
    *("device", "threads"),
)
WAYS, SHOTS, QUERIES, EPISODES, BASE = 5, (1, 5), 15, 600, 0.5
TRAINED = LearnerSettings()
#: Of anything that is counted here: more would fill the memory.
MOST = 100_000


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(
        prog="compare.py episodes",
        description="Judge methods for few labels on episodes: small tasks of classes that nothing was trained on, "
        "drawn once for all methods and both frameworks, on the features of a frozen backbone.",
        epilog="Exit status: 0 the frameworks agree (or one ran), 1 they do not, 2 bad input, 3 a worker failed.",
        allow_abbrev=False,
    )
    parser.add_recipe_option("data")
    known = " ".join(each.name for each in episode_methods.METHODS)
    parser.add_argument(
        "--methods",
        nargs="+",
        metavar="NAME",
        help=f"those to be judged (default: {known}; of published runs, "
        "without --base-data, those that train on nothing)",
    )
    parser.add_argument("--ways", type=int, metavar="N", help=f"classes of an episode (default: {WAYS})")
    shots = " ".join(map(str, SHOTS))
    parser.add_argument("--shots", type=int, nargs="+", metavar="N", help=f"labelled images of each (default: {shots})")
    parser.add_argument(
        "--queries", type=int, metavar="N", help=f"images of each to be recognised (default: {QUERIES})"
    )
    parser.add_argument("--episodes", type=int, metavar="N", help=f"number of episodes (default: {EPISODES})")
    parser.add_argument(
        "--base-classes",
        nargs="+",
        metavar="NAME",
        help="classes that methods may be trained on: names (with commas or spaces between them), or which part of all "
        f"classes (default: {BASE})",
    )
    parser.add_argument(
        "--novel-classes", nargs="+", metavar="NAME", help="classes of the episodes (default: all others)"
    )
    parser.add_argument(
        "--base-data", metavar="NAME", help="take the base classes from this folder, set or zip archive of folders"
    )
    parser.add_argument(
        "--runs",
        type=paths.expanded,
        metavar="FILE",
        help="judge on the published runs in this zip archive instead, such as Omniglot's all_runs.zip",
    )
    parser.add_argument(
        "--base-steps", type=int, metavar="N", help=f"steps in which methods are trained (default: {TRAINED.steps})"
    )
    parser.add_argument("--base-rate", type=float, metavar="X", help=f"their learning rate (default: {TRAINED.rate:g})")
    for key in KEYS:
        parser.add_recipe_option(key)
    parser.add_output_dir("results/<time>-episodes/")
    parser.add_cache_dir()
    return parser


def run(arguments: list[str], errors: Console) -> int:
    """Judge, print the tables, and write ``episodes.json``."""
    options = build_parser().read(arguments)
    request = _request(options)
    installed.make_sure_of(request.recipe.frameworks, optional=True)
    folder = options.output_dir or run_folder.unused("episodes")
    cache = Cache(options.cache_dir)
    with progress(errors) as tell, run_folder.claimed(folder, episodes.writes(request), request.recipe.data) as output:
        tasks = episode_tasks.prepared(request, cache, tell)
        document = episodes.judge(request, tasks, cache, output, tell)
        output.commit()
    console = Console(width=WIDTH)
    report.show(document, console)
    console.print(f"Results: {folder}", highlight=False, soft_wrap=True)
    return agreement.exit_status(document.verdict)


def _request(options: argparse.Namespace) -> Request:
    """What the options mean.

    Raises:
        BadInput: a number is too small or too large, or options contradict each other.
    """
    least = {"ways": 2, "queries": 1, "episodes": 1, "base_steps": 1}
    at_least(options, **least)
    for name, value in [
        *((name, getattr(options, name)) for name in least),
        *(("shots", k) for k in options.shots or ()),
    ]:
        if value is not None and not 1 <= value <= MOST:
            raise BadInput(
                f"--{name.replace('_', '-')} {brief(value)} is not between 1 and {MOST}; give another number."
            )
    if options.base_rate is not None and not 0 < options.base_rate <= 1:
        raise BadInput(f"--base-rate {options.base_rate:g} is not above 0 and at most 1; give another rate.")
    if options.runs is not None:
        drawn = ("data", "ways", "shots", "queries", "episodes", "base_classes", "novel_classes", "skip_unreadable")
        for name in drawn:
            if getattr(options, name) is not None:
                raise BadInput(
                    f"--{name.replace('_', '-')} says nothing beside --runs, which has its tasks; leave it out."
                )
    if options.base_classes and options.base_data:
        raise BadInput("--base-classes and --base-data both say which classes are base; give one of them.")
    given = {key: value for key in ("data", *KEYS) if (value := getattr(options, key)) is not None}
    shots = (1,) if options.runs else tuple(sorted(set(options.shots or SHOTS)))
    methods = episode_methods.chosen(options.methods)
    if options.runs and not options.base_data and not options.methods:
        # There is nothing to train the others on.
        methods = tuple(each for each in methods if not each.trains_on_base)
    fixed = {"name": "episodes", "seeds": 1, "control": False, "shots": list(shots)}
    return Request(
        recipe=recipe_files.validated({**fixed, **given}, "the command line", given),
        methods=methods,
        ways=options.ways or WAYS,
        shots=shots,
        queries=options.queries or QUERIES,
        episodes=options.episodes or EPISODES,
        base=_part_or_names(options.base_classes),
        novel=None if options.novel_classes is None else _names(options.novel_classes),
        base_data=options.base_data,
        runs=options.runs,
        settings=TRAINED.model_copy(
            update={"steps": options.base_steps or TRAINED.steps, "rate": options.base_rate or TRAINED.rate}
        ),
    )


def _part_or_names(given: Sequence[str] | None) -> list[str] | float:
    """The part of all classes where a single number from 0 to below 1 stands, else names."""
    if given is None:
        return BASE
    if len(given) == 1:
        try:
            part = float(given[0])
        except ValueError:
            return _names(given)
        if 0 <= part < 1 and (part == 0 or "." in given[0]):
            return part
    return _names(given)


def _names(given: Sequence[str]) -> list[str]:
    return [name.strip() for each in given for name in each.split(",") if name.strip()]

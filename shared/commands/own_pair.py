"""``compare.py parity pair.toml``: the ladder climbed with a pair of one's own."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from transfer_parity.shared.commands.parser import Parser, at_least
from transfer_parity.shared.contract import artifacts, subject_files
from transfer_parity.shared.contract.rungs import RUNGS
from transfer_parity.shared.contract.subject import Subject
from transfer_parity.shared.core import files, paths, run_folder
from transfer_parity.shared.core.errors import (
    DIFFERENT_OR_INCONCLUSIVE,
    IDENTICAL_OR_EQUIVALENT,
    BadInput,
    did_you_mean,
)
from transfer_parity.shared.core.run_folder import RunFolder
from transfer_parity.shared.report import subject as report
from transfer_parity.shared.report.console import WIDTH, Console
from transfer_parity.shared.report.progress import progress
from transfer_parity.shared.subjects import api
from transfer_parity.shared.subjects.document import SubjectParity

#: The files of results; the map is written, too, unless the one there has been edited.
WRITES = (artifacts.PARITY, artifacts.PARITY_TABLES, artifacts.PARITY_PAGE)
#: Options of the ladder that a pair of one's own has in its file, or has no use for.
_SAYS_ITSELF = {
    "heads": "heads are of recipes",
    "strategies": "strategies are of recipes",
    "backbone": "the models are those of [sides]",
    "semantics": "weights are carried over as the map of names says",
    "image_size": "shapes stand in [inputs]",
    "switch": "known differences are tried after a failure",
    "seeds": "one climb has one seed; give --seed",
    "first_seed": "one climb has one seed; give --seed",
    "device": "both sides are climbed on the CPU",
    "cache_dir": "nothing is kept between its climbs",
}


def add_options(parser: Parser) -> None:
    """The options that only a pair of one's own has."""
    own = parser.add_argument_group("a pair of one's own", "a TOML file with [sides] in place of a recipe")
    add = own.add_argument
    add("--until", choices=RUNGS, metavar="RUNG", help=f"the last rung: {', '.join(RUNGS)}")
    add("--single-step", action=argparse.BooleanOptionalAction, default=None, help="give every layer the same input")
    add("--seed", type=int, metavar="N", help="of whatever is drawn (default: the file's, or 0)")
    add("--map", type=paths.expanded, metavar="FILE", help="map of names; proposed, and written, if it is not there")
    add("--side", metavar="NAME", help="whose --backend it is")
    add("--backend", metavar="NAME", help="what computes for that side")
    add("--no-explain", dest="explain", action="store_false", default=None, help="try no known differences")
    add("--export", action="append", metavar="SIDE=PATH", help="write the weights that a side got as its checkpoint")
    add_judging(own)


def add_judging(group: argparse._ArgumentGroup | Parser) -> None:
    """What is done with the result."""
    add = group.add_argument
    add("--baseline", type=paths.expanded, metavar="FILE", help="differences that are known and accepted")
    add("--parity-update", action="store_true", default=None, help="record what differs now in --baseline")
    add("--junit-xml", type=paths.expanded, metavar="FILE", help="also write a case for each rung as JUnit XML")
    add("--github", action="store_true", default=None, help="also annotate lines, and write the step's summary")
    add("--quiet", action="store_true", default=None, help="print nothing but the result")


def only(options: argparse.Namespace) -> list[str]:
    """Options of a pair of one's own that were given."""
    own = ("until", "single_step", "seed", "map", "side", "backend", "explain", "export")
    names = (*own, "baseline", "parity_update", "junit_xml", "github", "quiet")
    return ["--no-explain" if name == "explain" else _option(name) for name in names if _given(options, name)]


def run(options: argparse.Namespace, errors: Console) -> int:
    """Climb a pair of one's own, and write what came of it. Returns the exit status.

    Raises:
        BadInput, WorkerFailed: as ``climbing.climb`` does.
    """
    for name, reason in _SAYS_ITSELF.items():
        if _given(options, name):
            raise BadInput(f"{_option(name)} is not for a pair of one's own ({reason}); leave it out.")
    at_least(options, seed=0, threads=1)
    given = Path(options.recipe)
    pair, root = subject_files.read(given, _changes(options))
    if options.side is not None and options.backend is None:
        raise BadInput(f"--side {options.side} says whose --backend it is; give that, too, or parity dump --side.")
    pair = with_backend(pair, options)
    exports = _exports(options, pair)
    check(options)
    folder = options.output_dir or Path("results") / f"parity-{pair.name}"
    with (
        _telling(options, errors) as tell,
        run_folder.claimed(folder, WRITES) as output,
        output.work("climb-") as work,
    ):
        pair, writes_map = _with_map(pair, root, output)
        document = api.carried_out(
            pair,
            root,
            work,
            threads=options.threads,
            baseline=options.baseline,
            update=bool(options.parity_update),
            explain=options.explain is not False,
            exports=exports,
            map_to=output.stage / artifacts.NAME_MAP if writes_map else None,
            tell=tell,
        )
        write(document, output)
    return told(document, options, folder)


def refuse(options: argparse.Namespace) -> NoReturn:
    """There is no pair of one's own for options that only that has.

    Raises:
        BadInput: always.
    """
    given = only(options)[0]
    if options.recipe is None:
        raise BadInput(f"{given} is for a pair of one's own; give its TOML file, too, or leave it out.")
    # A file that is no TOML, or not there, is said to be so.
    subject_files.read(options.recipe)
    raise BadInput(f"{given} is for a pair of one's own, which {options.recipe} is not; leave it out.")


def _changes(options: argparse.Namespace) -> dict[str, Any]:
    """What the command line puts in place of the file's."""
    return {
        **{key: getattr(options, key) for key in ("until", "single_step", "precision", "seed", "weights")},
        "map": options.map.absolute() if options.map is not None else None,
    }


def with_backend(pair: Subject, options: argparse.Namespace) -> Subject:
    """The pair with --backend, for the side that --side names, or the only one that can have any.

    Raises:
        BadInput: it is not clear whose it is, or that side has no such backend.
    """
    side = options.side
    if side is not None:
        has_side(pair, side)
    if options.backend is None:
        if side is not None and not hasattr(options, "origin"):
            raise BadInput(
                f"--side {side} says whose --backend it is; give that, too, or parity dump for one side alone."
            )
        return pair
    able = [name for name, each in pair.sides.items() if each.wing.backends]
    if side is None:
        if len(able) != 1:
            raise BadInput(f"--backend {options.backend}: say whose it is with --side {' or '.join(pair.sides)}.")
        side = able[0]
    return subject_files.changed(pair, {"sides": {side: {"backend": options.backend}}}, subject_files.COMMAND_LINE)


def has_side(pair: Subject, name: str) -> None:
    """Refuse a --side that the pair does not have.

    Raises:
        BadInput: it does not.
    """
    if name not in pair.sides:
        raise BadInput(f"--side {name}: there is no such side; {did_you_mean(name, pair.sides)}")


def _exports(options: argparse.Namespace, pair: Subject) -> dict[str, Path]:
    found = {}
    for each in options.export or ():
        side, equals, path = each.partition("=")
        if not (equals and path):
            raise BadInput(f"--export {each} is not SIDE=PATH; give e.g. {pair.candidate}=weights.")
        if side not in pair.sides:
            raise BadInput(f"--export {each}: there is no side {side!r}; {did_you_mean(side, pair.sides)}")
        suffixes = pair.sides[side].wing.models
        target = paths.expanded(path)
        if not target.name.endswith(suffixes):
            raise BadInput(f"--export {each}: {side} writes {', '.join(suffixes)}; give the file such a name.")
        if not target.absolute().parent.is_dir():
            raise BadInput(f"--export {each}: there is no folder {target.parent}; make it.")
        found[side] = target
    return found


def check(options: argparse.Namespace) -> None:
    """Refuse what cannot be written, before anything is computed.

    Raises:
        BadInput: an option lacks another one, or a folder.
    """
    if options.parity_update and options.baseline is None:
        raise BadInput(
            "--parity-update records accepted differences in the file that --baseline names; give that, too."
        )
    if options.junit_xml is not None and not options.junit_xml.absolute().parent.is_dir():
        raise BadInput(f"--junit-xml {options.junit_xml}: there is no folder {options.junit_xml.parent}; make it.")


def _with_map(pair: Subject, root: Path, output: RunFolder) -> tuple[Subject, bool]:
    """The pair with the map that the output folder has, if a person has edited that; and whether to write one there.

    Raises:
        BadInput: a file of the user's would be replaced.
    """
    kept = output.path / artifacts.NAME_MAP
    edited = not output.may_replace(artifacts.NAME_MAP)
    if pair.map is None and edited and kept.is_file():
        return subject_files.changed(pair, {"map": kept.absolute()}, str(kept)), False
    if pair.map is not None and (root / pair.map).absolute() == kept.absolute():
        return pair, not edited
    output.refuse([artifacts.NAME_MAP])
    return pair, True


def write(document: SubjectParity, output: RunFolder) -> None:
    """Write ``parity.json``, ``parity.md`` and ``report.html``, and let them take their places."""
    # Plots take a while to import.
    from transfer_parity.shared.report import subject_page

    document.save(output.stage / artifacts.PARITY)
    (output.stage / artifacts.PARITY_TABLES).write_text(report.markdown(document), encoding="utf-8")
    (output.stage / artifacts.PARITY_PAGE).write_text(subject_page.render(document), encoding="utf-8")
    output.commit()


def told(document: SubjectParity, options: argparse.Namespace, folder: Path) -> int:
    """Print what came of it, and tell continuous integration. Returns the exit status."""
    output = Console(width=WIDTH)
    if options.quiet:
        output.print(report.sentence(document), highlight=False, soft_wrap=True)
    else:
        report.show(document, output)
        if options.parity_update:
            output.print(f"Accepted differences: {options.baseline}", highlight=False, soft_wrap=True)
        output.print(f"Results: {folder}", highlight=False, soft_wrap=True)
    if options.junit_xml is not None:
        from transfer_parity.shared.report import junit

        files.write_whole(options.junit_xml, junit.xml(document))
    if options.github:
        from transfer_parity.shared.report import github

        for line in github.commands(document):
            # Without the console: the runner reads whole lines.
            print(line)
        github.summarise(document)
    return IDENTICAL_OR_EQUIVALENT if document.passed else DIFFERENT_OR_INCONCLUSIVE


@contextmanager
def _telling(options: argparse.Namespace, errors: Console) -> Iterator[Any]:
    """What shows how far the climb is; nothing with --quiet."""
    if options.quiet:
        yield None
    else:
        with progress(errors) as tell:
            yield tell


def _given(options: argparse.Namespace, name: str) -> bool:
    return getattr(options, name, None) not in (None, [])


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")

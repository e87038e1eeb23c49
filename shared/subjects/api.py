"""What ``from transfer_parity import climb`` offers: a climb of one's own pair from a script, a notebook or a test."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer_parity.shared.contract import artifacts, subject_files
from transfer_parity.shared.contract.subject import Subject
from transfer_parity.shared.core import machine, notices, paths, scratch
from transfer_parity.shared.core.errors import BadInput, did_you_mean
from transfer_parity.shared.core.progress import Progress
from transfer_parity.shared.subjects.document import ArrayResult, SubjectParity, SubjectRung

if TYPE_CHECKING:
    from transfer_parity.shared.subjects.judging import Accepted

#: Who gives what a call gives, for messages.
CALL = "climb()"
#: The option that records accepted differences, of the command and of the plugin.
UPDATE = "--parity-update"


def climb(
    subject: Subject | str | Path | None = None,
    *,
    root: str | Path | None = None,
    threads: int | None = None,
    baseline: str | Path | None = None,
    update: bool = False,
    explain: bool = True,
    exports: Mapping[str, str | Path] | None = None,
    tell: Progress | None = None,
    **values: Any,
) -> SubjectParity:
    """Climb the parity ladder with a pair of one's own; frameworks have processes of their own, none is imported here.

    ``climb("pair.toml", until="trajectory").passed``, or without a file ``climb(sides={"torch": {"factory":
    "a.py:build"}, "keras": {"factory": "b.py:build"}}, inputs={"x": {"shape": [8]}})``.

    Args:
        subject: the pair, or the TOML file that describes it; None where ``values`` do.
        root: folder that the pair's files are relative to; by default the file's, without a file the current one.
        threads: of each framework; by default half of the cores.
        baseline: file of accepted differences. Relative to the current folder.
        update: whether to record in that file what differs now.
        explain: whether to try known differences after a failure.
        exports: by side, a checkpoint to write of the weights that it was given.
        tell: called with a description, what is done and how much there is.
        values: keys of the pair (``until``, ``precision``, ``seed``, ``training`` ...) in place of its own.

    Returns:
        What came of it: ``passed``, ``rungs``, ``first_failure``, ``causes``, the map; as ``parity.json`` has it.

    Raises:
        BadInput: something that was given cannot be used. The message is one sentence.
        WorkerFailed: a framework's process ended early.
    """
    pair, folder = described(subject, values, root)
    accepted_file = paths.expanded(baseline) if baseline is not None else None
    if update and accepted_file is None:
        raise BadInput(f"{CALL}: update needs the baseline, the file to record accepted differences in; give both.")
    with scratch.folder(artifacts.SCRATCH) as work:
        return carried_out(
            pair,
            folder,
            work,
            threads=threads,
            baseline=accepted_file,
            update=update,
            explain=explain,
            exports={side: paths.expanded(path) for side, path in (exports or {}).items()},
            tell=tell,
        )


def described(
    subject: Subject | str | Path | None, values: Mapping[str, Any], root: str | Path | None = None, whose: str = CALL
) -> tuple[Subject, Path]:
    """The pair that somebody means, and the folder that its files are relative to.

    Args:
        subject: the pair, its file, or None.
        values: in place of its own.
        root: the folder, if somebody says.
        whose: who gives the values, for messages.

    Raises:
        BadInput: there is no such file, or a key or value is not valid.
    """
    folder = Path()
    if subject is None:
        if subject_files.SIDES not in values:
            raise BadInput(f"{whose}: there is no pair; give the path of its TOML file, or sides and inputs.")
        pair = subject_files.made(values, whose)
    elif isinstance(subject, Subject):
        pair = subject_files.changed(subject, values, whose) if values else subject
    elif isinstance(subject, str | Path):
        pair, folder = subject_files.read(paths.expanded(subject), values, whose)
    else:
        raise BadInput(f"{whose}: a {type(subject).__name__} is no pair; give a Subject, or the path of its TOML file.")
    return pair, paths.expanded(root) if root is not None else folder


def carried_out(
    pair: Subject,
    root: Path,
    work: Path,
    *,
    threads: int | None = None,
    baseline: Path | None = None,
    update: bool = False,
    explain: bool = True,
    exports: Mapping[str, Path] | None = None,
    map_to: Path | None = None,
    tell: Progress | None = None,
) -> SubjectParity:
    """Climb, with the differences that a file accepts. Arguments are those of ``climb``, and ``climbing.climb``'s.

    Raises:
        BadInput, WorkerFailed: as ``climb`` does.
    """
    # What is needed once something is climbed only: this module is imported by every test session.
    from transfer_parity.shared.subjects import climbing

    for side in exports or {}:
        if side not in pair.sides:
            raise BadInput(f"there is no side {side!r} to export; {did_you_mean(side, pair.sides)}")
    document = climbing.climb(
        pair,
        root,
        work,
        threads or max(1, machine.available_cores() // 2),
        tell or _silent,
        accepted_by(baseline, update),
        explain,
        exports,
        map_to,
    )
    return settled(document, baseline, update)


def accepted_by(path: Path | None, update: bool = False) -> Accepted | None:
    """What says why a difference is accepted: a file, which has to be there unless it is about to be written.

    Raises:
        BadInput: it is not there, or cannot be read.
    """
    if path is None:
        return None
    from transfer_parity.shared.subjects import baseline

    if not (update or path.exists()):
        raise BadInput(f"there is no baseline {path}; record one with {UPDATE}, or leave it out.")
    return baseline.accepted(baseline.read(path))


def settled(document: SubjectParity, path: Path | None, update: bool) -> SubjectParity:
    """What a climb means for the file of accepted differences. That is written where an update is asked for only.

    Args:
        document: what came of the climb.
        path: of the file, if there is one.
        update: whether to record what differs now.

    Returns:
        The document, after an update with what is accepted now.
    """
    if path is None:
        return document
    from transfer_parity.shared.subjects import baseline

    before = baseline.read(path)
    if update:
        now = baseline.updated(before, document, grows=True)
        baseline.write(path, now)
        return reviewed(document, baseline.accepted(now))
    gone = len(before.accepted) - len(baseline.updated(before, document).accepted)
    if gone:
        some = f"{gone} accepted difference{'' if gone == 1 else 's'} of {path} can be seen no more"
        notices.say(f"{some}; {UPDATE} takes {'it' if gone == 1 else 'them'} out.")
    return document


def reviewed(document: SubjectParity, accepted: Accepted) -> SubjectParity:
    """The document once more, with what is accepted now."""
    rungs = [_reviewed(rung, accepted) for rung in document.rungs]
    return document.model_copy(update={"rungs": rungs, "passed": all(rung.passed for rung in rungs)})


def _reviewed(rung: SubjectRung, accepted: Accepted) -> SubjectRung:
    def why(array: ArrayResult) -> str | None:
        relative = math.inf if array.max_rel_difference is None else array.max_rel_difference
        return None if array.passed else accepted(rung.name, array.what, array.reference or array.candidate, relative)

    arrays = [each.model_copy(update={"accepted": why(each)}) for each in rung.arrays]
    fine = rung.informative and all(each.passed or each.accepted is not None for each in arrays)
    return rung.model_copy(update={"arrays": arrays, "passed": fine})


def _silent(what: str, done: int, total: int) -> None:
    """Nobody listens."""

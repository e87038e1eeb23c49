"""The folder in which a learner works: what ``start`` puts there, and what is noted of it.

What lies there is the learner's. Nothing is deleted; files are replaced only where the manifest says that they are of
``start`` and the learner has not changed them, or where the learner asks for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import tempfile
import textwrap
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, ValidationError

from transfer_parity.shared.contract import wings
from transfer_parity.shared.contract.artifacts import EXERCISE, EXERCISE_LOG, EXERCISE_TEXT
from transfer_parity.shared.contract.rungs import RUNGS
from transfer_parity.shared.core import code, files
from transfer_parity.shared.core.document import Document
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.exercises import catalogue
from transfer_parity.shared.exercises.exercise import READ, Exercise

#: Where exercises go if no folder is named, below the current one.
HOME = Path("exercises")


class Standing(Document):
    """What is noted of an exercise that was started.

    Attributes:
        exercise: its name.
        code: digest of the wing that was copied.
        files: SHA-256 of every file as ``start`` or ``check`` wrote it, by name relative to the folder.
        checks: how often it was checked.
        best: rungs that passed from below in the best check so far; None before the first.
        hints: that were given.
        solved: whether all rungs passed in some check.
    """

    schema_version: int = 1
    exercise: str
    code: str
    files: dict[str, str]
    checks: int = Field(default=0, ge=0)
    best: int | None = Field(default=None, ge=0, le=len(RUNGS))
    hints: int = Field(default=0, ge=0)
    solved: bool = False


class WorkingFolder:
    """A folder in which an exercise was started.

    Attributes:
        path: the folder, as it was given.
        standing: what is noted of it.
        exercise: which one it is.
    """

    def __init__(self, path: Path, standing: Standing) -> None:
        self.path, self.standing = path, standing
        self.exercise = catalogue.find(standing.exercise)

    @property
    def code(self) -> Path:
        """The learner's copy of the wing."""
        return self.path / self.exercise.folder

    def note(self, **changes: object) -> None:
        """Note something, and keep it."""
        self.standing = self.standing.model_copy(update=changes)
        self.standing.save(self.path / EXERCISE)

    def look_again(self) -> None:
        """Take what is noted by now: while a check climbs, a hint may be asked for."""
        with contextlib.suppress(BadInput):
            found = _started(self.path)
            if found is not None and found.exercise == self.exercise:
                self.standing = found.standing

    def keep_log(self, text: str) -> None:
        """Write what the copy printed; a file of that name that is the learner's own is not replaced."""
        place = self.path / EXERCISE_LOG
        if os.path.lexists(place) and _digest_of(place) != self.standing.files.get(EXERCISE_LOG):
            return
        files.write_whole(place, text)
        self.note(files={**self.standing.files, EXERCISE_LOG: files.sha256(place)})

    def changed(self) -> list[str]:
        """Names of files that the learner has changed or removed since they were written."""
        return [name for name, digest in self.standing.files.items() if _digest_of(self.path / name) != digest]


def start(exercise: Exercise, folder: Path, again: bool = False) -> WorkingFolder:
    """Put a copy of the wing's files with the fault in it, and the exercise's text, into a folder.

    Args:
        exercise: to start.
        folder: is made if it is missing.
        again: whether what the learner has changed in an exercise that was started there is replaced.

    Raises:
        BadInput: the folder holds something else, or work on the exercise, or cannot be written.
        ValueError: the fault cannot be planted.
    """
    known: Mapping[str, str] = {}
    if os.path.lexists(folder) and not folder.is_dir():
        raise BadInput(f"{folder} is no folder; name a folder that is new or empty.")
    if folder.is_dir() and any(folder.iterdir()):
        found = _started(folder)
        if found is None:
            raise BadInput(f"{folder} is not empty and holds no exercise; name a folder that is new or empty.")
        if found.exercise.name != exercise.name:
            raise BadInput(
                f"{folder} holds the exercise {found.exercise.name}; name another folder for {exercise.name}."
            )
        if (mine := [name for name in found.changed() if os.path.lexists(folder / name)]) and not again:
            raise BadInput(
                f"{folder} holds work on {exercise.name} ({', '.join(mine[:3])}); go on with it, name another folder, "
                "or begin again with --again, which replaces these files."
            )
        known = found.standing.files
    texts = {EXERCISE_TEXT: _text(exercise, folder), **_planted(exercise)}
    if (folder / exercise.folder).is_symlink():
        raise BadInput(f"{folder / exercise.folder} is a link, and files would be written behind it; remove it.")
    for name in texts:
        # Only what an earlier start has written is replaced.
        if os.path.lexists(folder / name) and (name not in known or (folder / name).is_symlink()):
            raise BadInput(f"{folder / name} is not of this exercise, and would be replaced; move it away.")
    listed = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    log = {name: digest for name, digest in known.items() if name == EXERCISE_LOG}
    standing = Standing(exercise=exercise.name, code=_wing_digest(exercise), files={**listed, **log})
    made = WorkingFolder(folder, standing)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # First, so that an interrupted start may be begun again.
        made.note()
        (folder / exercise.folder).mkdir(exist_ok=True)
        for name, text in texts.items():
            files.write_whole(folder / name, text)
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadInput(f"the folder {folder} cannot be written ({reason}); name another one.") from None
    # As they are on disk, where line ends may be others.
    made.note(files={**{name: files.sha256(folder / name) for name in texts}, **log})
    return made


def open_(folder: Path) -> WorkingFolder:
    """A folder in which an exercise was started.

    Raises:
        BadInput: it is none, its manifest is damaged, files are missing, or the project is another one by now.
    """
    found = _started(folder)
    if found is None:
        raise BadInput(
            f"{folder} holds no exercise; compare.py exercise list shows them, and exercise start NAME begins one."
        )
    if found.standing.code != _wing_digest(found.exercise):
        raise BadInput(
            f"{folder} was started with another version of transfer-parity, whose wing was another; start "
            f"{found.exercise.name} in another folder and make your change there."
        )
    for name in READ:
        if not (found.code / name).is_file():
            raise BadInput(
                f"{found.code / name} is missing; put it back, from the same exercise started in another folder."
            )
    return found


def chosen(given: Path | None) -> Path:
    """The working folder that is meant: the one given, the current one, or the only one below ``exercises``.

    Raises:
        BadInput: it cannot be told.
    """
    if given is not None:
        return given
    if Path(EXERCISE).is_file():
        return Path()
    found = sorted(place.parent for place in HOME.glob(f"*/{EXERCISE}"))
    if len(found) == 1:
        return found[0]
    if found:
        raise BadInput(f"{len(found)} exercises lie in {HOME}; name one of them: {', '.join(map(str, found))}.")
    raise BadInput("no exercise lies here; name its folder, or begin one with compare.py exercise start NAME.")


def wing_sources(exercise: Exercise) -> Path:
    """The folder of the wing as the project has it."""
    return code.ROOT / exercise.folder


def planted(exercise: Exercise, root: Path) -> None:
    """Write the wing's files that a learner gets, with everything that is planted, into a folder that is there.

    Raises:
        ValueError: a text that the fault replaces does not stand there once.
    """
    for name in READ:
        shutil.copyfile(wing_sources(exercise) / name, root / name)
    for edit in exercise.edits:
        edit.apply(root)


def _planted(exercise: Exercise) -> dict[str, str]:
    """The texts of the files with the fault, by name relative to the working folder."""
    with tempfile.TemporaryDirectory() as place:
        planted(exercise, Path(place))
        return {f"{exercise.folder}/{name}": (Path(place) / name).read_text(encoding="utf-8") for name in READ}


def _started(folder: Path) -> WorkingFolder | None:
    """What was started in a folder, or None if there is no manifest.

    Raises:
        BadInput: the manifest is damaged.
    """
    place = folder / EXERCISE
    if not place.is_file():
        return None
    try:
        standing = Standing.model_validate_json(place.read_bytes())
    except ValidationError:
        standing = None
    if standing is None or standing.exercise not in catalogue.BY_NAME:
        raise BadInput(f"{place} is damaged or of another version; start the exercise in another folder.")
    return WorkingFolder(folder, standing)


def _digest_of(place: Path) -> str | None:
    """SHA-256 of a file; None if there is none, or a link, which is none of ours."""
    return files.sha256(place) if place.is_file() and not place.is_symlink() else None


def _wing_digest(exercise: Exercise) -> str:
    """Of the sources of the whole wing as the project has it, and of what is planted."""
    key = {"wing": code.digest(exercise.folder), "edits": [[each.file, each.old, each.new] for each in exercise.edits]}
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]


def _text(exercise: Exercise, folder: Path) -> str:
    """What a learner reads first."""
    named = shlex.quote(str(folder))
    return f"""# {exercise.name} (grade {exercise.grade})

{textwrap.fill(exercise.symptom, 120)}

`{exercise.folder}/` is a copy of a part of the wing "{exercise.wing.title}", with one fault in it. It fails the parity
ladder at the rung "{exercise.rung}", and passes all rungs once the fault is mended. Lesson {exercise.lesson:02d}
prepares this exercise.

1. Check: `python compare.py exercise check {named}` climbs the ladder with your copy and the other wing,
   which is as it was. It says which rungs pass and what differs first. A check that fails without having come further
   gives a hint; `--hint` gives the next one at once.
2. Read. The same functions stand in the twin, file by file: `{_twin(exercise)}`
3. Mend it in `{exercise.folder}/`, and check again. What its functions print goes to `{EXERCISE_LOG}`.

One fault, in one place. Any mending counts after which both wings compute the same.
"""


def _twin(exercise: Exercise) -> Path:
    return code.ROOT / wings.other(exercise.wing).package.rpartition(".")[2]

"""Where results go: a folder that one run has at a time, in which it touches nothing but what runs have written.

A run writes beside, in a hidden folder of the output folder, and what it has made takes the place of earlier results in
the end. A manifest lists what runs have written; a file that it does not list, or that has changed since, is the
user's: it is never replaced or removed. After a kill at any moment the folder holds the earlier results or, once the
next run has looked, the new ones, and never some of both.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from transfer_parity.shared.core import holder, notices, paths
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.core.manifest import Facts, Manifest, facts_found, facts_of

#: In an output folder: what runs need there besides results. In it: what was written, what is about to take its place,
#: who is at work, new results, what is finished of an incomplete run, and work in progress (a beginning of names).
HIDDEN = ".transfer-parity"
_MANIFEST, _INTENT, _LOCK, _HOLDER = "manifest.json", "commit.json", "lock", "holder.json"
_STAGE, _FINISHED, _WORK = "stage", "finished", "work-"
#: In a name of results: stands for names that cannot be anybody else's, so that only the folder is looked at.
ANYTHING_OF_OURS = HIDDEN


def unused(name: str) -> Path:
    """``results/<time>-<name>``, or with a number behind it if a run that began in the same second has it."""
    moment = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = Path("results") / f"{moment}-{name}"
    return next(
        candidate
        for number in itertools.count(1)
        if not (candidate := folder if number == 1 else folder.with_name(f"{folder.name}-{number}")).exists()
    )


class RunFolder:
    """An output folder while a run has it. Nobody else makes one: see ``claimed``.

    Attributes:
        path: the folder, as it was given.
        stage: receives the results, under the names that they will have in the folder.
        finished: keeps what is finished of a run until all of it is, for the same command after an interruption.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._hidden = path.absolute() / HIDDEN
        self.stage, self.finished = self._hidden / _STAGE, self._hidden / _FINISHED
        self._earlier = Manifest.read(self._hidden / _MANIFEST) or Manifest()
        self._committed: dict[str, Facts] = {}

    @property
    def keeps_earlier(self) -> bool:
        """Whether the folder holds complete results of an earlier run, which an incomplete one does not replace."""
        return self._earlier.complete

    @property
    def has_results(self) -> bool:
        """Whether the folder holds any results of an earlier run, or of this one."""
        return bool(self._earlier.files)

    def below(self, name: str) -> RunFolder:
        """A folder in this one for results that are committed with this one's."""
        return _Part(self, name)

    def keep(self, name: str) -> None:
        """Let what earlier runs wrote in a folder of this one stay."""
        self._committed |= {each: facts for each, facts in self._earlier.files.items() if each.startswith(f"{name}/")}

    @contextlib.contextmanager
    def work(self, whose: str = "") -> Iterator[Path]:
        """A folder for work in progress, removed in the end; if this process is killed, by the next run."""
        with work_folder(self.path, whose) as made:
            yield made

    def refuse(self, writes: Iterable[str]) -> None:
        """Look for files of the user's where a run would write.

        Args:
            writes: names relative to the folder, with slashes; ``*`` stands for anything in a name.

        Raises:
            BadInput: there is one.
        """
        for name in writes:
            for parent in list(PurePosixPath(name).parents)[:-1]:
                place = self.path / parent
                if os.path.lexists(place) and (place.is_symlink() or not place.is_dir()):
                    raise BadInput(
                        f"{place} is not a folder of an earlier run, and results would go there; move it away, or "
                        "choose another --output-dir."
                    )
            found = sorted(self.path.glob(name)) if "*" in name else [self.path / name]
            for place in found:
                self._refuse(place.relative_to(self.path).as_posix())

    def may_replace(self, name: str) -> bool:
        """Whether there is no file of this name, or one that a run has written and nobody has changed since."""
        return not os.path.lexists(self.path / name) or self._is_ours(name)

    def commit(self, complete: bool = True) -> None:
        """Let what lies in ``stage`` take the place of earlier results, of which nothing is left then.

        An incomplete run replaces no complete results, and says so. This may be called again as results come; what
        was committed before stays.

        Raises:
            BadInput: a file of the user's has appeared where one of ours would go.
        """
        if not complete and self.keeps_earlier:
            notices.say(
                f"{self.path} still holds the complete results of an earlier run; what this one has finished is kept, "
                "and the same command goes on."
            )
            return
        names = sorted(place.relative_to(self.stage).as_posix() for place in _files(self.stage))
        if not (names or self._committed):
            return
        for name in names:
            self._refuse(name)
        intent = Manifest(complete, self._committed | {name: facts_of(self.stage / name) for name in names})
        # From here on the next run can finish what this one has begun.
        intent.write(self._hidden / _INTENT)
        self._carry_out(intent)
        self._committed = intent.files
        if complete:
            shutil.rmtree(self.finished, ignore_errors=True)

    def recover(self) -> None:
        """Finish a commit that a kill has cut short, and remove what else was left.

        Raises:
            BadInput: a file of the user's has appeared where one of ours would go.
        """
        intent = Manifest.read(self._hidden / _INTENT)
        if intent is not None:
            for name, facts in intent.files.items():
                if (self.stage / name).is_file() and facts_found(self.path / name) != facts:
                    self._refuse(name)
            self._carry_out(intent)
        self.clean()

    def clean(self) -> None:
        """Remove work in progress, and results that nobody has committed."""
        for left in (self.stage, *self._hidden.glob(f"{_WORK}*"), *self._hidden.glob("*.part")):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
        self.stage.mkdir(parents=True, exist_ok=True)

    def _carry_out(self, intent: Manifest) -> None:
        """Every step may be done again: new files first, then what nobody needs any more, the manifest last."""
        for name in intent.files:
            new, place = self.stage / name, self.path / name
            if new.is_file():
                place.parent.mkdir(parents=True, exist_ok=True)
                new.replace(place)
        for name in self._earlier.files.keys() - intent.files.keys():
            place = self.path / name
            if self._is_ours(name):
                place.unlink()
                with contextlib.suppress(OSError):
                    for parent in list(PurePosixPath(name).parents)[:-1]:
                        # Only if nothing else is in it.
                        (self.path / parent).rmdir()
        (self._hidden / _INTENT).replace(self._hidden / _MANIFEST)
        self._earlier = intent

    def _refuse(self, name: str) -> None:
        place = self.path / name
        if self.may_replace(name):
            return
        if name in self._earlier.files and place.is_file():
            raise BadInput(
                f"{place} has changed since a run wrote it, and new results would replace it; move it away, or choose "
                "another --output-dir."
            )
        raise BadInput(
            f"{place} is not of an earlier run, and results would go there; move it away, or choose another "
            "--output-dir."
        )

    def _is_ours(self, name: str) -> bool:
        return name in self._earlier.files and facts_found(self.path / name) == self._earlier.files[name]


class _Part(RunFolder):
    """A folder in an output folder, which belongs to that one's run."""

    def __init__(self, whole: RunFolder, name: str) -> None:
        self._whole = whole
        self.path, self.stage, self.finished = whole.path / name, whole.stage / name, whole.finished / name
        self.stage.mkdir(parents=True, exist_ok=True)

    @property
    def keeps_earlier(self) -> bool:
        return self._whole.keeps_earlier

    @property
    def has_results(self) -> bool:
        return self._whole.has_results

    @contextlib.contextmanager
    def work(self, whose: str = "") -> Iterator[Path]:
        with self._whole.work(whose) as made:
            yield made

    def commit(self, complete: bool = True) -> None:
        """Nothing: the whole is committed."""


@contextlib.contextmanager
def claimed(folder: Path, writes: Iterable[str] = (), data: str | None = None) -> Iterator[RunFolder]:
    """Have an output folder alone, before anything is computed. What is not committed by the end is gone.

    Args:
        folder: is made if it is missing.
        writes: names of the results, as ``RunFolder.refuse`` takes them.
        data: where images are read, if that is a folder.

    Raises:
        BadInput: it cannot be made or written, another run has it, or files of the user's are in danger.
    """
    _keep_apart(folder, data)
    make(folder)
    hidden = folder.absolute() / HIDDEN
    try:
        hidden.mkdir(exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from None
    lock = FileLock(hidden / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BadInput(
            f"the output folder {folder} is in use by another run ({holder.read(hidden / _HOLDER)}); wait until that "
            "has ended, or choose another --output-dir."
        ) from None
    except NotImplementedError:
        # A network file system without locks. Two runs at the same time are the user's to avoid there.
        pass
    except OSError as error:
        raise _unwritable(folder, error) from None
    try:
        holder.write(hidden / _HOLDER)
        run = RunFolder(folder)
        run.recover()
        run.refuse(writes)
        yield run
    finally:
        for left in (hidden / _STAGE, *hidden.glob(f"{_WORK}*")):
            if not (hidden / _INTENT).exists():
                shutil.rmtree(left, ignore_errors=True)
        (hidden / _HOLDER).unlink(missing_ok=True)
        lock.release()


@contextlib.contextmanager
def work_folder(folder: Path, whose: str = "") -> Iterator[Path]:
    """A folder for work in progress in an output folder, removed in the end."""
    hidden = folder.absolute() / HIDDEN
    hidden.mkdir(exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f"{_WORK}{whose}", dir=hidden))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def make(folder: Path) -> None:
    """Make sure that results can be written before anything is computed.

    Raises:
        BadInput: the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(folder, error) from None


def place(source: Path, target: Path) -> None:
    """A file under a second name, without a second copy where the file system can do that."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _unwritable(folder: Path, error: OSError) -> BadInput:
    reason = error.strerror or str(error)
    return BadInput(f"the output folder {folder} cannot be written ({reason}); choose another --output-dir.")


def _keep_apart(folder: Path, data: str | None) -> None:
    """Refuse an output folder inside the data, and data inside the output folder."""
    images = paths.expanded(data) if data else None
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        if images is None or not images.is_dir():
            return
        # A folder of a class may be a link to somewhere else.
        places = [images.resolve(), *(child.resolve() for child in images.iterdir() if child.is_symlink())]
        target = folder.resolve()
        for place in places:
            if target.is_relative_to(place):
                raise BadInput(
                    f"the output folder {folder} lies in the folder of the images ({data}), which is only read; choose "
                    "another --output-dir."
                )
            if place.is_relative_to(target):
                raise BadInput(
                    f"the images ({data}) lie in the output folder {folder}, where results replace each other; choose "
                    "another --output-dir."
                )


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder, but for what a run of its own needs there."""
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != HIDDEN]
        yield from (Path(root, name) for name in names)

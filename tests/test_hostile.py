"""What people, disks and terminals can do to the command line: an exit status, one sentence, and nothing lost.

One case a line, by group of what they do. Most of them start no framework; those that need one are in the tests of
their own subject, or marked slow.
"""

from __future__ import annotations

import ast
import errno
import io
import os
import re
import shutil
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from rich.table import Table

from tests.conftest import CLASSES, ROOT, SMALL, write_images
from tests.fakes import FakeWorkers
from tests.processes import python
from transfer_parity import compare
from transfer_parity.shared.checkpoints import neutral, tfjs
from transfer_parity.shared.contract import artifacts
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.core import disk, kept, streams
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BAD_INPUT, DEFECT, BadInput
from transfer_parity.shared.experiments import comparison
from transfer_parity.shared.report.console import Console, marked
from transfer_parity.shared.runtime import prepare, start

#: What no terminal may get from a name: an escape sequence, a bell, a lone surrogate, markup, a change of direction.
EVIL = "\x1b[2J[/red]\x07[bold]\u202e"
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]")


class Ran:
    """The command line in this process, with a recipe's folders of its own."""

    def __init__(self, folder: Path, captured: pytest.CaptureFixture[str]) -> None:
        self.folder, self._captured = folder, captured
        self.output = self.errors = ""

    def __call__(self, *arguments: object) -> int:
        self._captured.readouterr()
        status = compare.main([str(part) for part in arguments])
        printed = self._captured.readouterr()
        self.output, self.errors = printed.out, printed.err
        return status

    def refused(self, *arguments: object, says: str = "") -> None:
        """Exit status 2 and one sentence that says something, quickly and without a traceback."""
        began = time.monotonic()
        status = self(*arguments)
        assert status == BAD_INPUT, (status, self.errors)
        assert_one_sentence(self.errors, says)
        assert time.monotonic() - began < 20


def assert_one_sentence(errors: str, says: str = "") -> None:
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, errors
    assert "Traceback" not in errors
    assert "please report" not in errors
    assert says in " ".join(errors.split()), errors
    assert not RAW.search(errors), ascii(errors)
    assert len(lines[0]) < 1500
    assert lines[0].rstrip().endswith((".", "?")) or "choose from" in lines[0], lines[0]


@pytest.fixture
def ran(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ran:
    monkeypatch.chdir(tmp_path)
    return Ran(tmp_path, capsys)


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[[str | bytes], Path]:
    """Writes a recipe."""

    def write(content: str | bytes) -> Path:
        path = tmp_path / "r.toml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        return path

    return write


def away(*arguments: object, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    """The command line in a process of its own, for what cannot be done to this one."""
    given = [sys.executable, str(ROOT / "compare.py"), *map(str, arguments)]
    return subprocess.run(
        given, check=False, timeout=120, capture_output=True, env={**os.environ, **(environment or {})}
    )


# Group 13: text from elsewhere is text.


@pytest.mark.parametrize(
    "arguments",
    [
        (EVIL,),
        ("--data", EVIL),
        ("--weights", EVIL),
        ("--weights", f"{EVIL}.pth"),
        ("--backbone", EVIL),
        ("--epochs", EVIL),
        ("--name", EVIL),
        (f"--{EVIL}",),
        ("flowers", EVIL, EVIL),
        ("--strategy", EVIL),
        ("study", EVIL),
        ("study", "--strategies", EVIL),
        ("study", "--jobs", EVIL),
        ("attribute", "--switches", EVIL),
        ("rank", "--backbone", EVIL),
        ("rank", "--weights", EVIL),
        ("parity", "--switch", EVIL),
        ("parity", "--backbone", EVIL),
        ("convert", EVIL, "a.pth"),
        ("convert", "torchvision", EVIL),
        ("zoo", EVIL),
    ],
    ids=lambda given: " ".join(given).replace(EVIL, "EVIL"),
)
def test_names_are_never_markup_nor_commands_to_the_terminal(ran: Ran, arguments: tuple[str, ...]) -> None:
    ran.refused(*arguments, says="")


@pytest.mark.parametrize("key", ["data", "weights", "backbone", "strategy", "name", "device", "frameworks", "\x1b"])
def test_values_of_files_are_never_markup(ran: Ran, recipe: Callable[[str], Path], key: str) -> None:
    ran.refused(recipe(f'"{key}" = "\\u001b[2J[/red]\\u0007"\n'.replace("\x1b", "\\u001b")))


@pytest.mark.parametrize("text", ["[/red]", "[bold]", "\\[x", "a\x1b[31mb", "\udcff", "[link=x]y[/link]", "\r\x08"])
def test_a_console_prints_text_as_it_is(text: str) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=200)
    table = Table(title=text)
    table.add_column(text)
    table.add_row(text, style="red")
    for each in (text, marked("[bold]{}[/]", text), table):
        console.print(each)
    shown = stream.getvalue()
    assert not RAW.search(shown)
    assert shown.encode()
    if text.isprintable():
        assert shown.count(text) == 5 - (shown.count(text) == 4)
    else:
        assert "\\x" in shown


def test_colours_stay_where_they_are_the_programs_own() -> None:
    stream = io.StringIO()
    Console(file=stream, force_terminal=True, color_system="standard").print(marked("[red]{}[/] b", "[/red]a"))
    assert stream.getvalue() == "\x1b[31m[/red]a\x1b[0m b\n"


def _sources() -> Iterator[tuple[Path, ast.Module]]:
    for path in (ROOT / "compare.py", *sorted((ROOT / "shared").rglob("*.py"))):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def test_markup_is_written_in_one_way() -> None:
    """Consoles are the project's own, and what looks like markup is the template of ``marked``."""
    for path, tree in _sources():
        templates = {
            id(part)
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "marked"
            for part in ast.walk(node.args[0])
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and path.name != "console.py":
                assert "[/]" not in node.value or id(node) in templates, f"{path}:{node.lineno}"
            if isinstance(node, ast.ImportFrom) and node.module == "rich.console" and path.name != "console.py":
                made = [call for call in ast.walk(tree) if isinstance(call, ast.Call)]
                assert not any(getattr(call.func, "id", "") == "Console" for call in made), path


# Group 14: names, numbers and files that no sensible person would write.


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("seeds = " + "[" * 5000 + "]" * 5000, "nested"),
        ("seeds = " + "{a = " * 5000 + "1" + "}" * 5000, "nested"),
        ("seeds" + ".a" * 5000 + " = 1", "seeds"),
        ("seeds = " + "9" * 5000, "mend the file"),
        ("learning_rate = " + "9" * 5000 + ".0", "learning_rate"),
        ("learning_rate = nan", "learning_rate"),
        ("learning_rate = inf", "learning_rate"),
        ("seeds = true", "seeds = True is not valid: give a whole number"),
        ("learning_rate = true", "learning_rate = True is not valid: give a number"),
        ("shots = [true]", "shots"),
        ("threads = false", "threads"),
        ('epochs = "5"', "epochs = '5' is not valid: give a whole number, without quotes"),
        ('shots = ["5"]', "without quotes"),
        ('finetune_stages = "2"', "without quotes"),
        ('control = "true"', "true or false"),
        ("control = 5", "control"),
        ("epochs = 5.5", "epochs"),
        ("data = 5", "data"),
        ("seeds = []", "seeds"),
        ("shots = {}", "shots"),
        ("shots = 2020-01-01", "shots"),
        ('data = "a\\u0000b"', "data"),
        ('weights = "a\\u0000.pth"', "weights"),
        ('name = "' + "n" * 1000 + '"', "name"),
        ('"' + "k" * 5000 + '" = 1', "unknown recipe key"),
        ("= 1", "mend the file"),
        (b"data = '\xff'", "mend the file"),
        (b"\x00", "mend the file"),
        (b"\xff\xfed\x00a\x00", "mend the file"),
        ("[strategies.a]\nepochs = 1", "study"),
    ],
    ids=lambda value: (value if isinstance(value, str) else repr(value))[:25],
)
def test_recipes_that_cannot_be_meant(
    ran: Ran, recipe: Callable[[str | bytes], Path], content: str | bytes, says: str
) -> None:
    ran.refused(recipe(content), says=says)


@pytest.mark.parametrize("content", ['strategies = "a"', "strategies = 5", "[strategies]\na = 5", "strategies = [1]"])
def test_studies_that_cannot_be_meant(ran: Ran, recipe: Callable[[str | bytes], Path], content: str) -> None:
    ran.refused("study", recipe(content), says="strategies")


def test_a_byte_order_mark_is_no_mistake(ran: Ran, recipe: Callable[[str | bytes], Path]) -> None:
    ran.refused(recipe(b"\xef\xbb\xbfepochs = 0\n"), says="epochs = 0")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--threads", 10**6),
        ("--seeds", 10**9),
        ("--epochs", 10**9),
        ("--head-units", 10**9),
        ("--image-size", 20000),
        ("--resize", 10**6),
        ("--batch-size", 10**9),
        ("--inference-batch-size", 10**9),
        ("--repeats", 10**9),
        ("--warmup-epochs", 1e300),
        ("--first-seed", 2**40),
        ("--threads", 0),
        ("--seeds", -1),
        ("--epochs", "9" * 5000),
        ("--epochs", "1e400"),
        ("--learning-rate", "1e400"),
        ("--shots", 0),
        ("--test-fraction", 1),
    ],
)
def test_numbers_have_bounds(ran: Ran, option: str, value: object) -> None:
    ran.refused(option, value, says=option.strip("-").replace("-", "_"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("study", "--seeds", 10**9),
        ("study", "--jobs", 10**6),
        ("study", "--threads", 10**6),
        ("attribute", "--epochs", 10**9),
        ("rank", "--threads", 10**6),
        ("rank", "--image-size", 20000),
        ("parity", "--threads", 10**6),
        ("parity", "--seeds", 10**9),
        ("parity", "--image-size", 20000),
        ("parity", "--first-seed", -1),
        ("parity", "--seeds", "9" * 5000),
        ("convert", "torchvision", "a.pth", "--backbone", "ResNet18", "--threads", 10**6),
        ("convert", "torchvision", "a.pth", "--backbone", "ResNet50", "--image-size", 20000),
    ],
    ids=lambda given: " ".join(map(str, given))[:50],
)
def test_numbers_have_bounds_in_every_command(ran: Ran, arguments: tuple[object, ...]) -> None:
    ran.refused(*arguments)
    assert os.listdir(ran.folder) == []


def test_plans_that_would_fill_the_memory_are_not_drawn(ran: Ran, photos: Path) -> None:
    given = ("--seeds", 10_000, "--epochs", 10**6)
    ran.refused("--data", photos, *SMALL[:-4], *given, "--output-dir", "out", "--cache-dir", "c", says="lower --epochs")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--cache-dir", "~nosuchuser/x"),
        ("--data", "~nosuchuser/x"),
        ("--weights", "~nosuchuser/x.pth", "--data", "DATA"),
        ("--output-dir", "~nosuchuser/x"),
        ("convert", "~nosuchuser/a.pth", "b.pth"),
        ("convert", "torchvision", "~nosuchuser/b.pth", "--backbone", "ResNet50"),
        ("rank", "--weights", "~nosuchuser/x.pth"),
        ("study", "--data", "~nosuchuser/x"),
    ],
    ids=" ".join,
)
def test_users_that_there_are_not(ran: Ran, photos: Path, arguments: tuple[str, ...]) -> None:
    given = [str(photos) if part == "DATA" else part for part in arguments]
    ran.refused(*given, says="~nosuchuser")
    assert not any(name.startswith("~") for name in os.listdir(ran.folder))


@pytest.mark.parametrize(
    "arguments", [("--data", "a\0b"), ("--data", "\udcff"), ("--output-dir", "\udcff"), ("zoo", "\0"), ("\udcff",)]
)
def test_arguments_that_are_no_text(ran: Ran, arguments: tuple[str, ...]) -> None:
    ran.refused(*arguments, says="UTF-8")


def _with_name(folder: Path, name: bytes, kind: str) -> Path:
    """Images of two classes; a class, or a file that is no image, has a name of its own."""
    data = write_images(folder / "data", dict.fromkeys(CLASSES, 8))
    if kind == "class":
        os.rename(os.fsencode(data / CLASSES[0]), os.path.join(os.fsencode(data), name))
    else:
        with open(os.path.join(os.fsencode(data / CLASSES[0]), name + b".png"), "wb") as file:
            file.write(b"no picture")
    return data


def test_a_class_that_is_not_utf_8(ran: Ran, tmp_path: Path) -> None:
    data = _with_name(tmp_path, b"caf\xe9", "class")
    ran.refused("--data", data, *SMALL, "--cache-dir", "c", says="caf\\")


@pytest.mark.parametrize("name", [b"caf\xe9", b"\x1b[2J", b"[red]x[bold]", b"a\nb", b"\xff\xfe"])
def test_a_broken_file_with_any_name_is_named(ran: Ran, tmp_path: Path, name: bytes) -> None:
    data = _with_name(tmp_path, name, "file")
    assert ran("--data", data, *SMALL, "--cache-dir", "c") == BAD_INPUT
    assert "1 image file" in ran.errors
    assert not RAW.search(ran.errors), ascii(ran.errors)


@pytest.mark.parametrize("name", [b"\x1b[2J[red]\x07", b"a b", b"\xe8\xaa\x9e", b"[bold]", b"<b>&", b"$x^$"])
def test_any_other_name_of_a_class_works(ran: Ran, workers: FakeWorkers, tmp_path: Path, name: bytes) -> None:
    data = _with_name(tmp_path, name, "class")
    status = ran("--data", data, *SMALL, "--frameworks", "torch", "--cache-dir", "c", "--output-dir", "out")
    assert status == 0, ran.errors
    assert not RAW.search(ran.output)
    assert (tmp_path / "out" / artifacts.COMPARISON).is_file()


@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8"])
def test_names_that_are_not_utf_8_in_any_locale(tmp_path: Path, locale: str) -> None:
    data = _with_name(tmp_path, b"caf\xe9", "class")
    finished = away("--data", data, *SMALL, "--cache-dir", tmp_path / "c", environment={"LC_ALL": locale})
    assert finished.returncode == BAD_INPUT
    assert_one_sentence(finished.stderr.decode(), "caf\\")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_terminals_of_any_encoding(encoding: str) -> None:
    environment = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "LC_ALL": "C"}
    finished = away("zoo", "ResNet50", environment=environment)
    assert (finished.returncode, finished.stderr) == (0, b"")
    finished = away("--data", "\u00e9\u8a9e", environment=environment)
    assert finished.returncode == BAD_INPUT
    assert b"Traceback" not in finished.stderr


def test_a_folder_that_has_gone(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    command = f'cd "{folder}" && rmdir "{folder}" && "{sys.executable}" -P "{ROOT / "compare.py"}" zoo ResNet50'
    finished = subprocess.run(["sh", "-c", command], capture_output=True, check=False, text=True)
    assert finished.returncode == BAD_INPUT
    assert_one_sentence(finished.stderr, "current folder")


# Group 15: streams, disks and clocks fail.


@pytest.fixture
def finished_run(workers: FakeWorkers, photos: Path, tmp_path: Path) -> tuple[str, ...]:
    """A run that starts no framework."""
    places = ("--cache-dir", tmp_path / "c", "--output-dir", tmp_path / "out")
    return tuple(map(str, ("--data", photos, *SMALL, "--frameworks", "torch", *places)))


class Broken(io.TextIOWrapper):
    """A stream that cannot be written."""

    def __init__(self, number: int) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")
        self.number = number

    def write(self, text: str) -> int:
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("which", ["stdout", "stderr", "both"])
@pytest.mark.parametrize(
    ("broken", "status"),
    [
        (lambda: Broken(errno.EPIPE), 0),
        (lambda: Broken(errno.ENOSPC), BAD_INPUT),
        (lambda: Broken(errno.EIO), BAD_INPUT),
        (lambda: None, 0),
    ],
    ids=["gone", "full", "failing", "closed"],
)
def test_results_are_kept_whatever_becomes_of_the_streams(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    finished_run: tuple[str, ...],
    broken: Callable[[], Any],
    status: int,
    which: str,
) -> None:
    for name in ("stdout", "stderr") if which == "both" else (which,):
        monkeypatch.setattr(sys, name, broken())
    # Nobody misses what goes to standard error.
    assert compare.main(finished_run) == (0 if which == "stderr" else status)
    assert (tmp_path / "out" / artifacts.COMPARISON).is_file()


@pytest.mark.parametrize("redirection", [">/dev/full", "| head -c 1", ">&-", "2>/dev/full", "2>&-", ">&- 2>&-"])
@pytest.mark.parametrize("arguments", ["zoo", "--help", "--epochs 0", "parity --switch list"])
def test_a_shells_redirections_never_mean_different(arguments: str, redirection: str) -> None:
    command = f'"{sys.executable}" "{ROOT / "compare.py"}" {arguments} {redirection}; exit ${{PIPESTATUS[0]}}'
    finished = subprocess.run(["bash", "-c", command], capture_output=True, check=False, text=True, timeout=60)
    assert finished.returncode in (0, BAD_INPUT), finished.stderr
    assert "Traceback" not in finished.stderr
    assert "Exception ignored" not in finished.stderr
    if arguments == "--epochs 0":
        assert finished.returncode == BAD_INPUT
    elif redirection != ">/dev/full":
        assert finished.returncode == 0


def test_a_stream_gives_up_once() -> None:
    stream = streams.Stream(Broken(errno.ENOSPC))
    assert stream.write("abc") == 3
    assert stream.failure is not None
    assert stream.write("more") == 4
    stream.flush()
    assert stream.encoding == "utf-8"
    assert not stream.isatty()


def _full(folder: Path) -> types.SimpleNamespace:
    return types.SimpleNamespace(total=1, used=1, free=0)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        OSError("Not enough free space to write 100 bytes"),
    ],
    ids=["no space", "no quota", "numpy"],
)
@pytest.mark.parametrize("where", ["document", "prepared"])
def test_a_full_disk_is_named(
    ran: Ran, finished_run: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, error: OSError, where: str
) -> None:
    def fail(*arguments: object, **settings: object) -> None:
        # Not before: there was room at the beginning.
        monkeypatch.setattr(shutil, "disk_usage", _full)
        raise error

    if where == "document":
        monkeypatch.setattr(comparison.ComparisonRunner, "compare", fail)
    else:
        monkeypatch.setattr(prepare, "decoded", fail)
    ran.refused(*finished_run, says=f"{ran.folder / 'out'}")
    assert "no space is left" in ran.errors


def test_a_full_disk_is_told_from_other_failures(tmp_path: Path) -> None:
    assert disk.complaint(OSError(errno.EACCES, "no"), [tmp_path]) is None
    assert disk.complaint(OSError("Not enough free space"), [tmp_path]) is None
    told = disk.complaint(OSError(errno.ENOSPC, "full", str(tmp_path / "a.npy")), [])
    assert told is not None
    assert str(tmp_path / "a.npy") in told


def test_a_real_full_disk(tmp_path: Path, photos: Path) -> None:
    """A tiny file system for the cache, where one can be had."""
    place = tmp_path / "tiny"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        finished = away("--data", photos, *SMALL, "--cache-dir", place / "c", "--output-dir", tmp_path / "out")
    finally:
        subprocess.run(["umount", str(place)], check=True)
    assert finished.returncode == BAD_INPUT
    assert_one_sentence(finished.stderr.decode(), str(place))


@pytest.mark.parametrize("moved", [-1e6, 0.0, 1e6])
def test_no_clock_that_is_set_gives_negative_seconds(monkeypatch: pytest.MonkeyPatch, moved: float) -> None:
    monkeypatch.setenv(start.SPAWNED_AT, repr(time.monotonic()))
    wall = time.time()
    monkeypatch.setattr(time, "time", lambda: wall + moved)
    assert 0 <= start.seconds_since() < 10


def test_a_clock_of_its_own_gives_no_negative_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(start.SPAWNED_AT, repr(time.monotonic() + 1e6))
    assert start.seconds_since() == 0
    monkeypatch.delenv(start.SPAWNED_AT)
    assert start.seconds_since() == 0


def test_durations_come_from_monotonic_clocks() -> None:
    """The time of day is asked for what happened when, as the times of files are, and never for how long."""
    asked = {"tensorboard.py", "cache.py", "cache_contents.py", "scratch.py"}
    for path, tree in _sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "time.time":
                assert path.name in asked, f"{path}:{node.lineno}"


@pytest.mark.parametrize(
    ("error", "status"),
    [(RuntimeError("[/red]\x1b"), DEFECT), (KeyError("x"), DEFECT), (MemoryError(), 3), (KeyboardInterrupt(), 130)],
    ids=["RuntimeError", "KeyError", "MemoryError", "KeyboardInterrupt"],
)
def test_nothing_unforeseen_passes_for_different(
    ran: Ran, monkeypatch: pytest.MonkeyPatch, finished_run: tuple[str, ...], error: BaseException, status: int
) -> None:
    def fail(*arguments: object, **settings: object) -> None:
        raise error

    monkeypatch.setattr(prepare, "decoded", fail)
    assert ran(*finished_run) == status
    assert not RAW.search(ran.errors)


# Group 16: small things.


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("FOLDER",), "is a folder and no recipe"),
        (("study", "FOLDER"), "is a folder and no recipe"),
        (("rank", "--backbone", "all", "ResNet50"), "leave the other names out"),
        (("parity", "--backbone", "ResNet50", "all"), "leave the other names out"),
        (("flowers", "stray"), "'stray' is not expected"),
        (("flowers", "stray", "words"), "'stray' and 'words' are not expected"),
        (("attribute", "--switches", "torch:nothing"), "torch:nothing"),
        (("attribute", "--switches", "tensorflow:data_ordr"), "did you mean 'tensorflow:data_order'"),
        (("convert", "a.pth", "sub/../a.pth"), "the source itself"),
        (("convert", "a.pth", "./a.pth"), "the source itself"),
        (("convert", "a.pth", "link.pth"), "the source itself"),
        (("convert", "a.pth", "."), "destination"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_small_mistakes_have_their_sentence(
    ran: Ran, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], says: str
) -> None:
    (ran.folder / "FOLDER").mkdir()
    (ran.folder / "a.pth").write_bytes(b"weights of resnet50")
    os.link(ran.folder / "a.pth", ran.folder / "link.pth")
    given = [*arguments, "--backbone", "ResNet50"] if arguments[0] == "convert" else list(arguments)
    ran.refused(*given, says=says)
    assert (ran.folder / "a.pth").read_bytes() == b"weights of resnet50"


@pytest.mark.parametrize("what", ["recipe", "weights", "neutral", "source"])
def test_what_may_not_be_read_is_not_called_damaged(
    ran: Ran, monkeypatch: pytest.MonkeyPatch, recipe: Callable[[str], Path], photos: Path, what: str
) -> None:
    secret = recipe("epochs = 1\n") if what == "recipe" else ran.folder / f"resnet50{'.pth' * (what != 'neutral')}"
    if what == "neutral":
        secret = secret.with_suffix(artifacts.NEUTRAL)
        neutral.save(secret, {"a": np.zeros(1)}, Metadata(backbone="MobileNetV2", semantics="torchvision"))
    elif what != "recipe":
        secret.touch()
    genuine, access = io.open, os.access

    def opened(file: Any, *arguments: Any, **settings: Any) -> Any:
        if Path(str(file)) == secret:
            raise PermissionError(errno.EACCES, "Permission denied", str(file))
        return genuine(file, *arguments, **settings)

    def denied(*arguments: Any, **settings: Any) -> Any:
        raise OSError("Permission denied (os error 13)")

    # Whoever runs the tests may be allowed to read everything.
    monkeypatch.setattr(io, "open", opened)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != secret and access(path, mode))
    monkeypatch.setattr(safetensors, "safe_open", denied)
    given = {"recipe": (secret,), "source": ("convert", secret, "b.pth")}.get(
        what, ("--weights", secret, "--data", photos, *SMALL[2:], "--cache-dir", "c", "--output-dir", "o")
    )
    ran.refused(*given, says="ermission denied")
    assert "damaged" not in ran.errors


def test_a_cache_of_nobody() -> None:
    with pytest.raises(BadInput, match="home folder"):
        Cache("~nosuchuser/x")


# With a framework: what only it can read. Slow.

#: Writes malformed state_dicts of torchvision's MobileNetV2.
WRITE_STATES = """
import sys, torch
from transfer_parity.shared.zoo.lookup import find_pair
from transfer_parity.torch_impl import backbone
state = backbone.stock(find_pair("MobileNetV2"), 224, classifier=True).state_dict()
state = {name: torch.full_like(tensor, 0.01) for name, tensor in state.items()}
first, folder = next(iter(state)), sys.argv[1]
class Anything: pass
torch.save({**state, first: state[first].to("meta")}, f"{folder}/meta.pth")
torch.save({**state, "extra[/red]\\x1b[2J": torch.zeros(2)}, f"{folder}/names.pth")
torch.save({**state, first: state[first].to_sparse()}, f"{folder}/sparse.pth")
torch.save({"model": Anything()}, f"{folder}/objects.pth")
torch.save({**state, first: torch.tensor(1.0)}, f"{folder}/scalar.pth")
"""


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("states")
    python(WRITE_STATES, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("meta", "has a shape and no values"),
        ("sparse", "does not fit the model"),
        ("objects", "holds objects besides tensors"),
        ("scalar", "does not fit the model"),
    ],
)
def test_malformed_state_dicts_are_bad_input(ran: Ran, states: Path, name: str, says: str) -> None:
    ran.refused("convert", states / f"{name}.pth", "b.pth", "--backbone", "MobileNetV2", "--cache-dir", "c", says=says)
    assert "weights_only" not in ran.errors
    assert not (ran.folder / "b.pth").exists()


@pytest.mark.slow
def test_names_of_tensors_are_never_markup(ran: Ran, states: Path) -> None:
    given = ("convert", states / "names.pth", "b.safetensors", "--backbone", "MobileNetV2", "--cache-dir", "c")
    assert ran(*given) == 0, ran.errors
    assert "extra[/red]\\x1b[2J" in ran.output
    assert not RAW.search(ran.output)


@pytest.mark.parametrize("epsilon", [-1e-3, 0, "1e-3", None, [1e-3]], ids=str)
def test_an_epsilon_is_a_positive_number(epsilon: object) -> None:
    layer = {"class_name": "BatchNormalization", "config": {"epsilon": epsilon}}
    with pytest.raises(BadInput, match="epsilon"):
        tfjs.single_epsilon([layer], Path("a.keras"))


# Groups 1 to 12: a few of each; tests/test_run_folder.py, test_kept.py and those of their subjects have the others.


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(("data", "out"), [("d", "d"), ("d", "d/results"), ("o/d", "o"), ("d", "./d/../d")])
@pytest.mark.parametrize("command", [(), ("study", "--strategies", "ridge")], ids=["compare", "study"])
def test_results_never_lie_among_the_images(
    ran: Ran, workers: FakeWorkers, data: str, out: str, command: tuple[str, ...]
) -> None:
    write_images(ran.folder / data, {"models": 8, "logits": 8})
    before = _contents(ran.folder)
    small = SMALL if not command else ("--weights", "random", "--image-size", 32, "--shots", 3, "--seeds", 1)
    ran.refused(*command, "--data", data, *small, "--output-dir", out, "--cache-dir", "c")
    assert before.items() <= _contents(ran.folder).items()


@pytest.mark.parametrize("name", ["models/mine.txt", "tensorboard/mine", "my-worker.log", "logits/a.npy", "notes.txt"])
def test_files_of_the_users_survive(ran: Ran, finished_run: tuple[str, ...], name: str) -> None:
    path = ran.folder / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine", encoding="utf-8")
    for _ in range(2):
        assert ran(*finished_run) in (0, BAD_INPUT)
    assert path.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("ending", ["worker", "interrupt", "bad input", "defect"])
def test_a_rerun_that_fails_leaves_the_earlier_results(
    ran: Ran, workers: FakeWorkers, finished_run: tuple[str, ...], ending: str
) -> None:
    assert ran(*finished_run) == 0
    before = _contents(ran.folder / "out")
    raised = {"interrupt": KeyboardInterrupt(), "bad input": BadInput("no."), "defect": ValueError("no")}
    workers.lives, workers.ending = len(workers.runs), raised.get(ending)
    assert ran(*finished_run, "--epochs", 4) != 0
    after = _contents(ran.folder / "out")
    assert {name: after.get(name) for name in before if "log" not in name} == {
        name: content for name, content in before.items() if "log" not in name
    }


@pytest.mark.parametrize("kind", ["flipped", "truncated", "emptied"])
def test_damaged_pixels_are_decoded_again_and_told(ran: Ran, finished_run: tuple[str, ...], kind: str) -> None:
    assert ran(*finished_run) == 0
    kept.forget()
    (pixels,) = (ran.folder / "c" / "pixels").rglob("images.npy")
    genuine = pixels.read_bytes()
    changed = bytearray(genuine)
    changed[len(changed) // 2] ^= 1
    pixels.write_bytes({"flipped": bytes(changed), "truncated": genuine[:-1], "emptied": b""}[kind])
    assert ran(*finished_run) == 0
    assert ran.errors.count("is damaged;") == 1
    assert pixels.read_bytes() == genuine


@pytest.mark.parametrize("size", [1e28, 1e300], ids=str)
def test_agreement_about_nothing_is_not_identical(
    ran: Ran, workers: FakeWorkers, finished_run: tuple[str, ...], size: float
) -> None:
    genuine = workers.logits
    workers.logits = lambda job, framework, run, labels: size * np.abs(genuine(job, "tensorflow", run, labels))
    assert ran(*finished_run[:-6], *finished_run[-4:]) == 1
    assert "dentical" not in ran.output.splitlines()[-2]


def test_a_test_folder_without_a_class_is_mentioned(ran: Ran, workers: FakeWorkers) -> None:
    write_images(ran.folder / "d" / "train", dict.fromkeys(CLASSES, 8))
    write_images(ran.folder / "d" / "test", dict.fromkeys(CLASSES[:2], 4))
    ran("--data", "d", *SMALL, "--frameworks", "torch", "--cache-dir", "c", "--output-dir", "o")
    assert CLASSES[2] in ran.errors + ran.output

"""Lessons: their cells run in processes of their own, and both languages say the same. No framework is imported."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROOT
from transfer_parity.shared.contract.wings import WINGS
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.exercises.catalogue import EXERCISES
from transfer_parity.shared.lessons import magics, percent, play
from transfer_parity.shared.lessons.magics import CellError, Cells
from transfer_parity.shared.lessons.session import PATIENCE, Session

LESSONS = sorted((ROOT / "docs" / "lessons").glob("*.py"))
CHINESE = ROOT / "docs" / "zh" / "lessons"
MAGICS = {wing.identifier for wing in WINGS}


#: A cell with what stands for a tensor of a type that NumPy has not.
HALF = """
class Tensor:
    dtype = "torch.bfloat16"
    def __array__(self, dtype=None, copy=None):
        raise TypeError("Got unsupported ScalarType BFloat16")
half = Tensor()
"""


class Notebook:
    """IPython's shell, as far as the extension needs it."""

    def __init__(self) -> None:
        self.user_ns: dict[str, Any] = {}
        self.magics: dict[str, Callable[[str, str], Any]] = {}

    def register_magic_function(self, func: Any, magic_kind: str, magic_name: str) -> None:
        assert magic_kind == "cell"
        self.magics[magic_name] = func


class Plain:
    """Two sessions of Python alone; ``tomllib`` stands for the other framework, which the first cannot import."""

    def __init__(self) -> None:
        self.namespace: dict[str, Any] = {}
        self.makers = {"one": lambda: Session("%%one", ["tomllib"]), "two": lambda: Session("%%two")}
        self.cells = Cells(self.namespace, self.makers)
        self.printed = ""

    def __call__(self, code: str, line: str = "", name: str = "one") -> str:
        """``repr`` of the last line of a cell; nothing if it has no value."""
        value = self.cells.run(name, line, code, self.show)
        return "" if value is None else repr(value)

    def show(self, stream: str, text: str) -> None:
        self.printed += f"{stream}:{text}" if text.strip() else ""


@pytest.fixture(scope="module")
def plain() -> Iterator[Plain]:
    made = Plain()
    yield made
    made.cells.close()


def told(plain: Plain, code: str, line: str = "") -> str:
    """What the notebook shows of a cell that fails."""
    with pytest.raises(CellError) as caught:
        plain(code, line)
    return "\n".join(caught.value._render_traceback_())


def test_a_cell_keeps_what_the_last_one_made(plain: Plain) -> None:
    assert plain("kept = 20\ndef double(x):\n    return 2 * x") == ""
    assert plain("double(kept) + 2") == "42"
    assert plain("double(kept); None") == ""
    assert plain("'kept' in globals()", name="two") == "False"
    assert plain("import os; os.getpid()") == plain("os.getpid()") != str(os.getpid())


def test_what_a_cell_prints_is_heard(plain: Plain) -> None:
    plain.printed = ""
    plain("import sys\nprint('out')\nprint('err', file=sys.stderr)")
    assert plain.printed == "stdout:outstderr:err"


@pytest.mark.parametrize(
    "array",
    [np.arange(6.0).reshape(2, 3), np.array(3, np.int8), np.array([True]), np.zeros((0, 2), np.float32), np.array("é")],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_go_there_and_come_back(plain: Plain, array: np.ndarray[Any, Any]) -> None:
    plain.namespace["given"] = array
    plain("back = given", "-i given -o back")
    back = plain.namespace["back"]
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()


def test_numbers_and_lists_come_back_as_arrays(plain: Plain) -> None:
    plain("a = 1.5\nb = [[1, 2], [3, 4]]", "-o a b")
    assert plain.namespace["a"] == 1.5
    assert plain.namespace["b"].shape == (2, 2)


def test_what_needs_its_gradients_left_behind_is_asked_for_its_numbers(plain: Plain) -> None:
    plain(
        "import numpy\n"
        "class Tensor:\n"
        "    def __init__(self, bare): self.bare = bare\n"
        "    def detach(self): return Tensor(True)\n"
        "    def cpu(self): return self\n"
        "    def __array__(self, dtype=None, copy=None):\n"
        "        assert self.bare\n"
        "        return numpy.ones(2)\n"
        "tensor = Tensor(False)",
        "-o tensor",
    )
    assert plain.namespace["tensor"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("code", "line", "sentence"),
    [
        ("1", "-i nowhere", "the notebook has no nowhere, which -i is to hand over"),
        ("1", "-i things", "things is a list, no array of numbers"),
        ("1", "-o nothing", "the cell has made no nothing, which -o asks for"),
        ("things = {'a': 1}", "-o things", "things is a dict that is no array of numbers"),
        ("1", "-o a,b", "%%one: a,b is no name of a variable"),
        ("1", "-x", "%%one: unrecognized arguments: -x"),
        ("1", "-i 'things", "%%one: No closing quotation; it takes -i NAME"),
        ("1", "-i ragged", "ragged is a list, no array of numbers"),
        (HALF, "-o half", "half has the type torch.bfloat16, which NumPy's files do not know; hand over a copy in"),
        ("1", "-o", "%%one: argument -o: expected at least one argument"),
    ],
)
def test_what_cannot_be_handed_over_is_one_sentence(plain: Plain, code: str, line: str, sentence: str) -> None:
    plain.namespace |= {"things": [1, {}], "ragged": [[1], [1, 2]]}
    shown = told(plain, code, line)
    assert shown.startswith(f"error: {sentence}")
    assert shown.count("\n") == 0


def test_a_cell_that_fails_leaves_no_arrays_on_disk(plain: Plain) -> None:
    plain.namespace["given"] = np.zeros(3)
    for code in ("1 / 0", "made = 1", "given = {}"):
        told(plain, code, "-i given -o given missing")
    place = plain("import tempfile\ntempfile.gettempdir()").strip("'")
    assert not list(Path(place).glob("*.npy"))


def test_no_pickle_goes_there_or_comes_back(plain: Plain) -> None:
    plain.namespace["objects"] = np.array([{}, None])
    assert "no array of numbers" in told(plain, "1", "-i objects")
    assert "no array of numbers" in told(plain, "import numpy\nobjects = numpy.array([{}, None])", "-o objects")


def test_a_program_that_a_cell_starts_gets_no_requests(plain: Plain) -> None:
    """It would wait for one, and the next cell for ever."""
    assert plain("import subprocess\nsubprocess.run(['cat'], timeout=20).returncode") == "0"


def test_a_traceback_shows_the_lines_of_the_cell(plain: Plain) -> None:
    shown = told(plain, "import fractions\ndef fail():\n    return fractions.Fraction('half')\nfail()")
    assert shown.startswith("Traceback")
    assert "line 4, in <module>\n    fail()" in shown
    assert "return fractions.Fraction('half')" in shown
    assert shown.splitlines()[-1] == "ValueError: Invalid literal for Fraction: 'half'"
    assert "cell_process" not in shown
    assert told(plain, "1 +").splitlines()[-1].startswith("SyntaxError")
    assert told(plain, "exit()").splitlines()[-1].startswith("SystemExit")
    assert plain("1 + 1") == "2"


def test_a_function_that_calls_itself_without_end_is_told_briefly(plain: Plain) -> None:
    shown = told(plain, "def again():\n    return again()\nagain()").splitlines()
    assert len(shown) < 50 and "again()" in shown[2]
    assert [line for line in shown if "and so on" in line]
    assert shown[-1].startswith("RecursionError")


def test_the_other_framework_cannot_be_imported(plain: Plain) -> None:
    for code in ("import tomllib", "from tomllib import loads"):
        assert told(plain, code).endswith("this import belongs into a cell of the other kind.")
    # For those that only look, it is not there.
    assert plain("import importlib.util\nimportlib.util.find_spec('tomllib') is None") == "True"
    assert plain("import tomllib", name="two") == ""


def test_a_process_that_dies_is_one_sentence_and_the_next_cell_starts_another(plain: Plain) -> None:
    plain("kept = 1")
    shown = told(plain, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    assert shown == (
        "error: the process of %%one was killed by SIGKILL, and what its cells had made is gone; run them again from "
        "the first, which starts a new one."
    )
    assert plain("'kept' in globals()") == "False"
    assert "ended with exit status 3" in told(plain, "import os\nos.write(2, b'why it died')\nos._exit(3)")
    assert told(plain, "import os\nos.write(2, b'why')\nos._exit(3)").startswith("why\nerror: ")


def test_an_interruption_stops_the_cell_and_nothing_else(plain: Plain) -> None:
    plain("import time\nkept = 1")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            plain("time.sleep(60)")
    finally:
        signal.signal(signal.SIGINT, before)
    assert plain("kept") == "1"


@pytest.mark.parametrize("printed", ["a line", "x" * 20_000_000], ids=["little", "much"])
def test_whoever_interrupts_again_gets_no_answer_twice(plain: Plain, printed: str) -> None:
    """A cell hears neither what an interrupted one still says nor what was to end that one's process."""
    plain(f"import time\nkept = 1\nprinted = {printed!r}")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for seconds in (0.3, 0.6):
            threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            plain("try:\n    print(printed)\n    time.sleep(60)\nfinally:\n    time.sleep(1)\n'interrupted'")
    finally:
        signal.signal(signal.SIGINT, before)
    assert plain("kept") == "1"
    for each in threading.enumerate():
        if isinstance(each, threading.Timer):
            each.join(PATIENCE / 2)
            assert not each.is_alive()


def test_a_cell_whose_output_nobody_can_show_is_given_up(plain: Plain) -> None:
    def show(stream: str, text: str) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        plain.cells.run("one", "", "print('to nobody')\n'late'", show)
    assert plain("'next'") == "'next'"


def test_a_process_ends_with_the_notebook(tmp_path: Path) -> None:
    """Also with one that is killed while a cell runs."""
    program = (
        "import os\n"
        "from transfer_parity.shared.lessons.session import Session\n"
        "show = lambda stream, text: print(text, end='', flush=True)\n"
        "Session('%%one').run('import os, time\\nprint(os.getpid())\\ntime.sleep(60)', show)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as notebook:
        assert notebook.stdout is not None
        cell = int(notebook.stdout.readline())
        os.kill(cell, 0)
        notebook.kill()
    for _ in range(500):
        status = Path(f"/proc/{cell}/stat")
        if not status.exists() or " Z " in status.read_text(encoding="utf-8"):
            break
        threading.Event().wait(0.01)
    else:
        pytest.fail("the cell's process lives on")


def test_the_extension_adds_a_magic_for_every_framework() -> None:
    notebook = Notebook()
    magics.load_ipython_extension(notebook)
    assert set(notebook.magics) == MAGICS
    assert all("-o NAME" in (each.__doc__ or "") for each in notebook.magics.values())
    with pytest.raises(CellError, match="is no name of a variable"):
        notebook.magics[WINGS[0].identifier]("-o a,b", "1")


def test_the_extension_imports_no_framework() -> None:
    program = f"import sys, {magics.__name__}; print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert magics.__name__ in shown.split()
    assert not {package for wing in WINGS for package in wing.packages} & set(shown.split())


LESSON = """# ---
# jupyter: {}
# ---

# %% [markdown]
# # Title
#
# - **text** `# %% no cell`
# ## Section

# %%
# %load_ext something
x = 3

# %%
# %%one -i x -o y
y = 2 * x

print("in the process")
y

# %% [markdown]
# End

# %%
assert y == 6
y + 1
"""


def test_a_lesson_is_read_and_played(tmp_path: Path, plain: Plain, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "lesson.py"
    path.write_text(LESSON, encoding="utf-8")
    cells = percent.read(path)
    assert [cell.is_text for cell in cells] == [True, False, False, True, False]
    assert cells[0].source.startswith("# Title\n\n- **text**")
    assert cells[0].headings == [1, 2]
    assert cells[2].magic == ("one", " -i x -o y", 'y = 2 * x\n\nprint("in the process")\ny')
    assert cells[1].magic is cells[0].magic is None
    namespace = play.play(path, plain.makers)
    assert namespace["y"] == 6
    printed = capsys.readouterr().out
    assert "# Title\n" in printed and "    y = 2 * x\n" in printed
    assert printed.index("in the process\nnp.int64(6)") < printed.rindex("7")


def test_a_lesson_ends_with_the_first_cell_that_fails(tmp_path: Path, plain: Plain) -> None:
    path = tmp_path / "lesson.py"
    path.write_text(LESSON.replace("y = 2 * x", "y = 1 // 0"), encoding="utf-8")
    with pytest.raises(CellError, match="ZeroDivisionError"):
        play.play(path, plain.makers)
    path.write_text(LESSON.replace("y == 6", "y == 7"), encoding="utf-8")
    with pytest.raises(AssertionError):
        play.play(path, plain.makers)


def test_what_is_no_lesson_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        percent.read(tmp_path / "none.py")
    path = tmp_path / "lesson.py"
    path.write_text("# %% [markdown]\nno comment\n", encoding="utf-8")
    with pytest.raises(BadInput, match="line 2 is no comment"):
        percent.read(path)
    assert play.main([str(path)]) == BadInput.exit_status
    path.write_text("Some text.\n", encoding="utf-8")
    with pytest.raises(BadInput, match="has no cell"):
        percent.read(path)
    path.write_text("# %%\n# %%three -o x\nx = 1\n", encoding="utf-8")
    assert play.main([str(path)]) == play.main([]) == BadInput.exit_status
    told = capsys.readouterr().err
    assert "a cell that begins with %%three; a lesson has" in told and "no lesson is given" in told


def test_a_lesson_does_not_wait_for_a_reader_who_has_gone(tmp_path: Path) -> None:
    path = tmp_path / "lesson.py"
    path.write_text(f"# %%\n# %%{WINGS[0].identifier}\nprint('much\\n' * 100_000)\n1 / 0\n", encoding="utf-8")
    program = [sys.executable, "-m", play.__name__, str(path)]
    with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as played:
        assert played.stdout is not None and played.stderr is not None
        assert played.stdout.readline()
        played.stdout.close()
        try:
            assert played.wait(60) == 1
        finally:
            played.kill()
        shown = played.stderr.read()
    assert shown.splitlines()[-1].startswith("ZeroDivisionError") and "BrokenPipe" not in shown


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_has_what_every_lesson_has(lesson: Path) -> None:
    """Both frameworks, numbers that are compared, a look at the wings, exercises with answers."""
    cells = percent.read(lesson)
    text = "\n".join(cell.source for cell in cells if cell.is_text)
    own = [cell.plain for cell in cells if not cell.is_text and cell.magic is None]
    assert {cell.magic[0] for cell in cells if cell.magic} == MAGICS
    assert sum("assert " in code for code in own) >= 4
    assert text.startswith(f"# {int(lesson.name[:2])}. ")
    for wanted in ("minutes", "## Exercises", "<summary>Answers</summary>", "python compare.py exercise list"):
        assert wanted in text
    # No framework in the notebook's own process.
    packages = "|".join(package for wing in WINGS for package in wing.packages)
    assert not re.search(rf"^\s*(import|from) ({packages})\b", "\n".join(own), re.MULTILINE)
    for path in re.findall(r"`((?:shared|tf_impl|torch_impl|docs)/[\w/.-]+\.\w+)`", text):
        assert (ROOT / path).exists(), path
    assert set(re.findall(r"exercises of lesson (\d+)", text)) <= {str(each.lesson) for each in EXERCISES}


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_both_languages_have_the_same_code_and_headings(lesson: Path) -> None:
    ours, theirs = percent.read(lesson), percent.read(CHINESE / lesson.name)
    assert [cell.is_text for cell in ours] == [cell.is_text for cell in theirs]
    for mine, yours in zip(ours, theirs, strict=True):
        if mine.is_text:
            assert mine.headings == yours.headings, mine.source
            for mark in ("\n|", "<details>", "\n1. ", "\n2. ", "\n3. "):
                assert mine.source.count(mark) == yours.source.count(mark), (mark, mine.source)
            assert re.search("[\u4e00-\u9fff]", yours.source), yours.source
        else:
            assert mine.source == yours.source


def test_there_are_ten_lessons() -> None:
    assert [int(path.name[:2]) for path in LESSONS] == list(range(1, 11))
    assert sorted(path.name for path in CHINESE.glob("*.py")) == [path.name for path in LESSONS]


@pytest.mark.slow
@pytest.mark.parametrize("lesson", [path for path in LESSONS if path.name[:2] != "10"], ids=lambda path: path.stem)
def test_a_lesson_runs(lesson: Path) -> None:
    assert play.main([str(lesson)]) == 0


@pytest.mark.network
def test_the_lesson_on_photographs_runs() -> None:
    assert play.main([str(LESSONS[-1])]) == 0


@pytest.mark.slow
def test_a_lesson_becomes_a_page() -> None:
    pytest.importorskip("nbclient", reason="needs the extra lessons")
    program = [sys.executable, str(ROOT / "docs" / "execute_lessons.py"), "1"]
    finished = subprocess.run(program, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    for folder in ("lessons", "zh/lessons"):
        page = (ROOT / "build" / folder / "01-tensors.md").read_text(encoding="utf-8")
        assert "```python\n%%torch -i images -o doubled_torch\n" in page
        assert re.search(r"```text\nkeras 3\.\d+", page)
        assert str(ROOT) not in page

"""What the documents show: blocks of code with the project's commands, and a folder in which these can run.

A block is marked as not run by a comment of one line above it: ``<!-- not run: why -->``.
"""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tests import test_episodes
from tests.conftest import ROOT, write_images
from transfer_parity.shared.commands.table import COMMANDS, DEFAULT

#: Programs that are this project's command.
_PROGRAMS = (["python", "compare.py"], ["transfer-parity"], ["python", "-m", "transfer_parity"])
_BLOCK = re.compile(
    r"(?:^[ ]*<!-- not run: (?P<reason>[^\n]*?) -->\n)?^(?P<indent> *)```(?P<kind>\w*)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        document: relative to the root of the checkout.
        line: of its first line, from 1.
        kind: of code, as the document says it.
        text: without the indentation of the list that it stands in.
        reason: why it is not run, if the document says so.
    """

    document: str
    line: int
    kind: str
    text: str
    reason: str | None

    @property
    def name(self) -> str:
        """For the names of tests."""
        return f"{self.document}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """The arguments of each of this project's commands that it shows, without its output and comments."""
        joined = self.text.replace("\\\n", " ")
        shown = [line[2:] for line in joined.splitlines() if line.startswith("$ ")]
        # What a shell does with the output is not this project's.
        lines = [shlex.split(line.partition(" | ")[0], comments=True) for line in shown]
        return [line[len(start) :] for line in lines for start in _PROGRAMS if line[: len(start)] == start]

    @property
    def imports(self) -> bool:
        """Whether it is Python that uses the project."""
        return (
            self.kind == "python" and re.search(r"^\s*(?:from|import) transfer_parity\b", self.text, re.M) is not None
        )

    @property
    def concerned(self) -> bool:
        """Whether it has to be run, or to say why not."""
        return bool(self.commands) or self.imports


def blocks_of(text: str, document: str) -> list[Block]:
    """The blocks of a document."""
    found = []
    for match in _BLOCK.finditer(text):
        lines = [line.removeprefix(match["indent"]) for line in match["text"].splitlines(keepends=True)]
        line = text.count("\n", 0, match.start("text")) + 1
        found.append(Block(document, line, match["kind"], "".join(lines), match["reason"]))
    return found


def blocks() -> list[Block]:
    """All blocks of the documents that have to be run, or to say why not."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    each = [block for path in paths for block in blocks_of(path.read_text("utf-8"), str(path.relative_to(ROOT)))]
    return [block for block in each if block.concerned]


#: Classes of the folders of images: enough for an episode of five ways on half of them.
CLASSES = ("rose", "iris", "viola", "daisy", "poppy", "lily", "tulip", "crocus", "dahlia", "lotus")
#: A folder of photographs, and other names for it in the documents. The last stands in for what would be fetched.
FOLDERS = ("my-photos", "shapes", "clothing-small", "flowers")
#: Checkpoints from elsewhere. Nobody looks into them before a framework's process does.
CHECKPOINTS = ("resnet50.h5",)


def lay_out(folder: Path) -> None:
    """Put into a folder what a user of the documents would have: photographs, recipes, pairs of models, archives."""
    write_images(folder / FOLDERS[0], dict.fromkeys(CLASSES, 24), side=32)
    for name in FOLDERS[1:]:
        (folder / name).symlink_to(FOLDERS[0])
    write_images(folder / "new-species", {f"species{number}": 24 for number in range(5)}, side=32, seed=1)
    write_images(folder / "holiday", {"beach": 2})
    for name in ("photo.jpg", "rose.jpg"):
        Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(folder / name)
    for name in CHECKPOINTS:
        (folder / name).touch()
    (folder / "my-study.toml").write_text('data = "my-photos"\n', encoding="utf-8")
    # Of the ladder, which takes no other weights in its place.
    (folder / "mine.toml").write_text('data = "my-photos"\nweights = "random"\ncontrol = false\n', encoding="utf-8")
    own = 'data = "my-photos"\nweights = "random"\ncontrol = false\nseeds = 2\n'
    (folder / "my-recipe.toml").write_text(own, encoding="utf-8")
    _describe(folder / FOLDERS[0])
    cached = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=cached)
    # Documents that say "pair.toml" mean whichever it is.
    shutil.copytree(ROOT / "examples" / "residual", folder / "models", ignore=cached)
    shutil.copytree(ROOT / "examples" / "residual", folder, ignore=cached, dirs_exist_ok=True)
    test_episodes.archive(folder / "all_runs.zip", test_episodes.run_members("run01"))
    drawn: dict[str, bytes | str] = {
        f"alphabet/character{number}/{each}.png": test_episodes.png(50 * number + each)
        for number in (1, 2, 3, 4)
        for each in (1, 2)
    }
    test_episodes.archive(folder / "images_background_small1.zip", drawn)


def _describe(photos: Path) -> None:
    """Beside a folder of photographs: labels of two tasks, and vectors of the images and of the classes."""
    names = [path.relative_to(photos).as_posix() for path in sorted(photos.rglob("*.png"))]
    rows = [
        f"{name},{('red', 'blue')[number % 2]},{('round', 'square')[number % 3 % 2]}"
        for number, name in enumerate(names)
    ]
    for path in (photos / "labels.csv", photos.parent / "mine.csv"):
        path.write_text("\n".join(["file,colour,shape", *rows]) + "\n", encoding="utf-8")
    random = np.random.default_rng(0)
    np.savez(photos.parent / "clip.npz", features=random.normal(size=(len(names), 16)), files=names)
    np.save(photos.parent / "clip-text.npy", random.normal(size=(len(CLASSES), 16)))


#: What may be replaced of a climb, a conversion or guides.
LADDER = ("--threads", "--backbone", "--strategies")


def with_overrides(command: Sequence[str], overrides: Mapping[str, str | None]) -> list[str]:
    """A command with those of some options that it has, flags among them (None); what is given last counts.

    The ladder, conversions and guides say themselves how large images are, and which weights and seeds; pairs of one's
    own have no such options at all.
    """
    name = command[0] if command and command[0] in COMMANDS else DEFAULT
    if any(word.endswith("pair.toml") or word in ("dump", "judge") for word in command):
        return list(command)
    if name in ("parity", "convert") or "guides" in command:
        overrides = {option: value for option, value in overrides.items() if option in LADDER}
    known = importlib.import_module(f"transfer_parity.shared.commands.{name}").build_parser()._option_string_actions
    # Published runs have their tasks.
    absent = {"--episodes"} if "--runs" in command else set()
    given = [(option, (value or "").split()) for option, value in overrides.items() if option in known.keys() - absent]
    return [*command, *(word for option, values in given for word in (option, *values))]


def imported(text: str) -> list[str]:
    """What a script imports of the project, by its whole name."""
    return [
        f"{node.module}.{each.name}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "transfer_parity"
        for each in node.names
    ]

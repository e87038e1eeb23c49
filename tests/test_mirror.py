"""The wings mirror each other: the same files, the same public names in the same order, the same signatures.

Read from their source. No framework is imported.
"""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from transfer_parity.shared.contract.wings import WINGS

KERAS, TORCH = (ROOT / wing.package.rpartition(".")[2] for wing in WINGS)
#: What has no like in the other framework stands here, so names differ.
INTERNALS = "internals.py"
#: What is the same thing in both frameworks, as annotations spell it.
SAME = {
    r"keras\.Model|nn\.Module": "Module",
    r"tf\.Tensor|\bTensor": "Tensor",
    r"keras\.Variable|nn\.Parameter": "Variable",
    r"keras\.optimizers\.Optimizer|torch\.optim\.Optimizer": "Optimizer",
}


def annotation(node: ast.expr | None) -> str:
    text = ast.unparse(node) if node is not None else ""
    for spellings, name in SAME.items():
        text = re.sub(spellings, name, text)
    return text


def signature(node: ast.FunctionDef) -> str:
    """Names, kinds, defaults and annotations of a function's parameters, and what it returns."""
    arguments = node.args
    for each in ast.walk(arguments):
        if isinstance(each, ast.arg) and each.annotation is not None:
            each.annotation = ast.Constant(annotation(each.annotation))
    return f"({ast.unparse(arguments)}) -> {annotation(node.returns)}"


def is_public(name: str) -> bool:
    return not name.startswith("_") or name == "__init__"


def public(path: Path) -> list[str]:
    """What a file offers, in its order: functions and methods with their signatures, classes, constants."""
    found = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and is_public(node.name):
            found.append(f"{node.name}{signature(node)}")
        elif isinstance(node, ast.ClassDef) and is_public(node.name):
            found.append(f"class {node.name}")
            methods = (each for each in node.body if isinstance(each, ast.FunctionDef) and is_public(each.name))
            found += [f"{node.name}.{each.name}{signature(each)}" for each in methods]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            (target,) = node.targets if isinstance(node, ast.Assign) else [node.target]
            targets = target.elts if isinstance(target, ast.Tuple) else [target]
            found += [each.id for each in targets if isinstance(each, ast.Name) and is_public(each.id)]
    return found


def differences(ours: Path, theirs: Path) -> list[str]:
    """What is not the same in two wings, in words."""
    files = [sorted(path.name for path in wing.glob("*.py")) for wing in (ours, theirs)]
    if files[0] != files[1]:
        return [f"files: {sorted(set(files[0]) ^ set(files[1]))}"]
    found = []
    for name in files[0]:
        mine, yours = public(ours / name), public(theirs / name)
        if name != INTERNALS and mine != yours:
            found.append(f"{name}: {mine} and {yours}")
    return found


def test_the_wings_mirror_each_other() -> None:
    assert not differences(KERAS, TORCH)
    # And there is something in the mirror.
    assert len(public(KERAS / "training.py")) >= 6
    assert all((KERAS / name).is_file() for name in ("walkthrough.py", "formats.py", INTERNALS))


def replaced(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return change


def reordered(text: str) -> str:
    """The last of the file's functions in front of all others."""
    module = ast.parse(text)
    functions = [node for node in module.body if isinstance(node, ast.FunctionDef) and is_public(node.name)]
    module.body.remove(functions[-1])
    module.body.insert(module.body.index(functions[0]), functions[-1])
    return ast.unparse(module)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("optimizers.py", replaced("def build_loss(", "def make_loss(")),
        (
            "optimizers.py",
            replaced("def build_loss(recipe: Recipe)", "def build_loss(recipe: Recipe, scale: float = 1.0)"),
        ),
        ("training.py", replaced("    def update(self, gradients", "    def apply(self, gradients")),
        ("weights.py", replaced("names: Collection[str] | None = None", "names: Collection[str] | None")),
        ("weights.py", replaced("def load(network: Network, arrays", "def load(network: Network, *, arrays")),
        ("weights.py", replaced("def stock_arrays(model: keras.Model", "def stock_arrays(model: keras.Layer")),
        ("weights.py", replaced("\ndef shapes(", "\ndef _shapes(")),
        ("native.py", reordered),
        ("inference.py", replaced("\nFUSED_SETUP_SECONDS", "\nSETUP_SECONDS")),
    ],
)
def test_a_crack_in_the_mirror_is_noticed(file: str, change: Callable[[str], str], tmp_path: Path) -> None:
    copy = tmp_path / "wing"
    shutil.copytree(KERAS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / file).write_text(change((copy / file).read_text()))
    (found,) = differences(copy, TORCH)
    assert found.startswith(file)
    (copy / "more.py").touch()
    assert differences(copy, TORCH) == ["files: ['more.py']"]


def imported(wing: Path, path: Path) -> set[str]:
    """The other files of a wing that a file of it imports."""
    package = f"transfer_parity.{wing.name}"
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == package:
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{package}."):
            found.add(node.module.rpartition(".")[2])
    return found


def test_what_imports_what_has_one_direction() -> None:
    """No file needs another in one wing that needs it in the other."""
    needs: dict[str, set[str]] = {}
    for wing in (KERAS, TORCH):
        for path in wing.glob("*.py"):
            needs.setdefault(path.stem, set()).update(imported(wing, path))
    order: list[str] = []
    while ready := [name for name in needs if name not in order and needs[name] <= set(order)]:
        order += ready
    assert not needs.keys() - set(order)


def private_interfaces(path: Path) -> Iterator[str]:
    """What a file uses of others although its name says that it should not, or that it may not stay."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            own.add(node.attr)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.match("_[a-z]", node.attr):
            is_own = ast.unparse(node.value) == "self" and node.attr in own
            yield from () if is_own else (ast.unparse(node),)
        if isinstance(node, ast.Import | ast.ImportFrom):
            text = ast.unparse(node)
            if re.search(r"[ .]_[a-z]|experimental|[ .]src\.", text.replace("__future__", "")):
                yield text


@pytest.mark.parametrize("wing", [KERAS, TORCH], ids=lambda wing: str(wing.name))
def test_private_interfaces_stand_in_one_file(wing: Path) -> None:
    """And each is told why."""
    for path in wing.glob("*.py"):
        if path.name != INTERNALS:
            assert not list(private_interfaces(path)), path
    internals = ast.parse((wing / INTERNALS).read_text(encoding="utf-8"))
    assert list(private_interfaces(wing / INTERNALS))
    for node in internals.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            assert ast.get_docstring(node) or node.name.startswith("_"), node.name


def test_walkthroughs_are_short_and_differ_in_comments_alone() -> None:
    texts = [(wing / "walkthrough.py").read_text(encoding="utf-8") for wing in (KERAS, TORCH)]
    assert all(len(text.splitlines()) < 120 for text in texts)
    code = [ast.unparse(ast.parse(text)) for text in texts]
    assert code[0] == code[1].replace(TORCH.name, KERAS.name)

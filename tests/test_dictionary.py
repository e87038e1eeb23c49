"""The dictionary: what it says of libraries and wings is so, in both languages, and ``explain`` finds it."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from transfer_parity import compare
from transfer_parity.shared.contract import dictionary, switches
from transfer_parity.shared.contract.wings import IDENTIFIERS, WINGS
from transfer_parity.shared.report.dictionary import markdown

Captured = pytest.CaptureFixture[str]

ENTRIES = dictionary.entries()
DIFFERENCES = (ROOT / "docs" / "differences.md").read_text(encoding="utf-8")
DOCUMENTS = {"en": ROOT / "docs" / "dictionary.md", "zh": ROOT / "docs" / "zh" / "dictionary.md"}
#: What counts as a number with which a default could be meant: 0.001 and 1e-5, and no 3 of "3x3".
NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?e-\d+|(?<![\w.])\d+\.\d+(?!\.?\d)")


def test_there_are_enough_and_none_twice() -> None:
    assert len(ENTRIES) >= 80
    assert len({entry.usual for entry in ENTRIES}) == len(ENTRIES)


def test_every_file_is_read() -> None:
    files = {path.stem for path in (ROOT / "shared" / "contract" / "dictionary").iterdir()}
    assert files == {*dictionary.TOPICS, "page"}


def test_every_switch_has_an_entry() -> None:
    assert {name for entry in ENTRIES for name in entry.switches} == set(switches.BY_NAME)


def test_both_languages_say_the_same_names_and_numbers() -> None:
    for entry in ENTRIES:
        said = {language: set(re.findall(r"`([^`]+)`", text)) for language, text in entry.text.items()}
        assert said["en"] == said["zh"], entry.usual
        assert set(NUMBER.findall(entry.text["en"])) == set(NUMBER.findall(entry.text["zh"])), entry.usual
        assert re.search("[\u4e00-\u9fff]", entry.text["zh"])
        # Half-width punctuation between Chinese characters is a slip of the keyboard.
        assert not re.search(
            r"[\u4e00-\u9fff][,:;?](?! )|[,:;?][\u4e00-\u9fff]", re.sub("`[^`]*`", "", entry.text["zh"])
        )
        assert all(text.count("`") % 2 == 0 for text in entry.text.values())
        assert len(entry.text["en"]) <= 420, entry.usual


# ----- what it says of the project -----


@cache
def defined(path: Path) -> set[str]:
    """Public functions and classes of a module, and methods of its classes, as ``Class.method``."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found.update(f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef))
    return found


def test_switches_and_places_in_the_wings_exist() -> None:
    for entry in ENTRIES:
        assert not set(entry.switches) - set(switches.BY_NAME)
        for place in entry.wings:
            module, _, name = place.partition(".")
            assert not any(part.startswith("_") for part in place.split("."))
            for wing in WINGS:
                folder = ROOT / wing.package.rpartition(".")[2]
                assert name in defined(folder / f"{module}.py"), f"{folder.name}/{module}.py has no {name}"


# ----- what it says of the libraries -----


def values(place: str) -> list[Any]:
    """What stands at a place of a library's code, which is read and not run."""
    path, *rest = place.split()
    tree = parsed(path)
    for name in rest[0].split("."):
        found = [each for each in getattr(tree, "body", []) if name in names_of(each)]
        assert found, f"{place}: there is no {name}"
        tree = found[-1]
    if isinstance(tree, ast.FunctionDef) and len(rest) == 2:
        return list(flat(ast.literal_eval(default_of(tree, rest[1]))))
    nodes = [each for each in ast.walk(tree) if isinstance(each, ast.Constant | ast.UnaryOp)]
    return [ast.literal_eval(each) for each in nodes if isinstance(getattr(each, "operand", each), ast.Constant)]


@cache
def parsed(path: str) -> ast.AST:
    """A file of an installed package, which is found without being imported."""
    package, _, inside = path.partition("/")
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    return ast.parse((Path(spec.origin).parent / inside).read_text(encoding="utf-8"))


def names_of(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []


def default_of(function: ast.FunctionDef, parameter: str) -> ast.expr:
    given = function.args
    last = given.args[len(given.args) - len(given.defaults) :]
    pairs = [*zip(last, given.defaults, strict=True), *zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    (found,) = (default for argument, default in pairs if argument.arg == parameter and default is not None)
    return found


def flat(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple | list):
        for each in value:
            yield from flat(each)
    else:
        yield value


def test_numbers_are_those_of_the_installed_libraries() -> None:
    """Every default that a text tells is read from the library's code; no library is imported."""
    for entry in ENTRIES:
        assert set(NUMBER.findall(entry.text["en"])) <= {number.lstrip("-") for number in entry.numbers}, entry.usual
        for number, places in entry.numbers.items():
            assert all(number in text for text in entry.text.values())
            assert places
            for place in places:
                assert float(number) in [each for each in values(place) if type(each) in (int, float)], place


def test_a_number_that_changed_would_be_noticed() -> None:
    assert values("keras/src/optimizers/adam.py Adam.__init__ epsilon") == [1e-7]
    assert values("torch/optim/adam.py Adam.__init__ betas") == [0.9, 0.999]
    assert values("keras/src/backend/config.py _EPSILON") == [1e-7]
    with pytest.raises(AssertionError):
        values("torch/optim/adam.py Adamant.__init__ eps")


#: Prints those of the names on its command line that cannot be imported.
LOOK_UP = """
import pkgutil, sys
for name in sys.argv[1:]:
    try:
        pkgutil.resolve_name(name)
    except (AttributeError, ImportError):
        print(name)
"""
#: What stands in front of names that begin so, by framework.
MODULES = {
    "tensorflow": {"keras": "keras", "layers": "keras.layers", "tf": "tensorflow"},
    "torch": {
        "F": "torch.nn.functional",
        "Tensor": "torch.Tensor",
        "nn": "torch.nn",
        "torch": "torch",
        "torchvision": "torchvision",
        "v2": "torchvision.transforms.v2",
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("framework", MODULES)
def test_names_are_those_of_the_installed_libraries(framework: str) -> None:
    plain = {re.split(r"[(=,\s]", name)[0] for entry in ENTRIES for name in entry.names[framework]}
    parts = [name.partition(".") for name in plain if name.partition(".")[0] in MODULES[framework]]
    names = sorted(f"{MODULES[framework][first]}.{rest}" for first, _, rest in parts if rest)
    assert len(names) > 40
    ran = subprocess.run([sys.executable, "-c", LOOK_UP, *names], capture_output=True, text=True, check=False)
    assert not ran.returncode, ran.stderr
    assert ran.stdout.split() == []


# ----- the documents -----


@pytest.mark.parametrize("language", dictionary.LANGUAGES)
def test_the_document_is_current(language: dictionary.Language) -> None:
    """If not: make dictionary."""
    assert DOCUMENTS[language].read_text(encoding="utf-8") == markdown(language, DIFFERENCES)


def test_both_documents_have_the_same_entries() -> None:
    headings = {
        language: re.findall(r"^### (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        for language, path in DOCUMENTS.items()
    }
    assert headings["en"] == headings["zh"]
    assert len(headings["en"]) == len(ENTRIES)


# ----- the command -----


def explained(capsys: Captured, *arguments: str) -> str:
    assert compare.main(["explain", *arguments]) == 0
    return capsys.readouterr().out


def test_every_word_finds_its_entry() -> None:
    for entry in ENTRIES:
        for word in entry.words:
            assert entry in dictionary.find(word), word
            assert entry in dictionary.find(word.upper()), word


@pytest.mark.parametrize(
    ("word", "usual"),
    [
        ("nn.Linear", "layers.Dense"),
        ("torch.nn.linear", "layers.Dense"),
        ("keras.layers.Dense", "layers.Dense"),
        ("requires_grad", "trainable"),
        ("REQUIRES-GRAD", "trainable"),
        ("state_dict", "get_weights"),
        ("keras.Model.fit", "fit"),
        (".pth", "save_weights"),
        ("tf.GradientTape", "GradientTape"),
        ("Sync", "sync_devices"),
    ],
)
def test_a_word_is_found_by_either_name(word: str, usual: str, capsys: Captured) -> None:
    (found,) = [entry for entry in dictionary.find(word) if entry.usual[0] == usual]
    text = explained(capsys, word)
    assert " / ".join(found.usual) in text
    for names in found.names.values():
        assert all(name in text for name in names)
    assert all(name in text for name in found.switches)
    assert all(place.partition(".")[2] in text for place in found.wings)


def test_momentum_has_three_meanings(capsys: Captured) -> None:
    found = dictionary.find("momentum")
    assert len(found) == 3
    assert [entry.switches for entry in found] == [("bn_momentum",), ("sgd_momentum",), ()]
    text = explained(capsys, "momentum")
    assert all(" / ".join(entry.usual) in text for entry in found)


def test_a_layer_does_not_mean_its_arguments() -> None:
    assert [entry.usual[0] for entry in dictionary.find("BatchNormalization")] == ["layers.BatchNormalization"]


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("momentun", "the dictionary has no 'momentun'; did you mean 'momentum'?"),
        ("nn.BatchNorm2", "did you mean 'nn.BatchNorm2d'?"),
        ("xyzzy", "the dictionary has no 'xyzzy'; compare.py explain lists all words."),
        ("...", "compare.py explain lists all words."),
    ],
)
def test_a_word_that_is_not_there(word: str, sentence: str, capsys: Captured) -> None:
    assert compare.main(["explain", word]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("language", dictionary.LANGUAGES)
def test_all_words_are_listed(language: dictionary.Language, capsys: Captured) -> None:
    text = explained(capsys, "--language", language)
    for topic in dictionary.topics():
        assert topic.title[language] in text
        for entry in topic.entries:
            assert all(name[:30] in text for name in entry.usual)
    assert max(map(cells, text.splitlines())) <= 80


@pytest.mark.parametrize("language", dictionary.LANGUAGES)
def test_everything_fits_the_terminal(language: dictionary.Language, capsys: Captured) -> None:
    from transfer_parity.shared.report import dictionary as shown
    from transfer_parity.shared.report.console import Console

    shown.show(ENTRIES, language, Console(width=80, highlight=False))
    text = capsys.readouterr().out
    assert max(map(cells, text.splitlines())) <= 80
    assert "`" not in text


def cells(line: str) -> int:
    """Columns of a terminal: a Chinese character takes two."""
    return sum(2 if re.match("[\u3000-\u9fff\uff00-\uffef]", character) else 1 for character in line)


def test_the_wings_have_names_for_everything() -> None:
    for entry in ENTRIES:
        assert set(entry.names) == set(IDENTIFIERS)
        assert all(entry.names.values())

"""The site: pages made from the real code, links to known differences, documents in MkDocs's dialect, figures."""

from __future__ import annotations

import ast
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from docs.site import assemble, documents, figures, known, lessons, reference, side_by_side, slim, twins
from docs.site.check import check
from docs.site.errors import SiteError
from tests.conftest import ROOT
from transfer_parity.shared.contract.switches import SWITCHES, all_names
from transfer_parity.shared.contract.wings import WINGS

DIFFERENCES = (ROOT / "docs" / "differences.md").read_text(encoding="utf-8")


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of three files of each wing."""
    for folder in twins.FOLDERS:
        (tmp_path / folder).mkdir()
        for name in ("optimizers.py", "head.py", "internals.py"):
            shutil.copyfile(ROOT / folder / name, tmp_path / folder / name)
    return tmp_path


def made(root: Path, *only: str) -> dict[str, str]:
    return side_by_side.pages(root, known.sections(DIFFERENCES), only)[0]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def shown(page: str) -> str:
    """What stands on a page, without marks."""
    return re.sub(r"<[^>]+>", "", page)


def test_changing_a_function_changes_its_page_and_no_other(house: Path) -> None:
    before = made(house)
    edit(house / twins.FOLDERS[1] / "optimizers.py", "factors = [1.0] *", "factors = [1.0625] *")
    after = made(house)
    assert [name for name in before if before[name] != after[name]] == ["optimizers.md"]
    assert "1.0625" in shown(after["optimizers.md"])


@pytest.mark.parametrize("wing", [0, 1])
def test_a_function_without_a_twin_stops_the_build(wing: int, house: Path) -> None:
    edit(house / twins.FOLDERS[wing] / "optimizers.py", "def build_loss(", "def make_loss(")
    with pytest.raises(SiteError, match=r"optimizers\.py has build_loss, \w+/optimizers\.py has not: give it a twin"):
        made(house)


def test_a_method_or_a_file_without_a_twin_stops_the_build(house: Path) -> None:
    for folder, method in zip(twins.FOLDERS, ("one", "two"), strict=True):
        with (house / folder / "head.py").open("a") as file:
            file.write(f"\n\nclass Twin:\n    def {method}(self) -> None:\n        pass\n")
    with pytest.raises(SiteError, match=r"has Twin\.one"):
        made(house)
    (house / twins.FOLDERS[0] / "more.py").touch()
    with pytest.raises(SiteError, match=r"more\.py has no twin: write"):
        made(house)


def test_every_line_of_the_wings_is_shown_once() -> None:
    """Docstrings apart: they are said above."""
    for name in twins.names(ROOT):
        for source in twins.both(ROOT, name):
            numbers = [number for piece in source.pieces for number in piece.numbers if source.line(number).strip()]
            assert len(numbers) == len(set(numbers)), name
            text = "\n".join(source.line(number) for number in numbers)
            for number, line in enumerate(source.lines, 1):
                code = re.match(r"\s*(return|raise|def|class|if|for|yield|import|from|@|self\.)\b.*[:()\w]$", line)
                if code and number not in numbers:
                    assert any(line.strip() in piece.docstring for piece in source.pieces) or (
                        line.strip() in source.docstring
                    ), (name, line)
            assert text


def test_every_part_of_a_file_is_on_its_page_under_an_address_of_its_own() -> None:
    """Imports and what runs a file are two parts; a method's docstring is said once, not shown in its class."""
    pages = made(ROOT)
    for name in twins.names(ROOT):
        page = pages[name.replace(".py", ".md")]
        addresses = re.findall(r"\{: #(\S+) \}", page)
        assert len(addresses) == len(set(addresses)), name
        for source in twins.both(ROOT, name):
            assert all(f"`{piece.name or 'imports'}`" in page for piece in source.pieces), name
    walkthrough, objectives = shown(pages["walkthrough.md"]), pages["objectives.md"]
    assert walkthrough.count("from __future__ import annotations") == 2
    assert objectives.count("What is to be done once a step has changed the weights.") == 1


def test_parts_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("import re\n\n\ndef one() -> None:\n    pass\n\n\nimport os\n")
    with pytest.raises(SiteError, match=r"x\.py has imports twice"):
        twins.read(tmp_path / "x.py")


def test_twins_stand_side_by_side_and_say_what_both_say_once() -> None:
    page = made(ROOT, "optimizers.py")["optimizers.md"]
    shared = "The recipe&#x27;s loss of one-hot targets (b, classes) and logits (b, classes), averaged over the batch."
    assert page.partition("## `build_loss`")[2].count(shared) == 1
    headings = re.findall(r"^##.*", page, re.MULTILINE)
    assert len(headings) == len(set(headings)) and headings[0].startswith("## `imports`")
    left, right = twins.both(ROOT, "optimizers.py")
    (pair,) = [each for each in twins.aligned(left.pieces, right.pieces) if each[0] and each[0].name == "build_loss"]
    rows = list(twins.rows(left, right, *pair))
    alike = [row for row in rows if row.alike]
    assert any(left.line(row.left or 0).strip() == 'if recipe.loss == "mse":' for row in alike)
    assert all(left.line(row.left or 0).strip() == right.line(row.right or 0).strip() for row in alike)
    assert any(not row.alike for row in rows)
    for title in (wing.title for wing in WINGS):
        assert title in page


def test_lines_are_coloured_if_they_differ_and_no_others() -> None:
    """Not where lines with nothing in common happen to end in the same bracket, nor for a tag."""
    for name in twins.names(ROOT):
        left, right = twins.both(ROOT, name)
        for pair in twins.aligned(left.pieces, right.pieces):
            for row in twins.rows(left, right, *pair):
                said = [
                    number and known.without_tag(source.line(number)).strip()
                    for source, number in ((left, row.left), (right, row.right))
                ]
                assert row.alike == (said[0] == said[1]), (name, row)


def test_every_switch_is_linked_from_lines_of_each_wing_that_has_it() -> None:
    """And from no wing that does not."""
    found = {
        f"{wing.identifier}:{name}"
        for wing, folder in zip(WINGS, twins.FOLDERS, strict=True)
        for path in (ROOT / folder).glob("*.py")
        for names in known.lines(path.read_text(encoding="utf-8"), str(path)).values()
        for name in names
    }
    assert found == set(all_names())


def test_a_link_says_the_measured_size_and_leads_to_the_section() -> None:
    sections = known.sections(DIFFERENCES)
    assert sections.keys() == {switch.name for switch in SWITCHES}
    decay = sections["weight_decay"]
    assert (decay.title, decay.anchor) == ("Weight decay", "weight-decay-weight_decay")
    assert decay.size == "2.5e-01 at rung optimizer"
    pages, places = side_by_side.pages(ROOT, sections, ["training.py"])
    lines = [each for each in pages["training.md"].split('<span class="row ') if "decay * variable" in shown(each)]
    assert lines and all('href="../differences.html#weight-decay-weight_decay"' in each for each in lines)
    assert all(decay.size in each for each in lines)
    assert "(side-by-side/training.md#Trainer.update)" in known.with_places(DIFFERENCES, places)


def test_lines_hold_a_difference_by_asking_for_it_by_table_or_by_tag() -> None:
    text = (
        'if "dropout" in spec.switches:\n    pass\nx = "dropout"\ndef adapt():\n    pass\n'
        'TABLE = {"bn_scale": adapt}\ny = 1  # differs: gelu, resizing\n'
        "# differs: bn_momentum\n# differs: gelu\nz = 2\n"
    )
    assert known.lines(text, "x.py") == {
        1: ("dropout",), 4: ("bn_scale",), 6: ("bn_scale",), 7: ("gelu", "resizing"), 10: ("bn_momentum", "gelu"),
    }  # fmt: skip
    for wrong in ("nothing", "bn-epsilon", "gelu.", "gelu,", ""):
        with pytest.raises(SiteError, match=r"'differs: .*' names no switch"):
            known.lines(f"x = 1  # differs: {wrong}\n", "x.py")
    for below in ("", "\n\ny = 2\n"):
        with pytest.raises(SiteError, match="line 2: '# differs: gelu' has no line below it"):
            known.lines(f"x = 1\n# differs: gelu{below}", "x.py")
    with pytest.raises(SiteError, match=r"has no \*\*Size\*\*"):
        known.sections("## Something: `gelu`\n\nNothing measured.\n")


def test_documents_are_read_as_github_reads_them(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(
        "[a](docs/a.md#b) [x](LICENSE)\n1. **One**\n   more\n   ```console\n   $ x\n   ```\n"
    )
    (tmp_path / "docs" / "a.md").write_text("`[no](link)` [up](../README.md)\n")
    (tmp_path / "LICENSE").write_text("text")
    places = documents.pages(tmp_path)
    front = documents.page(tmp_path, "README.md", places, tmp_path / "out")
    assert front == "[a](a.md#b) [x](files/LICENSE.txt)\n\n1.  **One**\n    more\n    ```console\n    $ x\n    ```\n"
    assert (tmp_path / "out" / "files" / "LICENSE.txt").read_text() == "text"
    assert documents.page(tmp_path, "docs/a.md", places, tmp_path / "out") == "`[no](link)` [up](index.md)\n"
    (tmp_path / "docs" / "a.md").write_text("<!-- made of\nsomething -->\n# Title\n")
    assert documents.page(tmp_path, "docs/a.md", places, tmp_path / "out") == "# Title\n"
    (tmp_path / "docs" / "a.md").write_text("[gone](b.md)\n")
    with pytest.raises(SiteError, match=r"docs/a\.md: the link to b\.md leads nowhere"):
        documents.page(tmp_path, "docs/a.md", places, tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "read"),
    [
        # Lists in lists, and code in them.
        ("- a\n  1. b\n     ```\n       x\n     ```\n  2. c\n- d\n",
         "-   a\n    1.  b\n        ```\n          x\n        ```\n    2.  c\n-   d\n"),
        ("- a\n\n  ```\n  x\n  ```\n- b\n", "-   a\n\n    ```\n    x\n    ```\n\n-   b\n"),
        ("10. a\n\n    b\n11. c\n", "10. a\n\n    b\n\n11. c\n"),
        ("text\n| a | b |\n|---|---|\n| 1 | 2 |\n", "text\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"),
        ("```\ntext\n| a | b |\n|---|---|\n- x\n```\n", "```\ntext\n| a | b |\n|---|---|\n- x\n```\n"),
        ("a\n\n    - code\n", "a\n\n    - code\n"),
    ],
)  # fmt: skip
def test_lists_and_tables_are_made_to_stand_apart(text: str, read: str) -> None:
    assert documents.dialect(text, str) == read


def test_lessons_are_shown_as_executed_or_from_their_source(tmp_path: Path) -> None:
    folder = tmp_path / "docs" / "lessons"
    folder.mkdir(parents=True)
    (folder / "01-first.py").write_text("# %% [markdown]\n# # First\n#\n# Words.\n\n# %%\n# %%torch\nx = 1\n")
    (tmp_path / "docs" / "zh").mkdir()
    shutil.copytree(folder, tmp_path / "docs" / "zh" / "lessons")
    pages = lessons.pages(tmp_path, tmp_path / "out")
    assert list(pages) == ["lessons/01-first.md", "zh/lessons/01-first.md"]
    for (_, text), remark in zip(pages.values(), ("This lesson was", "本课"), strict=True):
        title, said, rest = text.split("\n\n", 2)
        assert title == "# First" and remark in said
        assert rest == "Words.\n\n```python\n%%torch\nx = 1\n```\n"
    (tmp_path / "build" / "lessons").mkdir(parents=True)
    (tmp_path / "build" / "lessons" / "01-first.md").write_text("# Executed\n")
    assert lessons.pages(tmp_path, tmp_path / "out")["lessons/01-first.md"][1] == "# Executed\n"
    # Also as a notebook.
    (tmp_path / "build" / "lessons" / "01-first.ipynb").write_text("{}")
    text = lessons.pages(tmp_path, tmp_path / "out")["lessons/01-first.md"][1]
    assert '<a href="01-first.ipynb" download>' in text and text.startswith("# Executed\n")
    assert (tmp_path / "out" / "lessons" / "01-first.ipynb").is_file()
    # Not what was executed before the lesson changed.
    os.utime(tmp_path / "build" / "lessons" / "01-first.md", (0, 0))
    assert "Words." in lessons.pages(tmp_path, tmp_path / "out")["lessons/01-first.md"][1]


def test_every_package_and_module_is_in_the_reference() -> None:
    pages = reference.pages(ROOT)
    for path in (ROOT / "shared").glob("*/*.py"):
        if not path.stem.startswith("__"):
            assert f"::: transfer_parity.shared.{path.parent.name}.{path.stem}\n" in pages[f"{path.parent.name}.md"]
    assert "::: transfer_parity.tf_impl.training\n" in pages["tf_impl.md"]


def test_columns_in_docstrings_are_shown_as_columns() -> None:
    """What is moved in by four, outside of sections, is code; columns of a paragraph run together."""
    for path in [path for folder in ("shared", *twins.FOLDERS) for path in sorted((ROOT / folder).rglob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                continue
            said = ast.get_docstring(node) or ""
            in_front, *_ = re.split(r"^(?=(?:Args|Returns|Raises|Attributes|Yields):$)", said, flags=re.M)
            for paragraph in said.split("\n\n"):
                if re.search(r"\S {3,}\S", paragraph):
                    assert paragraph in in_front, (path, paragraph)
                    assert all(line.startswith("    ") for line in paragraph.splitlines()), (path, paragraph)


def test_every_guide_is_in_the_navigation() -> None:
    """One that nobody placed stands behind the others."""
    pages = {*documents.pages(ROOT).values(), "unheard-of.md", "zh/index.md"}
    told = str(assemble.navigation(pages))
    assert all(f"'{page}'" in told for page in pages)
    assert "{'More': [" in told


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "build").touch()
    with pytest.raises(SiteError, match=r"build.*: Not a directory; build/site-source is to be made anew"):
        assemble.assemble(tmp_path)


@pytest.mark.parametrize(("name", "draw"), figures.FIGURES.items(), ids=list(figures.FIGURES))
def test_figures_are_what_the_code_draws(name: str, draw: Callable[[], str]) -> None:
    assert (ROOT / "docs" / "figures" / name).read_text(encoding="utf-8") == draw(), "make figures"


def test_what_no_page_uses_is_left_out() -> None:
    css = (
        "@charset 'utf-8';.a,.b:not(.c){x:1}.d{y:2}@media print{.d{z:3}.a .b{w:'}'}}"
        ":root{--md-x-icon:url('q(r)s');--k:1}.b{v:1}[dir=rtl] .a,[dir=ltr] .b{u:1}[data-md-color-accent=red]{t:1}"
    )
    assert slim.purged(css, {"a", "b", "dir=ltr"}) == (
        "@charset 'utf-8';.a,.b:not(.c){x:1}@media print{.a .b{w:'}'}}:root{--k:1}.b{v:1}[dir=ltr] .b{u:1}"
    )


def test_dark_colours_are_for_screens() -> None:
    """Paper is white: what is printed from a dark screen must be legible on it."""
    css = (ROOT / "docs" / "site" / "theme" / "assets" / "site.css").read_text(encoding="utf-8")
    assert "slate" in css
    assert "slate" not in re.sub(r"^@media screen {.*?^}", "", css, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ('<a href="gone.html">x</a>', "leads nowhere"),
        ('<a href="#gone">x</a>', "leads to no heading"),
        ('<script src="https://unpkg.com/x"></script>', "asks another host"),
        ('<img src="//example.org/x.png">', "asks another host"),
        ('<img src="gone.png">', "which it shows, is not there"),
        ('<p id="a"></p><p id="a"></p>', "two headings or parts with the address #a"),
        ('<meta name="viewport"><a href="#viewport">x</a>', "leads to no heading"),
        ("<link rel='stylesheet' href='big.css'>", "more than 300,000"),
        ("<link rel='stylesheet' href='far.css'>", "asks for url"),
    ],
)
def test_a_site_that_does_not_keep_to_it_is_refused(body: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "big.css").write_text(" " * 300_000)
    if "far" in body:
        (tmp_path / "far.css").write_text("a{b:url(https://example.org/x)}")
    page = tmp_path / "index.html"
    page.write_text('<meta name="generator"><a id="here" href="index.html#here">x</a>')
    if "far" not in body:
        assert check(tmp_path) < 100
    page.write_text(f'<meta name="generator">{body}')
    check_again = re.compile(sentence)
    with pytest.raises(SiteError, match=check_again):
        check(tmp_path)

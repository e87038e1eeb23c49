"""The front page in Chinese keeps up with README.md: the same headings, code, links and numbers.

When README.md changes: copy its blocks of code into docs/zh/index.md as they are, give a new heading a translation at
the same place and level, and translate what else has changed.
"""

from __future__ import annotations

import re
from collections import Counter

from tests.conftest import ROOT

ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "docs" / "zh" / "index.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)


def levels(text: str) -> list[int]:
    """How deep each heading is, in order; a comment in a block of code is none."""
    return [len(found) for found in re.findall(r"^(#+) ", BLOCK.sub("", text), re.MULTILINE)]


def targets(text: str) -> set[str]:
    """Names of the documents that it links to."""
    return {target.rpartition("/")[2] for target in re.findall(r"\]\(([^)#]+\.md)", text)}


def test_the_same_blocks_of_code() -> None:
    assert BLOCK.findall(CHINESE) == BLOCK.findall(ENGLISH)


def test_the_same_headings() -> None:
    assert levels(CHINESE) == levels(ENGLISH)
    assert levels(ENGLISH)


def test_the_same_steps() -> None:
    steps = [re.findall(r"^\d\. ", BLOCK.sub("", text), re.MULTILINE) for text in (ENGLISH, CHINESE)]
    assert steps[0] == steps[1] and steps[0]


def test_the_same_documents_are_named() -> None:
    """Those outside of docs/ are named without a link, since the site has no such page."""
    assert {name for name in targets(ENGLISH) if name not in CHINESE} == set()


def test_the_same_code_within_sentences() -> None:
    said = [Counter(re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))) for text in (ENGLISH, CHINESE)]
    assert set(said[0]) - set(said[1]) == set()


def test_versions_and_measured_numbers_are_the_same() -> None:
    pattern = re.compile(
        r"(?<![\w.])\d+(?:\.\d+)+(?![\w.])|(?<![\w.-])\d{2,}(?= ?(?:MB|s\b|\u79d2|photographs|\u5e45))"
    )
    english, chinese = (set(pattern.findall(BLOCK.sub("", text))) for text in (ENGLISH, CHINESE))
    assert {number for number in english if number not in CHINESE} == set()
    assert {number for number in chinese if number not in ENGLISH} == set()


def test_it_is_chinese() -> None:
    text = re.sub("`[^`]*`|<!--.*?-->", "", BLOCK.sub("", CHINESE), flags=re.DOTALL)
    assert len(re.findall("[\u4e00-\u9fff]", text)) > 800
    # Half-width punctuation between Chinese characters is a slip of the keyboard.
    assert not re.findall(r"[\u4e00-\u9fff][,:;?](?! )|[,:;?][\u4e00-\u9fff]", text)


def test_bold_text_is_bold_wherever_markdown_is_read() -> None:
    """CommonMark, thus GitHub and Jupyter, shows the asterisks where a mark stands inside and a word follows."""
    for path in sorted((ROOT / "docs" / "zh").rglob("*.[mp][dy]")):
        text = BLOCK.sub("", path.read_text(encoding="utf-8"))
        for bold, behind in re.findall(r"\*\*([^*]+)\*\*(?=(.?))", text):
            assert re.search(r"[\w`]$", bold) or not re.match(r"\w", behind), (path, bold)

"""The documents keep up with the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from transfer_parity.shared.contract import switches
from transfer_parity.shared.contract.rungs import describe

README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [path for folder in (".", "docs", "docs/zh", "benchmarks") for path in sorted((ROOT / folder).glob("*.md"))]
DIFFERENCES = (ROOT / "docs" / "differences.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("switch", switches.SWITCHES, ids=lambda switch: switch.name)
def test_every_switch_is_explained(switch: switches.Switch) -> None:
    """Its section says which rung catches it, what the ladder names, which wings have it, and shows two lines."""
    match = re.search(rf"^## .*`{switch.name}`$(.*?)(?=^## |\Z)", DIFFERENCES, re.MULTILINE | re.DOTALL)
    assert match is not None
    section = match[1]
    for framework, caught in switch.caught.items():
        assert f"`{framework}:{switch.name}`" in section
        assert caught.rung in section
    words = " ".join(section.split())
    assert any(f"the ladder names {describe(caught.label)}" in words for caught in switch.caught.values())
    assert "**Size**" in section
    assert section.count("```") == 2


def test_nothing_is_explained_that_is_no_switch() -> None:
    assert set(re.findall(r"^## .*`(\w+)`$", DIFFERENCES, re.MULTILINE)) == set(switches.BY_NAME)


def test_the_readme_stays_short() -> None:
    assert len(README.splitlines()) <= 150


def test_the_map_of_the_house_is_true() -> None:
    """Every file and folder that it names is there, and every package and every file of a wing is named."""
    drawn = README.partition("## The house")[2].split("```")[1]
    named, above = set(), Path()
    for line in drawn.strip().splitlines():
        words = re.match(r"\s*(\S+( +\S+(/|\.py))*)", line)
        assert words is not None
        if not line.startswith(" "):
            above = Path(words[1].split()[-1])
        for word in words[1].split():
            named.add(Path(word) if not line.startswith(" ") else above / word)
    for path in named:
        assert (ROOT / path).exists(), path
    packages = {path.parent.relative_to(ROOT) for path in (ROOT / "shared").glob("*/__init__.py")}
    modules = {path.relative_to(ROOT) for path in (ROOT / "torch_impl").glob("[!_]*.py")}
    assert packages | modules <= named


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_paths_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    linked = {target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", text) if "://" not in target}
    for target in linked:
        assert (document.parent / target).exists(), target
    for path in re.findall(r"`((?:shared|tf_impl|torch_impl|docs|tests|benchmarks|recipes)/[\w/.-]+\.\w+)`", text):
        assert (ROOT / path).exists(), path

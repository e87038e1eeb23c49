"""The documents keep up with the code."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT
from transfer_parity.shared.contract import switches

DIFFERENCES = (ROOT / "docs" / "differences.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("switch", switches.SWITCHES, ids=lambda switch: switch.name)
def test_every_switch_is_explained(switch: switches.Switch) -> None:
    """Its section names the rung that catches it, the wings that have it, and shows two lines of code."""
    match = re.search(rf"^## .*`{switch.name}`$(.*?)(?=^## |\Z)", DIFFERENCES, re.MULTILINE | re.DOTALL)
    assert match is not None
    section = match[1]
    for framework, caught in switch.caught.items():
        assert f"`{framework}:{switch.name}`" in section
        assert caught.rung in section
    assert "**Size**" in section
    assert section.count("```") == 2


def test_nothing_is_explained_that_is_no_switch() -> None:
    assert set(re.findall(r"^## .*`(\w+)`$", DIFFERENCES, re.MULTILINE)) == set(switches.BY_NAME)

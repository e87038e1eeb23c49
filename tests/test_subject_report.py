"""Reports of a climb of one's own pair: the terminal, Markdown, the page, JUnit, GitHub."""

from __future__ import annotations

import io
import os
import re
import subprocess
import tomllib
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.subject_documents import LAYERS, MENDS, OTHERS, PLACE, SENTENCE, array, differing, document, rung
from transfer_parity.shared.contract.rungs import RUNGS
from transfer_parity.shared.contract.wings import WINGS
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.report import github, junit, markdown, plots, subject, subject_page, subject_plots
from transfer_parity.shared.report.console import Console
from transfer_parity.shared.subjects.document import SubjectParity, schema

#: A name as a user's own code may give it to a layer.
HOSTILE = "<script>alert('1')</script>|`x`\n::error::no\x1b[31m\x00$x_1$"
#: The same in what may be written anywhere.
SEEN = "<script>alert('1')</script>|`x`\\x0a::error::no\\x1b[31m\\x00$x_1$"


def hostile() -> SubjectParity:
    """Everything that a user's code can name is named badly."""
    found = differing()
    mine = [
        each.model_copy(
            update={
                **{"reference": HOSTILE, "candidate": HOSTILE, "kind": HOSTILE},
                **{"reference_source": f"{HOSTILE}:3", "candidate_source": None},
            }
        )
        for each in found.map
    ]
    first = found.rungs[2].arrays[1].model_copy(update={"reference": HOSTILE, "candidate": HOSTILE, "what": HOSTILE})
    arrays = [found.rungs[2].arrays[0], first, *found.rungs[2].arrays[2:]]
    accepted = array(2, 1.0, accepted=HOSTILE)
    rungs = [*found.rungs[:2], rung("activations", *arrays), rung("loss", accepted), *found.rungs[4:]]
    side = found.reference.model_copy(
        update={"name": HOSTILE, "factory": HOSTILE, "versions": {HOSTILE: HOSTILE}, "framework": HOSTILE}
    )
    cause = found.causes[0].model_copy(
        update=dict.fromkeys(("sentence", "mend_reference", "mend_candidate", "candidate_source"), HOSTILE)
    )
    return found.model_copy(
        update={
            **{"map": mine, "rungs": rungs, "reference": side, "causes": [cause]},
            **{"left_over_reference": [HOSTILE], "left_over_candidate": [HOSTILE]},
        }
    )


def shown(found: SubjectParity) -> str:
    written = io.StringIO()
    subject.show(found, Console(width=80, file=written))
    return written.getvalue()


# In words.


def test_a_failure_says_everything() -> None:
    text = "\n".join(subject.lines(differing()))
    for part in (LAYERS[1], OTHERS[1], "1.00e-03", "1.0e-13", "activations", SENTENCE, *MENDS, "torch_model.py:11"):
        assert part in text, part
    # The second normalisation follows from the first.
    assert LAYERS[3] not in text
    assert "keras 0.499" in text


def test_on_the_terminal() -> None:
    text = shown(differing())
    rows = [line for line in text.splitlines() if line.strip().startswith(RUNGS)]
    assert [line.split()[0] for line in rows] == list(RUNGS)
    assert [line.split()[-1] for line in rows] == ["passed"] * 2 + ["FAILED"] * 7
    # The largest difference, not that of the first divergence.
    assert "1.0e-02" in rows[2]
    assert all(line.strip() in text for line in subject.lines(differing())[1:])
    assert max(map(len, shown(document()).splitlines())) <= 80
    assert shown(document()).rstrip().endswith("All 9 rungs passed.")


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (document(), "All 9 rungs passed."),
        (document(rungs=[rung("bytes", array(0))]), "1 rung passed."),
        (differing(), "Different from rung activations on, which is number 3 of 9."),
        (
            document(rungs=[rung("bytes", array(0, 1.0, accepted="known"))]),
            "1 rung passed, with 1 accepted difference.",
        ),
        (document(refused="dropout stays random in drop", rungs=[]), "Not climbed: dropout stays random in drop"),
        (
            document(rungs=[rung("loss", array(0), informative=False, passed=False)]),
            "Not told: loss. What rounding explains in float64",
        ),
    ],
    ids=["passed", "one", "different", "accepted", "refused", "not informative"],
)
def test_one_sentence(found: SubjectParity, sentence: str) -> None:
    assert subject.sentence(found).startswith(sentence)
    assert sentence in " ".join(shown(found).split())


def test_what_cannot_be_compared_is_said() -> None:
    shapes = differing(rungs=[rung("activations", array(0), array(1, None, shapes=[[2, 3], [3, 2]]))])
    assert "shapes are (2, 3) and (3, 2)" in shown(shapes)
    lost = differing(rungs=[rung("activations", array(1, None, candidate=None))])
    assert "keras: there is none" in shown(lost)


@pytest.mark.parametrize(("tried", "said"), [(12, "none of 12 known differences"), (0, "Nothing was tried")])
def test_nothing_explains_it(tried: int, said: str) -> None:
    assert said in shown(differing(causes=[], tried=tried))


def test_several_causes_are_told_best_first() -> None:
    cause = differing().causes[0]
    several = [cause.model_copy(update={"sentence": f"consistent with {number}"}) for number in range(5)]
    text = shown(differing(causes=several))
    assert text.index("Suspected cause: consistent with 0") < text.index("Or: consistent with 1")
    assert "consistent with 4" not in text
    part = cause.model_copy(update={"explains": "part", "sentence": "consistent with less"})
    assert "less" not in shown(differing(causes=[cause, part]))
    assert "consistent with less" in read(differing(causes=[cause, part])).text


def test_sources_belong_to_the_longest_name() -> None:
    """A parameter is its layer's, and no other layer's whose name begins alike."""
    found = differing()
    layers = [each.model_copy(update={"reference": f"a{'.b' * number}"}) for number, each in enumerate(found.map)]
    found = found.model_copy(update={"map": layers})
    assert subject.sources_of(found, array(0, reference="a.b.weight", candidate=None))[0] == "torch_model.py:11"
    assert subject.sources_of(found, array(0, reference="ab.weight", candidate=None)) == (None, None)


def test_markdown() -> None:
    text = subject.markdown(differing())
    assert text.count("\n| ") == 2 + len(RUNGS)
    assert SENTENCE in text and MENDS[0] in text
    assert all(line.count("|") == 7 for line in text.splitlines() if line.startswith("|"))


def test_hostile_names_in_words() -> None:
    for text in (shown(hostile()), "\n".join(subject.lines(hostile())), subject.markdown(hostile())):
        assert "\x1b" not in text and "\x00" not in text
        # No line that GitHub's runner would carry out.
        assert not any(line.lstrip().startswith("::") for line in text.splitlines())
    text = subject.markdown(hostile())
    outside = re.sub(r"^(`{3,})text\n.*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert "\\<script\\>" in outside
    assert not re.search(r"(?<!\\)[<`]", outside)
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 7 for line in outside.splitlines() if line.startswith("|"))


def test_a_fence_is_longer_than_those_in_it() -> None:
    lines = markdown.block("a\n````\nb").splitlines()
    assert lines[0] == "`````text"
    assert lines[-1] == "`````"


# The page.


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]


@dataclass
class Page(HTMLParser):
    """What a browser would make of a page: elements, and text outside of styles."""

    elements: list[Element] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[Element]:
        return [each for each in self.elements if each.tag == tag]


def read(found: SubjectParity) -> Page:
    text = subject_page.render(found)
    page = Page()
    page.feed(text)
    # Nothing is loaded, and nothing runs.
    assert not page.of("script")
    (policy,) = [each.attributes["content"] for each in page.of("meta") if "http-equiv" in each.attributes]
    assert "default-src 'none'" in policy and "script-src" not in policy
    for element in page.elements:
        for name, value in element.attributes.items():
            assert not name.startswith("on")
            assert name not in ("src", "srcset", "href", "action") or value.startswith(("data:", "#"))
    assert "url(" not in text and "@import" not in text
    assert all(len(each.attributes["alt"]) > 20 for each in page.of("img"))
    labels = [each.attributes["aria-label"] for each in page.elements if each.attributes.get("role") == "region"]
    assert labels and len(set(labels)) == len(labels)
    inside = [each.attributes["href"][1:] for each in page.of("a")]
    assert set(inside) <= {each.attributes.get("id") for each in page.elements}
    return page


def test_the_page_of_a_failure() -> None:
    page = read(differing())
    words = " ".join(page.text.split())
    for part in (*LAYERS, *OTHERS, SENTENCE, *MENDS, "torch_model.py:11", "1.00e-03", "keras 0.499"):
        assert part in words, part
    alts = [each.attributes["alt"] for each in page.of("img")]
    assert sum(alt.startswith("Heat map") for alt in alts) == 1
    assert sum(alt.startswith("Largest absolute difference of 5 arrays at rung") for alt in alts) == 2
    assert sum("values of activation" in alt for alt in alts) == 1
    assert len(page.of("details")) == len(RUNGS)
    # The first divergence is marked where its rung is listed, and where it is.
    assert sum(each.attributes.get("class") == "first" for each in page.of("tr")) == 2


def test_the_page_of_what_passed() -> None:
    page = read(document())
    assert "First divergence" not in page.text
    assert "All 9 rungs passed." in page.text
    # One rung without arrays, or nothing at all, is a page, too.
    read(document(rungs=[rung("bytes")], map=[]))
    read(document(rungs=[], refused="a layer stays random", passed=False))


def test_hostile_names_on_the_page() -> None:
    page = read(hostile())
    assert page.text.count(SEEN) > 10
    assert "\x1b" not in page.text and "\x00" not in page.text
    assert any(SEEN in each.attributes["alt"] for each in page.of("img"))


@pytest.mark.parametrize("colours", [plots.LIGHT, plots.DARK])
def test_what_is_plotted(colours: dict[str, str]) -> None:
    found = differing().rungs[2]
    figure = subject_plots._along(found.arrays, found.first_divergence)
    (ax,) = figure.axes
    assert ax.get_yscale() == "log"
    by_label = {line.get_label(): line for line in ax.lines}
    assert np.asarray(by_label["within its tolerance"].get_xdata()).tolist() == [0]
    assert np.asarray(by_label["exceeds it"].get_xdata()).tolist() == [1, 2, 3, 4]
    assert np.asarray(by_label["exceeds it"].get_ydata()).tolist() == [1e-3, 2e-3, 5e-4, 1e-2]
    assert np.asarray(by_label["tolerance"].get_ydata()).tolist() == [1e-13] * 5
    assert [text.get_text() for text in ax.texts] == ["activation of stem.norm"]
    svg = plots.svg(lambda: subject_plots._along(found.arrays, found.first_divergence), colours)
    assert colours["text"] in svg
    # Powers of ten are text, which formulas would not be.
    assert "mathdefault" not in svg


@pytest.mark.parametrize(
    ("differences", "tolerance"), [((0.0, 0.0), 0.0), ((0.0, 1e-300), 1e-12), ((1e300, 1.0), float("inf"))]
)
def test_plots_of_extreme_numbers(differences: tuple[float, float], tolerance: float) -> None:
    found = rung("activations", *(array(place, each, tolerance) for place, each in enumerate(differences)))
    assert subject_plots.along(found) is not None


def test_a_single_array_is_no_plot() -> None:
    assert subject_plots.along(rung("activations", array(0), array(1, None))) is None


def test_the_heat_map() -> None:
    plot = subject_plots.places(array(1, 1e-3, place=PLACE))
    assert plot is not None
    assert "of 4 channels number 3 differs most" in plot.alt
    assert "row 1, column 1" in plot.alt
    axes = subject_plots._places(PLACE).axes
    image: Any
    strip: Any
    image, strip = (np.ma.asarray(ax.images[0].get_array()) for ax in axes[:2])
    assert image.shape == (2, 3)
    # What is equal or not finite is left blank.
    assert np.ma.getmaskarray(image).tolist() == [[False, True, False], [True, False, False]]
    assert np.ma.getmaskarray(strip).tolist() == [[False, True, True, False]]


@pytest.mark.parametrize(
    "change",
    [
        {"channels": [], "places": [[1e-3]]},
        {"channels": [0.0], "places": []},
        {"channels": [None], "places": [[None], []]},
        {"counts": [0, 0, 0, 0, 0]},
        {"edges": [], "counts": []},
    ],
)
def test_places_of_every_shape(change: dict[str, Any]) -> None:
    found = array(1, 1e-3, place=PLACE.model_copy(update=change))
    assert subject_plots.places(found) is not None
    assert (subject_plots.spread(found) is None) == ("counts" in change)
    read(differing(rungs=[rung("activations", found)]))


# JUnit.


def test_junit_has_a_case_for_each_rung() -> None:
    root = ElementTree.fromstring(junit.xml(differing()))
    (suite,) = root
    assert [case.get("name") for case in suite] == list(RUNGS)
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("9", "7", "0")
    failures = {case.get("name"): found for case in suite if (found := case.find("failure")) is not None}
    assert list(failures) == list(RUNGS[2:])
    assert all(part in str(failures["activations"].text) for part in (SENTENCE, LAYERS[1], OTHERS[1]))
    # What follows has no cause of its own.
    assert SENTENCE not in str(failures["loss"].text)


def test_junit_of_what_is_no_failure() -> None:
    accepted = rung("bytes", array(0, 1.0, accepted="known"))
    unsure = rung("loss", array(0), informative=False, passed=False)
    (suite,) = ElementTree.fromstring(junit.xml(document(rungs=[accepted, unsure])))
    assert [len(case) for case in suite] == [0, 1]
    assert (suite.get("failures"), suite.get("skipped")) == ("0", "1")
    (suite,) = ElementTree.fromstring(junit.xml(document(rungs=[], refused="a layer stays random", passed=False)))
    assert suite.get("errors") == "1"


def test_junit_of_hostile_names() -> None:
    root = ElementTree.fromstring(junit.xml(hostile()))
    assert SEEN in str(root[0][2][0].text)
    # What XML cannot hold at all, although a terminal shows it.
    assert ElementTree.fromstring(junit.xml(differing(created="\ufffe")))[0].get("timestamp") == "\ufffd"


# GitHub.


def test_annotations(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = github.commands(differing())
    assert first.startswith("::error file=torch_model.py,line=11,title=parity%3A small::small: Different")
    assert second.startswith("::error file=keras_model.py,line=21,")
    assert "%0ASuspected cause: consistent with epsilon" in first
    assert not list(github.commands(document()))


def test_annotations_name_files_of_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = differing()
    cause = found.causes[0].model_copy(
        update={"reference_source": f"{tmp_path}/a, b/m:1.py:7", "candidate_source": None}
    )
    layers = [each.model_copy(update={"candidate_source": None}) for each in found.map]
    found = found.model_copy(update={"causes": [cause], "map": layers})
    monkeypatch.setenv(github.WORKSPACE, str(tmp_path))
    (line,) = github.commands(found)
    assert line.startswith("::error file=a%2C b/m%3A1.py,line=7,")


def test_annotations_without_a_place() -> None:
    found = differing(causes=[])
    found = found.model_copy(update={"map": []})
    (line,) = github.commands(found)
    assert line.startswith("::error title=parity%3A small::")


def test_annotations_of_hostile_names_stay_one_line() -> None:
    for line in github.commands(hostile()):
        assert len(line.splitlines()) == 1
        assert line.count("::error") == 1 + line.count("\\x0a::error")


def test_the_summary_of_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(github.SUMMARY, raising=False)
    assert not github.summarise(document())
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    monkeypatch.setenv(github.SUMMARY, str(path))
    assert github.summarise(differing())
    assert path.read_text().startswith("before\n# small\n")
    monkeypatch.setenv(github.SUMMARY, str(tmp_path))
    with pytest.raises(BadInput, match=r"GITHUB_STEP_SUMMARY .* cannot be written"):
        github.summarise(document())


# The document.


def test_the_schema_in_the_documentation_is_up_to_date() -> None:
    kept = (ROOT / "docs" / "own-pair.schema.json").read_text(encoding="utf-8")
    assert kept == schema(), "run make schema"


def test_the_document_is_read_back(tmp_path: Path) -> None:
    differing().save(tmp_path / "parity.json")
    assert SubjectParity.model_validate_json((tmp_path / "parity.json").read_text()) == differing()


# GitHub's action.


def test_the_action_installs_what_the_wings_are_made_for() -> None:
    """Its requirements are those of the extras."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    action = (ROOT / "action.yml").read_text(encoding="utf-8")
    (installed,) = re.findall(r'default: "(.*tensorflow.*)"', action)
    known = {requirement for wing in WINGS for requirement in extras[wing.identifier]}
    assert set(installed.split()) == known


def test_the_action_writes_no_value_into_its_scripts() -> None:
    """A value in a script would be part of it (https://docs.github.com/en/actions/concepts/security/script-injections)."""
    action = (ROOT / "action.yml").read_text(encoding="utf-8")
    scripts = re.findall(r"^      run: \|\n((?:        .*\n|\n)+)", action, re.MULTILINE)
    assert len(scripts) == 2
    assert not any("${{" in script for script in scripts)
    for script in scripts:
        lines = "\n".join(line[8:] for line in script.splitlines())
        assert subprocess.run(["bash", "-n"], input=lines, text=True, check=False).returncode == 0


def test_the_action_climbs(tmp_path: Path) -> None:
    """Its last step, with a program in the place of ours that says how it was called."""
    action = (ROOT / "action.yml").read_text(encoding="utf-8")
    script = re.findall(r"^      run: \|\n((?:        .*\n|\n)+)", action, re.MULTILINE)[-1]
    program = tmp_path / "transfer-parity"
    program.write_text('#!/bin/sh\nfor each in "$@"; do echo "$each"; done\nexit 1\n')
    program.chmod(0o755)
    lines = "\n".join(line[8:] for line in script.splitlines())
    given = {"PAIR": "a b/pair.toml", "OPTIONS": "--until  loss", "OUTPUT_DIR": "out; ls", "JUNIT_XML": ""}
    ran = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", lines],
        env={**os.environ, **given, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout.splitlines() == [
        *("parity", "a b/pair.toml", "--github", "--until", "loss"),
        *("--output-dir", "out; ls"),
    ]
    # The step fails with the climb.
    assert ran.returncode == 1

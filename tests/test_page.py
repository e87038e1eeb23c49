"""The report's page: what it shows to whom, what it chooses, and how it looks; most of it without a browser."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from tests.conftest import CLASSES, ROOT
from tests.fakes import FakeWorkers
from tests.test_study import HOSTILE, finished, sweep_in
from transfer_parity.shared.commands import study
from transfer_parity.shared.contract import study_recipe
from transfer_parity.shared.contract.jobs import TrainJob
from transfer_parity.shared.contract.methods import VARIANTS
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.contract.wings import WINGS
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.experiments.study_document import Estimate, StudyDocument
from transfer_parity.shared.experiments.sweep import prepared
from transfer_parity.shared.report import gallery, looks, page, plots
from transfer_parity.shared.runtime import resolve_dataset

SAMPLE = ROOT / "docs" / "sample-report.html"
SCHEMES = {"light": plots.LIGHT, "dark": plots.DARK}


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Contrast ratio, 1 to 21, likewise: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_the_guideline() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


# How everything that is plotted looks.


def every_look() -> Iterator[looks.Look]:
    yield from (*looks.STRATEGIES.values(), *looks.FRAMEWORKS, looks.AGREES, looks.AGREES_NOT)
    yield from (looks.of(f"mine-{number}") for number in range(1000))


@pytest.mark.parametrize("background", looks.BACKGROUNDS)
def test_every_colour_stands_out(background: str) -> None:
    for colour in {*(look.colour for look in every_look()), *looks.OTHER_COLOURS, looks.BAND}:
        assert contrast(colour, background) >= 3, colour


def test_every_strategy_has_a_look_of_its_own() -> None:
    """Another strategy that every study knows needs an entry."""
    assert set(looks.STRATEGIES) >= {*study_recipe.DEFAULTS, *VARIANTS}
    for part in ("colour", "marker", "line"):
        assert len({getattr(look, part) for look in looks.STRATEGIES.values()}) == len(looks.STRATEGIES), part
    known, others = looks.STRATEGIES.values(), [looks.of(f"mine-{number}") for number in range(1000)]
    assert not {look.colour for look in known} & {look.colour for look in others}
    assert not {look.marker for look in known} & {look.marker for look in others}
    assert len(set(others)) == len(looks.OTHER_COLOURS) * len(looks.OTHER_MARKERS) * len(looks.LINES)
    assert len({(look.colour, look.marker) for look in looks.FRAMEWORKS}) == len(looks.FRAMEWORKS) >= len(WINGS)
    assert looks.AGREES.marker != looks.AGREES_NOT.marker


def test_a_look_does_not_depend_on_the_company() -> None:
    names = [*study_recipe.DEFAULTS, "mine", "mine-2", "another"]
    whole = looks.of_all(names)
    for name in names:
        assert looks.of_all([name])[name] == looks.of_all([*reversed(names)])[name] == whole[name] == looks.of(name)


def test_no_two_look_alike() -> None:
    """Even where two names would by chance; then the colour stays."""
    alike: dict[looks.Look, list[str]] = {}
    for number in range(1000):
        alike.setdefault(looks.of(f"mine-{number}"), []).append(f"mine-{number}")
    names = max(alike.values(), key=len)[: len(looks.OTHER_MARKERS)]
    found = looks.of_all(names)
    assert len(names) > 2
    assert len(set(found.values())) == len(names)
    assert {look.colour for look in found.values()} == {looks.of(names[0]).colour}


# What the plots show.


@pytest.fixture
def document(tmp_path: Path, photos: Path, workers: FakeWorkers) -> StudyDocument:
    return finished(sweep_in(tmp_path, photos))


def with_shots(document: StudyDocument, shots: list[Any]) -> StudyDocument:
    """The same with other numbers of shots."""
    recipes = {name: recipe.model_copy(update={"shots": shots}) for name, recipe in document.recipes.items()}
    points = [point for point in document.points if point.shots in shots]
    return document.model_copy(update={"recipes": recipes, "points": points})


def without(document: StudyDocument, *strategies: str) -> StudyDocument:
    recipes = {name: recipe for name, recipe in document.recipes.items() if name not in strategies}
    points = [point for point in document.points if point.strategy not in strategies]
    return document.model_copy(update={"recipes": recipes, "points": points})


@pytest.mark.parametrize("left_out", [(), ("ridge",), ("scratch",), ("scratch", "ridge")], ids=str)
def test_points_stand_at_their_ticks(document: StudyDocument, left_out: tuple[str, ...]) -> None:
    for ax in plots.learning_curves(without(document, *left_out)).axes:
        drawn = [container[0] for container in ax.containers]
        assert len(drawn) == 3 - len(left_out)
        for line in drawn:
            assert list(line.get_xdata()) == list(ax.get_xticks())


@pytest.mark.parametrize("shots", [[1, 2], [1], [2]], ids=str)
def test_points_stand_in_the_middle(document: StudyDocument, shots: list[int]) -> None:
    for ax in plots.learning_curves(with_shots(document, shots)).axes:
        left, right = ax.get_xlim()
        assert (left + right) / 2 == pytest.approx((len(shots) - 1) / 2)
        assert right - left > 0.5


def test_curves_keep_their_colours(document: StudyDocument) -> None:
    for less in (document, without(document, "scratch"), without(document, "linear_probe")):
        (first, *_) = plots.learning_curves(less).axes
        handles, labels = first.get_legend_handles_labels()
        for handle, label in zip(handles, labels, strict=True):
            line = cast(Any, handle)[0]
            assert line.get_color() == looks.STRATEGIES[label].colour
            assert line.get_marker() == looks.STRATEGIES[label].marker


def test_panels_have_one_scale(document: StudyDocument) -> None:
    """Also where each is a figure of its own."""
    low = Estimate(mean=0.02, interval=None)
    points = [
        each.model_copy(update={"accuracy": low} if each.framework == WINGS[0].identifier else {})
        for each in document.points
    ]
    document = document.model_copy(update={"points": points})
    alone = [plots.panel(document, "matched", wing.identifier).axes[0] for wing in WINGS]
    assert len({ax.get_ylim() for ax in (*plots.learning_curves(document).axes, *alone)}) == 1


@pytest.mark.parametrize(("scheme", "background"), [("light", "#ffffff"), ("dark", "#161616")])
def test_everything_in_a_plot_stands_out(document: StudyDocument, scheme: str, background: str) -> None:
    """Whatever colour a figure has come to hold, but for helping lines and the band's transparent inside."""
    for draw in (plots.learning_curves, plots.differences):
        text = plots.svg(lambda draw=draw: draw(document), SCHEMES[scheme])  # type: ignore[misc]
        styles = [style for style in re.findall(r'style="([^"]*)"', text) if "opacity: 0.18" not in style]
        colours = {colour for style in styles for colour in re.findall(r"(?:stroke|fill): (#[0-9a-f]{6})", style)}
        assert len(colours) > 2
        for colour in colours - {SCHEMES[scheme]["grid"]}:
            assert contrast(colour, background) >= 3, colour


def test_panels_fit_a_telephone(document: StudyDocument) -> None:
    """Each is one figure, at most as wide as 390 pixels hold without letters smaller than 9 pixels."""
    for each in (*plots.of_page(document).curves, plots.of_page(document).differences):
        assert each is not None
        match = re.search(r'<svg[^>]* width="([\d.]+)pt"', each.light)
        assert match is not None
        # Letters are 10 points high.
        assert 10 * (390 - 32) / float(match[1]) >= 9
    assert len(plots.of_page(document).curves) == len(WINGS)


def test_plots_in_words(document: StudyDocument) -> None:
    shown = plots.of_page(document)
    for each, wing in zip(shown.curves, WINGS, strict=True):
        assert each.alt.startswith(f"Test accuracy in per cent of {wing.title}, 1 shot to 2 shots: scratch ")
        for point in document.points:
            if point.framework == wing.identifier:
                assert f"{100 * point.accuracy.mean:.1f}" in each.alt
        assert re.search(r"Highest with 2 shots: (linear_probe|ridge)\.$", each.alt)
    assert shown.differences is not None
    assert "for 6 combinations of strategy and shots" in shown.differences.alt
    assert document.verdict_sentence in shown.differences.alt
    single = plots.describe_curve(with_shots(document, [2]), "matched", "torch")
    assert "PyTorch, 2 shots: scratch" in single and "shots to" not in single


def test_one_framework_has_no_differences(document: StudyDocument) -> None:
    recipes = {name: each.model_copy(update={"frameworks": ("torch",)}) for name, each in document.recipes.items()}
    alone = document.model_copy(update={"recipes": recipes, "judgements": []})
    shown = plots.of_page(alone)
    assert shown.differences is None and len(shown.curves) == 1


# Which pictures are chosen.


def test_in_turn() -> None:
    assert gallery.in_turn(["b1", "b2", "b3", "a1", "c1", "c2"], lambda name: name[0]) == [
        *("b1", "a1", "c1"),
        *("b2", "c2", "b3"),
    ]
    assert gallery.in_turn([], len) == []


def test_answers() -> None:
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.45, 0.45], [1, 1, 1]]))
    logits[2, 1] = np.nan
    found = gallery.answers(logits)
    assert found.predicted.tolist() == [0, 1, -1]
    np.testing.assert_allclose(found.probabilities, [0.7, 0.45, np.nan])
    np.testing.assert_allclose(found.margins, [0.5, 0, 0], atol=1e-12)


def sure(labels: Array, predicted: Array, confidences: Array) -> Array:
    """Logits (N, 3) whose softmax gives the predicted classes those probabilities, and the others what is left."""
    rest = (1 - confidences) / 2
    probabilities = np.repeat(rest[:, None], 3, axis=1)
    probabilities[np.arange(len(labels)), predicted] = confidences
    return np.asarray(np.log(probabilities))


def confidence_of(run: str, place: int) -> float:
    """What the workers below are sure of: more with every image, and with every run."""
    return 0.4 + 0.02 * place + 0.01 * (run.endswith("1"))


@pytest.fixture
def told(workers: FakeWorkers) -> FakeWorkers:
    """Of linear_probe, all are wrong, and frameworks disagree on every second image; of the others, all are right."""

    def logits(job: TrainJob, framework: str, run: str, labels: Array) -> Array:
        places = np.arange(len(labels))
        confidences = np.array([confidence_of(run, int(place)) for place in places])
        if job.recipe.strategy != "linear_probe" or job.recipe.solver == "ridge":
            return sure(labels, labels, confidences)
        other = np.where((places % 2 == 0) & (framework == "torch"), 2, 1)
        return sure(labels, (labels + other) % 3, confidences)

    workers.logits = logits
    return workers


@pytest.mark.usefixtures("told")
def test_the_surest_pictures_of_all_classes(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "MOST", 4)
    sweep = sweep_in(tmp_path, photos)
    found = finished(sweep)
    galleries = gallery.of_page(sweep, found)
    disagree, agree = list(galleries.values())[:2]
    assert list(galleries)[:2] == ["On which the frameworks disagree", "Mistakes on which the frameworks agree"]
    for pictures, names in ((disagree, 2), (agree, 1)):
        assert pictures
        assert len({each.picture for each in pictures}) == len(pictures)
        for each in pictures:
            assert each.origin.strategy == "linear_probe"
            assert list(each.predictions) == [wing.short for wing in WINGS]
            predicted = [prediction.name for prediction in each.predictions.values()]
            assert len(set(predicted)) == names and each.true not in predicted
            assert set(each.classes) == {CLASSES.index(name) for name in (each.true, *predicted)}
        # Every class that has one comes before any class comes twice, and each begins with its surest.
        counts = Counter(each.true for each in pictures)
        assert max(counts.values()) - min(counts.values()) <= 1 or len(pictures) < 4
        surest: dict[str, dict[int, float]] = {}
        for seed in sweep.recipes["linear_probe"].seed_list:
            for shots in (1, 2):
                test = sweep.inputs.strategies["linear_probe"].plans[shots, seed].test
                for place, image in enumerate(test):
                    if (place % 2 == 0) == (names == 2):
                        name = CLASSES[sweep.data.labels[image]]
                        at = surest.setdefault(name, {})
                        run = f"{shots}-{seed}"
                        at[int(image)] = max(at.get(int(image), 0.0), confidence_of(run, place))
        assert set(surest) == set(counts)
        firsts = {name: next(each for each in pictures if each.true == name) for name in counts}
        for name, first in firsts.items():
            for prediction in first.predictions.values():
                assert prediction.probability == pytest.approx(max(surest[name].values())), name


def test_strategies_come_in_turn(tmp_path: Path, photos: Path, workers: FakeWorkers) -> None:
    """A strategy that is surer of everything does not keep the others out, nor one class that it is wrong about."""

    def logits(job: TrainJob, framework: str, run: str, labels: Array) -> Array:
        confidence = 0.95 if job.recipe.solver == "ridge" else 0.6
        odd = np.arange(len(labels)) % 2 == 1
        wrong = odd & (labels == 0) if job.recipe.solver == "ridge" else ~odd
        return sure(labels, np.where(wrong, (labels + 1) % 3, labels), np.full(len(labels), confidence))

    workers.logits = logits
    sweep = sweep_in(tmp_path, photos, chosen=["linear_probe", "ridge"])
    pictures = gallery.mistakes(sweep, finished(sweep))
    assert {each.true for each in pictures[: len(CLASSES)]} == set(CLASSES)
    by_class: dict[str, list[str]] = {}
    for each in pictures:
        by_class.setdefault(each.true, []).append(each.origin.strategy)
    for strategies in by_class.values():
        both = min(Counter(strategies).get(name, 0) for name in ("linear_probe", "ridge"))
        assert strategies[: 2 * both] == ["ridge", "linear_probe"] * both
    assert any(len(set(strategies)) == 2 for strategies in by_class.values())


def test_mistakes_of_one_framework(tmp_path: Path, photos: Path, told: FakeWorkers) -> None:
    recipes = study_recipe.read(
        None,
        {"weights": "random", "image_size": 32, "epochs": 2, "seeds": 1, "shots": [1], "data": str(photos)}
        | {"frameworks": ("torch",)},
        ["linear_probe"],
    )
    sweep = prepared(recipes, Cache(tmp_path / "cache"), tmp_path / "out", lambda *_: None)
    galleries = gallery.of_page(sweep, finished(sweep))
    assert list(galleries)[:2] == ["On which the frameworks disagree", "Mistakes"]
    assert not galleries["On which the frameworks disagree"] and galleries["Mistakes"]
    assert all(list(each.predictions) == ["PyTorch"] for each in galleries["Mistakes"])
    assert told.runs


@pytest.mark.parametrize(
    ("probability", "words"), [(0.834, "83 %"), (0.9951, "over 99 %"), (1.0, "over 99 %"), (None, "no probability")]
)
def test_probabilities_in_words(probability: float | None, words: str) -> None:
    assert page.Prediction("tulips", probability).in_per_cent.replace("\N{NO-BREAK SPACE}", " ") == words


@pytest.mark.parametrize(
    ("place", "words"),
    [
        *(((0, 0), "at the top left"), ((6, 6), "at the bottom right"), ((3, 3), "in the middle")),
        *(((3, 0), "on the left"), ((0, 3), "at the top"), (None, "nowhere")),
    ],
)
def test_where_a_map_is_brightest(place: tuple[int, int] | None, words: str) -> None:
    class_map = np.zeros((7, 7))
    if place:
        class_map[place] = 1
    assert gallery.brightest(class_map) == words


# What the page is made of.


@dataclass
class Element:
    """A tag, its attributes, and those that it stands in."""

    tag: str
    attributes: dict[str, str]
    inside: list[Element]
    text: str = ""


@dataclass
class Read(HTMLParser):
    """All elements of a page in order."""

    elements: list[Element] = field(default_factory=list)
    open: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs}, list(self.open))
        self.elements.append(element)
        if tag not in ("meta", "link", "img", "source", "br"):
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    def of(self, tag: str) -> list[Element]:
        return [element for element in self.elements if element.tag == tag]


def read(text: str) -> Read:
    found = Read()
    found.feed(text)
    assert not found.open
    return found


@pytest.fixture
def written(tmp_path: Path, photos: Path, told: FakeWorkers, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A report with a hostile class name."""
    data = resolve_dataset.load(str(photos), Cache(tmp_path / "cache"))
    hostile = replace(data, classes=(HOSTILE, *CLASSES[1:]))
    monkeypatch.setattr(resolve_dataset, "load", lambda *arguments: hostile)
    sweep = sweep_in(tmp_path, photos)
    study.write(sweep, finished(sweep))
    assert told.runs
    return tmp_path / "out" / "report.html"


def policy(found: Read) -> str:
    (meta,) = [each for each in found.of("meta") if each.attributes.get("http-equiv") == "Content-Security-Policy"]
    return meta.attributes["content"]


def check_page(text: str) -> Read:
    """What holds of every report."""
    found = read(text)
    (script,) = found.of("script")
    assert not script.attributes
    # Its own script is the only one that a browser would run.
    assert f"script-src '{page.script_digest(script.text)}'" in policy(found)
    assert "default-src 'none'" in policy(found)
    for element in found.elements:
        for name, value in element.attributes.items():
            assert not name.startswith("on")
            assert name not in ("src", "srcset", "href", "action") or value.startswith(("data:", "#"))
    assert "url(" not in text and "@import" not in text
    for image in found.of("img"):
        assert len(image.attributes["alt"]) > 20
        assert not re.search(r"\.(png|jpe?g|svg)\b", image.attributes["alt"])
    # Tab stops, landmarks and the filter come with the script, which knows what scrolls.
    assert not [each for each in found.elements if "tabindex" in each.attributes or each.attributes.get("role")]
    (form,) = found.of("form")
    assert "hidden" in form.attributes
    labels = {each.attributes["for"] for each in found.of("label")}
    assert labels == {each.attributes["id"] for each in found.of("select")} and len(labels) == 3
    scrolling = [each for each in found.elements if "scroll" in each.attributes.get("class", "").split()]
    assert scrolling and all(each.attributes["data-label"] for each in scrolling)
    assert len({each.attributes["data-label"] for each in scrolling}) == len(scrolling)
    for table in (*found.of("table"), *found.of("pre")):
        assert any(each in scrolling for each in (table, *table.inside))
    return found


def test_the_page(written: Path) -> None:
    found = check_page(written.read_text(encoding="utf-8"))
    alts = [each.attributes["alt"] for each in found.of("img")]
    assert sum(alt.startswith("Test accuracy in per cent of ") for alt in alts) == len(WINGS)
    assert sum(alt.startswith("Accuracy of TensorFlow minus that of PyTorch") for alt in alts) == 1
    assert any(alt.startswith("Test image of class") and HOSTILE in alt for alt in alts)
    assert any(" taken for " in alt and " by TensorFlow and " in alt for alt in alts)
    assert any(re.fullmatch(r"What speaks for square in torchvision on PyTorch: brightest .+", alt) for alt in alts)
    text = found.elements[0].text
    assert "Mistakes on which the frameworks agree" in text
    captions = [each.text for each in found.of("dd")]
    assert any(re.fullmatch(r"\w+, \d\d\s%", caption) for caption in captions)


def test_what_the_filter_can_choose(written: Path) -> None:
    """Every choice is there, and everything that says what it is of says it in the filter's words."""
    found = read(written.read_text(encoding="utf-8"))
    document = StudyDocument.model_validate_json((written.parent / "study.json").read_text(encoding="utf-8"))
    choices: dict[str, list[str]] = {}
    for option in found.of("option"):
        name = option.inside[-1].attributes["name"]
        choices.setdefault(name, []).append(option.attributes.get("value", option.text))
    shots = [str(each) for each in document.common.shots]
    assert choices == {
        "class": ["", *map(str, range(len(CLASSES)))],
        "strategy": ["", *document.recipes],
        "shots": ["", *shots],
    }
    used: dict[str, Counter[str]] = {key: Counter() for key in choices}
    for element in found.elements:
        for key, counter in used.items():
            counter.update(element.attributes.get(f"data-{key}", "").split())
    for key, counter in used.items():
        assert set(counter) == set(choices[key]) - {""}
    rows = [each for each in found.of("th") if each.attributes.get("scope") == "row" and each.text in document.recipes]
    assert len(rows) > 12
    assert all(each.inside[-1].attributes["data-strategy"] == each.text for each in rows)
    pictures = [each for each in found.of("li") if "data-class" in each.attributes]
    assert len(pictures) > 6
    assert all({"data-strategy", "data-shots"} <= set(each.attributes) for each in pictures)
    # Behind each list there is a word for an empty one.
    lists = [number for number, each in enumerate(found.elements) if "data-list" in each.attributes]
    assert lists
    for number in lists:
        following = next(each for each in found.elements[number + 1 :] if found.elements[number] not in each.inside)
        assert following.tag == "p" and "hidden" in following.attributes


def test_the_sample_report() -> None:
    """A real one that anybody can open: of today's form, small, and without a word about where it was made."""
    text = SAMPLE.read_text(encoding="utf-8")
    assert SAMPLE.stat().st_size < 1e6
    found = check_page(text)
    titles = [each.text for each in found.of("h3")]
    assert "Mistakes on which the frameworks agree" in titles
    seen = text
    for uri in re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", text):
        seen += base64.b64decode(uri).decode()
    seen = re.sub(r"data:image/jpeg;base64,[A-Za-z0-9+/=]+", "", seen)
    for path in ("/root", "/home", "/tmp", "/work", "/Users", "file:", "C:\\"):
        assert path not in seen, path
    assert "sample-report.html" in (ROOT / "docs" / "study.md").read_text(encoding="utf-8")


# In a browser.


SCROLLS = "each => each.scrollWidth > each.clientWidth + 1"
SHOWN = "list => [...list.children].filter(each => !each.hidden).length"


@pytest.mark.parametrize("width", [390, 1280])
def test_the_filter_and_the_tab_stops(browser: Any, written: Path, width: int) -> None:
    view = browser.new_page(viewport={"width": width, "height": 800})
    # Other tests may keep the machine busy.
    view.set_default_timeout(120_000)
    view.goto(written.as_uri())
    assert view.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    for image in view.query_selector_all("img.plot"):
        box = image.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
    for region in view.query_selector_all(".scroll"):
        assert (region.get_attribute("tabindex") == "0") == region.evaluate(SCROLLS)
    everything = [each.evaluate(SHOWN) for each in view.query_selector_all("ul[data-list]")]
    assert min(everything) > 0
    view.keyboard.press("Tab")
    view.select_option("#filter-strategy", "ridge")
    view.select_option("#filter-shots", "1")
    assert not view.is_visible("tr[data-strategy=scratch]")
    assert not view.is_visible("main td[data-shots='2']")
    assert "strategy ridge, shots 1" in view.inner_text("#filter output")
    # Nobody has made a mistake with ridge.
    assert view.query_selector_all("#pictures ul[data-list]")[0].evaluate(SHOWN) == 0
    assert view.is_visible("#pictures p[hidden], #pictures ul + p")
    view.click("text=Show everything")
    view.wait_for_function("document.querySelector('#filter output').textContent === ''")
    assert [each.evaluate(SHOWN) for each in view.query_selector_all("ul[data-list]")] == everything
    view.close()


def test_without_scripts(browser: Any, written: Path) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 800})
    view = context.new_page()
    view.goto(written.as_uri())
    assert not view.is_visible("#filter")
    assert view.is_visible("#pictures") and HOSTILE in view.inner_text("body")
    context.close()

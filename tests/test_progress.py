"""How far a command is, and how long it will still take."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from transfer_parity.shared.contract import artifacts
from transfer_parity.shared.contract.jobs import RunSpec
from transfer_parity.shared.contract.plan import draw_all
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.core.progress import Forecast, Meter, Part, forecast_of, labelled
from transfer_parity.shared.parity.ladder import COSTS
from transfer_parity.shared.report import progress as display
from transfer_parity.shared.report.console import Console
from transfer_parity.shared.runtime import expected


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


#: Of a kind, by framework: seconds that a part really takes by what was guessed.
Truth = Callable[[Part], float]


def play(lanes: Mapping[str, Sequence[Part]], truth: Truth) -> list[tuple[float, float]]:
    """Carry out lanes one after the other as workers tell it; returns (when, what the forecast said) every moment."""
    clock = Clock()
    forecast = Forecast(clock)
    forecast.plan(lanes)
    said = []
    step = sum(part.guess for parts in lanes.values() for part in parts) / 400

    def look(until: float) -> None:
        while clock.now < until:
            clock.now = min(clock.now + step, until)
            said.append((clock.now, forecast.remaining() or 0.0))

    for lane, parts in lanes.items():
        follow = expected.following(forecast, lane)
        follow("started", {"pid": 1})
        for part in parts:
            began, seconds = clock.now, part.guess * truth(part)
            if part.silent or seconds == 0:
                look(began + seconds)
                continue
            for done in range(1, 11) if part.kind != expected.START else [10]:
                look(began + seconds * done / 10)
                if part.kind == expected.START:
                    follow("ready", {})
                else:
                    follow("progress", {"kind": part.kind, "phase": "", "done": done, "total": 10})
        forecast.end(lane)
    return said


def comparison(**values: object) -> dict[str, list[Part]]:
    """The lanes of a comparison on 210 images of 10 classes."""
    recipe = Recipe.model_validate(values)
    labels = np.repeat(np.arange(10), 21)
    plans = draw_all(recipe, labels, None, [str(number) for number in range(10)])
    runs = [
        RunSpec(id=f"{kind}{seed}", pretrained=kind, shots=shots, seed=seed, plan=artifacts.plan_file(shots, seed))
        for kind in (True, False)
        for shots, seed in plans
    ]
    return {each: expected.parts(recipe, runs, plans, each, threads=2) for each in recipe.frameworks}


def test_views_of_unlabelled_images_go_through_what_is_frozen() -> None:
    """Once each, and are part of every step."""
    common = {"shots": (5, "all"), "seeds": 1, "epochs": 2, "control": False, "weights": "random", "views": 3}
    plain, more = (comparison(strategy=name, **common)["torch"] for name in ("linear_probe", "fixmatch"))
    group = ["features", *2 * ["features", "features", "training", "inference"]]
    assert [part.kind for part in more][2:] == 2 * group
    assert len(plain) == len(more) - 8
    first, weak, strong, trained, _ = more[2:7]
    # 210 images without 50 labelled and 40 test images; all 210 go through for the image features.
    assert weak == strong and weak.guess == pytest.approx(first.guess * 3 * 120 / 210)
    assert trained.guess >= plain[3].guess


def worst(said: list[tuple[float, float]]) -> float:
    """The largest factor between what was said and what was true, from the first tenth to the last."""
    total = said[-1][0]
    return max(
        max(left / (total - now), (total - now) / max(left, 1e-9)) for now, left in said if 0.1 <= now / total <= 0.9
    )


@pytest.mark.parametrize(
    ("values", "truth"),
    [
        # As guessed.
        ({}, lambda part: 1.0),
        # As measured for the README: one framework takes twice as long for images, and longer to set up.
        ({}, lambda part: 1.35 if part.whose == "tensorflow" else 0.67),
        # A machine that is three times as slow.
        ({}, lambda part: 3.0),
        ({"strategy": "finetune"}, lambda part: 3.0),
        ({"strategy": "finetune"}, lambda part: 1.0 if part.whose == "torch" else 1.6),
        ({"backbone": "ResNet50"}, lambda part: 2.0),
    ],
)
def test_the_whole_is_foreseen_within_a_factor_of_two(values: dict[str, object], truth: Truth) -> None:
    assert worst(play(comparison(**values), truth)) <= 2.0


def test_what_is_kept_takes_no_time() -> None:
    """Where the first backbone's outputs are there already, those of the others are expected to be there as well."""
    said = play(comparison(), lambda part: 0.0 if part.kind == "features" else 1.0)
    total = said[-1][0]
    assert all(left <= 3 * (total - now) + 1 for now, left in said if now > 0.45 * total)


def test_processes_beside_each_other() -> None:
    clock = Clock()
    forecast = Forecast(clock)
    forecast.plan({str(number): [Part("work", 10.0)] for number in range(4)}, at_once=2)
    assert forecast.remaining() == pytest.approx(20)
    for number in "01":
        forecast.begin(number)
    clock.now = 10
    for number in "01":
        forecast.advance(number, "work", 0.5)
    # Half of two took ten seconds: another ten, and then twenty for the others.
    assert forecast.remaining() == pytest.approx(30, rel=0.1)
    for number in "0123":
        forecast.end(number)
    assert forecast.remaining() == 0


def test_time_without_news_counts() -> None:
    clock = Clock()
    forecast = Forecast(clock)
    forecast.plan({"lane": [Part("work", 100.0)]})
    forecast.begin("lane")
    clock.now = 40
    assert forecast.remaining() == pytest.approx(60)
    clock.now = 200
    # What is late is not done, and nobody knows when it will be.
    assert 5 < (forecast.remaining() or 0) < 100


def test_rungs_are_parts_of_the_whole() -> None:
    """Of the ladder something is heard when a rung begins; it is never at nothing until the end."""
    clock = Clock()
    forecast = Forecast(clock)
    forecast.plan({"torch": [Part("start", 2.0), *(Part(rung, 10 * cost) for rung, cost in COSTS.items())]})
    forecast.begin("torch")
    clock.now = 2
    forecast.advance("torch", "start", 1)
    said = [forecast.remaining()]
    for rung, cost in COSTS.items():
        forecast.advance("torch", rung, 0)
        clock.now += 10 * cost
        said.append(forecast.remaining())
    numbers = [float(each or 0) for each in said]
    assert numbers == sorted(numbers, reverse=True)
    assert numbers[0] == pytest.approx(10, rel=0.01)
    assert numbers[-1] == pytest.approx(0, abs=0.01)


def test_a_label_keeps_the_forecast() -> None:
    heard: list[str] = []
    meter = Meter(lambda what, done, total: heard.append(what), Forecast())
    tell = labelled(meter, "ResNet50")
    tell("training", 1, 2)
    assert heard == ["ResNet50, training"]
    assert forecast_of(tell) is meter.forecast
    # Where nobody looks at it, it does no harm.
    labelled(lambda what, done, total: heard.append(what), "a")("b", 0, 0)
    assert heard[-1] == "a, b"


# ----- what is shown -----


def lines(clock: Clock) -> tuple[display._Lines, io.StringIO]:
    file = io.StringIO()
    return display._Lines(Console(file=file, width=80), clock), file


def test_without_a_terminal_there_is_a_line_every_half_minute() -> None:
    clock = Clock()
    shown, file = lines(clock)
    shown.forecast.plan({"lane": [Part("work", 400.0)]})
    shown.forecast.begin("lane")
    shown("cells of the grid", 0, 80)
    for second in range(1, 101):
        clock.now = second
        shown("cells of the grid", second // 10, 80)
        shown.tick()
    printed = file.getvalue().splitlines()
    assert printed[0] == "cells of the grid"
    assert len(printed) == 4
    assert printed[1] == "cells of the grid, 8%, about 6 min left"


def test_names_are_text() -> None:
    clock = Clock()
    shown, file = lines(clock)
    shown("[red]a\x1b[2J[/nothing]", 0, 0)
    assert "[red]a" in file.getvalue()
    assert "\x1b" not in file.getvalue()


def test_nothing_of_the_bar_is_left() -> None:
    """Results that are printed meanwhile stand on lines of their own, and go to standard output."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80)
    with display.progress(console) as tell:
        tell("first", 1, 2)
        with tell.aside():
            file.write("RESULT\n")
        tell("second", 2, 2)
    before, after = file.getvalue().split("RESULT\n")
    # The line was erased (CSI 2 K) after it was drawn last.
    assert before.rindex("\x1b[2K") > before.rindex("first" if "first" in before else "starting")
    assert after.rindex("\x1b[2K") > after.rindex("second" if "second" in after else "first")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (42, "42 s"), (89, "89 s"), (150, "2 min"), (7200, "2.0 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert display.duration(seconds) == text

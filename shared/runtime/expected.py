"""What a framework's process will do for a job, in parts, and how long each may take before anything is measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from transfer_parity.shared.contract.jobs import RunSpec, by_backbone
from transfer_parity.shared.contract.plan import Plan
from transfer_parity.shared.contract.recipe import Framework, Recipe, Shots
from transfer_parity.shared.contract.spec import frozen_stages
from transfer_parity.shared.core import machine
from transfer_parity.shared.core.progress import Forecast, Part
from transfer_parity.shared.runtime import launch
from transfer_parity.shared.runtime.events import Kind

#: From the start of a process until it is ready, and then until the first work of which something is heard.
START, SET_UP = "start", "set-up"
#: What the command does itself.
DECODING = "decoding"

#: Seconds: of a process's start, of building a network, of one step on features, and of one image through a network of
#: two million parameters at its usual size on one core of 2020. They only have to be right among each other, since
#: every kind is measured as soon as it begins.
START_SECONDS, SET_UP_SECONDS, STEP_SECONDS, IMAGE_SECONDS = 3.5, 2.0, 0.001, 0.012
#: A step of training costs so many passes forward.
PASSES_OF_A_STEP = 3
#: Seconds in which one core decodes and resizes one image.
DECODE_SECONDS = 0.008


def image_seconds(recipe: Recipe, threads: int) -> float:
    """Of one image through the whole network, roughly; the arithmetic grows with parameters and with pixels."""
    pair = recipe.pair
    grown = math.pow(pair.parameters / 2e6, 0.7) * math.pow(recipe.size / pair.image_size, 2)
    return IMAGE_SECONDS / threads * grown


def parts(
    recipe: Recipe,
    runs: Sequence[RunSpec],
    plans: Mapping[tuple[Shots, int], Plan],
    framework: Framework,
    threads: int,
    switches: frozenset[str] = frozenset(),
) -> list[Part]:
    """What a process does that trains and predicts, in order.

    Args:
        recipe: of all runs.
        runs: in order.
        plans: by number of shots and seed.
        framework: whose process.
        threads: of the process.
        switches: what it does in its own way.
    """
    frozen = frozen_stages(recipe, switches)
    image = image_seconds(recipe, threads)
    # Of the network, what runs in every step.
    trained = 1 - frozen / len(recipe.pair.stages)

    def part(kind: Kind, guess: float) -> Part:
        return Part(kind, guess, framework)

    found = start(framework)
    for group in by_backbone(runs):
        drawn = [plans[run.shots, run.seed] for run in group]
        if frozen and recipe.image_features is None:
            needed = np.unique(np.concatenate([indices for each in drawn for indices in (each.train, each.test)]))
            found.append(part("features", len(needed) * image * (1 - trained)))
        for run, each in zip(group, drawn, strict=True):
            steps = 1 if recipe.closed_form is not None else len(each.learning_rates)
            batch = min(recipe.batch_size, len(each.train))
            # Views of unlabelled images go through what is frozen once for each run, and the others in every step.
            kinds = sum(kind in recipe.method.streams for kind in ("weak", "strong"))
            views = len(each.unlabelled) * recipe.views
            found += [part("features", views * image * (1 - trained))] * (kinds if frozen else 0)
            batch += kinds * each.unlabelled_order.shape[1]
            found.append(part("training", steps * (STEP_SECONDS + PASSES_OF_A_STEP * batch * image * trained)))
            found.append(part("inference", STEP_SECONDS + len(each.test) * image * trained))
            if run.explain:
                found.append(part("explaining", len(run.explain) * image * PASSES_OF_A_STEP))
    return found


def start(framework: Framework) -> list[Part]:
    """What every process begins with."""
    return [Part(START, START_SECONDS, framework), Part(SET_UP, SET_UP_SECONDS, framework, silent=True)]


def features(recipe: Recipe, images: int, framework: Framework, threads: int) -> list[Part]:
    """What a process does that only puts images through a frozen backbone."""
    return [*start(framework), Part("features", images * image_seconds(recipe, threads), framework)]


def decoding(recipe: Recipe) -> str:
    """Name of the lane in which images are decoded in the size that a recipe wants."""
    return f"decoding {recipe.resize_to} {recipe.stored_size}"


def to_decode(recipes: Iterable[Recipe], images: int) -> dict[str, list[Part]]:
    """What decoding takes, by lane; the cores share it."""
    guess = images * DECODE_SECONDS / machine.available_cores()
    return {decoding(recipe): [Part(DECODING, guess)] for recipe in recipes}


def following(forecast: Forecast, lane: str) -> launch.Listener:
    """What tells a forecast how far a process is, from the events of the process."""

    def listen(event: str, details: dict[str, Any]) -> None:
        if event == "started":
            forecast.begin(lane)
        elif event == "ready":
            forecast.advance(lane, START, 1)
        elif event == "progress" and details.get("kind"):
            forecast.advance(lane, details["kind"], details["done"] / max(details["total"], 1))

    return listen
